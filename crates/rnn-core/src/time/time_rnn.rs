//! A cell over T steps: one layer, in the way that was asked for.

use super::Recurrent;
use crate::autograd::record;
use crate::cell::{Cell, State};
use crate::kernels::unroll::{self, Home, Keep, Tape, TimeGrads, Way};
use crate::{Error, Result};
use candle_core::{Shape, Tensor};
use std::sync::Arc;

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
#[derive(Debug, Clone)]
pub struct TimeRnn<C> {
    cell: C,
    way: Way,
    /// Shared by all clones of the layer.
    home: Arc<Home>,
}

impl<C: Cell> TimeRnn<C> {
    /// The layer of `cell`, in the fused way.
    pub fn new(cell: C) -> Self {
        Self { cell, way: Way::default(), home: Arc::default() }
    }

    /// The same layer in another way.
    #[must_use]
    pub fn with_way(self, way: Way) -> Self {
        Self { way, ..self }
    }

    /// The cell.
    pub fn cell(&self) -> &C {
        &self.cell
    }

    /// The way that runs: the one asked for, or the manual one where the fused one cannot; see [`unroll::resolve`].
    pub fn way(&self) -> Way {
        unroll::resolve(self.way, &self.cell)
    }

    /// The forward without autograd: outputs, next state, and the tape for [`Self::backward`]. Like the book's layer,
    /// and for those who write their own chain of layers.
    ///
    /// # Errors
    /// Where a shape, a dtype or a device does not fit, or the way is the reference, which has no tape.
    pub fn forward_taped(&self, xs: &Tensor, state: &C::State) -> Result<(Tensor, C::State, Tape)> {
        let way = self.by_hand("forward_taped")?;
        self.check(xs, state)?;
        let (flat, tape) = unroll::forward(way, (&self.cell, &self.home), xs, state, Keep::Tape)?;
        let tape = tape.ok_or_else(|| Error::invalid("TimeRnn::forward_taped", "a tape", "none"))?;
        let (hs, next) = split(state, flat.detached(&self.output_shapes(xs, state)?, xs)?)?;
        Ok((hs, next, tape))
    }

    /// The backward through time without autograd: `dhs [N, T, H]` and the gradient of the next state give those of
    /// the input, the initial state and the parameters. It uses the tape up.
    ///
    /// # Errors
    /// Where a shape does not fit the tape's window.
    pub fn backward(&self, tape: Tape, dhs: &Tensor, dnext: &C::State) -> Result<TimeGrads<C::State>> {
        let hidden = self.cell.spec().hidden;
        let (batch, time, got) = dhs.dims3()?;
        if got != hidden || dnext.parts().iter().any(|part| part.dims() != [batch, hidden]) || time == 0 {
            let shapes: Vec<_> = dnext.parts().iter().map(|part| part.dims()).collect();
            let got = format!("dhs {:?} and dnext {shapes:?}", dhs.dims());
            let want = format!("dhs [N, T, {hidden}] and dnext [N, {hidden}] each");
            return Err(Error::invalid("TimeRnn::backward", want, got));
        }
        if tape.window() != (batch, time) {
            let ((n, t), got) = (tape.window(), dhs.dims());
            return Err(Error::invalid(
                "TimeRnn::backward: dhs",
                format!("[{n}, {t}, {hidden}]"),
                format!("{got:?}"),
            ));
        }
        unroll::backward(&self.cell, &tape, dhs, dnext, true, Keep::Nothing)
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

    fn check(&self, xs: &Tensor, state: &C::State) -> Result<()> {
        let spec = self.cell.spec();
        let weight = &self.cell.params().weight_ih;
        let want = format!("[N, T, {}] with N and T at least 1", spec.input);
        let fits = matches!(*xs.dims(), [n, t, d] if n > 0 && t > 0 && d == spec.input);
        if !fits {
            return Err(Error::invalid("TimeRnn: xs", want, format!("{:?}", xs.dims())));
        }
        let batch = xs.dim(0)?;
        let mut tensors = vec![("xs".to_string(), xs)];
        for (name, part) in state.names().into_iter().zip(state.parts()) {
            if part.dims() != [batch, spec.hidden] {
                let want = format!("[{batch}, {}] for xs {:?}", spec.hidden, xs.dims());
                return Err(Error::invalid(
                    format!("TimeRnn: state.{name}"),
                    want,
                    format!("{:?}", part.dims()),
                )
                .hint("a state is for one batch size; zero_state makes one"));
            }
            tensors.push((format!("state.{name}"), part));
        }
        for (name, tensor) in tensors {
            if tensor.dtype() != weight.dtype() {
                let (want, got) = (weight.dtype().as_str(), tensor.dtype().as_str());
                return Err(Error::invalid(
                    format!("TimeRnn: {name}"),
                    format!("the weights' dtype {want}"),
                    got,
                ));
            }
            if !tensor.device().same_device(weight.device()) {
                let (want, got) = (crate::device_name(weight.device()), crate::device_name(tensor.device()));
                return Err(Error::invalid(
                    format!("TimeRnn: {name}"),
                    format!("the weights' device {want}"),
                    got,
                ));
            }
        }
        Ok(())
    }

    fn output_shapes(&self, xs: &Tensor, state: &C::State) -> Result<Vec<Shape>> {
        let (batch, time, _) = xs.dims3()?;
        let mut shapes = vec![Shape::from((batch, time, self.cell.spec().hidden))];
        shapes.extend(state.parts().iter().map(|part| part.shape().clone()));
        Ok(shapes)
    }
}

impl<C: Cell> Recurrent for TimeRnn<C> {
    type State = C::State;

