//! L layers, each layer's output the next one's input.

use super::plan::Plan;
use super::regularise::{Source, check_rate};
use super::{Layer, LayerGrads, Recurrent, StackState};
use crate::cell::{Cell, LayerSpec, stackable};
use crate::kernels::unroll::Way;
use crate::{Error, Place, Result};
use candle_core::Tensor;
use candle_nn::VarBuilder;

/// A stack of recurrent layers, of one direction each or of two: `Stack<TimeRnn<LstmCell>>` is PyTorch's `nn.LSTM`,
/// `Stack<Bidirectional<LstmCell>>` that with `bidirectional=True`, both batch-first.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use rnn_core::{Bidirectional, GruCell, LayerSpec, Parameters, Recurrent, Stack};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// let stack = Stack::<Bidirectional<GruCell>>::new(LayerSpec::new(3, 4), 2, &parameters.builder())?;
/// let xs = Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?;
/// let (hs, next) = stack.forward(&xs, &stack.zero_state(2)?)?;
/// assert_eq!((hs.dims(), next.layers().len()), ([2, 5, 8].as_slice(), 2));
/// assert_eq!(parameters.named()[8].0, "weight_ih_l1");
/// # rnn_core::Result::Ok(())
/// ```
///
/// GRUs whose weights are zero halve their states at each step, whatever they take:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::{GruCell, GruState, LayerSpec, Recurrent, Stack, StackState, TimeRnn};
/// let vb = VarBuilder::zeros(DType::F64, &Device::Cpu);
/// let stack = Stack::<TimeRnn<GruCell>>::new(LayerSpec::new(1, 1), 2, &vb)?;
/// let state = |h: f64| rnn_core::Result::Ok(GruState { h: Tensor::new(&[[h]], &Device::Cpu)? });
/// let start = StackState::new(vec![state(1.0)?, state(4.0)?])?;
/// let (hs, next) = stack.forward(&Tensor::ones((1, 2, 1), DType::F64, &Device::Cpu)?, &start)?;
/// assert_eq!(hs.flatten_all()?.to_vec1::<f64>()?, [2.0, 1.0]);
/// assert_eq!(next.layers()[0].h.to_vec2::<f64>()?, [[0.25]]);
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Stack<R> {
    layers: Vec<R>,
    dropout: f64,
}

/// What [`Stack::forward_taped`] leaves for [`Stack::backward`].
#[derive(Debug)]
pub struct StackTape<T> {
    /// For each layer.
    tapes: Vec<T>,
    /// The mask of what each layer but the first took; none without dropout.
    masks: Vec<Option<Tensor>>,
}

/// Outputs, the next state and the tape.
type Taped<R> = (Tensor, StackState<<R as Recurrent>::State>, StackTape<<R as Layer>::Tape>);

impl<R: Layer> Stack<R> {
    /// `layers` layers like `spec`, the first one taking its input, the others the output of the one below.
    ///
    /// # Errors
    /// Where `layers` is zero or beyond any network, or a cell cannot be made.
    pub fn new(spec: LayerSpec, layers: usize, vb: &VarBuilder) -> Result<Self> {
        Self::make(spec, layers, |spec| crate::Cell::new(spec, vb.clone()))
    }

    /// The same of cells that `cell` makes.
    ///
    /// # Errors
    /// Where `layers` is zero or beyond any network, or those of `cell`.
    pub fn make(
        spec: LayerSpec,
        layers: usize,
        mut cell: impl FnMut(LayerSpec) -> Result<R::Cell>,
    ) -> Result<Self> {
        stackable("Stack", layers)?;
        let mut made: Vec<R> = Vec::with_capacity(layers);
        for k in 0..layers {
            let input = made.last().map_or(spec.input, R::output_size);
            made.push(R::make(LayerSpec { input, ..spec }.layer(spec.place.layer + k), &mut cell)?);
        }
        Self::from_layers(made)
    }

    /// A stack of layers of any sizes that fit.
    ///
    /// # Errors
    /// Where there is none, a layer's input is not as wide as the output before it, or two layers that draw masks have the
    /// same place, by which masks are drawn.
    pub fn from_layers(layers: Vec<R>) -> Result<Self> {
        if layers.is_empty() {
            return Err(Error::invalid("Stack: layers", "at least 1", 0));
        }
        for (k, pair) in layers.windows(2).enumerate() {
            let (before, after) = (pair[0].output_size(), pair[1].input_size());
            if before != after {
                let op = format!("Stack: input of layer {}", k + 1);
                return Err(Error::invalid(op, format!("{before}, the output size of layer {k}"), after));
            }
        }
        check_places(&layers)?;
        Ok(Self { layers, dropout: 0.0 })
    }

