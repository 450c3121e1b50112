//! A run that is stopped at any place and goes on ends as the one that was never stopped.

use super::*;
use rnn_lm::run::Stepped;
use std::collections::BTreeSet;

const STEPS: u64 = 200;

/// How many steps were done after each window.
#[derive(Default)]
struct Steps(Vec<u64>);

impl Watch for Steps {
    fn stepped(&mut self, at: &Stepped, _: &dyn rnn_lm::LanguageModel) {
        self.0.push(at.step);
    }
}

/// Stops after so many windows, in all processes.
pub(super) struct Until {
    pub(super) read: u64,
    pub(super) stop: u64,
}

impl Watch for Until {
    fn stepped(&mut self, _: &Stepped, _: &dyn rnn_lm::LanguageModel) {
        self.read += 1;
    }

    fn stop(&self) -> bool {
        self.read == self.stop
    }
}

/// The same weights, the same place, and the same way to it.
fn assert_same(run: &Path, whole: &Path, from: &str) {
    let [got, want] = [run, whole].map(|run| std::fs::read(run.join(MODEL)).unwrap());
    assert!(got == want, "{from}: other weights are kept");
    let [got, want] = [run, whole].map(|run| tensors(&run.join(CHECKPOINT)));
    assert!(got.keys().eq(want.keys()), "{from}: {:?}, not {:?}", got.keys(), want.keys());
    let other: Vec<&String> = got.keys().filter(|name| got[*name] != want[*name]).collect();
    assert!(other.is_empty(), "{from}: {other:?} of the checkpoint");
    let [got, want] = [run, whole].map(|run| {
        let mut numbers = numbers(run);
        assert!(numbers[1].as_object_mut().unwrap().remove("seconds").is_some());
        numbers
    });
    assert_eq!(got, want, "{from}");
    assert_eq!(metrics(run), metrics(whole), "{from}");
}

/// What was seen at the places where it was stopped.
#[derive(Default)]
struct Seen {
    /// How many windows of an epoch had been read.
    within: BTreeSet<u64>,
    /// How many stops were not at an epoch's end.
    inside: usize,
    /// How many were between the windows of a step.
    between: usize,
    /// At how many stops the checkpoint had tensors of each kind.
    kinds: BTreeMap<String, usize>,
}

/// Trains once, then once more with a stop at every tenth step; of each `copied`-th stop a copy goes on to the end without
/// another. Where several windows make a step, stops fall before each of them.
fn stopped_everywhere(bench: &Bench, config: &Config, copied: usize) -> Seen {
    let gathers = config.training.accumulate;
    let whole = bench.path("whole");
    let mut fit = bench.begin("whole", config);
    let mut steps = Steps::default();
    assert_eq!(fit.train_on(&mut steps).unwrap(), End::Done);
    assert!((STEPS..STEPS + 10).contains(&fit.steps()), "{} steps", fit.steps());
    assert_eq!(fit.steps(), fit.total_steps());
    drop(fit);

    let mut seen = Seen::default();
    let stopped = bench.path("stopped");
    let mut watch = Until { read: 0, stop: 0 };
    let mut fit = bench.begin("stopped", config);
    for (number, step) in (10..STEPS).step_by(10).enumerate() {
        let from = format!("from step {step}");
        // The last step of an epoch may have fewer windows.
        let first = steps.0.partition_point(|&done| done < step);
        let at = (first + number % gathers).min(steps.0.partition_point(|&done| done <= step) - 1);
        watch.stop = at as u64 + 1;
        seen.between += usize::from(at > first);
        assert_eq!(fit.train_on(&mut watch).unwrap(), End::Stopped, "{from}");
        drop(fit);
        let place = Checkpoint::read(stopped.join(CHECKPOINT)).unwrap().position().unwrap();
        assert_eq!(place.steps, step, "{from}");
        seen.inside += usize::from(place.read > 0);
        seen.within.insert(place.read as u64);
        let kind = |name: &String| name.split('.').next().unwrap().to_string();
        let kinds: BTreeSet<String> = tensors(&stopped.join(CHECKPOINT)).keys().map(kind).collect();
        kinds.into_iter().for_each(|kind| *seen.kinds.entry(kind).or_default() += 1);
        // There is something to carry: all of it is in the checkpoint, and none of it is zero.
        let state = checkpoint(&stopped, "state.");
        assert!(!state.is_empty(), "{from}");
        for (name, part) in state {
            assert!(floats(&part).iter().all(|&number| number != 0.0), "{from}: {name}");
        }
        if number.is_multiple_of(copied) {
            let path = bench.path(&step.to_string());
            copy(&stopped, &path);
            let mut fit = Fit::resume(&path, None, &Device::Cpu).unwrap();
            assert_eq!(fit.train_on(&mut Nobody).unwrap(), End::Done, "{from}");
            assert_same(&path, &whole, &from);
        }
        fit = Fit::resume(&stopped, None, &Device::Cpu).unwrap();
        assert_eq!(fit.steps(), step);
    }
    assert_eq!(fit.train_on(&mut watch).unwrap(), End::Done);
    assert_same(&stopped, &whole, "from stop to stop");
    seen
}

