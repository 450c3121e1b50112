//! The fused way on the CPU: plain functions over slices, [`forward`] and [`backward`] of one layer over one window.
//!
//! The input product of all steps is one product. The members of the team then take their parts of the window through
//! all steps (`part/`), with the recurrent weights packed once. The reverse loop yields the gate gradients alone; the
//! products that make parameter gradients of them stand outside of it, one each for the whole window.
//!
//! The caller owns all memory: [`Tape`] and [`Scratch`] grow to the window's size once and are used again.

pub use super::part::Course;
use super::part::{BackwardWindow, Cut, ForwardWindow, GuidedBackward, GuidedForward};
use super::{Keep, Way, part as parts, ran};
use crate::kernels::Real;
use crate::kernels::dispatch::{self, Cpu};
use crate::kernels::pointwise::Pointwise;
use crate::kernels::product::{Into, Mat, Room, Rooms, WORTH_A_MEMBER, gradients, product};
use crate::kernels::profile::part;
use crate::kernels::share::Shared;
use crate::kernels::team::{self, Member, together};
use std::ops::Range;
use std::sync::PoisonError;

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
    /// P: H where nothing is projected.
    pub output: usize,
}

/// The parameters of a layer, row by row; a missing bias is `None`.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a, T> {
    /// `[G*H, D]`
    pub weight_ih: &'a [T],
    /// `[G*H, P]`
    pub weight_hh: &'a [T],
    /// `[G*H]`
    pub bias_ih: Option<&'a [T]>,
    /// `[G*H]`
    pub bias_hh: Option<&'a [T]>,
    /// `[P, H]`
    pub weight_hr: Option<&'a [T]>,
}

/// A layer as the kernels see it, and what steers its window.
#[derive(Clone, Copy)]
pub struct LayerOf<'a, T: Real> {
    /// The cell's arithmetic.
    pub kernel: &'static dyn KernelOf<T>,
    /// Its parameters.
    pub params: Params<'a, T>,
    /// The order of steps, and what acts between them.
    pub course: Course<'a, T>,
}

/// Where the gradients of the parameters go.
#[derive(Debug)]
pub struct ParamGrads<'a, T> {
    /// `[G*H, D]`
    pub weight_ih: &'a mut [T],
    /// `[G*H, P]`
    pub weight_hh: &'a mut [T],
    /// `[G*H]`
    pub bias_ih: Option<&'a mut [T]>,
    /// `[G*H]`
    pub bias_hh: Option<&'a mut [T]>,
    /// `[P, H]`
    pub weight_hr: Option<&'a mut [T]>,
    /// Whether they are added to what stands there, or replace it.
    pub add: bool,
}

impl<'a, T> ParamGrads<'a, T> {
    /// Those of the parameters that there are, in the order of [`crate::LayerParams::tensors`].
    pub fn in_order(params: &Params<'_, T>, slots: impl IntoIterator<Item = &'a mut [T]>, add: bool) -> Self {
        let mut slots = slots.into_iter();
        let mut slot = || slots.next().unwrap_or_default();
        Self {
            weight_ih: slot(),
            weight_hh: slot(),
            bias_ih: params.bias_ih.is_some().then(&mut slot),
            bias_hh: params.bias_hh.is_some().then(&mut slot),
            weight_hr: params.weight_hr.is_some().then(&mut slot),
            add,
        }
    }
}

/// A state to read: `h [N, P]`, and `c [N, H]` where the cell has one, else empty.
#[derive(Debug, Clone, Copy)]
pub struct State<'a, T> {
    /// `[N, P]`
    pub h: &'a [T],
    /// `[N, H]` or empty.
    pub c: &'a [T],
}

/// A state to write.
#[derive(Debug)]
pub struct StateMut<'a, T> {
    /// `[N, P]`
    pub h: &'a mut [T],
    /// `[N, H]` or empty.
    pub c: &'a mut [T],
}

/// What [`forward`] leaves for [`backward`].
#[derive(Debug, Clone, Default)]
pub struct Tape<T> {
    pub(super) dims: Dims,
    /// Activations `[N, T, G*H]`; a [`backward`] that need not keep them turns them into the gradients of the input
    /// halves of the gate sums.
    pub(super) gates: Vec<T>,
    /// `[N, T, H]`, or empty where the cell has none.
    pub(super) extra: Vec<T>,
    /// The initial hidden state `[N, P]`.
    pub(super) h: Vec<T>,
    /// The c before each step, `[N, T, H]` or empty.
    pub(super) c_before: Vec<T>,
    /// What was projected, `[N, T, H]`, or empty.
    pub(super) hidden: Vec<T>,
    /// Of a window that was steered: what the recurrent product took at each step, and the hidden state that each started
    /// with where that is another, `[N, T, P]`.
    pub(super) fed: Vec<T>,
    pub(super) before: Vec<T>,
    /// Whether there is something for a backward.
    pub(super) kept: bool,
}

