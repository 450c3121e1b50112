//! Normalisation of whole rows inside a step, there and back:
//! `(v - mean(v)) / sqrt(var(v) + 1e-5)` (Ba, Kiros & Hinton 2016), times a factor a column where there is one.

use super::super::slots::Params;
use super::guided::Course;
use crate::convention::NORM_EPSILON;
use crate::kernels::dispatch::{Instructions, Task};
use crate::kernels::lanes::MAX_LANES;
use crate::kernels::share::Shared;
use crate::kernels::{Real, Vector};
use std::ops::Range;

/// Rows that stand in a buffer, each `stride` behind the one before.
#[derive(Clone, Copy)]
pub(in super::super) struct Rows<'a, T> {
    pub(in super::super) numbers: Shared<'a, T>,
    pub(in super::super) start: usize,
    pub(in super::super) stride: usize,
}

impl<'a, T> Rows<'a, T> {
    /// Row after row.
    pub(in super::super) fn dense(numbers: Shared<'a, T>, size: usize) -> Self {
        Self { numbers, start: 0, stride: size }
    }

    /// Those of step `t` of a window, `size` numbers each; none of a buffer that is empty.
    #[inline(always)]
    pub(in super::super) fn at(numbers: Shared<'a, T>, (t, time): (usize, usize), size: usize) -> Self {
        Self { numbers, start: t * size, stride: time * size }
    }

    /// # Safety
    /// That of [`Shared::write`].
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn row(&self, row: usize, size: usize) -> &'a mut [T] {
        // SAFETY: as the caller promises.
        if self.numbers.is_empty() { &mut [] } else { unsafe { self.numbers.write(self.range(row, size)) } }
    }

    /// # Safety
    /// That of [`Shared::read`].
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn read(&self, row: usize, size: usize) -> &'a [T] {
        // SAFETY: as the caller promises.
        unsafe { self.numbers.read(self.range(row, size)) }
    }

    #[inline(always)]
    fn range(&self, row: usize, size: usize) -> Range<usize> {
        let start = self.start + row * self.stride;
        start..start + size
    }
}

/// Normalises rows where they stand. Nobody else uses any of these rows meanwhile.
pub(in crate::kernels) struct Norm<'a, T> {
    pub(in super::super) rows: Range<usize>,
    pub(in super::super) size: usize,
    pub(in super::super) values: Rows<'a, T>,
    /// `[size]` or empty.
    pub(in super::super) gamma: &'a [T],
    /// Added after that: `[size]` or empty.
    pub(in super::super) bias: &'a [T],
    /// Out: what the backward needs, where there is one: the normalised rows before their factor, and for each row the
    /// number that they were multiplied with.
    pub(in super::super) normed: Rows<'a, T>,
    pub(in super::super) scale: Rows<'a, T>,
    /// Where the result is added to besides, if it is.
    pub(in super::super) sums: Option<Rows<'a, T>>,
    /// Rows that do not have the step become zeros.
    pub(in super::super) absent: Option<(Course<'a, T>, usize)>,
}

impl<'a, T> Norm<'a, T> {
    /// That of an input product, of all rows that there are, with its bias; `normed` and `scale` keep what its backward
    /// needs, or are empty.
    pub(in super::super) fn of_input(
        sums: Shared<'a, T>,
        size: usize,
        params: &Params<'a, T>,
        (normed, scale): (Shared<'a, T>, Shared<'a, T>),
    ) -> Self {
        Self {
            rows: 0..0,
            size,
            values: Rows::dense(sums, size),
            gamma: params.norm_ih,
            bias: params.bias_ih,
            normed: Rows::dense(normed, size),
            scale: Rows::dense(scale, 1),
            sums: None,
            absent: None,
        }
    }
}

