//! The program as a user has it: a run trained, stopped, gone on with, measured and used.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test expects")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rnn-lm"));
        command.current_dir(self.0.path()).args(line.split_whitespace());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Standard output of a command that works.
    fn out(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.out(&format!("{line} --json"))).unwrap()
    }
}

/// Sentences that have something to be learnt, the same ones everywhere.
fn text(lines: usize) -> String {
    let (who, does, what) = (
        ["the cat", "a dog", "the old man"],
        ["sees", "eats", "likes", "wants"],
        ["fish", "the sea", "a bone"],
    );
    let line = |i: usize| {
        let pick = |words: &[&'static str], by: usize| words[(i * by + i / 5) % words.len()];
        format!("{} {} {}\n", pick(&who, 7), pick(&does, 11), pick(&what, 13))
    };
    (0..lines).map(line).collect()
}

const SMALL: &str = "--tokens word --embed 8 --hidden 12 --layers 2 --dropout 0.2 --rule adam --lr 0.01 --clip-norm 1 \
    --batch 4 --time 6";

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

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
}

#[test]
fn a_training_that_is_killed_goes_on_with_the_bits_it_would_have_had() {
    let folder = Folder::new();
    folder.file("t.txt", text(600));
    let line = format!("train t.txt {SMALL} --varied --epochs 6 --average nt-asgd --seed 5 --quiet");
    folder.out(&format!("{line} --out whole"));
    let mut child = folder.command(&format!("{line} --out killed")).stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let metrics = folder.path("killed/metrics.jsonl");
    while std::fs::read_to_string(&metrics).unwrap_or_default().lines().count() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no evaluation for a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    folder.out("resume killed --quiet");
    let [whole, killed] = ["whole", "killed"].map(|run| bytes(&folder.path(run).join("model.safetensors")));
    assert!(whole == killed);
    let lines = |run: &str| -> Vec<(Value, Value)> {
        let text = std::fs::read_to_string(folder.path(run).join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| (line["step"].clone(), line["valid_loss"].clone())).collect()
    };
    assert_eq!(lines("whole"), lines("killed"));
    // It is done: going on does nothing, unless to more epochs.
    folder.out("resume killed --quiet");
    folder.out("resume killed --epochs 7 --quiet");
    assert_eq!(lines("killed").len(), 7);
}

#[cfg(unix)]
#[test]
fn an_interrupt_writes_a_checkpoint_and_says_how_to_go_on() {
    let folder = Folder::new();
    folder.file("t.txt", text(3000));
    let line = format!("train t.txt {SMALL} --epochs 1000 --out r");
    let child = folder.command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !folder.path("r/config.toml").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("`rnn-lm resume r` goes on"), "{stderr}");
    assert!(folder.path("r/checkpoints/latest.safetensors").exists());
}

