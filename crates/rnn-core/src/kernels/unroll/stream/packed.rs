//! A matrix that is packed once, in a part for each member of the team, and rows times it.

use crate::kernels::Real;
use crate::kernels::dispatch::{Cpu, Instructions, Task, run};
use crate::kernels::product::{Columns, Into, Lines, Mat, Packing, grown, grown_before};
use crate::kernels::share::Shared;
use crate::kernels::simd::Register;
use crate::kernels::team::{self, Member};
use crate::kernels::unroll::part::{StepProduct, pack_all};

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
            run(cpu, Pack { part: &mut part[0], matrix, rows, index, count });
        });
        Self { parts, depth: matrix.shape().0 }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum()
    }
}

struct Pack<'a, T> {
    part: &'a mut Part<T>,
    matrix: Mat<'a, T>,
    rows: usize,
    index: usize,
    count: usize,
}

impl<T: Real> Task for Pack<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, instructions: I) {
        let Self { part, matrix, rows, index, count } = self;
        let (depth, columns) = matrix.shape();
        let share = |member: Member<'_>| member.share(columns, I::Register::<T>::WIDTH);
        part.columns = team::as_member(index, count, share).into();
        part.len = part.columns.packed_len::<I::Register<T>>(depth);
        pack_all::<I, T>(instructions, grown(&mut part.panels, part.len), matrix, rows, &part.columns);
    }
}

/// Rows times a packed matrix.
pub(super) struct Product<'a, T> {
    pub(super) cpu: Cpu,
    pub(super) packed: &'a Packed<T>,
    pub(super) left: Lines<'a, T>,
    pub(super) rows: usize,
    pub(super) out: Shared<'a, T>,
    pub(super) stride: usize,
    pub(super) into: Into<'a, T>,
    /// As in a block.
    pub(super) backwards: bool,
}

impl<T: Real> Task for (&Product<'_, T>, Member<'_>) {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let (product, member) = self;
        for part in member.share(product.packed.parts.len(), 1) {
            let part = &product.packed.parts[part];
            let step = StepProduct {
                left: product.left,
                rows: 0..product.rows,
                depth: product.packed.depth,
                packed: grown_before(&part.panels, part.len),
                packing: Packing::of(product.rows),
                out: product.out,
                stride: product.stride,
                columns: &part.columns,
                backwards: product.backwards,
            };
            step.run::<I>(product.cpu, product.into);
        }
    }
}