    fn forward(&self, xs: &Tensor, state: &C::State) -> Result<(Tensor, C::State)> {
        self.check(xs, state)?;
        let way = self.way();
        if way == Way::Reference {
            return unroll::reference(&self.cell, xs, state);
        }
        let mut inputs = vec![xs];
        inputs.extend(self.cell.params().tensors());
        inputs.extend(state.parts());
        let shapes = self.output_shapes(xs, state)?;
        let (flat, tape) = unroll::forward(way, (&self.cell, &self.home), xs, state, Keep::Tape)?;
        let tape = tape.ok_or_else(|| Error::invalid("TimeRnn::forward", "a tape", "none"))?;
        let (cell, like, wants_dxs) = (self.cell.clone(), state.detach(), xs.track_op());
        let backward = move |grads: &[Tensor]| {
            let dnext = unroll::with_parts(&like, grads[1..].iter().cloned())?;
            let grads = unroll::backward(&cell, &tape, &grads[0], &dnext, wants_dxs, Keep::Tape)?;
            let mut all = vec![grads.dxs];
            all.extend(grads.params.tensors().into_iter().cloned().map(Some));
            all.extend(grads.dstate.parts().into_iter().cloned().map(Some));
            Ok(all)
        };
        split(state, record("time-rnn", &inputs, flat, &shapes, backward)?)
    }

    fn infer(&self, xs: &Tensor, state: &C::State) -> Result<(Tensor, C::State)> {
        self.check(xs, state)?;
        if self.way() == Way::Reference {
            // The weights are variables, so ops on them are recorded; cutting each step keeps no more than one.
            let mut state = state.detach();
            let mut hs = Vec::new();
            for t in 0..xs.dim(1)? {
                let (h, next) = unroll::reference(&self.cell, &xs.narrow(1, t, 1)?.detach(), &state)?;
                hs.push(h.detach());
                state = next.detach();
            }
            return Ok((Tensor::cat(&hs, 1)?, state));
        }
        let (flat, _) = unroll::forward(self.way(), (&self.cell, &self.home), xs, state, Keep::Nothing)?;
        split(state, flat.detached(&self.output_shapes(xs, state)?, xs)?)
    }

    fn zero_state(&self, batch: usize) -> Result<C::State> {
        if batch == 0 {
            return Err(Error::invalid("zero_state: batch", "at least 1", 0));
        }
        self.cell.zero_state(batch)
    }
}

/// Outputs as `hs` and a state like `state`.
fn split<S: State>(state: &S, outputs: Vec<Tensor>) -> Result<(Tensor, S)> {
    let mut outputs = outputs.into_iter();
    let hs = outputs.next().ok_or_else(|| Error::invalid("TimeRnn", "outputs", "none"))?;
    Ok((hs, unroll::with_parts(state, outputs)?))
}
