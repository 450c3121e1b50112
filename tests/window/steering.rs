//! What steers a window, in every way: directions, projections, lengths, resets, masks; and what each of them means.

use crate::case::{Case, held};
use crate::numbers::{numbers, off, random};
use candle_core::{DType, Device, IndexOp, Tensor, Var};
use rnn_core::kernels::dispatch::{self, Cpu};
use rnn_core::{
    Bias, Bidirectional, Cell, CellNormLstmCell, Direction, GruCell, Layer, LayerNormLstmCell, LayerSpec,
    LstmCell, Normed, Parameters, PeepholeLstmCell, Plan, Recurrent, Regularisers, ResetBeforeGruCell,
    Result, RnnCell, Segments, Stack, State, TimeRnn, Way,
};

/// N, T, D, H: one of each, and sizes that are no multiple of a vector's width.
const SIZES: [[usize; 4]; 4] = [[1, 1, 3, 2], [3, 6, 3, 5], [5, 4, 20, 17], [9, 3, 5, 33]];

/// The same with more units: a norm over two of them leaves their signs, and a gradient of rounding errors.
pub const NORMED: [[usize; 4]; 3] = [[1, 1, 3, 16], [5, 4, 20, 17], [9, 3, 5, 33]];

const TOLERANCES: [(DType, f64); 2] = [(DType::F64, 1e-12), (DType::F32, 3e-5)];

const ALL: Regularisers =
    Regularisers { input: 0.3, output: 0.4, recurrent: 0.25, weight: 0.5, zoneout_h: 0.2, zoneout_c: 0.15 };

/// Rows of every length from none to all.
fn lengths([n, t, ..]: [usize; 4]) -> Vec<usize> {
    (0..n).map(|i| (i * 5 + t) % (t + 1)).collect()
}

fn resets([n, t, ..]: [usize; 4]) -> Vec<bool> {
    (0..n * t).map(|i| i % 3 == 1 || i % 7 == 0).collect()
}

/// What may be said of a window, each alone and all together.
fn plans(sizes: [usize; 4]) -> Vec<(&'static str, Regularisers, Plan)> {
    let none = Regularisers::default();
    let drawn = Plan::new().draw(3, 8);
    vec![
        ("plain", none, Plan::new()),
        ("lengths", none, Plan::new().lengths(&lengths(sizes))),
        ("resets", none, Plan::new().resets(&resets(sizes))),
        ("a recurrent mask", Regularisers { recurrent: 0.5, ..none }, drawn.clone()),
        ("zoneout", Regularisers { zoneout_h: 0.3, zoneout_c: 0.2, ..none }, drawn.clone()),
        ("everything", ALL, drawn.lengths(&lengths(sizes)).resets(&resets(sizes))),
    ]
}

/// Both doors of every way against the reference.
fn holds<R: Layer>(make: impl Fn(&Case) -> Result<R>) {
    holds_at(&SIZES, make);
}

pub fn holds_at<R: Layer>(all: &[[usize; 4]], make: impl Fn(&Case) -> Result<R>) {
    for (dtype, tolerance) in TOLERANCES {
        for &sizes in all {
            for (what, regularisers, plan) in plans(sizes) {
                let case = Case::new(sizes, dtype, &Device::Cpu).with_plan(plan);
                let layer = make(&case).unwrap();
                let has_c = layer.directions()[0].zero_state(1).unwrap().parts().len() > 1;
                let zoneout_c = if has_c { regularisers.zoneout_c } else { 0.0 };
                let regularisers = Regularisers { zoneout_c, ..regularisers };
                let layer = layer.map(&mut |layer| layer.with_regularisers(regularisers)).unwrap();
                let in_way = |way| layer.clone().map(&mut |layer| Ok(layer.with_way(way))).unwrap();
                let want = case.recorded(&in_way(Way::Reference), Way::Reference);
                let expected = case.inferred(&in_way(Way::Reference));
                let doors = |on: &str, way: Way| {
                    let what = format!("{what}, {on}, {dtype:?} {sizes:?}");
                    let got = case.recorded(&in_way(way), way);
                    held(&what, &got, &want, tolerance);
                    held(&format!("{what} without autograd"), &case.by_hand(&in_way(way)), &got, 0.0);
                    let inferred = case.inferred(&in_way(way));
                    // Where something is drawn, inference has what is expected of it instead.
                    held(&format!("{what}, inferred"), &inferred, &expected, tolerance);
                    if regularisers == Regularisers::default() {
                        held(&format!("{what}, inferred"), &inferred, &got[..inferred.len()].to_vec(), 0.0);
                    }
                };
                doors("manual", Way::Manual);
                for cpu in Cpu::available() {
                    dispatch::with(cpu, || doors(&format!("fused on {cpu:?}"), Way::Fused));
                }
            }
        }
    }
}

