//! A cell over T steps: one layer, in the way that was asked for.

use super::locked::drop_units;
use super::plan::{Plan, without_padding};
use super::regularise::{Masks, Regularisers};
use super::{Layer, LayerGrads, Recurrent, fits};
use crate::autograd::{Flat, record};
use crate::cell::{Bias, Cell, LayerParams, LayerSpec, State, with_parts};
use crate::kernels::unroll::{self, Guides, Home, Keep, Segments, Tape, TimeGrads, Way};
use crate::{Direction, Error, Result};
use candle_core::{DType, Shape, Tensor};
use std::sync::{Arc, OnceLock};

/// A recurrent layer: a cell over all steps of a window.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use rnn_core::{Cell, LayerSpec, LstmCell, Parameters, Recurrent, State, TimeRnn};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// let lstm = TimeRnn::new(LstmCell::new(LayerSpec::new(3, 4), parameters.builder())?);
/// let mut state = lstm.zero_state(2)?;
/// for _window in 0..3 {
///     let (hs, next) = lstm.forward(&Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?, &state)?;
///     assert_eq!(hs.dims(), [2, 5, 4]);
///     state = next.detach(); // truncated BPTT
/// }
/// # rnn_core::Result::Ok(())
/// ```
///
/// A GRU whose weights are zero halves its state at each step:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::{Cell, GruCell, GruState, LayerSpec, Recurrent, TimeRnn};
/// let gru = TimeRnn::new(GruCell::new(LayerSpec::new(1, 1), VarBuilder::zeros(DType::F64, &Device::Cpu))?);
/// let start = GruState { h: Tensor::ones((1, 1), DType::F64, &Device::Cpu)? };
/// let (hs, next) = gru.forward(&Tensor::ones((1, 2, 1), DType::F64, &Device::Cpu)?, &start)?;
/// assert_eq!(hs.flatten_all()?.to_vec1::<f64>()?, [0.5, 0.25]);
/// assert_eq!(next.h.to_vec2::<f64>()?, [[0.25]]);
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct TimeRnn<C> {
    cell: C,
    way: Way,
    regularisers: Regularisers,
    segments: Option<Segments>,
    /// Shared by all clones of the layer.
    home: Arc<Home>,
    /// Set once its parameters were found to be those that its cell asks for.
    params_fit: OnceLock<()>,
}

/// What [`Layer::forward_taped`] leaves for [`Layer::backward`].
#[derive(Debug)]
pub struct TimeTape {
    tape: Tape,
    /// The kind of layer that left it.
    of: Kind,
    /// That layer's, and its clones'.
    home: Arc<Home>,
    /// The weights that the window used, where they are not the layer's own.
    params: Option<LayerParams>,
    masks: Masks,
}

/// A window that is ready to be run.
struct Run<C> {
    /// With the weights that it uses.
    cell: C,
    xs: Tensor,
    guides: Guides,
    masks: Masks,
}

/// What a tape depends on of its layer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kind {
    cell: &'static str,
    /// Cells of one type may have several: activations are not in the type.
    kernel: Option<&'static str>,
    input: usize,
    hidden: usize,
    projection: Option<usize>,
    bias: Bias,
    dtype: DType,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cell, kernel, input, hidden, projection, bias, dtype } = self;
        write!(f, "{cell} (input {input}, hidden {hidden}, ")?;
        if let Some(size) = projection {
            write!(f, "projection {size}, ")?;
        }
        write!(f, "bias {bias:?}, {})", dtype.as_str())?;
        kernel.map_or(Ok(()), |kernel| write!(f, " with {kernel}"))
    }
}

impl<C: Cell> TimeRnn<C> {
    /// The layer of `cell`, in the fused way.
    pub fn new(cell: C) -> Self {
        let (way, regularisers) = (Way::default(), Regularisers::default());
        Self { cell, way, regularisers, segments: None, home: Arc::default(), params_fit: OnceLock::new() }
    }

    /// The same layer in another way.
    #[must_use]
    pub fn with_way(self, way: Way) -> Self {
        Self { way, ..self }
    }

    /// The same layer with regularisers. Training then takes a [`Plan`] that says from which draw the masks are.
    ///
    /// # Errors
    /// Where a rate is not at least 0 and below 1, or there is one of a c that the cell does not have.
    pub fn with_regularisers(self, regularisers: Regularisers) -> Result<Self> {
        regularisers.check(&self.cell)?;
        Ok(Self { regularisers, ..self })
    }

