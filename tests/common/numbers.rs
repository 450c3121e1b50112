//! What several tests need: numbers to compute with, and how far apart two tensors are.
#![allow(dead_code, reason = "each test takes what it needs")]

use candle_core::{DType, Device, Tensor};
use rnn_core::rng::Stream;

/// Normal numbers on the CPU; the same for the same purpose and shape.
pub fn random(shape: &[usize], dtype: DType, purpose: &str) -> Tensor {
    let mut stream = Stream::new(5, purpose, 0);
    let numbers: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal()).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// All numbers of a tensor on any device, in f64.
pub fn numbers(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference; NaN where one is in it.
pub fn off(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let differences = numbers(a).into_iter().zip(numbers(b)).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, larger)
}

/// The largest difference relative to the largest magnitude wanted; absolute where that is zero.
pub fn relative(got: &Tensor, want: &Tensor) -> f64 {
    let scale = numbers(want).into_iter().map(f64::abs).fold(0.0, larger);
    let off = off(got, want);
    if scale > 0.0 { off / scale } else { off }
}

/// The larger one, or NaN where one is: `f64::max` would drop it, and an error would pass unseen.
pub fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}
