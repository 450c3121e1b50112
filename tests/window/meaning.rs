//! What is said of a window means what it says: each thing against plain windows that it must be equal to.

use crate::numbers::{self, numbers as of, off, random};
use candle_core::{DType, Device, IndexOp, Tensor, Var};
use rnn_core::{
    Bidirectional, Cell, CellState, Direction, GruCell, Layer, LayerSpec, LstmCell, Parameters, Penalty,
    Plan, Recurrent, Regularisers, RnnCell, Segments, Sliding, Stack, State, TimeRnn, Way,
};

const N: usize = 4;
const T: usize = 9;
const D: usize = 5;
const H: usize = 7;

fn xs(dtype: DType) -> Tensor {
    random(&[N, T, D], dtype, "xs")
}

fn parameters(dtype: DType) -> Parameters {
    Parameters::new(2, dtype, &Device::Cpu)
}

fn layer<R: Layer>(dtype: DType) -> R {
    R::build(LayerSpec::new(D, H), &parameters(dtype).builder()).unwrap()
}

fn start<R: Recurrent>(layer: &R, batch: usize, dtype: DType) -> R::State {
    let zeros = layer.zero_state(batch).unwrap();
    let mut names = zeros.names().into_iter();
    zeros.try_map(&mut |part| Ok(random(part.dims(), dtype, &names.next().unwrap()))).unwrap()
}

fn row<S: State>(state: &S, n: usize) -> S {
    state.select(&[n as u32]).unwrap()
}

/// Each row of a window with lengths has the bits of that row alone, as long as it is.
fn lengths<R: Layer>() {
    let layer: R = layer(DType::F32);
    let (xs, start) = (xs(DType::F32), start(&layer, N, DType::F32));
    let lengths = [4, 9, 1, 0];
    let (hs, next) = layer.forward_with(&xs, &start, &Plan::new().lengths(&lengths)).unwrap();
    for (n, &length) in lengths.iter().enumerate() {
        let padding = hs.i((n, length..)).unwrap();
        assert!(of(&padding).iter().all(|&x| x == 0.0), "row {n}");
        let (want, last) = match length {
            0 => (None, row(&start, n)),
            _ => {
                let alone = xs.narrow(0, n, 1).unwrap().narrow(1, 0, length).unwrap();
                let (hs, last) = layer.forward(&alone, &row(&start, n)).unwrap();
                (Some(hs), last)
            }
        };
        if let Some(want) = want {
            assert_eq!(off(&hs.i((n..n + 1, ..length)).unwrap(), &want), 0.0, "row {n}");
        }
        for (got, want) in row(&next, n).parts().iter().zip(last.parts()) {
            assert_eq!(off(got, want), 0.0, "the last state of row {n}");
        }
    }
}

#[test]
fn a_row_with_a_length_is_that_row_alone() {
    lengths::<TimeRnn<RnnCell>>();
    lengths::<TimeRnn<LstmCell>>();
    lengths::<TimeRnn<GruCell>>();
    lengths::<Bidirectional<LstmCell>>();
    lengths::<Bidirectional<GruCell>>();
}

#[test]
fn what_stands_behind_an_end_is_never_looked_at() {
    for way in Way::ALL {
        let layer: TimeRnn<LstmCell> = layer(DType::F64);
        let layer = layer.with_way(way);
        let state = layer.zero_state(N).unwrap();
        let plan = Plan::new().lengths(&[3, 9, 5, 1]);
        let run = |fill: f64| {
            let mut numbers = of(&xs(DType::F64));
            for (n, length) in [3, 9, 5, 1].into_iter().enumerate() {
                numbers[(n * T + length) * D..(n + 1) * T * D].fill(fill);
            }
            let xs = Var::from_tensor(&Tensor::from_vec(numbers, (N, T, D), &Device::Cpu).unwrap()).unwrap();
            let (hs, _) = layer.forward_with(&xs, &state, &plan).unwrap();
            let grads = hs.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let params = layer.cell().params();
            [hs.clone(), grads.get(&xs).unwrap().clone(), grads.get(&params.weight_ih).unwrap().clone()]
        };
        for (zero, wild) in run(0.0).iter().zip(run(f64::NAN)).chain(run(0.0).iter().zip(run(f64::INFINITY)))
        {
            assert_eq!(off(zero, &wild), 0.0, "{way}");
        }
    }
}

