//! Stochastic gradient descent, with momentum if wanted (Polyak 1964; Nesterov 1983, as Sutskever et al. 2013 write it):
//! `v' = momentum v + g`, `w' = w - lr v'`; with Nesterov's `w' = w - lr (g + momentum v')`.

use super::{MAX_KEPT, Rule, real};
use crate::Result;
use crate::error::share;
use candle_core::Tensor;
use rnn_core::kernels::Real;

/// The book's rule, without momentum; then nothing is kept, and a weight without a gradient stays what it is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sgd {
    /// The share of the last step that is taken again.
    pub momentum: f64,
    /// Whether the gradient is that of where the momentum will have led.
    pub nesterov: bool,
}

impl Rule for Sgd {
    fn check(&self) -> Result<()> {
        share("Sgd: momentum", self.momentum).map(drop)
    }

    fn kept(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["velocity"] }
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
