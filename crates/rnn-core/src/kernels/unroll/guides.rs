//! What steers a window step by step, the same for every way and every cell: the order of the steps, how many each row
//! has, where a state begins anew, and masks. All of it acts between the cell's steps, so no cell knows of it.
//!
//! ```text
//! start = fresh ? 0 : state                       where a sequence begins
//! fed   = mask * start.h                          what the recurrent product takes
//! next  = cell(x, fed, start)
//! state = keep * start + (1 - keep) * next        zoneout; behind a row's end keep is 1
//! out   = state.h, or 0 behind a row's end
//! ```

use super::with_parts;
use crate::Result;
use crate::cell::State;
use crate::convention::Direction;
use candle_core::{DType, Device, Tensor};

/// What steers a window; by default nothing does, and steps go from the first to the last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guides {
    pub(crate) direction: Direction,
    /// Steps of each row, `[N]`, from step 0 on.
    pub(crate) lengths: Option<Vec<usize>>,
    /// `[N, T]`: whether the state is zero when this step begins.
    pub(crate) fresh: Option<Vec<bool>>,
    /// Factors of the hidden state that is fed to the recurrent product, `[N, P]`.
    pub(crate) mask: Option<Tensor>,
    /// What each part of the state keeps of the one before, `[N, T, size]` or `[1, 1, size]`; none, or one a part.
    pub(crate) keep: Vec<Tensor>,
}

impl Direction {
    /// The steps of a window in the order in which they are taken.
    pub(crate) fn steps(
        self,
        time: usize,
    ) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator + Clone {
        (0..time).map(move |s| self.step(s, time))
    }

    /// The step that is taken as number `s`, from 0.
    pub(crate) fn step(self, s: usize, time: usize) -> usize {
        match self {
            Self::Forward => s,
            Self::Reverse => time - 1 - s,
        }
    }
}

impl Guides {
    /// Those of a plain window in this direction.
    pub(crate) fn plain(direction: Direction) -> Self {
        Self { direction, ..Self::default() }
    }

    /// Whether there is nothing but the order of steps.
    pub(crate) fn is_plain(&self) -> bool {
        self.lengths.is_none() && self.fresh.is_none() && self.mask.is_none() && self.keep.is_empty()
    }

    /// Those of steps `from..to` of this window of `time` steps.
    pub(crate) fn segment(&self, (from, to): (usize, usize), time: usize) -> Result<Self> {
        let lengths = self.lengths.as_ref().map(|lengths| {
            lengths.iter().map(|&length| length.saturating_sub(from).min(to - from)).collect()
        });
        let of_row = |row: &[bool]| row[from..to].to_vec();
        let fresh = self.fresh.as_ref().map(|fresh| fresh.chunks(time).flat_map(of_row).collect());
        let keep = self.keep.iter().map(|keep| match keep.dim(1)? {
            1 if time > 1 => Ok(keep.clone()),
            _ => Ok(keep.narrow(1, from, to - from)?.contiguous()?),
        });
        Ok(Self { lengths, fresh, keep: keep.collect::<Result<_>>()?, ..self.clone() })
    }
}

/// Guides as tensors, for the ways that are made of tensor ops. Every method is linear in what it is given, so it is its
/// own backward.
pub(super) struct Steering<'a> {
    guides: &'a Guides,
    /// `[N, T]`: 1 where a row has the step, 0 behind its end.
    active: Option<Tensor>,
    /// `[N, T]`: 0 where the state is zero when the step begins, else 1.
    carried: Option<Tensor>,
}

