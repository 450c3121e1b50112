//! The book's layers over a whole window, and the adaptive softmax: each with its backward by hand, and a path
//! through candle's autograd.

mod adaptive;
mod affine;
mod embedding;
mod output;
mod softmax_loss;

pub use adaptive::{AdaptiveGrads, Cutoffs, TimeAdaptive};
pub use affine::{AffineGrads, TimeAffine};
pub use embedding::TimeEmbedding;
pub(crate) use embedding::{check_ids, ids_tensor, numbers_of};
pub(crate) use output::{AffineLoss, AffineParams};
pub use softmax_loss::{TimeSoftmaxWithLoss, softmax_loss};
pub(crate) use softmax_loss::{check_targets, largest, losses, losses_in_ops, whole_rows};

use rnn_core::kernels::Real;

/// The gradient of a table whose rows were looked up: the rows that were, each once, and theirs alone.
#[derive(Debug, Clone, Default)]
pub struct RowGrad<T> {
    /// The ids, in the order of their first appearance in the window.
    pub ids: Vec<u32>,
    /// Their gradients `[ids, D]`; repeated ids have been added up.
    pub values: Vec<T>,
}

impl<T: Real> RowGrad<T> {
    /// Adds the rows to those of a dense gradient `[V, D]`.
    pub(crate) fn add_to(&self, dense: &mut [T]) {
        let size = self.values.len() / self.ids.len().max(1);
        for (&id, row) in self.ids.iter().zip(self.values.chunks_exact(size.max(1))) {
            for (sum, &value) in dense[id as usize * size..][..size].iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}
