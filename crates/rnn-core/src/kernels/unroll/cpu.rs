//! The fused way on the CPU: plain functions over slices, [`forward`] and [`backward`] of one layer over one window.
//!
//! The input product of all steps is one product. The recurrent weights are packed once for the window, the batch is
//! split over the threads by rows, and each thread takes its rows through all steps without meeting the others
//! (`rows.rs`). The reverse loop yields the gate gradients alone; the products that make parameter gradients of
//! them stand outside of it, one each for the whole window.
//!
//! The caller owns all memory: [`Tape`] and [`Scratch`] grow to the window's size once and are used again.

pub use super::rows::Dims;
use super::rows::{BackwardRows, ForwardRows, backward_rows, forward_rows};
use super::{Keep, Way, ran};
use crate::kernels::Real;
use crate::kernels::dispatch::{self, Cpu};
use crate::kernels::matmul::{Into, Mat, Packed, gemm, packed_product};
use crate::kernels::pointwise::Pointwise;
use rayon::prelude::*;

/// The parameters of a layer, row by row; a missing bias is `None`.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a, T> {
    /// `[G*H, D]`
    pub weight_ih: &'a [T],
    /// `[G*H, H]`
    pub weight_hh: &'a [T],
    /// `[G*H]`
    pub bias_ih: Option<&'a [T]>,
    /// `[G*H]`
    pub bias_hh: Option<&'a [T]>,
}

/// Where the gradients of the parameters go; what stands there is replaced or added to, as [`Into`] says.
#[derive(Debug)]
pub struct ParamGrads<'a, T> {
    /// `[G*H, D]`
    pub weight_ih: &'a mut [T],
    /// `[G*H, H]`
    pub weight_hh: &'a mut [T],
    /// `[G*H]`
    pub bias_ih: Option<&'a mut [T]>,
    /// `[G*H]`
    pub bias_hh: Option<&'a mut [T]>,
    /// Replace or add.
    pub into: Into,
}

/// A state to read: `h [N, H]`, and `c [N, H]` where the cell has one, else empty.
#[derive(Debug, Clone, Copy)]
pub struct State<'a, T> {
    /// `[N, H]`
    pub h: &'a [T],
    /// `[N, H]` or empty.
    pub c: &'a [T],
}

/// A state to write.
#[derive(Debug)]
pub struct StateMut<'a, T> {
    /// `[N, H]`
    pub h: &'a mut [T],
    /// `[N, H]` or empty.
    pub c: &'a mut [T],
}

/// What [`forward`] leaves for [`backward`].
#[derive(Debug, Clone, Default)]
pub struct Tape<T> {
    pub(super) dims: Dims,
    /// Activations `[N, T, G*H]`.
    pub(super) gates: Vec<T>,
    /// `[N, T, H]`, or empty where the cell has none.
    pub(super) extra: Vec<T>,
    /// The hidden state before each step, `[N, T, H]`.
    pub(super) h_before: Vec<T>,
    /// The c before each step, `[N, T, H]` or empty.
    pub(super) c_before: Vec<T>,
}

/// Memory that nothing is read from before it is written.
#[derive(Debug, Clone, Default)]
pub struct Scratch<T> {
    input: Packed<T>,
    recurrent: Packed<T>,
    /// Recurrent sums of one step, `[N, G*H]`.
    sums: Vec<T>,
    /// Gate gradients `[N, T, G*H]`; the second buffer is empty where the halves agree.
    dinput: Vec<T>,
    drecurrent: Vec<T>,
}

/// What an engine asks of a cell's arithmetic; every [`Pointwise`] has it.
pub trait KernelOf<T: Real>: Send + Sync {
    /// What the engine must provide room for.
    fn traits(&self) -> Traits;
    /// One thread's rows through all steps.
    fn forward_rows(&self, cpu: Cpu, rows: ForwardRows<'_, T>);
    /// And back.
    fn backward_rows(&self, cpu: Cpu, rows: BackwardRows<'_, T>);
}

/// The constants of a [`Pointwise`].
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// [`Pointwise::GATES`]
    pub gates: usize,
    /// [`Pointwise::CARRY`]
    pub carry: bool,
    /// [`Pointwise::EXTRA`]
    pub extra: bool,
    /// [`Pointwise::TWO_SIDED`]
    pub two_sided: bool,
}

/// A cell's arithmetic for both types.
pub trait Kernel: KernelOf<f32> + KernelOf<f64> {}

impl<P: Pointwise + Send> Kernel for P {}

impl<T: Real, P: Pointwise + Send> KernelOf<T> for P {
    fn traits(&self) -> Traits {
        Traits { gates: P::GATES, carry: P::CARRY, extra: P::EXTRA, two_sided: P::TWO_SIDED }
    }

