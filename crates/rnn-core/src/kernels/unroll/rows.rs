//! One thread's rows of the batch through all steps of a window: the time loop of the fused way, there and back.

use crate::kernels::dispatch::{Cpu, Instructions, Task, run};
use crate::kernels::matmul::{Into, Packed, RowProduct};
use crate::kernels::pointwise::{MAX_GATES, Pointwise, Tape};
use crate::kernels::{Real, Vector};
use std::marker::PhantomData;

/// The sizes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dims {
    /// N
    pub batch: usize,
    /// T
    pub time: usize,
    /// D
    pub input: usize,
    /// H
    pub hidden: usize,
}

/// What the forward of some rows reads and writes; `dims.batch` is the number of these rows.
pub struct ForwardRows<'a, T> {
    pub(super) dims: Dims,
    pub(super) bias_ih: Option<&'a [T]>,
    pub(super) bias_hh: Option<&'a [T]>,
    /// `W_hh^T`, packed.
    pub(super) weight_hh: &'a Packed<T>,
    /// Initial hidden state `[N, H]`.
    pub(super) h: &'a [T],
    /// In: the initial c `[N, H]`; out: the last one. Empty without a carry.
    pub(super) c: &'a mut [T],
    /// In: input products `[N, T, G*H]`; out: activations.
    pub(super) gates: &'a mut [T],
    /// `[N, T, H]`, or empty where nothing is kept; so are the next two.
    pub(super) extra: &'a mut [T],
    pub(super) h_before: &'a mut [T],
    pub(super) c_before: &'a mut [T],
    /// Room for the recurrent product of a step `[N, G*H]`.
    pub(super) recurrent: &'a mut [T],
    /// Out: `[N, T, H]`.
    pub(super) hs: &'a mut [T],
}

pub(super) fn forward_rows<T: Real, P: Pointwise>(cpu: Cpu, rows: ForwardRows<'_, T>) {
    run(cpu, Forward::<T, P>(rows, PhantomData));
}

struct Forward<'a, T, P>(ForwardRows<'a, T>, PhantomData<P>);

impl<T: Real, P: Pointwise> Task for Forward<'_, T, P> {
    #[inline(always)]
    fn run<I: Instructions>(self, instructions: I) {
        let ForwardRows { dims, weight_hh, h, recurrent, .. } = self.0;
        let ForwardRows { bias_ih, bias_hh, c, gates, extra, h_before, c_before, hs, .. } = self.0;
        let Dims { batch, time, hidden, .. } = dims;
        let sums = P::GATES * hidden;
        for t in 0..time {
            let (a, a_stride) = if t == 0 { (h, hidden) } else { (&hs[(t - 1) * hidden..], time * hidden) };
            let out = &mut *recurrent;
            RowProduct {
                out,
                out_stride: sums,
                a,
                a_stride,
                rows: batch,
                packed: weight_hh,
                into: Into::Set,
            }
            .run(instructions);
            for row in 0..batch {
                let step = row * time + t;
                let (before, now) = hs[row * time * hidden..][..time * hidden].split_at_mut(t * hidden);
                let before = if t == 0 { &h[row * hidden..][..hidden] } else { &before[(t - 1) * hidden..] };
                let c = part_mut(c, row, hidden);
                if let Some(kept) = h_before.get_mut(step * hidden..(step + 1) * hidden) {
                    kept.copy_from_slice(before);
                    part_mut(c_before, step, hidden).copy_from_slice(c);
                }
                forward_step::<I, T, P>(Step {
                    gates: &mut gates[step * sums..][..sums],
                    recurrent: &recurrent[row * sums..][..sums],
                    biases: (bias_ih, bias_hh),
                    before,
                    c,
                    extra: part_mut(extra, step, hidden),
                    h: &mut now[..hidden],
                });
            }
        }
    }
}

/// One row at one step, the arguments of [`forward_step`]: slices of `[G*H]` or `[H]`, empty where not wanted.
struct Step<'a, T> {
    gates: &'a mut [T],
    recurrent: &'a [T],
    biases: (Option<&'a [T]>, Option<&'a [T]>),
    before: &'a [T],
    c: &'a mut [T],
    extra: &'a mut [T],
    h: &'a mut [T],
}

#[inline(always)]
fn forward_step<I: Instructions, T: Real, P: Pointwise>(step: Step<'_, T>) {
    let hidden = step.before.len();
    let mut from = 0;
    while from < hidden {
        let to = hidden.min(from + I::Lanes::<T>::WIDTH);
        let lanes = from..to;
        let gate = |slice: &[T], g: usize| I::Lanes::<T>::load(&slice[g * hidden + from..g * hidden + to]);
        let mut input = [I::Lanes::<T>::zero(); MAX_GATES];
        let mut recurrent = input;
        for g in 0..P::GATES {
            input[g] = gate(step.gates, g);
            recurrent[g] = gate(step.recurrent, g);
            if let Some(bias) = step.biases.0 {
                input[g] = input[g] + gate(bias, g);
            }
            if let Some(bias) = step.biases.1 {
                recurrent[g] = recurrent[g] + gate(bias, g);
            }
        }
        let before = I::Lanes::<T>::load(&step.before[lanes.clone()]);
        let c = if P::CARRY { I::Lanes::<T>::load(&step.c[lanes.clone()]) } else { before };
        let next = P::forward(input, recurrent, before, c);
        for g in 0..P::GATES {
            next.gates[g].store(&mut step.gates[g * hidden + from..g * hidden + to]);
        }
        if P::EXTRA && !step.extra.is_empty() {
            next.extra.store(&mut step.extra[lanes.clone()]);
        }
        if P::CARRY {
            next.c.store(&mut step.c[lanes.clone()]);
        }
        next.h.store(&mut step.h[lanes]);
        from = to;
    }
}

