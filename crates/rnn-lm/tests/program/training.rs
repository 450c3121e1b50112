//! Runs that are trained, stopped and gone on with.

use super::*;

#[test]
fn with_nothing_but_a_text_it_makes_a_run_that_can_be_used() {
    let folder = Folder::new();
    folder.file("small.txt", text(60));
    let output = folder.run("train small.txt --epochs 2 --hidden 16");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    // What a person reads: the result beside what counting achieves, and what to do next.
    for part in ["Kneser-Ney, order 8", "this model", "bits a character", "ounting"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(stderr.contains("rnn-lm generate runs/small --prompt"), "{stderr}");
    for name in [
        "config.toml",
        "tokenizer.json",
        "model.safetensors",
        "metrics.jsonl",
        "context.txt",
        "checkpoints/latest.safetensors",
    ] {
        assert!(folder.path("runs/small").join(name).exists(), "{name}");
    }
    assert!(folder.out("info runs/small").contains("epoch 2 of 2"));
    // A second run of the same text has a folder of its own.
    folder.out("train small.txt --epochs 1 --hidden 8 --quiet");
    assert!(folder.path("runs/small-2/model.safetensors").exists());
}

#[test]
fn quiet_is_quiet_and_the_result_is_one_object() {
    let folder = Folder::new();
    folder.file("t.txt", text(80));
    let output = folder.run(&format!("train t.txt {SMALL} --epochs 1 --out r --quiet --json"));
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["perplexity"].as_f64().is_some_and(|perplexity| perplexity > 1.0), "{report}");
    assert!(report["yardsticks"]["kneser_ney"].as_f64().is_some(), "{report}");
    // No terminal: no codes of one.
    let output = folder.run(&format!("train t.txt {SMALL} --epochs 1 --out r2"));
    assert!(!output.stderr.contains(&0x1b), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_settings_of_a_run_make_the_same_run_again() {
    let folder = Folder::new();
    folder.file("t.txt", text(120));
    folder.out(&format!("train t.txt {SMALL} --epochs 2 --varied --accumulate 2 --quiet --out a"));
    folder.out("train t.txt --config a/config.toml --quiet --out b");
    for name in ["model.safetensors", "config.toml", "tokenizer.json"] {
        assert!(bytes(&folder.path("a").join(name)) == bytes(&folder.path("b").join(name)), "{name}");
    }
    // Whoever opens the file reads what each setting is.
    let settings = String::from_utf8(bytes(&folder.path("a/config.toml"))).unwrap();
    let bare = settings.lines().filter(|line| line.contains(" = ")).find(|line| !line.contains(" # "));
    assert_eq!(bare, None, "{settings}");
    // Where the ids of the text are is no part of what is learnt.
    folder.out("train t.txt --config a/config.toml --memory 0 --quiet --out c");
    assert!(folder.path("c/cache/train.ids").exists());
    let [a, c] = ["a", "c"].map(|run| bytes(&folder.path(run).join("model.safetensors")));
    assert!(a == c);
    folder.out("resume c --epochs 3 --quiet");
    // A flag goes before the file, the file before the preset.
    let settings = folder.out("config t.txt --preset zaremba-small --config a/config.toml --hidden 33");
    for line in ["hidden = 33", "embed = 8", "rule = \"adam\""] {
        assert!(settings.contains(line), "{line}: {settings}");
    }
    // What neither says is the preset's, and what that does not say has its default.
    folder.file("partial.toml", "[model]\nhidden = 50\n");
    let settings = folder.out("config --preset zaremba-small --config partial.toml --lr 3");
    let said = |name: &str| settings.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
    for (name, want) in [
        ("layers", "2"),
        ("time", "20"),
        ("clip_norm", "0.25"),
        ("hidden", "50"),
        ("embed", "200"),
        ("lr", "3.0"),
        ("beta1", "0.9"),
    ] {
        let got = said(name).and_then(|line| line.split_whitespace().next());
        assert_eq!(got, Some(want), "{name}: {settings}");
    }
}

#[test]
fn it_ends_early_where_nothing_better_comes_and_measures_as_often_as_it_is_told() {
    let folder = Folder::new();
    folder.file("t.txt", text(150));
    let lines =
        |run: &str| std::fs::read_to_string(folder.path(run).join("metrics.jsonl")).unwrap().lines().count();
    // With a rate of next to nothing the first evaluation is about as good as any later one, and with a cosine that has
    // come to its end no better.
    let still = "--rule sgd --lr 1e-30 --stop-after 2 --epochs 9 --quiet";
    folder.out(&format!("train t.txt {SMALL} {still} --out still").replace("--rule adam --lr 0.01 ", ""));
    assert_eq!(lines("still"), 3);
    folder.out(&format!("train t.txt {SMALL} --epochs 1 --evaluate-every 5 --quiet --out often"));
    let config = std::fs::read_to_string(folder.path("often/config.toml")).unwrap();
    assert!(config.contains("evaluate_every = 5"));
    // Every fifth step is measured, and the last one.
    let metrics = std::fs::read_to_string(folder.path("often/metrics.jsonl")).unwrap();
    let steps =
        metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap());
    let steps: Vec<u64> = steps.collect();
    let last = *steps.last().unwrap();
    let want: Vec<u64> = (5..last).step_by(5).chain([last]).collect();
    assert_eq!(steps, want);
}

#[test]
fn a_few_words_are_learnt_by_heart_whatever_words_stand_behind_them() {
    let folder = Folder::new();
    folder.file("t.txt", text(20) + "words that nobody has seen before\n");
    folder.out("train t.txt --preset book-rnn --first 60 --batch 2 --epochs 3 --quiet --out r");
    let info = folder.json("info r");
    assert!(info["best"]["valid_loss"].is_null() && info["best"]["train_loss"].as_f64().is_some(), "{info}");
    // No <unk>, and no word that comes later.
    let tokenizer = std::fs::read_to_string(folder.path("r/tokenizer.json")).unwrap();
    assert!(!tokenizer.contains("nobody") && !tokenizer.contains("\"<unk>\": "), "{tokenizer}");
    let refused = folder.run("train t.txt --preset book-rnn --first 6000 --out s");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--first: expected at most the ") && said.contains("got 6000"), "{said}");
    assert!(!folder.path("s").exists());
}

#[test]
fn what_lies_in_the_folder_that_a_training_was_to_have_stays_where_it_fails() {
    let folder = Folder::new();
    folder.file("t.txt", text(20));
    std::fs::create_dir_all(folder.path("r/cache")).unwrap();
    folder.file("r/cache/mine", "mine");
    let refused = folder.run("train t.txt --batch 100000 --out r");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(bytes(&folder.path("r/cache/mine")), b"mine");
    assert_eq!(std::fs::read_dir(folder.path("r")).unwrap().count(), 1);
    // Where runs/ cannot be, no number makes it better.
    folder.file("runs", "");
    let refused = folder.run("train t.txt --epochs 1");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("runs/t: "), "{said}");
}

