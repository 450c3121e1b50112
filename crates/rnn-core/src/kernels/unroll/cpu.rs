//! The fused way on the CPU: plain functions over slices, [`forward`] and [`backward`] of one layer over one window.
//!
//! The input product of all steps is one product. The members of the team then take their parts of the window through
//! all steps (`part/`), with the recurrent weights packed once. The reverse loop yields the gate gradients alone; the
//! products that make parameter gradients of them stand outside of it, one each for the whole window.
//!
//! The caller owns all memory: [`Tape`] and [`Scratch`] grow to the window's size once and are used again.

pub use super::kernel::{Kernel, KernelOf, Traits};
pub use super::memory::{Scratch, Tape, resize};
pub use super::part::Course;
use super::part::{
    Backward, BackwardWindow, Cut, Forward, ForwardWindow, GuidedBackward, GuidedForward, Norm, NormBack,
    Rows,
};
pub use super::slots::{ParamGrads, Params, Slots};
use super::{Keep, Way, ran};
use crate::kernels::Real;
use crate::kernels::dispatch;
use crate::kernels::pointwise::Between;
use crate::kernels::product::{Mat, Store, WORTH_A_MEMBER, column_sums, gradients, product};
use crate::kernels::profile::part;
use crate::kernels::share::Shared;
use crate::kernels::team::{self, together};
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

impl Dims {
    /// # Panics
    /// Where no memory has room for what belongs to these sizes: every product of them below is a number of elements.
    fn check(&self, traits: &Traits) {
        let &Self { batch, time, input, hidden, output } = self;
        let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
        let largest = input.max(hidden).max(output).max(1);
        let fits = product(&[batch.max(1), time.max(1), traits.gates, largest]).is_some()
            && product(&[traits.gates, hidden.max(1), largest]).is_some();
        assert!(fits, "a window of {self:?}");
    }
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

/// `xs [N, T, D]` and a state give `hs [N, T, P]`, the next state, and the tape if it is kept.
///
/// # Panics
/// Where a slice does not have the size that `dims` gives it, N or H is 0, T is 0 and nothing steers the window, or a cell
/// that reads its hidden state or what is fed is projected.
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
    let traits = kernel.traits();
    let Traits { gates, carry, extra, two_sided, reads_h, .. } = traits;
    let Dims { batch, time, input, hidden, output } = dims;
    dims.check(&traits);
    let (sums, carried) = (gates * hidden, if carry { hidden } else { 0 });
    let (steps, recurrent) = (batch * time, traits.recurrent * hidden);
    assert_eq!((xs.len(), hs.len()), (batch * time * input, batch * time * output), "xs and hs of {dims:?}");
    assert_eq!((state.h.len(), state.c.len()), (batch * output, batch * carried), "the state of {dims:?}");
    assert_eq!((next.h.len(), next.c.len()), (batch * output, batch * carried), "the next state of {dims:?}");
    let projected = !params.weight_hr.is_empty();
    check(params, &dims, &traits);
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
    resize(&mut tape.hidden, when(projected, batch * time * hidden));
    resize(&mut tape.fed, when(steered, batch * time * output));
    resize(&mut tape.before, when(kept && reads_h && !course.mask.is_empty(), batch * time * output));
    let normed = params.normed();
    let norms_between = traits.between == Some(Between::Norm);
    resize(&mut tape.between, when(traits.between.is_some(), steps * hidden));
    let [of_input, of_recurrent, of_between] = &mut tape.norms;
    of_input.resize(when(kept && normed, steps * sums), when(kept && normed, steps));
    of_recurrent.resize(when(kept && normed, steps * recurrent), when(kept && normed, steps));
    of_between.resize(0, when(kept && norms_between, steps));
    resize(&mut scratch.sums, when(two_sided || normed, batch * recurrent));
    if kept {
        tape.h.copy_from_slice(state.h);
    }

