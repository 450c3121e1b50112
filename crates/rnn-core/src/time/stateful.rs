//! The book's behaviour over a functional layer: a state that the layer keeps, from window to window or not.

use super::{Plan, Recurrent};
use crate::cell::State;
use crate::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

/// A recurrent layer that keeps its state.
///
/// Where it is stateful each window begins with the state that the one before ended with; where not, with zeros. The
/// gradient is cut at each window's beginning either way, and [`Self::dh`] says what it would have been there.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::{Cell, GruCell, GruState, LayerSpec, Stateful, TimeRnn};
/// // Zero weights: z = 0.5 and n = 0, so that each step halves h.
/// let gru = TimeRnn::new(GruCell::new(LayerSpec::new(1, 1), VarBuilder::zeros(DType::F64, &Device::Cpu))?);
/// let mut layer = Stateful::new(gru, true);
/// layer.set_state(GruState { h: Tensor::ones((1, 1), DType::F64, &Device::Cpu)? });
/// let xs = Tensor::ones((1, 2, 1), DType::F64, &Device::Cpu)?;
/// let hs = layer.forward(&xs)?;
/// assert_eq!(hs.flatten_all()?.to_vec1::<f64>()?, [0.5, 0.25]);
/// let dh = layer.dh(&hs.sum_all()?.backward()?)?;
/// assert_eq!(dh.map(|dh| dh.h.to_vec2::<f64>()).transpose()?, Some(vec![vec![0.75]]));
/// assert_eq!(layer.forward(&xs)?.flatten_all()?.to_vec1::<f64>()?, [0.125, 0.0625]);
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Stateful<R: Recurrent> {
    layer: R,
    stateful: bool,
    state: Option<R::State>,
    /// The last window's initial state as variables: candle's store keeps gradients of these.
    initial: Option<Vec<Var>>,
}

impl<R: Recurrent> Stateful<R> {
    /// `layer` with a state that begins at zero; `stateful` as in the book: whether it is carried on.
    pub fn new(layer: R, stateful: bool) -> Self {
        Self { layer, stateful, state: None, initial: None }
    }

    /// The layer without the state.
    pub fn layer(&self) -> &R {
        &self.layer
    }

    /// The state that the next window begins with: the last one's where it is stateful, or the one that was set; `None` means
    /// zeros.
    pub fn state(&self) -> Option<&R::State> {
        self.state.as_ref()
    }

    /// Another state for the next window, stateful or not.
    pub fn set_state(&mut self, state: R::State) {
        self.state = Some(state.detach());
    }

    /// Zeros for the next window.
    pub fn reset_state(&mut self) {
        self.state = None;
    }

    /// `xs [N, T, D]` give `hs [N, T, P]`, P being [`Recurrent::output_size`].
    ///
    /// # Errors
    /// Those of the layer; the state is then what it was before.
    pub fn forward(&mut self, xs: &Tensor) -> Result<Tensor> {
        self.forward_with(xs, &Plan::default())
    }

    /// The same by a plan.
    ///
    /// # Errors
    /// Those of [`Recurrent::forward_with`]; the state is then what it was before.
    pub fn forward_with(&mut self, xs: &Tensor, plan: &Plan) -> Result<Tensor> {
        let batch = xs.dims().first().copied().unwrap_or(0);
        let start = match &self.state {
            Some(state) => state.clone(),
            None => self.layer.zero_state(batch)?,
        };
        let mut vars = Vec::new();
        let initial = start.try_map(&mut |part| {
            let var = Var::from_tensor(part)?;
            let tensor = var.as_tensor().clone();
            vars.push(var);
            Ok(tensor)
        })?;
        let (hs, next) = self.layer.forward_with(xs, &initial, plan)?;
        self.state = self.stateful.then(|| next.detach());
        self.initial = Some(vars);
        Ok(hs)
    }

    /// The same outputs with nothing recorded.
    ///
    /// # Errors
    /// Those of the layer; the state is then what it was before.
    pub fn infer(&mut self, xs: &Tensor) -> Result<Tensor> {
        self.infer_with(xs, &Plan::default())
    }

    /// The same by a plan.
    ///
    /// # Errors
    /// Those of [`Recurrent::infer_with`]; the state is then what it was before.
    pub fn infer_with(&mut self, xs: &Tensor, plan: &Plan) -> Result<Tensor> {
        let batch = xs.dims().first().copied().unwrap_or(0);
        let start = match &self.state {
            Some(state) => state.clone(),
            None => self.layer.zero_state(batch)?,
        };
        let (hs, next) = self.layer.infer_with(xs, &start, plan)?;
        self.state = self.stateful.then_some(next);
        self.initial = None;
        Ok(hs)
    }

    /// The gradient with respect to the last window's initial state, out of what `backward()` gave; `None` before the
    /// first window, or where the loss does not depend on it.
    ///
    /// # Errors
    /// Where a part of the state has a gradient and another one none, and the device has no memory for zeros.
    pub fn dh(&self, grads: &GradStore) -> Result<Option<R::State>> {
        let Some(vars) = &self.initial else { return Ok(None) };
        if vars.iter().all(|var| grads.get(var.as_tensor()).is_none()) {
            return Ok(None);
        }
        let batch = vars.first().map_or(Ok(0), |var| var.dim(0))?;
        let mut vars = vars.iter();
        let like = self.layer.zero_state(batch)?;
        let dh = like.try_map(&mut |zeros| {
            let var =
                vars.next().ok_or_else(|| Error::invalid("Stateful::dh", "a variable a part", "fewer"))?;
            Ok(grads.get(var.as_tensor()).cloned().unwrap_or_else(|| zeros.clone()))
        })?;
        Ok(Some(dh))
    }
}
