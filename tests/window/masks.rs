//! What is dropped, kept or scaled at random, against plain windows with the same thing done by hand.

use crate::numbers::{numbers as of, off, random};
use crate::small::{H, N, T, layer, parameters, start, xs};
use candle_core::{DType, Device, Tensor};
use rnn_core::{
    Cell, GruCell, Layer, LayerSpec, LstmCell, Plan, Recurrent, Regularisers, ResetBeforeGruCell, Stack,
    State, TimeRnn,
};

fn regularised(regularisers: Regularisers) -> (TimeRnn<LstmCell>, Plan) {
    let layer: TimeRnn<LstmCell> = layer(DType::F64);
    (layer.with_regularisers(regularisers).unwrap(), Plan::new().draw(5, 2))
}

#[test]
fn a_recurrent_mask_is_the_recurrent_weight_with_columns_scaled() {
    let (masked, plan) = regularised(Regularisers { recurrent: 0.5, ..Regularisers::default() });
    let xs = xs(DType::F64).narrow(0, 0, 1).unwrap();
    let state = start(&masked, 1, DType::F64);
    let (hs, _) = masked.forward_with(&xs, &state, &plan).unwrap();
    // With one row, one of the 2^7 masks of zeros and twos over the columns of weight_hh gives the same.
    let params = masked.cell().params();
    let same = (0..1u32 << H).filter(|bits| {
        let mask: Vec<f64> = (0..H).map(|i| f64::from(bits >> i & 1) * 2.0).collect();
        let mask = Tensor::from_vec(mask, (1, H), &Device::Cpu).unwrap();
        let mut scaled = params.clone();
        scaled.weight_hh = params.weight_hh.broadcast_mul(&mask).unwrap();
        let plain = TimeRnn::new(masked.cell().with_params(scaled));
        off(&plain.forward(&xs, &state).unwrap().0, &hs) < 1e-13
    });
    let same: Vec<u32> = same.collect();
    assert!(same.len() == 1 && same[0] != 0 && same[0] != (1 << H) - 1, "{same:?}");
}

#[test]
fn weight_drop_gives_the_raw_weight_its_gradient_where_it_was_not_dropped() {
    let (dropped, plan) = regularised(Regularisers { weight: 0.4, ..Regularisers::default() });
    let (plain, _) = regularised(Regularisers::default());
    let (xs, state) = (xs(DType::F64), start(&dropped, N, DType::F64));
    let (hs, _) = dropped.forward_with(&xs, &state, &plan).unwrap();
    let grads = hs.sum_all().unwrap().backward().unwrap();
    let grad = of(grads.get(&dropped.cell().params().weight_hh).unwrap());
    let zeros = grad.iter().filter(|&&grad| grad == 0.0).count();
    assert!((zeros as f64 / grad.len() as f64 - 0.4).abs() < 0.12, "{zeros} of {} dropped", grad.len());
    let (whole, _) = plain.forward(&xs, &state).unwrap();
    assert!(off(&hs, &whole) > 1e-3, "the mask changes the outputs");
    let (inferred, _) = dropped.infer(&xs, &state).unwrap();
    assert_eq!(off(&inferred, &whole), 0.0, "inference uses the whole weight");
}

#[test]
fn weight_drop_is_of_every_recurrent_weight_there_is() {
    let gru: TimeRnn<ResetBeforeGruCell> = layer(DType::F64);
    let gru = gru.with_regularisers(Regularisers { weight: 0.4, ..Regularisers::default() }).unwrap();
    let (xs, state, plan) = (xs(DType::F64), start(&gru, N, DType::F64), Plan::new().draw(5, 2));
    let (hs, _) = gru.forward_with(&xs, &state, &plan).unwrap();
    let grads = hs.sum_all().unwrap().backward().unwrap();
    let (hs, _, tape) = gru.forward_taped_with(&xs, &state, &plan).unwrap();
    let by_hand =
        gru.backward(tape, &hs.ones_like().unwrap(), &state.zeros_like().unwrap()).unwrap().params.remove(0);
    let mut dropped = Vec::new();
    for ((name, weight), (_, taped)) in gru.cell().params().recurrent().into_iter().zip(by_hand.recurrent()) {
        let grad = grads.get(weight).unwrap();
        assert_eq!(off(grad, taped), 0.0, "{name}");
        let grad = of(grad);
        let zeros = grad.iter().filter(|&&grad| grad == 0.0).count();
        assert!((zeros as f64 / grad.len() as f64 - 0.4).abs() < 0.15, "{name}: {zeros} of {}", grad.len());
        dropped.push((name, grad[..H * H].iter().map(|&grad| grad == 0.0).collect::<Vec<_>>()));
    }
    assert_eq!([dropped[0].0, dropped[1].0], ["weight_hh", "weight_hn"]);
    assert_ne!(dropped[0].1, dropped[1].1, "each has a mask of its own");
}