#[test]
fn with_dropout_and_adam_at_every_tenth_step_of_two_hundred() {
    let bench = Bench::new();
    // 100 lines are 599 predictions: 25 windows of 4 x 6, the last of which is not full.
    bench.file("train.txt", text(100, 1));
    let valid = bench.file("valid.txt", text(30, 2));
    let toml = format!(
        "[data]
        valid = {valid:?}
        [model]
        embed = 8
        hidden = 8
        layers = 2
        tied = true
        [dropout]
        words = 0.1
        input = 0.2
        between = 0.2
        output = 0.2
        locked = true
        weight = 0.3
        zoneout_h = 0.1
        activation = 2
        temporal = 1
        [training]
        batch = 4
        time = 6
        epochs = 8
        rule = \"adam\"
        lr = 0.01
        decay = 0.01
        decoupled = true
        clip_norm = 1
        schedule = \"cosine\"
        warmup = 20"
    );
    let seen = stopped_everywhere(&bench, &bench.config("train.txt", &toml, &Config::default()), 1);
    // Three of nineteen are epochs' ends; the others lie at five places of an epoch.
    assert_eq!((seen.inside, seen.within), (16, BTreeSet::from([0, 5, 10, 15, 20])));
    assert_eq!(seen.kinds.get("optimizer"), Some(&19), "Adam keeps something");
}

#[test]
fn with_windows_that_vary_are_gathered_and_lie_in_a_file_and_a_mean_of_the_weights() {
    let bench = Bench::new();
    bench.file("train.txt", text(250, 3));
    let valid = bench.file("valid.txt", text(30, 4));
    let toml = format!(
        "[data]
        valid = {valid:?}
        memory = 0
        [model]
        cell = \"gru\"
        embed = 6
        hidden = 8
        [dropout]
        output = 0.2
        [training]
        batch = 4
        time = 8
        varied = true
        accumulate = 3
        epochs = 13
        lr = 4
        momentum = 0.5
        nesterov = true
        average = \"nt-asgd\"
        patience = 2
        evaluate_every = 7"
    );
    // Its many evaluations take time: three stops are copied, one before each of three windows.
    let seen = stopped_everywhere(&bench, &bench.config("train.txt", &toml, &Config::default()), 7);
    assert!(bench.path("whole/cache/train.ids").exists() && bench.path("whole/cache/valid.ids").exists());
    assert!(seen.inside > 10 && seen.within.len() > 10, "{} {:?}", seen.inside, seen.within);
    // Every seventh step is measured once, and the end.
    let measured = metrics(&bench.path("whole"));
    let steps: Vec<u64> = measured.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    let last = steps[steps.len() - 1];
    let want = (7..last).step_by(7).chain([last]);
    assert!(steps.iter().copied().eq(want), "{steps:?}");
    // Many stops are between the windows of a step; some are before the mean begins and some behind.
    assert!(seen.between > 8, "{}", seen.between);
    assert_eq!(seen.kinds.get("gradient"), Some(&seen.between));
    assert!(seen.kinds.get("average").is_some_and(|&stops| (2..18).contains(&stops)), "{:?}", seen.kinds);
}

