//! How gradients become new weights: an [`Optimizer`] with a [`Rule`], clipping and decay; a [`Rate`] that changes, an
//! [`Average`] of the weights, the [`MeanGrad`] of several windows; and the [`Trainer`].

mod accumulate;
mod average;
mod checkpoint;
mod clip;
mod grad;
mod optimizer;
mod rule;
mod schedule;
mod trainer;
mod update;

pub use accumulate::MeanGrad;
pub use average::{Average, NonMonotone};
pub use checkpoint::{Checkpoint, Position};
pub use clip::Clip;
pub use grad::{Grad, Values, global_norm};
pub use optimizer::{Decay, Optimizer};
pub(crate) use rule::epsilon;
pub use rule::{Adam, MAX_KEPT, RmsProp, Rule, Sgd};
pub use schedule::{Rate, Schedule};
pub use trainer::{Averaging, Trainer};
