//! The book's backpropagation through time in tensor ops: runs on any device, needs no autograd, and reads well.

use super::{Keep, TimeGrads, Way, ran};
use crate::Result;
use crate::cell::{Cell, Saved, State, Sums};
use candle_core::Tensor;

/// What the forward leaves: its inputs, the hidden state before each step, and what each step saved.
#[derive(Debug)]
pub struct Tape {
    xs: Tensor,
    h_before: Vec<Tensor>,
    saved: Vec<Saved>,
}

impl Tape {
    /// N and T of the window.
    pub(super) fn window(&self) -> (usize, usize) {
        (self.xs.dims()[0], self.xs.dims()[1])
    }
}

/// Outputs and next state in one tensor, and the tape.
pub(super) fn forward<C: Cell>(
    cell: &C,
    xs: &Tensor,
    state: &C::State,
    keep: Keep,
) -> Result<(Tensor, Option<Tape>)> {
    ran(Way::Manual);
    let params = cell.params().detach();
    let xs = xs.detach().contiguous()?;
    let (batch, time, input) = xs.dims3()?;
    // The input product needs no state: one product for all steps.
    let sums = params.input_sums(&xs.reshape((batch * time, input))?)?.reshape((batch, time, ()))?;
    let mut state = state.detach();
    let (mut hs, mut h_before, mut saved) = (Vec::new(), Vec::new(), Vec::new());
    for t in 0..time {
        let input = sums.narrow(1, t, 1)?.squeeze(1)?.contiguous()?;
        let recurrent = params.recurrent_sums(state.h())?;
        let (next, step) = cell.pointwise_forward(&Sums { input, recurrent }, &state)?;
        if keep == Keep::Tape {
            h_before.push(state.h().clone());
            saved.push(step);
        }
        hs.push(next.h().clone());
        state = next;
    }
    let mut flat = vec![Tensor::stack(&hs, 1)?.flatten_all()?];
    for part in state.parts() {
        flat.push(part.flatten_all()?);
    }
    let tape = (keep == Keep::Tape).then_some(Tape { xs, h_before, saved });
    Ok((Tensor::cat(&flat, 0)?, tape))
}

/// The gradients, from those of `hs` and of the next state.
///
/// The loop yields the gate gradients alone: the products with inputs and states, which make the parameters'
/// gradients as sums over all steps, stand outside of it.
pub(super) fn backward<C: Cell>(
    cell: &C,
    tape: &Tape,
    dhs: &Tensor,
    dnext: &C::State,
    wants_dxs: bool,
) -> Result<TimeGrads<C::State>> {
    ran(Way::Manual);
    let params = cell.params().detach();
    let dhs = dhs.detach();
    let mut dstate = dnext.detach();
    let (mut input, mut recurrent) = (Vec::new(), Vec::new());
    for (t, saved) in tape.saved.iter().enumerate().rev() {
        let dh = (dstate.h() + dhs.narrow(1, t, 1)?.squeeze(1)?)?;
        let (gates, direct) = cell.pointwise_backward(saved, &dstate.with_h(dh))?;
        let through_product = gates.recurrent.matmul(&params.weight_hh)?;
        dstate = direct.with_h((direct.h() + through_product)?);
        input.push(gates.input);
        recurrent.push(gates.recurrent);
    }
    input.reverse();
    recurrent.reverse();
    let (batch, time, size) = tape.xs.dims3()?;
    let rows = |steps: &[Tensor]| Tensor::stack(steps, 1)?.reshape((batch * time, ()));
    let gates = Sums { input: rows(&input)?, recurrent: rows(&recurrent)? };
    let grads = params.grads(&gates, &tape.xs.reshape((batch * time, size))?, &rows(&tape.h_before)?)?;
    let dxs = || gates.input.matmul(&params.weight_ih)?.reshape((batch, time, size));
    Ok(TimeGrads { dxs: wants_dxs.then(dxs).transpose()?, dstate, params: grads })
}