#[test]
fn in_the_order_of_the_book_where_the_state_lives_longer_than_an_epoch() {
    let bench = Bench::new();
    // Nine tenths are 540 words: 25 windows of 3 x 7, and some are left over. The last tenth is measured on.
    bench.file("train.txt", text(100, 5));
    let toml = "
        [model]
        cell = \"rnn\"
        embed = 8
        hidden = 8
        [training]
        batch = 3
        time = 7
        order = \"book\"
        epochs = 8
        rule = \"rms-prop\"
        lr = 0.03
        beta2 = 0.9
        decay = 0.001
        schedule = \"plateau\"
        average = \"after\"
        patience = 95";
    let config = bench.config("train.txt", toml, &Config::default());
    let seen = stopped_everywhere(&bench, &config, 1);
    assert_eq!((seen.inside, seen.within), (16, BTreeSet::from([0, 5, 10, 15, 20])));
    assert_eq!(seen.kinds.get("average"), Some(&10));
    // The rate has fallen by the end: what it depends on went from stop to stop.
    let measured = metrics(&bench.path("whole"));
    assert!(measured[measured.len() - 1]["lr"].as_f64().unwrap() < 0.03, "{measured:?}");
}

#[test]
fn more_epochs_are_what_they_would_have_been_from_the_start() {
    let bench = Bench::new();
    // 25 windows of 4 x 6 an epoch; evaluations fall inside of epochs, and neither end falls on one.
    bench.file("train.txt", text(100, 1));
    let valid = bench.file("valid.txt", text(30, 2));
    for (name, rest) in [
        ("plateau", "schedule = \"plateau\"\ndivide = 2\nlr = 8"),
        ("nt-asgd", "average = \"nt-asgd\"\npatience = 1\nlr = 12"),
    ] {
        for measured in [format!("valid = {valid:?}"), "holdout = 0".into()] {
            let config = |epochs: usize| {
                let toml = format!(
                    "[data]\n{measured}\n[model]\nembed = 6\nhidden = 6
                    [training]\nbatch = 4\ntime = 6\nevaluate_every = 9\nepochs = {epochs}\n{rest}"
                );
                bench.config("train.txt", &toml, &Config::default())
            };
            let folder = |which: &str| format!("{name}-{}-{which}", measured.len());
            let whole = folder("whole");
            assert_eq!(bench.begin(&whole, &config(5)).train_on(&mut Nobody).unwrap(), End::Done);
            let short = folder("short");
            assert_eq!(bench.begin(&short, &config(2)).train_on(&mut Nobody).unwrap(), End::Done);
            let ended = metrics(&bench.path(&short));
            assert_eq!(ended[ended.len() - 1]["step"], 50, "the end is measured");
            let mut fit = Fit::resume(bench.path(&short), Some(5), &Device::Cpu).unwrap();
            assert_eq!(fit.train_on(&mut Nobody).unwrap(), End::Done);
            drop(fit);
            let [got, want] = [&short, &whole].map(|run| tensors(&bench.path(run).join(CHECKPOINT)));
            assert!(got == want, "{name}, {measured}: other weights, or another mean of them");
            // What was measured at the shorter end stands beside the rest; all other lines are the same.
            let lines = |run: &str| {
                let all = metrics(&bench.path(run)).into_iter().filter(|line| line["step"] != 50);
                all.map(|line| [line["step"].clone(), line["lr"].clone(), line["train_loss"].clone()])
                    .collect::<Vec<_>>()
            };
            assert_eq!(lines(&short), lines(&whole), "{name}, {measured}");
            if name == "plateau" {
                let last = &lines(&whole)[lines(&whole).len() - 1];
                assert!(last[1].as_f64().unwrap() < 8.0, "the rate has fallen: {last:?}");
            }
        }
    }
}

