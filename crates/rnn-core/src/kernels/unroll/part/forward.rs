//! The time loop there: for each step the recurrent product, the cell's arithmetic, and what stands between steps.

use super::guided::{GuidedForward, Settle, keep_of};
use super::{Cut, Packed, Part, write_some};
use crate::convention::Direction;
use crate::kernels::Real;
use crate::kernels::dispatch::{Cpu, Instructions, Task, run};
use crate::kernels::pointwise::{MAX_GATES, Pointwise};
use crate::kernels::product::{Columns, Into, Lines, Mat, Room};
use crate::kernels::share::Shared;
use crate::kernels::team::Member;
use crate::kernels::unroll::cpu::Dims;
use crate::kernels::unroll::step::{Step, forward_step};
use std::marker::PhantomData;
use std::ops::Range;

/// What the members read and write in a forward.
pub struct ForwardWindow<'a, T> {
    pub(in super::super) dims: Dims,
    pub(in super::super) cut: Cut,
    pub(in super::super) direction: Direction,
    /// `[G*H, P]`
    pub(in super::super) weight_hh: &'a [T],
    pub(in super::super) bias_hh: Option<&'a [T]>,
    /// `[P, H]`, or empty where nothing is projected.
    pub(in super::super) weight_hr: &'a [T],
    /// Initial hidden state `[N, P]`.
    pub(in super::super) h: &'a [T],
    /// In: the initial c `[N, H]`; out: the last one. Empty without a carry.
    pub(in super::super) c: Shared<'a, T>,
    /// In: the input halves of the gate sums `[N, T, G*H]`, with their bias; out: activations.
    pub(in super::super) gates: Shared<'a, T>,
    /// `[N, T, H]`, or empty where nothing is kept; so is the next.
    pub(in super::super) extra: Shared<'a, T>,
    pub(in super::super) c_before: Shared<'a, T>,
    /// Room for the recurrent product of a step `[N, G*H]`; empty where it is added to the input halves.
    pub(in super::super) recurrent: Shared<'a, T>,
    /// Out: what is projected, `[N, T, H]`; empty where nothing is.
    pub(in super::super) hidden: Shared<'a, T>,
    /// Out: `[N, T, P]`.
    pub(in super::super) hs: Shared<'a, T>,
    /// What steers the window, if anything does.
    pub(in super::super) guided: Option<GuidedForward<'a, T>>,
}

impl<'a, T: Copy> ForwardWindow<'a, T> {
    /// Where step t's recurrent product goes, from row to row, and what it meets there: added to the input halves where
    /// a cell has no other use for it.
    #[inline(always)]
    pub(in super::super) fn sums(
        &self,
        t: usize,
        (gates, two_sided): (usize, bool),
    ) -> (Shared<'a, T>, usize, Into<'static, T>) {
        let sums = gates * self.dims.hidden;
        if two_sided {
            (self.recurrent, sums, Into::Set)
        } else {
            (self.gates.from(t * sums), self.dims.time * sums, Into::Add)
        }
    }

    /// The step that is taken as number `s`, if there is one.
    #[inline(always)]
    fn step(&self, s: Option<usize>) -> Option<usize> {
        s.filter(|&s| s < self.dims.time).map(|s| self.direction.step(s, self.dims.time))
    }

    /// What the recurrent product takes at step number `s`. Nobody writes to it any more: these are this member's rows, or
    /// all members have met since.
    #[inline(always)]
    fn fed(&self, s: usize) -> Lines<'a, T> {
        let Dims { time, output, .. } = self.dims;
        // SAFETY: as said above.
        #[allow(unsafe_code)]
        let shared =
            |buffer: Shared<'a, T>, t: usize| unsafe { Lines::shared(buffer, t * output, time * output) };
        match (&self.guided, self.step(s.checked_sub(1))) {
            (Some(guided), _) => shared(guided.fed, self.direction.step(s, time)),
            (None, None) => Lines::new(self.h, 0, output),
            (None, Some(before)) => shared(self.hs, before),
        }
    }

    /// The hidden states that step number `s` starts with: of this member's rows and units.
    #[inline(always)]
    fn before(&self, s: usize) -> Lines<'a, T> {
        match &self.guided {
            // SAFETY: this member alone writes to its rows and units of it, and not while it reads them.
            #[allow(unsafe_code)]
            Some(guided) => unsafe { Lines::shared(guided.h, 0, self.dims.output) },
            None => self.fed(s),
        }
    }
}

pub(in super::super) fn forward<T: Real, P: Pointwise>(
    cpu: Cpu,
    window: &ForwardWindow<'_, T>,
    member: Member<'_>,
    room: &mut Room<T>,
) {
    run(cpu, Forward { cpu, window, member, room, cell: PhantomData::<P> });
}

struct Forward<'a, T, P> {
    cpu: Cpu,
    window: &'a ForwardWindow<'a, T>,
    member: Member<'a>,
    room: &'a mut Room<T>,
    cell: PhantomData<P>,
}