    /// What it drops and keeps while it is trained.
    pub fn regularisers(&self) -> &Regularisers {
        &self.regularisers
    }

    /// The same layer, segment by segment: for long sequences in little memory. Outputs, and the gradients of the input and
    /// of the initial state, keep their bits on the CPU's fused way. The reference way takes no notice.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use rnn_core::{Cell, GruCell, LayerSpec, Parameters, Recurrent, Segments, TimeRnn};
    /// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
    /// let plain = TimeRnn::new(GruCell::new(LayerSpec::new(2, 3), parameters.builder())?);
    /// let frugal = plain.clone().with_segments(Segments::for_window(100))?;
    /// let (xs, state) = (Tensor::ones((1, 100, 2), DType::F32, &Device::Cpu)?, plain.zero_state(1)?);
    /// let outputs = |layer: &TimeRnn<GruCell>| layer.forward(&xs, &state)?.0.to_vec3::<f32>();
    /// assert_eq!(outputs(&plain)?, outputs(&frugal)?);
    /// # candle_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where a segment has no step.
    pub fn with_segments(self, segments: Segments) -> Result<Self> {
        segments.check()?;
        Ok(Self { segments: Some(segments), ..self })
    }

    /// The cell.
    pub fn cell(&self) -> &C {
        &self.cell
    }

    /// The way that runs: the one asked for, or the manual one where the fused one cannot; see [`unroll::resolve`].
    ///
    /// On a GPU, windows with lengths, resets, zoneout or a recurrent mask run the manual way even where this says
    /// fused.
    pub fn way(&self) -> Way {
        unroll::resolve(self.way, &self.cell)
    }

    /// What a tape has to be of.
    fn kind(&self) -> Kind {
        let LayerSpec { input, hidden, projection, bias, .. } = *self.cell.spec();
        let dtype = self.cell.params().weight_ih.dtype();
        let (cell, kernel) = (std::any::type_name::<C>(), self.cell.kernel().map(|kernel| kernel.name()));
        Kind { cell, kernel, input, hidden, projection, bias, dtype }
    }

    fn by_hand(&self, op: &str) -> Result<Way> {
        match self.way() {
            Way::Reference => {
                Err(Error::invalid(format!("TimeRnn::{op}"), "the manual or the fused way", "reference")
                    .hint("the reference has no backward of its own: call forward, and backward() on a loss"))
            }
            way => Ok(way),
        }
    }

    /// The window, whole or in segments.
    fn run(
        &self,
        way: Way,
        cell: &C,
        window: (&Tensor, &C::State, &Guides),
        keep: Keep,
    ) -> Result<(Flat, Option<Tape>)> {
        match self.segments {
            Some(segments) => unroll::in_segments((way, segments), (cell, &self.home), window, keep),
            None => unroll::forward(way, (cell, &self.home), window, keep),
        }
    }

    /// The window as the ways take it; its masks are ops of candle's graph where the graph is recorded.
    fn ready(&self, xs: &Tensor, plan: &Plan, training: bool) -> Result<Run<C>> {
        let (batch, time, _) = xs.dims3()?;
        plan.check((batch, time))?;
        let direction = self.cell.spec().place.direction;
        let mut guides = Guides::plain(direction);
        guides.lengths = plan.lengths.clone().filter(|lengths| lengths.iter().any(|&length| length < time));
        guides.fresh = plan.fresh(direction, time);
        let mut masks = Masks::default();
        if self.regularisers.any() {
            let draw = plan.draw.filter(|_| training);
            if training && draw.is_none() {
                return Err(Error::invalid("TimeRnn: plan", "a draw, for the regularisers", "none")
                    .hint("Plan::new().draw(seed, step) says which masks; infer takes none"));
            }
            masks = self.regularisers.masks(&self.cell, xs, draw, &mut guides)?;
        }
        let cell = match masks.weights.is_empty() {
            true => self.cell.clone(),
            false => self.cell.with_params(masks.drop_weights(self.cell.params())?),
        };
        let xs = match &guides.lengths {
            // What is normalised is kept, and may overflow however finite what stands behind an end is.
            Some(lengths) if self.cell.params().is_normed() => without_padding(xs, lengths)?,
            Some(lengths) => finite(xs, lengths)?,
            None => xs.clone(),
        };
        let xs = drop_units(&xs, masks.input.as_ref(), self.way())?;
        Ok(Run { cell, xs, guides, masks })
    }

