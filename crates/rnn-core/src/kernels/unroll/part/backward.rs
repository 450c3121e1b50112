//! The time loop back: for each step the cell's arithmetic in reverse, then the product that takes its gate gradients to
//! the step before. It yields the gate gradients alone; parameters' gradients are products over the whole window.

use super::guided::{GuidedBackward, Unfeed, Unsettle, keep_of};
use super::{Cut, Packed, Part, write_some};
use crate::convention::Direction;
use crate::kernels::Real;
use crate::kernels::dispatch::{Cpu, Instructions, Task, run};
use crate::kernels::pointwise::{MAX_GATES, Pointwise};
use crate::kernels::product::{Into, Lines, Mat, Room};
use crate::kernels::share::{Shared, prefetch};
use crate::kernels::team::Member;
use crate::kernels::unroll::cpu::Dims;
use crate::kernels::unroll::step::{StepBack, backward_step};
use std::marker::PhantomData;

/// What the members read and write in a backward.
pub struct BackwardWindow<'a, T> {
    pub(in super::super) dims: Dims,
    pub(in super::super) cut: Cut,
    /// Of the forward.
    pub(in super::super) direction: Direction,
    /// `[G*H, P]`
    pub(in super::super) weight_hh: &'a [T],
    /// `[P, H]`, or empty where nothing is projected.
    pub(in super::super) weight_hr: &'a [T],
    /// Initial hidden state `[N, P]`.
    pub(in super::super) h: &'a [T],
    /// Outputs of the forward `[N, T, P]`.
    pub(in super::super) hs: &'a [T],
    /// `[N, T, H]`, or empty where the cell has none; so is the next.
    pub(in super::super) extra: &'a [T],
    pub(in super::super) c_before: &'a [T],
    /// Gradients of the outputs `[N, T, P]`.
    pub(in super::super) dhs: &'a [T],
    /// Activations `[N, T, G*H]`; empty where they stand in `gates`.
    pub(in super::super) saved: &'a [T],
    /// Out: the gradients of the input halves of the gate sums, `[N, T, G*H]`.
    pub(in super::super) gates: Shared<'a, T>,
    /// Out: the gradients of the recurrent halves, empty where they are the same.
    pub(in super::super) drecurrent: Shared<'a, T>,
    /// In: the gradient of the next state's h `[N, P]`; out: of the initial state's.
    pub(in super::super) dh: Shared<'a, T>,
    /// The same for c `[N, H]`; empty without a carry.
    pub(in super::super) dc: Shared<'a, T>,
    /// What steered or projected the window, if anything did.
    pub(in super::super) guided: Option<GuidedBackward<'a, T>>,
}

pub(in super::super) fn backward<T: Real, P: Pointwise>(
    cpu: Cpu,
    window: &BackwardWindow<'_, T>,
    member: Member<'_>,
    room: &mut Room<T>,
) {
    run(cpu, Backward { cpu, window, member, room, cell: PhantomData::<P> });
}

struct Backward<'a, T, P> {
    cpu: Cpu,
    window: &'a BackwardWindow<'a, T>,
    member: Member<'a>,
    room: &'a mut Room<T>,
    cell: PhantomData<P>,
}

impl<T: Real, P: Pointwise> Task for Backward<'_, T, P> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { cpu, window, member, room: Room { panels, projection, .. }, .. } = self;
        let BackwardWindow { dims, guided, .. } = *window;
        let Dims { time, hidden, output, .. } = dims;
        let sums = P::GATES * hidden;
        let part = window.cut.part::<I, T>(&member, &window.dims);
        let count = part.rows.len();
        let matrix = Mat::new(window.weight_hh, sums, output);
        let recurrent = Packed::new::<I>(cpu, panels, matrix, part.outputs.clone().into(), count);
        let projection = (!window.weight_hr.is_empty()).then(|| {
            let matrix = Mat::new(window.weight_hr, output, hidden);
            Packed::new::<I>(cpu, projection, matrix, part.units.clone().into(), count)
        });
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
                    projection.times(cpu, (left, busy.rows.clone()), (guided.hidden, hidden), Into::Set);
                }
            }
            pointwise::<I, T, P>(window, (s, t), &part);
            window.cut.meet(&member);
            let gradients = if P::TWO_SIDED { window.drecurrent } else { window.gates };
            // SAFETY: this member's rows, or all after a meeting, of a step that nobody writes to any more.
            #[allow(unsafe_code)]
            let left = unsafe { Lines::shared(gradients, t * sums, time * sums) };
            match guided.filter(|guided| !guided.fed.is_empty()) {
                None => recurrent.times(cpu, (left, busy.rows), (window.dh, output), Into::Add),
                Some(guided) => {
                    recurrent.times(cpu, (left, busy.rows.clone()), (guided.fed, output), Into::Set);
                    let Part { rows, outputs, .. } = busy;
                    run(cpu, Unfeed { dims, guided, dh: window.dh, t, rows, outputs });
                }
            }
        }
    }
}