impl<T: Real, P: Pointwise> Task for Forward<'_, T, P> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { cpu, window, member, room: Room { panels, projection, .. }, .. } = self;
        let Dims { time, hidden, output, .. } = window.dims;
        let sums = P::GATES * hidden;
        let part = window.cut.part::<I, T>(&member, &window.dims);
        let count = part.rows.len();
        let matrix = Mat::new(window.weight_hh, sums, output).t();
        let columns = Columns::of_units(part.units.clone(), hidden, P::GATES);
        let recurrent = Packed::new::<I>(cpu, panels, matrix, columns, count);
        let projection = (!window.weight_hr.is_empty()).then(|| {
            let matrix = Mat::new(window.weight_hr, output, hidden).t();
            Packed::new::<I>(cpu, projection, matrix, part.outputs.clone().into(), count)
        });
        let settle = |t: Option<usize>, next: Option<usize>| {
            if let Some(guided) = window.guided {
                let Part { rows, outputs, .. } = part.clone();
                run(cpu, Settle { dims: window.dims, guided, hs: window.hs, t, next, rows, outputs });
            }
        };
        if window.guided.is_some() {
            settle(None, window.step(Some(0)));
            window.cut.meet(&member);
        }
        for s in 0..time {
            let t = window.direction.step(s, time);
            let rows = match &window.guided {
                Some(guided) => guided.course.busy(&part.rows, t),
                None => part.rows.clone(),
            };
            let (out, stride, into) = window.sums(t, (P::GATES, P::TWO_SIDED));
            recurrent.times(cpu, (window.fed(s), rows.clone()), (out, stride), into);
            pointwise::<I, T, P>(window, (s, t), &part);
            if let Some(projection) = &projection {
                window.cut.meet(&member);
                // SAFETY: this member's rows, or all have met since they were written.
                #[allow(unsafe_code)]
                let left = unsafe { Lines::shared(window.hidden, t * hidden, time * hidden) };
                let out = (window.hs.from(t * output), time * output);
                projection.times(cpu, (left, rows), out, Into::Set);
            }
            settle(Some(t), window.step(Some(s + 1)));
            window.cut.meet(&member);
        }
    }
}

/// From the gate sums of some rows and units at step t, which is number s, to their next state.
#[inline(always)]
fn pointwise<I: Instructions, T: Real, P: Pointwise>(
    window: &ForwardWindow<'_, T>,
    (s, t): (usize, usize),
    Part { rows, units, .. }: &Part,
) {
    let Dims { time, hidden, output, .. } = window.dims;
    let before = window.before(s);
    let made = if window.hidden.is_empty() { window.hs } else { window.hidden };
    let mut biases = [&[] as &[T]; MAX_GATES];
    if let Some(bias) = window.bias_hh {
        for (g, slot) in biases.iter_mut().enumerate().take(P::GATES) {
            *slot = &bias[g * hidden + units.start..g * hidden + units.end];
        }
    }
    let of = |i: usize| i * hidden + units.start..i * hidden + units.end;
    let after = window.step(Some(s + 1)).unwrap_or(t);
    for row in rows.clone() {
        let step = row * time + t;
        // The next row's numbers stand far away, where no CPU would look for them by itself.
        let next = if row + 1 < rows.end { step + time } else { rows.start * time + after };
        for g in 0..P::GATES {
            window.gates.prefetch(of(next * P::GATES + g));
        }
        for buffer in [&made, &window.extra, &window.c_before] {
            buffer.prefetch(of(next));
        }
        let mut keep_c = &[] as &[T];
        if let Some(GuidedForward { course, .. }) = &window.guided {
            keep_c = keep_of(course.keep_c, hidden, step, units.clone());
            if !course.active(row, t) {
                if !window.hidden.is_empty() {
                    // What is projected has to be a number, for its product with a gradient of zero.
                    // SAFETY: this member's row and units.
                    #[allow(unsafe_code)]
                    unsafe { made.write(of(step)) }.fill(T::ZERO);
                }
                continue;
            }
            if P::CARRY && course.fresh(step) {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                unsafe { window.c.write(of(row)) }.fill(T::ZERO);
            }
        }
        // SAFETY: places of this member's row and units, which no other touches, each in a buffer of its own.
        #[allow(unsafe_code)]
        let step = unsafe {
            let mut gates = [&mut [] as &mut [T], &mut [], &mut [], &mut []];
            let mut recurrent = [&[] as &[T]; MAX_GATES];
            for (g, (gate, sum)) in gates.iter_mut().zip(&mut recurrent).enumerate().take(P::GATES) {
                *gate = window.gates.write(of(step * P::GATES + g));
                if P::TWO_SIDED {
                    *sum = window.recurrent.read(of(row * P::GATES + g));
                }
            }
            Step {
                gates,
                recurrent,
                before: if P::READS_H { &before.line(row, output)[units.clone()] } else { &[] },
                c: write_some(&window.c, of(row)),
                keep_c,
                c_before: write_some(&window.c_before, of(step)),
                extra: write_some(&window.extra, of(step)),
                h: made.write(of(step)),
            }
        };
        forward_step::<I, T, P>(step, &biases);
    }
}

/// One step of a window of one step, whose gate sums are there.
pub(in super::super) fn step<T: Real, P: Pointwise>(
    cpu: Cpu,
    window: &ForwardWindow<'_, T>,
    units: Range<usize>,
) {
    run(cpu, LoneStep { window, units, cell: PhantomData::<P> });
}

struct LoneStep<'a, T, P> {
    window: &'a ForwardWindow<'a, T>,
    units: Range<usize>,
    cell: PhantomData<P>,
}

impl<T: Real, P: Pointwise> Task for LoneStep<'_, T, P> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let rows = 0..self.window.dims.batch;
        let part = Part { rows, outputs: self.units.clone(), units: self.units };
        pointwise::<I, T, P>(self.window, (0, 0), &part);
    }
}
