//! A run is the loop that somebody writes by hand who has read what its settings say: the same weights, to the bit, and the
//! same numbers in its metrics.

use super::*;
use candle_core::DType;
use rnn_core::{Bias, Penalty, Regularisers, Scheme, Way};
use rnn_lm::LanguageModel;
use rnn_lm::data::{Batches, BookBatches, Streams, Varied};
use rnn_lm::evaluate::Order;
use rnn_lm::layers::Cutoffs;
use rnn_lm::model::{CellKind, Dropout, LmSpec, build};
use rnn_lm::train::{
    Adam, Averaging, Clip, Decay, NonMonotone, Optimizer, Rate, RmsProp, Schedule, Sgd, Trainer,
};
use serde_json::json;

/// What was made by hand.
struct Hand<B> {
    model: Box<dyn LanguageModel>,
    trainer: Trainer,
    batches: B,
    /// N
    batch: usize,
    epochs: usize,
    /// Steps between two evaluations, 0 for one an epoch.
    every: u64,
}

impl<B: Batches> Hand<B> {
    /// The weights that measured best, and what was measured.
    fn train(mut self, valid: &[u32]) -> (BTreeMap<String, Vec<u8>>, Vec<Value>) {
        let (model, trainer) = (self.model.as_mut(), &mut self.trainer);
        let (mut kept, mut lines, mut lowest) = (BTreeMap::new(), Vec::new(), f64::INFINITY);
        let (mut tokens, mut nats, mut targets) = (0, 0.0, 0);
        for epoch in 1..=self.epochs {
            let count = self.batches.windows(epoch - 1);
            for number in 1..=count {
                let window = self.batches.window(epoch - 1, number - 1).unwrap();
                let (before, lr) = (trainer.steps(), trainer.lr());
                let loss = trainer.step(model, &window).unwrap();
                nats += (loss - model.penalty()) * window.targets as f64;
                (targets, tokens) = (targets + window.targets, tokens + window.targets);
                if number == count {
                    trainer.epoch_ends(model).unwrap();
                }
                let step = trainer.steps();
                let due = match self.every {
                    0 => number == count,
                    every => {
                        step > before && step.is_multiple_of(every) || number == count && epoch == self.epochs
                    }
                };
                if !due {
                    continue;
                }
                let order = Order::Streams { batch: self.batch };
                let measure = |model: &mut dyn LanguageModel| {
                    let weights = |(name, var): (String, candle_core::Var)| {
                        let numbers = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                        (name, numbers.into_iter().flat_map(f32::to_le_bytes).collect())
                    };
                    let weights = model.parameters().into_iter().map(weights).collect();
                    Ok((order.evaluate(model, valid, 64, None)?.loss(), weights))
                };
                let (loss, weights) = trainer.with_average(model, measure).unwrap();
                trainer.observe(loss);
                let best = loss < lowest;
                if best {
                    (lowest, kept) = (loss, weights);
                }
                lines.push(json!({
                    "step": step, "epoch": epoch, "tokens": tokens, "lr": lr, "train_loss": nats / targets as f64,
                    "valid_loss": loss, "best": best,
                }));
                (nats, targets) = (0.0, 0);
            }
        }
        (kept, lines)
    }
}

