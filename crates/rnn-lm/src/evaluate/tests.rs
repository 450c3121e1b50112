//! Each measure against its definition, written plainly; how the text is read changes nothing.

use super::*;
use crate::data::{Batches, Window};
use crate::model::{CellKind, Dropout, LmSpec, build};
use candle_core::{DType, Device};
use rnn_core::{Scheme, Way};

const V: usize = 23;
pub(super) const CELLS: [CellKind; 3] = CellKind::ALL;

pub(super) fn spec() -> LmSpec {
    LmSpec::new(V, 6, 9).layers(2).init(Scheme::Book)
}

pub(super) fn model(cell: CellKind, way: Way) -> Box<dyn LanguageModel> {
    build(cell, &spec(), way, (DType::F64, &Device::Cpu), 3).unwrap()
}

/// As far from zero as trained weights are, so that states differ; not so far that an RNN makes much of a
/// last bit.
pub(super) fn wild(model: &dyn LanguageModel) {
    for (name, var) in model.parameters() {
        let factor = if name == "embedding.weight" { 60.0 } else { 1.3 };
        var.set(&(var.as_tensor().detach() * factor).unwrap()).unwrap();
    }
}

pub(super) fn text(len: u32) -> Vec<u32> {
    (0..len).map(|i| (i * i + i / 7) % V as u32).collect()
}

/// What the trait's forward gives, id after id: no code of a reading's.
pub(super) struct Step {
    pub(super) loss: f64,
    pub(super) hidden: Vec<f64>,
}

pub(super) fn steps(model: &mut dyn LanguageModel, ids: &[u32]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (i, pair) in ids.windows(2).enumerate() {
        let window = Window::new(vec![pair[0]], vec![pair[1]], (1, 1), i == 0).unwrap();
        let loss = model.forward(&window).unwrap();
        let state = model.state().unwrap();
        let (_, hidden) = state.iter().find(|(name, _)| name == "h_l1").unwrap();
        steps.push(Step { loss, hidden: hidden.flatten_all().unwrap().to_vec1().unwrap() });
    }
    steps
}

#[test]
fn a_reading_is_what_forward_says_in_every_way() {
    let ids = text(150);
    for cell in CELLS {
        for way in Way::ALL {
            let mut model = model(cell, way);
            wild(model.as_ref());
            let want = steps(model.as_mut(), &ids);
            let (mut losses, mut hidden) = (Vec::new(), Vec::new());
            let windows = Streams::new(&ids, 1, 31).unwrap();
            let each = &mut |reading: &crate::model::Reading<'_>| {
                losses.extend_from_slice(reading.losses);
                hidden.extend(reading.hidden.squeeze(0)?.to_vec2::<f64>()?);
                Ok(())
            };
            model.read(&mut windows.epoch(0), each).unwrap();
            assert_eq!((losses.len(), hidden.len()), (149, 149));
            for ((want, loss), hidden) in want.iter().zip(losses).zip(hidden) {
                assert!((want.loss - loss).abs() < 1e-12 * want.loss, "{cell} {way}");
                assert!(want.hidden.iter().zip(hidden).all(|(a, b)| (a - b).abs() < 1e-12), "{cell} {way}");
            }
        }
    }
}

#[test]
fn scores_add_up_to_the_evaluation_in_both_types() {
    let ids = text(200);
    for dtype in [DType::F32, DType::F64] {
        let model = build(CellKind::Lstm, &spec(), Way::Fused, (dtype, &Device::Cpu), 3).unwrap();
        wild(model.as_ref());
        let scores = log_probs(model.as_ref(), &ids).unwrap();
        let evaluation = model.evaluate(&ids, 50).unwrap();
        assert_eq!(scores.len(), evaluation.predictions);
        assert!((-scores.iter().sum::<f64>() / evaluation.nats - 1.0).abs() < 1e-6);
        let expected = model.probabilities(&ids).unwrap();
        for (i, score) in scores.iter().enumerate() {
            assert!((expected[i][ids[i + 1] as usize].ln() - score).abs() < 1e-5, "{i}");
        }
    }
    let model = model(CellKind::Gru, Way::Fused);
    assert!(
        log_probs(model.as_ref(), &[]).unwrap().is_empty()
            && log_probs(model.as_ref(), &[4]).unwrap().is_empty()
    );
    assert!(log_probs(model.as_ref(), &[V as u32]).is_err());
}

#[test]
fn streams_are_pieces_of_the_text_each_by_itself() {
    let (ids, model) = (text(43), model(CellKind::Gru, Way::Fused));
    wild(model.as_ref());
    let whole = |ids: &[u32]| Order::Whole.evaluate(model.as_ref(), ids, 64, None).unwrap().nats;
    // 42 predictions: streams of 11, 11, 10 and 10.
    let want: f64 = [&ids[..12], &ids[11..23], &ids[22..33], &ids[32..]].into_iter().map(whole).sum();
    for time in [1, 4, 10, 1000] {
        let got = Order::Streams { batch: 4 }.evaluate(model.as_ref(), &ids, time, None).unwrap();
        assert_eq!(got.predictions, 42);
        assert!((got.nats / want - 1.0).abs() < 1e-12, "{time}");
    }
    // The control: what stands before matters.
    assert!((whole(&ids) / want - 1.0).abs() > 1e-6);
}

