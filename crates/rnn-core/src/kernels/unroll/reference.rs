//! The oracle: one step after the other in plain tensor ops. No tape and no backward: that is candle's autograd.

use super::guides::{Guides, Steering};
use super::{Keep, Way, ran};
use crate::cell::{Cell, CellState, State, step};
use crate::{Error, Result};
use candle_core::Tensor;

/// Steps that the reference records at most. candle walks and drops the graph by recursion, a dozen calls a step: more
/// steps overflow the 2 MiB stack of a thread.
pub const MAX_STEPS: usize = 512;

/// `hs [N, T, P]` and the next state; differentiable, unless nothing is to be kept.
pub(crate) fn forward<C: Cell>(
    cell: &C,
    xs: &Tensor,
    state: &C::State,
    guides: &Guides,
    keep: Keep,
) -> Result<(Tensor, C::State)> {
    ran(Way::Reference);
    let (batch, time, _) = xs.dims3()?;
    if keep == Keep::Tape && time > MAX_STEPS {
        return Err(Error::invalid("TimeRnn: reference", format!("at most {MAX_STEPS} steps"), time)
            .hint("candle walks the graph of plain ops by recursion, which would overflow the stack; use the manual or the fused way"));
    }
    let steering = Steering::new(guides, (batch, time), (xs.dtype(), xs.device()))?;
    let mut state = state.clone();
    let mut hs = Vec::with_capacity(time);
    for t in guides.direction.steps(time) {
        if keep == Keep::Nothing {
            // The weights are variables, so ops on them are recorded; cutting each step keeps no more than one.
            state = state.detach();
        }
        let start = steering.enter(t, &state)?;
        let taken = steering.taken(t, &start)?;
        let fed = steering.feed(taken.h())?;
        let (input, _) = step::input(cell, &xs.narrow(1, t, 1)?.squeeze(1)?.contiguous()?)?;
        let (next, _) = step::forward(cell, input, &fed, &taken)?;
        state = steering.leave(t, &start, &next)?;
        let h = steering.output(t, state.h())?;
        hs.push(if keep == Keep::Nothing { h.detach() } else { h });
    }
    guides.direction.turn(&mut hs);
    let state = if keep == Keep::Nothing { state.detach() } else { state };
    Ok((Tensor::stack(&hs, 1)?, state))
}
