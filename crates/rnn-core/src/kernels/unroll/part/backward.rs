//! The time loop back: for each step the cell's arithmetic in reverse, then the product that takes its gate gradients to
//! the step before. It yields the gate gradients alone; parameters' gradients are products over the whole window.

use super::guided::{GuidedBackward, Unfeed, Unsettle, keep_of};
use super::norm::{NormBack, Rows};
use super::{Cut, Packed, Part, Which, write_some};
use crate::convention::Direction;
use crate::kernels::Real;
use crate::kernels::dispatch::{Cpu, Instructions, Task, run};
use crate::kernels::pointwise::{Between, MAX_GATES, MAX_OWN, Pointwise, Reads, Stages};
use crate::kernels::product::{Lines, Mat, Room, Store};
use crate::kernels::share::{Shared, prefetch};
use crate::kernels::team::Member;
use crate::kernels::unroll::cpu::Dims;
use crate::kernels::unroll::kernel::{KernelOf, Traits};
use crate::kernels::unroll::slots::Params;
use crate::kernels::unroll::step::{StepBack, backward_step};
use std::marker::PhantomData;

/// What the members read and write in a backward.
pub struct BackwardWindow<'a, T> {
    pub(in super::super) dims: Dims,
    pub(in super::super) cut: Cut,
    /// Of the forward.
    pub(in super::super) direction: Direction,
    pub(in super::super) params: Params<'a, T>,
    /// What the cell has of its own, `[H]` each.
    pub(in super::super) own: [&'a [T]; MAX_OWN],
    /// Initial hidden state `[N, P]`.
    pub(in super::super) h: &'a [T],
    /// Outputs of the forward `[N, T, P]`.
    pub(in super::super) hs: &'a [T],
    /// `[N, T, H]`, or empty where the cell has none; so is the next.
    pub(in super::super) extra: &'a [T],
    pub(in super::super) c_before: &'a [T],
    /// What stood between two stages, `[N, T, H]`; empty where there is one.
    pub(in super::super) between: &'a [T],
    /// What each norm inside of a step left: see the forward.
    pub(in super::super) normed: &'a [T],
    pub(in super::super) scale: &'a [T],
    pub(in super::super) scale_between: &'a [T],
    /// Gradients of the outputs `[N, T, P]`.
    pub(in super::super) dhs: &'a [T],
    /// Activations `[N, T, G*H]`; empty where they stand in `gates`.
    pub(in super::super) saved: &'a [T],
    /// Out: the gradients of the input halves of the gate sums, `[N, T, G*H]`.
    pub(in super::super) gates: Shared<'a, T>,
    /// Out: the gradients of the recurrent halves, empty where they are the same.
    pub(in super::super) drecurrent: Shared<'a, T>,
    /// Out: those of the recurrent product where it is normalised `[N, T, R*H]`; else empty.
    pub(in super::super) dproduct: Shared<'a, T>,
    /// Room for those of what stood between the stages at one step, `[N, H]`.
    pub(in super::super) dbetween: Shared<'a, T>,
    /// Out: what each row and step adds to the gradients of the cell's own, `[N, T, OWN*H]`.
    pub(in super::super) terms: Shared<'a, T>,
    /// In: the gradient of the next state's h `[N, P]`; out: of the initial state's.
    pub(in super::super) dh: Shared<'a, T>,
    /// The same for c `[N, H]`; empty without a carry.
    pub(in super::super) dc: Shared<'a, T>,
    /// What steered or projected the window, if anything did.
    pub(in super::super) guided: Option<GuidedBackward<'a, T>>,
}

