//! A matrix that is packed once, in a part for each member of the team, and rows times it.

use crate::kernels::Real;
use crate::kernels::dispatch::{Cpu, Instructions, Task, run};
use crate::kernels::product::{Columns, Lines, Mat, Packing, Store, grown, grown_before};
use crate::kernels::simd::Register;
use crate::kernels::team::{self, Member};
use crate::kernels::unroll::part::{PackAll, Rows, StepProduct};

/// A matrix's transpose, packed in parts, one for each member that there may be.
pub(super) struct Packed<T> {
    pub(super) parts: Vec<Part<T>>,
    depth: usize,
}

/// Some columns of it.
pub(super) struct Part<T> {
    columns: Columns,
    /// Kept by [`grown`].
    panels: Vec<T>,
    len: usize,
}

impl<T: Real> Packed<T> {
    /// A matrix for so many `rows`, its columns in `count` parts as even as registers allow.
    pub(super) fn new(cpu: Cpu, (count, rows): (usize, usize), matrix: Mat<'_, T>) -> Self {
        let mut parts = Vec::new();
        parts.resize_with(count, || Part { columns: (0..0).into(), panels: Vec::new(), len: 0 });
        team::pieces(&mut parts, 1, &|index, part| {
            (T::compiled().pack)(cpu, Pack { cpu, part: &mut part[0], matrix, rows, index, count });
        });
        Self { parts, depth: matrix.shape().0 }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum()
    }
}

pub(in crate::kernels) struct Pack<'a, T> {
    cpu: Cpu,
    part: &'a mut Part<T>,
    matrix: Mat<'a, T>,
    rows: usize,
    index: usize,
    count: usize,
}

impl<T: Real> Task for Pack<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { cpu, part, matrix, rows, index, count } = self;
        let (depth, columns) = matrix.shape();
        let share = |member: Member<'_>| member.share(columns, I::Register::<T>::WIDTH);
        part.columns = team::as_member(index, count, share).into();
        part.len = part.columns.packed_len::<I::Register<T>>(depth);
        let to = grown(&mut part.panels, part.len);
        run(cpu, PackAll { to, matrix, rows, columns: &part.columns });
    }
}

/// Rows times a packed matrix.
pub(super) struct Product<'a, T> {
    pub(super) cpu: Cpu,
    pub(super) packed: &'a Packed<T>,
    pub(super) left: Lines<'a, T>,
    pub(super) rows: usize,
    pub(super) to: Rows<'a, T>,
    pub(super) store: Store<'a, T>,
    /// As in a block.
    pub(super) backwards: bool,
}

impl<'a, T: Real> Product<'a, T> {
    /// From the first column to the last.
    pub(super) fn of(
        cpu: Cpu,
        rows: usize,
        packed: &'a Packed<T>,
        (left, to, store): (Lines<'a, T>, Rows<'a, T>, Store<'a, T>),
    ) -> Self {
        Self { cpu, packed, left, rows, to, store, backwards: false }
    }

    /// A member's columns of it.
    pub(super) fn share(&self, member: Member<'_>) {
        for part in member.share(self.packed.parts.len(), 1) {
            let part = &self.packed.parts[part];
            let step = StepProduct {
                cpu: self.cpu,
                store: self.store,
                left: self.left,
                rows: 0..self.rows,
                depth: self.packed.depth,
                packed: grown_before(&part.panels, part.len),
                packing: Packing::of(self.rows),
                out: self.to.numbers.from(self.to.start),
                stride: self.to.stride,
                columns: &part.columns,
                backwards: self.backwards,
            };
            (T::compiled().step_product)(self.cpu, step);
        }
    }
}
