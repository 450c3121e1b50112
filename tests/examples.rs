//! The examples as a user starts them: real processes, real files.

#[path = "common/program.rs"]
mod program;

use program::{example, text};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

/// A file that is deleted at the end of the test.
fn file(bytes: &[u8]) -> tempfile::TempPath {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.into_temp_path()
}

/// A small corpus that can be learnt.
fn corpus() -> tempfile::TempPath {
    file(
        "the cat sat on the mat .\nthe dog sat on the cat .\nyou say goodbye and i say hello .\n"
            .repeat(40)
            .as_bytes(),
    )
}

/// What `train` prints last, after it has ended well.
fn trained(corpus: &Path, flags: &[&str]) -> Value {
    let output = example("train").arg("--corpus").arg(corpus).args(flags).arg("--json").output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{flags:?}: {stderr}");
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

/// What a command that must fail says, after it has said so in the right way.
fn refused(name: &str, flags: &[&str]) -> String {
    let output = example(name).args(flags).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(!output.status.success(), "{name} {flags:?} went through: {stdout}");
    assert!(!stderr.contains("panicked"), "{name} {flags:?}: {stderr}");
    stderr
}

const SMALL: [&str; 10] = ["--embed", "12", "--hidden", "16", "--batch", "4", "--time", "7", "--epochs", "3"];

fn with<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    SMALL.iter().chain(flags).copied().collect()
}

#[test]
fn train_learns_in_every_way_and_with_every_cell_and_reports_it() {
    let corpus = corpus();
    let mut losses = Vec::new();
    for flags in [
        vec!["--way", "fused"],
        vec!["--way", "manual"],
        vec!["--way", "reference"],
        vec!["--cell", "rnn"],
        vec!["--cell", "gru", "--layers", "2"],
        vec!["--tokens", "char"],
    ] {
        let report = trained(&corpus, &with(&flags));
        let number =
            |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{flags:?}: {key} in {report}"));
        assert!(number("train_ppl") < number("uniform_ppl"), "{flags:?}: {report}");
        assert!(number("valid_ppl") < number("unigram_ppl"), "{flags:?}: {report}");
        assert!(number("ngram_ppl") < number("unigram_ppl"), "{flags:?}: {report}");
        assert!(number("tokens_per_s") > 0.0 && number("seconds") > 0.0);
        assert_eq!(report["device"], "cpu");
        let way = if flags[0] == "--way" { flags[1] } else { "fused" };
        assert_eq!(report["way"], way);
        if flags[0] == "--way" {
            losses.push(number("train_ppl"));
        }
    }
    for other in &losses[1..] {
        assert!((other / losses[0] - 1.0).abs() < 1e-3, "the same model in three ways: {losses:?}");
    }
}

#[test]
fn train_says_what_it_learns_from_and_ends_with_yardsticks_and_a_sample() {
    let corpus = corpus();
    let output = example("train").arg("--corpus").arg(&corpus).args(SMALL).output().unwrap();
    let (stdout, stderr) = text(&output);
    for part in
        ["corpus ", "model ", "fused on cpu", "uniform", "unigram", "Kneser-Ney", "this model", "--help"]
    {
        assert!(stdout.contains(part), "no {part:?} in {stdout}");
    }
    // No terminal: plain lines, the last one for the last step.
    let last = stderr.lines().last().unwrap();
    for part in ["epoch 3/3", "loss", "perplexity", "tokens/s", "0 s left"] {
        assert!(last.contains(part), "no {part:?} in {last}");
    }

    let output = example("train").arg("--corpus").arg(&corpus).args(SMALL).arg("--quiet").output().unwrap();
    assert_eq!(text(&output), (String::new(), String::new()));
}

#[test]
fn the_same_seed_gives_the_same_numbers_with_any_number_of_threads_and_another_seed_others() {
    // Many words and a wide layer: products that are large enough to be split.
    let words: Vec<String> = (0..3000u32).map(|i| format!("w{}", i * i % 701)).collect();
    let corpus = file(words.join(" ").as_bytes());
    let wide = ["--embed", "90", "--hidden", "130", "--batch", "20", "--time", "30", "--epochs", "1"];
    let perplexity = |flags: &[&str]| {
        trained(&corpus, &[&wide[..], flags].concat())["valid_ppl"].as_f64().unwrap().to_bits()
    };
    let first = perplexity(&["--threads", "1"]);
    assert_eq!(first, perplexity(&["--threads", "3"]));
    assert_ne!(first, perplexity(&["--seed", "2"]));
}

