//! What steers a window between a cell's steps; [`crate::Plan`] and [`crate::Regularisers`] have the equations.

use crate::Result;
use crate::cell::{State, with_parts};
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
/// own backward. What a row does not have is not multiplied by zero but left out: it may be no number.
pub(super) struct Steering<'a> {
    guides: &'a Guides,
    /// Rows that have the step, where some do not.
    active: Option<Chosen>,
    /// Rows that do not begin anew with the step, where some do.
    carried: Option<Chosen>,
    /// Of each part of the state what is new where the same is kept at all steps, `[1, size]`.
    new: Vec<Option<Tensor>>,
    zero: Tensor,
}

/// Rows at each step.
struct Chosen {
    /// `[N, T]`, 1 or 0.
    rows: Tensor,
    /// Whether all rows are chosen, `[T]`.
    all: Vec<bool>,
}

impl Chosen {
    fn new(
        (batch, time): (usize, usize),
        device: &Device,
        chosen: impl Fn(usize, usize) -> bool,
    ) -> Result<Self> {
        let rows = (0..batch * time).map(|i| u8::from(chosen(i / time, i % time))).collect();
        let rows = Tensor::from_vec::<_, u8>(rows, (batch, time), device)?;
        Ok(Self { rows, all: (0..time).map(|t| (0..batch).all(|n| chosen(n, t))).collect() })
    }

    /// Those of step `t` in one tensor, the others in another. Differentiable: no gradient of a row passes to the
    /// tensor that it is not taken from.
    fn select(&self, t: usize, here: &Tensor, others: &Tensor) -> Result<Tensor> {
        if self.all[t] {
            return Ok(here.clone());
        }
        let rows = self.rows.narrow(1, t, 1)?.broadcast_as(here.shape())?;
        Ok(rows.where_cond(here, &others.broadcast_as(here.shape())?)?)
    }
}

impl<'a> Steering<'a> {
    pub(super) fn new(
        guides: &'a Guides,
        (batch, time): (usize, usize),
        (dtype, device): (DType, &Device),
    ) -> Result<Self> {
        let chosen = |of: &dyn Fn(usize, usize) -> bool| Chosen::new((batch, time), device, of);
        let active = guides.lengths.as_ref().map(|lengths| chosen(&|n, t| t < lengths[n])).transpose()?;
        let carried = guides.fresh.as_ref().map(|fresh| chosen(&|n, t| !fresh[n * time + t])).transpose()?;
        let new = guides.keep.iter().map(|keep| match keep.dim(1)? {
            1 => Ok(Some((1.0 - keep.narrow(1, 0, 1)?.squeeze(1)?)?)),
            _ => Ok(None),
        });
        let new = new.collect::<Result<_>>()?;
        Ok(Self { guides, active, carried, new, zero: Tensor::zeros((1, 1), dtype, device)? })
    }

    /// The state that step `t` starts with, of the one before it.
    pub(super) fn enter<S: State>(&self, t: usize, state: &S) -> Result<S> {
        match &self.carried {
            Some(carried) => state.try_map(&mut |part| carried.select(t, part, &self.zero)),
            None => Ok(state.clone()),
        }
    }

    /// What the cell takes of that: zeros in rows that do not have the step, whose state may be no number. There is no
    /// gradient in these rows.
    pub(super) fn taken<S: State>(&self, t: usize, start: &S) -> Result<S> {
        match &self.active {
            Some(active) => start.try_map(&mut |part| active.select(t, part, &self.zero)),
            None => Ok(start.clone()),
        }
    }

    /// What the recurrent product takes.
    pub(super) fn feed(&self, h: &Tensor) -> Result<Tensor> {
        match &self.guides.mask {
            Some(mask) => Ok((h * mask)?),
            None => Ok(h.clone()),
        }
    }

    /// In a row that has step `t`: the shares of a part of the state that are kept of the one it started with, and that
    /// are new; none where all of it is.
    fn shares(&self, t: usize, part: usize) -> Result<Option<(Tensor, Tensor)>> {
        let Some(keep) = self.guides.keep.get(part) else { return Ok(None) };
        if let Some(new) = &self.new[part] {
            return Ok(Some((keep.squeeze(1)?, new.clone())));
        }
        let keep = keep.narrow(1, t, 1)?.squeeze(1)?;
        let new = (1.0 - &keep)?;
        Ok(Some((keep, new)))
    }

    /// The state after step `t`, of the one it started with and what the cell made of it.
    pub(super) fn leave<S: State>(&self, t: usize, start: &S, next: &S) -> Result<S> {
        let parts = start.parts().into_iter().zip(next.parts()).enumerate();
        let parts = parts.map(|(part, (start, next))| {
            let left = match self.shares(t, part)? {
                Some((keep, new)) => (start.broadcast_mul(&keep)? + next.broadcast_mul(&new)?)?,
                None => next.clone(),
            };
            match &self.active {
                Some(active) => active.select(t, &left, start),
                None => Ok(left),
            }
        });
        with_parts(next, parts.collect::<Result<Vec<_>>>()?)
    }

    /// The gradients of what [`Self::leave`] takes: of what the cell made, and of the state that it started with, if that
    /// has any.
    pub(super) fn leave_backward<S: State>(&self, t: usize, dstate: &S) -> Result<(S, Option<S>)> {
        if self.active.as_ref().is_none_or(|active| active.all[t]) && self.guides.keep.is_empty() {
            return Ok((dstate.clone(), None));
        }
        let (mut made, mut kept) = (Vec::new(), Vec::new());
        for (part, dpart) in dstate.parts().into_iter().enumerate() {
            let (dmade, dkept) = match self.shares(t, part)? {
                Some((keep, new)) => (dpart.broadcast_mul(&new)?, dpart.broadcast_mul(&keep)?),
                None => (dpart.clone(), self.zero.broadcast_as(dpart.shape())?),
            };
            match &self.active {
                Some(active) => {
                    made.push(active.select(t, &dmade, &self.zero)?);
                    kept.push(active.select(t, &dkept, dpart)?);
                }
                None => {
                    made.push(dmade);
                    kept.push(dkept);
                }
            }
        }
        Ok((with_parts(dstate, made)?, Some(with_parts(dstate, kept)?)))
    }

    /// What is given out at step `t`, of the hidden state after it.
    pub(super) fn output(&self, t: usize, h: &Tensor) -> Result<Tensor> {
        match &self.active {
            Some(active) => active.select(t, h, &self.zero),
            None => Ok(h.clone()),
        }
    }
}
