//! What a training says in the end: whether it has learnt more than counting knows, and what to do where it has not.

use super::*;

/// What a training said to whoever looks only at the result, and the same as JSON: of two runs with the same settings.
fn verdict(folder: &Folder, line: &str, run: &str) -> (String, Value) {
    let said = folder.out(&format!("train {line} --quiet --out {run}"));
    (said, folder.json(&format!("train {line} --quiet --out {run}-json")))
}

/// Its lines of figures, out of those of JSON.
fn figures(json: &Value, quality: impl Fn(f64) -> String, tokens: &str, order: usize) -> String {
    let mut lines = format!("on the {} {tokens} to measure on:\n", json["tokens"]);
    let yardsticks = &json["yardsticks"];
    let phrases = format!("phrases counted (Kneser-Ney, order {order})");
    for (name, perplexity) in [
        ("nothing known but the vocabulary", &yardsticks["uniform"]),
        ("how often each comes (unigram)", &yardsticks["unigram"]),
        (&phrases, &yardsticks["kneser_ney"]),
        ("this model", &json["perplexity"]),
    ] {
        if let Some(perplexity) = perplexity.as_f64() {
            lines += &format!("  {name:<42}{}\n", quality(perplexity));
        }
    }
    lines
}

fn of_words(perplexity: f64) -> String {
    format!("perplexity {perplexity:.1}")
}

/// A text in which counting sees all that there is to be seen.
fn periodic() -> String {
    "a b c d e f g h\n".repeat(100)
}

#[test]
fn a_model_that_counting_beats_is_told_what_would_help() {
    let folder = Folder::new();
    folder.file("t.txt", periodic());
    let (said, json) = verdict(&folder, "t.txt --tokens word --embed 1 --hidden 1 --epochs 2", "r");
    assert_eq!(json["beats_counting"], false, "{json}");
    assert!(json["perplexity"].as_f64() > json["yardsticks"]["kneser_ney"].as_f64());
    let want = "Counting still wins: let it learn longer (`rnn-lm resume r --epochs 4`), make it larger (--hidden), or,\n\
        if the loss while learning is far below this, drop more (--dropout 0.5) or find more text.\n";
    assert_eq!(said, figures(&json, of_words, "words", 5) + want);
    // What it names is there to be done.
    folder.out("resume r --epochs 4 --quiet");
    folder.out("train t.txt --tokens word --embed 1 --hidden 2 --dropout 0.5 --epochs 1 --quiet --out s");
}

#[test]
fn one_that_has_learnt_more_than_counting_knows_hears_it() {
    let folder = Folder::new();
    // After eight of the same letter, counting eight of them does not know how many there were.
    folder.file("t.txt", "aaaaaaaaaaab".repeat(150));
    let line = "t.txt --tokens char --cell gru --embed 4 --hidden 16 --batch 4 --time 24 --epochs 40 --rule adam --lr 0.02";
    let (said, json) = verdict(&folder, line, "r");
    assert_eq!(json["beats_counting"], true, "{json}");
    let (model, counting) = (json["perplexity"].as_f64(), json["yardsticks"]["kneser_ney"].as_f64());
    assert!(model < counting && counting < json["yardsticks"]["unigram"].as_f64(), "{json}");
    let bits = |perplexity: f64| format!("{:.3} bits a character", perplexity.log2());
    assert_eq!(said, figures(&json, bits, "characters", 8) + "It has learnt more than counting knows.\n");
}

#[test]
fn one_that_ended_early_is_told_to_wait_and_not_to_resume() {
    let folder = Folder::new();
    folder.file("t.txt", periodic());
    // A rate that changes nothing: no evaluation after the first one is better.
    let line = "t.txt --tokens word --embed 2 --hidden 2 --rule sgd --lr 1e-30 --stop-after 2 --epochs 9";
    let (said, json) = verdict(&folder, line, "r");
    assert_eq!(json["beats_counting"], false, "{json}");
    let want = "Counting still wins: wait longer for something better (stop_after in r/config.toml, then resume), make it larger (--hidden), or,\n\
        if the loss while learning is far below this, drop more (--dropout 0.5) or find more text.\n";
    assert_eq!(said, figures(&json, of_words, "words", 5) + want);
    let output = folder.run(&format!("train {line} --out loud"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("it ends here: 2 evaluations brought nothing better (training.stop_after)"),
        "{stderr}"
    );
    // The first of three is the best one.
    let (info, json) = (folder.out("info r"), folder.json("info r"));
    let steps = json["stands"]["step"].as_u64().unwrap();
    assert!(info.contains(": 2 evaluations brought nothing better (training.stop_after)\n"), "{info}");
    for (name, step) in [("best", steps / 3), ("last", steps)] {
        let line = info.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.ends_with(&format!(", after step {step}")), "{info}");
    }
    // What it names is there to be done.
    let config = std::fs::read_to_string(folder.path("r/config.toml")).unwrap();
    folder.file("r/config.toml", config.replace("stop_after = 2", "stop_after = 4"));
    folder.out("resume r --quiet");
    assert!(folder.json("info r")["stands"]["step"].as_u64().unwrap() > steps);
}

#[test]
fn phrases_of_a_text_that_is_read_from_a_file_are_counted_as_those_of_one_in_memory() {
    let folder = Folder::new();
    folder.file("t.txt", periodic());
    let line = "t.txt --tokens word --embed 1 --hidden 1 --epochs 1";
    let (said, json) = verdict(&folder, &format!("{line} --memory 0"), "r");
    assert!(folder.path("r/cache/train.ids").exists());
    assert_eq!(json["yardsticks"].as_object().unwrap().len(), 3, "{json}");
    assert_eq!(said.replace("resume r ", "resume s "), verdict(&folder, line, "s").0);
}

#[test]
fn three_letters_and_no_flag_are_a_training() {
    let folder = Folder::new();
    folder.file("three.txt", "abc");
    let output = folder.run("train three.txt");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    // Some of what it writes, in the letters that there are.
    let sample = stderr.lines().find_map(|line| line.strip_prefix("    | ")).expect("a sample");
    assert!(sample.len() > 20 && sample.chars().all(|c| "abc".contains(c)), "{sample}");
    // None of three letters can be held out.
    let steps = folder.json("info runs/three")["stands"]["step"].clone();
    assert_eq!(
        stdout,
        format!(
            "trained {steps} steps; no comparison: there was no text to measure on (--valid names one)\n"
        ),
        "{stderr}"
    );
}