/// Texts, and a run in them. What is made by hand of its vocabulary's size and its ids has to be the same.
fn assert_same<B: Batches>(toml: &str, hand: impl FnOnce(usize, &'static [u32]) -> Hand<B>) {
    let bench = Bench::new();
    bench.file("train.txt", text(60, 1));
    let mut config = bench.config("train.txt", toml, &Config::default());
    config.data.valid = bench.file("valid.txt", text(20, 2));
    let mut fit = bench.begin("run", &config);
    let ids = |ids: &rnn_lm::run::Ids| ids.some().unwrap().into_owned();
    let (train, valid) = (ids(fit.train()).leak(), ids(fit.valid().unwrap()));
    let vocabulary = fit.run().tokenizer.len();
    assert_eq!(fit.train_on(&mut Nobody).unwrap(), End::Done);
    let (kept, lines) = hand(vocabulary, train).train(&valid);
    assert_eq!(metrics(&bench.path("run")), lines);
    let run = weights(&bench.path("run"));
    assert_eq!(apart(&run, &kept), Some(0.0), "names and numbers");
    assert!(run == kept);
}

fn model(cell: CellKind, spec: &LmSpec, seed: u64) -> Box<dyn LanguageModel> {
    build(cell, spec, Way::Fused, (DType::F32, &Device::Cpu), seed).unwrap()
}

#[test]
fn by_gradient_descent_with_everything_that_can_be_dropped() {
    let toml = "
        [model]
        cell = \"gru\"
        embed = 7
        hidden = 8
        layers = 2
        last = 6
        bias = \"none\"
        init = \"uniform\"
        init_range = 0.15
        [dropout]
        words = 0.05
        input = 0.1
        between = 0.15
        output = 0.2
        weight = 0.25
        recurrent = 0.3
        zoneout_h = 0.35
        activation = 1.5
        temporal = 2.5
        [training]
        batch = 3
        time = 8
        epochs = 4
        lr = 1.5
        momentum = 0.6
        nesterov = true
        decay = 0.001
        clip_norm = 0
        clip_value = 0.05
        schedule = \"decay\"
        divide = 1.5
        after = 2
        average = \"after\"
        patience = 20
        seed = 5";
    assert_same(toml, |vocabulary, ids| {
        let dropout = Dropout {
            words: 0.05,
            input: 0.1,
            between: 0.15,
            output: 0.2,
            locked: false,
            recurrent: Regularisers {
                weight: 0.25,
                recurrent: 0.3,
                zoneout_h: 0.35,
                ..Regularisers::default()
            },
            penalty: Penalty { activation: 1.5, temporal: 2.5 },
        };
        let spec =
            LmSpec::new(vocabulary, 7, 8).layers(2).last(6).bias(Bias::None).init(Scheme::Uniform(0.15));
        let sgd = Optimizer::new(Sgd { momentum: 0.6, nesterov: true }, 1.5);
        let trainer = Trainer::new(sgd.decay(Decay::Coupled(0.001)).clip(Clip::Value(0.05)))
            .rate(Rate::new(1.5, Schedule::Decay { after: 2, divide: 1.5 }).unwrap())
            .averaging(Averaging::After(20));
        Hand {
            model: model(CellKind::Gru, &spec.dropout(dropout), 5),
            trainer,
            batches: Streams::new(ids, 3, 8).unwrap(),
            batch: 3,
            epochs: 4,
            every: 0,
        }
    });
}

#[test]
fn by_adam_with_windows_that_vary_and_are_gathered() {
    let toml = "
        [model]
        embed = 8
        hidden = 8
        layers = 2
        bias = \"both\"
        init = \"pytorch\"
        tied = true
        [dropout]
        input = 0.1
        between = 0.2
        output = 0.3
        locked = true
        zoneout_c = 0.15
        [training]
        batch = 4
        time = 9
        varied = true
        accumulate = 2
        epochs = 5
        rule = \"adam\"
        lr = 0.02
        beta1 = 0.8
        beta2 = 0.95
        decay = 0.02
        decoupled = true
        clip_norm = 0.05
        schedule = \"cosine\"
        warmup = 5
        evaluate_every = 3
        seed = 3";
    assert_same(toml, |vocabulary, ids| {
        let recurrent = Regularisers { zoneout_c: 0.15, ..Regularisers::default() };
        let dropout =
            Dropout { input: 0.1, between: 0.2, output: 0.3, locked: true, recurrent, ..Dropout::default() };
        let spec = LmSpec::new(vocabulary, 8, 8).layers(2).bias(Bias::Both).init(Scheme::Pytorch).tied(true);
        let batches = Varied::new(Streams::new(ids, 4, 9).unwrap(), 3);
        let steps = (0..5).map(|epoch| batches.windows(epoch).div_ceil(2) as u64).sum();
        let adam = Optimizer::new(Adam { beta1: 0.8, beta2: 0.95, ..Adam::default() }, 0.02);
        let trainer = Trainer::new(adam.decay(Decay::Decoupled(0.02)).clip(Clip::Norm(0.05)))
            .rate(Rate::new(0.02, Schedule::Cosine { warmup: 5, steps }).unwrap())
            .accumulate(2)
            .unwrap();
        let model = model(CellKind::Lstm, &spec.dropout(dropout), 3);
        Hand { model, trainer, batches, batch: 4, epochs: 5, every: 3 }
    });
}

#[test]
fn by_rms_prop_in_the_order_of_the_book_with_an_adaptive_softmax() {
    let toml = "
        [model]
        cell = \"rnn\"
        embed = 8
        hidden = 10
        bias = \"single\"
        init = \"book\"
        cutoffs = [5, 12]
        [training]
        batch = 5
        time = 7
        order = \"book\"
        epochs = 9
        rule = \"rms-prop\"
        lr = 0.1
        beta2 = 0.9
        clip_norm = 0.5
        schedule = \"plateau\"
        divide = 1.2
        average = \"nt-asgd\"
        patience = 1";
    assert_same(toml, |vocabulary, ids| {
        let spec = LmSpec::new(vocabulary, 8, 10).bias(Bias::Single).init(Scheme::Book);
        let rms_prop = Optimizer::new(RmsProp { alpha: 0.9, ..RmsProp::default() }, 0.1);
        let trainer = Trainer::new(rms_prop.clip(Clip::Norm(0.5)))
            .rate(Rate::new(0.1, Schedule::Plateau { divide: 1.2 }).unwrap())
            .averaging(Averaging::NonMonotone(NonMonotone::new(1)));
        Hand {
            model: model(CellKind::Rnn, &spec.adaptive(Cutoffs::new(&[5, 12]).unwrap()), 1),
            trainer,
            batches: BookBatches::new(ids, 5, 7).unwrap(),
            batch: 5,
            epochs: 9,
            every: 0,
        }
    });
}
