//! Truncated backpropagation through time in its true form: BPTT(k2; k1) of Williams & Peng 1990.

use super::Recurrent;
use super::plan::Plan;
use crate::cell::State;
use crate::{Error, Result};
use candle_core::Tensor;
use std::collections::VecDeque;

/// A recurrent layer that takes `every` new steps at a time, and whose gradient goes `back` steps: through the new ones
/// and through those before them, as far as it goes.
///
/// Windows side by side cut the gradient at each beginning: the first step of a window learns nothing of what led to it.
/// Here each output's error goes back at least `back - every + 1` steps. Each error counts once. What it costs is that the
/// older steps are computed again, with the weights as they are now.
///
/// The older inputs are kept as they were given: where they have a graph (an embedding), the gradient goes into it.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use rnn_core::{Cell, LayerSpec, LstmCell, Parameters, Sliding, TimeRnn};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// let lstm = TimeRnn::new(LstmCell::new(LayerSpec::new(3, 4), parameters.builder())?);
/// let mut sliding = Sliding::new(lstm, 5, 20)?;
/// for _ in 0..6 {
///     let hs = sliding.forward(&Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?)?;
///     assert_eq!(hs.dims(), [2, 5, 4]);
///     hs.sum_all()?.backward()?; // 20 steps back
/// }
/// # rnn_core::Result::Ok(())
/// ```
///
/// What it gives are the outputs of the layer alone. A GRU whose weights are zero halves its state at each step:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::{Cell, GruCell, GruState, LayerSpec, Sliding, TimeRnn};
/// let gru = TimeRnn::new(GruCell::new(LayerSpec::new(1, 1), VarBuilder::zeros(DType::F64, &Device::Cpu))?);
/// let mut sliding = Sliding::new(gru, 1, 2)?;
/// sliding.reset(Some(GruState { h: Tensor::ones((1, 1), DType::F64, &Device::Cpu)? }));
/// for h in [0.5, 0.25, 0.125] {
///     let hs = sliding.forward(&Tensor::ones((1, 1, 1), DType::F64, &Device::Cpu)?)?;
///     assert_eq!(hs.flatten_all()?.to_vec1::<f64>()?, [h]);
/// }
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Sliding<R: Recurrent> {
    layer: R,
    every: usize,
    back: usize,
    /// Inputs from the step on that the next window may begin with, each of so many steps as were given at once.
    inputs: VecDeque<Tensor>,
    /// The state that the first of them begins with.
    start: Option<R::State>,
    /// The state after the last of them.
    last: Option<R::State>,
}

impl<R: Recurrent> Sliding<R> {
    /// A layer that takes `every` steps (k1) and goes `back` steps (k2), from a state of zeros.
    ///
    /// # Errors
    /// Where `every` is zero, or `back` is less, or the layer does not read forwards alone or draws masks.
    pub fn new(layer: R, every: usize, back: usize) -> Result<Self> {
        if every == 0 || back < every {
            let want = "at least 1 step every time, and at least as many back";
            return Err(Error::invalid("Sliding", want, format!("{every} and {back}")));
        }
        if !layer.goes_forward() {
            let want = "a layer that goes forward alone";
            return Err(Error::invalid("Sliding: layer", want, "one that reads its window from the end")
                .hint("what comes behind the newest steps is not there yet"));
        }
        if layer.draws() {
            let want = "a layer without dropout and other regularisers";
            return Err(Error::invalid("Sliding: layer", want, "one that draws masks")
                .hint("steps are computed again, and masks of which window they had is not said anywhere"));
        }
        Ok(Self { layer, every, back, inputs: VecDeque::new(), start: None, last: None })
    }

    /// The layer without its past.
    pub fn layer(&self) -> &R {
        &self.layer
    }

    /// The state after the last step, cut from the graph; `None` before the first.
    pub fn state(&self) -> Option<&R::State> {
        self.last.as_ref()
    }

    /// Forgets all steps; the next one begins with `state`, or with zeros.
    pub fn reset(&mut self, state: Option<R::State>) {
        self.inputs.clear();
        self.start = state.map(|state| state.detach());
        self.last = None;
    }

    /// The next steps `xs [N, k1, D]` give their outputs `[N, k1, P]`, recorded as far back as the gradient shall go.
    ///
    /// # Errors
    /// Where there are not k1 steps, or those of the layer; the past is then what it was.
    pub fn forward(&mut self, xs: &Tensor) -> Result<Tensor> {
        let (batch, steps, _) = xs.dims3()?;
        if steps != self.every {
            let got = format!("{:?}", xs.dims());
            return Err(Error::invalid("Sliding: xs", format!("[N, {}, D]", self.every), got));
        }
        let start = match &self.start {
            Some(start) => start.clone(),
            None => self.layer.zero_state(batch)?,
        };
        let given: Vec<&Tensor> = self.inputs.iter().chain([xs]).collect();
        let window = Tensor::cat(&given, 1)?;
        let time = window.dim(1)?;
        // The window began where the gradient of this call ends; the next call's ends further on, and begins there.
        let passed = (time + self.every).saturating_sub(self.back).min(time);
        let plan = Plan::default();
        let (hs, next, state) = if passed == 0 {
            let (hs, state) = self.layer.forward_with(&window, &start, &plan)?;
            (hs, start, state)
        } else if passed == time {
            let (hs, state) = self.layer.forward_with(&window, &start, &plan)?;
            (hs, state.detach(), state)
        } else {
            let (first, middle) = self.layer.forward_with(&window.narrow(1, 0, passed)?, &start, &plan)?;
            let rest = window.narrow(1, passed, time - passed)?;
            let (second, state) = self.layer.forward_with(&rest, &middle, &plan)?;
            (Tensor::cat(&[first, second], 1)?, middle.detach(), state)
        };
        let outputs = hs.narrow(1, time - steps, steps)?;
        self.inputs.push_back(xs.clone());
        self.drop_first(passed)?;
        self.start = Some(next);
        self.last = Some(state.detach());
        Ok(outputs)
    }

    /// Forgets so many of the first steps.
    fn drop_first(&mut self, mut steps: usize) -> Result<()> {
        while steps > 0 {
            let Some(first) = self.inputs.pop_front() else { break };
            let time = first.dim(1)?;
            if time > steps {
                self.inputs.push_front(first.narrow(1, steps, time - steps)?);
            }
            steps = steps.saturating_sub(time);
        }
        Ok(())
    }
}