impl<'a, T: Copy> BackwardWindow<'a, T> {
    /// The gradients of the recurrent halves of the gate sums at step t.
    #[inline(always)]
    fn dsums(&self, t: usize, traits: &Traits) -> Rows<'a, T> {
        let numbers = if traits.two_sided { self.drecurrent } else { self.gates };
        Rows::at(numbers, (t, self.dims.time), traits.gates * self.dims.hidden)
    }

    /// Those of the recurrent product.
    #[inline(always)]
    fn dproducts(&self, t: usize, traits: &Traits) -> Rows<'a, T> {
        match self.dproduct.is_empty() {
            true => self.dsums(t, traits),
            false => Rows::at(self.dproduct, (t, self.dims.time), traits.recurrent * self.dims.hidden),
        }
    }
}

/// A member's part of a window, back through all of its steps.
pub(in crate::kernels) struct Backward<'a, T: Real> {
    pub(in super::super) cpu: Cpu,
    pub(in super::super) kernel: &'a dyn KernelOf<T>,
    pub(in super::super) window: &'a BackwardWindow<'a, T>,
    pub(in super::super) member: Member<'a>,
    pub(in super::super) room: &'a mut Room<T>,
}

impl<T: Real> Task for Backward<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { cpu, kernel, window, member, room: Room { panels, projection, between, .. } } = self;
        let BackwardWindow { dims, guided, params, .. } = *window;
        let Dims { time, hidden, output, .. } = dims;
        let traits = &kernel.traits();
        let part = window.cut.part::<I, T>(&member, &window.dims);
        let count = part.rows.len();
        let matrix = Mat::new(params.weight_hh, traits.recurrent * hidden, output);
        let recurrent = Packed::new::<I>(cpu, panels, matrix, part.outputs.clone().into(), count);
        let projection = (!params.weight_hr.is_empty()).then(|| {
            let matrix = Mat::new(params.weight_hr, output, hidden);
            Packed::new::<I>(cpu, projection, matrix, part.units.clone().into(), count)
        });
        let between = (traits.between == Some(Between::Product)).then(|| {
            let matrix = Mat::new(params.weight_hn, hidden, hidden);
            Packed::new::<I>(cpu, between, matrix, part.units.clone().into(), count)
        });
        let whole_rows = |norm: NormBack<'_, T>| {
            window.cut.meet(&member);
            run(cpu, NormBack { rows: window.cut.rows(&member, &part), ..norm });
        };
        // The last one taken is the first one back.
        for s in (0..time).rev() {
            let t = window.direction.step(s, time);
            let mut busy = part.clone();
            if let Some(guided) = guided {
                busy.rows = guided.course.busy(&part.rows, t);
                let Part { rows, outputs, .. } = part.clone();
                run(cpu, Unsettle { dims, guided, dhs: window.dhs, dh: window.dh, t, rows, outputs });
                if let Some(projection) = &projection {
                    window.cut.meet(&member);
                    let (start, stride) =
                        (guided.made_row(0, t, time) * output, guided.made_row(1, 0, time) * output);
                    // SAFETY: this member's rows, or all have met since they were written.
                    #[allow(unsafe_code)]
                    let left = unsafe { Lines::shared(guided.made, start, stride) };
                    let to = Rows::dense(guided.hidden, hidden);
                    projection.times(cpu, (left, busy.rows.clone()), to, Store::Set);
                }
            }
            kernel.stage_back(cpu, window, (s, t), &part, Which::Last);
            if traits.between == Some(Between::Norm) {
                whole_rows(NormBack {
                    rows: 0..0,
                    size: hidden,
                    given: None,
                    gamma: &[],
                    out: Rows::dense(window.dbetween, hidden),
                    normed: window.between,
                    scale: window.scale_between,
                    step: (t, time),
                });
                window.cut.meet(&member);
            }
            if let Some(between) = &between {
                window.cut.meet(&member);
                let start = (t * traits.gates + traits.gates - 1) * hidden;
                // SAFETY: this member's rows, or all have met since they were written.
                #[allow(unsafe_code)]
                let left = unsafe { Lines::shared(window.gates, start, time * traits.gates * hidden) };
                let to = Rows::dense(window.dbetween, hidden);
                between.times(cpu, (left, busy.rows.clone()), to, Store::Set);
            }
            if traits.between.is_some() {
                kernel.stage_back(cpu, window, (s, t), &part, Which::First);
            }
            if !params.norm_hh.is_empty() {
                whole_rows(NormBack {
                    rows: 0..0,
                    size: traits.recurrent * hidden,
                    given: Some(window.dsums(t, traits)),
                    gamma: params.norm_hh,
                    out: window.dproducts(t, traits),
                    normed: window.normed,
                    scale: window.scale,
                    step: (t, time),
                });
            }
            window.cut.meet(&member);
            let Rows { numbers, start, stride } = window.dproducts(t, traits);
            // SAFETY: this member's rows, or all after a meeting, of a step that nobody writes to any more.
            #[allow(unsafe_code)]
            let left = unsafe { Lines::shared(numbers, start, stride) };
            match guided.filter(|guided| !guided.fed.is_empty()) {
                None => {
                    recurrent.times(cpu, (left, busy.rows), Rows::dense(window.dh, output), Store::Add);
                }
                Some(guided) => {
                    let store = if traits.reads_fed { Store::Add } else { Store::Set };
                    let to = Rows::dense(guided.fed, output);
                    recurrent.times(cpu, (left, busy.rows.clone()), to, store);
                    let Part { rows, outputs, .. } = busy;
                    run(cpu, Unfeed { dims, guided, dh: window.dh, t, rows, outputs });
                }
            }
        }
    }
}

