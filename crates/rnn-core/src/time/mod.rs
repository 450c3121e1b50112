//! T steps as one layer, L layers as one stack, and a state that is carried along.

mod stack;
mod stateful;
mod time_rnn;

pub use stack::{Stack, StackState};
pub use stateful::Stateful;
pub use time_rnn::TimeRnn;

use crate::Result;
use crate::cell::State;
use candle_core::Tensor;

/// Anything that takes a window and a state and gives outputs and the next state.
pub trait Recurrent {
    /// What is carried from window to window.
    type State: State;

    /// `xs [N, T, D]` and a state give `hs [N, T, H]` and the next state, recorded for a backward through time.
    ///
    /// # Errors
    /// Where a shape, a dtype or a device does not fit; the error names it.
    fn forward(&self, xs: &Tensor, state: &Self::State) -> Result<(Tensor, Self::State)>;

    /// The same numbers with nothing recorded: for evaluation and generation, in memory that does not grow.
    ///
    /// # Errors
    /// Those of [`Self::forward`].
    fn infer(&self, xs: &Tensor, state: &Self::State) -> Result<(Tensor, Self::State)>;

    /// The state of zeros for `batch` rows.
    ///
    /// # Errors
    /// Where `batch` is zero, or the device has no memory left.
    fn zero_state(&self, batch: usize) -> Result<Self::State>;
}
