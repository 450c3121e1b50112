//! Gradients of long sequences: a window in segments is the whole window, and sliding truncation is its definition.

use crate::numbers::{self, off, random};
use crate::small::{D, H, layer, parameters, start};
use candle_core::{DType, Tensor, Var};
use rnn_core::{
    Bidirectional, Cell, Direction, GruCell, Layer, LayerNormLstmCell, LayerSpec, LstmCell, Plan, Recurrent,
    Regularisers, ResetBeforeGruCell, RnnCell, Segments, Sliding, Stack, State, TimeRnn, Way,
};

/// Outputs, dx, dh and weight gradients of a long window.
fn in_segments<C: Cell>(
    (spec, dtype): (LayerSpec, DType),
    plan: &Plan,
    segments: Option<Segments>,
    way: Way,
) -> Vec<Tensor> {
    let layer = TimeRnn::<C>::build(spec, &parameters(dtype).builder()).unwrap().with_way(way);
    let rates = Regularisers { recurrent: 0.2, zoneout_h: 0.1, weight: 0.1, ..Regularisers::default() };
    let layer = layer.with_regularisers(rates).unwrap();
    let layer = match segments {
        Some(segments) => layer.with_segments(segments).unwrap(),
        None => layer,
    };
    let xs = random(&[2, 50, 3], dtype, "xs");
    let (hs, next, tape) = layer.forward_taped_with(&xs, &start(&layer, 2, dtype), plan).unwrap();
    let grads = layer.backward(tape, &random(hs.dims(), dtype, "dhs"), &next).unwrap();
    let mut all = vec![hs, grads.dxs];
    all.extend(next.parts().into_iter().cloned());
    all.extend(grads.dstate.parts().into_iter().cloned());
    all.extend(grads.params[0].tensors().into_iter().cloned());
    all
}

fn segments<C: Cell>(spec: LayerSpec, dtype: DType) {
    let (of_ways, of_sums) = if dtype == DType::F64 { (1e-12, 1e-14) } else { (2e-5, 1e-6) };
    let weights = C::new(spec, parameters(dtype).builder()).unwrap().params().tensors().len();
    let resets: Vec<bool> = (0..100).map(|i| i % 23 == 5).collect();
    for direction in Direction::BOTH {
        for plan in [Plan::new(), Plan::new().lengths(&[50, 31]).resets(&resets)] {
            let plan = plan.draw(1, 2);
            for steps in [1, 7, 8, 50, 80] {
                let spec = spec.direction(direction);
                let run = |segments, way| in_segments::<C>((spec, dtype), &plan, segments, way);
                let whole = run(None, Way::Fused);
                let recomputed = run(Some(Segments::recomputed(steps)), Way::Fused);
                let kept = run(Some(Segments::kept(steps)), Way::Fused);
                let manual = run(Some(Segments::recomputed(steps)), Way::Manual);
                for (i, ((recomputed, kept), manual)) in recomputed.iter().zip(&kept).zip(&manual).enumerate()
                {
                    assert_eq!(off(recomputed, kept), 0.0, "tensor {i}, {steps} steps");
                    assert!(numbers::relative(manual, kept) < of_ways, "manual, tensor {i}, {steps} steps");
                }
                let (states, weights) = whole.split_at(whole.len() - weights);
                for (i, (a, b)) in states.iter().zip(&recomputed).enumerate() {
                    assert_eq!(off(a, b), 0.0, "{direction:?}, tensor {i}, {steps} steps");
                }
                for (a, b) in weights.iter().zip(&recomputed[states.len()..]) {
                    assert!(numbers::relative(a, b) < of_sums, "{direction:?}, {steps} steps");
                }
            }
        }
    }
}

#[test]
fn segments_change_no_bit_but_those_of_sums_over_the_window() {
    let spec = LayerSpec::new(3, 6);
    segments::<RnnCell>(spec, DType::F32);
    segments::<LstmCell>(spec, DType::F32);
    segments::<GruCell>(spec, DType::F32);
    segments::<LstmCell>(spec.projection(4), DType::F32);
    segments::<ResetBeforeGruCell>(spec, DType::F32);
    // A norm over so few units makes much of how f32 rounds.
    segments::<LayerNormLstmCell>(spec, DType::F64);
}

