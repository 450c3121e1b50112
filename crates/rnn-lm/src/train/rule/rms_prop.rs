//! RMSprop (Tieleman & Hinton 2012): `v' = alpha v + (1 - alpha) g^2`, `w' = w - lr g / (sqrt(v') + eps)`.

use super::{MAX_KEPT, Rule, real};
use crate::Result;
use crate::error::{at_least_zero, share};
use candle_core::Tensor;
use rnn_core::kernels::Real;

/// RMSprop; by default with PyTorch's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsProp {
    /// What the mean of the squared gradients keeps of itself.
    pub alpha: f64,
    /// What is added to the root of that mean.
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
        at_least_zero("RmsProp: epsilon", self.epsilon).map(drop)
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
