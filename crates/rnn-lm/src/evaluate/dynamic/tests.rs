//! Dynamic evaluation against the paper's equations in plain tensor ops, with candle's gradients.

use super::*;
use crate::evaluate::tests::{CELLS, spec, text, wild};
use crate::model::{CellKind, Rnnlm};
use candle_core::{DType, Device};
use rnn_core::{Cell, GruCell, LstmCell, RnnCell, State, Way};

/// Segment after segment through autograd; `learn` makes new weights of each parameter's old ones and
/// gradient.
fn plain<C: Cell>(
    model: &Rnnlm<C>,
    ids: &[u32],
    time: usize,
    learn: &mut dyn FnMut(usize, &Tensor, &Tensor) -> Tensor,
) -> f64 {
    let (mut state, mut nats) = (model.zero_state(1).unwrap(), 0.0);
    for (xs, ts) in ids[..ids.len() - 1].chunks(time).zip(ids[1..].chunks(time)) {
        let xs = Tensor::from_slice(xs, (1, xs.len()), &Device::Cpu).unwrap();
        let (loss, next) = model.loss(&xs, ts, &state).unwrap();
        nats += loss.to_scalar::<f64>().unwrap() * ts.len() as f64;
        let store = loss.backward().unwrap();
        for (k, (_, var)) in model.parameters().iter().enumerate() {
            let weight = var.as_tensor().detach().copy().unwrap();
            let grad = store.get(var.as_tensor()).cloned().unwrap_or_else(|| weight.zeros_like().unwrap());
            var.set(&learn(k, &weight, &grad.detach())).unwrap();
        }
        state = next.detach();
    }
    nats
}

fn model(cell: CellKind, way: Way) -> Box<dyn LanguageModel> {
    let model = crate::evaluate::tests::model(cell, way);
    wild(model.as_ref());
    model
}

fn weights(model: &dyn LanguageModel) -> Vec<Tensor> {
    model.parameters().iter().map(|(_, var)| var.as_tensor().copy().unwrap()).collect()
}

fn bits(model: &dyn LanguageModel) -> Vec<Vec<f64>> {
    let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
    let state = model.state().unwrap();
    weights(model).iter().chain(state.iter().map(|(_, part)| part)).map(numbers).collect()
}

/// `w - step + share (w0 - w)`
fn moved(weight: &Tensor, step: &Tensor, share: &Tensor, origin: &Tensor) -> Tensor {
    let back = (share * (origin - weight).unwrap()).unwrap();
    ((weight - step).unwrap() + back).unwrap()
}

fn same<C: Cell>(cell: CellKind) {
    let (training, ids) = (text(203), text(83));
    let reference = || {
        let model = Rnnlm::<C>::new(&spec(), Way::Manual, (DType::F64, &Device::Cpu), 3).unwrap();
        wild(&model);
        model
    };
    let origin = weights(&reference());
    let want = plain(&reference(), &ids, 5, &mut |k, weight, grad| {
        let share = (weight.ones_like().unwrap() * 0.05).unwrap();
        moved(weight, &(grad * 0.3).unwrap(), &share, &origin[k])
    });
    // The mean of squares over the 41 segments of 5 of the training text, and of the roots over all weights.
    let mut squares: Vec<Tensor> = origin.iter().map(|weight| weight.zeros_like().unwrap()).collect();
    plain(&reference(), &training, 5, &mut |k, weight, grad| {
        squares[k] = (&squares[k] + (grad.sqr().unwrap() / 41.0).unwrap()).unwrap();
        weight.clone()
    });
    let rms: Vec<Tensor> = squares.iter().map(|square| square.sqrt().unwrap()).collect();
    let count: usize = rms.iter().map(Tensor::elem_count).sum();
    let mean =
        rms.iter().map(|rms| rms.sum_all().unwrap().to_scalar::<f64>().unwrap()).sum::<f64>() / count as f64;
    let mut clipped = 0;
    let want_rms = plain(&reference(), &ids, 5, &mut |k, weight, grad| {
        let step = (grad * 0.002).unwrap().div(&(&rms[k] + 1e-3).unwrap()).unwrap();
        let share: Vec<f64> = (&rms[k] * (0.3 / mean)).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        clipped += share.iter().filter(|share| **share > 1.0).count();
        let share = share.into_iter().map(|share| share.min(1.0)).collect();
        moved(weight, &step, &Tensor::from_vec(share, weight.shape(), &Device::Cpu).unwrap(), &origin[k])
    });
    assert!(clipped > 0);
    for way in Way::ALL {
        let mut model = model(cell, way);
        let sgd = Dynamic { time: 5, lr: 0.3, decay: 0.05, rule: DynamicRule::Sgd };
        let got = sgd.evaluate(model.as_mut(), &ids, None).unwrap();
        assert_eq!(got.predictions, 82);
        assert!((got.nats / want - 1.0).abs() < 1e-10, "{cell} {way}: {} {want}", got.nats);
        let windows = streams(&training, 1, 5).unwrap();
        let gradients = GradientRms::collect(model.as_mut(), &mut windows.epoch(0), None).unwrap();
        assert!((gradients.mean() / mean - 1.0).abs() < 1e-10);
        let rule = DynamicRule::Rms { gradients, epsilon: 1e-3 };
        let got =
            Dynamic { time: 5, lr: 0.002, decay: 0.3, rule }.evaluate(model.as_mut(), &ids, None).unwrap();
        assert!((got.nats / want_rms - 1.0).abs() < 1e-10, "{cell} {way}: {} {want_rms}", got.nats);
    }
    // The control: none of these is what the model says by itself.
    let still = model(cell, Way::Fused).evaluate(&ids, 5).unwrap().nats;
    for want in [want, want_rms] {
        assert!((want / still - 1.0).abs() > 1e-4, "{cell}: {want} {still}");
    }
}

