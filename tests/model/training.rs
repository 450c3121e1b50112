//! Training in the three ways: the same losses, the same gradients, and errors that spoil nothing.

use crate::numbers::off;
use candle_core::{DType, Device, Tensor, Var};
use rnn_core::{Bias, LstmCell, Scheme, Way, last_ran, reset_last_ran};
use rnn_lm::data::{Batches, IGNORE, Streams, Window};
use rnn_lm::layers::TimeSoftmaxWithLoss;
use rnn_lm::model::{CellKind, LanguageModel, LmSpec, Rnnlm, build};
use rnn_lm::train::{Clip, Optimizer, Rate, Schedule, Sgd, Trainer};
use rnn_lm::{Error, Result};

const CELLS: [CellKind; 3] = [CellKind::Rnn, CellKind::Lstm, CellKind::Gru];
const WAYS: [Way; 3] = [Way::Reference, Way::Manual, Way::Fused];
const V: usize = 30;

fn sgd() -> Optimizer {
    Optimizer::new(Sgd::default(), 0.3).clip(Clip::Norm(1.0))
}

fn spec(layers: usize, bias: Bias) -> LmSpec {
    LmSpec::new(V, 8, 12).layers(layers).bias(bias).init(Scheme::Book)
}

fn model(cell: CellKind, way: Way, dtype: DType, bias: Bias) -> Box<dyn LanguageModel> {
    let layers = if cell == CellKind::Lstm { 2 } else { 1 };
    build(cell, &spec(layers, bias), way, (dtype, &Device::Cpu), 5).unwrap()
}

fn corpus() -> Vec<u32> {
    (0..401u32).map(|i| (i * i + i / 7) % V as u32).collect()
}

fn step(model: &mut dyn LanguageModel, window: &Window) -> Result<f64> {
    let loss = model.forward(window)?;
    model.backward()?;
    model.update(&mut sgd())?;
    Ok(loss)
}

fn weights(model: &dyn LanguageModel) -> Vec<Vec<f64>> {
    let numbers = |var: &Var| var.flatten_all()?.to_dtype(DType::F64)?.to_vec1();
    model.parameters().iter().map(|(_, var)| numbers(var).unwrap()).collect()
}

fn bits(model: &dyn LanguageModel) -> Vec<u64> {
    weights(model).concat().iter().map(|x| x.to_bits()).collect()
}

fn window() -> Window {
    let mut window = Streams::new(&corpus(), 4, 7).unwrap().window(0, 0).unwrap();
    for at in [0, 9, 27] {
        window.ts[at] = IGNORE;
        window.targets -= 1;
    }
    window
}

#[test]
fn loss_curves_agree() {
    let ids = corpus();
    let streams = Streams::new(&ids, 4, 7).unwrap();
    for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::F64, 1e-9)] {
        for cell in CELLS {
            let curve = |way| {
                let mut model = model(cell, way, dtype, Bias::Both);
                reset_last_ran();
                let windows = streams.endless().take(200);
                let losses: Vec<f64> =
                    windows.map(|window| step(model.as_mut(), &window.unwrap()).unwrap()).collect();
                assert_eq!(model.way(), way);
                assert_eq!(last_ran(), Some(way));
                losses
            };
            let [reference, manual, fused] = WAYS.map(curve);
            assert!(reference[199] < reference[0]);
            for (i, want) in reference.iter().enumerate() {
                for got in [manual[i], fused[i]] {
                    assert!((got - want).abs() <= tolerance * want, "{cell} {dtype:?} {i}: {got} {want}");
                }
            }
        }
    }
}

#[test]
fn gradients_agree_by_name() {
    for cell in CELLS {
        for bias in [Bias::None, Bias::Single, Bias::Both] {
            let gradients = |way| {
                let mut model = model(cell, way, DType::F64, bias);
                model.forward(&window()).unwrap();
                model.backward().unwrap();
                model.gradients().unwrap()
            };
            let [reference, manual, fused] = WAYS.map(gradients);
            for got in [manual, fused] {
                assert_eq!(got.len(), reference.len());
                for ((name, got), (want_name, want)) in got.iter().zip(&reference) {
                    assert_eq!(name, want_name);
                    let difference = off(got, want);
                    assert!(difference <= 1e-12, "{cell} {bias:?} {name}: {difference}");
                }
            }
        }
    }
}

