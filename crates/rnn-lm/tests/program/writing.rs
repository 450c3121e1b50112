//! What the flags of `generate` do to a text.

use super::*;

/// A run that has learnt a little: what it writes is neither noise nor the same whatever is drawn.
fn learnt() -> Folder {
    let folder = Folder::new();
    folder.file("t.txt", text(200));
    folder.out(&format!("train t.txt {SMALL} --epochs 3 --quiet --out r"));
    folder
}

fn objects(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(of: &Value) -> Vec<u64> {
    of["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

#[test]
fn whatever_leaves_one_word_to_draw_from_writes_the_most_probable_ones() {
    let folder = learnt();
    let text = |flags: &str| folder.out(&format!("generate r -n 30 --prompt the --seed 5 {flags}"));
    let greedy = text("--temperature 0");
    for flag in ["--top-k 1", "--top-p 1e-9", "--min-p 1"] {
        assert_eq!(text(flag), greedy, "{flag}");
    }
    // Where a few more are left, or all, something else is drawn.
    for flag in ["", "--top-k 3", "--top-p 0.9", "--min-p 0.1"] {
        assert_ne!(text(flag), greedy, "{flag}");
    }
}

#[test]
fn a_repetition_penalty_makes_it_repeat_less() {
    let folder = learnt();
    let different = |penalty: f64| {
        let mut ids = ids(&folder
            .json(&format!("generate r -n 12 --prompt the --temperature 0 --repetition-penalty {penalty}")));
        assert_eq!(ids.len(), 12);
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    };
    let plain = folder.json("generate r -n 12 --prompt the --temperature 0");
    let penalised = folder.json("generate r -n 12 --prompt the --temperature 0 --repetition-penalty 1e6");
    assert_ne!(plain["text"], penalised["text"]);
    assert!(different(1.0) < different(1e6), "{plain} {penalised}");
    // Below 1 it is the other way round.
    assert!(different(1e-3) < different(1e6));
}

#[test]
fn several_samples_are_those_of_the_seeds_that_follow() {
    let folder = learnt();
    let text = |flags: &str| folder.out(&format!("generate r -n 15 --prompt the {flags}"));
    let (third, fourth) = (text("--seed 3"), text("--seed 4"));
    assert_ne!(third, fourth);
    // With an empty line between.
    assert_eq!(text("--seed 3 --samples 2"), format!("{third}\n{fourth}"));
    let both = text("--seed 3 --samples 2 --json");
    assert_eq!(both, text("--seed 3 --json") + &text("--seed 4 --json"));
    let seeds: Vec<_> = objects(&both).iter().map(|object| object["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [3, 4]);
}

#[test]
fn it_ends_in_front_of_the_first_text_that_it_stops_at() {
    let folder = learnt();
    let whole = folder.json("generate r -n 40 --prompt the --seed 3");
    let text = whole["text"].as_str().unwrap();
    assert_eq!(whole["stopped"], false);
    let stopped = |stops: &[&str], json: bool| {
        let mut command = folder.command("generate r -n 40 --prompt the --seed 3");
        command.args(stops.iter().flat_map(|stop| ["--stop", stop])).args(json.then_some("--json"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // From the middle of one word to that of another, wherever the ends of tokens are.
    let (late, early) = (&text[text.len() / 2..][..7], &text[text.len() / 4..][..7]);
    assert!(late.contains([' ', '\n']) && early.contains([' ', '\n']), "{late:?} {early:?}");
    for (stops, first) in [(&[late][..], late), (&[late, early], early), (&["no such", late], late)] {
        let before = text.split_once(first).unwrap().0;
        assert!(!before.is_empty());
        let object = &objects(&stopped(stops, true))[0];
        assert_eq!((object["stopped"].as_bool(), object["text"].as_str()), (Some(true), Some(before)));
        let written = ids(object);
        assert!(written.len() < 40 && written == ids(&whole)[..written.len()], "{object}");
        assert_eq!(stopped(stops, false), format!("the{before}\n"));
    }
    // What does not come stops nothing, and what looked like its beginning is shown.
    let object = &objects(&stopped(&[&format!("{}!", &text[text.len() - 3..])], true))[0];
    assert_eq!((object["stopped"].as_bool(), object["text"].as_str()), (Some(false), Some(text)));
}

#[test]
fn beams_are_in_the_order_of_log_probability_over_a_power_of_the_length() {
    let folder = learnt();
    let line = |penalty: i32| format!("generate r --prompt the --beam 4 -n 6 --length-penalty {penalty}");
    let mut best = Vec::new();
    for penalty in [0, 2] {
        let found = objects(&folder.out(&format!("{} --json", line(penalty))));
        assert_eq!(found.len(), 4);
        let number = |of: &Value, name: &str| of[name].as_f64().unwrap();
        assert!(found.is_sorted_by(|a, b| number(a, "score") >= number(b, "score")), "{found:?}");
        // `score` says of each text what it is worth: behind the prompt, which is one word.
        let lines: String =
            found.iter().map(|of| format!("the{}\n", of["text"].as_str().unwrap().trim_end())).collect();
        folder.file("lines.txt", lines);
        let mut shown = String::new();
        for (of, scored) in found.iter().zip(objects(&folder.out("score r lines.txt"))) {
            let (length, log_prob) = (ids(of).len(), number(of, "log_prob"));
            let want = log_prob / (length as f64).powi(penalty);
            assert!((number(of, "score") / want - 1.0).abs() < 1e-12, "{of}");
            let tokens = &scored["tokens"].as_array().unwrap()[1..=length];
            let sum: f64 = tokens.iter().map(|token| number(token, "log_prob")).sum();
            assert!((sum / log_prob - 1.0).abs() < 1e-5, "{of} {scored}");
            let text = of["text"].as_str().unwrap().replace('\n', "\\n");
            shown += &format!("{:>9.3}  the{text}\n", number(of, "score"));
        }
        assert_eq!(folder.out(&line(penalty)), shown);
        best.push(ids(&found[0]).len());
    }
    assert!(best[0] < best[1], "what is long has a chance only with a penalty: {best:?}");
}

#[test]
fn what_is_written_begins_where_the_prompt_ends() {
    let folder = learnt();
    let out = |prompt: &str, flags: &str| {
        let line = format!("generate r -n 6 --temperature 0 {flags} --prompt");
        let output = folder.command(&line).arg(prompt).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // Behind blanks a word brings its own, behind the end of a line none.
    for (prompt, begin) in [("the", "the "), ("the  ", "the "), ("the\n", "the\n"), ("the \n", "the \n")] {
        let text = out(prompt, "");
        let rest = text.strip_prefix(begin).unwrap_or_else(|| panic!("{prompt:?}: {text:?}"));
        assert!(rest.starts_with(|c: char| c.is_alphabetic()), "{prompt:?}: {text:?}");
    }
    let beams = folder.command("generate r -n 4 --beam 2 --prompt").arg("the cat \nthe ").output().unwrap();
    for line in String::from_utf8(beams.stdout).unwrap().lines() {
        assert!(line.contains("  the cat \\nthe") && !line.contains("the  "), "{line}");
    }
}

#[test]
fn the_text_of_bytes_is_what_all_of_them_decode_to() {
    let folder = Folder::new();
    folder.file("t.txt", "é世🦀\n".repeat(60));
    folder
        .out("train t.txt --tokens byte --embed 4 --hidden 4 --batch 4 --time 6 --epochs 1 --quiet --out r");
    let mut open = 0;
    for seed in 0..12 {
        let text = folder.json(&format!("generate r -n 5 --seed {seed}"));
        let bytes: Vec<u8> = ids(&text).into_iter().map(|id| id as u8).collect();
        let want = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(text["text"], want, "seed {seed}");
        let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
        open += usize::from(std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none()));
    }
    assert!(open > 0, "no text ended inside a character: this shows nothing");
}
