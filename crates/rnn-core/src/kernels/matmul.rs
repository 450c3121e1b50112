//! Matrix products: rows times packed panels, whose bits do not depend on how many rows there are, and `gemm` for
//! the rest.
//!
//! A product of a window's rows must give the same bits however the window is cut, so each element is one sum over k in
//! ascending order, whatever rows stand beside it. `gemm` chooses its order by the sizes: it serves the weight
//! gradients, whose window is what it is, and the output layer.

use super::Real;
use super::dispatch::{Cpu, Instructions, Task, run};
use super::simd::Register;
use rayon::prelude::*;

/// Whether a result replaces what was there or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// `out = result`
    Set,
    /// `out += result`
    Add,
}

/// A matrix in a slice: element (r, c) stands at `r * row_stride + c * col_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// A dense matrix, row by row.
    ///
    /// # Panics
    /// Where `data` does not have `rows * cols` elements.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a matrix of {rows} x {cols}");
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transpose, in place.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// `out (+)= a b` over all threads of the current pool; `out` is dense, row by row.
///
/// ```
/// use rnn_core::kernels::matmul::{Into, Mat, gemm};
/// let (a, b, mut out) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0], [1.0; 2]);
/// gemm(&mut out, Mat::new(&a, 2, 2), Mat::new(&b, 2, 1), Into::Add);
/// assert_eq!(out, [18.0, 40.0]);
/// ```
///
/// # Panics
/// Where the sizes do not fit.
pub fn gemm<T: Real>(out: &mut [T], a: Mat<'_, T>, b: Mat<'_, T>, into: Into) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(b.rows, k, "the inner sizes of a product");
    assert_eq!(out.len(), m * n, "a product of {m} x {n}");
    if m == 0 || n == 0 {
        return;
    }
    let stride = |stride: usize| stride as isize;
    let threads = rayon::current_num_threads();
    let parallelism = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    // SAFETY: `out` has m * n elements, borrowed for this call alone. `a` and `b` can only be made by `Mat::new` and
    // `t`, which keep every (row, column) within their slices; their sizes agree by the assertions above.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(n),
            into == Into::Add,
            a.data.as_ptr(),
            stride(a.col_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.col_stride),
            stride(b.row_stride),
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Rows that a tile computes at once: their sums stay in registers.
const TILE_ROWS: usize = 6;

/// Columns of the widest panel.
const MAX_PANEL: usize = 32;

/// A matrix `[depth, columns]` cut into panels of columns, each stored row by row: what a tile reads stands in one line.
#[derive(Debug, Clone, Default)]
pub struct Packed<T> {
    panels: Vec<T>,
    depth: usize,
    columns: usize,
    width: usize,
}

impl<T: Real> Packed<T> {
    /// Packs `source`, whose element (k, j) stands at `k * columns + j`.
    pub fn pack(&mut self, cpu: Cpu, source: &[T], depth: usize, columns: usize) {
        self.reshape(cpu, depth, columns);
        let width = self.width;
        for (p, panel) in self.panels.chunks_exact_mut(depth * width).enumerate() {
            let from = p * width;
            let present = width.min(columns - from);
            for (line, row) in panel.chunks_exact_mut(width).zip(source.chunks_exact(columns)) {
                line[..present].copy_from_slice(&row[from..from + present]);
            }
        }
    }

    /// Packs the transpose of `source`, whose element (j, k) stands at `j * depth + k`.
    pub fn pack_transposed(&mut self, cpu: Cpu, source: &[T], depth: usize, columns: usize) {
        /// Columns of the source that are turned together: their lines stay in the nearest cache.
        const BLOCK: usize = 16;
        self.reshape(cpu, depth, columns);
        let width = self.width;
        for (p, panel) in self.panels.chunks_exact_mut(depth * width).enumerate() {
            let rows = &source[p * width * depth..columns.min((p + 1) * width) * depth];
            for (block, lines) in panel.chunks_mut(BLOCK * width).enumerate() {
                for (j, row) in rows.chunks_exact(depth).enumerate() {
                    for (line, &value) in lines.chunks_exact_mut(width).zip(&row[block * BLOCK..]) {
                        line[j] = value;
                    }
                }
            }
        }
    }

