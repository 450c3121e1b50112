//! One member's part of a window, through all of its steps: the time loop of the fused way, there and back.
//!
//! A part is some rows of the batch with all units, or all rows with some units. The members with parts of the first
//! kind never meet. Those of the second read each other's hidden states, so they meet once a step. Either way an
//! element of a product is the same sum, and has the same bits.

use super::cpu::Dims;
use super::step::{Step, StepBack, backward_step, forward_step};
use crate::kernels::Real;
use crate::kernels::dispatch::{Cpu, Instructions, Task, run};
use crate::kernels::pointwise::{MAX_GATES, Pointwise};
use crate::kernels::product::{Block, Columns, Into, Left, Lines, Mat, Packing, Room, depths, grown, pack};
use crate::kernels::share::{Shared, prefetch};
use crate::kernels::simd::Register;
use crate::kernels::team::Member;
use std::marker::PhantomData;
use std::ops::Range;

/// How a window is cut into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Each member has rows of the batch.
    Rows,
    /// Each member has units.
    Units,
}

impl Cut {
    /// A member's rows and units.
    #[inline(always)]
    fn part<I: Instructions, T: Real>(
        self,
        member: &Member<'_>,
        dims: &Dims,
    ) -> (Range<usize>, Range<usize>) {
        match self {
            Self::Rows => (member.share(dims.batch, 1), 0..dims.hidden),
            Self::Units => (0..dims.batch, member.share(dims.hidden, I::Register::<T>::WIDTH)),
        }
    }

    /// Where the members of a step wait for what each other wrote.
    #[inline(always)]
    fn meet(self, member: &Member<'_>) {
        if self == Self::Units {
            member.meet();
        }
    }
}

/// What the members read and write in a forward.
pub struct ForwardWindow<'a, T> {
    pub(super) dims: Dims,
    pub(super) cut: Cut,
    /// `[G*H, H]`
    pub(super) weight_hh: &'a [T],
    pub(super) bias_hh: Option<&'a [T]>,
    /// Initial hidden state `[N, H]`.
    pub(super) h: &'a [T],
    /// In: the initial c `[N, H]`; out: the last one. Empty without a carry.
    pub(super) c: Shared<'a, T>,
    /// In: the input halves of the gate sums `[N, T, G*H]`, with their bias; out: activations.
    pub(super) gates: Shared<'a, T>,
    /// `[N, T, H]`, or empty where nothing is kept; so is the next.
    pub(super) extra: Shared<'a, T>,
    pub(super) c_before: Shared<'a, T>,
    /// Room for the recurrent product of a step `[N, G*H]`; empty where it is added to the input halves.
    pub(super) recurrent: Shared<'a, T>,
    /// Out: `[N, T, H]`.
    pub(super) hs: Shared<'a, T>,
}

impl<'a, T: Copy> ForwardWindow<'a, T> {
    /// Where step t's recurrent product goes, from row to row, and what it meets there: added to the input halves where
    /// a cell has no other use for it.
    #[inline(always)]
    pub(super) fn sums(
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

    /// The hidden states that step t begins with. Nobody writes to them any more: they are this member's rows, or all
    /// members have met since.
    #[inline(always)]
    fn before(&self, t: usize) -> Lines<'a, T> {
        let Dims { time, hidden, .. } = self.dims;
        match t.checked_sub(1) {
            None => Lines::new(self.h, 0, hidden),
            // SAFETY: as said above.
            #[allow(unsafe_code)]
            Some(before) => unsafe { Lines::shared(self.hs, before * hidden, time * hidden) },
        }
    }
}

pub(super) fn forward<T: Real, P: Pointwise>(
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
    fn run<I: Instructions>(self, instructions: I) {
        let Self { cpu, window, member, room, .. } = self;
        let Dims { time, hidden, .. } = window.dims;
        let sums = P::GATES * hidden;
        let (rows, units) = window.cut.part::<I, T>(&member, &window.dims);
        let weight = Mat::new(window.weight_hh, sums, hidden).t();
        let columns = Columns::of_units(units.clone(), hidden, P::GATES);
        let packed = grown(&mut room.panels, columns.packed_len::<I::Register<T>>(hidden));
        pack_all::<I, T>(instructions, packed, weight, rows.len(), &columns);
        for t in 0..time {
            let (out, stride, into) = window.sums(t, (P::GATES, P::TWO_SIDED));
            let product = StepProduct {
                left: window.before(t),
                rows: rows.clone(),
                depth: hidden,
                packed,
                out,
                stride,
                columns: &columns,
                backwards: false,
            };
            product.run::<I>(cpu, into);
            pointwise::<I, T, P>(window, t, &rows, &units);
            window.cut.meet(&member);
        }
    }
}

