//! A training that stops and goes on has the bits of one that did not stop.

use candle_core::{DType, Device};
use rnn_core::{Penalty, Regularisers, Way};
use rnn_lm::data::{Batches, Streams, Varied};
use rnn_lm::model::{CellKind, Dropout, LanguageModel, LmSpec, build};
use rnn_lm::train::{
    Adam, Averaging, Checkpoint, Clip, Decay, NonMonotone, Optimizer, Rate, Schedule, Sgd, Trainer,
};
use std::path::Path;

const V: usize = 30;
const STEPS: usize = 200;

fn corpus() -> Vec<u32> {
    (0..401u32).map(|i| (i * i + i / 7) % V as u32).collect()
}

/// What makes a run, but for its seed.
struct Recipe {
    cell: CellKind,
    way: Way,
    dropout: Dropout,
    trainer: fn() -> Trainer,
}

impl Recipe {
    fn model(&self, seed: u64) -> Box<dyn LanguageModel> {
        let spec = LmSpec::new(V, 8, 8).layers(2).tied(true).dropout(self.dropout);
        build(self.cell, &spec, self.way, (DType::F32, &Device::Cpu), seed).unwrap()
    }

    /// Goes on to step `end`, with an evaluation after each epoch; after each step `f`.
    fn train(
        &self,
        (trainer, model): (&mut Trainer, &mut dyn LanguageModel),
        end: usize,
        mut f: impl FnMut(&Trainer, &dyn LanguageModel),
    ) {
        let ids = corpus();
        let streams = Varied::new(Streams::new(&ids, 4, 7).unwrap(), 3);
        while (trainer.steps() as usize) < end {
            let window = streams.window(trainer.epochs(), trainer.read()).unwrap();
            trainer.step(model, &window).unwrap();
            if trainer.read() == streams.windows(trainer.epochs()) {
                trainer.epoch_ends(model).unwrap();
                let loss = trainer.with_average(model, |model| Ok(model.evaluate(&ids, 16)?.loss())).unwrap();
                trainer.observe(loss);
            }
            f(trainer, model);
        }
    }
}

fn recipes() -> [Recipe; 4] {
    let dropout = Dropout {
        words: 0.1,
        input: 0.3,
        between: 0.2,
        output: 0.3,
        locked: true,
        recurrent: Regularisers { weight: 0.4, zoneout_h: 0.1, ..Regularisers::default() },
        penalty: Penalty { activation: 2.0, temporal: 1.0 },
    };
    let adam = || {
        let adam = Optimizer::new(Adam::default(), 0.01).clip(Clip::Norm(1.0));
        Trainer::new(adam.decay(Decay::Decoupled(0.01)))
            .rate(Rate::new(0.01, Schedule::Cosine { warmup: 30, steps: 220 }).unwrap())
            .averaging(Averaging::After(90))
    };
    let sgd = || {
        let sgd = Optimizer::new(Sgd { momentum: 0.5, nesterov: true }, 0.3).clip(Clip::Value(0.1));
        Trainer::new(sgd)
            .rate(Rate::new(4.0, Schedule::Plateau { divide: 1.2 }).unwrap())
            .averaging(Averaging::NonMonotone(NonMonotone::new(0)))
    };
    // Three windows a step: a checkpoint falls behind a step, or between its windows.
    let accumulating = || {
        let adam = Optimizer::new(Adam::default(), 0.01).clip(Clip::Norm(1.0));
        Trainer::new(adam).averaging(Averaging::After(90)).accumulate(3).unwrap()
    };
    [
        Recipe { cell: CellKind::Lstm, way: Way::Fused, dropout, trainer: adam },
        // The chain, whose state is buffers.
        Recipe { cell: CellKind::Lstm, way: Way::Fused, dropout: Dropout::default(), trainer: sgd },
        Recipe { cell: CellKind::Gru, way: Way::Manual, dropout: Dropout::everywhere(0.5), trainer: sgd },
        Recipe { cell: CellKind::Rnn, way: Way::Fused, dropout: Dropout::default(), trainer: accumulating },
    ]
}

fn bits(model: &dyn LanguageModel) -> Vec<u32> {
    let numbers = |(_, var): &(String, candle_core::Var)| var.flatten_all()?.to_vec1::<f32>();
    model.parameters().iter().flat_map(|named| numbers(named).unwrap()).map(f32::to_bits).collect()
}