#[test]
fn the_books_order_is_its_loop() {
    let (ids, mut model) = (text(150), model(CellKind::Lstm, Way::Fused));
    wild(model.as_ref());
    // common/util.py of the book, line by line.
    let (batch_size, time_size, corpus_size) = (4, 5, ids.len());
    let (mut total_loss, max_iters) = (0.0, (corpus_size - 1) / (batch_size * time_size));
    let jump = (corpus_size - 1) / batch_size;
    for iters in 0..max_iters {
        let (mut xs, mut ts) = (vec![0; batch_size * time_size], vec![0; batch_size * time_size]);
        let time_offset = iters * time_size;
        for i in 0..batch_size {
            let offset = time_offset + i * jump;
            for t in 0..time_size {
                xs[i * time_size + t] = ids[(offset + t) % corpus_size];
                ts[i * time_size + t] = ids[(offset + t + 1) % corpus_size];
            }
        }
        let window = Window::new(xs, ts, (batch_size, time_size), iters == 0).unwrap();
        total_loss += model.forward(&window).unwrap();
    }
    let want = f64::exp(total_loss / max_iters as f64);
    let got = Order::Book { batch: 4 }.evaluate(model.as_ref(), &ids, 5, None).unwrap();
    assert_eq!(got.predictions, 140);
    assert!((got.perplexity() / want - 1.0).abs() < 1e-12, "{} {want}", got.perplexity());
}

#[test]
fn progress_counts_predictions() {
    let (ids, mut model) = (text(150), model(CellKind::Rnn, Way::Fused));
    let dynamic = Dynamic { time: 60, lr: 0.0, decay: 0.0, rule: DynamicRule::Sgd };
    let cache = NeuralCache { size: 3, theta: 0.0, lambda: 0.1 };
    let mut seen = Vec::new();
    let mut note = |done| seen.push(done);
    Order::Whole.evaluate(model.as_ref(), &ids, 100, Some(&mut note)).unwrap();
    Order::Streams { batch: 4 }.evaluate(model.as_ref(), &ids, 30, Some(&mut note)).unwrap();
    dynamic.evaluate(model.as_mut(), &ids, Some(&mut note)).unwrap();
    cache.evaluate(model.as_ref(), &ids, Some(&mut note)).unwrap();
    GradientRms::collect(model.as_mut(), &mut Streams::new(&ids, 2, 50).unwrap().epoch(0), Some(&mut note))
        .unwrap();
    assert_eq!(seen, [100, 149, 120, 149, 60, 120, 149, 64, 128, 149, 100, 149]);
}

#[test]
fn what_does_not_fit_is_named() {
    let mut model = model(CellKind::Gru, Way::Fused);
    let order = |order: Order, ids: &[u32], time| {
        order.evaluate(model.as_ref(), ids, time, None).unwrap_err().to_string()
    };
    assert!(order(Order::Whole, &[1], 5).contains("evaluate: ids: expected at least 2"));
    assert!(order(Order::Whole, &[1, 2], 0).contains("evaluate: time: expected at least 1, got 0"));
    assert!(
        order(Order::Book { batch: 2 }, &[1, 23], 5).contains("ids below 23, the size of the vocabulary")
    );
    assert!(order(Order::Streams { batch: 3 }, &[1, 2, 3], 5).contains("3 x 1 + 1 = 4 ids, got 3"));
    assert!(order(Order::Streams { batch: 0 }, &[1, 2], 5).contains("batch: expected at least 1"));
    let cache = |size, theta, lambda| {
        NeuralCache { size, theta, lambda }.evaluate(model.as_ref(), &[1, 2], None).unwrap_err().to_string()
    };
    assert!(cache(0, 0.0, 0.5).contains("size: expected at least 1"));
    assert!(cache(1, f64::NAN, 0.5).contains("theta: expected at least 0, got NaN"));
    assert!(cache(1, 0.0, 1.0).contains("lambda: expected from 0 to below 1, got 1"));
    let mut dynamic = |time, lr, decay| {
        let dynamic = Dynamic { time, lr, decay, rule: DynamicRule::Sgd };
        dynamic.evaluate(model.as_mut(), &[1, 2], None).unwrap_err().to_string()
    };
    assert!(dynamic(0, 0.1, 0.0).contains("time: expected at least 1"));
    assert!(dynamic(1, -1.0, 0.0).contains("lr: expected at least 0, got -1"));
    assert!(dynamic(1, 0.1, 1.5).contains("decay: expected from 0 to 1, got 1.5"));
    let spec = spec().dropout(Dropout::everywhere(0.5));
    let mut drops = build(CellKind::Gru, &spec, Way::Fused, (DType::F64, &Device::Cpu), 3).unwrap();
    let dynamic = Dynamic { time: 5, lr: 0.1, decay: 0.0, rule: DynamicRule::Sgd };
    let error = dynamic.evaluate(drops.as_mut(), &text(20), None).unwrap_err().to_string();
    assert!(error.contains("one that drops nothing") && error.contains("build it anew"), "{error}");
}