    fn check(&self, xs: &Tensor, state: &C::State) -> Result<()> {
        self.check_params()?;
        fits::window(&self.cell, xs, state)
    }

    /// Parameters are those that the cell would ask for, once: a layer's cell stays what it is.
    pub(super) fn check_params(&self) -> Result<()> {
        if self.params_fit.get().is_none() {
            fits::params(&self.cell)?;
            // Another thread may have found the same.
            let _ = self.params_fit.set(());
        }
        Ok(())
    }

    fn output_shapes(&self, xs: &Tensor, state: &C::State) -> Result<Vec<Shape>> {
        let (batch, time, _) = xs.dims3()?;
        let mut shapes = vec![Shape::from((batch, time, self.cell.spec().output()))];
        shapes.extend(state.parts().iter().map(|part| part.shape().clone()));
        Ok(shapes)
    }
}

impl<C: Cell> Recurrent for TimeRnn<C> {
    type State = C::State;

    fn forward_with(&self, xs: &Tensor, state: &C::State, plan: &Plan) -> Result<(Tensor, C::State)> {
        self.check(xs, state)?;
        let Run { cell, xs, guides, masks } = self.ready(xs, plan, true)?;
        let way = self.way();
        if way == Way::Reference {
            let (hs, next) = unroll::reference(&cell, &xs, state, &guides, Keep::Tape)?;
            return Ok((drop_units(&hs, masks.output.as_ref(), way)?, next));
        }
        let mut inputs = vec![&xs];
        inputs.extend(cell.params().tensors());
        inputs.extend(state.parts());
        let shapes = self.output_shapes(&xs, state)?;
        let (flat, tape) = self.run(way, &cell, (&xs, state, &guides), Keep::Tape)?;
        let tape = tape.ok_or_else(|| Error::invalid("TimeRnn::forward", "a tape", "none"))?;
        let (of_window, home, like, wants_dxs) =
            (cell.clone(), self.home.clone(), state.detach(), xs.track_op());
        let backward = move |grads: &[Tensor]| {
            let dnext = with_parts(&like, grads[1..].iter().cloned())?;
            let layer = (&of_window, &home);
            let grads = unroll::backward(layer, &tape, &grads[0], &dnext, wants_dxs, Keep::Tape)?;
            let mut all = vec![grads.dxs];
            all.extend(grads.params.tensors().into_iter().cloned().map(Some));
            all.extend(grads.dstate.parts().into_iter().cloned().map(Some));
            Ok(all)
        };
        let (hs, next) = split(state, record("time-rnn", &inputs, flat, &shapes, backward)?)?;
        Ok((drop_units(&hs, masks.output.as_ref(), way)?, next))
    }

    fn infer_with(&self, xs: &Tensor, state: &C::State, plan: &Plan) -> Result<(Tensor, C::State)> {
        self.check(xs, state)?;
        let Run { cell, xs, guides, .. } = self.ready(&xs.detach(), plan, false)?;
        if self.way() == Way::Reference {
            return unroll::reference(&cell, &xs, &state.detach(), &guides, Keep::Nothing);
        }
        let (flat, _) = self.run(self.way(), &cell, (&xs, state, &guides), Keep::Nothing)?;
        split(state, flat.detached(&self.output_shapes(&xs, state)?, &xs)?)
    }

    fn zero_state(&self, batch: usize) -> Result<C::State> {
        if batch == 0 {
            return Err(Error::invalid("zero_state: batch", "at least 1", 0));
        }
        self.cell.zero_state(batch)
    }

    fn input_size(&self) -> usize {
        self.cell.spec().input
    }

    fn output_size(&self) -> usize {
        self.cell.spec().output()
    }

    fn goes_forward(&self) -> bool {
        self.cell.spec().place.direction == Direction::Forward
    }

    fn draws(&self) -> bool {
        self.regularisers.any()
    }
}

impl<C: Cell> Layer for TimeRnn<C> {
    type Cell = C;
    type Tape = TimeTape;

