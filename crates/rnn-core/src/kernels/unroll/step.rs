//! One row at one step: a cell's arithmetic over some of its units, there and back, vector by vector.

use crate::kernels::dispatch::Instructions;
use crate::kernels::pointwise::{MAX_GATES, Pointwise, Tape};
use crate::kernels::{Real, Vector};
use std::ops::Range;

/// One row at one step, the arguments of [`forward_step`]: its units, or nothing where a cell has none or nothing is
/// kept.
pub(super) struct Step<'a, T> {
    pub(super) gates: [&'a mut [T]; MAX_GATES],
    /// Recurrent halves of the gate sums; empty where `gates` has them in it.
    pub(super) recurrent: [&'a [T]; MAX_GATES],
    /// The hidden state before, for a cell that reads it.
    pub(super) before: &'a [T],
    pub(super) c: &'a mut [T],
    /// What c keeps of the one before.
    pub(super) keep_c: &'a [T],
    pub(super) c_before: &'a mut [T],
    pub(super) extra: &'a mut [T],
    pub(super) h: &'a mut [T],
}

impl<T: Real> Step<'_, T> {
    #[inline(always)]
    fn load<V: Vector<Elem = T>, P: Pointwise>(
        &self,
        lanes: &Range<usize>,
        biases: &[&[T]; MAX_GATES],
    ) -> Loaded<V> {
        let mut loaded = Loaded {
            input: [V::zero(); MAX_GATES],
            recurrent: [V::zero(); MAX_GATES],
            before: V::zero(),
            c: V::zero(),
        };
        if P::READS_H {
            loaded.before = V::load(&self.before[lanes.clone()]);
        }
        for (g, bias) in biases.iter().enumerate().take(P::GATES) {
            loaded.input[g] = V::load(&self.gates[g][lanes.clone()]);
            if P::TWO_SIDED {
                loaded.recurrent[g] = V::load(&self.recurrent[g][lanes.clone()]);
            }
            if !bias.is_empty() {
                loaded.recurrent[g] = loaded.recurrent[g] + V::load(&bias[lanes.clone()]);
            }
        }
        if P::CARRY {
            loaded.c = V::load(&self.c[lanes.clone()]);
        }
        loaded
    }

    #[inline(always)]
    fn finish<V: Vector<Elem = T>, P: Pointwise>(&mut self, lanes: Range<usize>, loaded: Loaded<V>) {
        let next = P::forward(loaded.input, loaded.recurrent, loaded.before, loaded.c);
        for g in 0..P::GATES {
            next.gates[g].store(&mut self.gates[g][lanes.clone()]);
        }
        if P::EXTRA && !self.extra.is_empty() {
            next.extra.store(&mut self.extra[lanes.clone()]);
        }
        if P::CARRY {
            if !self.c_before.is_empty() {
                loaded.c.store(&mut self.c_before[lanes.clone()]);
            }
            let mut c = next.c;
            if !self.keep_c.is_empty() {
                let keep = V::load(&self.keep_c[lanes.clone()]);
                c = keep * loaded.c + (V::one() - keep) * c;
            }
            c.store(&mut self.c[lanes.clone()]);
        }
        next.h.store(&mut self.h[lanes]);
    }
}

/// What a step's arithmetic reads of some lanes.
struct Loaded<V> {
    input: [V; MAX_GATES],
    recurrent: [V; MAX_GATES],
    before: V,
    c: V,
}

#[inline(always)]
pub(super) fn forward_step<I: Instructions, T: Real, P: Pointwise>(
    mut step: Step<'_, T>,
    biases: &[&[T]; MAX_GATES],
) {
    let (whole, rest) = cover::<I, T>(step.h.len());
    // Where the rest goes over units of a whole vector again, it is read before they are overwritten.
    let rest = (!rest.is_empty()).then(|| (rest.clone(), step.load::<I::Lanes<T>, P>(&rest, biases)));
    for from in (0..whole).step_by(I::Lanes::<T>::WIDTH) {
        let lanes = from..from + I::Lanes::<T>::WIDTH;
        let loaded = step.load::<I::Lanes<T>, P>(&lanes, biases);
        step.finish::<I::Lanes<T>, P>(lanes, loaded);
    }
    if let Some((lanes, loaded)) = rest {
        step.finish::<I::Lanes<T>, P>(lanes, loaded);
    }
}