#[test]
fn the_loss_through_autograd_is_the_same() {
    let (spec, window) = (spec(2, Bias::Both), window());
    let mut model = Rnnlm::<LstmCell>::new(&spec, Way::Fused, (DType::F64, &Device::Cpu), 5).unwrap();
    let want = model.forward(&window).unwrap();
    model.backward().unwrap();
    let ids = Tensor::from_slice(&window.xs, (4, 7), &Device::Cpu).unwrap();
    let (loss, _) = model.loss(&ids, &window.ts, &model.zero_state(4).unwrap()).unwrap();
    assert!((loss.to_scalar::<f64>().unwrap() - want).abs() < 1e-12);
    let store = loss.backward().unwrap();
    for ((name, var), (_, want)) in model.parameters().iter().zip(model.gradients().unwrap()) {
        let difference = off(store.get(var.as_tensor()).unwrap(), &want);
        assert!(difference <= 1e-12, "{name}: {difference}");
    }
}

#[test]
fn tied_weights_are_one_parameter_with_both_gradients() {
    let spec = LmSpec::new(V, 12, 12).layers(2);
    let gradients = |way, spec: &LmSpec| {
        let mut model = build(CellKind::Gru, spec, way, (DType::F64, &Device::Cpu), 5).unwrap();
        let loss = model.forward(&window()).unwrap();
        model.backward().unwrap();
        let gradients = model.gradients().unwrap();
        // The weights after a step too: whoever reads them reads the one table.
        model.update(&mut sgd()).unwrap();
        (loss, gradients, weights(model.as_ref()), model.evaluate(&corpus(), 16).unwrap().perplexity())
    };
    let (loss, want, after, perplexity) = gradients(Way::Reference, &spec.tied(true));
    let names: Vec<&str> = want.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[names.len() - 1], names.len()), ("embedding.weight", "affine.bias", 10));
    for way in [Way::Manual, Way::Fused] {
        let (other, got, their_after, their_perplexity) = gradients(way, &spec.tied(true));
        assert!((loss - other).abs() < 1e-12 && (perplexity / their_perplexity - 1.0).abs() < 1e-12);
        for ((name, want), (_, got)) in want.iter().zip(&got) {
            assert!(off(want, got) < 1e-12, "{name}, {way:?}");
        }
        for (want, got) in after.concat().iter().zip(their_after.concat()) {
            assert!((want - got).abs() < 1e-12, "{way:?}");
        }
    }
    // The control: with two tables, the embedding's has not the gradient of the one.
    let (_, untied, _, _) = gradients(Way::Fused, &spec);
    assert_eq!(untied.len(), 11);
    assert!(off(&untied[0].1, &want[0].1) > 1e-3);
}

#[test]
fn threads_change_no_bit() {
    // Sizes at which every product and the softmax are split over the threads.
    let ids: Vec<u32> = (0..1500u32).map(|i| (i * i + i / 7) % 701).collect();
    let spec = LmSpec::new(701, 90, 130).bias(Bias::Single).init(Scheme::Book);
    for cell in CELLS {
        let train = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut model = build(cell, &spec, Way::Fused, (DType::F32, &Device::Cpu), 5).unwrap();
                let streams = Streams::new(&ids, 20, 35).unwrap();
                for window in streams.endless().take(2) {
                    step(model.as_mut(), &window.unwrap()).unwrap();
                }
                bits(model.as_ref())
            })
        };
        let one = train(1);
        for threads in [2, 3, 5] {
            assert!(one == train(threads), "{cell} on {threads} threads");
        }
    }
}

