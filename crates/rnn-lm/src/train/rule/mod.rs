//! What an optimiser does with one number: one file a rule. All else, clipping, decay, rows, threads, devices and what is
//! kept between steps, is the [`super::Optimizer`]'s.

mod adam;
mod rms_prop;
mod sgd;

pub use adam::Adam;
pub use rms_prop::RmsProp;
pub use sgd::Sgd;

use crate::Result;
use candle_core::Tensor;
use rnn_core::kernels::Real;
use std::fmt::Debug;

/// As many numbers as any rule keeps beside a weight.
pub const MAX_KEPT: usize = 2;

/// A rule, written over single numbers.
pub trait Rule: Debug + Clone + Send + Sync + 'static {
    /// Looks at its numbers, before each step; by default all are right.
    ///
    /// # Errors
    /// Where one is out of its range.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The names of what is kept beside each weight, at most [`MAX_KEPT`]; all begin at zero.
    fn kept(&self) -> &'static [&'static str];

    /// Step number `step`, from 1, with the rate `lr`: a weight, its gradient and what is kept, to the next weight and what is
    /// then kept.
    fn update<T: Real>(
        &self,
        lr: f64,
        step: u64,
    ) -> impl Fn(T, T, [T; MAX_KEPT]) -> (T, [T; MAX_KEPT]) + Send + Sync;

    /// The same in tensor ops at a rate and a step, for weights that are not on the CPU, and to be held against.
    ///
    /// # Errors
    /// Those of candle.
    fn in_ops(
        &self,
        at: (f64, u64),
        weight: &Tensor,
        grad: &Tensor,
        kept: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)>;
}

fn real<T: Real>(x: f64) -> T {
    T::from_f64(x)
}