    /// The last panel's missing columns are zeros; they are written here and never again.
    fn reshape(&mut self, cpu: Cpu, depth: usize, columns: usize) {
        let width = panel_width::<T>(cpu);
        if (self.depth, self.columns, self.width) != (depth, columns, width) {
            (self.depth, self.columns, self.width) = (depth, columns, width);
            self.panels.clear();
            self.panels.resize(columns.div_ceil(width) * width * depth, T::ZERO);
        }
    }
}

/// Columns of a panel: two registers, so that a tile's sums fill most of a CPU's.
fn panel_width<T: Real>(cpu: Cpu) -> usize {
    match cpu {
        Cpu::Portable => 2 * <T::Portable as Register>::WIDTH,
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx2 => 2 * <T::Avx2 as Register>::WIDTH,
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx512 => 2 * <T::Avx512 as Register>::WIDTH,
        #[cfg(not(target_arch = "x86_64"))]
        _ => 2 * <T::Portable as Register>::WIDTH,
    }
}

/// `out (+)= a packed` for `a [rows, depth]` and `out [rows, columns]`, rows split over the threads.
pub fn packed_product<T: Real>(cpu: Cpu, out: &mut [T], a: &[T], packed: &Packed<T>, into: Into) {
    /// Below this many multiplications a second thread costs more than it gives.
    const WORTH_SPLITTING: usize = 1 << 18;
    let rows = a.len() / packed.depth;
    let threads = rayon::current_num_threads();
    let share = if threads == 1 || rows * packed.depth * packed.columns < WORTH_SPLITTING {
        rows
    } else {
        rows.div_ceil(threads).next_multiple_of(TILE_ROWS)
    };
    let share = share.max(1);
    let outs = out.par_chunks_mut(share * packed.columns);
    outs.zip(a.par_chunks(share * packed.depth)).for_each(|(out, a)| {
        let (out_stride, a_stride) = (packed.columns, packed.depth);
        run(cpu, RowProduct { out, out_stride, a, a_stride, rows: a.len() / packed.depth, packed, into });
    });
}

/// One thread's product of rows with packed panels.
pub(super) struct RowProduct<'a, T> {
    pub(super) out: &'a mut [T],
    pub(super) out_stride: usize,
    pub(super) a: &'a [T],
    pub(super) a_stride: usize,
    pub(super) rows: usize,
    pub(super) packed: &'a Packed<T>,
    pub(super) into: Into,
}

impl<T: Real> Task for RowProduct<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(mut self, instructions: I) {
        let packed = self.packed;
        let width = 2 * I::Register::<T>::WIDTH;
        assert_eq!(packed.width, width, "a matrix packed for these instructions");
        for (p, panel) in packed.panels.chunks_exact(packed.depth * width).enumerate() {
            let columns = p * width..packed.columns.min((p + 1) * width);
            let mut row = 0;
            while row < self.rows {
                let columns = columns.clone();
                row += match self.rows - row {
                    1 => self.tile::<I, 1>(instructions, row, columns, panel),
                    2 => self.tile::<I, 2>(instructions, row, columns, panel),
                    3 => self.tile::<I, 3>(instructions, row, columns, panel),
                    4 => self.tile::<I, 4>(instructions, row, columns, panel),
                    5 => self.tile::<I, 5>(instructions, row, columns, panel),
                    _ => self.tile::<I, TILE_ROWS>(instructions, row, columns, panel),
                };
            }
        }
    }
}

