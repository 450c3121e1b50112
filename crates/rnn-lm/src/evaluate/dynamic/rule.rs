//! What dynamic evaluation does with one number.

use crate::Result;
use crate::train::{MAX_KEPT, Rule};
use candle_core::Tensor;
use rnn_core::kernels::Real;

/// The weights that a model came with, w0.
pub(super) const ORIGIN: &str = "origin";
/// The root mean square of each weight's gradients, r.
pub(super) const RMS: &str = "rms";
/// What it is the root of.
pub(super) const SQUARE: &str = "square";

/// `w' = w - lr g + decay (w0 - w)`
#[derive(Debug, Clone, Copy)]
pub(super) struct Back {
    pub(super) decay: f64,
}

impl Rule for Back {
    fn kept(&self) -> &'static [&'static str] {
        &[ORIGIN]
    }

    fn update<T: Real>(
        &self,
        lr: f64,
        _: u64,
    ) -> impl Fn(T, T, [T; MAX_KEPT]) -> (T, [T; MAX_KEPT]) + Send + Sync {
        let (lr, decay) = (T::from_f64(lr), T::from_f64(self.decay));
        move |w, g, [origin, rest]| (w - lr * g + decay * (origin - w), [origin, rest])
    }

    fn in_ops(
        &self,
        (lr, _): (f64, u64),
        weight: &Tensor,
        grad: &Tensor,
        kept: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let back = ((&kept[0] - weight)? * self.decay)?;
        Ok((((weight - (grad * lr)?)? + back)?, vec![kept[0].copy()?]))
    }
}

/// `w' = w - lr g / (r + epsilon) + min(1, decay r) (w0 - w)`, with a decay that has been divided by the mean
/// of all r.
#[derive(Debug, Clone, Copy)]
pub(super) struct BackByRms {
    pub(super) decay: f64,
    pub(super) epsilon: f64,
}

impl Rule for BackByRms {
    fn kept(&self) -> &'static [&'static str] {
        &[ORIGIN, RMS]
    }

    fn update<T: Real>(
        &self,
        lr: f64,
        _: u64,
    ) -> impl Fn(T, T, [T; MAX_KEPT]) -> (T, [T; MAX_KEPT]) + Send + Sync {
        let (lr, decay, epsilon) = (T::from_f64(lr), T::from_f64(self.decay), T::from_f64(self.epsilon));
        move |w, g, [origin, rms]| {
            let share = decay * rms;
            let share = if share > T::ONE { T::ONE } else { share };
            (w - lr * g / (rms + epsilon) + share * (origin - w), [origin, rms])
        }
    }

    fn in_ops(
        &self,
        (lr, _): (f64, u64),
        weight: &Tensor,
        grad: &Tensor,
        kept: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let (origin, rms) = (&kept[0], &kept[1]);
        let share = (rms * self.decay)?.minimum(1.0)?;
        let step = ((grad * lr)? / (rms + self.epsilon)?)?;
        let back = (share * (origin - weight)?)?;
        Ok((((weight - step)? + back)?, vec![origin.copy()?, rms.copy()?]))
    }
}

/// Leaves the weight alone and keeps the mean of the squares: `s' = s + (g^2 - s) / steps`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Squares;

impl Rule for Squares {
    fn kept(&self) -> &'static [&'static str] {
        &[SQUARE]
    }

    fn update<T: Real>(
        &self,
        _: f64,
        step: u64,
    ) -> impl Fn(T, T, [T; MAX_KEPT]) -> (T, [T; MAX_KEPT]) + Send + Sync {
        let share = T::from_f64(1.0 / step as f64);
        move |w, g, [square, rest]| (w, [square + share * (g * g - square), rest])
    }

    fn in_ops(
        &self,
        (_, step): (f64, u64),
        weight: &Tensor,
        grad: &Tensor,
        kept: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let square = (&kept[0] + ((grad.sqr()? - &kept[0])? * (1.0 / step as f64))?)?;
        Ok((weight.copy()?, vec![square]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// The numbers one by one and the tensor ops, with a share above 1 among them.
    fn same(rule: impl Rule) {
        let numbers = |k: usize| (0..11).map(|i| ((i * 7 + k * 5) % 11) as f64 - 4.0).collect::<Vec<_>>();
        let tensor = |numbers: &[f64]| Tensor::new(numbers, &Device::Cpu).unwrap();
        let (weights, grads) = (numbers(1), numbers(2));
        let kept = [numbers(3), numbers(4).iter().map(|x| x * x).collect()];
        let update = rule.update::<f64>(0.1, 3);
        let of_ops: Vec<Tensor> = kept.iter().take(rule.kept().len()).map(|kept| tensor(kept)).collect();
        let (next, after) = rule.in_ops((0.1, 3), &tensor(&weights), &tensor(&grads), &of_ops).unwrap();
        for i in 0..11 {
            let (want, want_kept) = update(weights[i], grads[i], [kept[0][i], kept[1][i]]);
            let got = |tensor: &Tensor| tensor.get(i).unwrap().to_scalar::<f64>().unwrap();
            assert!((got(&next) - want).abs() < 1e-13, "{rule:?}");
            for (after, want) in after.iter().zip(want_kept) {
                assert!((got(after) - want).abs() < 1e-13, "{rule:?}");
            }
        }
        assert_eq!(after.len(), rule.kept().len());
    }

    #[test]
    fn tensor_ops_do_what_is_done_with_one_number() {
        same(Back { decay: 0.3 });
        same(BackByRms { decay: 0.3, epsilon: 0.01 });
        same(Squares);
    }
}