#[test]
fn zoneout_keeps_units_and_inference_takes_the_expectation() {
    let rates = Regularisers { zoneout_h: 0.5, zoneout_c: 0.5, ..Regularisers::default() };
    let (layer, plan) = regularised(rates);
    let (xs, state) = (xs(DType::F64).narrow(1, 0, 1).unwrap(), start(&layer, N, DType::F64));
    let fresh = layer.cell().step(&xs.squeeze(1).unwrap(), &state).unwrap();
    let (_, next) = layer.forward_with(&xs, &state, &plan).unwrap();
    let mut kept = 0;
    for ((before, made), after) in state.parts().into_iter().zip(fresh.parts()).zip(next.parts()) {
        for ((before, made), after) in of(before).iter().zip(of(made)).zip(of(after)) {
            let (old, new) = ((before - after).abs() < 1e-14, (made - after).abs() < 1e-14);
            assert!(old != new, "a unit keeps its value or has the new one");
            kept += usize::from(old);
        }
    }
    assert!((15..=41).contains(&kept), "{kept} of {} units kept their value", 2 * N * H);
    let (_, expected) = layer.infer(&xs, &state).unwrap();
    for ((before, made), after) in state.parts().into_iter().zip(fresh.parts()).zip(expected.parts()) {
        let mean = ((before + made).unwrap() * 0.5).unwrap();
        assert!(off(&mean, after) < 1e-14);
    }
}

#[test]
fn masks_are_locked_over_time_fixed_by_their_draw_and_asked_for() {
    let (layer, plan) = regularised(Regularisers { output: 0.5, ..Regularisers::default() });
    let (xs, state) = (xs(DType::F64), start(&layer, N, DType::F64));
    let run = |plan: &Plan| layer.forward_with(&xs, &state, plan).unwrap().0;
    let hs = run(&plan);
    let dropped = |n: usize, t: usize, i: usize| of(&hs)[(n * T + t) * H + i] == 0.0;
    let mut count = 0;
    for n in 0..N {
        for i in 0..H {
            count += usize::from(dropped(n, 0, i));
            assert!((1..T).all(|t| dropped(n, t, i) == dropped(n, 0, i)), "row {n}, unit {i}");
        }
    }
    assert!((7..=21).contains(&count), "{count} of {} dropped", N * H);
    assert_eq!(off(&run(&plan), &hs), 0.0);
    assert!(off(&run(&Plan::new().draw(5, 3)), &hs) > 0.0);
    assert!(off(&run(&Plan::new().draw(6, 2)), &hs) > 0.0);
    let error = layer.forward(&xs, &state).unwrap_err().to_string();
    assert!(error.contains("expected a draw") && error.contains("Plan::new().draw(seed, step)"), "{error}");
    let error = layer.with_regularisers(Regularisers { input: 1.0, ..Regularisers::default() }).unwrap_err();
    assert!(
        error.to_string().contains("Regularisers: input: expected a rate of at least 0 and below 1, got 1")
    );
}

#[test]
fn zoneout_of_a_c_that_a_cell_does_not_have_is_refused() {
    let rates = Regularisers { zoneout_c: 0.2, ..Regularisers::default() };
    let error = layer::<TimeRnn<GruCell>>(DType::F32).with_regularisers(rates).unwrap_err().to_string();
    let want = "Regularisers: zoneout_c: expected 0 for a cell whose state has no c, got 0.2 (zoneout_h";
    assert!(error.contains(want), "{error}");
    assert!(layer::<TimeRnn<LstmCell>>(DType::F32).with_regularisers(rates).is_ok());
}

#[test]
fn stacks_that_are_numbered_on_drop_other_units_between_their_layers() {
    let stack = |first: usize| {
        let spec = LayerSpec::new(H, H).layer(first);
        let stack = Stack::<TimeRnn<GruCell>>::new(spec, 2, &parameters(DType::F64).builder()).unwrap();
        // The same weights everywhere: what differs is what is dropped.
        let same = GruCell::new(LayerSpec::new(H, H), parameters(DType::F64).builder()).unwrap();
        let with_same =
            |layer: &TimeRnn<GruCell>| TimeRnn::new(layer.cell().with_params(same.params().clone()));
        Stack::from_layers(stack.layers().iter().map(with_same).collect()).unwrap().with_dropout(0.5).unwrap()
    };
    let (lower, upper) = (stack(0), stack(2));
    let xs = random(&[N, T, H], DType::F64, "xs");
    let run = |stack: &Stack<TimeRnn<GruCell>>| {
        let plan = Plan::new().draw(5, 2);
        stack.forward_with(&xs, &stack.zero_state(N).unwrap(), &plan).unwrap().0
    };
    assert_eq!(off(&run(&lower), &run(&lower)), 0.0);
    assert!(off(&run(&lower), &run(&upper)) > 1e-3);
    // Without dropout they are the same.
    let plain = |stack: &Stack<TimeRnn<GruCell>>| stack.infer(&xs, &stack.zero_state(N).unwrap()).unwrap().0;
    assert_eq!(off(&plain(&lower), &plain(&upper)), 0.0);
}
