//! One step of a recurrent layer, in tensor ops: what a cell is, its parameters and its state.
//!
//! A cell supplies its pointwise part only: from the gate sums to the next state ([`Cell::pointwise_forward`]) and
//! back ([`Cell::pointwise_backward`]). Products, time, threads and layout belong to the engines in
//! [`crate::kernels::unroll`]; that is why a new cell takes one file, and to be fused a second one with its
//! arithmetic in lanes (of the cells here: in `kernels/pointwise`).

mod gru;
mod gru_paper;
mod lstm;
mod norm;
mod norm_lstm;
mod params;
mod peephole;
mod rnn;
mod state;
pub(crate) mod step;

pub use gru::{GruCell, GruState};
pub use gru_paper::ResetBeforeGruCell;
pub use lstm::{LstmCell, LstmState};
pub use norm::Normed;
pub use norm_lstm::{CellNormLstmCell, LayerNormLstmCell};
pub use params::{Bias, LayerParams, LayerSpec};
pub(crate) use params::{countable, stackable};
pub use peephole::PeepholeLstmCell;
pub use rnn::{RnnCell, RnnState};
pub(crate) use state::with_parts;
pub use state::{CellState, State};
pub(crate) use step::StepTape as Taped;

use crate::kernels::Kernel;
use crate::{Error, Result};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use step::Factors;

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

impl Saved {
    /// The `N` tensors that `op` left, as constants.
    ///
    /// # Errors
    /// Where there are more or fewer.
    pub fn read<const N: usize>(&self, op: &str) -> Result<[Tensor; N]> {
        let tensors: Vec<Tensor> = self.0.iter().map(Tensor::detach).collect();
        let wrong =
            |tensors: Vec<_>| Error::invalid(format!("{op}: saved"), format!("{N} tensors"), tensors.len());
        tensors.try_into().map_err(wrong)
    }
}

/// One of the two products of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// `x W_ih^T`
    Input,
    /// `h W_hh^T`
    Recurrent,
}