/// From the gate sums of some rows and units at step t to their next state.
#[inline(always)]
fn pointwise<I: Instructions, T: Real, P: Pointwise>(
    window: &ForwardWindow<'_, T>,
    t: usize,
    rows: &Range<usize>,
    units: &Range<usize>,
) {
    let Dims { time, hidden, .. } = window.dims;
    let before = window.before(t);
    let mut biases = [&[] as &[T]; MAX_GATES];
    if let Some(bias) = window.bias_hh {
        for (g, slot) in biases.iter_mut().enumerate().take(P::GATES) {
            *slot = &bias[g * hidden + units.start..g * hidden + units.end];
        }
    }
    for row in rows.clone() {
        let step = row * time + t;
        let of = |i: usize| i * hidden + units.start..i * hidden + units.end;
        // The next row's numbers stand far away, where no CPU would look for them by itself.
        let next = if row + 1 < rows.end { step + time } else { rows.start * time + t + 1 };
        for g in 0..P::GATES {
            window.gates.prefetch(of(next * P::GATES + g));
        }
        for buffer in [&window.hs, &window.extra, &window.c_before] {
            buffer.prefetch(of(next));
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
                before: &before.line(row, hidden)[units.clone()],
                c: write_some(&window.c, of(row)),
                c_before: write_some(&window.c_before, of(step)),
                extra: write_some(&window.extra, of(step)),
                h: window.hs.write(of(step)),
            }
        };
        forward_step::<I, T, P>(step, &biases);
    }
}

/// One step of a window of one step, whose gate sums are there.
pub(super) fn step<T: Real, P: Pointwise>(cpu: Cpu, window: &ForwardWindow<'_, T>, units: Range<usize>) {
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
        pointwise::<I, T, P>(self.window, 0, &(0..self.window.dims.batch), &self.units);
    }
}

/// What the members read and write in a backward.
pub struct BackwardWindow<'a, T> {
    pub(super) dims: Dims,
    pub(super) cut: Cut,
    /// `[G*H, H]`
    pub(super) weight_hh: &'a [T],
    /// Initial hidden state `[N, H]`.
    pub(super) h: &'a [T],
    /// Outputs of the forward `[N, T, H]`.
    pub(super) hs: &'a [T],
    /// `[N, T, H]`, or empty where the cell has none; so is the next.
    pub(super) extra: &'a [T],
    pub(super) c_before: &'a [T],
    /// Gradients of the outputs `[N, T, H]`.
    pub(super) dhs: &'a [T],
    /// Activations `[N, T, G*H]`; empty where they stand in `gates`.
    pub(super) saved: &'a [T],
    /// Out: the gradients of the input halves of the gate sums, `[N, T, G*H]`.
    pub(super) gates: Shared<'a, T>,
    /// Out: the gradients of the recurrent halves, empty where they are the same.
    pub(super) drecurrent: Shared<'a, T>,
    /// In: the gradient of the next state's h `[N, H]`; out: of the initial state's.
    pub(super) dh: Shared<'a, T>,
    /// The same for c; empty without a carry.
    pub(super) dc: Shared<'a, T>,
}

