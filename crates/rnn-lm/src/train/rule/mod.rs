//! What an optimiser does with one number: one file a rule.

mod adam;
mod rms_prop;
mod sgd;

pub use adam::Adam;
pub use rms_prop::RmsProp;
pub use sgd::Sgd;

use crate::{Error, Result};
use candle_core::Tensor;
use rnn_core::kernels::Real;
use std::fmt::Debug;

/// As many numbers as any rule keeps beside a weight.
pub const MAX_KEPT: usize = 2;

/// A rule, written over single numbers: `(w, g, kept) -> (w', kept')`. All else, clipping, decay, rows, threads,
/// devices and what is kept between steps, is the [`Optimizer`](super::Optimizer)'s. A rule of your own:
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use rnn_core::kernels::Real;
/// use rnn_lm::train::{Grad, MAX_KEPT, Optimizer, Rule, Values};
/// /// `w' = w - lr sign(g)`
/// #[derive(Debug, Clone)]
/// struct Sign;
/// impl Rule for Sign {
///     fn kept(&self) -> &'static [&'static str] {
///         &[]
///     }
///     fn update<T: Real>(
///         &self,
///         lr: f64,
///         _: u64,
///     ) -> impl Fn(T, T, [T; MAX_KEPT]) -> (T, [T; MAX_KEPT]) + Send + Sync {
///         let lr = T::from_f64(lr);
///         move |w, g, kept| (if g > T::ZERO { w - lr } else if g < T::ZERO { w + lr } else { w }, kept)
///     }
///     fn in_ops(
///         &self,
///         (lr, _): (f64, u64),
///         weight: &Tensor,
///         grad: &Tensor,
///         _: &[Tensor],
///     ) -> rnn_lm::Result<(Tensor, Vec<Tensor>)> {
///         Ok(((weight - (grad.sign()? * lr)?)?, Vec::new()))
///     }
/// }
/// let weight = Var::new(&[1f64, 1.0], &Device::Cpu)?;
/// let grads = [Grad::Dense(Values::F64(&[3.0, -0.1]))];
/// Optimizer::new(Sign, 0.5).step(std::slice::from_ref(&weight), &grads)?;
/// assert_eq!(weight.to_vec1::<f64>()?, [0.5, 1.5]);
/// # rnn_lm::Result::Ok(())
/// ```
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

    /// Whether a weight whose gradient is 0 stays what it is, where nothing is kept beside it: rows of a table that have no gradient
    /// are passed over then. By default no rule does.
    fn rests(&self) -> bool {
        false
    }

    /// Step number `step`, counted from 1, with the rate `lr`: from a weight, its gradient and what is kept, in the
    /// order of [`Self::kept`], to the next weight and what is then kept. Clipping and decay have been before.
    fn update<T: Real>(
        &self,
        lr: f64,
        step: u64,
    ) -> impl Fn(T, T, [T; MAX_KEPT]) -> (T, [T; MAX_KEPT]) + Send + Sync;

    /// The same in tensor ops, `at` a rate and a step: for weights that are not on the CPU, and for tests. `weight`, `grad`, each
    /// of `kept`, and what comes out have one shape.
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

/// What keeps a division from being one by zero where there was no gradient: above 0 as an f32 too.
pub(crate) fn epsilon(op: &str, value: f64) -> Result<()> {
    match value.is_finite() && value as f32 > 0.0 {
        true => Ok(()),
        false => Err(Error::invalid(op, "a number above 0, in f32 too", value)),
    }
}
