//! A window of small sizes, none of them a multiple of a vector's, and what runs over it.

use crate::numbers::random;
use candle_core::{DType, Device, Tensor};
use rnn_core::{Layer, LayerSpec, Parameters, Recurrent, State};

pub const N: usize = 4;
pub const T: usize = 9;
pub const D: usize = 5;
pub const H: usize = 7;

pub fn xs(dtype: DType) -> Tensor {
    random(&[N, T, D], dtype, "xs")
}

pub fn parameters(dtype: DType) -> Parameters {
    Parameters::new(2, dtype, &Device::Cpu)
}

pub fn layer<R: Layer>(dtype: DType) -> R {
    R::build(LayerSpec::new(D, H), &parameters(dtype).builder()).unwrap()
}

pub fn start<R: Recurrent>(layer: &R, batch: usize, dtype: DType) -> R::State {
    let zeros = layer.zero_state(batch).unwrap();
    let mut names = zeros.names().into_iter();
    zeros.try_map(&mut |part| Ok(random(part.dims(), dtype, &names.next().unwrap()))).unwrap()
}