/// A stage of cell C: from the gradients of what it made of some rows and units at step t, which was taken as number s, to
/// those of its gate sums and of what it read.
pub(in super::super) fn stage_back<T: Real, C: Stages>(
    cpu: Cpu,
    window: &BackwardWindow<'_, T>,
    at: (usize, usize),
    part: &Part,
    which: Which,
) {
    if which == Which::Last {
        run(cpu, StageBack::<T, C, C::Last, true> { window, at, part, stage: PhantomData });
    } else if C::BETWEEN.is_some() {
        run(cpu, StageBack::<T, C, C::First, false> { window, at, part, stage: PhantomData });
    }
}

/// Stage P of cell C: its last one, or the first of two.
struct StageBack<'a, T, C, P, const LAST: bool> {
    window: &'a BackwardWindow<'a, T>,
    at: (usize, usize),
    part: &'a Part,
    stage: PhantomData<(C, P)>,
}

impl<T: Real, C: Stages, P: Pointwise, const LAST: bool> Task for StageBack<'_, T, C, P, LAST> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { window, at: (s, t), part: Part { rows, units, .. }, .. } = self;
        let traits = const { Traits::of::<C>() };
        let first = if LAST { traits.first } else { 0 };
        let Dims { time, hidden, .. } = window.dims;
        let of = |i: usize| i * hidden + units.start..i * hidden + units.end;
        let earlier = s.checked_sub(1).map(|s| window.direction.step(s, time));
        for row in rows.clone() {
            let step = row * time + t;
            // As in the forward, where the next row's numbers stand far away.
            let next =
                if row + 1 < rows.end { step + time } else { rows.start * time + earlier.unwrap_or(t) };
            for g in 0..P::GATES {
                window.gates.prefetch(of(next * traits.gates + first + g));
                window.drecurrent.prefetch(of(next * traits.gates + first + g));
            }
            for buffer in [window.dhs, window.extra, window.c_before, window.hs] {
                prefetch(buffer, of(next));
            }
            // SAFETY: places of this member's row and units, which no other touches, each in a buffer of its own.
            #[allow(unsafe_code)]
            let (mut gates, mut drecurrent, mut terms, dc) = unsafe {
                let mut gates = [&mut [] as &mut [T], &mut [], &mut [], &mut []];
                let mut drecurrent = [&mut [] as &mut [T], &mut [], &mut [], &mut []];
                for (g, (gate, other)) in gates.iter_mut().zip(&mut drecurrent).enumerate().take(P::GATES) {
                    *gate = window.gates.write(of(step * traits.gates + first + g));
                    *other = write_some(&window.drecurrent, of(step * traits.gates + first + g));
                }
                let mut terms = [&mut [] as &mut [T], &mut [], &mut []];
                for (k, terms) in terms.iter_mut().enumerate().take(P::OWN) {
                    *terms = window.terms.write(of(step * P::OWN + k));
                }
                (gates, drecurrent, terms, write_some(&window.dc, of(row)))
            };
            let mut saved = [&[] as &[T]; MAX_GATES];
            for (g, saved) in saved.iter_mut().enumerate().take(P::GATES) {
                *saved = window.saved.get(of(step * traits.gates + first + g)).unwrap_or_default();
            }
            let mut own = [&[] as &[T]; MAX_OWN];
            for (slot, own) in own.iter_mut().zip(window.own).take(P::OWN) {
                *slot = &own[units.clone()];
            }
            let mut keep_c = &[] as &[T];
            if let Some(GuidedBackward { course, .. }) = &window.guided {
                if !course.active(row, t) {
                    let made = gates.iter_mut().chain(&mut drecurrent).chain(&mut terms);
                    made.for_each(|gradients| gradients.fill(T::ZERO));
                    if P::READS == Reads::Between {
                        // SAFETY: as above.
                        #[allow(unsafe_code)]
                        unsafe { window.dbetween.write(of(row)) }.fill(T::ZERO);
                    }
                    continue;
                }
                keep_c = keep_of(course.keep_c, hidden, step, units.clone());
            }
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let (dmade, dh, whole) = unsafe {
                match &window.guided {
                    // What stood between the stages has no other gradient.
                    guided if !LAST => {
                        let passes = P::READS == Reads::Fed && guided.is_none();
                        let dh = if passes { window.dh.write(of(row)) } else { &mut [] as &mut [T] };
                        (window.dbetween.read(of(row)), dh, true)
                    }
                    None => (&window.dhs[of(step)], window.dh.write(of(row)), false),
                    Some(guided) if guided.hidden.is_empty() => {
                        let made = guided.made.read(of(guided.made_row(row, t, time)));
                        (made, window.dh.write(of(row)), true)
                    }
                    // What a projection took has no other gradient.
                    Some(guided) => (guided.hidden.read(of(row)), &mut [] as &mut [T], true),
                }
            };
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let dread = unsafe {
                match (P::READS, &window.guided) {
                    (Reads::Between, _) => window.dbetween.write(of(row)),
                    (Reads::Fed, Some(guided)) => write_some(&guided.fed, of(row)),
                    _ => &mut [] as &mut [T],
                }
            };
            let read = match (P::READS, &window.guided, earlier) {
                (Reads::Nothing, ..) => &[],
                (Reads::Between, ..) => &window.between[of(step)],
                (Reads::Hidden, Some(guided), _) => &guided.before[of(step)],
                (Reads::Fed, Some(guided), _) => &guided.was_fed[of(step)],
                (_, None, None) => &window.h[of(row)],
                (_, None, Some(earlier)) => &window.hs[of(row * time + earlier)],
            };
            let fresh = window.guided.is_some_and(|guided| guided.course.fresh(step));
            let step = StepBack {
                saved,
                gates,
                drecurrent,
                read,
                own,
                extra: window.extra.get(of(step)).unwrap_or_default(),
                c_before: window.c_before.get(of(step)).unwrap_or_default(),
                dmade,
                dh,
                whole,
                dread,
                terms,
                dc,
                keep_c,
            };
            backward_step::<I, T, P>(step);
            if P::CARRY && fresh {
                // SAFETY: as above; the step is over.
                #[allow(unsafe_code)]
                unsafe { window.dc.write(of(row)) }.fill(T::ZERO);
            }
        }
    }
}
