//! What is done to gradients that are too long.

use crate::Result;
use crate::error::positive;

/// How gradients are clipped.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Clip {
    /// They are not.
    #[default]
    None,
    /// All together are at most so long (Pascanu et al. 2013): `g min(1, most / norm)`.
    Norm(f64),
    /// Each number is at most so far from zero.
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