#[test]
fn what_is_measured_depends_neither_on_the_window_nor_on_who_measures() {
    let folder = Folder::new();
    folder.file("t.txt", text(200));
    let test = folder.file("test.txt", text(37) + "a cat sees the sky\n");
    folder.out(&format!("train t.txt {SMALL} --epochs 2 --quiet --out r"));
    let perplexity =
        |flags: &str| folder.json(&format!("evaluate r test.txt {flags}"))["perplexity"].as_f64().unwrap();
    let whole = perplexity("");
    for time in [1, 7, 64, 1000] {
        assert!((perplexity(&format!("--time {time}")) / whole - 1.0).abs() < 1e-5, "time {time}");
    }
    let evaluated = folder.json("evaluate r test.txt");
    let tokens = evaluated["tokens"].as_u64().unwrap();
    assert_eq!(evaluated["predictions"], tokens - 1);
    assert!(evaluated["unknown_rate"].as_f64().unwrap() > 0.0, "sky is no word of the text: {evaluated}");
    let bits = evaluated["bits_per_token"].as_f64().unwrap();
    assert!((bits.exp2() / whole - 1.0).abs() < 1e-12);
    let all = bits * (tokens - 1) as f64;
    let per_byte = evaluated["bits_per_byte"].as_f64().unwrap();
    assert!((per_byte * bytes(&test).len() as f64 / all - 1.0).abs() < 1e-12);

    // Scores, one line following the other, are the same measure; their tokens' are theirs.
    let lines = |flags: &str| -> Vec<Value> {
        let out = folder.out(&format!("score r test.txt {flags}"));
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let carried = lines("--carry");
    assert_eq!(carried.len(), 38);
    let sum: f64 = carried.iter().map(|line| line["log_prob"].as_f64().unwrap()).sum();
    assert!((-sum / std::f64::consts::LN_2 / all - 1.0).abs() < 1e-6, "{sum} {all}");
    assert!(carried[0]["tokens"][0]["log_prob"].is_null());
    for line in lines("") {
        let tokens = line["tokens"].as_array().unwrap();
        let sum: f64 = tokens.iter().map(|token| token["log_prob"].as_f64().unwrap()).sum();
        assert!((sum - line["log_prob"].as_f64().unwrap()).abs() < 1e-9);
    }
    // As the book evaluates: what is left over is not counted.
    let book = folder.json("evaluate r test.txt --batch 3 --time 5");
    assert_eq!(book["predictions"].as_u64().unwrap(), (tokens - 1) / 15 * 15);
    // What was read may help: each mode by its name.
    for mode in ["dynamic --lr 0.1", "dynamic --rms --lr 0.001 --decay 0.01", "cache --lambda 0.05"] {
        let value = perplexity(&format!("--mode {mode}"));
        assert!(value.is_finite() && value != whole && value < 2.0 * whole, "{mode}: {value}, plain {whole}");
    }
}

#[test]
fn the_same_seed_gives_the_same_text_and_it_appears_as_json_too() {
    let folder = Folder::new();
    folder.file("t.txt", text(200));
    folder.out(&format!("train t.txt {SMALL} --epochs 3 --quiet --out r"));
    let text = |flags: &str| folder.out(&format!("generate r -n 12 {flags}"));
    assert_eq!(text("--seed 3"), text("--seed 3"));
    assert_ne!(text("--seed 3"), text("--seed 4"));
    assert_eq!(text("--temperature 0 --seed 1"), text("--temperature 0 --seed 2"));
    let shown = text("--prompt cat --seed 3");
    assert!(shown.starts_with("cat"), "{shown}");
    let json = folder.json("generate r -n 12 --prompt cat --seed 3");
    assert_eq!(format!("cat{}\n", json["text"].as_str().unwrap()), shown);
    let stopped = folder.json("generate r -n 200 --seed 3 --stop eats");
    assert!(!stopped["text"].as_str().unwrap().contains("eats"));
    assert!(!folder.out("generate r -n 300 --skip eats,<unk>").contains("eats"));
    let beams = folder.out("generate r --prompt the --beam 4 -n 5");
    assert_eq!(beams.lines().count(), 4, "{beams}");
}

#[test]
fn every_kind_of_token_is_learnt_measured_and_written() {
    let folder = Folder::new();
    folder.file("t.txt", text(150) + "déjà vu 世界\n");
    for tokens in ["word", "char", "byte", "bpe --max-vocab 280"] {
        let run = tokens.split(' ').next().unwrap();
        folder.out(&format!(
            "train t.txt --tokens {tokens} --embed 8 --hidden 12 --batch 4 --time 6 --epochs 1 --quiet --out {run}"
        ));
        let measured = folder.json(&format!("evaluate {run} t.txt"));
        assert!(measured["bits_per_byte"].as_f64().unwrap() > 0.0, "{measured}");
        assert!(!folder.out(&format!("generate {run} -n 20 --prompt the")).is_empty());
        folder.out(&format!("score {run} t.txt"));
    }
    // A text that is no UTF-8 is bytes.
    folder.file("latin.txt", b"caf\xe9 au lait\n".repeat(100));
    folder.out("train latin.txt --hidden 8 --embed 4 --batch 4 --epochs 1 --quiet --out latin");
    assert!(folder.out("info latin").contains("bytes, 256 different ones"));
}

#[test]
fn a_rate_is_found_and_completions_are_printed() {
    let folder = Folder::new();
    folder.file("t.txt", text(200));
    let found = folder.json(&format!("lr-find t.txt {SMALL} --steps 40"));
    let lr = found["lr"].as_f64().unwrap();
    assert!((1e-5..1.0).contains(&lr), "{found}");
    assert!(folder.out(&format!("lr-find t.txt {SMALL} --steps 40")).contains("--lr "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(folder.out(&format!("completions {shell}")).contains("dropout-weight"), "{shell}");
    }
    assert!(folder.out("config --list").contains("awd-lstm"));
}

#[test]
fn a_folder_written_by_hand_is_a_run_and_so_are_weights_from_elsewhere() {
    let folder = Folder::new();
    folder.file("t.txt", text(150));
    folder.out("train t.txt --tokens word --embed 6 --hidden 6 --bias both --tied=false --batch 4 --time 6 --epochs 1 --quiet --out r");
    let want = folder.json("evaluate r t.txt");
    // Three files, as somebody would write them who has a state_dict and a list of words.
    let tokenizer: Value = serde_json::from_slice(&bytes(&folder.path("r/tokenizer.json"))).unwrap();
    let by_hand = serde_json::json!({ "model": {
        "type": "WordLevel", "vocab": tokenizer["model"]["vocab"], "unk_token": "<unk>"
    }});
    std::fs::create_dir(folder.path("hand")).unwrap();
    folder.file("hand/tokenizer.json", by_hand.to_string());
    folder.file(
        "hand/config.toml",
        "[data]\ntokens = \"word\"\n\n[model]\nembed = 6\nhidden = 6\nbias = \"both\"\n",
    );
    std::fs::copy(folder.path("r/model.safetensors"), folder.path("hand/model.safetensors")).unwrap();
    assert_eq!(folder.json("evaluate hand t.txt"), want);
    assert_eq!(folder.out("generate hand -n 9 --seed 2"), folder.out("generate r -n 9 --seed 2"));
    assert_eq!(folder.out("score hand t.txt"), folder.out("score r t.txt"));
    // It has no corpus, so it cannot be trained.
    let refused = folder.run("resume hand");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("data.corpus"), "{refused:?}");
    // Imported, its vocabulary is that of the text that it was trained on (which is a part of this one).
    let train: String = text(150).lines().take(135).map(|line| format!("{line}\n")).collect();
    folder.file("train.txt", train);
    folder
        .out("import r/model.safetensors --layout pytorch --corpus train.txt --tokens word --quiet --out in");
    let got = folder.json("evaluate in t.txt");
    assert_eq!(got["perplexity"], want["perplexity"]);
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
    assert!(said.contains("data.first: expected at most the ") && said.contains("got 6000"), "{said}");
    assert!(!folder.path("s").exists());
}

#[test]
fn without_a_prompt_it_goes_on_from_the_context_of_the_run() {
    let folder = Folder::new();
    folder.file("t.txt", text(80));
    folder.out(&format!("train t.txt {SMALL} --epochs 8 --quiet --out r"));
    let context = std::fs::read_to_string(folder.path("r/context.txt")).unwrap();
    assert!(text(80).contains(&context) && context.ends_with('\n'), "{context}");
    let written = |folder: &Folder| folder.out("generate r --tokens 80 --json");
    let from_there = written(&folder);
    assert_eq!(from_there, written(&folder));
    // As if it had been the prompt, but for what is shown.
    let as_prompt = folder.command("generate r --tokens 80 --json --prompt").arg(&context).output().unwrap();
    let ids = |json: &str| serde_json::from_str::<Value>(json).unwrap()["ids"].clone();
    assert_eq!(ids(&from_there), ids(&String::from_utf8(as_prompt.stdout).unwrap()));
    std::fs::write(folder.path("r/context.txt"), "the cat eats fish\n").unwrap();
    assert_ne!(from_there, written(&folder));
    std::fs::remove_file(folder.path("r/context.txt")).unwrap();
    assert_ne!(from_there, written(&folder));
}

#[test]
fn tied_weights_that_were_only_suggested_give_way_to_an_adaptive_softmax() {
    let folder = Folder::new();
    folder.file("t.txt", text(80));
    let line = "train t.txt --tokens word --embed 16 --hidden 16 --batch 4 --time 6 --epochs 1 --quiet --cutoffs 5 --out";
    folder.out(&format!("{line} r"));
    assert!(folder.out("config --config r/config.toml").contains("tied = false"));
    let refused = folder.run(&format!("{line} s --tied"));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("cutoffs of tied weights") && said.contains("tied = false"), "{said}");
}

