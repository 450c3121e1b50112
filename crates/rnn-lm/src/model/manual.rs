//! The book's chain of layers: forward through each, backward through each in turn, by hand and through tensors, with all
//! that is dropped on the way. Its layers run in any way but the reference, and so do its [`Ends`].

use super::Engine;
use super::dropout::{Draw, Masks};
use super::ends::{Ends, no_forward};
use super::net::Net;
use crate::Result;
use crate::data::Window;
use crate::train::{Grad, Values};
use candle_core::Tensor;
use rnn_core::{Cell, LayerParams, Penalty, Plan, Recurrent, StackState, StackTape, State, TimeTape};

pub(super) struct Manual<C: Cell, E> {
    net: Net<C>,
    ends: E,
    state: Option<StackState<C::State>>,
    cache: Option<Cache<C::State>>,
    of_layers: Option<Vec<LayerParams>>,
    penalty: f64,
}

/// What a forward leaves for its backward.
struct Cache<S> {
    ids: Vec<u32>,
    masks: Masks,
    tape: StackTape<TimeTape>,
    state: StackState<S>,
    /// The gradient of what the last layer gave.
    dhs: Tensor,
}

impl<C: Cell, E: Ends> Manual<C, E> {
    pub(super) fn new(net: Net<C>, ends: E) -> Self {
        Self { net, ends, state: None, cache: None, of_layers: None, penalty: 0.0 }
    }
}

impl<C: Cell, E: Ends> Engine for Manual<C, E> {
    fn forward(&mut self, window: &Window, draw: Draw) -> Result<f64> {
        // Gradients of a window before would be taken for this one's.
        self.of_layers = None;
        let Net { embedding, stack, dropout, .. } = &self.net;
        let state = match &self.state {
            Some(state) => state.clone(),
            None => stack.zero_state(window.batch)?,
        };
        let masks = self.net.masks((&window.xs, window.batch), draw)?;
        let xs = masks.input(&embedding.look_up(&window.xs, window.batch)?)?;
        let plan = Plan::new().draw(draw.seed, draw.window);
        let (hs, next, tape) = stack.forward_taped_with(&xs, &state, &plan)?;
        let dropped = masks.output(&hs)?;
        let (loss, mut dhs) = self.ends.loss(&dropped, &window.ts)?;
        let (mut penalty, lengths) = (0.0, window.lengths());
        let mut add = |of: Penalty, outputs: &Tensor, dhs: Tensor| -> Result<Tensor> {
            if of == Penalty::default() {
                return Ok(dhs);
            }
            let (more, of_penalty) = of.by_hand(outputs, lengths.as_deref())?;
            penalty += more;
            Ok((dhs + of_penalty)?)
        };
        let [of_dropped, of_outputs] = dropout.penalties();
        dhs = masks.output(&add(of_dropped, &dropped, dhs)?)?;
        dhs = add(of_outputs, &hs, dhs)?;
        self.cache = Some(Cache { ids: window.xs.clone(), masks, tape, state: next.clone(), dhs });
        (self.state, self.penalty) = (Some(next), penalty);
        Ok(loss + penalty)
    }

    fn penalty(&self) -> f64 {
        self.penalty
    }

    fn backward(&mut self) -> Result<()> {
        let Cache { ids, masks, tape, state, dhs } = self.cache.take().ok_or_else(no_forward)?;
        // The window's loss does not reach beyond it: the gradient of the next state is zero.
        let grads = self.net.stack.backward(tape, &dhs, &state.zeros_like()?)?;
        self.ends.looked_up(&ids, &masks.input(&grads.dxs)?)?;
        self.of_layers = Some(grads.params);
        Ok(())
    }

    fn reset_state(&mut self) {
        self.state = None;
    }

    fn state(&self) -> Result<Option<Vec<Tensor>>> {
        Ok(self.state.as_ref().map(|state| state.detach().parts().into_iter().cloned().collect()))
    }

    fn set_state(&mut self, parts: Vec<Tensor>) -> Result<()> {
        self.state = Some(self.net.state_of(parts)?);
        Ok(())
    }

    fn grads(&self) -> Option<Vec<Grad<'_>>> {
        let of_layers = self.of_layers.as_ref()?.iter().flat_map(LayerParams::tensors);
        let (first, of_head) = self.ends.grads()?;
        let of_layers = of_layers.map(|grad| Grad::Dense(Values::Tensor(grad)));
        Some([first].into_iter().chain(of_layers).chain(of_head).collect())
    }
}