#[test]
fn train_on_a_corpus_and_another_one_to_measure_on() {
    let (corpus, valid) = (corpus(), file(b"the cat sat on the mat .\nthe zebra sat .\n"));
    let report = trained(&corpus, &with(&["--valid", valid.to_str().unwrap()]));
    assert!(report["valid_ppl"].as_f64().unwrap() > 1.0);
}

#[test]
fn the_books_experiment_on_any_thousand_words() {
    let words: Vec<String> = (0..1200u32).map(|i| format!("w{}", i * i % 211)).collect();
    let corpus = file(words.join(" ").as_bytes());
    let report = trained(&corpus, &["--book", "--epochs", "30"]);
    // A sequence that repeats itself, learnt: far below the 103 different words that it has or so.
    assert!(report["train_ppl"].as_f64().unwrap() < 60.0, "{report}");
    assert_eq!(report["cell"], "rnn");
    assert!(report["valid_ppl"].is_null());
}

#[test]
fn input_that_cannot_be_used_is_named_with_the_way_out() {
    let good = corpus();
    let good = good.to_str().unwrap();
    let (latin, empty, short) = (file(b"na\xefve text"), file(b" \n"), file(b"one two three four\n"));
    let one = file(b"t");
    let [latin, empty, short, one] = [&latin, &empty, &short, &one].map(|path| path.to_str().unwrap());
    let cases: [(&[&str], &[&str]); 22] = [
        (&["--corpus", "/no/such/file"], &["--corpus", "/no/such/file", "No such file"]),
        (&["--corpus", latin], &["--corpus", "not UTF-8", "offset 2"]),
        (&["--corpus", empty], &["--corpus", empty, "empty"]),
        (&["--corpus", short], &["the last tenth of --corpus", short, "--valid FILE", "at least one token"]),
        (&["--corpus", short, "--valid", good], &["batch", "at least", "got"]),
        (&["--corpus", good, "--valid", latin], &["--valid", "offset 2"]),
        (&["--corpus", good, "--batch", "0"], &["batch", "at least 1", "got 0"]),
        (&["--corpus", good, "--time", "0"], &["time", "at least 1", "got 0"]),
        (&["--corpus", good, "--hidden", "0"], &["hidden", "at least 1", "got 0"]),
        (&["--corpus", good, "--hidden", "1000000000"], &["at most", "parameters"]),
        (&["--corpus", good, "--layers", "0"], &["layers", "at least 1", "got 0"]),
        (&["--corpus", good, "--epochs", "0"], &["--epochs", "at least 1", "got 0"]),
        (&["--corpus", good, "--lr", "NaN"], &["--lr: expected a number above 0, got NaN"]),
        (&["--corpus", good, "--clip", "-1"], &["--clip: expected a number above 0, got -1"]),
        (&["--corpus", good, "--max-vocab", "1"], &["--max-vocab: expected at least 2", "got 1"]),
        (&["--corpus", good, "--threads", "100000"], &["--threads", "at most 512", "got 100000"]),
        (&["--corpus", short, "--book"], &["--book learns from 1000 words", short]),
        (&["--corpus", good, "--tokens", "char", "--valid", one], &["measure on", "at least 2"]),
        (&["--corpus", good, "--threads", "0"], &["--threads", "at least 1", "got 0"]),
        (&["--corpus", good, "--device", "cuda:4093"], &["cuda:4093", "cpu"]),
        (&["--corpus", good, "--cell", "mgu"], &["--cell", "rnn, lstm, gru", "mgu"]),
        (&["--corpus", good, "--way", "magic"], &["--way", "fused", "magic"]),
    ];
    for (flags, parts) in cases {
        let said = refused("train", flags);
        for part in parts {
            assert!(said.contains(part), "train {flags:?} does not say {part:?}: {said}");
        }
    }
    assert!(refused("goodbye", &["--no-such-flag"]).contains("--no-such-flag"));
    assert!(refused("bench", &["lm", "--batch", "0"]).contains("--batch"));
    assert!(refused("bench", &["lm", "--dropout", "0.5"]).contains("--dropout: expected 0, got 0.5"));
    assert!(refused("bench", &["lm", "--dtype", "bf16"]).contains("--dtype: expected f32, got bf16"));
    assert!(refused("bench", &["lm", "--cell", "rnn", "--way", "candle-nn"]).contains("no plain RNN"));
}

