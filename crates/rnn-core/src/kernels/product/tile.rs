//! Rows of `a` times packed panels, a tile at a time: its sums stay in registers until they are complete.

use super::Store;
use super::columns::{Columns, LONE, Packing};
use crate::kernels::Real;
use crate::kernels::dispatch::{Instructions, Task};
use crate::kernels::share::Shared;
use crate::kernels::simd::Register;
use std::ops::Range;

/// Where the rows of `a` are read.
#[derive(Clone, Copy)]
pub(in crate::kernels) enum Left<'a, T> {
    /// As they stand: the terms of a row one beside the other.
    Lines(Lines<'a, T>),
    /// In slivers as high as a tile, packed; the first begins with the block's first row.
    Slivers(&'a [T]),
}

/// Rows in a buffer: row r begins at `start + r * stride`.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Lines<'a, T> {
    source: Source<'a, T>,
    start: usize,
    stride: usize,
}

#[derive(Clone, Copy)]
enum Source<'a, T> {
    Own(&'a [T]),
    Shared(Shared<'a, T>),
}

impl<'a, T: Copy> Lines<'a, T> {
    pub(in crate::kernels) fn new(numbers: &'a [T], start: usize, stride: usize) -> Self {
        Self { source: Source::Own(numbers), start, stride }
    }

    /// # Safety
    /// Nobody writes to the rows while they are read.
    #[allow(unsafe_code)]
    pub(in crate::kernels) unsafe fn shared(numbers: Shared<'a, T>, start: usize, stride: usize) -> Self {
        Self { source: Source::Shared(numbers), start, stride }
    }

    /// The same rows from number `offset` on.
    #[inline(always)]
    pub(in crate::kernels) fn from(self, offset: usize) -> Self {
        Self { start: self.start + offset, ..self }
    }

    /// The first `len` numbers of a row.
    #[inline(always)]
    pub(in crate::kernels) fn line(&self, row: usize, len: usize) -> &'a [T] {
        let start = self.start + row * self.stride;
        match self.source {
            Source::Own(numbers) => &numbers[start..start + len],
            // SAFETY: nobody writes there, as promised to `shared`.
            #[allow(unsafe_code)]
            Source::Shared(numbers) => unsafe { numbers.read(start..start + len) },
        }
    }
}

/// A block of a result: some rows times some columns that are packed.
pub(in crate::kernels) struct Block<'a, T> {
    pub(in crate::kernels) left: Left<'a, T>,
    /// Of `a` and of `out`.
    pub(in crate::kernels) rows: Range<usize>,
    pub(in crate::kernels) depth: usize,
    pub(in crate::kernels) panels: &'a [T],
    pub(in crate::kernels) packing: Packing,
    /// Nobody else uses the block's rows and columns of it meanwhile.
    pub(in crate::kernels) out: Shared<'a, T>,
    /// From one row of `out` to the next.
    pub(in crate::kernels) stride: usize,
    /// Of `out`.
    pub(in crate::kernels) columns: Columns,
    /// Whether the last panel is the first to be done.
    pub(in crate::kernels) backwards: bool,
    pub(in crate::kernels) store: Store<'a, T>,
}

impl<T: Real> Task for Block<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, instructions: I) {
        let mut panels = self.packing.panels::<I::Register<T>>(&self.columns);
        while let Some(registers) = if self.backwards { panels.next_back() } else { panels.next() } {
            match (self.packing, registers.len()) {
                (Packing::Lone, _) => self.lone::<I>(instructions, registers),
                (Packing::Tiles, 1) => self.panel::<I, 1>(instructions, registers),
                (Packing::Tiles, 2) => self.panel::<I, 2>(instructions, registers),
                (Packing::Tiles, _) => self.panel::<I, 3>(instructions, registers),
            }
        }
    }
}

