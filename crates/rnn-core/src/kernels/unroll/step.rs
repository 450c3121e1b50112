//! One row at one step: a stage's arithmetic over some of its units, there and back, vector by vector.

use crate::kernels::dispatch::Instructions;
use crate::kernels::pointwise::{Inputs, MAX_GATES, MAX_OWN, Pointwise, Reads, Tape};
use crate::kernels::{Real, Vector};
use std::ops::Range;

/// One row at one step, the arguments of [`forward_step`]: its units, or nothing where a cell has none or nothing is
/// kept.
pub(super) struct Step<'a, T> {
    pub(super) gates: [&'a mut [T]; MAX_GATES],
    /// Recurrent halves of the gate sums; empty where `gates` has them in it.
    pub(super) recurrent: [&'a [T]; MAX_GATES],
    /// As [`Pointwise::READS`] says.
    pub(super) read: &'a [T],
    pub(super) own: [&'a [T]; MAX_OWN],
    pub(super) c: &'a mut [T],
    /// What c keeps of the one before.
    pub(super) keep_c: &'a [T],
    pub(super) c_before: &'a mut [T],
    pub(super) extra: &'a mut [T],
    /// What the stage makes.
    pub(super) made: &'a mut [T],
}

impl<T: Real> Step<'_, T> {
    #[inline(always)]
    fn load<V: Vector<Elem = T>, P: Pointwise>(
        &self,
        lanes: &Range<usize>,
        biases: &[&[T]; MAX_GATES],
    ) -> Inputs<V> {
        let mut loaded = Inputs {
            input: [V::zero(); MAX_GATES],
            recurrent: [V::zero(); MAX_GATES],
            read: V::zero(),
            c: V::zero(),
            own: load_own::<V, P>(&self.own, lanes),
        };
        if P::READS != Reads::Nothing {
            loaded.read = V::load(&self.read[lanes.clone()]);
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
    fn finish<V: Vector<Elem = T>, P: Pointwise>(&mut self, lanes: Range<usize>, loaded: Inputs<V>) {
        let next = P::forward(loaded);
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
        next.made.store(&mut self.made[lanes]);
    }
}

#[inline(always)]
fn load_own<V: Vector, P: Pointwise>(own: &[&[V::Elem]; MAX_OWN], lanes: &Range<usize>) -> [V; MAX_OWN] {
    let mut loaded = [V::zero(); MAX_OWN];
    for (loaded, own) in loaded.iter_mut().zip(own).take(P::OWN) {
        *loaded = V::load(&own[lanes.clone()]);
    }
    loaded
}

#[inline(always)]
pub(super) fn forward_step<I: Instructions, T: Real, P: Pointwise>(
    mut step: Step<'_, T>,
    biases: &[&[T]; MAX_GATES],
) {
    let (whole, rest) = cover::<I, T>(step.made.len());
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
    /// What the forward read.
    pub(super) read: &'a [T],
    pub(super) own: [&'a [T]; MAX_OWN],
    pub(super) extra: &'a [T],
    pub(super) c_before: &'a [T],
    pub(super) dmade: &'a [T],
    pub(super) dh: &'a mut [T],
    /// Whether `dmade` is the whole gradient of what the stage made, and `dh` what passes by it; else both of them are
    /// parts of it, and `dh` is replaced by what passes.
    pub(super) whole: bool,
    /// Where the gradient of what was read goes; empty where it is added to what passes by.
    pub(super) dread: &'a mut [T],
    /// What this row and step adds to the gradients of the cell's own.
    pub(super) terms: [&'a mut [T]; MAX_OWN],
    pub(super) dc: &'a mut [T],
    pub(super) keep_c: &'a [T],
}

impl<T: Real> StepBack<'_, T> {
    #[inline(always)]
    fn load<V: Vector<Elem = T>, P: Pointwise>(&self, lanes: &Range<usize>) -> LoadedBack<V> {
        let mut tape = Tape {
            gates: [V::zero(); MAX_GATES],
            extra: V::zero(),
            read: V::zero(),
            c_before: V::zero(),
            own: load_own::<V, P>(&self.own, lanes),
        };
        for g in 0..P::GATES {
            let gates = if self.saved[g].is_empty() { &*self.gates[g] } else { self.saved[g] };
            tape.gates[g] = V::load(&gates[lanes.clone()]);
        }
        if P::READS != Reads::Nothing {
            tape.read = V::load(&self.read[lanes.clone()]);
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
        let mut dmade = V::load(&self.dmade[lanes.clone()]);
        let mut kept_h = V::zero();
        if !self.whole {
            dmade = V::load(&self.dh[lanes.clone()]) + dmade;
        } else if self.adds_to_dh::<P>() {
            kept_h = V::load(&self.dh[lanes.clone()]);
        }
        LoadedBack { tape, dmade, dc, kept_h, kept_c }
    }

    /// Whether what was read stands for the hidden state before the step.
    #[inline(always)]
    fn adds_to_dh<P: Pointwise>(&self) -> bool {
        P::READS != Reads::Nothing && self.dread.is_empty()
    }

    #[inline(always)]
    fn finish<V: Vector<Elem = T>, P: Pointwise>(&mut self, lanes: Range<usize>, loaded: &LoadedBack<V>) {
        let back = P::backward(&loaded.tape, loaded.dmade, loaded.dc);
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
        for (term, terms) in back.own.iter().zip(&mut self.terms).take(P::OWN) {
            term.store(&mut terms[lanes.clone()]);
        }
        let adds = self.adds_to_dh::<P>();
        if !self.dread.is_empty() {
            back.read.store(&mut self.dread[lanes.clone()]);
        }
        match (self.whole, adds) {
            (true, true) => (loaded.kept_h + back.read).store(&mut self.dh[lanes]),
            (false, true) => back.read.store(&mut self.dh[lanes]),
            (false, false) => V::zero().store(&mut self.dh[lanes]),
            (true, false) => {}
        }
    }
}

/// What a step's arithmetic reads of some lanes on its way back.
struct LoadedBack<V> {
    tape: Tape<V>,
    /// The whole gradients of what the stage made and of c.
    dmade: V,
    dc: V,
    /// What passes by it.
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