#[test]
fn a_cosine_ends_with_the_last_window_where_lengths_are_drawn() {
    let bench = Bench::new();
    bench.file("train.txt", text(100, 1));
    for seed in 1..=6 {
        let toml = format!(
            "[model]\nembed = 4\nhidden = 4\n[training]\nbatch = 2\ntime = 10\nvaried = true\nepochs = 7
            rule = \"adam\"\nlr = 0.01\nschedule = \"cosine\"\naccumulate = 2\nseed = {seed}"
        );
        let config = bench.config("train.txt", &toml, &Config::default());
        let mut fit = bench.begin(&seed.to_string(), &config);
        assert_eq!(fit.train_on(&mut Nobody).unwrap(), End::Done);
        let steps = fit.total_steps();
        assert_eq!(fit.steps(), steps, "seed {seed}");
        let lines = metrics(&bench.path(&seed.to_string()));
        let last = lines[lines.len() - 1]["lr"].as_f64().unwrap();
        // The step before the one at which it would be nothing.
        let want = 0.005 * (1.0 + (std::f64::consts::PI * (steps - 1) as f64 / steps as f64).cos());
        assert!((last - want).abs() < 1e-15, "seed {seed}: {last} {want}");
    }
}

#[test]
fn a_few_windows_before_an_end_say_nothing_of_the_weights_where_there_is_no_text_to_measure_on() {
    let bench = Bench::new();
    // The end of each epoch is one word over and over, which a few windows see alone.
    let easy = "the ".repeat(200);
    bench.file("train.txt", text(60, 1) + &easy);
    let config = |epochs: usize, every: usize| {
        let toml = format!(
            "[data]\ntokens = \"word\"\nholdout = 0\n[model]\nembed = 6\nhidden = 6
            [training]\nbatch = 1\ntime = 10\nrule = \"adam\"\nlr = 0.05\nepochs = {epochs}
            evaluate_every = {every}"
        );
        bench.config("train.txt", &toml, &Config::default())
    };
    let train = |run: &str, config: &Config| {
        assert_eq!(bench.begin(run, config).train_on(&mut Nobody).unwrap(), End::Done);
        bench.path(run)
    };
    let resume = |run: &Path, epochs: usize| {
        let mut fit = Fit::resume(run, Some(epochs), &Device::Cpu).unwrap();
        assert_eq!(fit.train_on(&mut Nobody).unwrap(), End::Done);
    };
    let first = train("first", &config(1, 1_000_000));
    let step = |run: &Path| metrics(run).last().unwrap()["step"].as_u64().unwrap() as usize;
    // Where nothing else was measured, the last weights are kept, and newer ones after them.
    assert!(weights(&first) == checkpoint(&first, "model."));
    let before = weights(&first);
    resume(&first, 2);
    assert!(weights(&first) == checkpoint(&first, "model.") && weights(&first) != before);
    assert!(metrics(&first).iter().all(|line| line["best"] == true));
    // An evaluation falls two windows before the end of an epoch, and the two are the easiest.
    let every = step(&train("one", &config(1, 1_000_000))) - 2;
    let short = train("short", &config(1, every));
    let lines = metrics(&short);
    let [due, end] = &lines[..] else { panic!("{lines:?}") };
    assert!(end["train_loss"].as_f64().unwrap() < due["train_loss"].as_f64().unwrap() / 2.0, "{lines:?}");
    assert_eq!([&due["best"], &end["best"]], [true, false], "{lines:?}");
    resume(&short, 5);
    let whole = train("whole", &config(5, every));
    assert!(weights(&short) == weights(&whole), "other weights than without the stop");
    assert!(metrics(&whole).iter().filter(|line| line["best"] == true).count() > 2);
}