    /// The same stack in another way.
    #[must_use]
    pub fn with_way(self, way: Way) -> Self {
        // Choosing a way cannot fail.
        self.clone().map(|layer| Ok(layer.with_way(way))).unwrap_or(self)
    }

    /// The same stack with `f` applied to each direction of each layer: for regularisers.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use rnn_core::{LayerSpec, LstmCell, Parameters, Regularisers, Stack, TimeRnn};
    /// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
    /// let stack = Stack::<TimeRnn<LstmCell>>::new(LayerSpec::new(3, 4), 2, &parameters.builder())?;
    /// let drop = Regularisers { weight: 0.5, ..Regularisers::default() };
    /// let stack = stack.map(|layer| layer.with_regularisers(drop))?;
    /// assert_eq!(stack.layers().len(), 2);
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Those of `f`, and where what it made is no stack: those of [`Self::from_layers`].
    pub fn map(
        self,
        mut f: impl FnMut(super::TimeRnn<R::Cell>) -> Result<super::TimeRnn<R::Cell>>,
    ) -> Result<Self> {
        let layers = self.layers.into_iter().map(|layer| layer.map(&mut f)).collect::<Result<Vec<_>>>()?;
        Ok(Self { dropout: self.dropout, ..Self::from_layers(layers)? })
    }

    /// The same stack with dropout between its layers, as PyTorch's `dropout`: single numbers, others at each step.
    /// Training then takes a [`Plan`] that says from which draw the masks are.
    ///
    /// # Errors
    /// Where the rate is not at least 0 and below 1.
    pub fn with_dropout(self, rate: f64) -> Result<Self> {
        check_rate("Stack: dropout", rate)?;
        Ok(Self { dropout: rate, ..self })
    }

    /// The layers, the one that takes the input first.
    pub fn layers(&self) -> &[R] {
        &self.layers
    }

    /// The forward without autograd, as [`Layer::forward_taped`] of each layer.
    ///
    /// # Errors
    /// Those of a layer.
    pub fn forward_taped(&self, xs: &Tensor, state: &StackState<R::State>) -> Result<Taped<R>> {
        self.forward_taped_with(xs, state, &Plan::default())
    }

    /// The same by a plan.
    ///
    /// # Errors
    /// Those of [`Layer::forward_taped_with`], and where there is dropout and the plan has no [`Plan::draw`].
    pub fn forward_taped_with(
        &self,
        xs: &Tensor,
        state: &StackState<R::State>,
        plan: &Plan,
    ) -> Result<Taped<R>> {
        let (mut tapes, mut masks) = (Vec::new(), Vec::new());
        let (hs, next) = self.through(xs, state, |k, layer, xs, state| {
            let mask = self.mask(k, xs, plan)?;
            let (hs, next, tape) = layer.forward_taped_with(&masked(xs, mask.as_ref())?, state, plan)?;
            tapes.push(tape);
            masks.push(mask);
            Ok((hs, next))
        })?;
        Ok((hs, next, StackTape { tapes, masks }))
    }

    /// The backward without autograd: `dhs [N, T, P]`, twice P of two directions, and `dnext`, shaped as the next
    /// state, give the gradients of the input, `dxs [N, T, D]`, of the initial state and of the parameters. It uses
    /// the tape up.
    ///
    /// The parameters' stand from the first layer to the last, and in a layer of two directions the forward one's
    /// come first: l0, l0_reverse, l1, l1_reverse.
    ///
    /// # Errors
    /// Where the tape is that of a stack of other layers, or a shape does not fit its window.
    pub fn backward(
        &self,
        tape: StackTape<R::Tape>,
        dhs: &Tensor,
        dnext: &StackState<R::State>,
    ) -> Result<LayerGrads<StackState<R::State>>> {
        self.check_state(dnext)?;
        if tape.tapes.len() != self.layers.len() {
            let want = format!("that of {} layers", self.layers.len());
            return Err(Error::invalid(
                "Stack::backward: tape",
                want,
                format!("one of {}", tape.tapes.len()),
            ));
        }
        let mut dhs = dhs.clone();
        let (mut of_layers, mut dstates) = (Vec::new(), Vec::new());
        let saved = tape.tapes.into_iter().zip(tape.masks);
        for ((layer, (tape, mask)), dnext) in self.layers.iter().zip(saved).zip(&dnext.layers).rev() {
            let grads = layer.backward(tape, &dhs, dnext)?;
            dhs = masked(&grads.dxs, mask.as_ref())?;
            of_layers.push(grads.params);
            dstates.push(grads.dstate);
        }
        dstates.reverse();
        of_layers.reverse();
        Ok(LayerGrads { dxs: dhs, dstate: StackState { layers: dstates }, params: of_layers.concat() })
    }

