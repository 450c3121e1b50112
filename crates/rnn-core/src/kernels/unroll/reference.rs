//! The oracle: one step after the other in plain tensor ops. No tape and no backward: that is candle's autograd.

use super::{Way, ran};
use crate::cell::Cell;
use crate::{Error, Result};
use candle_core::Tensor;

/// Steps that the reference takes at most. candle walks and drops the graph by recursion, a dozen calls a step: more
/// steps overflow the 2 MiB stack of a thread.
pub const MAX_STEPS: usize = 512;

/// `hs [N, T, H]` and the next state, differentiable.
pub(crate) fn forward<C: Cell>(cell: &C, xs: &Tensor, state: &C::State) -> Result<(Tensor, C::State)> {
    ran(Way::Reference);
    let time = xs.dim(1)?;
    if time > MAX_STEPS {
        return Err(Error::invalid("TimeRnn: reference", format!("at most {MAX_STEPS} steps"), time)
            .hint("candle walks the graph of plain ops by recursion, which would overflow the stack; use the manual or the fused way"));
    }
    let mut state = state.clone();
    let mut hs = Vec::with_capacity(time);
    for t in 0..time {
        state = cell.step(&xs.narrow(1, t, 1)?.squeeze(1)?, &state)?;
        hs.push(crate::cell::State::h(&state).clone());
    }
    Ok((Tensor::stack(&hs, 1)?, state))
}
