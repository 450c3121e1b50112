//! The time loop there: for each step the recurrent product, the cell's arithmetic, and what stands between steps.

use super::guided::{GuidedForward, Settle, keep_of};
use super::norm::{Norm, Rows};
use super::{Cut, Packed, Part, Which, write_some};
use crate::convention::Direction;
use crate::kernels::Real;
use crate::kernels::dispatch::{Cpu, Instructions, Task, run};
use crate::kernels::pointwise::{Between, MAX_GATES, MAX_OWN, Pointwise, Reads, Stages};
use crate::kernels::product::{Columns, Lines, Mat, Room, Store};
use crate::kernels::share::Shared;
use crate::kernels::team::Member;
use crate::kernels::unroll::cpu::Dims;
use crate::kernels::unroll::kernel::{KernelOf, Traits};
use crate::kernels::unroll::slots::Params;
use crate::kernels::unroll::step::{Step, forward_step};
use std::marker::PhantomData;
use std::ops::Range;

/// What the members read and write in a forward.
pub struct ForwardWindow<'a, T> {
    pub(in super::super) dims: Dims,
    pub(in super::super) cut: Cut,
    pub(in super::super) direction: Direction,
    pub(in super::super) params: Params<'a, T>,
    /// What the cell has of its own, `[H]` each.
    pub(in super::super) own: [&'a [T]; MAX_OWN],
    /// Initial hidden state `[N, P]`.
    pub(in super::super) h: &'a [T],
    /// In: the initial c `[N, H]`; out: the last one. Empty without a carry.
    pub(in super::super) c: Shared<'a, T>,
    /// In: the input halves of the gate sums `[N, T, G*H]`, with their bias; out: activations.
    pub(in super::super) gates: Shared<'a, T>,
    /// `[N, T, H]`, or empty where nothing is kept; so is the next.
    pub(in super::super) extra: Shared<'a, T>,
    pub(in super::super) c_before: Shared<'a, T>,
    /// Room for the recurrent product of a step `[N, R*H]`; empty where it is added to the input halves right away.
    pub(in super::super) recurrent: Shared<'a, T>,
    /// Out: what stands between two stages, `[N, T, H]`; empty where there is one.
    pub(in super::super) between: Shared<'a, T>,
    /// Out: of each norm inside of a step what its backward needs, or empty: what the recurrent product became
    /// `[N, T, R*H]`, and a number for each row and step; then that of what stands between the stages.
    pub(in super::super) normed: Shared<'a, T>,
    pub(in super::super) scale: Shared<'a, T>,
    pub(in super::super) scale_between: Shared<'a, T>,
    /// Out: what is projected, `[N, T, H]`; empty where nothing is.
    pub(in super::super) hidden: Shared<'a, T>,
    /// Out: `[N, T, P]`.
    pub(in super::super) hs: Shared<'a, T>,
    /// What steers the window, if anything does.
    pub(in super::super) guided: Option<GuidedForward<'a, T>>,
}