impl<T: Real> Block<'_, T> {
    /// The panel of these `N` registers.
    #[inline(always)]
    fn packed<I: Instructions, const N: usize>(&self, registers: &Range<usize>) -> &[T] {
        let of_register = I::Register::<T>::WIDTH * self.depth;
        &self.panels[registers.start * of_register..][..N * of_register]
    }

    /// All rows times one panel of `N` registers.
    #[inline(always)]
    fn panel<I: Instructions, const N: usize>(&self, instructions: I, registers: Range<usize>) {
        if N > I::Register::<T>::PANEL {
            return;
        }
        let packed = self.packed::<I, N>(&registers);
        // A tile's registers are of one piece, so their columns stand side by side.
        let places = self.columns.places::<I::Register<T>, N>(&registers);
        let columns = places[0].0..places[N - 1].1;
        let mut row = self.rows.start;
        while row < self.rows.end {
            let columns = columns.clone();
            row += match self.height::<I>(self.rows.end - row) {
                8 => self.tile::<I, 8, N>(instructions, row, columns, packed),
                6 => self.tile::<I, 6, N>(instructions, row, columns, packed),
                4 => self.tile::<I, 4, N>(instructions, row, columns, packed),
                2 => self.tile::<I, 2, N>(instructions, row, columns, packed),
                _ => self.tile::<I, 1, N>(instructions, row, columns, packed),
            };
        }
    }

    /// The first of the rows, which is the only one, times one panel of any width; nothing where there is none.
    #[inline(always)]
    fn lone<I: Instructions>(&self, instructions: I, registers: Range<usize>) {
        if self.rows.is_empty() {
            return;
        }
        let Left::Lines(lines) = self.left else { unreachable!("rows in slivers are packed for tiles") };
        let row = self.rows.start;
        let left = lines.line(row, self.depth);
        match registers.len() {
            1 => self.lone_panel::<I, 1>(instructions, left, registers),
            2 => self.lone_panel::<I, 2>(instructions, left, registers),
            3 => self.lone_panel::<I, 3>(instructions, left, registers),
            4 => self.lone_panel::<I, 4>(instructions, left, registers),
            5 => self.lone_panel::<I, 5>(instructions, left, registers),
            6 => self.lone_panel::<I, 6>(instructions, left, registers),
            7 => self.lone_panel::<I, 7>(instructions, left, registers),
            8 => self.lone_panel::<I, 8>(instructions, left, registers),
            9 => self.lone_panel::<I, 9>(instructions, left, registers),
            10 => self.lone_panel::<I, 10>(instructions, left, registers),
            11 => self.lone_panel::<I, 11>(instructions, left, registers),
            _ => self.lone_panel::<I, LONE>(instructions, left, registers),
        }
    }

    /// The same for a panel of `N` registers.
    #[inline(always)]
    fn lone_panel<I: Instructions, const N: usize>(
        &self,
        instructions: I,
        left: &[T],
        registers: Range<usize>,
    ) {
        let places = self.columns.places::<I::Register<T>, N>(&registers);
        let mut start = [I::Register::<T>::splat(instructions, T::ZERO); N];
        if let Store::Row(row) = self.store {
            for (register, (start, end)) in start.iter_mut().zip(places) {
                *register = I::Register::<T>::load_some(instructions, &row[start..end]);
            }
        }
        let packed = self.packed::<I, N>(&registers);
        let [sums] = if const { I::Register::<T>::TERMS == 2 } {
            sums_of_lines::<I::Register<T>, 1, N, 2>(instructions, start, packed, [left])
        } else {
            sums_of_lines::<I::Register<T>, 1, N, 4>(instructions, start, packed, [left])
        };
        let row = self.rows.start * self.stride;
        for (sum, (start, end)) in sums.into_iter().zip(places) {
            // SAFETY: nobody else uses this row's columns, as the block's maker promises.
            #[allow(unsafe_code)]
            let out = unsafe { self.out.write(row + start..row + end) };
            let there = |out: &[T]| I::Register::<T>::load_some(instructions, out);
            let sum = if matches!(self.store, Store::Add) { sum.add(there(out)) } else { sum };
            sum.store_some(out);
        }
    }

    /// Rows of the next tile, with `left` to do: a full one, but no very low one beside it. Slivers are full to the last.
    #[inline(always)]
    fn height<I: Instructions>(&self, left: usize) -> usize {
        let full = I::Register::<T>::ROWS;
        match left {
            _ if matches!(self.left, Left::Slivers(_)) => full,
            9..=13 if full == 8 => 6,
            8 if full == 6 => 4,
            _ if left >= full => full,
            6.. => 6,
            4.. => 4,
            2.. => 2,
            _ => 1,
        }
    }

    /// `M` rows times one panel; gives `M`.
    #[inline(always)]
    fn tile<I: Instructions, const M: usize, const N: usize>(
        &self,
        instructions: I,
        row: usize,
        columns: Range<usize>,
        packed: &[T],
    ) -> usize {
        let full = I::Register::<T>::ROWS;
        if M > full {
            return M;
        }
        // What the sums are written to comes while they are made.
        for r in 0..M {
            let start = (row + r) * self.stride;
            self.out.prefetch(start + columns.start..start + columns.end);
        }
        let width = I::Register::<T>::WIDTH;
        let mut start = [I::Register::<T>::splat(instructions, T::ZERO); N];
        if let Store::Row(row) = self.store {
            for (register, row) in start.iter_mut().zip(row[columns.clone()].chunks(width)) {
                *register = I::Register::<T>::load_some(instructions, row);
            }
        }
        let mut sums = if const { I::Register::<T>::TERMS == 2 } {
            self.sums::<I, M, N, 2>(instructions, start, row, packed)
        } else {
            self.sums::<I, M, N, 4>(instructions, start, row, packed)
        };
        let add = matches!(self.store, Store::Add);
        for (r, sums) in sums.iter_mut().enumerate() {
            // The last sliver is filled up with zeros.
            if row + r >= self.rows.end {
                continue;
            }
            let start = (row + r) * self.stride;
            // SAFETY: nobody else uses this row's columns, as the block's maker promises.
            #[allow(unsafe_code)]
            let out = unsafe { self.out.write(start + columns.start..start + columns.end) };
            if out.len() == N * width {
                for (out, sum) in out.chunks_exact_mut(width).zip(sums) {
                    let sum = if add { sum.add(I::Register::<T>::load(instructions, out)) } else { *sum };
                    sum.store(out);
                }
            } else {
                for (out, sum) in out.chunks_mut(width).zip(sums) {
                    let sum =
                        if add { sum.add(I::Register::<T>::load_some(instructions, out)) } else { *sum };
                    sum.store_some(out);
                }
            }
        }
        M
    }

    /// The sums of `M` rows times one panel.
    #[inline(always)]
    fn sums<I: Instructions, const M: usize, const N: usize, const FEW: usize>(
        &self,
        instructions: I,
        start: [I::Register<T>; N],
        row: usize,
        packed: &[T],
    ) -> [[I::Register<T>; N]; M] {
        let depth = self.depth;
        match &self.left {
            Left::Lines(from) => {
                let mut lines: [&[T]; M] = [&[]; M];
                for (r, line) in lines.iter_mut().enumerate() {
                    *line = from.line(row + r, depth);
                }
                sums_of_lines::<I::Register<T>, M, N, FEW>(instructions, start, packed, lines)
            }
            Left::Slivers(slivers) => {
                // Slivers are of full height.
                if M != I::Register::<T>::ROWS {
                    return [start; M];
                }
                let (pieces, _) = slivers[(row - self.rows.start) * depth..][..M * depth].as_chunks::<M>();
                let (groups, _) = pieces.as_chunks::<FEW>();
                let few = |i: usize, k: usize, r: usize| groups[i][k][r];
                sums::<I::Register<T>, M, N, FEW>(instructions, start, packed, (few, |k, r| pieces[k][r]))
            }
        }
    }
}