fn one<C: Cell>(direction: Direction) {
    holds(|case| TimeRnn::<C>::build(case.spec(Bias::Both).direction(direction), &case.parameters.builder()));
}

#[test]
fn rnn() {
    one::<RnnCell>(Direction::Forward);
    one::<RnnCell>(Direction::Reverse);
}

#[test]
fn lstm() {
    one::<LstmCell>(Direction::Forward);
    one::<LstmCell>(Direction::Reverse);
}

#[test]
fn gru() {
    one::<GruCell>(Direction::Forward);
    one::<GruCell>(Direction::Reverse);
}

#[test]
fn gru_with_the_reset_before_the_product() {
    one::<ResetBeforeGruCell>(Direction::Forward);
    one::<ResetBeforeGruCell>(Direction::Reverse);
}

#[test]
fn lstm_with_peepholes() {
    one::<PeepholeLstmCell>(Direction::Forward);
    one::<PeepholeLstmCell>(Direction::Reverse);
}

#[test]
fn normalised_lstm_and_gru() {
    holds_at(&NORMED, |case| {
        let spec = case.spec(Bias::Both).direction(Direction::Reverse);
        TimeRnn::<Normed<GruCell>>::build(spec, &case.parameters.builder())
    });
    // A cell that takes what is fed for more than the product, inside of one that passes it on.
    holds_at(&NORMED, |case| {
        TimeRnn::<Normed<ResetBeforeGruCell>>::build(case.spec(Bias::Both), &case.parameters.builder())
    });
    holds_at(&NORMED, |case| {
        let spec = case.spec(Bias::Both).projection(case.sizes[3] / 2);
        Bidirectional::<LayerNormLstmCell>::build(spec, &case.parameters.builder())
    });
    holds_at(&NORMED, |case| {
        TimeRnn::<CellNormLstmCell>::build(case.spec(Bias::Both), &case.parameters.builder())
    });
}

/// With one bias and with none, which PyTorch's fixtures say nothing of where PyTorch has no such cell.
fn with_fewer_biases<C: Cell>() {
    for bias in [Bias::None, Bias::Single] {
        holds_at(&NORMED[1..2], |case| TimeRnn::<C>::build(case.spec(bias), &case.parameters.builder()));
    }
}

#[test]
fn every_cell_with_fewer_biases() {
    with_fewer_biases::<ResetBeforeGruCell>();
    with_fewer_biases::<PeepholeLstmCell>();
    with_fewer_biases::<Normed<GruCell>>();
    with_fewer_biases::<LayerNormLstmCell>();
    with_fewer_biases::<CellNormLstmCell>();
}

/// candle may go back through a graph as often as it is asked to.
fn goes_back_twice<C: Cell>() {
    for (way, segments) in [(Way::Manual, None), (Way::Fused, None), (Way::Fused, Some(Segments::kept(2)))] {
        let parameters = Parameters::new(3, DType::F64, &Device::Cpu);
        let layer = TimeRnn::<C>::build(LayerSpec::new(3, 4), &parameters.builder()).unwrap().with_way(way);
        let layer = layer.with_regularisers(Regularisers { zoneout_c: 0.0, ..ALL }).unwrap();
        let layer = match segments {
            Some(segments) => layer.with_segments(segments).unwrap(),
            None => layer,
        };
        let xs = Var::from_tensor(&random(&[2, 5, 3], DType::F64, "xs")).unwrap();
        let plan = Plan::new().draw(3, 8);
        let (hs, _) = layer.forward_with(&xs, &layer.zero_state(2).unwrap(), &plan).unwrap();
        let loss = hs.sqr().unwrap().sum_all().unwrap();
        let all = || {
            let grads = loss.backward().unwrap();
            let of = |var: &Var| numbers(grads.get(var).unwrap());
            parameters.vars().iter().chain([&xs]).map(of).collect::<Vec<_>>()
        };
        assert_eq!(all(), all(), "{way}, {segments:?}");
    }
}

#[test]
fn a_second_backward_through_one_graph_gives_the_same_bits() {
    goes_back_twice::<RnnCell>();
    goes_back_twice::<LstmCell>();
    goes_back_twice::<GruCell>();
    goes_back_twice::<ResetBeforeGruCell>();
    goes_back_twice::<LayerNormLstmCell>();
}

#[test]
fn lstm_with_a_projection() {
    for direction in Direction::BOTH {
        holds(|case| {
            let spec = case.spec(Bias::Both).direction(direction).projection(case.sizes[3] / 2);
            TimeRnn::<LstmCell>::build(spec, &case.parameters.builder())
        });
    }
}

