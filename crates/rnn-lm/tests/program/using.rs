//! Runs that are measured, written with, and brought in from elsewhere.

use super::*;

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
    // Nor on the sizes that it was trained with, which are read there.
    let config = std::fs::read_to_string(folder.path("r/config.toml")).unwrap();
    for (batch, time) in [(1, 6), (13, 6), (4, 1), (7, 50)] {
        let sizes = config.replace("batch = 4 ", &format!("batch = {batch} "));
        let sizes = sizes.replace("time = 6 ", &format!("time = {time} "));
        assert_eq!(sizes == config, (batch, time) == (4, 6));
        folder.file("r/config.toml", sizes);
        assert!((perplexity("") / whole - 1.0).abs() < 1e-5, "trained with {batch} x {time}");
    }
    folder.file("r/config.toml", config);
    let evaluated = folder.json("evaluate r test.txt");
    // The book's order with one reader is that stream, where no prediction is left over: 1 divides their number, and so does it.
    let predictions = evaluated["predictions"].as_u64().unwrap();
    for time in [1, predictions] {
        let as_book = perplexity(&format!("--batch 1 --time {time}"));
        assert!((as_book / whole - 1.0).abs() < 1e-5, "the book's, {time} steps");
    }
    let tokens = evaluated["tokens"].as_u64().unwrap();
    assert_eq!(evaluated["predictions"], tokens - 1);
    assert!(evaluated["unknown_rate"].as_f64().unwrap() > 0.0, "sky is no word of the text: {evaluated}");
    let bits = evaluated["bits_per_token"].as_f64().unwrap();
    assert!((bits.exp2() / whole - 1.0).abs() < 1e-12);
    let all = bits * (tokens - 1) as f64;
    // What has no prediction costs as much as the rest.
    let per_byte = evaluated["bits_per_byte"].as_f64().unwrap();
    assert!((per_byte * bytes(&test).len() as f64 / (bits * tokens as f64) - 1.0).abs() < 1e-12);

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
    let apart = lines("");
    for line in &apart {
        let tokens = line["tokens"].as_array().unwrap();
        let sum: f64 = tokens.iter().map(|token| token["log_prob"].as_f64().unwrap()).sum();
        assert!((sum - line["log_prob"].as_f64().unwrap()).abs() < 1e-9);
    }
    // Those that stand by themselves are what is measured line by line, where no token is given.
    let evaluated = folder.json("evaluate r test.txt --lines");
    assert_eq!((&evaluated["predictions"], &evaluated["tokens"]), (&tokens.into(), &tokens.into()));
    let sum: f64 = apart.iter().map(|line| line["log_prob"].as_f64().unwrap()).sum();
    let by_lines = evaluated["perplexity"].as_f64().unwrap();
    assert!(((-sum / tokens as f64).exp() / by_lines - 1.0).abs() < 1e-6, "{sum} {by_lines}");
    assert_ne!(by_lines, whole);
    let per_byte = evaluated["bits_per_byte"].as_f64().unwrap();
    assert!((-sum / std::f64::consts::LN_2 / bytes(&test).len() as f64 / per_byte - 1.0).abs() < 1e-6);
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
    let line = format!("lr-find t.txt {SMALL} --steps 60");
    let found = folder.json(&format!("{line} --to 100"));
    let lr = found["lr"].as_f64().unwrap();
    assert!((1e-3..10.0).contains(&lr), "{found}");
    assert!(
        folder.out(&format!("{line} --to 100")).contains("a third of the rate at which the loss was lowest")
    );
    // Where it does not see training break down it names no rate.
    assert!(folder.json(&format!("{line} --to 0.1"))["lr"].is_null());
    assert!(folder.out(&format!("{line} --to 0.1")).contains("has hardly risen"));
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
fn a_training_begins_with_the_weights_of_another_run_and_needs_it_no_more_after_that() {
    let folder = Folder::new();
    folder.file("t.txt", text(150));
    folder.file("u.txt", "a dog likes the sea\nthe cat eats a bone\n".repeat(30));
    folder.out(&format!("train t.txt {SMALL} --quiet --out r"));
    folder.out("import r/model.safetensors --layout pytorch --corpus t.txt --tokenizer r/tokenizer.json --quiet --out in");
    folder.out(&format!("train t.txt {SMALL} --tied=false --cutoffs 5 --quiet --out cut"));
    let perplexity =
        |run: &str| folder.json(&format!("evaluate {run} u.txt"))["perplexity"].as_f64().unwrap();
    for from in ["r", "in", "cut"] {
        let before = perplexity(from);
        let line = format!("train u.txt --warm-start {from} --holdout 0 --quiet");
        // At a rate of next to nothing it stays what it was, and at another it learns from there.
        folder.out(&format!("{line} --epochs 1 --lr 1e-12 --out still-{from}"));
        let still = perplexity(&format!("still-{from}"));
        assert!((still / before - 1.0).abs() < 1e-6, "{still} {before}");
        folder.out(&format!("{line} --epochs 3 --lr 0.001 --out on-{from}"));
        assert!(perplexity(&format!("on-{from}")) < 0.9 * before);
        // What the settings say is whole, and seen from everywhere.
        let [base, on] =
            [from, &format!("on-{from}")].map(|run| folder.json(&format!("info {run}"))["config"].clone());
        for setting in ["cell", "hidden", "layers", "bias", "cutoffs"] {
            assert_eq!(base["model"][setting], on["model"][setting]);
        }
        let whole = folder.path(from).canonicalize().unwrap();
        assert_eq!(on["model"]["warm_start"], whole.to_str().unwrap());
        std::fs::remove_dir_all(folder.path(from)).unwrap();
        folder.out(&format!("resume on-{from} --epochs 4 --quiet"));
    }
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
