//! Recurrent layers as ops of candle's graph, whoever made them.

use anyhow::Result;
use candle_core::Tensor;
use rnn_core::{Cell, Recurrent, Stack, State, TimeRnn, Way};

/// A stack of recurrent layers.
pub(crate) trait Layers {
    /// What is carried from window to window.
    type State;
    /// Zeros for `batch` rows.
    fn zero_state(&self, batch: usize) -> Result<Self::State>;
    /// `xs [N, T, D]` to `hs [N, T, H]` and the next state, recorded.
    fn forward(&self, xs: &Tensor, state: &Self::State) -> Result<(Tensor, Self::State)>;
    /// The same with nothing left to differentiate.
    fn infer(&self, xs: &Tensor, state: &Self::State) -> Result<(Tensor, Self::State)>;
    /// The state cut from the graph.
    fn detach(state: Self::State) -> Self::State;
}

/// This project's layers.
pub(crate) struct Ours<C>(Stack<TimeRnn<C>>);

impl<C: Cell> Ours<C> {
    /// `stack` in the way `way`.
    pub(crate) fn new(stack: Stack<TimeRnn<C>>, way: Way) -> Self {
        Self(stack.with_way(way))
    }
}

impl<C: Cell> Layers for Ours<C> {
    type State = <Stack<TimeRnn<C>> as Recurrent>::State;

    fn zero_state(&self, batch: usize) -> Result<Self::State> {
        Ok(self.0.zero_state(batch)?)
    }

    fn forward(&self, xs: &Tensor, state: &Self::State) -> Result<(Tensor, Self::State)> {
        Ok(self.0.forward(xs, state)?)
    }

    fn infer(&self, xs: &Tensor, state: &Self::State) -> Result<(Tensor, Self::State)> {
        Ok(self.0.infer(xs, state)?)
    }

    fn detach(state: Self::State) -> Self::State {
        state.detach()
    }
}