#[test]
fn at_every_tenth_step_of_two_hundred() {
    let folder = tempfile::tempdir().unwrap();
    for (number, recipe) in recipes().into_iter().enumerate() {
        let (mut trainer, mut model) = ((recipe.trainer)(), recipe.model(1));
        // Of three windows a step there is three times as much to do again.
        let every = if number == 3 { 30 } else { 10 };
        let mut written = Vec::new();
        recipe.train((&mut trainer, model.as_mut()), STEPS, |trainer, model| {
            let step = trainer.steps() as usize;
            if step > 0 && step < STEPS && step.is_multiple_of(every) {
                let file = folder.path().join(format!("{number}.{}", written.len()));
                trainer.checkpoint(model).unwrap().write(&file).unwrap();
                written.push((step, file));
            }
        });
        let places = (STEPS - 1) / every;
        // The last step of an epoch may have fewer.
        let all = if number == 3 { 2 * places + 1..=3 * places } else { places..=places };
        assert!(all.contains(&written.len()), "recipe {number}: {}", written.len());
        let want = bits(model.as_ref());
        let mean = |trainer: &Trainer, model: &mut dyn LanguageModel| {
            trainer.with_average(model, |model| Ok(bits(model))).unwrap()
        };
        let want_mean = mean(&trainer, model.as_mut());
        assert!(want_mean != want, "recipe {number} has a mean of its weights");
        for (step, file) in written {
            let checkpoint = Checkpoint::read(file).unwrap();
            // What was learnt in other steps is all replaced; the seed of the masks is the run's.
            let (mut trainer, mut model) = ((recipe.trainer)(), recipe.model(1));
            recipe.train((&mut trainer, model.as_mut()), 3, |_, _| ());
            trainer.resume(model.as_mut(), &checkpoint).unwrap();
            recipe.train((&mut trainer, model.as_mut()), STEPS, |_, _| ());
            assert!(bits(model.as_ref()) == want, "recipe {number} from step {step}");
            assert!(
                mean(&trainer, model.as_mut()) == want_mean,
                "recipe {number} from step {step}, the mean"
            );
        }
    }
}

/// A checkpoint of a short run, and its file.
fn checkpoint(recipe: &Recipe, path: &Path) {
    let (mut trainer, mut model) = ((recipe.trainer)(), recipe.model(1));
    recipe.train((&mut trainer, model.as_mut()), 12, |_, _| ());
    trainer.checkpoint(model.as_ref()).unwrap().write(path).unwrap();
}

#[test]
fn a_file_that_is_damaged_or_of_another_model_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    let [recipe, ..] = recipes();
    checkpoint(&recipe, &path);
    let whole = std::fs::read(&path).unwrap();
    let reading = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Checkpoint::read(&path).map(|_| ()).unwrap_err().to_string()
    };
    for cut in [0, 1, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        assert!(reading(&whole[..cut]).contains("a checkpoint of a training"), "cut at {cut}");
    }
    for at in (0..whole.len()).step_by(whole.len() / 97) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        reading(&flipped);
    }

    std::fs::write(&path, &whole).unwrap();
    let read = Checkpoint::read(&path).unwrap();
    let other = LmSpec::new(V, 8, 8).layers(1).tied(true);
    let mut model = build(CellKind::Lstm, &other, Way::Fused, (DType::F32, &Device::Cpu), 1).unwrap();
    let before = bits(model.as_ref());
    let mut trainer = (recipe.trainer)();
    let error = trainer.resume(model.as_mut(), &read).unwrap_err().to_string();
    assert!(error.contains("got rnn.bias_hh_l1, rnn.bias_ih_l1, "), "{error}");
    assert!(bits(model.as_ref()) == before);
    let wider = LmSpec::new(V, 9, 9).layers(2).tied(true);
    let mut model = build(CellKind::Lstm, &wider, Way::Fused, (DType::F32, &Device::Cpu), 1).unwrap();
    let before = bits(model.as_ref());
    let error = trainer.resume(model.as_mut(), &read).unwrap_err().to_string();
    assert!(error.contains("model.embedding.weight: expected [30, 9] f32, got [30, 8] f32"), "{error}");
    assert!(bits(model.as_ref()) == before && model.state().unwrap().is_empty());
    // A rule that keeps nothing, and one that takes no mean.
    let (mut trainer, mut model) = ((recipe.trainer)().averaging(Averaging::After(3)), recipe.model(1));
    recipe.train((&mut trainer, model.as_mut()), 12, |_, _| ());
    let read = trainer.checkpoint(model.as_ref()).unwrap();
    for (mut trainer, what) in [
        (Trainer::new(Optimizer::new(Sgd::default(), 0.1)), "of the optimizer, got mean.embedding.weight"),
        ((recipe.trainer)().averaging(Averaging::Never), "no mean of the weights, which is never taken"),
    ] {
        let mut model = recipe.model(2);
        let before = bits(model.as_ref());
        let error = trainer.resume(model.as_mut(), &read).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert!(bits(model.as_ref()) == before && trainer.steps() == 0);
    }
    // A mean that has just begun, and none taken yet.
    let rule = Averaging::NonMonotone(NonMonotone::new(1));
    let (mut trainer, mut model) = ((recipe.trainer)().averaging(rule), recipe.model(1));
    for loss in [3.0, 2.0, 4.0] {
        trainer.observe(loss);
    }
    let read = trainer.checkpoint(model.as_ref()).unwrap();
    let never = (recipe.trainer)().averaging(Averaging::Never).resume(model.as_mut(), &read);
    assert!(never.unwrap_err().to_string().contains("no mean of the weights, which is never taken"));
    // Windows that wait for more than make a step there.
    let recipe = &recipes()[3];
    let (mut trainer, mut model) = ((recipe.trainer)(), recipe.model(1));
    for number in 0..2 {
        let window = Streams::new(&corpus(), 4, 7).unwrap().window(0, number).unwrap();
        trainer.step(model.as_mut(), &window).unwrap();
    }
    let read = trainer.checkpoint(model.as_ref()).unwrap();
    for (every, fits) in [(1, false), (2, false), (3, true)] {
        let (mut trainer, mut model) = ((recipe.trainer)().accumulate(every).unwrap(), recipe.model(2));
        let before = bits(model.as_ref());
        match trainer.resume(model.as_mut(), &read) {
            Ok(()) => assert!(fits && bits(model.as_ref()) != before, "{every}"),
            Err(error) => {
                let want = format!("fewer windows waiting for a step than the {every} that make one, got 2");
                assert!(!fits && error.to_string().contains(&want), "{every}: {error}");
                assert!(bits(model.as_ref()) == before);
            }
        }
    }
}

