//! Packing: what a tile reads stands in one line of memory.
//!
//! Columns of `b` become panels of some registers each, stored k by k; how many is a [`Packing`]. The last panel is as
//! narrow as it can be, and its missing columns are zeros. Where `a` stands column by column, its rows become slivers, k
//! by k too.

use super::Mat;
use crate::kernels::Real;
use crate::kernels::dispatch::Instructions;
use crate::kernels::simd::Register;
use std::ops::Range;

/// Who the panels are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) enum Packing {
    /// Tiles, which use what they read for several rows: a panel is as wide as they are.
    Tiles,
    /// A lone row, which uses each number once: a panel is as wide as its sums can be, and memory is read from front to
    /// back.
    Lone,
}

impl Packing {
    /// The one for so many rows, where they stand line by line.
    #[inline(always)]
    pub(in crate::kernels) fn of(rows: usize) -> Self {
        if rows == 1 { Self::Lone } else { Self::Tiles }
    }

    /// The columns of each panel.
    #[inline(always)]
    pub(super) fn panels<R: Register>(
        self,
        columns: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = Range<usize>> {
        let registers = columns.len().div_ceil(R::WIDTH);
        let count = match self {
            Self::Tiles => registers.div_ceil(R::PANEL),
            Self::Lone => registers.div_ceil(LONE),
        };
        let cut = move |i: usize| match self {
            Self::Tiles => i * R::PANEL,
            // Even ones: a few sums would wait for each other.
            Self::Lone => registers * i / count,
        };
        let end = columns.end;
        let column = move |i: usize| (columns.start + cut(i) * R::WIDTH).min(end);
        (0..count).map(move |i| column(i)..column(i + 1))
    }
}

/// Registers of columns that a lone row has sums for: as many as the least able CPU has room for.
pub(super) const LONE: usize = 12;

/// Numbers that `columns` columns take when packed.
#[inline(always)]
pub(in crate::kernels) fn packed_len<I: Instructions, T: Real>(depth: usize, columns: usize) -> usize {
    columns.next_multiple_of(I::Register::<T>::WIDTH) * depth
}

/// Packs a piece of `b`; `to` has [`packed_len`].
#[inline(always)]
pub(in crate::kernels) fn pack<I: Instructions, T: Real>(
    instructions: I,
    to: &mut [T],
    b: Mat<'_, T>,
    depth: Range<usize>,
    (columns, packing): (Range<usize>, Packing),
) {
    let register = I::Register::<T>::WIDTH;
    let mut rest = to;
    for columns in packing.panels::<I::Register<T>>(columns) {
        let width = columns.len().next_multiple_of(register);
        let (lines, behind) = rest.split_at_mut(width * depth.len());
        rest = behind;
        if b.turned {
            turn::<I, T>(instructions, lines, b, depth.clone(), columns);
        } else {
            for (line, k) in lines.chunks_exact_mut(width).zip(depth.clone()) {
                b.prefetch(k, columns.end..columns.end + width);
                let row = &b.line(k)[columns.clone()];
                for (line, row) in line.chunks_exact_mut(register).zip(row.chunks(register)) {
                    I::Register::<T>::load_some(instructions, row).store(line);
                }
            }
        }
    }
}

/// `lines [depth, width]` out of columns that stand one after the other, squares of a register's width at a time.
#[inline(always)]
fn turn<I: Instructions, T: Real>(
    instructions: I,
    lines: &mut [T],
    b: Mat<'_, T>,
    depth: Range<usize>,
    columns: Range<usize>,
) {
    let side = I::Register::<T>::WIDTH;
    let width = columns.len().next_multiple_of(side);
    let zeros = [T::ZERO; MAX_SIDE];
    let mut square: [&[T]; MAX_SIDE] = [&[]; MAX_SIDE];
    for from in (0..width).step_by(side) {
        // Columns that are missing are zeros.
        let mut of_register: [&[T]; MAX_SIDE] = [&[]; MAX_SIDE];
        for (slot, j) in of_register.iter_mut().zip((columns.start + from..columns.end).take(side)) {
            *slot = &b.line(j)[depth.clone()];
        }
        if depth.len() < side {
            for (k, line) in lines.chunks_exact_mut(width).enumerate() {
                for (number, column) in line[from..from + side].iter_mut().zip(of_register) {
                    *number = column.get(k).copied().unwrap_or(T::ZERO);
                }
            }
            continue;
        }
        for k in (0..depth.len()).step_by(side) {
            // The last square goes over some lines again where the depth does not come out even.
            let k = k.min(depth.len() - side);
            for (j, (rows, column)) in square[..side].iter_mut().zip(of_register).enumerate() {
                *rows = if column.is_empty() { &zeros } else { &column[k..] };
                let ahead = depth.start + k;
                b.prefetch(columns.start + from + side + j, ahead..ahead + 1);
            }
            I::Register::<T>::turn(instructions, &square[..side], &mut lines[k * width + from..], width);
        }
    }
}

/// Lanes of the widest register.
const MAX_SIDE: usize = 16;

/// Packs rows of `a`, which stands column by column, into slivers as high as a tile, and adds them to `sums`, which has
/// one number a row or none.
#[inline(always)]
pub(super) fn pack_slivers<I: Instructions, T: Real>(
    to: &mut [T],
    a: Mat<'_, T>,
    depth: Range<usize>,
    rows: Range<usize>,
    sums: &mut [T],
) {
    match I::Register::<T>::ROWS {
        8 => stand::<T, 8>(to, a, depth, rows, sums),
        6 => stand::<T, 6>(to, a, depth, rows, sums),
        _ => stand::<T, 4>(to, a, depth, rows, sums),
    }
}

/// For slivers of one height: each line of `a` is read once, and what it has for each sliver goes there.
#[inline(always)]
fn stand<T: Real, const HEIGHT: usize>(
    to: &mut [T],
    a: Mat<'_, T>,
    depth: Range<usize>,
    rows: Range<usize>,
    sums: &mut [T],
) {
    let (pieces, _) = to.as_chunks_mut::<HEIGHT>();
    let from_sliver_to_sliver = depth.len();
    for (i, k) in depth.enumerate() {
        a.prefetch(k, rows.end..rows.end + rows.len());
        let line = &a.line(k)[rows.clone()];
        for (sum, &number) in sums.iter_mut().zip(line) {
            *sum += number;
        }
        let (full, rest) = line.as_chunks::<HEIGHT>();
        let mut place = i;
        for piece in full {
            pieces[place] = *piece;
            place += from_sliver_to_sliver;
        }
        if !rest.is_empty() {
            pieces[place] = [T::ZERO; HEIGHT];
            pieces[place][..rest.len()].copy_from_slice(rest);
        }
    }
}