/// Documents one behind the other, each from a state of zeros.
fn resets<R: Layer>(direction: Direction) {
    let spec = LayerSpec::new(D, H).direction(direction);
    let layer = R::build(spec, &parameters(DType::F32).builder()).unwrap();
    let xs = xs(DType::F32).narrow(0, 0, 1).unwrap();
    let begins = [0, 2, 3, 7];
    let resets: Vec<bool> = (0..T).map(|t| begins.contains(&t)).collect();
    let zero = layer.zero_state(1).unwrap();
    let var = Var::from_tensor(&xs).unwrap();
    let (hs, _) = layer.forward_with(&var, &zero, &Plan::new().resets(&resets)).unwrap();
    for (begin, end) in begins.into_iter().zip(begins.into_iter().skip(1).chain([T])) {
        let document = xs.narrow(1, begin, end - begin).unwrap();
        let (want, _) = layer.forward(&document, &zero).unwrap();
        assert_eq!(off(&hs.narrow(1, begin, end - begin).unwrap(), &want), 0.0, "{begin}..{end}");
    }
    // The gradient of the third document's outputs stays inside of it.
    let grads = hs.narrow(1, 3, 4).unwrap().sum_all().unwrap().backward().unwrap();
    for (t, dx) in of(&grads.get(&var).unwrap().squeeze(0).unwrap()).chunks(D).enumerate() {
        assert_eq!(dx.iter().any(|&dx| dx != 0.0), (3..7).contains(&t), "step {t}");
    }
}

#[test]
fn resets_make_documents_that_know_nothing_of_each_other() {
    resets::<TimeRnn<RnnCell>>(Direction::Forward);
    resets::<TimeRnn<LstmCell>>(Direction::Reverse);
    resets::<TimeRnn<GruCell>>(Direction::Reverse);
    resets::<Bidirectional<LstmCell>>(Direction::Forward);
}

/// The reversed direction is the forward one over the window turned round.
#[test]
fn the_reversed_direction_is_the_window_turned_round() {
    let forward: TimeRnn<LstmCell> = layer(DType::F32);
    let spec = LayerSpec::new(D, H).direction(Direction::Reverse);
    let reverse = LstmCell::new(spec, parameters(DType::F32).builder()).unwrap();
    let reverse = TimeRnn::new(reverse.with_params(forward.cell().params().clone()));
    let (xs, state) = (xs(DType::F32), start(&forward, N, DType::F32));
    let turn = |x: &Tensor| {
        let steps: Vec<Tensor> = (0..T).rev().map(|t| x.narrow(1, t, 1).unwrap()).collect();
        Tensor::cat(&steps, 1).unwrap()
    };
    let (want, last) = forward.forward(&turn(&xs), &state).unwrap();
    let (got, next) = reverse.forward(&xs, &state).unwrap();
    assert_eq!(off(&got, &turn(&want)), 0.0);
    assert_eq!(off(&next.c, &last.c), 0.0);
}

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
fn a_plan_that_does_not_fit_is_an_error() {
    let layer: TimeRnn<GruCell> = layer(DType::F32);
    let (xs, state) = (xs(DType::F32), layer.zero_state(N).unwrap());
    let says = |plan: Plan, want: &str| {
        let error = layer.forward_with(&xs, &state, &plan).unwrap_err().to_string();
        assert_eq!(error, want);
    };
    says(Plan::new().lengths(&[1, 2]), "Plan: lengths: expected 4, one a row, got 2");
    says(
        Plan::new().lengths(&[1, 2, 10, 3]),
        "Plan: length of row 2: expected at most 9, the steps of the window, got 10",
    );
    says(Plan::new().resets(&[true]), "Plan: resets: expected 36, one for each of 4 x 9 steps, got 1");
}