impl<T: Real> Task for Norm<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { rows, size, values, gamma, bias, normed, scale, sums, absent } = self;
        for row in rows {
            // SAFETY: nobody else uses the row, and each stands in a buffer of its own.
            #[allow(unsafe_code)]
            let (values, normed, scale) =
                unsafe { (values.row(row, size), normed.row(row, size), scale.row(row, 1)) };
            if absent.is_some_and(|(course, t)| !course.active(row, t)) {
                values.fill(T::ZERO);
                normed.fill(T::ZERO);
                scale.fill(T::ZERO);
                continue;
            }
            let size = T::from_f64(size as f64);
            let mean = total::<I::Lanes<T>>(&*values, &*values, |x, _| x) / size;
            values.iter_mut().for_each(|x| *x -= mean);
            let variance = total::<I::Lanes<T>>(&*values, &*values, |x, y| x * y) / size;
            let by = T::from_f64(1.0 / (variance.to_f64() + NORM_EPSILON).sqrt());
            values.iter_mut().for_each(|x| *x *= by);
            scale.fill(by);
            if !normed.is_empty() {
                normed.copy_from_slice(values);
            }
            values.iter_mut().zip(gamma).for_each(|(x, &gamma)| *x *= gamma);
            values.iter_mut().zip(bias).for_each(|(x, &bias)| *x += bias);
            if let Some(sums) = sums {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                let sums = unsafe { sums.row(row, values.len()) };
                sums.iter_mut().zip(values).for_each(|(sum, x)| *sum += *x);
            }
        }
    }
}

/// The backward of [`Norm`]. Nobody else uses any of these rows meanwhile, or writes to what is read.
pub(in crate::kernels) struct NormBack<'a, T> {
    pub(in super::super) rows: Range<usize>,
    pub(in super::super) size: usize,
    /// Gradients of what the norm gave; none where they stand in `out`.
    pub(in super::super) given: Option<Rows<'a, T>>,
    /// `[size]` or empty.
    pub(in super::super) gamma: &'a [T],
    /// Out: gradients of what it took.
    pub(in super::super) out: Rows<'a, T>,
    /// Of the forward: rows of all steps, and a number for each.
    pub(in super::super) normed: &'a [T],
    pub(in super::super) scale: &'a [T],
    /// Which of them are meant: those of step t, of T.
    pub(in super::super) step: (usize, usize),
}

impl<T: Real> Task for NormBack<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { rows, size, given, gamma, out, normed, scale, step: (t, time) } = self;
        for row in rows {
            // SAFETY: nobody else uses the row.
            #[allow(unsafe_code)]
            let out = unsafe { out.row(row, size) };
            if let Some(given) = given {
                // SAFETY: nobody writes to it, and what is written stands in another buffer.
                #[allow(unsafe_code)]
                out.copy_from_slice(unsafe { given.read(row, size) });
            }
            out.iter_mut().zip(gamma).for_each(|(dy, &gamma)| *dy *= gamma);
            let step = row * time + t;
            let (normed, by) = (&normed[step * size..(step + 1) * size], scale[step]);
            // What was taken moves its mean and its deviation too: what lies along either has no effect.
            let count = T::from_f64(size as f64);
            let along_ones = total::<I::Lanes<T>>(&*out, normed, |d, _| d) / count;
            let along_normed = total::<I::Lanes<T>>(&*out, normed, |d, x| d * x) / count;
            for (d, &x) in out.iter_mut().zip(normed) {
                *d = (*d - along_ones - x * along_normed) * by;
            }
        }
    }
}

/// The sum of `f` over two rows, which is 0 of zeros: lane by lane, and then lane after lane.
#[inline(always)]
fn total<V: Vector>(a: &[V::Elem], b: &[V::Elem], f: impl Fn(V, V) -> V) -> V::Elem {
    let mut sums = V::zero();
    for (a, b) in a.chunks(V::WIDTH).zip(b.chunks(V::WIDTH)) {
        sums = sums + f(V::load(a), V::load(b));
    }
    let mut lanes = [V::Elem::ZERO; MAX_LANES];
    sums.store(&mut lanes);
    lanes.iter().fold(V::Elem::ZERO, |sum, &lane| sum + lane)
}
