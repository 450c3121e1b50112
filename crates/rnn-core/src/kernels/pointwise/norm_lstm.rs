//! `c' = f c + i g` and behind the norm `h' = o tanh(gamma norm(c') + b)`; saved: i f g o, and the tanh as the extra; read
//! besides: c before, then norm(c').

use super::lstm::write_back;
use super::{Backward, Between, Forward, Inputs, MAX_OWN, Pointwise, Reads, Stages, Tape};
use crate::kernels::Vector;

/// Long short-term memory whose c is normalised where it is read, gates i f g o; its own: gamma and b.
pub struct CellNormLstm;

impl Stages for CellNormLstm {
    type First = Write;
    type Last = Read;
    const BETWEEN: Option<Between> = Some(Between::Norm);
}

/// Gates i, f and g.
pub struct Write;

impl Pointwise for Write {
    const GATES: usize = 3;
    const CARRY: bool = true;
    const READS: Reads = Reads::Nothing;
    const EXTRA: bool = false;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, c, .. }: Inputs<V>) -> Forward<V> {
        let i = (input[0] + recurrent[0]).sigmoid();
        let f = (input[1] + recurrent[1]).sigmoid();
        let g = (input[2] + recurrent[2]).tanh();
        let next_c = f * c + i * g;
        Forward { gates: [i, f, g, V::zero()], extra: V::zero(), made: next_c, c: next_c }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, through_norm: V, dc: V) -> Backward<V> {
        let [i, f, g, _] = tape.gates;
        let dc = dc + through_norm;
        let [di, df, dg] = write_back([i, f, g], tape.c_before, dc);
        Backward { dc: dc * f, ..Backward::one_sided([di, df, dg, V::zero()]) }
    }
}

/// Gate o.
pub struct Read;

impl Pointwise for Read {
    const GATES: usize = 1;
    const CARRY: bool = false;
    const READS: Reads = Reads::Between;
    const EXTRA: bool = true;
    const TWO_SIDED: bool = false;
    const OWN: usize = 2;

    #[inline(always)]
    fn forward<V: Vector>(inputs: Inputs<V>) -> Forward<V> {
        let Inputs { input, recurrent, read: normed, own: [gamma, bias, _], .. } = inputs;
        let o = (input[0] + recurrent[0]).sigmoid();
        let tanh_c = (gamma * normed + bias).tanh();
        let zero = V::zero();
        Forward { gates: [o, zero, zero, zero], extra: tanh_c, made: o * tanh_c, c: zero }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, _: V) -> Backward<V> {
        let (o, tanh_c, gamma) = (tape.gates[0], tape.extra, tape.own[0]);
        let d_o = dh * tanh_c * (o * (V::one() - o));
        let dread = dh * o * (V::one() - tanh_c * tanh_c);
        let own: [V; MAX_OWN] = [dread * tape.read, dread, V::zero()];
        let zero = V::zero();
        Backward { read: dread * gamma, own, ..Backward::one_sided([d_o, zero, zero, zero]) }
    }
}