/// Outputs, dx, dh and weight gradients of a long window.
fn in_segments<C: Cell>(
    direction: Direction,
    plan: &Plan,
    segments: Option<Segments>,
    way: Way,
) -> Vec<Tensor> {
    let spec = LayerSpec::new(3, 6).direction(direction);
    let layer = TimeRnn::<C>::build(spec, &parameters(DType::F32).builder()).unwrap().with_way(way);
    let rates = Regularisers { recurrent: 0.2, zoneout_h: 0.1, weight: 0.1, ..Regularisers::default() };
    let layer = layer.with_regularisers(rates).unwrap();
    let layer = match segments {
        Some(segments) => layer.with_segments(segments).unwrap(),
        None => layer,
    };
    let xs = random(&[2, 50, 3], DType::F32, "xs");
    let (hs, next, tape) = layer.forward_taped_with(&xs, &start(&layer, 2, DType::F32), plan).unwrap();
    let grads = layer.backward(tape, &random(hs.dims(), DType::F32, "dhs"), &next).unwrap();
    let mut all = vec![hs, grads.dxs.unwrap()];
    all.extend(next.parts().into_iter().cloned());
    all.extend(grads.dstate.parts().into_iter().cloned());
    all.extend(grads.params.tensors().into_iter().cloned());
    all
}

fn segments<C: Cell>() {
    let resets: Vec<bool> = (0..100).map(|i| i % 23 == 5).collect();
    for direction in Direction::BOTH {
        for plan in [Plan::new(), Plan::new().lengths(&[50, 31]).resets(&resets)] {
            let plan = plan.draw(1, 2);
            for steps in [1, 7, 8, 50, 80] {
                let run = |segments, way| in_segments::<C>(direction, &plan, segments, way);
                let whole = run(None, Way::Fused);
                let recomputed = run(Some(Segments::recomputed(steps)), Way::Fused);
                let kept = run(Some(Segments::kept(steps)), Way::Fused);
                let manual = run(Some(Segments::recomputed(steps)), Way::Manual);
                for (i, ((recomputed, kept), manual)) in recomputed.iter().zip(&kept).zip(&manual).enumerate()
                {
                    assert_eq!(off(recomputed, kept), 0.0, "tensor {i}, {steps} steps");
                    assert!(numbers::relative(manual, kept) < 2e-5, "manual, tensor {i}, {steps} steps");
                }
                let (states, weights) = whole.split_at(whole.len() - 4);
                for (i, (a, b)) in states.iter().zip(&recomputed).enumerate() {
                    assert_eq!(off(a, b), 0.0, "{direction:?}, tensor {i}, {steps} steps");
                }
                for (a, b) in weights.iter().zip(&recomputed[states.len()..]) {
                    assert!(numbers::relative(a, b) < 1e-6, "{direction:?}, {steps} steps");
                }
            }
        }
    }
}

#[test]
fn segments_change_no_bit_but_those_of_sums_over_the_window() {
    segments::<RnnCell>();
    segments::<LstmCell>();
    segments::<GruCell>();
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

#[test]
fn sliding_truncation_refuses_layers_that_read_from_the_end() {
    fn refused<R: Recurrent>(layer: R) {
        let Err(error) = Sliding::new(layer, 2, 4) else { panic!("a layer that reads from the end slides") };
        let error = error.to_string();
        assert!(error.contains("Sliding: layer: expected a layer that goes forward alone"), "{error}");
    }
    let vb = parameters(DType::F32).builder();
    let spec = LayerSpec::new(D, H).direction(Direction::Reverse);
    refused(TimeRnn::<GruCell>::build(spec, &vb).unwrap());
    refused(layer::<Bidirectional<GruCell>>(DType::F32));
    refused(Stack::<Bidirectional<GruCell>>::new(LayerSpec::new(D, H), 2, &vb).unwrap());
    let forward = layer::<TimeRnn<GruCell>>(DType::F32);
    let reverse = LayerSpec::new(H, H).direction(Direction::Reverse);
    let reverse = TimeRnn::<GruCell>::build(reverse, &parameters(DType::F32).builder()).unwrap();
    refused(Stack::from_layers(vec![forward.clone(), reverse]).unwrap());
    assert!(Sliding::new(forward, 2, 4).is_ok());
}

#[test]
fn penalties_are_those_of_plain_ops() {
    for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6)] {
        for time in [1, 2, 6] {
            let hs = Var::from_tensor(&random(&[3, time, 4], dtype, "hs")).unwrap();
            let penalty = Penalty { activation: 0.7, temporal: 0.3 };
            let mut want = (hs.sqr().unwrap().mean_all().unwrap() * 0.7).unwrap();
            if time > 1 {
                let change =
                    (hs.narrow(1, 1, time - 1).unwrap() - hs.narrow(1, 0, time - 1).unwrap()).unwrap();
                want = (want + (change.sqr().unwrap().mean_all().unwrap() * 0.3).unwrap()).unwrap();
            }
            let got = penalty.of(&hs).unwrap();
            assert!(numbers::relative(&got, &want) < tolerance, "T = {time}");
            let grad = |loss: &Tensor| (loss * 3.0).unwrap().backward().unwrap().get(&hs).unwrap().clone();
            assert!(numbers::relative(&grad(&got), &grad(&want)) < tolerance, "T = {time}");
        }
    }
}