/// The sums of `M` rows that stand in lines as long as the panel is deep.
#[inline(always)]
fn sums_of_lines<R: Register, const M: usize, const N: usize, const FEW: usize>(
    token: R::Token,
    start: [R; N],
    packed: &[R::Elem],
    lines: [&[R::Elem]; M],
) -> [[R; N]; M] {
    let mut groups: [&[[R::Elem; FEW]]; M] = [&[]; M];
    for (group, line) in groups.iter_mut().zip(lines) {
        *group = line.as_chunks().0;
    }
    let few = |i: usize, k: usize, r: usize| groups[r][i][k];
    sums::<R, M, N, FEW>(token, start, packed, (few, |k, r| lines[r][k]))
}

/// The sums of a tile, each over k in ascending order, its row's columns beginning with `start`; [`Register::TERMS`] says
/// how many terms are a few. What is multiplied is `few(i, k, r)` for row r and term `i * FEW + k`, and `one(k, r)` for the
/// terms behind the last few.
#[inline(always)]
fn sums<R: Register, const M: usize, const N: usize, const FEW: usize>(
    token: R::Token,
    start: [R; N],
    packed: &[R::Elem],
    (few, one): (impl Fn(usize, usize, usize) -> R::Elem, impl Fn(usize, usize) -> R::Elem),
) -> [[R; N]; M] {
    let mut sums = [start; M];
    let line = N * R::WIDTH;
    let pieces = packed.chunks_exact(FEW * line);
    let rest = pieces.remainder();
    let done = FEW * pieces.len();
    for (i, lines) in pieces.enumerate() {
        for (k, line) in lines.chunks_exact(line).enumerate() {
            add::<R, M, N>(token, &mut sums, line, |r| few(i, k, r));
        }
    }
    for (k, line) in rest.chunks_exact(line).enumerate() {
        add::<R, M, N>(token, &mut sums, line, |r| one(done + k, r));
    }
    sums
}

/// One term of each sum.
#[inline(always)]
fn add<R: Register, const M: usize, const N: usize>(
    token: R::Token,
    sums: &mut [[R; N]; M],
    packed: &[R::Elem],
    factor: impl Fn(usize) -> R::Elem,
) {
    let mut line = [R::splat(token, R::Elem::default()); N];
    for (register, packed) in line.iter_mut().zip(packed.chunks_exact(R::WIDTH)) {
        *register = R::load(token, packed);
    }
    for (r, sums) in sums.iter_mut().enumerate() {
        let factor = R::splat(token, factor(r));
        for (sum, register) in sums.iter_mut().zip(line) {
            *sum = register.mul_add(factor, *sum);
        }
    }
}