    fn check_state(&self, state: &StackState<R::State>) -> Result<()> {
        if state.layers.len() != self.layers.len() {
            let want = format!("{} layers", self.layers.len());
            return Err(Error::invalid("Stack: state", want, state.layers.len()).hint("zero_state makes one"));
        }
        Ok(())
    }

    fn through(
        &self,
        xs: &Tensor,
        state: &StackState<R::State>,
        mut run: impl FnMut(usize, &R, &Tensor, &R::State) -> Result<(Tensor, R::State)>,
    ) -> Result<(Tensor, StackState<R::State>)> {
        self.check_state(state)?;
        let (mut xs, mut next) = (xs.clone(), Vec::with_capacity(self.layers.len()));
        for (k, (layer, state)) in self.layers.iter().zip(&state.layers).enumerate() {
            let (hs, after) = run(k, layer, &xs, state)?;
            xs = hs;
            next.push(after);
        }
        Ok((xs, StackState { layers: next }))
    }

    /// What layer `k` takes of the output below it.
    fn mask(&self, k: usize, xs: &Tensor, plan: &Plan) -> Result<Option<Tensor>> {
        if k == 0 || self.dropout == 0.0 {
            return Ok(None);
        }
        let draw = plan.draw.ok_or_else(|| {
            Error::invalid("Stack: plan", "a draw, for dropout", "none")
                .hint("Plan::new().draw(seed, step) says which masks; infer takes none")
        })?;
        // From the place of the first layer on, as a stack's layers are numbered.
        let first = self.layers[0].directions().first().map_or(0, |layer| layer.cell().spec().place.layer);
        let source = Source { draw, place: Place::from(first + k), dtype: xs.dtype(), device: xs.device() };
        source.dropout("between", self.dropout, xs.dims())
    }
}

/// # Errors
/// Where two that draw masks have the same place: they would drop the same units in every window.
fn check_places<R: Layer>(layers: &[R]) -> Result<()> {
    let draw = layers.iter().flat_map(Layer::directions).filter(|layer| layer.regularisers().any());
    let mut seen = Vec::new();
    for place in draw.map(|layer| layer.cell().spec().place) {
        if seen.contains(&place) {
            let got = format!("two of {place}");
            return Err(Error::invalid("Stack: layers that draw masks", "each of another place", got)
                .hint("LayerSpec::layer says which one it is"));
        }
        seen.push(place);
    }
    Ok(())
}

fn masked(tensor: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    match mask {
        Some(mask) => Ok((tensor * mask)?),
        None => Ok(tensor.clone()),
    }
}

impl<R: Layer> Recurrent for Stack<R> {
    type State = StackState<R::State>;

    fn forward_with(&self, xs: &Tensor, state: &Self::State, plan: &Plan) -> Result<(Tensor, Self::State)> {
        self.through(xs, state, |k, layer, xs, state| {
            let mask = self.mask(k, xs, plan)?;
            layer.forward_with(&masked(xs, mask.as_ref())?, state, plan)
        })
    }

    fn infer_with(&self, xs: &Tensor, state: &Self::State, plan: &Plan) -> Result<(Tensor, Self::State)> {
        self.through(xs, state, |_, layer, xs, state| layer.infer_with(xs, state, plan))
    }

    fn zero_state(&self, batch: usize) -> Result<Self::State> {
        Ok(StackState {
            layers: self.layers.iter().map(|layer| layer.zero_state(batch)).collect::<Result<_>>()?,
        })
    }

    fn input_size(&self) -> usize {
        self.layers[0].input_size()
    }

    fn output_size(&self) -> usize {
        self.layers[self.layers.len() - 1].output_size()
    }

    fn goes_forward(&self) -> bool {
        self.layers.iter().all(R::goes_forward)
    }

    fn draws(&self) -> bool {
        // Dropout is between layers.
        self.dropout > 0.0 && self.layers.len() > 1 || self.layers.iter().any(R::draws)
    }
}