impl<'a> Steering<'a> {
    pub(super) fn new(
        guides: &'a Guides,
        (batch, time): (usize, usize),
        (dtype, device): (DType, &Device),
    ) -> Result<Self> {
        let tensor = |of: &dyn Fn(usize, usize) -> bool| -> Result<Tensor> {
            let ones = (0..batch * time).map(|i| if of(i / time, i % time) { 1f32 } else { 0.0 });
            let ones = Tensor::from_vec(ones.collect(), (batch, time), &Device::Cpu)?;
            Ok(ones.to_dtype(dtype)?.to_device(device)?)
        };
        let active = guides.lengths.as_ref().map(|lengths| tensor(&|n, t| t < lengths[n])).transpose()?;
        let carried = guides.fresh.as_ref().map(|fresh| tensor(&|n, t| !fresh[n * time + t])).transpose()?;
        Ok(Self { guides, active, carried })
    }

    /// The state that step `t` starts with, of the one before it.
    pub(super) fn enter<S: State>(&self, t: usize, state: &S) -> Result<S> {
        match &self.carried {
            Some(carried) => {
                let carried = carried.narrow(1, t, 1)?;
                state.try_map(&mut |part| Ok(part.broadcast_mul(&carried)?))
            }
            None => Ok(state.clone()),
        }
    }

    /// What the recurrent product takes.
    pub(super) fn feed(&self, h: &Tensor) -> Result<Tensor> {
        match &self.guides.mask {
            Some(mask) => Ok((h * mask)?),
            None => Ok(h.clone()),
        }
    }

    /// The shares of the state after step `t` that are kept of the one it started with, and that are new.
    fn shares(&self, t: usize, part: usize) -> Result<Option<(Tensor, Tensor)>> {
        let active = self.active.as_ref().map(|active| active.narrow(1, t, 1)).transpose()?;
        let keep = self.guides.keep.get(part);
        let keep = keep.map(|keep| {
            let t = if keep.dim(1)? == 1 { 0 } else { t };
            keep.narrow(1, t, 1)?.squeeze(1)
        });
        let new = match (keep.transpose()?, active) {
            (None, None) => return Ok(None),
            (Some(keep), None) => (1.0 - keep)?,
            (None, Some(active)) => active,
            (Some(keep), Some(active)) => (1.0 - keep)?.broadcast_mul(&active)?,
        };
        Ok(Some(((1.0 - &new)?, new)))
    }

    /// The state after step `t`, of the one it started with and what the cell made of it.
    pub(super) fn leave<S: State>(&self, t: usize, start: &S, next: &S) -> Result<S> {
        let parts = start.parts().into_iter().zip(next.parts()).enumerate();
        let parts = parts.map(|(part, (start, next))| match self.shares(t, part)? {
            Some((keep, new)) => Ok((start.broadcast_mul(&keep)? + next.broadcast_mul(&new)?)?),
            None => Ok(next.clone()),
        });
        with_parts(next, parts.collect::<Result<Vec<_>>>()?)
    }

    /// The gradients of what [`Self::leave`] takes: of what the cell made, and of the state that it started with, if that
    /// has any.
    pub(super) fn leave_backward<S: State>(&self, t: usize, dstate: &S) -> Result<(S, Option<S>)> {
        if self.active.is_none() && self.guides.keep.is_empty() {
            return Ok((dstate.clone(), None));
        }
        let (mut made, mut kept) = (Vec::new(), Vec::new());
        for (part, dpart) in dstate.parts().into_iter().enumerate() {
            match self.shares(t, part)? {
                Some((keep, new)) => {
                    made.push(dpart.broadcast_mul(&new)?);
                    kept.push(dpart.broadcast_mul(&keep)?);
                }
                None => {
                    made.push(dpart.clone());
                    kept.push(dpart.zeros_like()?);
                }
            }
        }
        Ok((with_parts(dstate, made)?, Some(with_parts(dstate, kept)?)))
    }

    /// What is given out at step `t`, of the hidden state after it.
    pub(super) fn output(&self, t: usize, h: &Tensor) -> Result<Tensor> {
        match &self.active {
            Some(active) => Ok(h.broadcast_mul(&active.narrow(1, t, 1)?)?),
            None => Ok(h.clone()),
        }
    }
}