#[test]
fn two_equal_trainings_leave_equal_files() {
    let folder = Folder::new();
    folder.file("t.txt", text(60));
    for run in ["a", "b"] {
        folder.out(&format!("train t.txt {SMALL} --epochs 1 --quiet --out {run}"));
    }
    // But for the seconds that it took, which stand in the notes.
    let header = |run: &str| {
        let bytes = bytes(&folder.path(run).join("checkpoints/latest.safetensors"));
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        assert_eq!(metadata.len(), 1, "the order of several would be another each time");
        let told: Value = serde_json::from_str(&metadata["training"]).unwrap();
        told["numbers"].clone()
    };
    assert_eq!(header("a"), header("b"));
    for name in ["model.safetensors", "tokenizer.json", "context.txt"] {
        assert!(bytes(&folder.path("a").join(name)) == bytes(&folder.path("b").join(name)), "{name}");
    }
}

#[test]
fn any_text_makes_a_run_however_short_it_is() {
    let folder = Folder::new();
    for (name, text) in [
        ("three.txt", "abc".to_string()),
        ("line.txt", "a text of one line without an end".to_string()),
        ("spaces.txt", " ".repeat(300)),
        ("..txt", text(20)),
        ("feeds.txt", "\n".repeat(300)),
        ("few.txt", text(20)),
        ("words.txt", "the <unk> cat\n".repeat(9)),
    ] {
        folder.file(name, text);
        let out = folder.out(&format!("train {name} --epochs 1 --out {name}.run --quiet --json"));
        assert!(serde_json::from_str::<Value>(&out).is_ok(), "{name}: {out}");
        folder.out(&format!("generate {name}.run -n 3"));
    }
}

#[test]
fn a_text_of_one_line_is_measured_on_its_end_too() {
    let folder = Folder::new();
    let line = text(300).replace('\n', " ");
    for (name, text) in [("with.txt", format!("{line}\n")), ("without.txt", line)] {
        folder.file(name, text);
        let said = folder.json(&format!("train {name} {SMALL} --epochs 1 --quiet --out {name}.run"));
        assert!(said["tokens"].as_u64().unwrap() > 100 && said["perplexity"].is_number(), "{name}: {said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_may_have_a_name_that_is_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    folder.file("t.txt", text(100));
    let name = std::ffi::OsStr::from_bytes(b"r\xff");
    let mut train = folder.command(&format!("train t.txt {SMALL} --epochs 1 --quiet --json --out"));
    let output = train.arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["perplexity"].is_number());
}