/// From the gradients of some rows' and units' state after step t, which was taken as number s, to those of the gate
/// sums and of the state before.
#[inline(always)]
fn pointwise<I: Instructions, T: Real, P: Pointwise>(
    window: &BackwardWindow<'_, T>,
    (s, t): (usize, usize),
    Part { rows, units, .. }: &Part,
) {
    let Dims { time, hidden, .. } = window.dims;
    let of = |i: usize| i * hidden + units.start..i * hidden + units.end;
    let earlier = s.checked_sub(1).map(|s| window.direction.step(s, time));
    for row in rows.clone() {
        let step = row * time + t;
        // As in the forward, where the next row's numbers stand far away.
        let next = if row + 1 < rows.end { step + time } else { rows.start * time + earlier.unwrap_or(t) };
        for g in 0..P::GATES {
            window.gates.prefetch(of(next * P::GATES + g));
            window.drecurrent.prefetch(of(next * P::GATES + g));
        }
        for buffer in [window.dhs, window.extra, window.c_before, window.hs] {
            prefetch(buffer, of(next));
        }
        // SAFETY: places of this member's row and units, which no other touches, each in a buffer of its own.
        #[allow(unsafe_code)]
        let (mut gates, mut drecurrent, dc) = unsafe {
            let mut gates = [&mut [] as &mut [T], &mut [], &mut [], &mut []];
            let mut drecurrent = [&mut [] as &mut [T], &mut [], &mut [], &mut []];
            for (g, (gate, other)) in gates.iter_mut().zip(&mut drecurrent).enumerate().take(P::GATES) {
                *gate = window.gates.write(of(step * P::GATES + g));
                *other = write_some(&window.drecurrent, of(step * P::GATES + g));
            }
            (gates, drecurrent, write_some(&window.dc, of(row)))
        };
        let mut saved = [&[] as &[T]; MAX_GATES];
        for (g, saved) in saved.iter_mut().enumerate().take(P::GATES) {
            *saved = window.saved.get(of(step * P::GATES + g)).unwrap_or_default();
        }
        let mut keep_c = &[] as &[T];
        if let Some(GuidedBackward { course, .. }) = &window.guided {
            if !course.active(row, t) {
                gates.iter_mut().chain(&mut drecurrent).for_each(|gate| gate.fill(T::ZERO));
                continue;
            }
            keep_c = keep_of(course.keep_c, hidden, step, units.clone());
        }
        // SAFETY: as above.
        #[allow(unsafe_code)]
        let (dhs, dh, whole) = unsafe {
            match &window.guided {
                None => (&window.dhs[of(step)], window.dh.write(of(row)), false),
                Some(guided) if guided.hidden.is_empty() => {
                    let made = guided.made.read(of(guided.made_row(row, t, time)));
                    (made, window.dh.write(of(row)), true)
                }
                // What a projection took has no other gradient.
                Some(guided) => (guided.hidden.read(of(row)), &mut [] as &mut [T], true),
            }
        };
        let before = match (&window.guided, earlier) {
            _ if !P::READS_H => &[],
            (Some(guided), _) => &guided.before[of(step)],
            (None, None) => &window.h[of(row)],
            (None, Some(earlier)) => &window.hs[of(row * time + earlier)],
        };
        let fresh = window.guided.is_some_and(|guided| guided.course.fresh(step));
        let step = StepBack {
            saved,
            gates,
            drecurrent,
            before,
            extra: window.extra.get(of(step)).unwrap_or_default(),
            c_before: window.c_before.get(of(step)).unwrap_or_default(),
            dhs,
            dh,
            whole,
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
