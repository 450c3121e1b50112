//! `h' = f(sum)`; saved: h'.

use super::{Backward, Forward, Inputs, MAX_GATES, Pointwise, Reads, Tape};
use crate::kernels::Vector;

/// f = tanh.
pub struct RnnTanh;

impl Pointwise for RnnTanh {
    const GATES: usize = 1;
    const CARRY: bool = false;
    const READS: Reads = Reads::Nothing;
    const EXTRA: bool = false;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, .. }: Inputs<V>) -> Forward<V> {
        one_gate((input[0] + recurrent[0]).tanh())
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, _: V) -> Backward<V> {
        let h = tape.gates[0];
        one_gradient(dh * (V::one() - h * h))
    }
}

/// f = max(0, .), with slope 0 at 0.
pub struct RnnRelu;

impl Pointwise for RnnRelu {
    const GATES: usize = 1;
    const CARRY: bool = false;
    const READS: Reads = Reads::Nothing;
    const EXTRA: bool = false;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, .. }: Inputs<V>) -> Forward<V> {
        one_gate((input[0] + recurrent[0]).relu())
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, _: V) -> Backward<V> {
        one_gradient(dh * tape.gates[0].above_zero())
    }
}

#[inline(always)]
fn one_gate<V: Vector>(h: V) -> Forward<V> {
    let mut gates = [V::zero(); MAX_GATES];
    gates[0] = h;
    Forward { gates, extra: V::zero(), made: h, c: V::zero() }
}

#[inline(always)]
fn one_gradient<V: Vector>(dsum: V) -> Backward<V> {
    let mut gates = [V::zero(); MAX_GATES];
    gates[0] = dsum;
    Backward::one_sided(gates)
}