#[test]
fn evaluation_does_not_depend_on_its_windows() {
    let ids = corpus();
    for cell in CELLS {
        let model = model(cell, Way::Fused, DType::F64, Bias::Single);
        let want = model.evaluate(&ids, 1000).unwrap();
        assert_eq!(want.predictions, ids.len() - 1);
        for time in [1, 7, 64] {
            let loss = model.evaluate(&ids, time).unwrap().loss();
            assert!((loss - want.loss()).abs() < 1e-12);
        }
    }
}

#[test]
fn a_nan_touches_no_weight() {
    for way in WAYS {
        let mut model = model(CellKind::Lstm, way, DType::F32, Bias::Single);
        let (_, var) = model.parameters().pop().unwrap();
        var.set(&(var.as_tensor() * f64::NAN).unwrap()).unwrap();
        let before = bits(model.as_ref());
        let error = step(model.as_mut(), &window()).unwrap_err();
        assert!(matches!(error, Error::Diverged { .. }), "{way:?}: {error}");
        assert!(bits(model.as_ref()) == before, "{way:?}");
    }
}

#[test]
fn errors_name_the_argument_and_change_nothing() {
    for way in WAYS {
        let mut model = model(CellKind::Gru, way, DType::F64, Bias::Single);
        let mut twin = self::model(CellKind::Gru, way, DType::F64, Bias::Single);
        let good = Window { first: false, ..window() };
        model.forward(&good).unwrap();
        twin.forward(&good).unwrap();
        let before = bits(model.as_ref());
        let mut outside = good.clone();
        outside.xs[3] = V as u32;
        let ignored = Window { ts: vec![IGNORE; 28], targets: 0, ..good.clone() };
        let narrow = Window { batch: 2, time: 14, ..good.clone() };
        let short = Window { ts: vec![0; 27], ..good.clone() };
        let mut target = good.clone();
        target.ts[5] = V as u32;
        // The first window of an epoch begins with zeros: one that is refused must not have taken the state.
        let first = Window { first: true, ..target.clone() };
        let bad = [
            (
                outside,
                "forward: xs: expected ids below 30, the size of the vocabulary, got 30 (at position 3)",
            ),
            (ignored, "forward: ts: expected at least one that is not ignored"),
            (target, "forward: ts: expected ids below 30"),
            (first, "forward: ts: expected ids below 30"),
            (short, "forward: ts: expected 28, one a step, got 27"),
            (narrow, "forward: batch: expected 4 rows, as in the window before, got 2"),
        ];
        for (bad, named) in bad {
            let error = model.forward(&bad).unwrap_err().to_string();
            assert!(error.contains(named), "{way:?}: {error}");
        }
        assert!(bits(model.as_ref()) == before);
        assert_eq!(model.forward(&good).unwrap(), twin.forward(&good).unwrap(), "{way:?}");
    }
}

#[test]
fn no_update_without_a_backward() {
    for way in WAYS {
        let mut model = model(CellKind::Rnn, way, DType::F32, Bias::Single);
        step(model.as_mut(), &window()).unwrap();
        model.forward(&window()).unwrap();
        assert!(model.update(&mut sgd()).is_err(), "{way:?}: gradients of the window before");
    }
}

#[test]
fn softmax_of_huge_logits_and_its_scaled_gradient() {
    let logits = Var::new(&[[[1e4f64, -1e4, 0.0], [0.5, -1.0, 2.0]]], &Device::Cpu).unwrap();
    let loss = TimeSoftmaxWithLoss.forward(&logits, &[1, 2]).unwrap();
    let reference = TimeSoftmaxWithLoss.reference(&logits, &[1, 2]).unwrap();
    let (got, want) = (loss.to_scalar::<f64>().unwrap(), reference.to_scalar::<f64>().unwrap());
    assert!(got.is_finite() && (got - want).abs() < 1e-9);
    let got = (loss * 3.0).unwrap().backward().unwrap();
    let want = (reference * 3.0).unwrap().backward().unwrap();
    assert!(off(got.get(&logits).unwrap(), want.get(&logits).unwrap()) < 1e-12);
}