/// What the backward of some rows reads and writes.
pub struct BackwardRows<'a, T> {
    pub(super) dims: Dims,
    /// `W_hh`, packed.
    pub(super) weight_hh: &'a Packed<T>,
    /// Activations `[N, T, G*H]`.
    pub(super) gates: &'a [T],
    /// `[N, T, H]`, or empty where the cell has none; so are the next two.
    pub(super) extra: &'a [T],
    pub(super) h_before: &'a [T],
    pub(super) c_before: &'a [T],
    /// Gradients of the outputs `[N, T, H]`.
    pub(super) dhs: &'a [T],
    /// In: the gradient of the next state's h `[N, H]`; out: of the initial state's.
    pub(super) dh: &'a mut [T],
    /// The same for c; empty without a carry.
    pub(super) dc: &'a mut [T],
    /// Out: gate gradients `[N, T, G*H]`; the second is empty where the halves agree.
    pub(super) dinput: &'a mut [T],
    pub(super) drecurrent: &'a mut [T],
}

pub(super) fn backward_rows<T: Real, P: Pointwise>(cpu: Cpu, rows: BackwardRows<'_, T>) {
    run(cpu, Backward::<T, P>(rows, PhantomData));
}

struct Backward<'a, T, P>(BackwardRows<'a, T>, PhantomData<P>);

impl<T: Real, P: Pointwise> Task for Backward<'_, T, P> {
    #[inline(always)]
    fn run<I: Instructions>(self, instructions: I) {
        let BackwardRows { dims, weight_hh, gates, extra, h_before, c_before, dhs, .. } = self.0;
        let BackwardRows { dh, dc, dinput, drecurrent, .. } = self.0;
        let Dims { batch, time, hidden, .. } = dims;
        let sums = P::GATES * hidden;
        for t in (0..time).rev() {
            for row in 0..batch {
                let step = row * time + t;
                backward_step::<I, T, P>(StepBack {
                    gates: &gates[step * sums..][..sums],
                    extra: part(extra, step, hidden),
                    h_before: part(h_before, step, hidden),
                    c_before: part(c_before, step, hidden),
                    dhs: &dhs[step * hidden..][..hidden],
                    dh: &mut dh[row * hidden..][..hidden],
                    dc: part_mut(dc, row, hidden),
                    dinput: &mut dinput[step * sums..][..sums],
                    drecurrent: part_mut(drecurrent, step, sums),
                });
            }
            let gradients = if P::TWO_SIDED { &*drecurrent } else { &*dinput };
            let (a, a_stride, out) = (&gradients[t * sums..], time * sums, &mut *dh);
            RowProduct {
                out,
                out_stride: hidden,
                a,
                a_stride,
                rows: batch,
                packed: weight_hh,
                into: Into::Add,
            }
            .run(instructions);
        }
    }
}

/// One row at one step, the arguments of [`backward_step`].
struct StepBack<'a, T> {
    gates: &'a [T],
    extra: &'a [T],
    h_before: &'a [T],
    c_before: &'a [T],
    dhs: &'a [T],
    dh: &'a mut [T],
    dc: &'a mut [T],
    dinput: &'a mut [T],
    drecurrent: &'a mut [T],
}

#[inline(always)]
fn backward_step<I: Instructions, T: Real, P: Pointwise>(step: StepBack<'_, T>) {
    let hidden = step.dh.len();
    let mut from = 0;
    while from < hidden {
        let to = hidden.min(from + I::Lanes::<T>::WIDTH);
        let lanes = from..to;
        let load = |slice: &[T]| I::Lanes::<T>::load(&slice[from..to]);
        let zero = I::Lanes::<T>::zero();
        let mut gates = [zero; MAX_GATES];
        for (g, gate) in gates.iter_mut().enumerate().take(P::GATES) {
            *gate = I::Lanes::<T>::load(&step.gates[g * hidden + from..g * hidden + to]);
        }
        let tape = Tape {
            gates,
            extra: if P::EXTRA { load(step.extra) } else { zero },
            h_before: load(step.h_before),
            c_before: if P::CARRY { load(step.c_before) } else { zero },
        };
        let dh = load(step.dh) + load(step.dhs);
        let dc = if P::CARRY { load(step.dc) } else { zero };
        let back = P::backward(&tape, dh, dc);
        for g in 0..P::GATES {
            let gate = g * hidden + from..g * hidden + to;
            back.input[g].store(&mut step.dinput[gate.clone()]);
            if P::TWO_SIDED {
                back.recurrent[g].store(&mut step.drecurrent[gate]);
            }
        }
        if P::CARRY {
            back.dc.store(&mut step.dc[lanes.clone()]);
        }
        back.dh.store(&mut step.dh[lanes]);
        from = to;
    }
}

/// Piece `i` of a buffer of pieces of `size`, or nothing of one that is empty.
#[inline(always)]
fn part<T>(buffer: &[T], i: usize, size: usize) -> &[T] {
    if buffer.is_empty() { buffer } else { &buffer[i * size..(i + 1) * size] }
}

/// As [`part`].
#[inline(always)]
fn part_mut<T>(buffer: &mut [T], i: usize, size: usize) -> &mut [T] {
    if buffer.is_empty() { buffer } else { &mut buffer[i * size..(i + 1) * size] }
}