/// The gradient of the newest outputs over the last `back` steps, by the definition: from the state that the weights
/// lead to before these steps, which is a constant.
#[test]
fn sliding_truncation_is_the_definition() {
    for (every, back) in [(3, 7), (3, 3), (2, 6), (1, 4), (4, 5)] {
        let stack =
            Stack::<TimeRnn<GruCell>>::new(LayerSpec::new(D, H), 2, &parameters(DType::F64).builder());
        let stack = stack.unwrap();
        let xs = Var::from_tensor(&random(&[2, 24, D], DType::F64, "long")).unwrap();
        let mut sliding = Sliding::new(stack.clone(), every, back).unwrap();
        let mut cut_differs = false;
        for end in (every..=24).step_by(every) {
            let dhs = random(&[2, every, H], DType::F64, &format!("{end}"));
            let hs = sliding.forward(&xs.narrow(1, end - every, every).unwrap()).unwrap();
            let got = (&hs * &dhs).unwrap().sum_all().unwrap().backward().unwrap();
            let from = |begin: usize| {
                let state = match begin {
                    0 => stack.zero_state(2).unwrap(),
                    _ => {
                        stack
                            .infer(&xs.narrow(1, 0, begin).unwrap(), &stack.zero_state(2).unwrap())
                            .unwrap()
                            .1
                    }
                };
                let (all, _) = stack.forward(&xs.narrow(1, begin, end - begin).unwrap(), &state).unwrap();
                let newest = all.narrow(1, end - begin - every, every).unwrap();
                ((&newest * &dhs).unwrap().sum_all().unwrap().backward().unwrap(), newest)
            };
            let (want, newest) = from(end.saturating_sub(back));
            assert!(off(&hs, &newest) < 1e-13);
            let weight = &stack.layers()[0].cell().params().weight_hh;
            for tensor in [xs.as_tensor(), weight] {
                let (got, want) = (got.get(tensor).unwrap(), want.get(tensor).unwrap());
                assert!(numbers::relative(got, want) < 1e-12, "{every}, {back}: up to {end}");
            }
            let cut = from(end - every).0;
            cut_differs |= off(cut.get(weight).unwrap(), want.get(weight).unwrap()) > 1e-4;
        }
        // The control: windows side by side give another gradient, unless the two are the same.
        assert_eq!(cut_differs, back > every);
    }
    let layer: TimeRnn<GruCell> = layer(DType::F32);
    let error = Sliding::new(layer, 5, 4).unwrap_err().to_string();
    assert!(error.contains("at least as many back, got 5 and 4"), "{error}");
}

fn refused<R: Recurrent>(layer: R, want: &str) {
    let Err(error) = Sliding::new(layer, 2, 4) else { panic!("a layer slides that is not {want}") };
    let error = error.to_string();
    assert!(error.contains(&format!("Sliding: layer: expected {want}")), "{error}");
}

#[test]
fn sliding_truncation_refuses_layers_that_read_from_the_end() {
    let want = "a layer that goes forward alone";
    let vb = parameters(DType::F32).builder();
    let spec = LayerSpec::new(D, H).direction(Direction::Reverse);
    refused(TimeRnn::<GruCell>::build(spec, &vb).unwrap(), want);
    refused(layer::<Bidirectional<GruCell>>(DType::F32), want);
    refused(Stack::<Bidirectional<GruCell>>::new(LayerSpec::new(D, H), 2, &vb).unwrap(), want);
    let forward = layer::<TimeRnn<GruCell>>(DType::F32);
    let reverse = LayerSpec::new(H, H).direction(Direction::Reverse);
    let reverse = TimeRnn::<GruCell>::build(reverse, &parameters(DType::F32).builder()).unwrap();
    refused(Stack::from_layers(vec![forward.clone(), reverse]).unwrap(), want);
    assert!(Sliding::new(forward, 2, 4).is_ok());
}

#[test]
fn sliding_truncation_refuses_layers_that_draw_masks() {
    let want = "a layer without dropout";
    let rates = Regularisers { weight: 0.1, ..Regularisers::default() };
    let plain = layer::<TimeRnn<GruCell>>(DType::F32);
    refused(plain.clone().with_regularisers(rates).unwrap(), want);
    let stack = |layers| {
        Stack::<TimeRnn<GruCell>>::new(LayerSpec::new(D, H), layers, &parameters(DType::F32).builder())
            .unwrap()
    };
    refused(stack(2).with_dropout(0.5).unwrap(), want);
    // Between layers, of which there is one.
    assert!(Sliding::new(stack(1).with_dropout(0.5).unwrap(), 2, 4).is_ok());
}
