//! Rows of `a` times packed panels, a tile at a time: its sums stay in registers until they are complete.

use super::Into;
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
    /// Nobody else uses the block's rows and columns of it meanwhile.
    pub(in crate::kernels) out: Shared<'a, T>,
    /// From one row of `out` to the next.
    pub(in crate::kernels) stride: usize,
    /// Of `out`.
    pub(in crate::kernels) columns: Range<usize>,
    pub(in crate::kernels) into: Into<'a, T>,
}

impl<T: Real> Task for Block<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, instructions: I) {
        let register = I::Register::<T>::WIDTH;
        let panel = register * I::Register::<T>::PANEL;
        if self.rows.len() == 1
            && let Left::Lines(lines) = self.left
        {
            return self.lone_row::<I>(instructions, lines.line(self.rows.start, self.depth));
        }
        for from in self.columns.clone().step_by(panel) {
            let columns = from..self.columns.end.min(from + panel);
            let registers = columns.len().div_ceil(register);
            let packed = &self.panels[(from - self.columns.start) * self.depth..];
            let packed = &packed[..registers * register * self.depth];
            match registers {
                1 => self.panel::<I, 1>(instructions, columns, packed),
                2 => self.panel::<I, 2>(instructions, columns, packed),
                _ => self.panel::<I, 3>(instructions, columns, packed),
            }
        }
    }
}

