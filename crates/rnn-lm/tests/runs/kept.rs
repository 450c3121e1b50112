//! Which weights a run keeps: those that measured best, and of a training with a mean of the weights the mean.

use super::*;
use candle_core::{DType, Var};
use rnn_core::Way;
use rnn_lm::LanguageModel;
use rnn_lm::data::{Batches, Streams};
use rnn_lm::evaluate::Order;
use rnn_lm::model::{CellKind, LmSpec, build};
use rnn_lm::run::{Measured, Run, Stepped};
use rnn_lm::train::{Averaging, Optimizer, Sgd, Trainer};

/// Learns 20 lines by heart, and others get worse meanwhile.
const BY_HEART: &str = "
    [model]
    embed = 16
    hidden = 16
    [training]
    batch = 4
    time = 6
    epochs = 16
    rule = \"adam\"
    lr = 0.02
    clip_norm = 1";

impl Bench {
    pub(super) fn by_heart(&self, with: &str) -> Config {
        self.file("train.txt", text(20, 1));
        let base = self.config("train.txt", BY_HEART, &Config::default());
        let mut config = self.config("train.txt", with, &base);
        config.data.valid = self.file("valid.txt", text(30, 2));
        config
    }

    /// The loss of a run's weights on the text to measure on, as a training measures it.
    pub(super) fn loss(&self, run: &Path) -> f64 {
        let run = Run::open(run).unwrap();
        let ids = run.tokenizer.encode(text(30, 2).as_bytes()).unwrap();
        let model = run.model(Way::Fused, &Device::Cpu).unwrap();
        let order = Order::Streams { batch: run.config.training.batch };
        order.evaluate(model.as_ref(), &ids, 64, None).unwrap().loss()
    }
}

fn least(losses: &[f64]) -> f64 {
    losses.iter().copied().fold(f64::INFINITY, f64::min)
}

#[test]
fn the_weights_that_measured_best_and_not_the_last_ones() {
    let bench = Bench::new();
    let run = bench.train("run", &bench.by_heart(""));
    let losses = losses(&run);
    let (best, last) = (least(&losses), losses[losses.len() - 1]);
    assert!(losses.len() == 16 && last > best + 0.1, "{losses:?}");
    let kept = bench.loss(&run);
    assert!((kept - best).abs() < 1e-6, "{kept} of {losses:?}");
    // A line says whether it was the best so far.
    for (k, line) in metrics(&run).iter().enumerate() {
        assert_eq!(line["best"], losses[k] < least(&losses[..k]), "line {k} of {losses:?}");
    }
    assert!(weights(&run) != checkpoint(&run, "model."), "those are the last ones");
}

/// What the checkpoint of the best evaluation so far has.
struct Best {
    run: PathBuf,
    model: BTreeMap<String, Vec<u8>>,
    average: BTreeMap<String, Vec<u8>>,
    count: usize,
}

impl Watch for Best {
    fn measured(&mut self, measured: &Measured, _: &dyn LanguageModel) {
        self.count += 1;
        if measured.best {
            (self.model, self.average) = (checkpoint(&self.run, "model."), checkpoint(&self.run, "average."));
        }
    }
}

#[test]
fn the_mean_of_the_weights_where_there_is_one() {
    // It begins with the first step, with the sixth, and once evaluations get no better.
    for (name, average) in [
        ("first", "average = \"after\""),
        ("sixth", "average = \"after\"\npatience = 5"),
        ("later", "average = \"nt-asgd\"\npatience = 0\nevaluate_every = 2\nrule = \"sgd\"\nlr = 8"),
    ] {
        let bench = Bench::new();
        let config = bench.by_heart(&format!("[training]\n{average}"));
        let (mut fit, run) = (bench.begin(name, &config), bench.path(name));
        let (model, average) = (BTreeMap::new(), BTreeMap::new());
        let mut best = Best { run: run.clone(), model, average, count: 0 };
        assert_eq!(fit.train_on(&mut best).unwrap(), End::Done);
        drop(fit);
        assert_eq!(best.count, metrics(&run).len());
        let kept = weights(&run);
        assert!(!best.average.is_empty(), "{name}: the best evaluation is of a mean");
        assert!(kept == best.average, "{name}: what is kept is not the mean");
        assert!(apart(&kept, &best.model).unwrap() > 1e-3, "{name}: the mean is the last step's weights");
        // What was measured is the mean too.
        let (got, want) = (bench.loss(&run), least(&losses(&run)));
        assert!((got - want).abs() < 1e-6, "{name}: {got} {want}");
    }
}