/// A model that takes no time, and plain steps.
fn small(averaging: Averaging) -> (Trainer, Box<dyn LanguageModel>) {
    let spec = LmSpec::new(V, 4, 4);
    let model = build(CellKind::Lstm, &spec, Way::Fused, (DType::F32, &Device::Cpu), 1).unwrap();
    (Trainer::new(Optimizer::new(Sgd::default(), 1.0)).averaging(averaging), model)
}

#[test]
fn a_loss_that_is_not_finite_is_taken_in_and_gone_on_from() {
    let ids = corpus();
    let file = tempfile::NamedTempFile::new().unwrap();
    let make = || {
        let (trainer, model) = small(Averaging::NonMonotone(NonMonotone::new(1)));
        (trainer.rate(Rate::new(1.0, Schedule::Plateau { divide: 2.0 }).unwrap()), model)
    };
    let losses = [f64::INFINITY, f64::INFINITY, f64::NAN, 5.0, f64::NAN, 4.0, f64::INFINITY];
    let train = |stops: bool| {
        let (mut trainer, mut model) = make();
        let streams = Streams::new(&ids, 4, 7).unwrap();
        let mut seen = Vec::new();
        for (k, loss) in losses.into_iter().enumerate() {
            trainer.step(model.as_mut(), &streams.window(0, k).unwrap()).unwrap();
            let best = trainer.observe(loss);
            if stops {
                trainer.checkpoint(model.as_ref()).unwrap().write(file.path()).unwrap();
                (trainer, model) = make();
                trainer.resume(model.as_mut(), &Checkpoint::read(file.path()).unwrap()).unwrap();
            }
            seen.push((best, trainer.lr(), trainer.best(), trainer.since_best()));
        }
        trainer.checkpoint(model.as_ref()).unwrap().write(file.path()).unwrap();
        (seen, std::fs::read(file.path()).unwrap())
    };
    let (seen, bytes) = train(false);
    let best: Vec<_> = seen.iter().map(|&(best, ..)| best).collect();
    assert_eq!(best, [false, false, false, true, false, true, false]);
    assert_eq!(train(true), (seen, bytes));
}

#[test]
fn a_mean_that_was_to_have_begun_begins_where_a_training_without_one_goes_on() {
    let ids = corpus();
    let streams = Streams::new(&ids, 4, 7).unwrap();
    let (mut trainer, mut model) = small(Averaging::Never);
    for k in 0..3 {
        trainer.step(model.as_mut(), &streams.window(0, k).unwrap()).unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    trainer.checkpoint(model.as_ref()).unwrap().write(file.path()).unwrap();
    let (mut trainer, mut model) = small(Averaging::After(2));
    trainer.resume(model.as_mut(), &Checkpoint::read(file.path()).unwrap()).unwrap();
    let last = |model: &dyn LanguageModel| model.parameters()[0].1.flatten_all().unwrap().to_vec1::<f32>();
    for k in 3..5 {
        trainer.step(model.as_mut(), &streams.window(0, k).unwrap()).unwrap();
    }
    let own = last(model.as_ref()).unwrap();
    let mean = trainer.with_average(model.as_mut(), |model| Ok(last(model)?)).unwrap();
    assert_ne!(own, mean);
}