#[test]
fn two_directions() {
    holds(|case| Bidirectional::<GruCell>::build(case.spec(Bias::Single), &case.parameters.builder()));
    holds(|case| {
        let spec = case.spec(Bias::None).projection(case.sizes[3] / 2);
        Bidirectional::<LstmCell>::build(spec, &case.parameters.builder())
    });
}

#[test]
fn stacks_of_two_directions_with_dropout_between() {
    for (dtype, tolerance) in TOLERANCES {
        let sizes = [4, 6, 5, 7];
        let plan = Plan::new().draw(3, 8).lengths(&lengths(sizes)).resets(&resets(sizes));
        let case = Case::new(sizes, dtype, &Device::Cpu).with_plan(plan);
        let (spec, vb) = (case.spec(Bias::Both).projection(3), case.parameters.builder());
        let stack = Stack::<Bidirectional<LstmCell>>::new(spec, 3, &vb).unwrap();
        let stack = stack.map(|layer| layer.with_regularisers(ALL)).unwrap().with_dropout(0.4).unwrap();
        let want = case.recorded(&stack.clone().with_way(Way::Reference), Way::Reference);
        for way in [Way::Manual, Way::Fused] {
            let stack = stack.clone().with_way(way);
            let got = case.recorded(&stack, way);
            held(&format!("{way} {dtype:?}"), &got, &want, tolerance);

            let (hs, next, tape) =
                stack.forward_taped_with(&case.xs(), &case.start(&stack), &case.plan).unwrap();
            let dhs = case.random(hs.dims(), "dhs");
            let grads = stack.backward(tape, &dhs, &case.state(&next, "d")).unwrap();
            assert_eq!(off(&grads.dxs, &got.iter().find(|(name, _)| name == "dxs").unwrap().1), 0.0);
            let params = grads.params.iter().flat_map(|params| params.tensors());
            for ((name, _), grad) in case.parameters.named().iter().zip(params) {
                assert_eq!(off(grad, &got.iter().find(|(other, _)| other == name).unwrap().1), 0.0, "{name}");
            }
        }
    }
}

fn start_of<C: Cell>(layer: &TimeRnn<C>, batch: usize) -> C::State {
    let start = layer.zero_state(batch).unwrap();
    start.try_map(&mut |part| Ok(random(part.dims(), DType::F64, "start"))).unwrap()
}

/// Outputs, the next state and the gradients of the input, of the initial state and of the parameters.
fn there_and_back<C: Cell>(
    layer: &TimeRnn<C>,
    start: &C::State,
    (xs, dhs): (&Tensor, &Tensor),
    plan: &Plan,
) -> Vec<Tensor> {
    let cloned = |tensors: Vec<&Tensor>| tensors.into_iter().cloned().collect::<Vec<_>>();
    if layer.way() != Way::Reference {
        let (hs, next, tape) = layer.forward_taped_with(xs, start, plan).unwrap();
        let grads = layer.backward(tape, dhs, &next.zeros_like().unwrap()).unwrap();
        let of_state = [cloned(next.parts()), vec![grads.dxs], cloned(grads.dstate.parts())];
        return [vec![hs], of_state.concat(), cloned(grads.params[0].tensors())].concat();
    }
    let xs = Var::from_tensor(xs).unwrap();
    let mut inputs = vec![xs.as_tensor().clone()];
    let start = start.try_map(&mut |part| {
        inputs.push(Var::from_tensor(part)?.as_tensor().clone());
        Ok(inputs[inputs.len() - 1].clone())
    });
    inputs.extend(cloned(layer.cell().params().tensors()));
    let (hs, next) = layer.forward_with(&xs, &start.unwrap(), plan).unwrap();
    let grads = (&hs * dhs).unwrap().sum_all().unwrap().backward().unwrap();
    let grads = inputs.iter().map(|input| grads.get(input).unwrap().clone());
    [vec![hs], cloned(next.parts())].concat().into_iter().chain(grads).collect()
}

