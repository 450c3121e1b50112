//! One step of a recurrent layer, in tensor ops: what a cell is, its parameters and its state.
//!
//! A cell supplies its pointwise part only: from the gate sums to the next state ([`Cell::pointwise_forward`]) and
//! back ([`Cell::pointwise_backward`]). Products, time, threads and layout belong to the engines in
//! [`crate::kernels::unroll`]; that is why one file is all that a new cell takes.

mod gru;
mod lstm;
mod params;
mod rnn;
mod state;

pub use gru::{GruCell, GruState};
pub use lstm::{LstmCell, LstmState};
pub use params::{Bias, LayerParams, LayerSpec};
pub use rnn::{RnnCell, RnnState};
pub use state::State;

use crate::Result;
use crate::kernels::Kernel;
use candle_core::Tensor;
use candle_nn::VarBuilder;

/// The two halves of the gate sums, each `[N, G*H]`, biases included; or the gradients with respect to them.
///
/// They are added before the activation, except where a cell multiplies the recurrent half first (GRU's n gate).
#[derive(Debug, Clone)]
pub struct Sums {
    /// `x W_ih^T + b_ih`
    pub input: Tensor,
    /// `h W_hh^T + b_hh`
    pub recurrent: Tensor,
}

/// What the pointwise forward leaves for the pointwise backward; which tensors these are is the cell's own affair.
#[derive(Debug, Clone)]
pub struct Saved(pub Vec<Tensor>);

/// What one step's forward leaves for its backward.
#[derive(Debug, Clone)]
pub struct StepTape {
    x: Tensor,
    h: Tensor,
    saved: Saved,
}

/// The gradients that one step's backward hands back.
#[derive(Debug, Clone)]
pub struct StepGrads<S> {
    /// With respect to the input, `[N, D]`.
    pub dx: Tensor,
    /// With respect to the state before the step.
    pub dstate: S,
    /// With respect to each parameter.
    pub params: LayerParams,
}

/// A recurrent cell: `state, x -> next state`, with its backward by hand.
pub trait Cell: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The state carried from step to step.
    type State: State;

    /// G, the number of gates: parameters have `G*H` rows.
    const GATES: usize;

    /// A cell with the parameters of `spec`, under PyTorch's names, from `vb`.
    ///
    /// # Errors
    /// Where a size of `spec` is zero or `vb` does not have a tensor of that name and shape.
    fn new(spec: LayerSpec, vb: VarBuilder) -> Result<Self>;

    /// Sizes, biases and the place of the layer.
    fn spec(&self) -> &LayerSpec;

    /// The parameters.
    fn params(&self) -> &LayerParams;

    /// From gate sums and state to the next state, and what [`Self::pointwise_backward`] needs. Differentiable:
    /// through candle's autograd this is the reference that everything else is held against.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    fn pointwise_forward(&self, sums: &Sums, state: &Self::State) -> Result<(Self::State, Saved)>;

    /// From the gradient of the next state to those of the gate sums, and to the part of the state's gradient that
    /// does not pass through the recurrent product.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    fn pointwise_backward(&self, saved: &Saved, dnext: &Self::State) -> Result<(Sums, Self::State)>;

    /// The state of zeros for `batch` rows, on the parameters' device and in their dtype.
    ///
    /// # Errors
    /// Where the device has no memory left.
    fn zero_state(&self, batch: usize) -> Result<Self::State>;

    /// The same pointwise part in lanes, which the fused engine runs; `None` for a cell that has tensor ops only.
    fn kernel(&self) -> Option<&'static dyn Kernel> {
        None
    }

    /// One step: `x [N, D]` and the state before it give the state after it.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    fn step(&self, x: &Tensor, state: &Self::State) -> Result<Self::State> {
        Ok(self.step_taped(x, state)?.0)
    }

    /// One step, and what [`Self::step_backward`] needs.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    fn step_taped(&self, x: &Tensor, state: &Self::State) -> Result<(Self::State, StepTape)> {
        let input = self.params().input_sums(x)?;
        let recurrent = self.params().recurrent_sums(state.h())?;
        let (next, saved) = self.pointwise_forward(&Sums { input, recurrent }, state)?;
        Ok((next, StepTape { x: x.clone(), h: state.h().clone(), saved }))
    }

    /// The backward of one step, by hand and without autograd.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    fn step_backward(&self, tape: &StepTape, dnext: &Self::State) -> Result<StepGrads<Self::State>> {
        let params = self.params().detach();
        let (gates, direct) = self.pointwise_backward(&tape.saved, dnext)?;
        let dx = gates.input.matmul(&params.weight_ih)?;
        let through_product = gates.recurrent.matmul(&params.weight_hh)?;
        let dstate = direct.with_h((direct.h() + through_product)?);
        Ok(StepGrads { dx, dstate, params: params.grads(&gates, &tape.x.detach(), &tape.h.detach())? })
    }
}
