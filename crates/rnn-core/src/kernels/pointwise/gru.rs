//! `n = tanh(x_n + r h_n)`, `h' = (1 - z) n + z h`; saved: r z n, and h_n as the extra; read besides: h before.

use super::{Backward, Forward, Inputs, MAX_GATES, Pointwise, Reads, Tape};
use crate::kernels::Vector;

/// Gated recurrent unit, gates r z n, reset applied after the product.
pub struct Gru;

impl Pointwise for Gru {
    const GATES: usize = 3;
    const CARRY: bool = false;
    const READS: Reads = Reads::Hidden;
    const EXTRA: bool = true;
    const TWO_SIDED: bool = true;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, read: h, .. }: Inputs<V>) -> Forward<V> {
        let r = (input[0] + recurrent[0]).sigmoid();
        let z = (input[1] + recurrent[1]).sigmoid();
        let n = (input[2] + r * recurrent[2]).tanh();
        let next = (V::one() - z) * n + z * h;
        Forward { gates: [r, z, n, V::zero()], extra: recurrent[2], made: next, c: V::zero() }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, _: V) -> Backward<V> {
        let [r, z, n, _] = tape.gates;
        let dn = dh * (V::one() - z) * (V::one() - n * n);
        let dz = dh * (tape.read - n) * (z * (V::one() - z));
        let dr = dn * tape.extra * (r * (V::one() - r));
        let recurrent: [V; MAX_GATES] = [dr, dz, dn * r, V::zero()];
        Backward { recurrent, read: dh * z, ..Backward::one_sided([dr, dz, dn, V::zero()]) }
    }
}