    fn forward_rows(&self, cpu: Cpu, rows: ForwardRows<'_, T>) {
        forward_rows::<T, P>(cpu, rows);
    }

    fn backward_rows(&self, cpu: Cpu, rows: BackwardRows<'_, T>) {
        backward_rows::<T, P>(cpu, rows);
    }
}

/// `xs [N, T, D]` and a state give `hs [N, T, H]`, the next state, and the tape if it is kept.
///
/// # Panics
/// Where a slice does not have the size that `dims` gives it.
#[allow(clippy::too_many_arguments)] // The contract's own list: what goes in, what comes out, and whose memory.
pub fn forward<T: Real>(
    kernel: &dyn KernelOf<T>,
    dims: Dims,
    params: &Params<'_, T>,
    (xs, state): (&[T], State<'_, T>),
    (hs, next): (&mut [T], StateMut<'_, T>),
    keep: Keep,
    tape: &mut Tape<T>,
    scratch: &mut Scratch<T>,
) {
    ran(Way::Fused);
    let cpu = dispatch::cpu();
    let Traits { gates, carry, extra, .. } = kernel.traits();
    let Dims { batch, time, input, hidden } = dims;
    let (sums, carried) = (gates * hidden, if carry { hidden } else { 0 });
    assert_eq!((xs.len(), hs.len()), (batch * time * input, batch * time * hidden), "xs and hs of {dims:?}");
    assert_eq!((state.h.len(), state.c.len()), (batch * hidden, batch * carried), "the state of {dims:?}");
    assert_eq!((next.h.len(), next.c.len()), (batch * hidden, batch * carried), "the next state of {dims:?}");

    let kept = if keep == Keep::Tape { 1 } else { 0 };
    tape.dims = dims;
    resize(&mut tape.gates, batch * time * sums);
    resize(&mut tape.extra, kept * batch * time * if extra { hidden } else { 0 });
    resize(&mut tape.h_before, kept * batch * time * hidden);
    resize(&mut tape.c_before, kept * batch * time * carried);
    resize(&mut scratch.sums, batch * sums);

    scratch.input.pack_transposed(cpu, params.weight_ih, input, sums);
    packed_product(cpu, &mut tape.gates, xs, &scratch.input, Into::Set);
    scratch.recurrent.pack_transposed(cpu, params.weight_hh, hidden, sums);

    next.c.copy_from_slice(state.c);
    let share = share(batch);
    let shares = batch.div_ceil(share);
    let mut gates = split(&mut tape.gates, shares, share * time * sums);
    let mut extra = split(&mut tape.extra, shares, share * time * hidden);
    let mut h_before = split(&mut tape.h_before, shares, share * time * hidden);
    let mut c_before = split(&mut tape.c_before, shares, share * time * hidden);
    let mut recurrent = split(&mut scratch.sums, shares, share * sums);
    let mut hs_shares = split(hs, shares, share * time * hidden);
    let mut c = split(next.c, shares, share * hidden);
    let mut jobs = Vec::with_capacity(shares);
    for (i, h) in state.h.chunks(share * hidden).enumerate() {
        jobs.push(ForwardRows {
            dims: Dims { batch: h.len() / hidden, ..dims },
            bias_ih: params.bias_ih,
            bias_hh: params.bias_hh,
            weight_hh: &scratch.recurrent,
            h,
            c: std::mem::take(&mut c[i]),
            gates: std::mem::take(&mut gates[i]),
            extra: std::mem::take(&mut extra[i]),
            h_before: std::mem::take(&mut h_before[i]),
            c_before: std::mem::take(&mut c_before[i]),
            recurrent: std::mem::take(&mut recurrent[i]),
            hs: std::mem::take(&mut hs_shares[i]),
        });
    }
    jobs.into_par_iter().for_each(|job| kernel.forward_rows(cpu, job));
    for (last, rows) in next.h.chunks_exact_mut(hidden).zip(hs.chunks_exact(time * hidden)) {
        last.copy_from_slice(&rows[(time - 1) * hidden..]);
    }
}

/// The gradients of a window, from `dhs [N, T, H]` and that of the next state, which `dstate` holds when it comes in;
/// when it goes out it is the gradient of the initial state. Without `dxs` the input's gradient is not computed.
///
/// # Panics
/// Where a slice does not have the size that the tape's window gives it, or the tape was not kept.
#[allow(clippy::too_many_arguments)] // As for `forward`.
pub fn backward<T: Real>(
    kernel: &dyn KernelOf<T>,
    tape: &Tape<T>,
    params: &Params<'_, T>,
    (xs, dhs): (&[T], &[T]),
    dstate: &mut StateMut<'_, T>,
    grads: &mut ParamGrads<'_, T>,
    dxs: Option<&mut [T]>,
    scratch: &mut Scratch<T>,
) {
    ran(Way::Fused);
    let cpu = dispatch::cpu();
    let Traits { gates, carry, two_sided, .. } = kernel.traits();
    let dims @ Dims { batch, time, input, hidden } = tape.dims;
    let (sums, steps) = (gates * hidden, batch * time);
    assert_eq!(tape.h_before.len(), steps * hidden, "a tape that was kept");
    assert_eq!((xs.len(), dhs.len()), (steps * input, steps * hidden), "xs and dhs of {dims:?}");
    let carried = if carry { hidden } else { 0 };
    assert_eq!((dstate.h.len(), dstate.c.len()), (batch * hidden, batch * carried), "dstate of {dims:?}");

    resize(&mut scratch.dinput, steps * sums);
    resize(&mut scratch.drecurrent, if two_sided { steps * sums } else { 0 });
    scratch.recurrent.pack(cpu, params.weight_hh, sums, hidden);

    let share = share(batch);
    let shares = batch.div_ceil(share);
    let mut dinput = split(&mut scratch.dinput, shares, share * time * sums);
    let mut drecurrent = split(&mut scratch.drecurrent, shares, share * time * sums);
    let mut dh = split(dstate.h, shares, share * hidden);
    let mut dc = split(dstate.c, shares, share * hidden);
    let mut jobs = Vec::with_capacity(shares);
    for (i, dhs) in dhs.chunks(share * time * hidden).enumerate() {
        let rows = dhs.len() / (time * hidden);
        let of = |buffer: &'_ [T], width: usize| {
            let range = i * share * width..(i * share + rows) * width;
            if buffer.is_empty() { 0..0 } else { range }
        };
        jobs.push(BackwardRows {
            dims: Dims { batch: rows, ..dims },
            weight_hh: &scratch.recurrent,
            gates: &tape.gates[of(&tape.gates, time * sums)],
            extra: &tape.extra[of(&tape.extra, time * hidden)],
            h_before: &tape.h_before[of(&tape.h_before, time * hidden)],
            c_before: &tape.c_before[of(&tape.c_before, time * hidden)],
            dhs,
            dh: std::mem::take(&mut dh[i]),
            dc: std::mem::take(&mut dc[i]),
            dinput: std::mem::take(&mut dinput[i]),
            drecurrent: std::mem::take(&mut drecurrent[i]),
        });
    }
    jobs.into_par_iter().for_each(|job| kernel.backward_rows(cpu, job));

    let dinput = scratch.dinput.as_slice();
    let drecurrent = if two_sided { scratch.drecurrent.as_slice() } else { dinput };
    gemm(grads.weight_ih, Mat::new(dinput, steps, sums).t(), Mat::new(xs, steps, input), grads.into);
    gemm(
        grads.weight_hh,
        Mat::new(drecurrent, steps, sums).t(),
        Mat::new(&tape.h_before, steps, hidden),
        grads.into,
    );
    for (bias, rows) in [(&mut grads.bias_ih, dinput), (&mut grads.bias_hh, drecurrent)] {
        if let Some(bias) = bias {
            column_sums(bias, rows, grads.into);
        }
    }
    if let Some(dxs) = dxs {
        assert_eq!(dxs.len(), steps * input, "dxs of {dims:?}");
        scratch.input.pack(cpu, params.weight_ih, sums, input);
        packed_product(cpu, dxs, dinput, &scratch.input, Into::Set);
    }
}

/// `out (+)=` the sum of the rows, each as wide as `out`, in their order.
pub fn column_sums<T: Real>(out: &mut [T], rows: &[T], into: Into) {
    if into == Into::Set {
        out.fill(T::ZERO);
    }
    for row in rows.chunks_exact(out.len()) {
        for (sum, &value) in out.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

/// Rows that one thread takes.
fn share(batch: usize) -> usize {
    batch.div_ceil(rayon::current_num_threads()).max(1)
}

/// Sets the length; what stands there afterwards is of no importance, but it is never uninitialised.
pub fn resize<T: Real>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() != len {
        buffer.resize(len, T::ZERO);
    }
}

/// `shares` pieces of `size` each, the last one shorter where it does not come out even; all empty where there is none.
fn split<T>(buffer: &mut [T], shares: usize, size: usize) -> Vec<&mut [T]> {
    let mut pieces: Vec<_> = if size == 0 { Vec::new() } else { buffer.chunks_mut(size).collect() };
    pieces.resize_with(shares, Default::default);
    pieces
}
