//! Which columns of a matrix a piece of work has, and how they are cut into registers and panels.

use crate::kernels::simd::Register;
use std::ops::Range;

/// Columns side by side, and as many again at even distances.
#[derive(Debug, Clone)]
pub(in crate::kernels) struct Columns {
    first: Range<usize>,
    pieces: usize,
    distance: usize,
}

impl From<Range<usize>> for Columns {
    #[inline(always)]
    fn from(first: Range<usize>) -> Self {
        Self { first, pieces: 1, distance: 0 }
    }
}

impl Columns {
    /// Those of the gate sums that some of `hidden` units have: a piece a gate, or a single one for who has all units,
    /// whose gates stand side by side.
    #[inline(always)]
    pub(in crate::kernels) fn of_units(units: Range<usize>, hidden: usize, gates: usize) -> Self {
        if units.len() == hidden {
            (0..gates * hidden).into()
        } else {
            Self { first: units, pieces: gates, distance: hidden }
        }
    }

    /// Numbers that so many lines of them take when packed.
    #[inline(always)]
    pub(in crate::kernels) fn packed_len<R: Register>(&self, depth: usize) -> usize {
        self.registers::<R>() * R::WIDTH * depth
    }

    /// Registers that hold a line; those at the end of a piece need not be full.
    #[inline(always)]
    fn registers<R: Register>(&self) -> usize {
        self.pieces * self.first.len().div_ceil(R::WIDTH)
    }

    /// Where the columns of each of some registers begin and end.
    #[inline(always)]
    pub(super) fn places<R: Register, const N: usize>(
        &self,
        registers: &Range<usize>,
    ) -> [(usize, usize); N] {
        let each = self.first.len().div_ceil(R::WIDTH).max(1);
        let (mut piece, mut inside) = (0, registers.start);
        if self.pieces > 1 {
            (piece, inside) = (registers.start / each, registers.start % each);
        }
        let mut places = [(0, 0); N];
        for place in places.iter_mut().take(registers.len()) {
            let start = self.first.start + inside * R::WIDTH;
            let end = self.first.end.min(start + R::WIDTH);
            *place = (start + piece * self.distance, end + piece * self.distance);
            inside += 1;
            if inside == each {
                (piece, inside) = (piece + 1, 0);
            }
        }
        places
    }
}

/// Who the panels are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernels) enum Packing {
    /// Tiles, which use what they read for several rows: a panel is as wide as they are, and of one piece.
    Tiles,
    /// A lone row, which uses each number once: a panel is as wide as its sums can be, whatever pieces it is of, and memory
    /// is read from front to back.
    Lone,
}

/// Registers of columns that a lone row has sums for: as many as the least able CPU has room for.
pub(super) const LONE: usize = 12;

impl Packing {
    /// The one for so many rows, where they stand line by line.
    #[inline(always)]
    pub(in crate::kernels) fn of(rows: usize) -> Self {
        if rows == 1 { Self::Lone } else { Self::Tiles }
    }

    /// The registers of each panel.
    #[inline(always)]
    pub(super) fn panels<R: Register>(
        self,
        columns: &Columns,
    ) -> impl DoubleEndedIterator<Item = Range<usize>> + use<R> {
        let all = columns.registers::<R>();
        let each = all / columns.pieces;
        let of_piece = each.div_ceil(R::PANEL).max(1);
        let count = match self {
            Self::Tiles => columns.pieces * each.div_ceil(R::PANEL),
            Self::Lone => all.div_ceil(LONE),
        };
        // Even ones: a few sums would wait for each other.
        (0..count).map(move |i| match self {
            Self::Tiles => {
                let (piece, inside) = (i / of_piece * each, i % of_piece);
                piece + each * inside / of_piece..piece + each * (inside + 1) / of_piece
            }
            Self::Lone => all * i / count..all * (i + 1) / count,
        })
    }
}
