//! `n = tanh(x_n + r h_n)`, `h' = (1 - z) n + z h`; saved: r z n, and h_n as the extra; read besides: h before.

use super::{Backward, Forward, MAX_GATES, Pointwise, Tape};
use crate::kernels::Vector;

/// Gated recurrent unit, gates r z n, reset applied after the product.
pub struct Gru;

impl Pointwise for Gru {
    const GATES: usize = 3;
    const CARRY: bool = false;
    const READS_H: bool = true;
    const EXTRA: bool = true;
    const TWO_SIDED: bool = true;

    #[inline(always)]
    fn forward<V: Vector>(input: [V; MAX_GATES], recurrent: [V; MAX_GATES], h: V, _: V) -> Forward<V> {
        let r = (input[0] + recurrent[0]).sigmoid();
        let z = (input[1] + recurrent[1]).sigmoid();
        let n = (input[2] + r * recurrent[2]).tanh();
        let next = (V::one() - z) * n + z * h;
        Forward { gates: [r, z, n, V::zero()], extra: recurrent[2], h: next, c: V::zero() }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, _: V) -> Backward<V> {
        let [r, z, n, _] = tape.gates;
        let dn = dh * (V::one() - z) * (V::one() - n * n);
        let dz = dh * (tape.h_before - n) * (z * (V::one() - z));
        let dr = dn * tape.extra * (r * (V::one() - r));
        Backward {
            input: [dr, dz, dn, V::zero()],
            recurrent: [dr, dz, dn * r, V::zero()],
            dh: dh * z,
            dc: V::zero(),
        }
    }
}
