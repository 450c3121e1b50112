//! RMSprop.

use super::{MAX_KEPT, Rule, epsilon, real};
use crate::Result;
use crate::error::share;
use candle_core::Tensor;
use rnn_core::kernels::Real;

/// RMSprop (Tieleman & Hinton 2012), by default with PyTorch's numbers. With the gradient g, and v from zero on:
///
/// ```text
/// v' = alpha v + (1 - alpha) g^2
/// w' = w - lr g / (sqrt(v') + epsilon)
/// ```
///
/// ```
/// use candle_core::{Device, Var};
/// use rnn_lm::train::{Grad, Optimizer, RmsProp, Values};
/// let weight = Var::new(&[2f64], &Device::Cpu)?;
/// let grads = [Grad::Dense(Values::F64(&[4.0]))];
/// Optimizer::new(RmsProp::default(), 0.1).step(std::slice::from_ref(&weight), &grads)?;
/// // v' = 0.01 x 16, so the step is 0.1 x 4 / 0.4.
/// assert!((weight.to_vec1::<f64>()?[0] - 1.0).abs() < 1e-6);
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsProp {
    /// Decay rate of the second moment, at least 0 and below 1.
    pub alpha: f64,
    /// Added to the square root in the denominator, above 0.
    pub epsilon: f64,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { alpha: 0.99, epsilon: 1e-8 }
    }
}

impl Rule for RmsProp {
    fn check(&self) -> Result<()> {
        share("RmsProp: alpha", self.alpha)?;
        epsilon("RmsProp: epsilon", self.epsilon)
    }

    fn kept(&self) -> &'static [&'static str] {
        &["square"]
    }

    fn update<T: Real>(
        &self,
        lr: f64,
        _: u64,
    ) -> impl Fn(T, T, [T; MAX_KEPT]) -> (T, [T; MAX_KEPT]) + Send + Sync {
        let (lr, alpha, rest) = (real::<T>(lr), real::<T>(self.alpha), real::<T>(1.0 - self.alpha));
        let epsilon = real::<T>(self.epsilon);
        move |w, g, [v, _]| {
            let v = alpha * v + rest * g * g;
            (w - lr * g / (v.sqrt() + epsilon), [v, T::ZERO])
        }
    }

    fn in_ops(
        &self,
        (lr, _): (f64, u64),
        weight: &Tensor,
        grad: &Tensor,
        kept: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let square = ((&kept[0] * self.alpha)? + (grad.sqr()? * (1.0 - self.alpha))?)?;
        let direction = (grad / (square.sqrt()? + self.epsilon)?)?;
        Ok(((weight - (direction * lr)?)?, vec![square]))
    }
}
