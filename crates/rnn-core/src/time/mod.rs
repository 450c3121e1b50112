//! T steps as one layer in one direction or two, L layers as one stack, and a state that is carried along.

mod bidirectional;
mod fits;
mod locked;
mod penalty;
mod plan;
mod regularise;
mod sliding;
mod stack;
mod stack_state;
mod stateful;
mod stream;
#[cfg(test)]
mod tests;
mod time_rnn;

pub use bidirectional::{Bidirectional, BothStates};
pub use penalty::Penalty;
pub use plan::{Draw, Plan};
pub use regularise::{Regularisers, check_rate};
pub use sliding::Sliding;
pub use stack::{Stack, StackTape};
pub use stack_state::StackState;
pub use stateful::Stateful;
pub use stream::StackStream;
pub use time_rnn::{TimeRnn, TimeTape};

use crate::cell::{Cell, LayerParams, LayerSpec, State};
use crate::{Result, Way};
use candle_core::Tensor;
use candle_nn::VarBuilder;

/// Anything that takes a window and a state and gives outputs and the next state.
///
/// The next state is where the next window begins:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::{Cell, GruCell, GruState, LayerSpec, Recurrent, TimeRnn};
/// // Zero weights: z = 0.5 and n = 0, so that each step halves h.
/// let gru = TimeRnn::new(GruCell::new(LayerSpec::new(1, 1), VarBuilder::zeros(DType::F64, &Device::Cpu))?);
/// let xs = Tensor::ones((1, 2, 1), DType::F64, &Device::Cpu)?;
/// let (_, next) = gru.infer(&xs, &GruState { h: Tensor::ones((1, 1), DType::F64, &Device::Cpu)? })?;
/// let (hs, _) = gru.infer(&xs, &next)?;
/// assert_eq!(hs.flatten_all()?.to_vec1::<f64>()?, [0.125, 0.0625]);
/// # rnn_core::Result::Ok(())
/// ```
pub trait Recurrent {
    /// What is carried from window to window.
    type State: State;

    /// `xs [N, T, D]` and a state give `hs [N, T, P]`, P being [`Self::output_size`], and the next state, recorded
    /// for a backward through time.
    ///
    /// # Errors
    /// Where a shape, a dtype or a device does not fit; the error names it. Always for a layer that
    /// [draws](Self::draws): [`Self::forward_with`] takes a plan with a [`Plan::draw`]. In the reference way where T
    /// is more than [`REFERENCE_MAX_STEPS`](crate::kernels::unroll::REFERENCE_MAX_STEPS): candle walks its graph by
    /// recursion.
    fn forward(&self, xs: &Tensor, state: &Self::State) -> Result<(Tensor, Self::State)> {
        self.forward_with(xs, state, &Plan::default())
    }

    /// The same by a plan: rows of different lengths, sequences that begin inside the window, masks.
    ///
    /// # Errors
    /// Where a shape, a dtype or a device does not fit, the plan does not fit the window, or it has no [`Plan::draw`]
    /// for a layer that [draws](Self::draws); in the reference way as [`Self::forward`] says.
    fn forward_with(&self, xs: &Tensor, state: &Self::State, plan: &Plan) -> Result<(Tensor, Self::State)>;

    /// The numbers of [`Self::forward`] with nothing recorded and nothing dropped: for evaluation and generation, in
    /// memory that does not grow. PyTorch's `eval()` under `no_grad()`.
    ///
    /// # Errors
    /// Where a shape, a dtype or a device does not fit.
    fn infer(&self, xs: &Tensor, state: &Self::State) -> Result<(Tensor, Self::State)> {
        self.infer_with(xs, state, &Plan::default())
    }

    /// The same by a plan, whose draw is ignored.
    ///
    /// # Errors
    /// Where a shape, a dtype or a device does not fit, or the plan does not fit the window.
    fn infer_with(&self, xs: &Tensor, state: &Self::State, plan: &Plan) -> Result<(Tensor, Self::State)>;

    /// The state of zeros for `batch` rows.
    ///
    /// # Errors
    /// Where `batch` is zero, or the device has no memory left.
    fn zero_state(&self, batch: usize) -> Result<Self::State>;

    /// D, the size of the input.
    fn input_size(&self) -> usize;

    /// The size of the output: H, or P of a projection, and twice that of two directions.
    fn output_size(&self) -> usize;

    /// Whether steps are read from the first to the last alone, so that a window may be taken in pieces.
    fn goes_forward(&self) -> bool {
        true
    }