/// A NaN in the steps before a reset, or in the gradients of padding, ends where the fused way ends it.
fn not_a_number_ends<C: Cell>(direction: Direction) {
    let nan = f64::NAN;
    let parameters = Parameters::new(3, DType::F64, &Device::Cpu);
    let cell = C::new(LayerSpec::new(3, 4).direction(direction), parameters.builder()).unwrap();
    let layer = TimeRnn::new(cell);
    let resets = [false, false, true, false, false, false, false, false, false, true, false, false];
    let plan = Plan::new().lengths(&[4, 2, 3]).resets(&resets);
    // Row 0 before its reset at step 2, seen from either end, and row 2 at its last step.
    let of_row = match direction {
        Direction::Forward => [0.0, nan, 0.0, 0.0],
        Direction::Reverse => [0.0, 0.0, nan, 0.0],
    };
    let broken = Tensor::new(&[of_row, [0.0; 4], [0.0, 0.0, nan, 0.0]], &Device::Cpu).unwrap();
    let padding = [[0.0; 4], [0.0, 0.0, nan, nan], [0.0, 0.0, 0.0, nan]];
    let padding = Tensor::new(&padding, &Device::Cpu).unwrap().unsqueeze(2).unwrap();
    let xs = random(&[3, 4, 3], DType::F64, "xs");
    let dhs = random(&[3, 4, 4], DType::F64, "dhs").broadcast_add(&padding).unwrap();
    let with_nan = xs.broadcast_add(&broken.unsqueeze(2).unwrap()).unwrap();
    for (xs, what) in [(&xs, "finite"), (&with_nan, "with NaN")] {
        let start = start_of(&layer, 3);
        let of = |way| there_and_back(&layer.clone().with_way(way), &start, (xs, &dhs), &plan);
        let want = of(Way::Fused);
        let finite = |tensor: Tensor| numbers(&tensor).iter().all(|x| x.is_finite());
        // Of row 0 what is taken after the reset.
        let after = if direction == Direction::Forward { 2..4 } else { 0..2 };
        for tensor in [&want[0], &want[1 + layer.zero_state(1).unwrap().parts().len()]] {
            assert!(finite(tensor.i((0, after.clone())).unwrap()), "{what}");
            assert!(finite(tensor.i(1).unwrap()), "{what}");
        }
        for way in [Way::Manual, Way::Reference] {
            let got = of(way);
            assert_eq!(got.len(), want.len());
            for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                assert!(what == "with NaN" || finite(want.clone()), "{direction:?}, tensor {k}, fused");
                for (got, want) in numbers(got).into_iter().zip(numbers(want)) {
                    let same = if want.is_nan() { got.is_nan() } else { (got - want).abs() < 1e-12 };
                    assert!(same, "{what}, {direction:?}, {way}, tensor {k}: {got} for {want}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_number_passes_no_reset_and_comes_from_no_padding_in_any_way() {
    for direction in Direction::BOTH {
        not_a_number_ends::<RnnCell>(direction);
        not_a_number_ends::<LstmCell>(direction);
        not_a_number_ends::<GruCell>(direction);
        not_a_number_ends::<ResetBeforeGruCell>(direction);
    }
}

/// A row that takes no step keeps its state, a number or not, and has no part in a gradient of the weights.
fn not_a_number_stays<C: Cell>(direction: Direction) {
    let parameters = Parameters::new(3, DType::F64, &Device::Cpu);
    let cell = C::new(LayerSpec::new(3, 4).direction(direction), parameters.builder()).unwrap();
    let layer = TimeRnn::new(cell);
    let plan = Plan::new().lengths(&[2, 0]);
    let nan = Tensor::new(&[[0.0], [f64::NAN]], &Device::Cpu).unwrap();
    let start = start_of(&layer, 2).try_map(&mut |part| Ok(part.broadcast_add(&nan)?)).unwrap();
    let (xs, dhs) = (random(&[2, 3, 3], DType::F64, "xs"), random(&[2, 3, 4], DType::F64, "dhs"));
    let of = |way| there_and_back(&layer.clone().with_way(way), &start, (&xs, &dhs), &plan);
    let (parts, want) = (start.parts().len(), of(Way::Reference));
    for way in [Way::Manual, Way::Fused] {
        for (k, (got, want)) in of(way).iter().zip(&want).enumerate() {
            let is_next = (1..=parts).contains(&k);
            for (got, want) in numbers(got).into_iter().zip(numbers(want)) {
                let same = if want.is_nan() { is_next && got.is_nan() } else { (got - want).abs() < 1e-12 };
                assert!(same, "{direction:?}, {way}, tensor {k}: {got} for {want}");
            }
        }
    }
}

#[test]
fn a_row_of_no_steps_may_start_with_what_is_not_a_number() {
    for direction in Direction::BOTH {
        not_a_number_stays::<RnnCell>(direction);
        not_a_number_stays::<LstmCell>(direction);
        not_a_number_stays::<GruCell>(direction);
        not_a_number_stays::<ResetBeforeGruCell>(direction);
        not_a_number_stays::<PeepholeLstmCell>(direction);
        not_a_number_stays::<LayerNormLstmCell>(direction);
    }
}
