//! `c' = f c + i g`, `h' = o tanh(c')`; saved: i f g o, and tanh(c') as the extra; read besides: c before.

use super::{Backward, Forward, Inputs, Pointwise, Reads, Tape};
use crate::kernels::Vector;

/// Long short-term memory, gates i f g o.
pub struct Lstm;

impl Pointwise for Lstm {
    const GATES: usize = 4;
    const CARRY: bool = true;
    const READS: Reads = Reads::Nothing;
    const EXTRA: bool = true;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, c, .. }: Inputs<V>) -> Forward<V> {
        let i = (input[0] + recurrent[0]).sigmoid();
        let f = (input[1] + recurrent[1]).sigmoid();
        let g = (input[2] + recurrent[2]).tanh();
        let o = (input[3] + recurrent[3]).sigmoid();
        let next_c = f * c + i * g;
        let tanh_c = next_c.tanh();
        Forward { gates: [i, f, g, o], extra: tanh_c, made: o * tanh_c, c: next_c }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, dc: V) -> Backward<V> {
        let [i, f, g, o] = tape.gates;
        let tanh_c = tape.extra;
        let dc = dc + dh * o * (V::one() - tanh_c * tanh_c);
        let [di, df, dg] = write_back([i, f, g], tape.c_before, dc);
        let d_o = dh * tanh_c * (o * (V::one() - o));
        Backward { dc: dc * f, ..Backward::one_sided([di, df, dg, d_o]) }
    }
}

/// The gradients of the sums of i, f and g, from that of the c that they made of the one before.
#[inline(always)]
pub(super) fn write_back<V: Vector>([i, f, g]: [V; 3], c_before: V, dc: V) -> [V; 3] {
    let di = dc * g * (i * (V::one() - i));
    let df = dc * c_before * (f * (V::one() - f));
    let dg = dc * i * (V::one() - g * g);
    [di, df, dg]
}