#[test]
fn penalties_of_no_outputs_are_zero() {
    let penalty = Penalty { activation: 0.7, temporal: 0.3 };
    for (dtype, dims) in [(DType::F64, [0, 2, 3]), (DType::F32, [2, 0, 3]), (DType::F16, [2, 3, 0])] {
        let hs = Var::zeros(&dims, dtype, &Device::Cpu).unwrap();
        let (value, dhs) = penalty.by_hand(&hs).unwrap();
        assert_eq!((value, dhs.dims()), (0.0, dims.as_slice()));
        let value = penalty.of(&hs).unwrap();
        assert_eq!(of(&value), [0.0]);
        assert_eq!(value.backward().unwrap().get(&hs).unwrap().dims(), dims);
    }
}

#[test]
fn a_stream_has_the_bits_of_a_window_and_its_state_is_a_value() {
    let vb = parameters(DType::F32).builder();
    let spec = LayerSpec::new(D, 20).projection(6);
    let stack = Stack::<TimeRnn<LstmCell>>::new(spec, 2, &vb).unwrap();
    let xs = xs(DType::F32);
    let (hs, last) = stack.infer(&xs, &stack.zero_state(N).unwrap()).unwrap();
    let step =
        |t: usize| -> Vec<f32> { xs.narrow(1, t, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap() };
    let want =
        |t: usize| -> Vec<f32> { hs.narrow(1, t, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap() };
    let mut stream = stack.stream::<f32>(N).unwrap();
    let mut snapshot = None;
    for t in 0..T {
        assert_eq!(stream.step(&step(t)).unwrap(), want(t), "step {t}");
        if t == 3 {
            snapshot = Some(stream.state().unwrap());
        }
    }
    for (got, want) in stream.state().unwrap().parts().iter().zip(last.parts()) {
        assert_eq!(off(got, want), 0.0);
    }
    // Back to the snapshot; then every row goes on from row 2, and from there each has its bits.
    let snapshot = snapshot.unwrap();
    stream.set_state(&snapshot).unwrap();
    assert_eq!(stream.step(&step(4)).unwrap(), want(4));
    stream.set_state(&snapshot).unwrap();
    stream.select(&[2; N]).unwrap();
    let third: Vec<f32> = step(4)[2 * D..3 * D].repeat(N);
    assert_eq!(stream.step(&third).unwrap(), want(4)[2 * 6..3 * 6].repeat(N));
    // As tensors, the same.
    let forked = snapshot.select(&[2; N]).unwrap();
    let input = Tensor::from_vec(third, (N, 1, D), &Device::Cpu).unwrap();
    assert_eq!(
        off(
            &stack.infer(&input, &forked).unwrap().0,
            &hs.i(2..3).unwrap().narrow(1, 4, 1).unwrap().repeat((N, 1, 1)).unwrap()
        ),
        0.0
    );

    for (error, want) in [
        (
            stream.step(&[0.0; 3]).unwrap_err().to_string(),
            "StackStream: xs: expected 20 numbers, [4, 5], got 3",
        ),
        (
            stream.select(&[0, 1, 2, 4]).unwrap_err().to_string(),
            "StackStream::select: expected 4 rows below 4, got [0, 1, 2, 4]",
        ),
        (stack.stream::<f64>(1).err().unwrap().to_string(), "F32"),
        (stack.stream::<f32>(0).err().unwrap().to_string(), "zero_state: batch: expected at least 1, got 0"),
    ] {
        assert!(error.contains(want), "{error}");
    }
    let _: &Tensor = last.layers()[0].h();
}
