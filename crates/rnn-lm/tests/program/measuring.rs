//! What `evaluate` and `info` say, and what modes of evaluation come to that change nothing.

use super::*;

#[test]
fn a_mode_that_may_change_nothing_measures_what_none_does() {
    let folder = Folder::new();
    folder.file("t.txt", text(120));
    folder.out(&format!("train t.txt {SMALL} --epochs 2 --quiet --out r"));
    let perplexity =
        |flags: &str| folder.json(&format!("evaluate r t.txt {flags}"))["perplexity"].as_f64().unwrap();
    let plain = perplexity("");
    for (flags, rest) in [
        ("--mode dynamic --lr", ""),
        ("--mode dynamic --rms --lr", ""),
        ("--mode cache --lambda", ""),
        ("--mode dynamic --lr", "--decay 0.5 --time 3"),
        ("--mode cache --lambda", "--theta 2 --size 9"),
    ] {
        let same = perplexity(&format!("{flags} 0 {rest}"));
        assert!((same / plain - 1.0).abs() < 1e-6, "{flags} 0 {rest}: {same}, plain {plain}");
        let other = perplexity(&format!("{flags} 0.05 {rest}"));
        assert!((other / plain - 1.0).abs() > 1e-3, "{flags} 0.05 {rest}: {other}, plain {plain}");
    }
}

#[test]
fn gradients_are_looked_at_on_what_a_run_learnt_from() {
    let folder = Folder::new();
    // Of the first 60 words; those behind them are none of the run's.
    folder.file("t.txt", text(20) + "words that nobody has seen before\n");
    folder.file("u.txt", text(9));
    folder.out("train t.txt --preset book-rnn --first 60 --batch 2 --epochs 3 --quiet --out r");
    let measured = folder.json("evaluate r u.txt --mode dynamic --rms");
    assert!(measured["perplexity"].as_f64().unwrap() > 1.0, "{measured}");
}

#[test]
fn what_is_wrong_with_the_corpus_whose_gradients_are_looked_at_is_said_of_it() {
    let folder = Folder::new();
    let corpus = std::fs::canonicalize(folder.file("t.txt", text(60))).unwrap();
    folder.file("u.txt", text(9));
    folder.out(&format!("train t.txt {SMALL} --epochs 1 --quiet --out r"));
    for (now, want) in [
        (&b"the cat sees\na dog eats fish\n"[..], "what is learnt from: expected at least"),
        (&b"caf\xe9 au lait\n"[..], "not UTF-8: the first bad byte is at offset 3"),
    ] {
        folder.file("t.txt", now);
        let refused = folder.run("evaluate r u.txt --mode dynamic --rms --quiet");
        let said = String::from_utf8(refused.stderr).unwrap();
        let named = format!("rnn-lm: --rms looks at the corpus: {}", corpus.display());
        assert!(said.starts_with(&named) && said.contains(want), "{said}");
    }
}

#[test]
fn the_unknown_are_counted() {
    let folder = Folder::new();
    folder.file("t.txt", text(60));
    folder.file("other.txt", "the cat sees the sky\na wolf eats <unk> snow\n\nthe sea\n");
    folder.out(&format!("train t.txt {SMALL} --epochs 1 --quiet --out r"));
    let rate = |file: &str| {
        let evaluated = folder.json(&format!("evaluate r {file}"));
        (evaluated["unknown_rate"].as_f64().unwrap(), evaluated["tokens"].as_u64().unwrap())
    };
    // Twelve words and four ends of lines, of which sky, wolf, <unk> and snow are unknown.
    assert_eq!(rate("other.txt"), (4.0 / 16.0, 16));
    assert!(folder.out("evaluate r other.txt").ends_with("\nunknown          25.00 %\n"));
    assert_eq!(rate("t.txt").0, 0.0);
    // Of characters two of six; bytes and pieces of them know everything.
    folder.file("abc.txt", "abc cab\n".repeat(40));
    folder.file("abz.txt", "abz \u{e9}\n");
    for (tokens, want) in [("char", (2.0 / 6.0, 6)), ("byte", (0.0, 7))] {
        let line =
            format!("train abc.txt --tokens {tokens} --embed 4 --hidden 4 --epochs 1 --quiet --out {tokens}");
        folder.out(&line);
        let evaluated = folder.json(&format!("evaluate {tokens} abz.txt"));
        assert_eq!(
            (evaluated["unknown_rate"].as_f64().unwrap(), evaluated["tokens"].as_u64().unwrap()),
            want
        );
    }
    let line = "train abc.txt --tokens bpe --max-vocab 260 --embed 4 --hidden 4 --epochs 1 --quiet --out bpe";
    folder.out(line);
    assert_eq!(folder.json("evaluate bpe abz.txt")["unknown_rate"], 0.0);
}

#[test]
fn a_person_reads_the_same_figures_of_an_evaluation() {
    let folder = Folder::new();
    folder.file("t.txt", text(60));
    for (tokens, noun) in [("word", "word"), ("char", "character"), ("byte", "byte")] {
        folder.out(&format!(
            "train t.txt --tokens {tokens} --embed 4 --hidden 6 --batch 4 --time 6 --epochs 1 --quiet --out {tokens}"
        ));
        for flags in ["", " --batch 3 --time 5"] {
            let json = folder.json(&format!("evaluate {tokens} t.txt{flags}"));
            let number = |name: &str| json[name].as_f64().unwrap();
            let mut want = format!("perplexity       {:.2}\n", number("perplexity"));
            want += &format!("{:<17}{:.4}\n", format!("bits a {noun}"), number("bits_per_token"));
            if tokens == "byte" {
                assert_eq!(number("bits_per_byte"), number("bits_per_token"));
            } else {
                want += &format!("bits a byte      {:.4}\n", number("bits_per_byte"));
            }
            want += &format!("tokens           {} ({} predicted)\n", json["tokens"], json["predictions"]);
            want += "unknown          0.00 %\n";
            assert_eq!(folder.out(&format!("evaluate {tokens} t.txt{flags}")), want);
        }
    }
}