    /// Whether training draws masks, so that a plan has to say which.
    fn draws(&self) -> bool {
        false
    }
}

/// The gradients that a layer's backward by hand gives.
#[derive(Debug, Clone)]
pub struct LayerGrads<S> {
    /// With respect to the input, `[N, T, D]`.
    pub dxs: Tensor,
    /// With respect to the initial state.
    pub dstate: S,
    /// With respect to the parameters of each direction, in the order of [`Layer::directions`]; of a stack layer by layer.
    pub params: Vec<LayerParams>,
}

/// What a [`Stack`] is made of: a cell over a window, in one direction ([`TimeRnn`]) or in two ([`Bidirectional`]).
pub trait Layer: Recurrent + Clone + std::fmt::Debug + Sized {
    /// The cell of every direction.
    type Cell: Cell;

    /// What a forward without autograd leaves for its backward: a [`TimeTape`] for each direction.
    type Tape: std::fmt::Debug;

    /// A layer of `spec`, its cells made by `cell`, which is told their direction.
    ///
    /// # Errors
    /// Those of `cell`.
    fn make(spec: LayerSpec, cell: impl FnMut(LayerSpec) -> Result<Self::Cell>) -> Result<Self>;

    /// A layer whose cells have the parameters of `spec` from `vb`.
    ///
    /// # Errors
    /// Those of [`Cell::new`].
    fn build(spec: LayerSpec, vb: &VarBuilder) -> Result<Self> {
        Self::make(spec, |spec| Self::Cell::new(spec, vb.clone()))
    }

    /// The layer with `f` applied to each direction.
    ///
    /// # Errors
    /// Those of `f`.
    fn map(self, f: &mut dyn FnMut(TimeRnn<Self::Cell>) -> Result<TimeRnn<Self::Cell>>) -> Result<Self>;

    /// The directions, forward first.
    fn directions(&self) -> Vec<&TimeRnn<Self::Cell>>;

    /// The way that runs.
    fn way(&self) -> Way {
        self.directions().first().map_or(Way::default(), |layer| layer.way())
    }

    /// The forward without autograd: `xs [N, T, D]` and a state give `hs [N, T, P]`, twice P of two directions, the next
    /// state, and the tape for [`Self::backward`]. Like the book's layer, and for those who write their own chain of layers.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use rnn_core::{GruCell, Layer, LayerSpec, Parameters, Recurrent, State, TimeRnn};
    /// let parameters = Parameters::new(0, DType::F64, &Device::Cpu);
    /// let gru = TimeRnn::<GruCell>::build(LayerSpec::new(3, 4), &parameters.builder())?;
    /// let xs = Tensor::ones((2, 5, 3), DType::F64, &Device::Cpu)?;
    /// let (hs, next, tape) = gru.forward_taped(&xs, &gru.zero_state(2)?)?;
    /// // Of a loss that is half the sum of all squares, and asks nothing of the next state.
    /// let grads = gru.backward(tape, &hs, &next.zeros_like()?)?;
    /// assert_eq!((grads.dxs.dims(), grads.params[0].weight_hh.dims()), ([2, 5, 3].as_slice(), [12, 4].as_slice()));
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where a shape, a dtype or a device does not fit, or the way is the reference, which has no tape. Always for a
    /// layer that [draws](Recurrent::draws): [`Self::forward_taped_with`] takes a plan with a [`Plan::draw`].
    fn forward_taped(&self, xs: &Tensor, state: &Self::State) -> Result<(Tensor, Self::State, Self::Tape)> {
        self.forward_taped_with(xs, state, &Plan::default())
    }

    /// The same by a plan.
    ///
    /// # Errors
    /// Where a shape, a dtype or a device does not fit, the way is the reference, which has no tape, the plan does
    /// not fit the window, or it has no [`Plan::draw`] for a layer that [draws](Recurrent::draws).
    fn forward_taped_with(
        &self,
        xs: &Tensor,
        state: &Self::State,
        plan: &Plan,
    ) -> Result<(Tensor, Self::State, Self::Tape)>;

    /// The backward through time without autograd: from the gradients of the outputs, `dhs` shaped as `hs`, and of the next
    /// state, `dnext`, to all others. It uses the tape up.
    ///
    /// # Errors
    /// Where the tape was not left by this layer or a clone of it, or a shape, a dtype or a device does not fit its window.
    fn backward(
        &self,
        tape: Self::Tape,
        dhs: &Tensor,
        dnext: &Self::State,
    ) -> Result<LayerGrads<Self::State>>;
}