#[test]
fn both_rules_are_the_papers() {
    same::<RnnCell>(CellKind::Rnn);
    same::<LstmCell>(CellKind::Lstm);
    same::<GruCell>(CellKind::Gru);
}

#[test]
fn a_text_that_repeats_itself_is_learnt_and_the_model_comes_back() {
    let ids: Vec<u32> = (0..300).map(|i| [3, 14, 15, 9, 2, 6][i % 6]).collect();
    let other = text(90);
    for cell in CELLS {
        for way in Way::ALL {
            let mut model = model(cell, way);
            let window = crate::data::Streams::new(&other, 2, 7).unwrap().window(0, 0).unwrap();
            model.forward(&window).unwrap();
            let before = (bits(model.as_ref()), model.windows(), model.evaluate(&ids, 20).unwrap());
            let now =
                |model: &dyn LanguageModel| (bits(model), model.windows(), model.evaluate(&ids, 20).unwrap());
            let windows = streams(&other, 2, 5).unwrap();
            let gradients = GradientRms::collect(model.as_mut(), &mut windows.epoch(0), None).unwrap();
            assert!(now(model.as_ref()) == before, "{cell} {way}");
            for (lr, rule) in
                [(0.5, DynamicRule::Sgd), (0.005, DynamicRule::Rms { gradients, epsilon: 1e-3 })]
            {
                let dynamic = Dynamic { time: 5, lr, decay: 0.001, rule };
                let got = dynamic.evaluate(model.as_mut(), &ids, None).unwrap();
                assert!(got.loss() < 0.8 * before.2.loss(), "{cell} {way}: {got:?} {:?}", before.2);
                assert!(now(model.as_ref()) == before, "{cell} {way}");
                let error =
                    Dynamic { lr: 1e308, ..dynamic }.evaluate(model.as_mut(), &ids, None).unwrap_err();
                assert!(
                    error.to_string().contains("it learns too fast: take a lower rate than 1e308"),
                    "{cell} {way}: {error}"
                );
                assert!(now(model.as_ref()) == before, "{cell} {way}");
            }
        }
    }
}

#[test]
fn gradients_of_another_model_are_refused() {
    let mut small = model(CellKind::Gru, Way::Fused);
    let ids = text(30);
    let windows = streams(&ids, 1, 5).unwrap();
    let gradients = GradientRms::collect(small.as_mut(), &mut windows.epoch(0), None).unwrap();
    // Above 0 in f64, and nothing in f32.
    let rule = DynamicRule::Rms { gradients: gradients.clone(), epsilon: 1e-50 };
    let tiny = Dynamic { time: 5, lr: 0.1, decay: 0.1, rule };
    let error = tiny.evaluate(small.as_mut(), &ids, None).unwrap_err().to_string();
    assert!(error.starts_with("Dynamic: epsilon: expected a number above 0, in f32 too"), "{error}");
    let rule = DynamicRule::Rms { gradients, epsilon: 1e-3 };
    let dynamic = Dynamic { time: 5, lr: 0.1, decay: 0.1, rule };
    let error =
        dynamic.evaluate(model(CellKind::Lstm, Way::Fused).as_mut(), &ids, None).unwrap_err().to_string();
    assert!(error.contains("rms.rnn.weight_ih_l0: expected [36, 6] f64, got [27, 6] f64"), "{error}");
    let none = GradientRms::collect(small.as_mut(), &mut std::iter::empty(), None).unwrap_err().to_string();
    assert!(none.contains("windows with gradients that are not all zero"), "{none}");
}
