//! Sums over the rows of a matrix: gradients of what is added to, or multiplied with, every row.

use super::Mat;
use crate::kernels::Real;
use crate::kernels::dispatch::{Instructions, Task, cpu};
use crate::kernels::share::Shared;
use crate::kernels::team::{self, together};
use std::ops::Range;

/// `out [M] (+)=` the sum of the rows of `a [rows, M]`, each of them times that of `b [rows, M]` where there is one, in
/// ascending order.
///
/// ```
/// use rnn_core::kernels::product::{Mat, column_sums};
/// let mut out = [1.0, 1.0];
/// column_sums(&mut out, Mat::new(&[1.0, 2.0, 3.0, 4.0], 2, 2), Some(&[1.0, 0.0, 2.0, 1.0]), true);
/// assert_eq!(out, [8.0, 5.0]);
/// ```
///
/// # Panics
/// Where the sizes do not fit, or `a` is a transpose.
pub fn column_sums<T: Real>(out: &mut [T], a: Mat<'_, T>, b: Option<&[T]>, add: bool) {
    /// Numbers a member, below which it is not worth its waiting for.
    const WORTH: usize = 1 << 14;
    /// Columns of a cache line.
    const GRAIN: usize = 16;
    assert!(!a.turned, "sums over the rows of a transpose");
    let (rows, columns) = a.shape();
    if out.is_empty() {
        return;
    }
    assert_eq!(out.len(), columns, "a sum of rows of {columns}");
    assert!(b.is_none_or(|b| b.len() == rows * columns), "factors of {rows} x {columns}");
    let (cpu, out) = (cpu(), Shared::new(out));
    let count = team::size().min(rows * columns / WORTH).max(1);
    together(count, &|member| {
        (T::compiled().column_sums)(cpu, Sums { out, a, b, add, columns: member.share(columns, GRAIN) });
    });
}

pub(in crate::kernels) struct Sums<'a, T> {
    out: Shared<'a, T>,
    a: Mat<'a, T>,
    b: Option<&'a [T]>,
    add: bool,
    /// This member's.
    columns: Range<usize>,
}

impl<T: Real> Task for Sums<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { out, a, b, add, columns } = self;
        let (rows, size) = a.shape();
        // SAFETY: no other member has these columns.
        #[allow(unsafe_code)]
        let out = unsafe { out.write(columns.clone()) };
        if !add {
            out.fill(T::ZERO);
        }
        for row in 0..rows {
            let line = &a.line(row)[columns.clone()];
            match b {
                None => out.iter_mut().zip(line).for_each(|(sum, &a)| *sum += a),
                Some(b) => {
                    let factors = &b[row * size..][columns.clone()];
                    for ((sum, &a), &b) in out.iter_mut().zip(line).zip(factors) {
                        *sum += a * b;
                    }
                }
            }
        }
    }
}