#[test]
fn info_says_what_a_run_is_and_how_far_it_came() {
    let folder = Folder::new();
    let corpus = std::fs::canonicalize(folder.file("t.txt", text(120))).unwrap();
    folder.out(&format!("train t.txt {SMALL} --epochs 3 --quiet --out r"));
    let json = folder.json("info r");
    let (best, last) = (&json["best"], &json["last"]);
    let metrics = std::fs::read_to_string(folder.path("r/metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((last, best), (&lines[2], lines.iter().rfind(|line| line["best"] == true).unwrap()));
    // 15 vectors of 8; 4 gates of 12 that take 8 and 12, then 12 and 12; 15 words out of 12.
    let parameters = 15 * 8 + 4 * 12 * (8 + 12 + 1) + 4 * 12 * (12 + 12 + 1) + 15 * (12 + 1);
    assert_eq!((json["parameters"].as_u64(), json["vocabulary"].as_u64()), (Some(parameters), Some(15)));
    let measured = |name: &str, line: &Value| {
        let perplexity = line["valid_loss"].as_f64().unwrap().exp();
        format!("{name:<12}perplexity {perplexity:.1} in 4 streams, after step {}\n", line["step"])
    };
    let want = format!(
        "run         r
tokens      words, 15 different ones
model       2 x lstm of 12, embedding 8; {parameters} parameters
corpus      {}
trained     {} steps, epoch 3 of 3, {:.0} s\n",
        corpus.display(),
        last["step"],
        last["seconds"].as_f64().unwrap()
    );
    assert_eq!(folder.out("info r"), want + &measured("best", best) + &measured("last", last));
    // As long as there is something left to do it says who does it.
    folder.out("resume r --epochs 4 --quiet");
    let config = std::fs::read_to_string(folder.path("r/config.toml")).unwrap();
    folder.file("r/config.toml", config.replace("epochs = 4", "epochs = 9"));
    let said = folder.out("info r");
    assert!(said.contains(" steps, epoch 4 of 9, ") && said.contains(" s; `resume` goes on\n"), "{said}");
}

#[test]
fn info_says_what_can_be_said_where_the_checkpoint_is_damaged() {
    let folder = Folder::new();
    folder.file("t.txt", text(120));
    folder.out(&format!("train t.txt {SMALL} --epochs 1 --quiet --out r"));
    let (whole, json) = (folder.out("info r"), folder.json("info r"));
    assert!(json["unreadable"].is_null() && json["stands"]["step"].as_u64() > Some(0), "{json}");
    folder.file("r/checkpoints/latest.safetensors", "no checkpoint");
    let (said, json) = (folder.out("info r"), folder.json("info r"));
    let without = |text: &str, name: &str| {
        let lines = text.lines().filter(|line| !line.starts_with(name));
        lines.map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(without(&said, "checkpoint"), without(&whole, "trained"));
    let why = said.lines().find_map(|line| line.strip_prefix("checkpoint  ")).unwrap();
    assert!(why.starts_with("r/checkpoints/latest.safetensors: expected "), "{why}");
    assert_eq!((json["unreadable"].as_str(), json["stands"].is_null()), (Some(why), true));
}

#[test]
fn info_says_what_can_be_said_where_the_weights_are_damaged() {
    let folder = Folder::new();
    folder.file("t.txt", text(120));
    folder.out(&format!("train t.txt {SMALL} --epochs 1 --quiet --out r"));
    assert!(folder.json("info r")["damaged"].is_null());
    folder.file("r/model.safetensors", "no weights");
    let (said, json) = (folder.out("info r"), folder.json("info r"));
    assert!(said.contains("; weights that cannot be read\n") && said.contains("\ntrained     "), "{said}");
    let why = said.lines().find_map(|line| line.strip_prefix("weights     ")).unwrap();
    assert!(why.starts_with("r/model.safetensors: expected "), "{why}");
    assert_eq!((json["damaged"].as_str(), json["parameters"].is_null()), (Some(why), true));
}

#[test]
fn what_is_wrong_has_one_name_whoever_finds_it() {
    let folder = Folder::new();
    folder.file("t.txt", text(60));
    folder.file("empty.txt", "");
    let said = |line: &str| String::from_utf8(folder.run(line).stderr).unwrap();
    for line in ["train t.txt", "train t.txt --minutes 1", "lr-find t.txt"] {
        let said = said(&format!("{line} --tokens word --tied=false --cutoffs 5000"));
        assert!(said.contains("rnn-lm: --cutoffs: "), "{line}: {said}");
    }
    folder.out(&format!("train t.txt {SMALL} --epochs 1 --quiet --out r"));
    for mode in ["plain", "dynamic", "cache"] {
        let said = said(&format!("evaluate r empty.txt --mode {mode}"));
        assert!(said.contains("empty.txt: the text: "), "{mode}: {said}");
    }
}
