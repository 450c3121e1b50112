//! As in `lstm.rs`, but i and f see the c before the step and o the one after it; saved: i f g o, and c' as the extra, from
//! which the backward makes tanh(c') once more; read besides: c before.

use super::lstm::write_back;
use super::{Backward, Forward, Inputs, Pointwise, Reads, Tape};
use crate::kernels::Vector;

/// Long short-term memory with peepholes, gates i f g o; its own: what i, f and o see of c.
pub struct PeepholeLstm;

impl Pointwise for PeepholeLstm {
    const GATES: usize = 4;
    const CARRY: bool = true;
    const READS: Reads = Reads::Nothing;
    const EXTRA: bool = true;
    const TWO_SIDED: bool = false;
    const OWN: usize = 3;

    #[inline(always)]
    fn forward<V: Vector>(inputs: Inputs<V>) -> Forward<V> {
        let Inputs { input, recurrent, c, own: [seen_by_i, seen_by_f, seen_by_o], .. } = inputs;
        let i = (input[0] + recurrent[0] + seen_by_i * c).sigmoid();
        let f = (input[1] + recurrent[1] + seen_by_f * c).sigmoid();
        let g = (input[2] + recurrent[2]).tanh();
        let next_c = f * c + i * g;
        let o = (input[3] + recurrent[3] + seen_by_o * next_c).sigmoid();
        Forward { gates: [i, f, g, o], extra: next_c, made: o * next_c.tanh(), c: next_c }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, dc: V) -> Backward<V> {
        let [i, f, g, o] = tape.gates;
        let [seen_by_i, seen_by_f, seen_by_o] = tape.own;
        let (c_before, c) = (tape.c_before, tape.extra);
        let tanh_c = c.tanh();
        let d_o = dh * tanh_c * (o * (V::one() - o));
        let dc = dc + dh * o * (V::one() - tanh_c * tanh_c) + d_o * seen_by_o;
        let [di, df, dg] = write_back([i, f, g], c_before, dc);
        let dc_before = dc * f + di * seen_by_i + df * seen_by_f;
        let own = [di * c_before, df * c_before, d_o * c];
        Backward { dc: dc_before, own, ..Backward::one_sided([di, df, dg, d_o]) }
    }
}