impl<'a, T: Copy> ForwardWindow<'a, T> {
    /// Where step t's recurrent product ends, from row to row: in the input halves where a cell has no other use for it.
    #[inline(always)]
    pub(in super::super) fn sums(&self, t: usize, traits: &Traits) -> Rows<'a, T> {
        let Dims { time, hidden, .. } = self.dims;
        if traits.two_sided {
            Rows::dense(self.recurrent, traits.recurrent * hidden)
        } else {
            Rows::at(self.gates, (t, time), traits.gates * hidden)
        }
    }

    /// Where it is made, and what it meets there.
    #[inline(always)]
    pub(in super::super) fn product(&self, t: usize, traits: &Traits) -> (Rows<'a, T>, Store<'static, T>) {
        if traits.two_sided || !self.params.norm_hh.is_empty() {
            (Rows::dense(self.recurrent, traits.recurrent * self.dims.hidden), Store::Set)
        } else {
            (self.sums(t, traits), Store::Add)
        }
    }

    /// The norm of some rows of step t's recurrent product, which takes it to where it ends.
    #[inline(always)]
    pub(in super::super) fn norm(&self, t: usize, rows: Range<usize>, traits: &Traits) -> Norm<'a, T> {
        let Dims { time, hidden, .. } = self.dims;
        let size = traits.recurrent * hidden;
        Norm {
            rows,
            size,
            values: Rows::dense(self.recurrent, size),
            gamma: self.params.norm_hh,
            bias: &[],
            normed: Rows::at(self.normed, (t, time), size),
            scale: Rows::at(self.scale, (t, time), 1),
            sums: (!traits.two_sided).then(|| self.sums(t, traits)),
            absent: self.guided.as_ref().map(|guided| (guided.course, t)),
        }
    }

    /// The norm of some rows of what stands between the stages at step t.
    #[inline(always)]
    pub(in super::super) fn norm_between(&self, t: usize, rows: Range<usize>) -> Norm<'a, T> {
        let Dims { time, hidden, .. } = self.dims;
        Norm {
            rows,
            size: hidden,
            values: Rows::at(self.between, (t, time), hidden),
            gamma: &[],
            bias: &[],
            normed: Rows::dense(Shared::new(&mut []), hidden),
            scale: Rows::at(self.scale_between, (t, time), 1),
            sums: None,
            absent: self.guided.as_ref().map(|guided| (guided.course, t)),
        }
    }

    /// Where the product of what stands between the stages at step t goes: to the sum of the last gate.
    #[inline(always)]
    pub(in super::super) fn last_gate(&self, t: usize, traits: &Traits) -> Rows<'a, T> {
        let Dims { time, hidden, .. } = self.dims;
        let sums = Rows::at(self.gates, (t, time), traits.gates * hidden);
        Rows { start: sums.start + (traits.gates - 1) * hidden, ..sums }
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

    /// Where the last stage's results go: what is given out, or what is projected to that.
    #[inline(always)]
    fn made(&self) -> Shared<'a, T> {
        if self.hidden.is_empty() { self.hs } else { self.hidden }
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

/// A member's part of a window through all of its steps.
pub(in crate::kernels) struct Forward<'a, T: Real> {
    pub(in super::super) cpu: Cpu,
    pub(in super::super) kernel: &'a dyn KernelOf<T>,
    pub(in super::super) window: &'a ForwardWindow<'a, T>,
    pub(in super::super) member: Member<'a>,
    pub(in super::super) room: &'a mut Room<T>,
}

impl<T: Real> Task for Forward<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { cpu, kernel, window, member, room: Room { panels, projection, between, .. } } = self;
        let Dims { time, hidden, output, .. } = window.dims;
        let traits = &kernel.traits();
        let part = window.cut.part::<I, T>(&member, &window.dims);
        let count = part.rows.len();
        let matrix = Mat::new(window.params.weight_hh, traits.recurrent * hidden, output).t();
        let columns = Columns::of_units(part.units.clone(), hidden, traits.recurrent);
        let recurrent = Packed::new::<I>(cpu, panels, matrix, columns, count);
        let projection = (!window.params.weight_hr.is_empty()).then(|| {
            let matrix = Mat::new(window.params.weight_hr, output, hidden).t();
            Packed::new::<I>(cpu, projection, matrix, part.outputs.clone().into(), count)
        });
        let between = (traits.between == Some(Between::Product)).then(|| {
            let matrix = Mat::new(window.params.weight_hn, hidden, hidden).t();
            Packed::new::<I>(cpu, between, matrix, part.units.clone().into(), count)
        });
        let whole_rows = |norm: Norm<'_, T>| {
            window.cut.meet(&member);
            run(cpu, Norm { rows: window.cut.rows(&member, &part), ..norm });
            window.cut.meet(&member);
        };
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
            let (to, store) = window.product(t, traits);
            recurrent.times(cpu, (window.fed(s), rows.clone()), to, store);
            if !window.params.norm_hh.is_empty() {
                whole_rows(window.norm(t, 0..0, traits));
            }
            if traits.between.is_some() {
                kernel.stage(cpu, window, (s, t), &part, Which::First);
            }
            if traits.between == Some(Between::Norm) {
                whole_rows(window.norm_between(t, 0..0));
            }
            if let Some(between) = &between {
                window.cut.meet(&member);
                // SAFETY: this member's rows, or all have met since they were written.
                #[allow(unsafe_code)]
                let left = unsafe { Lines::shared(window.between, t * hidden, time * hidden) };
                between.times(cpu, (left, rows.clone()), window.last_gate(t, traits), Store::Add);
            }
            kernel.stage(cpu, window, (s, t), &part, Which::Last);
            if let Some(projection) = &projection {
                window.cut.meet(&member);
                // SAFETY: this member's rows, or all have met since they were written.
                #[allow(unsafe_code)]
                let left = unsafe { Lines::shared(window.hidden, t * hidden, time * hidden) };
                let to = Rows::at(window.hs, (t, time), output);
                projection.times(cpu, (left, rows), to, Store::Set);
            }
            settle(Some(t), window.step(Some(s + 1)));
            window.cut.meet(&member);
        }
    }
}