    let (xs, weight) = (Mat::new(xs, batch * time, input), Mat::new(params.weight_ih, sums, input).t());
    part("input product", batch * time * sums * input, || {
        product(&mut tape.gates, xs, weight, params.input_store(), &mut scratch.rooms);
    });
    if normed {
        let kept = (Shared::new(&mut of_input.rows), Shared::new(&mut of_input.scale));
        let norm = Norm::of_input(Shared::new(&mut tape.gates), sums, params, kept);
        of_all_rows(steps, sums, &|rows| (T::compiled().norm)(cpu, Norm { rows, ..norm }));
    }

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
        params: *params,
        own: params.own_of(hidden),
        h: state.h,
        c: Shared::new(next.c),
        gates: Shared::new(&mut tape.gates),
        extra: Shared::new(&mut tape.extra),
        c_before: Shared::new(&mut tape.c_before),
        recurrent: Shared::new(&mut scratch.sums),
        between: Shared::new(&mut tape.between),
        normed: Shared::new(&mut of_recurrent.rows),
        scale: Shared::new(&mut of_recurrent.scale),
        scale_between: Shared::new(&mut of_between.scale),
        hidden: Shared::new(&mut tape.hidden),
        hs: Shared::new(hs),
        guided,
    };
    let rooms = scratch.rooms.for_members(count);
    part("recurrence", batch * time * sums * output, || {
        together(count, &|member| {
            let mut room = rooms[member.index()].lock().unwrap_or_else(PoisonError::into_inner);
            let (kernel, window, room) = (*kernel, &window, &mut *room);
            (T::compiled().forward)(cpu, Forward { cpu, kernel, window, member, room });
        });
    });
    if !steered {
        let last = course.direction.step(time - 1, time) * output;
        for (h, rows) in next.h.chunks_exact_mut(output).zip(hs.chunks_exact(time * output)) {
            h.copy_from_slice(&rows[last..last + output]);
        }
    }
}

/// # Panics
/// Where a parameter does not have the size that `dims` gives it, or there is a projection of what is not projected.
pub(super) fn check<T>(params: &Params<'_, T>, dims: &Dims, traits: &Traits) {
    let Dims { hidden, output, .. } = *dims;
    let Traits { reads_h, reads_fed, .. } = *traits;
    let projected = !params.weight_hr.is_empty();
    assert!(if projected { !reads_h && !reads_fed } else { output == hidden }, "a projection of {dims:?}");
    let (sums, recurrent) = (traits.gates * hidden, traits.recurrent * hidden);
    let sizes = [
        ("bias_ih", params.bias_ih, sums),
        ("bias_hh", params.bias_hh, recurrent),
        ("norm_ih", params.norm_ih, sums),
        ("norm_hh", params.norm_hh, recurrent),
        ("bias_hn", params.bias_hn, hidden),
    ];
    for (name, numbers, size) in sizes {
        assert!([0, size].contains(&numbers.len()), "{name} [{size}], not [{}]", numbers.len());
    }
    assert_eq!(params.norm_ih.is_empty(), params.norm_hh.is_empty(), "norms of both products or of none");
    let own: usize = params.own.iter().map(|own| own.len()).sum();
    assert_eq!(own, traits.own * hidden, "the numbers of a cell's own");
}