/// Memory that nothing is read from before it is written.
#[derive(Debug, Default)]
pub struct Scratch<T> {
    /// What the members pack.
    pub rooms: Rooms<T>,
    /// Recurrent sums of one step, `[N, G*H]`, where they are not added to the input halves.
    sums: Vec<T>,
    /// Gradients of the input halves of the gate sums `[N, T, G*H]`, where they cannot take the activations' place.
    dinput: Vec<T>,
    /// Those of the recurrent halves, or empty where they are the same.
    drecurrent: Vec<T>,
    /// Of a window that was steered or projected: gradients of what the cell made `[N, T, P]` or `[N, P]`, of what was
    /// projected at a step `[N, H]`, and of what was fed at one `[N, P]`.
    made: Vec<T>,
    dhidden: Vec<T>,
    dfed: Vec<T>,
}

/// What an engine asks of a cell's arithmetic; every [`Pointwise`] has it.
pub trait KernelOf<T: Real>: Send + Sync {
    /// What the engine must provide room for.
    fn traits(&self) -> Traits;
    /// A member's part of a window through all steps.
    fn forward(&self, cpu: Cpu, window: &ForwardWindow<'_, T>, member: Member<'_>, room: &mut Room<T>);
    /// The one step of a window of one, whose gate sums are there, for some units of all rows.
    fn step(&self, cpu: Cpu, window: &ForwardWindow<'_, T>, units: Range<usize>);
    /// The part back.
    fn backward(&self, cpu: Cpu, window: &BackwardWindow<'_, T>, member: Member<'_>, room: &mut Room<T>);
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
    /// [`Pointwise::READS_H`]
    pub reads_h: bool,
}

/// A cell's arithmetic for both types.
pub trait Kernel: KernelOf<f32> + KernelOf<f64> {}

impl<P: Pointwise + Send> Kernel for P {}

impl<T: Real, P: Pointwise + Send> KernelOf<T> for P {
    fn traits(&self) -> Traits {
        let (gates, carry, extra) = (P::GATES, P::CARRY, P::EXTRA);
        Traits { gates, carry, extra, two_sided: P::TWO_SIDED, reads_h: P::READS_H }
    }

    fn forward(&self, cpu: Cpu, window: &ForwardWindow<'_, T>, member: Member<'_>, room: &mut Room<T>) {
        parts::forward::<T, P>(cpu, window, member, room);
    }

    fn step(&self, cpu: Cpu, window: &ForwardWindow<'_, T>, units: Range<usize>) {
        parts::step::<T, P>(cpu, window, units);
    }

