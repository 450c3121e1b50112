//! The fused kernels: plain functions over slices, generic over f32 and f64. `README.md` beside this file is the rule.

mod activation;
mod compiled;
pub mod dispatch;
mod lanes;
pub mod lend;
pub mod pointwise;
pub mod product;
pub mod profile;
mod real;
mod share;
pub mod simd;
pub mod team;
pub mod trace;
pub mod unroll;

pub use lanes::{Lanes, Vector};
pub use real::{Real, Typed};
pub use unroll::cpu::Kernel;