/// One row at one step, the arguments of [`backward_step`].
pub(super) struct StepBack<'a, T> {
    /// Activations, where they do not stand in `gates`.
    pub(super) saved: [&'a [T]; MAX_GATES],
    pub(super) gates: [&'a mut [T]; MAX_GATES],
    pub(super) drecurrent: [&'a mut [T]; MAX_GATES],
    pub(super) before: &'a [T],
    pub(super) extra: &'a [T],
    pub(super) c_before: &'a [T],
    pub(super) dhs: &'a [T],
    pub(super) dh: &'a mut [T],
    /// Whether `dhs` is the whole gradient of what the cell made, and what the cell gives back is added to `dh`; else both
    /// of them are parts of it, and `dh` is replaced.
    pub(super) whole: bool,
    pub(super) dc: &'a mut [T],
    pub(super) keep_c: &'a [T],
}

impl<T: Real> StepBack<'_, T> {
    #[inline(always)]
    fn load<V: Vector<Elem = T>, P: Pointwise>(&self, lanes: &Range<usize>) -> LoadedBack<V> {
        let mut tape = Tape {
            gates: [V::zero(); MAX_GATES],
            extra: V::zero(),
            h_before: V::zero(),
            c_before: V::zero(),
        };
        for g in 0..P::GATES {
            let gates = if self.saved[g].is_empty() { &*self.gates[g] } else { self.saved[g] };
            tape.gates[g] = V::load(&gates[lanes.clone()]);
        }
        if P::READS_H {
            tape.h_before = V::load(&self.before[lanes.clone()]);
        }
        if P::EXTRA {
            tape.extra = V::load(&self.extra[lanes.clone()]);
        }
        let (mut dc, mut kept_c) = (V::zero(), V::zero());
        if P::CARRY {
            tape.c_before = V::load(&self.c_before[lanes.clone()]);
            dc = V::load(&self.dc[lanes.clone()]);
            if !self.keep_c.is_empty() {
                kept_c = V::load(&self.keep_c[lanes.clone()]) * dc;
                dc = dc - kept_c;
            }
        }
        let mut dh = V::load(&self.dhs[lanes.clone()]);
        let mut kept_h = V::zero();
        if !self.whole {
            dh = V::load(&self.dh[lanes.clone()]) + dh;
        } else if P::READS_H {
            kept_h = V::load(&self.dh[lanes.clone()]);
        }
        LoadedBack { tape, dh, dc, kept_h, kept_c }
    }

    #[inline(always)]
    fn finish<V: Vector<Elem = T>, P: Pointwise>(&mut self, lanes: Range<usize>, loaded: &LoadedBack<V>) {
        let back = P::backward(&loaded.tape, loaded.dh, loaded.dc);
        for g in 0..P::GATES {
            back.input[g].store(&mut self.gates[g][lanes.clone()]);
            if P::TWO_SIDED {
                back.recurrent[g].store(&mut self.drecurrent[g][lanes.clone()]);
            }
        }
        if P::CARRY {
            let mut dc = back.dc;
            if !self.keep_c.is_empty() {
                dc = dc + loaded.kept_c;
            }
            dc.store(&mut self.dc[lanes.clone()]);
        }
        if !self.whole {
            back.dh.store(&mut self.dh[lanes]);
        } else if P::READS_H {
            (loaded.kept_h + back.dh).store(&mut self.dh[lanes]);
        }
    }
}

/// What a step's arithmetic reads of some lanes on its way back.
struct LoadedBack<V> {
    tape: Tape<V>,
    /// The whole gradients of what the cell made.
    dh: V,
    dc: V,
    /// What passes by the cell.
    kept_h: V,
    kept_c: V,
}

#[inline(always)]
pub(super) fn backward_step<I: Instructions, T: Real, P: Pointwise>(mut step: StepBack<'_, T>) {
    let (whole, rest) = cover::<I, T>(step.gates[0].len());
    // As in `forward_step`.
    let rest = (!rest.is_empty()).then(|| (rest.clone(), step.load::<I::Lanes<T>, P>(&rest)));
    for from in (0..whole).step_by(I::Lanes::<T>::WIDTH) {
        let lanes = from..from + I::Lanes::<T>::WIDTH;
        let loaded = step.load::<I::Lanes<T>, P>(&lanes);
        step.finish::<I::Lanes<T>, P>(lanes, &loaded);
    }
    if let Some((lanes, loaded)) = rest {
        step.finish::<I::Lanes<T>, P>(lanes, &loaded);
    }
}

/// Units that whole vectors cover from the front, and those of one more that ends with the last: it goes over units
/// again, which gives the same numbers again, and only where there are fewer than a vector has is it not full.
#[inline(always)]
fn cover<I: Instructions, T: Real>(units: usize) -> (usize, Range<usize>) {
    let width = I::Lanes::<T>::WIDTH;
    let whole = units / width * width;
    (whole, if whole == units { units..units } else { units.saturating_sub(width)..units })
}
