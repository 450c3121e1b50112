//! Packing: what a tile reads stands in one line of memory.
//!
//! Columns of `b` become panels of some registers each, stored k by k; a [`Packing`] says how many. What a register has no
//! columns for are zeros. Where `a` stands column by column, its rows become slivers, k by k too.

use super::Mat;
use super::columns::{Columns, LONE, Packing};
use crate::kernels::Real;
use crate::kernels::dispatch::Instructions;
use crate::kernels::simd::Register;
use std::ops::Range;

/// Packs a piece of `b`; `to` has [`Columns::packed_len`].
#[inline(always)]
pub(in crate::kernels) fn pack<I: Instructions, T: Real>(
    instructions: I,
    to: &mut [T],
    b: Mat<'_, T>,
    depth: Range<usize>,
    (columns, packing): (&Columns, Packing),
) {
    let register = I::Register::<T>::WIDTH;
    let mut rest = to;
    for registers in packing.panels::<I::Register<T>>(columns) {
        let width = registers.len() * register;
        let (lines, behind) = rest.split_at_mut(width * depth.len());
        rest = behind;
        let places = columns.places::<I::Register<T>, LONE>(&registers);
        let places = &places[..registers.len()];
        if b.turned {
            turn::<I, T>(instructions, lines, b, depth.clone(), places);
        } else {
            let end = places.last().map_or(0, |&(_, end)| end);
            for (line, k) in lines.chunks_exact_mut(width).zip(depth.clone()) {
                b.prefetch(k, end..end + width);
                let row = b.line(k);
                for (line, &(start, end)) in line.chunks_exact_mut(register).zip(places) {
                    I::Register::<T>::load_some(instructions, &row[start..end]).store(line);
                }
            }
        }
    }
}

/// `lines` of registers that begin and end at these columns, which stand one after the other in memory: squares of a
/// register's width at a time.
#[inline(always)]
fn turn<I: Instructions, T: Real>(
    instructions: I,
    lines: &mut [T],
    b: Mat<'_, T>,
    depth: Range<usize>,
    places: &[(usize, usize)],
) {
    let side = I::Register::<T>::WIDTH;
    let width = places.len() * side;
    let zeros = [T::ZERO; MAX_SIDE];
    let mut square: [&[T]; MAX_SIDE] = [&[]; MAX_SIDE];
    for (from, &(start, end)) in (0..width).step_by(side).zip(places) {
        // Columns that are missing are zeros.
        let mut of_register: [&[T]; MAX_SIDE] = [&[]; MAX_SIDE];
        for (slot, j) in of_register.iter_mut().zip(start..end) {
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
                b.prefetch(start + side + j, ahead..ahead + 1);
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

/// Lines between the one that becomes pieces of slivers and the one that is fetched.
const AHEAD: usize = 8;

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
        // What is far apart in memory no CPU fetches by itself; what is fetched long before is not there any more.
        a.prefetch(k + AHEAD, rows.clone());
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
