//! Stochastic gradient descent, with momentum if wanted.

use super::{MAX_KEPT, Rule, real};
use crate::Result;
use crate::error::share;
use candle_core::Tensor;
use rnn_core::kernels::Real;

/// Stochastic gradient descent, by default without momentum: `w' = w - lr g`, the book's rule. Then nothing is kept,
/// and a weight without a gradient stays what it is. With a momentum mu, and v from zero on:
///
/// ```text
/// v' = mu v + g
/// w' = w - lr v'              Polyak 1964
/// w' = w - lr (g + mu v')     Nesterov 1983 by way of Sutskever et al. 2013, as PyTorch has it
/// ```
///
/// ```
/// use candle_core::{Device, Var};
/// use rnn_lm::train::{Grad, Optimizer, Sgd, Values};
/// let grads = [Grad::Dense(Values::F64(&[1.0]))];
/// for (momentum, nesterov, want) in [(0.0, false, 0.9), (0.5, false, 0.9), (0.5, true, 0.85)] {
///     let weight = Var::new(&[1f64], &Device::Cpu)?;
///     Optimizer::new(Sgd { momentum, nesterov }, 0.1).step(std::slice::from_ref(&weight), &grads)?;
///     assert!((weight.to_vec1::<f64>()?[0] - want).abs() < 1e-12);
/// }
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sgd {
    /// The mu of `v' = mu v + g`, at least 0 and below 1; 0 for none.
    pub momentum: f64,
    /// Whether the step is `lr (g + mu v')` instead of `lr v'`.
    pub nesterov: bool,
}

impl Rule for Sgd {
    fn check(&self) -> Result<()> {
        share("Sgd: momentum", self.momentum).map(drop)
    }

    fn kept(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["velocity"] }
    }

    fn rests(&self) -> bool {
        true
    }

    fn update<T: Real>(
        &self,
        lr: f64,
        _: u64,
    ) -> impl Fn(T, T, [T; MAX_KEPT]) -> (T, [T; MAX_KEPT]) + Send + Sync {
        let (lr, momentum) = (real::<T>(lr), real::<T>(self.momentum));
        let ahead = if self.nesterov { T::ONE } else { T::ZERO };
        // Without Nesterov's the gradient has no share of its own, and all of the velocity is taken.
        let (of_grad, of_velocity) = (ahead, if self.nesterov { momentum } else { T::ONE });
        move |w, g, [v, _]| {
            let v = momentum * v + g;
            (w - lr * (of_grad * g + of_velocity * v), [v, T::ZERO])
        }
    }

    fn in_ops(
        &self,
        (lr, _): (f64, u64),
        weight: &Tensor,
        grad: &Tensor,
        kept: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let Some(velocity) = kept.first() else {
            return Ok(((weight - (grad * lr)?)?, Vec::new()));
        };
        let velocity = ((velocity * self.momentum)? + grad)?;
        let direction = if self.nesterov { (grad + (&velocity * self.momentum)?)? } else { velocity.clone() };
        Ok(((weight - (direction * lr)?)?, vec![velocity]))
    }
}