impl<T: Real> RowProduct<'_, T> {
    /// `ROWS` rows times one panel; gives `ROWS`.
    #[inline(always)]
    fn tile<I: Instructions, const ROWS: usize>(
        &mut self,
        instructions: I,
        row: usize,
        columns: std::ops::Range<usize>,
        panel: &[T],
    ) -> usize {
        let width = I::Register::<T>::WIDTH;
        let depth = panel.len() / (2 * width);
        let a: [&[T]; ROWS] = std::array::from_fn(|r| &self.a[(row + r) * self.a_stride..][..depth]);
        let mut sums = [[I::Register::<T>::splat(instructions, T::ZERO); 2]; ROWS];
        for (k, line) in panel.chunks_exact(2 * width).enumerate() {
            let (left, right) = line.split_at(width);
            let line = [left, right].map(|half| I::Register::<T>::load(instructions, half));
            for (sums, a) in sums.iter_mut().zip(a) {
                let factor = I::Register::<T>::splat(instructions, a[k]);
                *sums = [line[0].mul_add(factor, sums[0]), line[1].mul_add(factor, sums[1])];
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            let start = (row + r) * self.out_stride;
            let out = &mut self.out[start + columns.start..start + columns.end];
            let mut lanes = [T::ZERO; MAX_PANEL];
            for (sum, lanes) in sums.into_iter().zip(lanes.chunks_exact_mut(width)) {
                sum.store(lanes);
            }
            for (out, &sum) in out.iter_mut().zip(&lanes) {
                *out = if self.into == Into::Add { *out + sum } else { sum };
            }
        }
        ROWS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;
    use proptest::prelude::*;

    fn random(n: usize, purpose: &str) -> Vec<f64> {
        let mut stream = Stream::new(0, purpose, n as u64);
        (0..n).map(|_| stream.normal()).collect()
    }

    /// The definition.
    fn product(a: &[f64], b: &[f64], rows: usize, depth: usize, columns: usize) -> Vec<f64> {
        let element = |r: usize, c: usize| (0..depth).map(|k| a[r * depth + k] * b[k * columns + c]).sum();
        (0..rows * columns).map(|i| element(i / columns, i % columns)).collect()
    }

    fn transpose<T: Copy>(a: &[T], rows: usize, columns: usize) -> Vec<T> {
        (0..rows * columns).map(|i| a[(i % rows) * columns + i / rows]).collect()
    }

    proptest! {
        #[test]
        fn every_path_is_the_definition(rows in 1usize..20, depth in 1usize..40, columns in 1usize..70) {
            let (a, b) = (random(rows * depth, "a"), random(depth * columns, "b"));
            let want = product(&a, &b, rows, depth, columns);
            let close = |got: &[f64], what: &str| {
                for (got, want) in got.iter().zip(&want) {
                    prop_assert!((got - want).abs() < 1e-12, "{what}: {got} for {want}");
                }
                Ok(())
            };
            let mut out = vec![f64::NAN; rows * columns];
            gemm(&mut out, Mat::new(&a, rows, depth), Mat::new(&b, depth, columns), Into::Set);
            close(&out, "gemm")?;
            let turned = transpose(&a, rows, depth);
            gemm(&mut out, Mat::new(&turned, depth, rows).t(), Mat::new(&b, depth, columns), Into::Set);
            close(&out, "gemm of a transpose")?;
            for cpu in Cpu::available() {
                let mut packed = Packed::default();
                packed.pack(cpu, &b, depth, columns);
                packed_product(cpu, &mut out, &a, &packed, Into::Set);
                close(&out, "packed")?;
                packed.pack_transposed(cpu, &transpose(&b, depth, columns), depth, columns);
                out.fill(1.0);
                packed_product(cpu, &mut out, &a, &packed, Into::Add);
                out.iter_mut().for_each(|x| *x -= 1.0);
                close(&out, "packed transposed, added")?;
            }
        }

        #[test]
        fn the_bits_of_a_row_do_not_depend_on_the_rows_beside_it(rows in 1usize..20, depth in 1usize..40) {
            let columns = 37;
            let single = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<_>>();
            let (a, b) = (single(random(rows * depth, "a")), single(random(depth * columns, "b")));
            for cpu in Cpu::available() {
                let mut packed = Packed::default();
                packed.pack(cpu, &b, depth, columns);
                let mut together = vec![0f32; rows * columns];
                packed_product(cpu, &mut together, &a, &packed, Into::Set);
                for (a, together) in a.chunks(depth).zip(together.chunks(columns)) {
                    let mut alone = vec![0f32; columns];
                    packed_product(cpu, &mut alone, a, &packed, Into::Set);
                    prop_assert_eq!(&alone, together);
                }
            }
        }
    }
}
