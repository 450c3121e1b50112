//! Half precision, which the manual way takes on a CPU: what is added up over a window is added up in f32.

use crate::numbers::{numbers as of, random, relative};
use candle_core::{DType, Device, Tensor};
use rnn_core::{
    Cell, Layer, LayerNormLstmCell, LayerParams, LayerSpec, LstmCell, Parameters, PeepholeLstmCell,
    Recurrent, RnnCell, State, TimeRnn, Way, last_ran, reset_last_ran,
};

#[test]
fn the_gradient_of_a_bias_counts_beyond_what_half_precision_counts_to() {
    let half = |number: f64, dims: &[usize]| {
        Tensor::full(number, dims, &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap()
    };
    let parameters = Parameters::new(0, DType::F16, &Device::Cpu);
    let cell = RnnCell::relu(LayerSpec::new(2, 3), parameters.builder()).unwrap();
    // Every step's gate sum is 1, and its gradient 1.
    let params = LayerParams {
        weight_ih: half(0.0, &[3, 2]),
        weight_hh: half(0.0, &[3, 3]),
        bias_ih: Some(half(1.0, &[3])),
        bias_hh: Some(half(0.0, &[3])),
        ..cell.params().clone()
    };
    let layer = TimeRnn::new(cell.with_params(params));
    let state = layer.zero_state(64).unwrap();
    reset_last_ran();
    let (hs, next, tape) = layer.forward_taped(&half(1.0, &[64, 64, 2]), &state).unwrap();
    assert_eq!(last_ran(), Some(Way::Manual));
    let dnext = State::zeros_like(&next).unwrap();
    let grads = layer.backward(tape, &hs.ones_like().unwrap(), &dnext).unwrap();
    for bias in [&grads.params[0].bias_ih, &grads.params[0].bias_hh] {
        assert_eq!(of(bias.as_ref().unwrap()), [4096.0; 3]);
    }
}

/// Gradients in half precision are those of f32 to about the digits that it has, of a window of many steps and rows.
fn gradients<C: Cell>() {
    const SIZES: [usize; 4] = [32, 40, 6, 10];
    let [n, t, d, h] = SIZES;
    let grads = |dtype: DType| {
        let single = Parameters::new(3, DType::F32, &Device::Cpu);
        let cell = C::new(LayerSpec::new(d, h), single.builder()).unwrap();
        let params =
            cell.params().try_map(|tensor| Ok(tensor.to_dtype(DType::F16)?.to_dtype(dtype)?)).unwrap();
        let layer = TimeRnn::new(cell.with_params(params)).with_way(Way::Manual);
        let numbers = |dims: &[usize], name: &str| {
            let numbers = random(dims, DType::F32, name).to_dtype(DType::F16).unwrap();
            numbers.to_dtype(dtype).unwrap()
        };
        let state = layer.zero_state(n).unwrap();
        let (_, next, tape) = layer.forward_taped(&numbers(&[n, t, d], "xs"), &state).unwrap();
        let dhs = (numbers(&[n, t, h], "dhs") + 0.5).unwrap();
        layer.backward(tape, &dhs, &State::zeros_like(&next).unwrap()).unwrap().params.remove(0)
    };
    let (half, single) = (grads(DType::F16), grads(DType::F32));
    for ((name, got), want) in half.names().into_iter().zip(half.tensors()).zip(single.tensors()) {
        let off = relative(&got.to_dtype(DType::F32).unwrap(), want);
        assert!(off < 0.02, "{name} of {}: {off}", std::any::type_name::<C>());
    }
}

#[test]
fn gradients_are_those_of_single_precision() {
    gradients::<RnnCell>();
    gradients::<LstmCell>();
    gradients::<PeepholeLstmCell>();
    gradients::<LayerNormLstmCell>();
}
