//! The fused kernels: plain functions over slices, generic over f32 and f64. The rules of this folder are in the `README.md` beside
//! this file.

mod activation;
mod compiled;
pub mod dispatch;
mod lanes;
pub mod pointwise;
mod real;
mod share;
#[cfg(test)]
mod tests;
pub mod unroll;

// For `rnn-lm` and the benchmarks, which have loops of their own: they panic where slices do not fit, and may change with any
// version.
#[doc(hidden)]
pub mod lend;
#[doc(hidden)]
pub mod product;
#[doc(hidden)]
pub mod profile;
#[doc(hidden)]
pub mod simd;
#[doc(hidden)]
pub mod team;
#[doc(hidden)]
pub mod trace;

pub use lanes::{Lanes, Vector};
pub use real::{Real, Typed};
pub use unroll::cpu::Kernel;
