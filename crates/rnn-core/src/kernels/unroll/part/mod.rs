//! One member's part of a window, through all of its steps: the time loop of the fused way, there and back.
//!
//! A part is some rows of the batch with all units, or all rows with some units. The members with parts of the first
//! kind never meet. Those of the second read each other's hidden states, so they meet at each step. Either way an
//! element of a product is the same sum, and has the same bits.
//!
//! [`Forward`] and [`Backward`] are the loops; a cell's stages are called from them. What steers a window between its steps, and what
//! projects its hidden states, stands in [`guided`]; what normalises rows inside of a step, in [`norm`]. Each runs only in windows
//! that need it.

mod backward;
mod forward;
mod guided;
mod norm;

pub(in crate::kernels) use backward::Backward;
pub(super) use backward::{BackwardWindow, stage_back};
pub(in crate::kernels) use forward::Forward;
pub(super) use forward::{ForwardWindow, stage};
pub use guided::Course;
pub(super) use guided::{GuidedBackward, GuidedForward};
pub(super) use norm::Rows;
pub(in crate::kernels) use norm::{Norm, NormBack};

use super::cpu::Dims;
use crate::kernels::Real;
use crate::kernels::dispatch::{Cpu, Instructions, Task, run};
use crate::kernels::product::{Block, Columns, Left, Lines, Mat, Packing, Store, depths, grown, pack};
use crate::kernels::share::Shared;
use crate::kernels::simd::Register;
use crate::kernels::team::Member;
use std::cell::Cell;
use std::ops::Range;

/// How a window is cut into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Each member has rows of the batch.
    Rows,
    /// Each member has units.
    Units,
}

/// Which of a cell's stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The first one of two.
    First,
    /// The one that makes the hidden state.
    Last,
}

/// A member's part.
#[derive(Debug, Clone)]
pub struct Part {
    /// Of the batch.
    pub(super) rows: Range<usize>,
    /// Of H.
    pub(super) units: Range<usize>,
    /// Of P: the same as the units where nothing is projected.
    pub(super) outputs: Range<usize>,
}

impl Cut {
    /// A member's part.
    #[inline(always)]
    fn part<I: Instructions, T: Real>(self, member: &Member<'_>, dims: &Dims) -> Part {
        let Dims { batch, hidden, output, .. } = *dims;
        let share = |units: usize| member.share(units, I::Register::<T>::WIDTH);
        match self {
            Self::Rows => Part { rows: member.share(batch, 1), units: 0..hidden, outputs: 0..output },
            Self::Units => Part { rows: 0..batch, units: share(hidden), outputs: share(output) },
        }
    }

    /// The rows that a member takes where whole ones are wanted, between two meetings.
    #[inline(always)]
    fn rows(self, member: &Member<'_>, part: &Part) -> Range<usize> {
        match self {
            Self::Rows => part.rows.clone(),
            Self::Units => member.share(part.rows.len(), 1),
        }
    }

    /// Where the members of a step wait for what each other wrote.
    #[inline(always)]
    fn meet(self, member: &Member<'_>) {
        if self == Self::Units {
            member.meet();
        }
    }
}

/// A matrix's columns, packed once for all steps.
struct Packed<'a, T> {
    panels: &'a [T],
    columns: Columns,
    depth: usize,
    packing: Packing,
    /// Whether the next step reads from the last panel to the first: what a step read last is still in a core's own cache.
    backwards: Cell<bool>,
}

impl<'a, T: Real> Packed<'a, T> {
    /// Some columns of a matrix, for so many rows.
    #[inline(always)]
    fn new<I: Instructions>(
        cpu: Cpu,
        room: &'a mut Vec<T>,
        matrix: Mat<'_, T>,
        columns: Columns,
        rows: usize,
    ) -> Self {
        let (depth, _) = matrix.shape();
        let panels = grown(room, columns.packed_len::<I::Register<T>>(depth));
        // Not inlined: one copy of packing serves all cells.
        run(cpu, PackAll { to: &mut *panels, matrix, rows, columns: &columns });
        Self { panels, columns, depth, packing: Packing::of(rows), backwards: Cell::new(false) }
    }

    /// Rows times these columns into `to`.
    fn times(
        &self,
        cpu: Cpu,
        (left, rows): (Lines<'_, T>, Range<usize>),
        to: Rows<'_, T>,
        store: Store<'_, T>,
    ) {
        let Self { panels: packed, depth, packing, ref columns, ref backwards } = *self;
        let (out, stride) = (to.numbers.from(to.start), to.stride);
        let backwards = backwards.replace(!backwards.get());
        let product =
            StepProduct { cpu, left, rows, depth, packed, packing, out, stride, columns, backwards, store };
        run(cpu, product);
    }
}

/// A step's rows times weights that [`PackAll`] packed.
pub(in crate::kernels) struct StepProduct<'a, T> {
    pub(super) cpu: Cpu,
    pub(super) left: Lines<'a, T>,
    pub(super) rows: Range<usize>,
    pub(super) depth: usize,
    pub(super) packed: &'a [T],
    /// As they were packed.
    pub(super) packing: Packing,
    /// Nobody else uses these rows and columns of it meanwhile.
    pub(super) out: Shared<'a, T>,
    pub(super) stride: usize,
    pub(super) columns: &'a Columns,
    /// As in a block.
    pub(super) backwards: bool,
    pub(super) store: Store<'a, T>,
}

impl<T: Real> Task for StepProduct<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { cpu, store, left, rows, depth, packed, packing, out, stride, columns, backwards } = self;
        let mut rest = packed;
        for (i, piece) in depths(depth).enumerate() {
            let (panels, behind) = rest.split_at(columns.packed_len::<I::Register<T>>(piece.len()));
            rest = behind;
            let block = Block {
                left: Left::Lines(left.from(piece.start)),
                rows: rows.clone(),
                depth: piece.len(),
                panels,
                packing,
                out,
                stride,
                columns: columns.clone(),
                backwards,
                store: store.of_piece(i),
            };
            // Not inlined: one copy of the product serves all cells.
            run(cpu, block);
        }
    }
}

/// Packs some columns of a matrix for so many rows, piece by piece of its depth; `to` has
/// [`Columns::packed_len`].
pub(super) struct PackAll<'a, T> {
    pub(super) to: &'a mut [T],
    pub(super) matrix: Mat<'a, T>,
    pub(super) rows: usize,
    pub(super) columns: &'a Columns,
}

impl<T: Real> Task for PackAll<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, instructions: I) {
        let Self { to: mut rest, matrix, rows, columns } = self;
        let (depth, _) = matrix.shape();
        for piece in depths(depth) {
            let (panels, behind) = rest.split_at_mut(columns.packed_len::<I::Register<T>>(piece.len()));
            rest = behind;
            pack::<I, T>(instructions, panels, matrix, piece, (columns, Packing::of(rows)));
        }
    }
}

/// As [`Shared::write`], or nothing of a buffer that is empty.
///
/// # Safety
/// That of [`Shared::write`].
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn write_some<'a, T>(buffer: &Shared<'a, T>, range: Range<usize>) -> &'a mut [T] {
    // SAFETY: as the caller promises.
    if buffer.is_empty() { &mut [] } else { unsafe { buffer.write(range) } }
}