pub(super) fn backward<T: Real, P: Pointwise>(
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
    fn run<I: Instructions>(self, instructions: I) {
        let Self { cpu, window, member, room, .. } = self;
        let Dims { time, hidden, .. } = window.dims;
        let sums = P::GATES * hidden;
        let (rows, units) = window.cut.part::<I, T>(&member, &window.dims);
        let weight = Mat::new(window.weight_hh, sums, hidden);
        let columns = Columns::from(units.clone());
        let packed = grown(&mut room.panels, columns.packed_len::<I::Register<T>>(sums));
        pack_all::<I, T>(instructions, packed, weight, rows.len(), &columns);
        for t in (0..time).rev() {
            for row in rows.clone() {
                let step = row * time + t;
                let of = |i: usize| i * hidden + units.start..i * hidden + units.end;
                // As in the forward, where the next row's numbers stand far away.
                let next =
                    if row + 1 < rows.end { step + time } else { (rows.start * time + t).saturating_sub(1) };
                for g in 0..P::GATES {
                    window.gates.prefetch(of(next * P::GATES + g));
                    window.drecurrent.prefetch(of(next * P::GATES + g));
                }
                for buffer in [window.dhs, window.extra, window.c_before, window.hs] {
                    prefetch(buffer, of(next));
                }
                let before = if t == 0 { &window.h[of(row)] } else { &window.hs[of(step - 1)] };
                let mut saved = [&[] as &[T]; MAX_GATES];
                for (g, saved) in saved.iter_mut().enumerate().take(P::GATES) {
                    *saved = window.saved.get(of(step * P::GATES + g)).unwrap_or_default();
                }
                // SAFETY: places of this member's row and units, which no other touches, each in a buffer of its own.
                #[allow(unsafe_code)]
                let step = unsafe {
                    let mut gates = [&mut [] as &mut [T], &mut [], &mut [], &mut []];
                    let mut drecurrent = [&mut [] as &mut [T], &mut [], &mut [], &mut []];
                    for (g, (gate, other)) in gates.iter_mut().zip(&mut drecurrent).enumerate().take(P::GATES)
                    {
                        *gate = window.gates.write(of(step * P::GATES + g));
                        *other = write_some(&window.drecurrent, of(step * P::GATES + g));
                    }
                    StepBack {
                        saved,
                        gates,
                        drecurrent,
                        before,
                        extra: window.extra.get(of(step)).unwrap_or_default(),
                        c_before: window.c_before.get(of(step)).unwrap_or_default(),
                        dhs: &window.dhs[of(step)],
                        dh: window.dh.write(of(row)),
                        dc: write_some(&window.dc, of(row)),
                    }
                };
                backward_step::<I, T, P>(step);
            }
            window.cut.meet(&member);
            let gradients = if P::TWO_SIDED { window.drecurrent } else { window.gates };
            let product = StepProduct {
                // SAFETY: this member's rows, or all after a meeting, of a step that nobody writes to any more.
                #[allow(unsafe_code)]
                left: unsafe { Lines::shared(gradients, t * sums, time * sums) },
                rows: rows.clone(),
                depth: sums,
                packed,
                out: window.dh,
                stride: hidden,
                columns: &columns,
                backwards: false,
            };
            product.run::<I>(cpu, Into::Add);
        }
    }
}

/// A step's rows times recurrent weights that [`pack_all`] packed.
pub(super) struct StepProduct<'a, T> {
    pub(super) left: Lines<'a, T>,
    pub(super) rows: Range<usize>,
    pub(super) depth: usize,
    pub(super) packed: &'a [T],
    /// Nobody else uses these rows and columns of it meanwhile.
    pub(super) out: Shared<'a, T>,
    pub(super) stride: usize,
    pub(super) columns: &'a Columns,
    /// As in a block.
    pub(super) backwards: bool,
}

impl<T: Real> StepProduct<'_, T> {
    #[inline(always)]
    pub(super) fn run<I: Instructions>(self, cpu: Cpu, into: Into<'_, T>) {
        let Self { left, rows, depth, packed, out, stride, columns, backwards } = self;
        let mut rest = packed;
        for (i, piece) in depths(depth).enumerate() {
            let (panels, behind) = rest.split_at(columns.packed_len::<I::Register<T>>(piece.len()));
            rest = behind;
            let block = Block {
                left: Left::Lines(left.from(piece.start)),
                rows: rows.clone(),
                depth: piece.len(),
                panels,
                packing: Packing::of(rows.len()),
                out,
                stride,
                columns: columns.clone(),
                backwards,
                into: if i == 0 { into } else { Into::Add },
            };
            // Not inlined: one copy of the product serves all cells.
            run(cpu, block);
        }
    }
}

/// Packs some columns of a matrix for so many rows, piece by piece of its depth; `to` has
/// [`Columns::packed_len`].
#[inline(always)]
pub(super) fn pack_all<I: Instructions, T: Real>(
    instructions: I,
    to: &mut [T],
    matrix: Mat<'_, T>,
    rows: usize,
    columns: &Columns,
) {
    let mut rest = to;
    let (depth, _) = matrix.shape();
    for piece in depths(depth) {
        let (panels, behind) = rest.split_at_mut(columns.packed_len::<I::Register<T>>(piece.len()));
        rest = behind;
        pack::<I, T>(instructions, panels, matrix, piece, (columns, Packing::of(rows)));
    }
}

/// As [`Shared::write`], or nothing of a buffer that is empty.
///
/// # Safety
/// That of [`Shared::write`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn write_some<'a, T>(buffer: &Shared<'a, T>, range: Range<usize>) -> &'a mut [T] {
    // SAFETY: as the caller promises.
    if buffer.is_empty() { &mut [] } else { unsafe { buffer.write(range) } }
}
