//! A run of which a file is lost, damaged or another one, or whose end was moved, goes on, or says what to do.

use super::resume::Until;
use super::*;
use rnn_core::Way;
use rnn_lm::run::{CONTEXT, Run, TOKENIZER};

fn resume(run: &Path, epochs: Option<usize>) -> rnn_lm::Result<Fit> {
    Fit::resume(run, epochs, &Device::Cpu)
}

fn says<T>(result: rnn_lm::Result<T>, parts: &[&str]) {
    let Err(error) = result else { panic!("no error where one that says {parts:?} was expected") };
    let error = error.to_string();
    for part in parts {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

#[test]
fn an_end_that_is_moved_to_where_nothing_was_measured_is_measured() {
    let bench = Bench::new();
    let run = bench.path("run");
    let mut config = bench.by_heart("");
    config.training.evaluate_every = 1000;
    let mut fit = bench.begin("run", &config);
    // Four epochs and a window of the fifth.
    let windows = fit.total_steps() / 16;
    let mut until = Until { read: 0, stop: 4 * windows + 1 };
    assert_eq!(fit.train_on(&mut until).unwrap(), End::Stopped);
    drop(fit);
    assert!(!run.join(MODEL).exists() && !run.join(METRICS).exists());
    for _ in 0..2 {
        assert_eq!(resume(&run, Some(4)).unwrap().train_on(&mut Nobody).unwrap(), End::Done);
        let lines = metrics(&run);
        assert_eq!((lines.len(), &lines[0]["step"]), (1, &Value::from(4 * windows + 1)));
        assert_eq!((&lines[0]["epoch"], &lines[0]["best"]), (&Value::from(4), &Value::from(true)));
        let loss = bench.loss(&run);
        assert!((loss - lines[0]["valid_loss"].as_f64().unwrap()).abs() < 1e-6, "{loss} and {lines:?}");
    }
}

#[test]
fn an_end_is_not_moved_where_the_run_cannot_go_on() {
    let bench = Bench::new();
    let run = bench.train("run", &bench.by_heart("[training]\nepochs = 2"));
    let (settings, lines) = (run.join(CONFIG), run.join(METRICS));
    let before = std::fs::read(&settings).unwrap();
    std::fs::rename(&lines, bench.path("aside")).unwrap();
    std::fs::create_dir(&lines).unwrap();
    says(resume(&run, Some(5)), &["metrics.jsonl"]);
    assert!(std::fs::read(&settings).unwrap() == before);
    std::fs::remove_dir(&lines).unwrap();
    std::fs::rename(bench.path("aside"), &lines).unwrap();
    drop(resume(&run, Some(5)).unwrap());
    assert!(std::fs::read_to_string(&settings).unwrap().contains("epochs = 5"));
}

#[test]
fn after_the_best_weights_are_lost_better_ones_than_the_last_are_kept() {
    let bench = Bench::new();
    let all = losses(&bench.train("whole", &bench.by_heart("")));
    let least = |losses: &[f64]| losses.iter().copied().fold(f64::INFINITY, f64::min);
    // An end behind which some are better than the last weights there, and none than the best.
    let epochs = (2..15).rfind(|&k| (least(&all[..k])..all[k - 1]).contains(&least(&all[k..])));
    let epochs = epochs.unwrap_or_else(|| panic!("no such end: {all:?}"));
    let run = bench.train("run", &bench.by_heart(&format!("[training]\nepochs = {epochs}")));
    for _ in 0..2 {
        std::fs::remove_file(run.join(MODEL)).unwrap();
        drop(resume(&run, None).unwrap());
        assert!((bench.loss(&run) - all[epochs - 1]).abs() < 1e-6, "those of the checkpoint");
    }
    assert_eq!(resume(&run, Some(16)).unwrap().train_on(&mut Nobody).unwrap(), End::Done);
    assert_eq!(losses(&run), all, "the training is what it would have been");
    let (kept, want) = (bench.loss(&run), least(&all[epochs..]));
    assert!((kept - want).abs() < 1e-6, "{kept} of {all:?} from epoch {epochs} on");
}

#[test]
fn damaged_weights_are_found_before_the_training() {
    let bench = Bench::new();
    let run = bench.train("run", &bench.by_heart("[training]\nepochs = 2"));
    let bytes = std::fs::read(run.join(MODEL)).unwrap();
    std::fs::write(run.join(MODEL), &bytes[..bytes.len() / 2]).unwrap();
    says(resume(&run, Some(3)), &[MODEL, "remove it, and the weights of"]);
    let other = bench.train("other", &bench.by_heart("[model]\nhidden = 9\n[training]\nepochs = 1"));
    std::fs::copy(other.join(MODEL), run.join(MODEL)).unwrap();
    says(resume(&run, Some(3)), &["expected the weights of the model", "remove it, and the weights of"]);
    std::fs::remove_file(run.join(MODEL)).unwrap();
    assert_eq!(resume(&run, Some(3)).unwrap().train_on(&mut Nobody).unwrap(), End::Done);
}

#[test]
fn a_flipped_bit_is_seen() {
    let bench = Bench::new();
    let run = bench.train("run", &bench.by_heart("[training]\nepochs = 1"));
    let whole = std::fs::read(run.join(MODEL)).unwrap();
    let model = || Run::open(&run).unwrap().model(Way::Fused, &Device::Cpu).map(drop);
    for at in [whole.len() - 1, whole.len() - 400] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(run.join(MODEL), damaged).unwrap();
        says(
            model(),
            &["model.safetensors: expected the weights that a run has written, got a file that is damaged"],
        );
        says(resume(&run, Some(3)), &["a file that is damaged", "remove it, and the weights of"]);
    }
    std::fs::write(run.join(MODEL), whole).unwrap();
    model().unwrap();
}

#[test]
fn a_tokenizer_that_is_another_one_is_named_and_not_the_text() {
    let bench = Bench::new();
    let run = bench.train("run", &bench.by_heart("[training]\nepochs = 1"));
    let path = run.join(TOKENIZER);
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, whole.replace("\"w14\"", "\"x14\"")).unwrap();
    assert!(whole.contains("\"w14\""), "{whole}");
    says(
        resume(&run, Some(2)),
        &["tokenizer.json: expected the tokenizer that the training began with", "put it back"],
    );
    std::fs::write(&path, whole).unwrap();
    drop(resume(&run, Some(2)).unwrap());
}