impl<T: Real> Block<'_, T> {
    /// All rows times one panel of `N` registers.
    #[inline(always)]
    fn panel<I: Instructions, const N: usize>(&self, instructions: I, columns: Range<usize>, packed: &[T]) {
        if N > I::Register::<T>::PANEL {
            return;
        }
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

    /// One row times all panels, some registers of columns at a time: fewer sums would wait for each other.
    #[inline(always)]
    fn lone_row<I: Instructions>(&self, instructions: I, left: &[T]) {
        let width = I::Register::<T>::WIDTH;
        let registers = self.columns.len().div_ceil(width);
        let mut from = 0;
        while from < registers {
            from += match registers - from {
                1 => self.lone::<I, 1>(instructions, left, from),
                2 => self.lone::<I, 2>(instructions, left, from),
                3 => self.lone::<I, 3>(instructions, left, from),
                4 => self.lone::<I, 4>(instructions, left, from),
                5 => self.lone::<I, 5>(instructions, left, from),
                6 => self.lone::<I, 6>(instructions, left, from),
                7 => self.lone::<I, 7>(instructions, left, from),
                8 => self.lone::<I, 8>(instructions, left, from),
                _ if I::Register::<T>::PANEL == 3 => self.lone_panels::<I, 3>(instructions, left, from),
                _ => self.lone_panels::<I, 2>(instructions, left, from),
            };
        }
    }

    /// `Q` registers of columns of a lone row, from register `from` on; gives `Q`.
    #[inline(always)]
    fn lone<I: Instructions, const Q: usize>(&self, instructions: I, left: &[T], from: usize) -> usize {
        let width = I::Register::<T>::WIDTH;
        let registers = self.columns.len().div_ceil(width);
        // Where each register of columns begins in its panel, and how wide the panel is.
        let mut places: [(&[T], usize); Q] = [(&[], 0); Q];
        for (q, place) in places.iter_mut().enumerate() {
            let inside = (from + q) % I::Register::<T>::PANEL;
            let first = from + q - inside;
            let panel = I::Register::<T>::PANEL.min(registers - first) * width;
            let start = first * width * self.depth + inside * width;
            *place = (&self.panels[start..start + panel * (self.depth - 1) + width], panel);
        }
        let columns = |q: usize| {
            let start = self.columns.start + (from + q) * width;
            start..self.columns.end.min(start + width)
        };
        let mut sums = [I::Register::<T>::splat(instructions, T::ZERO); Q];
        if let Into::Row(row) = self.into {
            for (q, sum) in sums.iter_mut().enumerate() {
                *sum = I::Register::<T>::load_some(instructions, &row[columns(q)]);
            }
        }
        for (k, &factor) in left.iter().enumerate() {
            let factor = I::Register::<T>::splat(instructions, factor);
            for (sum, (panel, stride)) in sums.iter_mut().zip(places) {
                *sum = I::Register::<T>::load(instructions, &panel[k * stride..]).mul_add(factor, *sum);
            }
        }
        let start = self.rows.start * self.stride;
        for (q, sum) in sums.into_iter().enumerate() {
            let columns = columns(q);
            // SAFETY: nobody else uses this row's columns, as the block's maker promises.
            #[allow(unsafe_code)]
            let out = unsafe { self.out.write(start + columns.start..start + columns.end) };
            let there = |out: &[T]| I::Register::<T>::load_some(instructions, out);
            let sum = if matches!(self.into, Into::Add) { sum.add(there(out)) } else { sum };
            sum.store_some(out);
        }
        Q
    }

    /// Three whole panels of `N` registers for a lone row, each read from front to back; gives their registers.
    #[inline(always)]
    fn lone_panels<I: Instructions, const N: usize>(
        &self,
        instructions: I,
        left: &[T],
        from: usize,
    ) -> usize {
        let width = I::Register::<T>::WIDTH;
        let size = N * width * self.depth;
        let panel = |p: usize| {
            let start = from * width * self.depth + p * size;
            self.panels[start..start + size].chunks_exact(N * width)
        };
        let mut sums = [[I::Register::<T>::splat(instructions, T::ZERO); N]; 3];
        if let Into::Row(row) = self.into {
            let row = &row[self.columns.start + from * width..];
            for (sum, row) in sums.as_flattened_mut().iter_mut().zip(row.chunks(width)) {
                *sum = I::Register::<T>::load_some(instructions, row);
            }
        }
        for (((&factor, first), second), third) in left.iter().zip(panel(0)).zip(panel(1)).zip(panel(2)) {
            let factor = I::Register::<T>::splat(instructions, factor);
            for (sums, line) in sums.iter_mut().zip([first, second, third]) {
                for (sum, part) in sums.iter_mut().zip(line.chunks_exact(width)) {
                    *sum = I::Register::<T>::load(instructions, part).mul_add(factor, *sum);
                }
            }
        }
        let start = self.rows.start * self.stride + self.columns.start + from * width;
        let end = (self.rows.start * self.stride + self.columns.end).min(start + 3 * N * width);
        // SAFETY: nobody else uses this row's columns, as the block's maker promises.
        #[allow(unsafe_code)]
        let out = unsafe { self.out.write(start..end) };
        for (out, sum) in out.chunks_mut(width).zip(sums.as_flattened()) {
            let there = |out: &[T]| I::Register::<T>::load_some(instructions, out);
            let sum = if matches!(self.into, Into::Add) { sum.add(there(out)) } else { *sum };
            sum.store_some(out);
        }
        3 * N
    }

    /// Rows of the next tile, with `left` to do: a full one, but no very low one beside it.
    #[inline(always)]
    fn height<I: Instructions>(&self, left: usize) -> usize {
        let full = I::Register::<T>::ROWS;
        let slivers = matches!(self.left, Left::Slivers(_));
        match left {
            9..=13 if full == 8 && !slivers => 6,
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
        let depth = self.depth;
        // What the sums are written to comes while they are made.
        for r in 0..M {
            let start = (row + r) * self.stride;
            self.out.prefetch(start + columns.start..start + columns.end);
        }
        let width = I::Register::<T>::WIDTH;
        let mut start = [I::Register::<T>::splat(instructions, T::ZERO); N];
        if let Into::Row(row) = self.into {
            for (register, row) in start.iter_mut().zip(row[columns.clone()].chunks(width)) {
                *register = I::Register::<T>::load_some(instructions, row);
            }
        }
        let mut sums = match &self.left {
            Left::Lines(from) => {
                let mut lines: [&[T]; M] = [&[]; M];
                for (r, slot) in lines.iter_mut().enumerate() {
                    *slot = from.line(row + r, depth);
                }
                sums::<I::Register<T>, M, N>(instructions, start, packed, |k, r| lines[r][k])
            }
            Left::Slivers(slivers) => {
                let above = row - self.rows.start;
                let sliver = &slivers[above / full * full * depth..][..full * depth];
                let inside = above % full;
                sums::<I::Register<T>, M, N>(instructions, start, packed, |k, r| {
                    sliver[k * full + inside + r]
                })
            }
        };
        let add = matches!(self.into, Into::Add);
        for (r, sums) in sums.iter_mut().enumerate() {
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
}

/// The sums of a tile, each over k in ascending order, its row's columns beginning with `start`.
#[inline(always)]
fn sums<R: Register, const M: usize, const N: usize>(
    token: R::Token,
    start: [R; N],
    packed: &[R::Elem],
    left: impl Fn(usize, usize) -> R::Elem,
) -> [[R; N]; M] {
    let mut sums = [start; M];
    for (k, packed) in packed.chunks_exact(N * R::WIDTH).enumerate() {
        let mut line = start;
        for (register, packed) in line.iter_mut().zip(packed.chunks_exact(R::WIDTH)) {
            *register = R::load(token, packed);
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            let factor = R::splat(token, left(k, r));
            for (sum, register) in sums.iter_mut().zip(line) {
                *sum = register.mul_add(factor, *sum);
            }
        }
    }
    sums
}