    fn make(spec: LayerSpec, mut cell: impl FnMut(LayerSpec) -> Result<C>) -> Result<Self> {
        Ok(Self::new(cell(spec)?))
    }

    fn map(self, f: &mut dyn FnMut(Self) -> Result<Self>) -> Result<Self> {
        f(self)
    }

    fn directions(&self) -> Vec<&Self> {
        vec![self]
    }

    fn forward_taped_with(
        &self,
        xs: &Tensor,
        state: &C::State,
        plan: &Plan,
    ) -> Result<(Tensor, C::State, TimeTape)> {
        let way = self.by_hand("forward_taped")?;
        self.check(xs, state)?;
        let Run { cell, xs, guides, masks } = self.ready(&xs.detach(), plan, true)?;
        let cell = cell.with_params(cell.params().detach());
        let (flat, tape) = self.run(way, &cell, (&xs, state, &guides), Keep::Tape)?;
        let tape = tape.ok_or_else(|| Error::invalid("TimeRnn::forward_taped", "a tape", "none"))?;
        let (hs, next) = split(state, flat.detached(&self.output_shapes(&xs, state)?, &xs)?)?;
        let hs = drop_units(&hs, masks.output.as_ref(), way)?;
        let params = (!masks.weights.is_empty()).then(|| cell.params().clone());
        Ok((hs, next, TimeTape { tape, of: self.kind(), home: self.home.clone(), params, masks }))
    }

    fn backward(&self, tape: TimeTape, dhs: &Tensor, dnext: &C::State) -> Result<LayerGrads<C::State>> {
        self.check_params()?;
        let TimeTape { tape, of, home, params, masks } = tape;
        let kind = self.kind();
        let wrong = |want: String, got: String| {
            Error::invalid("TimeRnn::backward: tape", want, got)
                .hint("a tape is for the layer whose forward_taped left it")
        };
        if of != kind {
            return Err(wrong(format!("that of {kind}"), of.to_string()));
        }
        if !Arc::ptr_eq(&home, &self.home) {
            return Err(wrong(
                "that of this layer or of a clone".into(),
                "one of another layer of its sizes".into(),
            ));
        }
        let spec = self.cell.spec();
        let (batch, time) = tape.window();
        let output = spec.output();
        if dhs.dims() != [batch, time, output] {
            let want = format!("[{batch}, {time}, {output}]");
            return Err(Error::invalid("TimeRnn::backward: dhs", want, format!("{:?}", dhs.dims())));
        }
        fits::state("TimeRnn::backward: dnext", &self.cell, dnext, (batch, "the tape's window"))?;
        fits::gradients("TimeRnn::backward", &self.cell, dhs, dnext)?;
        let cell = params.map_or_else(|| self.cell.clone(), |params| self.cell.with_params(params));
        let dhs = drop_units(dhs, masks.output.as_ref(), self.way())?;
        let grads = unroll::backward((&cell, &self.home), &tape, &dhs, dnext, true, Keep::Nothing)?;
        let TimeGrads { dxs, dstate, params } = grads;
        let dxs =
            dxs.ok_or_else(|| Error::invalid("TimeRnn::backward", "a gradient of the input", "none"))?;
        let dxs = drop_units(&dxs, masks.input.as_ref(), self.way())?;
        Ok(LayerGrads { dxs, dstate, params: vec![masks.drop_weights(&params)?] })
    }
}

/// Outputs as `hs` and a state like `state`.
fn split<S: State>(state: &S, outputs: Vec<Tensor>) -> Result<(Tensor, S)> {
    let mut outputs = outputs.into_iter();
    let hs = outputs.next().ok_or_else(|| Error::invalid("TimeRnn", "outputs", "none"))?;
    Ok((hs, with_parts(state, outputs)?))
}

/// The input, with zeros behind each end where what stands there is not finite: it has no gradient, and zero times infinity
/// would be one.
fn finite(xs: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let time = xs.dim(1)?;
    let shortest = lengths.iter().copied().min().unwrap_or(time);
    let padded = xs.detach().narrow(1, shortest, time - shortest)?;
    let of_all = padded.abs()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    if of_all.is_finite() { Ok(xs.clone()) } else { without_padding(xs, lengths) }
}
