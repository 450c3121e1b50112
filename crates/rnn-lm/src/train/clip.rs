//! What is done to gradients that are too long.

use crate::Result;
use crate::error::positive;

/// How gradients are clipped.
///
/// ```
/// use candle_core::{Device, Var};
/// use rnn_lm::train::{Clip, Grad, Optimizer, Sgd, Values};
/// let grads = [Grad::Dense(Values::F64(&[3.0, 4.0]))]; // of norm 5
/// for (clip, want) in [(Clip::Norm(1.0), [-0.6, -0.8]), (Clip::Value(3.5), [-3.0, -3.5])] {
///     let weight = Var::new(&[0f64, 0.0], &Device::Cpu)?;
///     Optimizer::new(Sgd::default(), 1.0).clip(clip).step(std::slice::from_ref(&weight), &grads)?;
///     let got = weight.to_vec1::<f64>()?;
///     assert!((got[0] - want[0]).abs() < 1e-6 && (got[1] - want[1]).abs() < 1e-6);
/// }
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Clip {
    /// They are not.
    #[default]
    None,
    /// Every gradient is multiplied with `min(1, most / (norm + 1e-6))`, where `most` is this number, above 0, and
    /// `norm` the L2 norm of the gradients of all parameters together (Pascanu et al. 2013). The 1e-6 is PyTorch's.
    Norm(f64),
    /// Each number is clamped to `[-v, v]`, where v is this number, above 0.
    Value(f64),
}

impl Clip {
    /// Whether it is one.
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Norm(most) => positive("Clip::Norm", most).map(drop),
            Self::Value(most) => positive("Clip::Value", most).map(drop),
        }
    }

    /// What every number is multiplied with where all together are `norm` long.
    pub(super) fn scale(self, norm: f64) -> f64 {
        match self {
            // The 1e-6 is PyTorch's: a norm that is just the limit is clipped by a hair.
            Self::Norm(most) => (most / (norm + 1e-6)).min(1.0),
            _ => 1.0,
        }
    }

    /// How far from zero a number may be.
    pub(super) fn most(self) -> f64 {
        match self {
            Self::Value(most) => most,
            _ => f64::INFINITY,
        }
    }
}
