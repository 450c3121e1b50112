//! What is said of a window means what it says: each thing against plain windows that it must be equal to.

use crate::numbers::{self, numbers as of, off, random};
use crate::small::{D, H, N, T, layer, parameters, start, xs};
use candle_core::{DType, Device, IndexOp, Tensor, Var};
use rnn_core::{
    Bidirectional, Cell, CellState, Direction, GruCell, Layer, LayerNormLstmCell, LayerSpec, LstmCell,
    Normed, Penalty, Plan, Recurrent, RnnCell, Stack, State, TimeRnn, Way,
};

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

/// Whatever stands there: no number, and numbers that a product with a weight makes none of.
fn behind_an_end<C: Cell>() {
    for way in Way::ALL {
        let layer: TimeRnn<C> = layer(DType::F64);
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
        for fill in [f64::NAN, f64::INFINITY, f64::MAX / 2.0] {
            for (zero, wild) in run(0.0).iter().zip(run(fill)) {
                assert_eq!(off(zero, &wild), 0.0, "{way}, {fill}");
            }
        }
    }
}

#[test]
fn what_stands_behind_an_end_is_never_looked_at() {
    behind_an_end::<LstmCell>();
    behind_an_end::<Normed<GruCell>>();
    behind_an_end::<LayerNormLstmCell>();
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

#[test]
fn penalties_are_those_of_plain_ops() {
    let penalty = Penalty { activation: 0.7, temporal: 0.3 };
    // Half floats take the way of a GPU.
    for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6), (DType::F16, 5e-3)] {
        for lengths in [[1; 3], [2; 3], [6; 3], [6, 1, 4], [0, 6, 2]] {
            let time = lengths.into_iter().max().unwrap();
            let hs = Var::from_tensor(&random(&[3, time, 4], dtype, "hs")).unwrap();
            // All steps that there are behind one another, and all changes.
            let (mut steps, mut changes) = (Vec::new(), Vec::new());
            for (n, length) in lengths.into_iter().enumerate() {
                let row = |from, count| hs.narrow(0, n, 1).unwrap().narrow(1, from, count).unwrap();
                if length > 0 {
                    steps.push(row(0, length));
                }
                if length > 1 {
                    changes.push((row(1, length - 1) - row(0, length - 1)).unwrap());
                }
            }
            let mean = |parts: &[Tensor]| Tensor::cat(parts, 1).unwrap().sqr().unwrap().mean_all().unwrap();
            let mut want = (mean(&steps) * 0.7).unwrap();
            if !changes.is_empty() {
                want = (want + (mean(&changes) * 0.3).unwrap()).unwrap();
            }
            let got =
                penalty.of(&hs, lengths.iter().any(|&length| length < time).then_some(&lengths)).unwrap();
            assert!(numbers::relative(&got, &want) < tolerance, "{dtype:?} {lengths:?}: {got} {want}");
            let grad = |loss: &Tensor| (loss * 3.0).unwrap().backward().unwrap().get(&hs).unwrap().clone();
            assert!(numbers::relative(&grad(&got), &grad(&want)) < tolerance, "{dtype:?} {lengths:?}");
        }
    }
    let hs = random(&[2, 3, 4], DType::F32, "hs");
    for (lengths, want) in [
        ([3].as_slice(), "Penalty: lengths: expected 2, one a row, got 1"),
        (&[3, 4], "Penalty: length of row 1: expected at most 3, the steps of the window, got 4"),
    ] {
        assert_eq!(penalty.by_hand(&hs, Some(lengths)).unwrap_err().to_string(), want);
    }
}

#[test]
fn penalties_of_no_outputs_are_zero() {
    let penalty = Penalty { activation: 0.7, temporal: 0.3 };
    for (dtype, dims) in [(DType::F64, [0, 2, 3]), (DType::F32, [2, 0, 3]), (DType::F16, [2, 3, 0])] {
        let hs = Var::zeros(&dims, dtype, &Device::Cpu).unwrap();
        let (value, dhs) = penalty.by_hand(&hs, None).unwrap();
        assert_eq!((value, dhs.dims()), (0.0, dims.as_slice()));
        let value = penalty.of(&hs, None).unwrap();
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
