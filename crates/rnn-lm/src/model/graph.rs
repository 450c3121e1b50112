//! The reference: plain ops, candle's own cross-entropy, and candle's `backward()`.

use super::Engine;
use super::dropout::Draw;
use super::ends::no_forward;
use super::net::Net;
use crate::Result;
use crate::data::Window;
use crate::layers::ids_tensor;
use crate::train::{Grad, Values};
use candle_core::{Tensor, Var};
use rnn_core::{Cell, Penalty, Recurrent, StackState, State};

pub(super) struct Graph<C: Cell> {
    net: Net<C>,
    vars: Vec<Var>,
    state: Option<StackState<C::State>>,
    loss: Option<Tensor>,
    penalty: f64,
    grads: Option<Vec<Tensor>>,
}

impl<C: Cell> Graph<C> {
    pub(super) fn new(net: Net<C>, vars: Vec<Var>) -> Self {
        Self { net, vars, state: None, loss: None, penalty: 0.0, grads: None }
    }
}

/// The mean of `[N, T, H]` over the first `lengths[n]` steps of each row; zero where there are none.
fn mean_of(numbers: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let (batch, time, size) = numbers.dims3()?;
    let counts: Vec<f64> =
        (0..batch * time).map(|i| f64::from(u8::from(i % time < lengths[i / time]))).collect();
    let counts = Tensor::from_vec(counts, (batch, time, 1), numbers.device())?.to_dtype(numbers.dtype())?;
    let count = (lengths.iter().sum::<usize>() * size).max(1);
    Ok((numbers.broadcast_mul(&counts)?.sum_all()? / count as f64)?)
}

impl<C: Cell> Engine for Graph<C> {
    fn forward(&mut self, window: &Window, draw: Draw) -> Result<f64> {
        // Gradients of a window before would be taken for this one's.
        self.grads = None;
        let state = match &self.state {
            Some(state) => state.clone(),
            None => self.net.stack.zero_state(window.batch)?,
        };
        let ids = ids_tensor(&window.xs, window.batch, window.time, self.net.embedding.weight().device())?;
        let masks = self.net.masks((&window.xs, window.batch), draw)?;
        let (hs, dropped, next) = self.net.outputs(&ids, &state, &masks, draw)?;
        let number = |loss: &Tensor| loss.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>();
        let mut loss = self.net.head.reference(&dropped, &window.ts)?;
        let of_targets = number(&loss)?;
        let Penalty { activation, temporal } = self.net.dropout.penalty;
        let lengths = window.lengths().unwrap_or_else(|| vec![window.time; window.batch]);
        loss = (loss + (mean_of(&dropped.sqr()?, &lengths)? * activation)?)?;
        if window.time > 1 {
            let (before, after) = (hs.narrow(1, 0, window.time - 1)?, hs.narrow(1, 1, window.time - 1)?);
            let changes: Vec<usize> = lengths.iter().map(|length| length.saturating_sub(1)).collect();
            loss = (loss + (mean_of(&(after - before)?.sqr()?, &changes)? * temporal)?)?;
        }
        let value = number(&loss)?;
        self.penalty = value - of_targets;
        self.state = Some(next.detach());
        self.loss = Some(loss);
        Ok(value)
    }

    fn penalty(&self) -> f64 {
        self.penalty
    }

    fn backward(&mut self) -> Result<()> {
        let loss = self.loss.take().ok_or_else(no_forward)?;
        let store = loss.backward()?;
        let gradient = |var: &Var| match store.get(var.as_tensor()) {
            Some(gradient) => Ok(gradient.contiguous()?),
            None => Ok(var.zeros_like()?),
        };
        self.grads = Some(self.vars.iter().map(gradient).collect::<Result<_>>()?);
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
        Some(self.grads.as_ref()?.iter().map(|grad| Grad::Dense(Values::Tensor(grad))).collect())
    }
}