#[test]
fn the_last_step_s_weights_where_there_is_no_mean() {
    let bench = Bench::new();
    let config = bench.by_heart("[training]\nepochs = 1");
    let run = bench.train("run", &config);
    assert!(checkpoint(&run, "average.").is_empty());
    assert!(weights(&run) == checkpoint(&run, "model."));
}

/// The mean of these steps' weights, one number after the other.
fn mean(steps: &[Vec<f64>]) -> Vec<f64> {
    (0..steps[0].len()).map(|k| steps.iter().map(|step| step[k]).sum::<f64>() / steps.len() as f64).collect()
}

fn off(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    // `f64::max` drops what is not a number.
    let larger = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, larger)
}

#[test]
fn two_steps_before_the_mean_begins_are_two() {
    let ids: Vec<u32> = (0..101).map(|i| (i * i + i / 3) % 7).collect();
    let spec = LmSpec::new(7, 4, 5);
    let mut model = build(CellKind::Lstm, &spec, Way::Fused, (DType::F64, &Device::Cpu), 1).unwrap();
    let sgd = Optimizer::new(Sgd::default(), 0.5);
    let mut trainer = Trainer::new(sgd).averaging(Averaging::After(2));
    let numbers = |model: &dyn LanguageModel| -> Vec<f64> {
        let of = |(_, var): (String, Var)| var.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        model.parameters().into_iter().flat_map(of).collect()
    };
    let mut steps = Vec::new();
    for window in Streams::new(&ids, 2, 5).unwrap().epoch(0).take(6) {
        trainer.step(model.as_mut(), &window.unwrap()).unwrap();
        steps.push(numbers(model.as_ref()));
        let got = trainer.with_average(model.as_mut(), |model| Ok(numbers(model))).unwrap();
        // Without a mean it is the model itself that is measured and kept; after the third step the mean of one.
        let want = if steps.len() < 3 { steps[steps.len() - 1].clone() } else { mean(&steps[2..]) };
        assert!(off(&got, &want) < 1e-12, "after step {}: {:e}", steps.len(), off(&got, &want));
        assert_eq!(numbers(model.as_ref()), steps[steps.len() - 1], "it has its own weights again");
    }
    assert_eq!(steps.len(), 6);
    let got = trainer.with_average(model.as_mut(), |model| Ok(numbers(model))).unwrap();
    for others in [&steps[1..], &steps[3..], &steps[2..5], &steps[..]] {
        assert!(off(&got, &mean(others)) > 1e-6, "a mean of {} others is as near", others.len());
    }
}

/// Keeps the weights after each step.
struct Steps(Vec<BTreeMap<String, Vec<f64>>>);

impl Watch for Steps {
    fn stepped(&mut self, at: &Stepped, model: &dyn LanguageModel) {
        assert_eq!(at.step as usize, self.0.len() + 1);
        let of = |(name, var): (String, Var)| {
            let numbers = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            (name, numbers.into_iter().map(f64::from).collect())
        };
        self.0.push(model.parameters().into_iter().map(of).collect());
    }
}

#[test]
fn the_setting_patience_is_the_number_of_steps_before_the_mean() {
    let bench = Bench::new();
    let config = bench.by_heart("[training]\nepochs = 2\naverage = \"after\"\npatience = 5");
    let mut steps = Steps(Vec::new());
    assert_eq!(bench.begin("run", &config).train_on(&mut steps).unwrap(), End::Done);
    let means = checkpoint(&bench.path("run"), "average.");
    assert!(steps.0.len() == 10 && means.len() == steps.0[0].len(), "{} steps", steps.0.len());
    for (name, got) in means {
        let got: Vec<f64> = floats(&got).into_iter().map(f64::from).collect();
        let of: Vec<Vec<f64>> = steps.0.iter().map(|step| step[&name].clone()).collect();
        assert!(off(&got, &mean(&of[5..])) < 1e-6, "{name}: {:e}", off(&got, &mean(&of[5..])));
        for others in [4, 6] {
            assert!(off(&got, &mean(&of[others..])) > 1e-4, "{name}: {others} steps before it");
        }
    }
}

#[test]
fn a_mean_leaves_what_is_learnt_as_it_is() {
    let bench = Bench::new();
    let train = |name: &str, average: &str| {
        bench.train(name, &bench.by_heart(&format!("[training]\nepochs = 3\nevaluate_every = 2\n{average}")))
    };
    let (without, with) = (train("without", ""), train("with", "average = \"after\"\npatience = 5"));
    assert!(checkpoint(&without, "model.") == checkpoint(&with, "model."), "the weights of the last step");
    assert!(weights(&without) != weights(&with), "what is kept");
    let (without, with) = (losses(&without), losses(&with));
    assert_eq!(without[..2], with[..2], "before there is a mean");
    assert_ne!(without[2..], with[2..]);
}
