//! Arguments that do not fit: an error that names the argument, what was expected and what came; never a panic.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use rnn_core::border::{Kind, Network, NetworkSpec};
use rnn_core::cell::{CellState, GruState, LstmState, PointwiseGrads, RnnState, Saved, Sums};
use rnn_core::{
    Bias, Bidirectional, Cell, GruCell, Layer, LayerNormLstmCell, LayerParams, LayerSpec, LstmCell, Normed,
    Parameters, Recurrent, Regularisers, RnnCell, Stack, StackState, State, TimeRnn, TimeTape, Way,
};
use rnn_lm::generate::Sampling;
use rnn_lm::layers::{TimeAffine, TimeEmbedding, TimeSoftmaxWithLoss};
use rnn_lm::model::{CellKind, LmSpec, build};
use std::collections::HashMap;
use std::fmt::Display;

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

fn parameters() -> Parameters {
    Parameters::new(1, DType::F32, &Device::Cpu)
}

/// D = 3, H = 4.
fn lstm(way: Way) -> TimeRnn<LstmCell> {
    TimeRnn::new(LstmCell::new(LayerSpec::new(3, 4), parameters().builder()).unwrap()).with_way(way)
}

pub fn says<T>(result: Result<T, impl Display>, parts: &[&str]) {
    let Err(error) = result else { panic!("no error where one that says {parts:?} was expected") };
    let error = error.to_string();
    for part in parts {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

#[test]
fn windows_and_states_that_do_not_fit_a_layer() {
    for way in Way::ALL {
        let layer = lstm(way);
        let state = layer.zero_state(2).unwrap();
        let good = zeros(&[2, 5, 3]);
        let both = |xs: &Tensor, state: &LstmState, parts: &[&str]| {
            says(layer.forward(xs, state), parts);
            says(layer.infer(xs, state), parts);
        };
        for shape in [&[2, 5][..], &[2, 5, 4], &[0, 5, 3], &[2, 0, 3], &[2, 5, 3, 1], &[]] {
            let want = "TimeRnn: xs: expected [N, T, 3] with N and T at least 1";
            both(&zeros(shape), &state, &[want, &format!("got {shape:?}")]);
        }
        both(&good.to_dtype(DType::F64).unwrap(), &state, &["xs: expected the weights' dtype f32, got f64"]);
        both(&good.to_dtype(DType::U32).unwrap(), &state, &["xs: expected the weights' dtype f32, got u32"]);
        let c = |c: Tensor| LstmState { c, ..state.clone() };
        both(
            &good,
            &c(zeros(&[3, 4])),
            &["state.c: expected [2, 4] for xs [2, 5, 3], got [3, 4]", "zero_state"],
        );
        let double = zeros(&[2, 4]).to_dtype(DType::F64).unwrap();
        both(&good, &c(double), &["state.c: expected the weights' dtype f32, got f64"]);
        says(layer.zero_state(0), &["zero_state: batch: expected at least 1, got 0"]);
        for batch in [usize::MAX, 1 << 61] {
            let got = format!("got N = {batch}");
            says(layer.zero_state(batch), &["expected [N, 4] that a memory can have", &got]);
        }
    }
}

#[test]
fn a_backward_that_does_not_fit_its_forward() {
    for way in [Way::Manual, Way::Fused] {
        let layer = lstm(way);
        let forward = || layer.forward_taped(&zeros(&[2, 5, 3]), &layer.zero_state(2).unwrap()).unwrap();
        let tape = || forward().2;
        let (hs, next, _) = forward();
        says(
            layer.backward(tape(), &zeros(&[2, 4, 4]), &next),
            &["backward: dhs: expected [2, 5, 4], got [2, 4, 4]"],
        );
        says(
            layer.backward(tape(), &zeros(&[2, 5, 3]), &next),
            &["backward: dhs: expected [2, 5, 4], got [2, 5, 3]"],
        );
        let other = layer.zero_state(1).unwrap();
        says(
            layer.backward(tape(), &hs, &other),
            &["backward: dnext.h: expected [2, 4] for the tape's window, got [1, 4]"],
        );
        let double = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap();
        says(
            layer.backward(tape(), &double(&hs), &next),
            &["TimeRnn::backward: dtype of dhs: expected f32, got f64"],
        );
        let other = LstmState { c: double(&next.c), ..next.clone() };
        says(
            layer.backward(tape(), &hs, &other),
            &["TimeRnn::backward: dtype of dnext.c: expected f32, got f64"],
        );
    }
    let layer = lstm(Way::Reference);
    let taped = layer.forward_taped(&zeros(&[2, 5, 3]), &layer.zero_state(2).unwrap());
    says(
        taped,
        &["TimeRnn::forward_taped: expected the manual or the fused way, got reference", "backward()"],
    );
}

#[test]
fn a_tape_of_another_layer() {
    fn made<C: Cell>(way: Way, spec: LayerSpec) -> TimeRnn<C> {
        TimeRnn::new(C::new(spec, parameters().builder()).unwrap()).with_way(way)
    }
    fn tape<C: Cell>(layer: &TimeRnn<C>) -> TimeTape {
        let input = layer.cell().spec().input;
        layer.forward_taped(&zeros(&[2, 5, input]), &layer.zero_state(2).unwrap()).unwrap().2
    }
    for way in [Way::Manual, Way::Fused] {
        let ours = lstm(way);
        let (hs, next, _) = ours.forward_taped(&zeros(&[2, 5, 3]), &ours.zero_state(2).unwrap()).unwrap();
        let spec = LayerSpec::new(3, 4);
        let others = [
            tape(&made::<LstmCell>(way, LayerSpec::new(5, 4))),
            tape(&made::<LstmCell>(way, LayerSpec::new(3, 9))),
            tape(&made::<LstmCell>(way, LayerSpec::new(3, 9).projection(4))),
            tape(&made::<LstmCell>(way, spec.bias(Bias::None))),
            tape(&made::<LayerNormLstmCell>(way, spec)),
            tape(&made::<GruCell>(way, spec)),
        ];
        for other in others {
            let want = "TimeRnn::backward: tape: expected that of";
            says(
                ours.backward(other, &hs, &next),
                &[want, "LstmCell (input 3, hidden 4, bias Both, f32)", "left it"],
            );
        }
        says(
            ours.backward(tape(&lstm(way)), &hs, &next),
            &[
                "tape: expected that of this layer or of a clone, got one of another layer of its sizes",
                "left it",
            ],
        );
        assert!(ours.backward(tape(&ours.clone()), &hs, &next).is_ok());
        // One type, two kinds of arithmetic.
        let (tanh, relu) =
            (RnnCell::new(spec, parameters().builder()), RnnCell::relu(spec, parameters().builder()));
        let [tanh, relu] = [tanh, relu].map(|cell| TimeRnn::new(cell.unwrap()).with_way(way));
        let next = tanh.zero_state(2).unwrap();
        says(
            tanh.backward(tape(&relu), &hs, &next),
            &["expected that of", "RnnTanh, got", "RnnRelu (a tape"],
        );
    }
}

#[test]
fn a_tape_of_a_stack_of_other_layers() {
    let stack = |layers| {
        Stack::<TimeRnn<LstmCell>>::new(LayerSpec::new(4, 4), layers, &parameters().builder()).unwrap()
    };
    for (layers, others) in [(2, 1), (2, 3), (1, 2)] {
        let (stack, other) = (stack(layers), stack(others));
        let xs = zeros(&[2, 5, 4]);
        let taped = other.forward_taped(&xs, &other.zero_state(2).unwrap()).unwrap();
        let dnext = stack.zero_state(2).unwrap();
        let want = format!("Stack::backward: tape: expected that of {layers} layers, got one of {others}");
        says(stack.backward(taped.2, &taped.0, &dnext), &[&want]);
    }
    let both = Stack::<Bidirectional<LstmCell>>::new(LayerSpec::new(4, 4), 1, &parameters().builder());
    let both = both.unwrap();
    let xs = zeros(&[2, 5, 4]);
    let of_both = both.forward_taped(&xs, &both.zero_state(2).unwrap()).unwrap();
    let want = "Bidirectional::backward: dhs: expected [N, T, 8], got [2, 5, 9]";
    says(both.backward(of_both.2, &zeros(&[2, 5, 9]), &of_both.1), &[want]);
    let none = rnn_core::cell::Saved(Vec::new());
    let cell = RnnCell::new(LayerSpec::new(4, 4), parameters().builder()).unwrap();
    let dnext = RnnState { h: zeros(&[2, 4]) };
    says(cell.pointwise_backward(&none, &dnext), &["RnnCell: saved: expected 1 tensors, got 0"]);
}

#[test]
fn cells_and_stacks_that_cannot_be_made() {
    for (input, hidden, name) in [(0, 4, "input"), (3, 0, "hidden")] {
        let want = format!("LayerSpec: {name}: expected a size of at least 1, got 0");
        says(RnnCell::new(LayerSpec::new(input, hidden), parameters().builder()), &[&want]);
        says(GruCell::new(LayerSpec::new(input, hidden), parameters().builder()), &[&want]);
    }
    let most = usize::MAX;
    for (input, hidden) in [(1, most), (most, 1), (1, 1 << 62), (1 << 30, 1 << 30)] {
        let want = format!(
            "sizes: expected weights that some memory has room for, got input {input}, hidden {hidden}"
        );
        says(LstmCell::new(LayerSpec::new(input, hidden), parameters().builder()), &["LayerSpec: ", &want]);
        let spec = NetworkSpec::new(Kind::Lstm, input, hidden);
        says(Network::seeded(spec, 1, DType::F32), &["NetworkSpec: ", &want]);
    }
    let loaded = HashMap::from([("weight_ih_l0".to_string(), zeros(&[12, 3]))]);
    let vb = VarBuilder::from_tensors(loaded, DType::F32, &Device::Cpu);
    says(GruCell::new(LayerSpec::new(3, 4), vb.clone()), &["weight_hh_l0"]);
    says(LstmCell::new(LayerSpec::new(3, 4), vb), &["weight_ih_l0", "[16, 3]", "[12, 3]"]);
    let cell = |input, layer| {
        let spec = LayerSpec::new(input, 4).layer(layer).bias(Bias::None);
        TimeRnn::new(GruCell::new(spec, parameters().builder()).unwrap())
    };
    says(Stack::<TimeRnn<GruCell>>::from_layers(vec![]), &["Stack: layers: expected at least 1, got 0"]);
    for (layers, want) in [(0, "at least 1, got 0"), (most, "at most 65536, got 18446744073709551615")] {
        let want = format!("layers: expected {want}");
        let stack = Stack::<TimeRnn<GruCell>>::new(LayerSpec::new(3, 4), layers, &parameters().builder());
        says(stack, &["Stack: ", &want]);
        let spec = NetworkSpec { layers, ..NetworkSpec::new(Kind::Lstm, 3, 4) };
        says(Network::seeded(spec, 1, DType::F32), &["NetworkSpec: ", &want]);
    }
    let stack = Stack::from_layers(vec![cell(3, 0), cell(5, 1)]);
    says(stack, &["Stack: input of layer 1: expected 4, the output size of layer 0, got 5"]);
    let stack = Stack::from_layers(vec![cell(3, 0), cell(4, 1)]).unwrap();
    let one = StackState::new(vec![GruState { h: zeros(&[2, 4]) }]).unwrap();
    says(stack.forward(&zeros(&[2, 5, 3]), &one), &["Stack: state: expected 2 layers, got 1", "zero_state"]);
    says(StackState::<RnnState>::new(vec![]), &["at least 1"]);
    assert_eq!(stack.zero_state(2).unwrap().names(), ["h_l0", "h_l1"]);
}

#[test]
fn ids_targets_and_sizes_that_do_not_fit_the_book_s_layers() {
    let (vb, init) = (parameters().builder(), rnn_core::Scheme::Book);
    says(TimeEmbedding::new(0, 3, init, &vb), &["TimeEmbedding: vocabulary", "got 0"]);
    says(TimeAffine::new(3, 0, init, &vb), &["TimeAffine: outputs", "got 0"]);
    let embedding = TimeEmbedding::new(7, 3, init, &vb).unwrap();
    let ids = Tensor::new(&[[0u32, 6], [7, 1]], &Device::Cpu).unwrap();
    says(embedding.forward(&ids), &["TimeEmbedding: ids: expected ids below 7", "got 7 (at position 2)"]);
    let logits = zeros(&[1, 2, 7]);
    let op = "TimeSoftmaxWithLoss: targets: expected";
    for loss in [TimeSoftmaxWithLoss::forward, TimeSoftmaxWithLoss::reference] {
        says(loss(TimeSoftmaxWithLoss, &logits, &[1, 7]), &[op, "below 7", "got 7 (at position 1)"]);
        says(loss(TimeSoftmaxWithLoss, &logits, &[1]), &[op, "2, one a step, got 1"]);
    }
}

#[test]
fn what_a_language_model_is_asked_that_it_cannot_answer() {
    let spec = LmSpec::new(7, 3, 4).bias(Bias::Single).init(rnn_core::Scheme::Book);
    let make = |spec: &LmSpec| build(CellKind::Gru, spec, Way::Fused, (DType::F32, &Device::Cpu), 1);
    for (wrong, name) in [
        (LmSpec { vocabulary: 0, ..spec }, "vocabulary"),
        (LmSpec { embed: 0, ..spec }, "embed"),
        (LmSpec { hidden: 0, ..spec }, "hidden"),
        (LmSpec { layers: 0, ..spec }, "layers"),
    ] {
        says(make(&wrong).map(drop), &[&format!("LmSpec: {name}: expected at least 1, got 0")]);
    }
    says(
        make(&spec.tied(true)).map(drop),
        &["LmSpec: embed: expected 4, the hidden size, of tied weights, got 3", "as wide"],
    );
    for absurd in [LmSpec { hidden: usize::MAX, ..spec }, LmSpec { vocabulary: 1 << 40, ..spec }] {
        says(make(&absurd).map(drop), &["LmSpec: expected at most", "parameters"]);
    }
    let mut model = make(&spec).unwrap();
    says(model.evaluate(&[1], 5), &["evaluate: ids: expected at least 2", "got 1"]);
    says(model.evaluate(&[1, 2], 0), &["evaluate: time: expected at least 1, got 0"]);
    says(model.evaluate(&[1, 9], 5), &["evaluate: ids: expected ids below 7", "got 9 (at position 1)"]);
    says(model.probabilities(&[]), &["probabilities: ids: expected at least one"]);
    let sampling = Sampling::default();
    says(model.generate(&[], 3, &sampling), &["generate: prompt: expected at least one id"]);
    says(model.generate(&[7], 3, &sampling), &["generate: prompt: expected ids below 7, ", "got 7"]);
    for temperature in [-1.0, f64::NAN, f64::INFINITY] {
        let sampling = Sampling { temperature, ..sampling.clone() };
        says(model.generate(&[1], 3, &sampling), &["generate: temperature: expected a number of at least 0"]);
    }
    let skip_all = Sampling { skip: (0..7).collect(), ..sampling };
    says(model.generate(&[1], 3, &skip_all), &["generate: probabilities", "all ids skipped"]);
    says(model.backward(), &["backward: expected a forward before it"]);
    says(model.gradients(), &["Rnnlm::gradients: expected a backward before it"]);
}

/// A cell's state with its parts in another order than layers take them in.
#[derive(Debug, Clone)]
struct Turned(LstmState);

impl State for Turned {
    fn parts(&self) -> Vec<&Tensor> {
        vec![&self.0.c, &self.0.h]
    }

    fn names(&self) -> Vec<String> {
        vec!["c".into(), "h".into()]
    }

    fn try_map(&self, f: &mut dyn FnMut(&Tensor) -> rnn_core::Result<Tensor>) -> rnn_core::Result<Self> {
        Ok(Self(LstmState { c: f(&self.0.c)?, h: f(&self.0.h)? }))
    }
}

impl CellState for Turned {
    fn h(&self) -> &Tensor {
        &self.0.h
    }

    fn with_h(&self, h: Tensor) -> Self {
        Self(self.0.with_h(h))
    }
}

#[derive(Debug, Clone)]
struct TurnedLstm(LstmCell);

impl Cell for TurnedLstm {
    type State = Turned;
    const GATES: usize = 4;

    fn new(spec: LayerSpec, vb: VarBuilder) -> rnn_core::Result<Self> {
        Ok(Self(LstmCell::new(spec, vb)?))
    }

    fn spec(&self) -> &LayerSpec {
        self.0.spec()
    }

    fn params(&self) -> &LayerParams {
        self.0.params()
    }

    fn with_params(&self, params: LayerParams) -> Self {
        Self(self.0.with_params(params))
    }

    fn zero_state(&self, batch: usize) -> rnn_core::Result<Turned> {
        Ok(Turned(self.0.zero_state(batch)?))
    }

    fn pointwise_forward(&self, sums: &Sums, state: &Turned) -> rnn_core::Result<(Turned, Saved)> {
        let (next, saved) = self.0.pointwise_forward(sums, &state.0)?;
        Ok((Turned(next), saved))
    }

    fn pointwise_backward(&self, saved: &Saved, dnext: &Turned) -> rnn_core::Result<PointwiseGrads<Turned>> {
        let PointwiseGrads { sums, state, fed, own } = self.0.pointwise_backward(saved, &dnext.0)?;
        Ok(PointwiseGrads { sums, state: Turned(state), fed, own })
    }
}

#[test]
fn a_state_that_does_not_begin_with_h() {
    let layer = TimeRnn::<TurnedLstm>::build(LayerSpec::new(3, 4), &parameters().builder()).unwrap();
    let start = layer.zero_state(1).unwrap();
    says(
        layer.forward(&zeros(&[1, 2, 3]), &start),
        &["CellState: the first part: expected the hidden state, got c", "State::parts"],
    );
}

#[test]
fn a_layer_that_is_mapped_to_another_kind() {
    let parameters = parameters();
    let forward = |spec: LayerSpec| TimeRnn::<LstmCell>::build(spec, &parameters.builder());
    let both = Bidirectional::<LstmCell>::build(LayerSpec::new(3, 4), &parameters.builder()).unwrap();
    says(
        both.map(&mut |_| forward(LayerSpec::new(3, 4))),
        &["Bidirectional: direction: expected Reverse, got Forward"],
    );
    let stack = Stack::<TimeRnn<LstmCell>>::new(LayerSpec::new(3, 4), 2, &parameters.builder()).unwrap();
    says(
        stack.map(|_| forward(LayerSpec::new(3, 4))),
        &["Stack: input of layer 1: expected 4, the output size of layer 0, got 3"],
    );
}

#[test]
fn layers_of_one_place_that_draw_masks() {
    let parameters = parameters();
    let layer = |prefix: &str| {
        TimeRnn::<LstmCell>::build(LayerSpec::new(4, 4), &parameters.builder().pp(prefix)).unwrap()
    };
    let drawing = |layer: TimeRnn<LstmCell>| {
        layer.with_regularisers(Regularisers { recurrent: 0.5, ..Regularisers::default() })
    };
    // Where nothing is drawn they may be of one place.
    let stack = Stack::from_layers(vec![layer("a"), layer("b")]).unwrap();
    let parts = ["layers that draw masks: expected each of another place, got two of", "LayerSpec::layer"];
    says(stack.map(drawing), &parts);
    says(Stack::from_layers(vec![drawing(layer("a")).unwrap(), drawing(layer("b")).unwrap()]), &parts);
}

#[test]
fn a_cell_that_is_normalised_twice() {
    let made = Normed::<LayerNormLstmCell>::new(LayerSpec::new(3, 4), parameters().builder());
    says(made, &["LayerParams::and: expected a name that no other parameter has, got norm_ih"]);
}

#[test]
fn a_stream_takes_an_affine_layer_however_it_lies_in_memory() {
    let stack = Stack::from_layers(vec![lstm(Way::Fused)]).unwrap();
    let weight = Tensor::rand(-1f32, 1.0, (4, 5), &Device::Cpu).unwrap();
    let (turned, bias) = (weight.t().unwrap(), zeros(&[5]));
    let step = |weight: &Tensor| {
        let mut stream = stack.stream_into::<f32>(1, Some((weight, &bias))).unwrap();
        stream.step(&[0.1, 0.2, 0.3]).unwrap().to_vec()
    };
    assert_eq!(step(&turned), step(&turned.contiguous().unwrap()));
}