/// Cuts rows among the team, for work that is a pass over them.
fn of_all_rows(rows: usize, size: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
    /// Numbers a member, below which it is not worth its waiting for.
    const WORTH: usize = 1 << 14;
    let count = team::size().min(rows * size / WORTH).max(1);
    together(count, &|member| work(member.share(rows, 1)));
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
/// Where a slice does not have the size that the tape's window gives it, the tape was not kept, something steers or
/// projects this window but not the tape's or the other way round, H is 0, or N or T is 0 and something steers the window.
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
    let traits = kernel.traits();
    let Traits { gates, carry, two_sided, reads_h, own, .. } = traits;
    let dims @ Dims { batch, time, input, hidden, output } = tape.dims;
    let (sums, recurrent, steps) = (gates * hidden, traits.recurrent * hidden, batch * time);
    let steered = !course.is_plain();
    assert!(tape.kept, "a tape that was kept, and not used up");
    tape.kept = keep == Keep::Tape;
    assert_eq!((xs.len(), dhs.len()), (steps * input, steps * output), "xs and dhs of {dims:?}");
    assert!(steered || hs.len() == steps * output, "hs of {dims:?}");
    assert_eq!(tape.fed.is_empty(), !steered, "the course of the tape's window");
    let carried = if carry { hidden } else { 0 };
    assert_eq!((dstate.h.len(), dstate.c.len()), (batch * output, batch * carried), "dstate of {dims:?}");
    // Members share the state's gradient by outputs where something projects, else by units.
    let projected = !params.weight_hr.is_empty();
    assert_eq!(tape.hidden.is_empty(), !projected, "the projection of the tape's window");
    check(params, &dims, &traits);
    course.check(&dims);

    let when = |condition: bool, size: usize| if condition { size } else { 0 };
    resize(&mut scratch.drecurrent, when(two_sided, steps * sums));
    let normed = params.normed();
    let [dproduct_ih, dproduct_hh] = &mut scratch.dproducts;
    resize(dproduct_ih, when(normed, steps * sums));
    resize(dproduct_hh, when(normed, steps * recurrent));
    resize(&mut scratch.dbetween, when(traits.between.is_some(), batch * hidden));
    resize(&mut scratch.terms, steps * own * hidden);
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
        was_fed: &tape.fed,
    });
    let [of_input, of_recurrent, of_between] = &tape.norms;
    let (cut, count) = cut::<T>(&dims, gates);
    let window = BackwardWindow {
        dims,
        cut,
        direction: course.direction,
        params: *params,
        own: params.own_of(hidden),
        h: &tape.h,
        hs,
        extra: &tape.extra,
        c_before: &tape.c_before,
        between: &tape.between,
        normed: &of_recurrent.rows,
        scale: &of_recurrent.scale,
        scale_between: &of_between.scale,
        dhs,
        saved,
        gates: Shared::new(dinput),
        drecurrent: Shared::new(&mut scratch.drecurrent),
        dproduct: Shared::new(dproduct_hh),
        dbetween: Shared::new(&mut scratch.dbetween),
        terms: Shared::new(&mut scratch.terms),
        dh: Shared::new(dstate.h),
        dc: Shared::new(dstate.c),
        guided,
    };
    let rooms = scratch.rooms.for_members(count);
    part("recurrence, back", steps * sums * output, || {
        together(count, &|member| {
            let mut room = rooms[member.index()].lock().unwrap_or_else(PoisonError::into_inner);
            let (kernel, window, room) = (*kernel, &window, &mut *room);
            (T::compiled().backward)(cpu, Backward { cpu, kernel, window, member, room });
        });
    });

    let dinput = dinput.as_mut_slice();
    if normed {
        dproduct_ih.copy_from_slice(dinput);
        let norm = NormBack {
            rows: 0..0,
            size: sums,
            given: None,
            gamma: params.norm_ih,
            out: Rows::dense(Shared::new(dproduct_ih), sums),
            normed: &of_input.rows,
            scale: &of_input.scale,
            step: (0, 1),
        };
        of_all_rows(steps, sums, &|rows| (T::compiled().norm_back)(cpu, NormBack { rows, ..norm }));
    }
    let dinput = &*dinput;
    let dsums = if two_sided { scratch.drecurrent.as_slice() } else { dinput };
    // Of the gate sums, and of the products where these are others.
    let (of_input_sums, of_sums) =
        (Mat::new(dinput, steps, sums), Mat::new(dsums, steps, sums).columns(0..recurrent));
    let of_input_product = if normed { Mat::new(dproduct_ih, steps, sums) } else { of_input_sums };
    let of_product = if normed { Mat::new(dproduct_hh, steps, recurrent) } else { of_sums };
    let fed = if steered {
        Mat::new(&tape.fed, steps, output)
    } else {
        Mat::before(&tape.h, hs, output, (time, course.direction))
    };
    part("weight gradients", steps * sums * (input + output), || {
        let (rooms, add, slots) = (&mut scratch.rooms, grads.add, &mut grads.slots);
        let xs = Mat::new(xs, steps, input);
        let of_products =
            if normed { [None, None] } else { [&mut slots.bias_ih, &mut slots.bias_hh].map(present) };
        let [bias_ih, bias_hh] = of_products;
        gradients((slots.weight_ih, bias_ih), of_input_product, xs, add, rooms);
        gradients((slots.weight_hh, bias_hh), of_product, fed, add, rooms);
        if projected {
            let made = Mat::new(&scratch.made, steps, output);
            gradients((slots.weight_hr, None), made, Mat::new(&tape.hidden, steps, hidden), add, rooms);
        }
        if traits.between == Some(Between::Product) {
            let of_last = of_input_sums.columns(recurrent..sums);
            let between = Mat::new(&tape.between, steps, hidden);
            gradients((slots.weight_hn, present(&mut slots.bias_hn)), of_last, between, add, rooms);
        }
        if normed {
            column_sums(slots.norm_ih, of_input_sums, Some(&of_input.rows), add);
            column_sums(slots.bias_ih, of_input_sums, None, add);
            column_sums(slots.norm_hh, of_sums, Some(&of_recurrent.rows), add);
            column_sums(slots.bias_hh, of_sums, None, add);
        }
        let mut from = 0;
        for slot in &mut slots.own {
            let to = from + slot.len();
            column_sums(slot, Mat::new(&scratch.terms, steps, own * hidden).columns(from..to), None, add);
            from = to;
        }
    });
    if let Some(dxs) = dxs {
        assert_eq!(dxs.len(), steps * input, "dxs of {dims:?}");
        let weight = Mat::new(params.weight_ih, sums, input);
        part("input gradient", steps * sums * input, || {
            product(dxs, of_input_product, weight, Store::Set, &mut scratch.rooms);
        });
    }
}

/// A gradient that is wanted.
fn present<'a, T>(slot: &'a mut &mut [T]) -> Option<&'a mut [T]> {
    (!slot.is_empty()).then_some(&mut **slot)
}
