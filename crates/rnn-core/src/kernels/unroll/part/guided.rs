//! What acts between a cell's steps, for some rows and outputs: where rows end and sequences begin, masks, zoneout.
//!
//! A window that is steered keeps its hidden state apart from its outputs, and what is fed to the recurrent product
//! apart from both. [`crate::Plan`] and [`crate::Regularisers`] have the equations.

use super::super::cpu::Dims;
use crate::convention::Direction;
use crate::kernels::Real;
use crate::kernels::dispatch::{Instructions, Task};
use crate::kernels::share::Shared;
use std::ops::Range;

/// What steers a window; by default nothing does, and steps go from the first to the last.
#[derive(Debug, Clone, Copy)]
pub struct Course<'a, T> {
    /// The order of the steps.
    pub direction: Direction,
    /// Steps of each row, `[N]`, from step 0 on; none where all have T.
    pub lengths: Option<&'a [usize]>,
    /// `[N, T]`: whether the state is zero when this step begins.
    pub fresh: Option<&'a [bool]>,
    /// Factors of what is fed to the recurrent product, `[N, P]` or empty.
    pub mask: &'a [T],
    /// What h keeps at each step of the state before, `[N, T, P]`, the same everywhere `[P]`, or empty.
    pub keep_h: &'a [T],
    /// The same of c, with H.
    pub keep_c: &'a [T],
}

impl<T> Default for Course<'_, T> {
    fn default() -> Self {
        let direction = Direction::default();
        Self { direction, lengths: None, fresh: None, mask: &[], keep_h: &[], keep_c: &[] }
    }
}

impl<'a, T> Course<'a, T> {
    /// Whether there is nothing but the order of steps.
    pub(in super::super) fn is_plain(&self) -> bool {
        let numbers = [self.mask, self.keep_h, self.keep_c];
        self.lengths.is_none() && self.fresh.is_none() && numbers.iter().all(|numbers| numbers.is_empty())
    }

    /// # Panics
    /// Where something does not have the size that `dims` gives it.
    pub(in super::super) fn check(&self, dims: &Dims) {
        let &Dims { batch, time, hidden, output, .. } = dims;
        if let Some(lengths) = self.lengths {
            assert!(lengths.len() == batch && lengths.iter().all(|&l| l <= time), "lengths of {dims:?}");
        }
        assert!(self.fresh.is_none_or(|fresh| fresh.len() == batch * time), "fresh steps of {dims:?}");
        assert!([0, batch * output].contains(&self.mask.len()), "the mask of {dims:?}");
        for (keep, size) in [(self.keep_h, output), (self.keep_c, hidden)] {
            assert!([0, size, batch * time * size].contains(&keep.len()), "what {dims:?} keeps");
        }
    }

    /// Whether row `n` has step `t`.
    #[inline(always)]
    pub(super) fn active(&self, n: usize, t: usize) -> bool {
        self.lengths.is_none_or(|lengths| t < lengths[n])
    }

    /// Whether row `n` begins anew at step `t`.
    #[inline(always)]
    pub(super) fn fresh(&self, i: usize) -> bool {
        self.fresh.is_some_and(|fresh| fresh[i])
    }

    /// The rows among these from the first to the last one that has step `t`.
    #[inline(always)]
    pub(super) fn busy(&self, rows: &Range<usize>, t: usize) -> Range<usize> {
        if self.lengths.is_none() {
            return rows.clone();
        }
        let first = rows.clone().find(|&n| self.active(n, t));
        let last = rows.clone().rev().find(|&n| self.active(n, t));
        first.zip(last).map_or(rows.start..rows.start, |(first, last)| first..last + 1)
    }
}

/// Some units of what is kept at a step: of the only row there is, or of the step's own.
#[inline(always)]
pub(super) fn keep_of<T>(keep: &[T], size: usize, step: usize, units: Range<usize>) -> &[T] {
    let row = if keep.len() == size { 0 } else { step * size };
    keep.get(row + units.start..row + units.end).unwrap_or_default()
}

/// What a steered window has beside a plain one, on its way there.
#[derive(Clone, Copy)]
pub(crate) struct GuidedForward<'a, T> {
    pub(in super::super) course: Course<'a, T>,
    /// In: the initial hidden state `[N, P]`; out: the last one.
    pub(in super::super) h: Shared<'a, T>,
    /// Out: what the recurrent product takes at each step, `[N, T, P]`.
    pub(in super::super) fed: Shared<'a, T>,
    /// Out: the hidden state that each step starts with, `[N, T, P]`; empty where it is what is fed.
    pub(in super::super) before: Shared<'a, T>,
}

/// The hidden states of some rows and outputs after a step, for who gives them out and for the next step.
pub(super) struct Settle<'a, T> {
    pub(super) dims: Dims,
    pub(super) guided: GuidedForward<'a, T>,
    /// In: what the cell made of the step; out: what is given out. `[N, T, P]`
    pub(super) hs: Shared<'a, T>,
    /// The step that ends; none before the first.
    pub(super) t: Option<usize>,
    /// The step that begins.
    pub(super) next: Option<usize>,
    pub(super) rows: Range<usize>,
    pub(super) outputs: Range<usize>,
}