#[test]
fn a_reader_who_does_not_read_on_is_no_panic() {
    let corpus = corpus();
    let fixture = program::path("tests/fixtures/gru.safetensors");
    let small = ["layer", "--input", "4", "--hidden", "4", "--batch", "2", "--time", "3", "--steps", "1"];
    for (name, flags) in [
        ("goodbye", vec![]),
        ("train", with(&["--corpus", corpus.to_str().unwrap()])),
        ("check_pytorch", vec![fixture.to_str().unwrap()]),
        ("bench", small.to_vec()),
        ("mgu", vec![]),
        ("steer", STEER.to_vec()),
    ] {
        let run = |stderr_too: bool| {
            let mut child =
                example(name).args(&flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            drop(child.stdout.take());
            if stderr_too {
                drop(child.stderr.take());
            }
            child.wait_with_output().unwrap()
        };
        let output = run(false);
        assert!(!text(&output).1.contains("panicked"), "{name}: {}", text(&output).1);
        assert_ne!(run(true).status.code(), Some(101), "{name}: a panic");
    }
}

#[test]
fn without_a_file_it_learns_from_the_text_that_comes_with_the_build() {
    let small = ["--max-vocab", "50", "--embed", "2", "--hidden", "2", "--epochs", "1", "--json"];
    let output = example("train").args(small).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    let report: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(report["uniform_ppl"], 50);
    assert!(report["valid_ppl"].as_f64().unwrap() < 50.0, "{report}");
    let unknown = report["valid_unknown"].as_f64().unwrap();
    assert!((0.2..0.8).contains(&unknown), "{report}");
    // A real text, and the same one everywhere.
    assert!(stdout.contains("corpus   706223 tokens"), "{stdout}");
}

#[test]
fn the_mean_is_over_targets_however_the_windows_are_cut() {
    // 9 targets of which the last window has one: with a rate of next to nothing all windows see the same model.
    let corpus = file(b"a b c d e f g h i j");
    let valid = file(b"a b c d e f g h i j");
    let flags = ["--valid", valid.to_str().unwrap(), "--batch", "1", "--epochs", "1", "--lr", "1e-20"];
    let perplexity = |time: &str| {
        trained(&corpus, &[&flags[..], &["--time", time]].concat())["train_ppl"].as_f64().unwrap()
    };
    assert!((perplexity("8") / perplexity("9") - 1.0).abs() < 1e-6);
}

#[test]
fn training_that_diverges_stops_and_says_so() {
    let corpus = corpus();
    // A loss that is finite, of which no perplexity can be made.
    let said = refused("train", &with(&["--corpus", corpus.to_str().unwrap(), "--lr", "1e30"]));
    assert!(said.contains("training stopped after epoch 1") && said.contains("--lr"), "{said}");
    let flags = with(&["--corpus", corpus.to_str().unwrap(), "--lr", "3e38", "--clip", "1e30"]);
    let said = refused("train", &flags);
    assert!(said.contains("training stopped") && said.contains("step "), "{said}");
    assert!(said.contains("try a smaller learning rate"), "{said}");
}

/// A window that is small and has rows of all lengths.
const STEER: [&str; 10] = ["--input", "5", "--hidden", "6", "--batch", "5", "--time", "4", "--pairs", "1"];

#[test]
fn what_examples_hold_against_something_holds() {
    let out = |name: &str, flags: &[&str]| {
        let output = example(name).args(flags).output().unwrap();
        let (stdout, stderr) = text(&output);
        assert!(output.status.success(), "{name} {flags:?}: {stderr}");
        stdout
    };
    // A cell from outside, without its kernel and with it, against autograd.
    let mgu = out("mgu", &[]);
    for way in ["manual", "fused"] {
        assert!(mgu.contains(&format!("{way}: 17 gradients by hand; none is further than")), "{mgu}");
    }
    for cell in
        ["rnn", "lstm", "gru", "peephole-lstm", "layer-norm-lstm", "layer-norm-gru", "reset-before-gru"]
    {
        let lines = out("steer", &[&STEER[..], &["--cell", cell]].concat());
        let plans = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let plans: Vec<String> = plans.map(|line| line["plan"].as_str().unwrap().to_string()).collect();
        assert_eq!((plans.len(), plans[7].as_str()), (10, "zoneout"), "{plans:?}");
    }
    assert!(refused("steer", &["--time", "0"]).contains("--time: expected at least 1, got 0"));
    if cfg!(target_os = "linux") {
        let out = out("long", &["--time", "40", "--size", "4", "--batch", "2"]);
        // Both give the same gradients.
        let sums: Vec<&str> =
            out.lines().filter_map(|line| line.split_once("sum of dxs ")).map(|(_, sum)| sum).collect();
        assert!(sums.len() == 2 && sums[0] == sums[1], "{out}");
    }
}

#[test]
fn a_network_is_written_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (torch, onnx) = (path("gru.pt"), path("gru.onnx"));
    for (name, file) in [("export_pytorch", &torch), ("export_onnx", &onnx)] {
        let flags = ["--cell", "gru", "--layers", "2", "--bidirectional", "--input", "3", "--hidden", "4"];
        let output = example(name).args(flags).arg(file).output().unwrap();
        assert!(output.status.success() && text(&output).0.contains(file), "{output:?}");
        let said = refused(name, &["--layers", "18446744073709551615", file]);
        assert!(said.contains("NetworkSpec: layers: expected at most 65536"), "{said}");
    }
    let read = rnn_core::border::pytorch::StateDict::read(&torch).unwrap();
    let spec = read.spec("").unwrap();
    assert_eq!((spec.layers, spec.bidirectional, spec.input, spec.hidden), (2, true, 3, 4));
    assert!(std::fs::metadata(&onnx).unwrap().len() > 1000);
}

