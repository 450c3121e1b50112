//! `reset = r h` and behind the product `n = tanh(x_n + h_n)`, `h' = (1 - z) n + z h`; saved: r z n; read besides: what was
//! fed, then h before.

use super::{Backward, Between, Forward, Inputs, Pointwise, Reads, Stages, Tape};
use crate::kernels::Vector;

/// Gated recurrent unit, gates r z n, reset applied before the product.
pub struct ResetBeforeGru;

impl Stages for ResetBeforeGru {
    type First = Reset;
    type Last = Renew;
    const BETWEEN: Option<Between> = Some(Between::Product);
}

/// Gate r.
pub struct Reset;

impl Pointwise for Reset {
    const GATES: usize = 1;
    const CARRY: bool = false;
    const READS: Reads = Reads::Fed;
    const EXTRA: bool = false;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, read: fed, .. }: Inputs<V>) -> Forward<V> {
        let r = (input[0] + recurrent[0]).sigmoid();
        let zero = V::zero();
        Forward { gates: [r, zero, zero, zero], extra: zero, made: r * fed, c: zero }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dreset: V, _: V) -> Backward<V> {
        let r = tape.gates[0];
        let dr = dreset * tape.read * (r * (V::one() - r));
        Backward { read: dreset * r, ..Backward::one_sided([dr, V::zero(), V::zero(), V::zero()]) }
    }
}

/// Gates z and n.
pub struct Renew;

impl Pointwise for Renew {
    const GATES: usize = 2;
    const CARRY: bool = false;
    const READS: Reads = Reads::Hidden;
    const EXTRA: bool = false;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, read: h, .. }: Inputs<V>) -> Forward<V> {
        let z = (input[0] + recurrent[0]).sigmoid();
        let n = (input[1] + recurrent[1]).tanh();
        let zero = V::zero();
        Forward { gates: [z, n, zero, zero], extra: zero, made: (V::one() - z) * n + z * h, c: zero }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, _: V) -> Backward<V> {
        let [z, n, ..] = tape.gates;
        let dn = dh * (V::one() - z) * (V::one() - n * n);
        let dz = dh * (tape.read - n) * (z * (V::one() - z));
        Backward { read: dh * z, ..Backward::one_sided([dz, dn, V::zero(), V::zero()]) }
    }
}
