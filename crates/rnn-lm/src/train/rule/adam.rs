//! Adam, and with decoupled decay AdamW.

use super::{MAX_KEPT, Rule, epsilon, real};
use crate::Result;
use crate::error::share;
use candle_core::Tensor;
use rnn_core::kernels::Real;

/// Adam (Kingma & Ba 2015), by default with the paper's numbers. Step t, counted from 1, with the gradient g:
///
/// ```text
/// m' = beta1 m + (1 - beta1) g          m^ = m' / (1 - beta1^t)
/// v' = beta2 v + (1 - beta2) g^2        v^ = v' / (1 - beta2^t)
/// w' = w - lr m^ / (sqrt(v^) + epsilon)
/// ```
///
/// m and v begin at zero; the divisions make up for that. With
/// [`Decay::Decoupled`](crate::train::Decay::Decoupled) it is AdamW (Loshchilov & Hutter 2019).
///
/// ```
/// use candle_core::{Device, Var};
/// use rnn_lm::train::{Adam, Grad, Optimizer, Values};
/// let weight = Var::new(&[1f64], &Device::Cpu)?;
/// let grads = [Grad::Dense(Values::F64(&[4.0]))];
/// Optimizer::new(Adam::default(), 0.1).step(std::slice::from_ref(&weight), &grads)?;
/// // m^ = 4 and sqrt(v^) = 4: the first step is as long as the rate.
/// assert!((weight.to_vec1::<f64>()?[0] - 0.9).abs() < 1e-8);
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Decay rate of the first moment, at least 0 and below 1.
    pub beta1: f64,
    /// Decay rate of the second moment, at least 0 and below 1.
    pub beta2: f64,
    /// Added to the square root in the denominator, above 0.
    pub epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

impl Adam {
    /// What both means are divided by at step t.
    fn corrections(&self, step: u64) -> (f64, f64) {
        // Past so many steps neither is any different from 1.
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        (1.0 - self.beta1.powi(step), 1.0 - self.beta2.powi(step))
    }
}

impl Rule for Adam {
    fn check(&self) -> Result<()> {
        share("Adam: beta1", self.beta1)?;
        share("Adam: beta2", self.beta2)?;
        epsilon("Adam: epsilon", self.epsilon)
    }

    fn kept(&self) -> &'static [&'static str] {
        &["mean", "square"]
    }

    fn update<T: Real>(
        &self,
        lr: f64,
        step: u64,
    ) -> impl Fn(T, T, [T; MAX_KEPT]) -> (T, [T; MAX_KEPT]) + Send + Sync {
        let (of_mean, of_square) = self.corrections(step);
        let (beta1, beta2) = (real::<T>(self.beta1), real::<T>(self.beta2));
        let (rest1, rest2) = (real::<T>(1.0 - self.beta1), real::<T>(1.0 - self.beta2));
        let (rate, root, epsilon) =
            (real::<T>(lr / of_mean), real::<T>(of_square.sqrt()), real::<T>(self.epsilon));
        move |w, g, [m, v]| {
            let m = beta1 * m + rest1 * g;
            let v = beta2 * v + rest2 * g * g;
            (w - rate * m / (v.sqrt() / root + epsilon), [m, v])
        }
    }

    fn in_ops(
        &self,
        (lr, step): (f64, u64),
        weight: &Tensor,
        grad: &Tensor,
        kept: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let (of_mean, of_square) = self.corrections(step);
        let mean = ((&kept[0] * self.beta1)? + (grad * (1.0 - self.beta1))?)?;
        let square = ((&kept[1] * self.beta2)? + (grad.sqr()? * (1.0 - self.beta2))?)?;
        let deviation = ((&square / of_square)?.sqrt()? + self.epsilon)?;
        let direction = ((&mean / of_mean)? / deviation)?;
        Ok(((weight - (direction * lr)?)?, vec![mean, square]))
    }
}