/// Gradients of parameters of a cell's own, by name and in the parameters' shapes, summed over rows.
pub type Own = Vec<(&'static str, Tensor)>;

/// What the pointwise backward hands back.
#[derive(Debug, Clone)]
pub struct PointwiseGrads<S> {
    /// With respect to the two halves of the gate sums.
    pub sums: Sums,
    /// With respect to the state before the step, as far as it does not pass through what was fed: each part
    /// `[N, H]`. Of a layer with a projection h is not looked at.
    pub state: S,
    /// Gradient with respect to the fed hidden state `[N, P]` that does not pass through the recurrent product;
    /// `None` unless the cell reads it elsewhere.
    pub fed: Option<Tensor>,
    /// With respect to the cell's own parameters, in their shapes, summed over N; none where it has none.
    pub own: Own,
}

impl<S> PointwiseGrads<S> {
    /// Of a cell that adds the two halves and has nothing of its own.
    pub fn one_sided(dsums: Tensor, state: S) -> Self {
        let sums = Sums { input: dsums.clone(), recurrent: dsums };
        Self { sums, state, fed: None, own: Own::new() }
    }
}

/// What one step's forward leaves for its backward.
#[derive(Debug, Clone)]
pub struct StepTape {
    x: Tensor,
    shaped: Saved,
    step: Taped,
}

/// The gradients that one step's backward hands back.
#[derive(Debug, Clone)]
pub struct StepGrads<S> {
    /// With respect to the input, `[N, D]`.
    pub dx: Tensor,
    /// With respect to the state before the step: h `[N, P]`, c `[N, H]`.
    pub dstate: S,
    /// With respect to each parameter.
    pub params: LayerParams,
}

/// A recurrent cell: `state, x -> next state`, with its backward by hand.
pub trait Cell: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The state carried from step to step.
    type State: CellState;

    /// G, the number of gates: `weight_ih` has `G*H` rows.
    const GATES: usize;

    /// A cell with the parameters of `spec`, under PyTorch's names, from `vb`. Their names and shapes depend on `spec` and on nothing
    /// else: a layer makes a cell of its own spec to see what parameters it should have.
    ///
    /// # Errors
    /// Where a size of `spec` is zero or `vb` does not have a tensor of that name and shape.
    fn new(spec: LayerSpec, vb: VarBuilder) -> Result<Self>;

    /// Sizes, biases and the place of the layer.
    fn spec(&self) -> &LayerSpec;

    /// The parameters.
    fn params(&self) -> &LayerParams;

    /// The same cell with other parameters of the same shapes.
    #[must_use]
    fn with_params(&self, params: LayerParams) -> Self;

    /// What becomes of a product `[rows, G*H]` before its bias is added: nothing, unless a cell normalises it.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    fn shape(&self, half: Half, product: &Tensor) -> Result<(Tensor, Saved)> {
        let _ = half;
        Ok((product.clone(), Saved(Vec::new())))
    }

    /// The backward of [`Self::shape`].
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    fn shape_backward(&self, half: Half, saved: &Saved, dshaped: &Tensor) -> Result<(Tensor, Own)> {
        let _ = (half, saved);
        Ok((dshaped.clone(), Own::new()))
    }

    /// [`Self::pointwise_forward`] of a cell that takes what is fed to the recurrent product, `[N, P]`, for more than
    /// that product: the state's h, or what a mask left of it.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    fn pointwise_fed(&self, sums: &Sums, fed: &Tensor, state: &Self::State) -> Result<(Self::State, Saved)> {
        let _ = fed;
        self.pointwise_forward(sums, state)
    }

    /// From gate sums and state to the next state, and what [`Self::pointwise_backward`] needs. Differentiable:
    /// through candle's autograd this is the reference that everything else is held against.
    ///
    /// `sums` are `[N, G*H]` each, or as wide as `weight_hh` has rows for the recurrent one. h and c of the state are
    /// `[N, H]`; where there is a projection the h that comes in is `[N, P]`, and not to be read. The h that this
    /// gives is `[N, H]`, before a projection.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    fn pointwise_forward(&self, sums: &Sums, state: &Self::State) -> Result<(Self::State, Saved)>;

    /// From the gradient of the next state to those of the gate sums, of the state and of the cell's own parameters.
    ///
    /// h and c of `dnext` are `[N, H]`: that of h is before a projection. The gradients of the sums are shaped as
    /// these, those of the cell's own parameters as the parameters, summed over N.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    fn pointwise_backward(&self, saved: &Saved, dnext: &Self::State) -> Result<PointwiseGrads<Self::State>>;

    /// The state of zeros for `batch` rows, on the parameters' device and in their dtype.
    ///
    /// # Errors
    /// Where the device has no memory left.
    fn zero_state(&self, batch: usize) -> Result<Self::State>;

    /// The same arithmetic in lanes, which the fused engine runs; `None` for a cell that has tensor ops only.
    ///
    /// The engine finds parameters under the names of [`crate::convention`]: it normalises products where there are
    /// `norm_ih` and `norm_hh`, which is all that it knows of [`Self::shape`], and hands what has no name there to the
    /// kernel's stages as [`crate::kernels::pointwise::Inputs::own`].
    ///
    /// Return a `static` of your own crate: this default may be compiled again in every crate that calls it.
    fn kernel(&self) -> Option<&'static dyn Kernel> {
        None
    }

    /// One step: `x [N, D]` and the state before it give the state after it, both h `[N, P]` and c `[N, H]`. PyTorch's
    /// `LSTMCell` and its like, in tensor ops that autograd records. For speed there are windows of one step
    /// ([`Recurrent::infer`](crate::Recurrent::infer)) and, word by word, [`Stack::stream`](crate::Stack::stream).
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
        let (input, shaped) = step::input(self, x)?;
        let (next, step) = step::forward(self, input, state.h(), state)?;
        Ok((next, StepTape { x: x.clone(), shaped, step }))
    }

    /// The backward of one step, by hand and without autograd; `dnext` is h `[N, P]` and c `[N, H]`.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    fn step_backward(&self, tape: &StepTape, dnext: &Self::State) -> Result<StepGrads<Self::State>> {
        let cell = self.with_params(self.params().detach());
        let StepTape { x, shaped, step } = tape;
        let back = step::backward(&cell, step, dnext)?;
        let dstate = back.direct.with_h((back.direct.h() + &back.dfed)?);
        let projection = step.hidden.as_ref().map(|hidden| (dnext.h().clone(), hidden.detach()));
        let (xs, fed) = (&x.detach(), &step.fed.detach());
        let factors = Factors { gates: &back.gates, product: &back.product, fed, projection, own: back.own };
        let (dx, params) = factors.gradients(&cell, (xs, shaped))?;
        Ok(StepGrads { dx, dstate, params })
    }
}