#[test]
fn any_text_makes_a_run_however_short_it_is() {
    let folder = Folder::new();
    for (name, text) in [
        ("three.txt", "abc".to_string()),
        ("line.txt", "a text of one line without an end".to_string()),
        ("spaces.txt", " ".repeat(300)),
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
fn two_that_begin_one_run_at_once_leave_that_of_one_of_them() {
    let folder = Folder::new();
    folder.file("t.txt", text(300));
    for round in 0..4 {
        let line = |hidden: usize| {
            format!("train t.txt --tokens word --embed 8 --hidden {hidden} --epochs 1 --quiet --out r{round}")
        };
        let mut both: Vec<_> = [8, 16].map(|hidden| folder.command(&line(hidden)).spawn().unwrap()).into();
        let done = both.iter_mut().filter_map(|child| child.wait().unwrap().success().then_some(())).count();
        assert_eq!(done, 1, "one of two");
        folder.out(&format!("evaluate r{round} t.txt"));
    }
}

#[test]
fn a_tokenizer_that_there_is_can_be_taken() {
    let folder = Folder::new();
    folder.file("t.txt", text(80));
    folder.file("u.txt", "the cat eats words that it has never seen\n".repeat(30));
    folder.out("train t.txt --tokens bpe --max-vocab 300 --embed 8 --hidden 8 --epochs 1 --quiet --out a");
    folder.out("train u.txt --tokenizer a/tokenizer.json --hidden 8 --embed 8 --epochs 1 --quiet --out b");
    assert!(bytes(&folder.path("a/tokenizer.json")) == bytes(&folder.path("b/tokenizer.json")));
    folder.out("train u.txt --config b/config.toml --quiet --out c");
    assert!(bytes(&folder.path("b/model.safetensors")) == bytes(&folder.path("c/model.safetensors")));
    // The vocabulary of weights from elsewhere can be one that no text gives again.
    folder.out(
        "import a/model.safetensors --layout pytorch --corpus u.txt --tokenizer a/tokenizer.json --quiet --out d",
    );
    let perplexity =
        |run: &str| folder.json(&format!("evaluate {run} t.txt"))["perplexity"].as_f64().unwrap();
    assert!((perplexity("a") - perplexity("d")).abs() < 1e-9);
}

#[test]
fn completions_of_bash_know_the_flags_of_each_command() {
    let folder = Folder::new();
    let script = folder.out("completions bash");
    // What bash does at `rnn-lm evaluate --mo<TAB>`.
    let press = "COMP_WORDS=(rnn-lm evaluate --mo); COMP_CWORD=2
        complete -p rnn-lm | grep -o -- '-F [^ ]*' | { read -r _ complete; $complete rnn-lm --mo evaluate; echo \"${COMPREPLY[@]}\"; }";
    folder.file("complete.sh", format!("{script}\n{press}\n"));
    let output = Command::new("bash").arg(folder.path("complete.sh")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.trim(), "--mode", "{}", String::from_utf8_lossy(&output.stderr));
}
