//! The book's chain of layers in tensor ops: forward through each, backward through each in turn, on any device.

use super::Engine;
use super::net::Net;
use crate::data::Window;
use crate::layers::{TimeSoftmaxWithLoss, ids_tensor};
use crate::train::{Grad, Values};
use crate::{Error, Result};
use candle_core::Tensor;
use rnn_core::TimeTape;
use rnn_core::{Cell, Recurrent, StackState, State};

pub(super) struct Manual<C: Cell> {
    net: Net<C>,
    state: Option<StackState<C::State>>,
    cache: Option<Cache<C::State>>,
    grads: Option<Vec<Tensor>>,
}

/// What a forward leaves for its backward.
struct Cache<S> {
    ids: Tensor,
    tapes: Vec<TimeTape>,
    state: StackState<S>,
    hs: Tensor,
    dlogits: Tensor,
}

impl<C: Cell> Manual<C> {
    pub(super) fn new(net: Net<C>) -> Self {
        Self { net, state: None, cache: None, grads: None }
    }
}

impl<C: Cell> Engine for Manual<C> {
    fn forward(&mut self, window: &Window) -> Result<f64> {
        // Gradients of a window before would be taken for this one's.
        self.grads = None;
        let Net { embedding, stack, affine, .. } = &self.net;
        let state = match &self.state {
            Some(state) => state.clone(),
            None => stack.zero_state(window.batch)?,
        };
        let ids = ids_tensor(&window.xs, window.batch, window.time, embedding.weight().device())?;
        let mut hs = embedding.forward(&ids)?.detach();
        let (mut tapes, mut next) = (Vec::new(), Vec::new());
        for (layer, state) in stack.layers().iter().zip(state.layers()) {
            let (outputs, after, tape) = layer.forward_taped(&hs, state)?;
            hs = outputs;
            next.push(after);
            tapes.push(tape);
        }
        let (loss, dlogits) = TimeSoftmaxWithLoss.forward_taped(&affine.infer(&hs)?, &window.ts)?;
        let next = StackState::new(next)?;
        self.cache = Some(Cache { ids, tapes, state: next.clone(), hs, dlogits });
        self.state = Some(next);
        Ok(loss)
    }

    fn backward(&mut self) -> Result<()> {
        let Net { embedding, stack, affine, tied } = &self.net;
        let cache =
            self.cache.take().ok_or_else(|| Error::invalid("backward", "a forward before it", "none"))?;
        let of_affine = affine.backward(&cache.hs, &cache.dlogits)?;
        let mut dhs = of_affine.dxs;
        let mut of_layers = Vec::new();
        for ((layer, tape), state) in stack.layers().iter().zip(cache.tapes).zip(cache.state.layers()).rev() {
            // The window's loss does not reach beyond it: the gradient of the next state is zero.
            let grads = layer.backward(tape, &dhs, &state.zeros_like()?)?;
            dhs = grads.dxs.ok_or_else(|| Error::invalid("backward", "a gradient of the input", "none"))?;
            of_layers.push(grads.params);
        }
        let mut grads = vec![embedding.backward(&cache.ids, &dhs)?];
        for params in of_layers.iter().rev() {
            grads.extend(params.tensors().into_iter().cloned());
        }
        if *tied {
            grads[0] = (&grads[0] + of_affine.weight)?;
        } else {
            grads.push(of_affine.weight);
        }
        grads.push(of_affine.bias);
        self.grads = Some(grads);
        Ok(())
    }

    fn reset_state(&mut self) {
        self.state = None;
    }

    fn grads(&self) -> Option<Vec<Grad<'_>>> {
        Some(self.grads.as_ref()?.iter().map(|grad| Grad::Dense(Values::Tensor(grad))).collect())
    }
}