/// A stage of cell C: from the gate sums of some rows and units at step t, which is number s, to what it makes of them.
pub(in super::super) fn stage<T: Real, C: Stages>(
    cpu: Cpu,
    window: &ForwardWindow<'_, T>,
    at: (usize, usize),
    part: &Part,
    which: Which,
) {
    if which == Which::Last {
        run(cpu, Stage::<T, C, C::Last, true> { window, at, part, stage: PhantomData });
    } else if C::BETWEEN.is_some() {
        run(cpu, Stage::<T, C, C::First, false> { window, at, part, stage: PhantomData });
    }
}

/// Stage P of cell C: its last one, or the first of two.
struct Stage<'a, T, C, P, const LAST: bool> {
    window: &'a ForwardWindow<'a, T>,
    at: (usize, usize),
    part: &'a Part,
    stage: PhantomData<(C, P)>,
}

impl<T: Real, C: Stages, P: Pointwise, const LAST: bool> Task for Stage<'_, T, C, P, LAST> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { window, at: (s, t), part: Part { rows, units, .. }, .. } = self;
        let traits = const { Traits::of::<C>() };
        // The number of its first gate, and where its results go.
        let (first, made) = if LAST { (traits.first, window.made()) } else { (0, window.between) };
        let Dims { time, hidden, .. } = window.dims;
        let of = |i: usize| i * hidden + units.start..i * hidden + units.end;
        let before = if P::READS == Reads::Fed { window.fed(s) } else { window.before(s) };
        let mut biases = [&[] as &[T]; MAX_GATES];
        for (g, slot) in (first..).zip(biases.iter_mut()).take(P::GATES) {
            let (bias, g) = match g.checked_sub(traits.recurrent) {
                None => (window.params.bias_hh, g),
                Some(g) => (window.params.bias_hn, g),
            };
            *slot = bias.get(of(g)).unwrap_or_default();
        }
        let mut own = [&[] as &[T]; MAX_OWN];
        for (slot, own) in own.iter_mut().zip(window.own).take(P::OWN) {
            *slot = &own[units.clone()];
        }
        let after = window.step(Some(s + 1)).unwrap_or(t);
        for row in rows.clone() {
            let step = row * time + t;
            // The next row's numbers stand far away, where no CPU would look for them by itself.
            let next = if row + 1 < rows.end { step + time } else { rows.start * time + after };
            for g in 0..P::GATES {
                window.gates.prefetch(of(next * traits.gates + first + g));
            }
            for buffer in [&made, &window.extra, &window.c_before] {
                buffer.prefetch(of(next));
            }
            let mut keep_c = &[] as &[T];
            if let Some(GuidedForward { course, .. }) = &window.guided {
                keep_c = keep_of(course.keep_c, hidden, step, units.clone());
                if !course.active(row, t) {
                    if !LAST || !window.hidden.is_empty() {
                        // What goes on into a product has to be a number, for that product with a gradient of zero.
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
                    *gate = window.gates.write(of(step * traits.gates + first + g));
                    if P::TWO_SIDED {
                        *sum = window.recurrent.read(of(row * traits.recurrent + first + g));
                    }
                }
                Step {
                    gates,
                    recurrent,
                    read: match P::READS {
                        Reads::Nothing => &[],
                        Reads::Hidden | Reads::Fed => before.from(units.start).line(row, units.len()),
                        Reads::Between => window.between.read(of(step)),
                    },
                    own,
                    c: write_some(&window.c, of(row)),
                    keep_c,
                    c_before: write_some(&window.c_before, of(step)),
                    extra: write_some(&window.extra, of(step)),
                    made: made.write(of(step)),
                }
            };
            forward_step::<I, T, P>(step, &biases);
        }
    }
}