#[test]
fn the_text_that_is_another_one_is_named() {
    let bench = Bench::new();
    let run = bench.train("run", &bench.by_heart("[training]\nepochs = 1"));
    let valid = std::fs::read(bench.path("valid.txt")).unwrap();
    bench.file("valid.txt", text(29, 3));
    says(resume(&run, Some(2)), &["valid.txt: expected the text that the run began with"]);
    bench.file("valid.txt", valid);
    bench.file("train.txt", text(21, 1));
    says(resume(&run, Some(2)), &["train.txt: expected the text that the run began with"]);
}

#[test]
fn a_run_that_was_ended_before_its_context_was_written_has_one_after_it() {
    let bench = Bench::new();
    let config = bench.by_heart("[training]\nepochs = 1");
    let (whole, run) = (bench.train("whole", &config), bench.path("run"));
    drop(bench.begin("run", &config));
    std::fs::remove_file(run.join(CONTEXT)).unwrap();
    std::fs::remove_file(run.join(CHECKPOINT)).unwrap();
    assert_eq!(resume(&run, None).unwrap().train_on(&mut Nobody).unwrap(), End::Done);
    let [got, want] = [&run, &whole].map(|run| std::fs::read(run.join(CONTEXT)).unwrap());
    assert!(got == want && !got.is_empty());
}