#[test]
fn goodbye_learns_its_sentence_and_draws_it() {
    let output = example("goodbye").output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    for word in ["you", "say", "goodbye", "and", "i", "hello"] {
        assert!(stdout.contains(word), "{stdout}");
    }
    assert!(stdout.contains('█') || stdout.contains('#'), "bars: {stdout}");
}

#[test]
fn classify_learns_from_some_verses_and_its_parameters_are_a_state_dict() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("classify.pt");
    let output = example("classify").args(["--verses", "192", "--save"]).arg(&path).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    // Verses of both parts, as the whole text has them: three of four are of the first.
    let line = stdout.lines().last().unwrap();
    assert!(line.starts_with("right on ") && line.contains("(always the Old Testament: 7"), "{line}");
    let file = rnn_core::border::pytorch::StateDict::read(&path).unwrap();
    let names: Vec<&str> = file.shapes().map(|(name, _)| name).collect();
    assert!(names.contains(&"rnn.weight_hh_l1_reverse") && names.contains(&"head.bias"), "{names:?}");
    assert!(refused("classify", &["--verses", "0"]).contains("--verses: expected at least 1, got 0"));
}

#[test]
fn bench_checks_and_prints_one_line_of_json_for_each_kind_of_work() {
    let small =
        ["--vocab", "50", "--embed", "8", "--input", "8", "--hidden", "9", "--batch", "3", "--time", "4"];
    for (work, way) in [
        ("lm", "fused"),
        ("lm", "candle-nn"),
        ("layer", "manual"),
        ("layer", "reference"),
        ("generate", "fused"),
    ] {
        let few = ["--steps", "2", "--warmup", "1", "--tokens", "5", "--way", way];
        let output = example("bench").arg(work).args(small).args(few).output().unwrap();
        let (stdout, stderr) = text(&output);
        assert!(output.status.success(), "{work} {way}: {stderr}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        for key in ["ms", "ms_min", "peak_rss_mb"] {
            assert!(report[key].as_f64().is_some_and(|value| value > 0.0), "{work} {way}: {key} in {report}");
        }
        assert!(report["checked"].as_f64().is_some_and(|error| error < 1e-4), "{work} {way}: {report}");
    }
}
