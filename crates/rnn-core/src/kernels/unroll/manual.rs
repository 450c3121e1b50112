//! The book's backpropagation through time in tensor ops: runs on any device, needs no autograd, and reads well.

use super::guides::{Guides, Steering};
use super::{Keep, TimeGrads, Way, ran};
use crate::Result;
use crate::cell::step::{self, Factors};
use crate::cell::{Cell, CellState, Own, Saved, State, Sums, Taped};
use candle_core::Tensor;

/// What the forward leaves: its inputs, and what each step saved, in the order in which they were taken.
#[derive(Debug)]
pub struct Tape {
    xs: Tensor,
    guides: Guides,
    /// Of the input product.
    shaped: Saved,
    steps: Vec<Taped>,
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
    guides: &Guides,
    keep: Keep,
) -> Result<(Tensor, Option<Tape>)> {
    ran(Way::Manual);
    let cell = cell.with_params(cell.params().detach());
    let xs = xs.detach().contiguous()?;
    let (batch, time, input) = xs.dims3()?;
    let steering = Steering::new(guides, (batch, time), (xs.dtype(), xs.device()))?;
    // The input product needs no state: one product for all steps.
    let (sums, shaped) = step::input(&cell, &xs.reshape((batch * time, input))?)?;
    let sums = sums.reshape((batch, time, ()))?;
    let mut state = state.detach();
    let (mut hs, mut steps) = (Vec::new(), Vec::new());
    for t in guides.direction.steps(time) {
        let start = steering.enter(t, &state)?;
        let input = sums.narrow(1, t, 1)?.squeeze(1)?.contiguous()?;
        let taken = steering.taken(t, &start)?;
        let (next, tape) = step::forward(&cell, input, &steering.feed(taken.h())?, &taken)?;
        state = steering.leave(t, &start, &next)?;
        hs.push(steering.output(t, state.h())?);
        if keep == Keep::Tape {
            steps.push(tape);
        }
    }
    guides.direction.turn(&mut hs);
    let mut flat = vec![Tensor::stack(&hs, 1)?.flatten_all()?];
    for part in state.parts() {
        flat.push(part.flatten_all()?);
    }
    let tape = (keep == Keep::Tape).then_some(Tape { xs, guides: guides.clone(), shaped, steps });
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
    let cell = cell.with_params(cell.params().detach());
    let Tape { xs, guides, shaped, steps } = tape;
    let (batch, time, size) = xs.dims3()?;
    let steering = Steering::new(guides, (batch, time), (xs.dtype(), xs.device()))?;
    let dhs = dhs.detach();
    let mut dstate = dnext.detach();
    let (mut input, mut recurrent, mut product) = (Vec::new(), Vec::new(), Vec::new());
    let (mut projected, mut own) = (Vec::new(), Own::new());
    for (t, step) in guides.direction.steps(time).zip(steps).rev() {
        let dh = steering.output(t, &dhs.narrow(1, t, 1)?.squeeze(1)?)?;
        let dstate_here = dstate.with_h((dstate.h() + dh)?);
        let (dnext, kept) = steering.leave_backward(t, &dstate_here)?;
        let back = step::backward(&cell, step, &dnext)?;
        let through_product = steering.feed(&back.dfed)?;
        let mut dstart = back.direct.with_h((back.direct.h() + through_product)?);
        if let Some(kept) = kept {
            dstart = step::sum(&dstart, &kept)?;
        }
        dstate = steering.enter(t, &dstart)?;
        input.push(back.gates.input);
        recurrent.push(back.gates.recurrent);
        projected.push(dnext.h().clone());
        product.push(back.product);
        own.extend(back.own);
    }
    // What stands here was pushed from the last step to the first, what the tape has the other way round.
    for pushed in [&mut input, &mut recurrent, &mut product, &mut projected] {
        pushed.reverse();
    }
    let rows = |mut steps: Vec<Tensor>| -> Result<Tensor> {
        guides.direction.turn(&mut steps);
        Ok(Tensor::stack(&steps, 1)?.reshape((batch * time, ()))?)
    };
    let gates = Sums { input: rows(input)?, recurrent: rows(recurrent)? };
    let fed = rows(steps.iter().map(|step| step.fed.clone()).collect())?;
    let hidden: Vec<Tensor> = steps.iter().filter_map(|step| step.hidden.clone()).collect();
    let projection = match hidden.is_empty() {
        true => None,
        false => Some((rows(projected)?, rows(hidden)?)),
    };
    let factors = Factors { gates: &gates, product: &rows(product)?, fed: &fed, projection, own };
    let (dxs, params) = factors.gradients(&cell, (&xs.reshape((batch * time, size))?, shaped))?;
    let dxs = wants_dxs.then(|| dxs.reshape((batch, time, size))).transpose()?;
    Ok(TimeGrads { dxs, dstate, params })
}
