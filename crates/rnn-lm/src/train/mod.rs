//! The rule that turns gradients into new weights: one file an optimiser, each with what it does to row gradients.

mod grad;
mod sgd;
mod trainer;

pub use grad::{Grad, Values, global_norm};
pub use sgd::Sgd;
pub use trainer::Trainer;