impl<T: Real> Task for Settle<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { dims: Dims { time, output, .. }, guided, hs, t, next, rows, outputs } = self;
        let GuidedForward { course, h: state, fed, before } = guided;
        let of = |i: usize| i * output + outputs.start..i * output + outputs.end;
        for row in rows {
            // SAFETY: this member's row and outputs, each in a buffer of its own.
            #[allow(unsafe_code)]
            let h = unsafe { state.write(of(row)) };
            if let Some(t) = t {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                let out = unsafe { hs.write(of(row * time + t)) };
                if course.active(row, t) {
                    let keep = keep_of(course.keep_h, output, row * time + t, outputs.clone());
                    for ((out, h), &keep) in out.iter_mut().zip(&*h).zip(keep) {
                        *out = keep * *h + (T::ONE - keep) * *out;
                    }
                    h.copy_from_slice(out);
                } else {
                    out.fill(T::ZERO);
                }
            }
            let Some(next) = next else { continue };
            let step = row * time + next;
            if course.fresh(step) {
                h.fill(T::ZERO);
            }
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let fed = unsafe { fed.write(of(step)) };
            if !course.active(row, next) {
                // A state that no step of this row takes may be no number, and is not for a product with a gradient of zero.
                fed.fill(T::ZERO);
                continue;
            }
            fed.copy_from_slice(h);
            if !course.mask.is_empty() {
                for (fed, &mask) in fed.iter_mut().zip(&course.mask[of(row)]) {
                    *fed *= mask;
                }
            }
            if !before.is_empty() {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                unsafe { before.write(of(step)) }.copy_from_slice(h);
            }
        }
    }
}

/// What a steered or projected window has beside a plain one, on its way back.
#[derive(Clone, Copy)]
pub(crate) struct GuidedBackward<'a, T> {
    pub(in super::super) course: Course<'a, T>,
    /// Out: the gradients of what the cell, or its projection, made of each step: `[N, T, P]` where they are kept, else
    /// those of one step, `[N, P]`.
    pub(in super::super) made: Shared<'a, T>,
    pub(in super::super) made_of_all: bool,
    /// Those of what was projected at one step `[N, H]`; empty without a projection.
    pub(in super::super) hidden: Shared<'a, T>,
    /// Room for those of what was fed at one step, `[N, P]`; empty where nothing acts on it.
    pub(in super::super) fed: Shared<'a, T>,
    /// Of the forward: the hidden states that the steps start with, or empty where the cell does without; and what was fed,
    /// or empty where nothing steered. `[N, T, P]`
    pub(in super::super) before: &'a [T],
    pub(in super::super) was_fed: &'a [T],
}

impl<T> GuidedBackward<'_, T> {
    /// Where the gradients of a step's row stand in `made`.
    #[inline(always)]
    pub(super) fn made_row(&self, row: usize, t: usize, time: usize) -> usize {
        if self.made_of_all { row * time + t } else { row }
    }
}

/// From the gradients of the state after a step and of what was given out to those of what the cell made; `dh` becomes
/// what passes by it.
pub(super) struct Unsettle<'a, T> {
    pub(super) dims: Dims,
    pub(super) guided: GuidedBackward<'a, T>,
    pub(super) dhs: &'a [T],
    pub(super) dh: Shared<'a, T>,
    pub(super) t: usize,
    pub(super) rows: Range<usize>,
    pub(super) outputs: Range<usize>,
}

impl<T: Real> Task for Unsettle<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { dims: Dims { time, output, .. }, guided, dhs, dh, t, rows, outputs } = self;
        let of = |i: usize| i * output + outputs.start..i * output + outputs.end;
        for row in rows {
            let step = row * time + t;
            // SAFETY: this member's row and outputs, each in a buffer of its own.
            #[allow(unsafe_code)]
            let (dh, made) =
                unsafe { (dh.write(of(row)), guided.made.write(of(guided.made_row(row, t, time)))) };
            if !guided.course.active(row, t) {
                made.fill(T::ZERO);
                continue;
            }
            for ((made, dh), &dout) in made.iter_mut().zip(&*dh).zip(&dhs[of(step)]) {
                *made = *dh + dout;
            }
            let keep = keep_of(guided.course.keep_h, output, step, outputs.clone());
            if keep.is_empty() {
                dh.fill(T::ZERO);
            }
            for ((made, dh), &keep) in made.iter_mut().zip(dh).zip(keep) {
                *dh = keep * *made;
                *made = (T::ONE - keep) * *made;
            }
        }
    }
}

/// Adds the gradients of what was fed to those of the state that a step started with.
pub(super) struct Unfeed<'a, T> {
    pub(super) dims: Dims,
    pub(super) guided: GuidedBackward<'a, T>,
    pub(super) dh: Shared<'a, T>,
    pub(super) t: usize,
    pub(super) rows: Range<usize>,
    pub(super) outputs: Range<usize>,
}

impl<T: Real> Task for Unfeed<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { dims: Dims { time, output, .. }, guided: GuidedBackward { course, fed, .. }, .. } = self;
        let of = |i: usize| i * output + self.outputs.start..i * output + self.outputs.end;
        for row in self.rows.filter(|&row| course.active(row, self.t)) {
            // SAFETY: this member's row and outputs, each in a buffer of its own.
            #[allow(unsafe_code)]
            let (dh, fed) = unsafe { (self.dh.write(of(row)), fed.read(of(row))) };
            if course.fresh(row * time + self.t) {
                dh.fill(T::ZERO);
            } else if course.mask.is_empty() {
                for (dh, &fed) in dh.iter_mut().zip(fed) {
                    *dh += fed;
                }
            } else {
                for ((dh, &fed), &mask) in dh.iter_mut().zip(fed).zip(&course.mask[of(row)]) {
                    *dh += fed * mask;
                }
            }
        }
    }
}