#[test]
fn windows_taken_together_have_the_mean_of_their_shares_of_the_rate() {
    let trained = |shares: [f64; 2], lr: f64| {
        let mut model = model(CellKind::Gru, Way::Fused, DType::F64, Bias::Both);
        let mut trainer = Trainer::new(Optimizer::new(Sgd::default(), lr)).accumulate(2).unwrap();
        for share in shares {
            trainer.step(model.as_mut(), &Window { share, ..window() }).unwrap();
        }
        weights(model.as_ref())
    };
    let want = trained([1.0, 1.0], 0.1875);
    for shares in [[0.5, 1.0], [1.0, 0.5]] {
        assert_eq!(trained(shares, 0.25), want, "{shares:?}");
    }
}

#[test]
fn the_last_step_of_an_epoch_has_the_windows_that_are_left() {
    let other = Window { first: true, ..Streams::new(&corpus(), 4, 7).unwrap().window(0, 1).unwrap() };
    let trained = |every, windows: usize| {
        let mut model = model(CellKind::Gru, Way::Fused, DType::F64, Bias::Both);
        let rate = Rate::new(0.5, Schedule::Decay { after: 1, divide: 2.0 }).unwrap();
        let mut trainer =
            Trainer::new(Optimizer::new(Sgd::default(), 0.5)).rate(rate).accumulate(every).unwrap();
        for number in 0..windows {
            let window = if number % 2 == 0 { &window() } else { &other };
            trainer.step(model.as_mut(), window).unwrap();
        }
        trainer.epoch_ends(model.as_mut()).unwrap();
        assert_eq!((trainer.steps(), trainer.epochs(), trainer.read(), trainer.lr()), (2, 1, 0, 0.25));
        let after = weights(model.as_ref());
        // Nothing is left of them.
        trainer.epoch_ends(model.as_mut()).unwrap();
        assert_eq!((trainer.steps(), weights(model.as_ref())), (2, after.clone()));
        after
    };
    // Two windows, each from a state of zeros, and the first one once more.
    let got = trained(2, 3);
    let want = {
        let mut model = model(CellKind::Gru, Way::Fused, DType::F64, Bias::Both);
        let mut trainer = Trainer::new(Optimizer::new(Sgd::default(), 0.5)).accumulate(2).unwrap();
        trainer.step(model.as_mut(), &window()).unwrap();
        trainer.step(model.as_mut(), &other).unwrap();
        let mut single = Optimizer::new(Sgd::default(), 0.5);
        model.forward(&window()).unwrap();
        model.backward().unwrap();
        model.update(&mut single).unwrap();
        weights(model.as_ref())
    };
    for (a, b) in got.concat().iter().zip(&want.concat()) {
        assert!((a - b).abs() < 1e-14, "{a} {b}");
    }
    assert_ne!(got, trained(2, 4), "the control has another window in its second step");
}

#[test]
fn windows_taken_together_are_one_of_all_their_rows() {
    let whole = window();
    let rows = |range: std::ops::Range<usize>| {
        let part = |all: &[u32]| all[range.start * 7..range.end * 7].to_vec();
        let ts = part(&whole.ts);
        let targets = ts.iter().filter(|&&target| target != IGNORE).count();
        Window { xs: part(&whole.xs), ts, batch: range.len(), targets, ..whole.clone() }
    };
    for way in WAYS {
        let trained = |windows: &[Window]| {
            let mut model = model(CellKind::Lstm, way, DType::F64, Bias::Both);
            let mut trainer = Trainer::new(sgd()).accumulate(windows.len()).unwrap();
            for window in windows {
                trainer.step(model.as_mut(), window).unwrap();
            }
            assert_eq!(trainer.steps(), 1);
            weights(model.as_ref())
        };
        let [together, one] = [trained(&[rows(0..1), rows(1..4)]), trained(std::slice::from_ref(&whole))];
        for (a, b) in together.concat().iter().zip(&one.concat()) {
            assert!((a - b).abs() < 1e-13, "{way:?}: {a} {b}");
        }
    }
}