    fn backward(&self, cpu: Cpu, window: &BackwardWindow<'_, T>, member: Member<'_>, room: &mut Room<T>) {
        parts::backward::<T, P>(cpu, window, member, room);
    }
}

/// `xs [N, T, D]` and a state give `hs [N, T, P]`, the next state, and the tape if it is kept.
///
/// # Panics
/// Where a slice does not have the size that `dims` gives it, or a cell that reads its hidden state is projected.
pub fn forward<T: Real>(
    LayerOf { kernel, params, course }: &LayerOf<'_, T>,
    dims: Dims,
    (xs, state): (&[T], State<'_, T>),
    (hs, next): (&mut [T], StateMut<'_, T>),
    keep: Keep,
    (tape, scratch): (&mut Tape<T>, &mut Scratch<T>),
) {
    ran(Way::Fused);
    let cpu = dispatch::cpu();
    let Traits { gates, carry, extra, two_sided, reads_h } = kernel.traits();
    let Dims { batch, time, input, hidden, output } = dims;
    let (sums, carried) = (gates * hidden, if carry { hidden } else { 0 });
    assert_eq!((xs.len(), hs.len()), (batch * time * input, batch * time * output), "xs and hs of {dims:?}");
    assert_eq!((state.h.len(), state.c.len()), (batch * output, batch * carried), "the state of {dims:?}");
    assert_eq!((next.h.len(), next.c.len()), (batch * output, batch * carried), "the next state of {dims:?}");
    assert!(if params.weight_hr.is_some() { !reads_h } else { output == hidden }, "a projection of {dims:?}");
    course.check(&dims);

    let kept = keep == Keep::Tape;
    let steered = !course.is_plain();
    let when = |condition: bool, size: usize| if condition { size } else { 0 };
    tape.dims = dims;
    tape.kept = kept;
    resize(&mut tape.gates, batch * time * sums);
    resize(&mut tape.extra, when(kept && extra, batch * time * hidden));
    resize(&mut tape.h, when(kept, batch * output));
    resize(&mut tape.c_before, when(kept, batch * time * carried));
    resize(&mut tape.hidden, when(params.weight_hr.is_some(), batch * time * hidden));
    resize(&mut tape.fed, when(steered, batch * time * output));
    resize(&mut tape.before, when(kept && reads_h && !course.mask.is_empty(), batch * time * output));
    resize(&mut scratch.sums, when(two_sided, batch * sums));
    if kept {
        tape.h.copy_from_slice(state.h);
    }

    let (xs, weight) = (Mat::new(xs, batch * time, input), Mat::new(params.weight_ih, sums, input).t());
    part("input product", batch * time * sums * input, || {
        let into = params.bias_ih.map_or(Into::Set, Into::Row);
        product(&mut tape.gates, xs, weight, into, &mut scratch.rooms);
    });

    next.c.copy_from_slice(state.c);
    let guided = steered.then(|| {
        next.h.copy_from_slice(state.h);
        GuidedForward {
            course: *course,
            h: Shared::new(next.h),
            fed: Shared::new(&mut tape.fed),
            before: Shared::new(&mut tape.before),
        }
    });
    let (cut, count) = cut::<T>(&dims, gates);
    let window = ForwardWindow {
        dims,
        cut,
        direction: course.direction,
        weight_hh: params.weight_hh,
        bias_hh: params.bias_hh,
        weight_hr: params.weight_hr.unwrap_or_default(),
        h: state.h,
        c: Shared::new(next.c),
        gates: Shared::new(&mut tape.gates),
        extra: Shared::new(&mut tape.extra),
        c_before: Shared::new(&mut tape.c_before),
        recurrent: Shared::new(&mut scratch.sums),
        hidden: Shared::new(&mut tape.hidden),
        hs: Shared::new(hs),
        guided,
    };
    let rooms = scratch.rooms.for_members(count);
    part("recurrence", batch * time * sums * output, || {
        together(count, &|member| {
            let mut room = rooms[member.index()].lock().unwrap_or_else(PoisonError::into_inner);
            kernel.forward(cpu, &window, member, &mut room);
        });
    });
    if !steered {
        let last = course.direction.step(time - 1, time) * output;
        for (h, rows) in next.h.chunks_exact_mut(output).zip(hs.chunks_exact(time * output)) {
            h.copy_from_slice(&rows[last..last + output]);
        }
    }
}

/// How a window is cut, and for how many members at most.
pub(super) fn cut<T>(dims: &Dims, gates: usize) -> (Cut, usize) {
    /// Weights that fit into a core's own cache, in bytes.
    const NEAR: usize = 1 << 20;
    /// Rows a member, below which the weights are read for too little.
    const FEW: usize = 4;
    /// Multiplications of a step between two meetings.
    const BETWEEN_MEETINGS: usize = 1 << 13;
    let weights = gates * dims.hidden * dims.output;
    let by_rows = team::size().min(dims.batch / FEW).min(dims.batch * dims.time * weights / WORTH_A_MEMBER);
    let by_units = team::size().min(dims.batch * weights / BETWEEN_MEETINGS);
    if by_rows >= by_units.max(1) && weights * size_of::<T>() <= NEAR {
        (Cut::Rows, by_rows)
    } else {
        (Cut::Units, by_units.max(1))
    }
}

/// The gradients of a window, from `dhs [N, T, P]` and that of the next state, which `dstate` holds when it comes in;
/// when it goes out it is the gradient of the initial state. `xs` and `hs` are those of the forward, whose tape is used
/// up unless it is to be kept; `hs` is not read where the window was steered. Without `dxs` the input's gradient is not
/// computed.
///
/// # Panics
/// Where a slice does not have the size that the tape's window gives it, or the tape was not kept.
#[allow(clippy::too_many_arguments)] // The contract's own list: what goes in, what comes out, and whose memory.
pub fn backward<T: Real>(
    LayerOf { kernel, params, course }: &LayerOf<'_, T>,
    (xs, hs, dhs): (&[T], &[T], &[T]),
    dstate: &mut StateMut<'_, T>,
    grads: &mut ParamGrads<'_, T>,
    dxs: Option<&mut [T]>,
    keep: Keep,
    (tape, scratch): (&mut Tape<T>, &mut Scratch<T>),
) {
    ran(Way::Fused);
    let cpu = dispatch::cpu();
    let Traits { gates, carry, two_sided, reads_h, .. } = kernel.traits();
    let dims @ Dims { batch, time, input, hidden, output } = tape.dims;
    let (sums, steps) = (gates * hidden, batch * time);
    let steered = !course.is_plain();
    assert!(tape.kept, "a tape that was kept, and not used up");
    tape.kept = keep == Keep::Tape;
    assert_eq!((xs.len(), dhs.len()), (steps * input, steps * output), "xs and dhs of {dims:?}");
    assert!(steered || hs.len() == steps * output, "hs of {dims:?}");
    assert_eq!(tape.fed.is_empty(), !steered, "the course of the tape's window");
    let carried = if carry { hidden } else { 0 };
    assert_eq!((dstate.h.len(), dstate.c.len()), (batch * output, batch * carried), "dstate of {dims:?}");
    course.check(&dims);

    let when = |condition: bool, size: usize| if condition { size } else { 0 };
    resize(&mut scratch.drecurrent, when(two_sided, steps * sums));
    let projected = params.weight_hr.is_some();
    resize(&mut scratch.made, if projected { steps * output } else { when(steered, batch * output) });
    resize(&mut scratch.dhidden, when(projected, batch * hidden));
    resize(&mut scratch.dfed, when(steered, batch * output));
    let (saved, dinput) = match keep {
        Keep::Nothing => (&[] as &[T], &mut tape.gates),
        Keep::Tape => {
            resize(&mut scratch.dinput, steps * sums);
            (tape.gates.as_slice(), &mut scratch.dinput)
        }
    };
    let guided = (steered || projected).then(|| GuidedBackward {
        course: *course,
        made: Shared::new(&mut scratch.made),
        made_of_all: projected,
        hidden: Shared::new(&mut scratch.dhidden),
        fed: Shared::new(&mut scratch.dfed),
        before: match reads_h {
            true if tape.before.is_empty() => &tape.fed,
            _ => &tape.before,
        },
    });
    let (cut, count) = cut::<T>(&dims, gates);
    let window = BackwardWindow {
        dims,
        cut,
        direction: course.direction,
        weight_hh: params.weight_hh,
        weight_hr: params.weight_hr.unwrap_or_default(),
        h: &tape.h,
        hs,
        extra: &tape.extra,
        c_before: &tape.c_before,
        dhs,
        saved,
        gates: Shared::new(dinput),
        drecurrent: Shared::new(&mut scratch.drecurrent),
        dh: Shared::new(dstate.h),
        dc: Shared::new(dstate.c),
        guided,
    };
    let rooms = scratch.rooms.for_members(count);
    part("recurrence, back", steps * sums * output, || {
        together(count, &|member| {
            let mut room = rooms[member.index()].lock().unwrap_or_else(PoisonError::into_inner);
            kernel.backward(cpu, &window, member, &mut room);
        });
    });

    let dinput = dinput.as_slice();
    let drecurrent = if two_sided { scratch.drecurrent.as_slice() } else { dinput };
    let (of_input, of_recurrent) = (Mat::new(dinput, steps, sums), Mat::new(drecurrent, steps, sums));
    let fed = if steered {
        Mat::new(&tape.fed, steps, output)
    } else {
        Mat::before(&tape.h, hs, output, (time, course.direction))
    };
    part("weight gradients", steps * sums * (input + output), || {
        let (rooms, add) = (&mut scratch.rooms, grads.add);
        let xs = Mat::new(xs, steps, input);
        gradients((grads.weight_ih, grads.bias_ih.as_deref_mut()), of_input, xs, add, rooms);
        gradients((grads.weight_hh, grads.bias_hh.as_deref_mut()), of_recurrent, fed, add, rooms);
        if let Some(weight_hr) = grads.weight_hr.as_deref_mut() {
            let made = Mat::new(&scratch.made, steps, output);
            gradients((weight_hr, None), made, Mat::new(&tape.hidden, steps, hidden), add, rooms);
        }
    });
    if let Some(dxs) = dxs {
        assert_eq!(dxs.len(), steps * input, "dxs of {dims:?}");
        let weight = Mat::new(params.weight_ih, sums, input);
        part("input gradient", steps * sums * input, || {
            product(dxs, of_input, weight, Into::Set, &mut scratch.rooms);
        });
    }
}

/// Sets the length; what stands there afterwards is of no importance, but it is never uninitialised.
pub fn resize<T: Real>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() != len {
        buffer.resize(len, T::ZERO);
    }
}
