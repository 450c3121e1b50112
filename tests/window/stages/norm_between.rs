//! A cell with a norm between two stages whose halves differ.

use super::{Arithmetic, all_ways, first, halves, streams};
use candle_core::{D, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::sigmoid;
use rnn_core::cell::{LstmState, PointwiseGrads, Saved, Sums};
use rnn_core::convention::NORM_EPSILON;
use rnn_core::kernels::pointwise::{
    Backward, Between, Forward, Inputs, MAX_OWN, Pointwise, Reads, Stages, Tape,
};
use rnn_core::kernels::{Kernel, Vector};
use rnn_core::sums::column_sums;
use rnn_core::{LayerParams, LayerSpec, Result};

/// `u = tanh(x_u + h_u^2)`, `v = norm(u fed)`, `o = sigmoid(x_o - h_o)`,
/// `c' = 0.7 c + o scale v`, `h' = tanh(c')`.
#[derive(Debug, Clone)]
struct NormBetween;

/// The parameter of its own.
const SCALE: &str = "scale";

impl Stages for NormBetween {
    type First = Squared;
    type Last = ReadNorm;
    const BETWEEN: Option<Between> = Some(Between::Norm);
}

struct Squared;

impl Pointwise for Squared {
    const GATES: usize = 1;
    const CARRY: bool = false;
    const READS: Reads = Reads::Fed;
    const EXTRA: bool = true;
    const TWO_SIDED: bool = true;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, read: fed, .. }: Inputs<V>) -> Forward<V> {
        let u = (input[0] + recurrent[0] * recurrent[0]).tanh();
        Forward { gates: first(u), extra: recurrent[0], made: u * fed, c: V::zero() }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dmade: V, _: V) -> Backward<V> {
        let u = tape.gates[0];
        let du = dmade * tape.read * (V::one() - u * u);
        let recurrent = first(du * (tape.extra + tape.extra));
        Backward { recurrent, read: dmade * u, ..Backward::one_sided(first(du)) }
    }
}

struct ReadNorm;

impl Pointwise for ReadNorm {
    const GATES: usize = 1;
    const CARRY: bool = true;
    const READS: Reads = Reads::Between;
    const EXTRA: bool = false;
    const TWO_SIDED: bool = true;
    const OWN: usize = 1;

    #[inline(always)]
    fn forward<V: Vector>(inputs: Inputs<V>) -> Forward<V> {
        let Inputs { input, recurrent, read: v, c, own: [scale, ..] } = inputs;
        let o = (input[0] - recurrent[0]).sigmoid();
        let next_c = V::number(0.7) * c + o * scale * v;
        Forward { gates: first(o), extra: V::zero(), made: next_c.tanh(), c: next_c }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, dc: V) -> Backward<V> {
        let (o, scale, v, kept) = (tape.gates[0], tape.own[0], tape.read, V::number(0.7));
        let h = (kept * tape.c_before + o * scale * v).tanh();
        let dc = dc + dh * (V::one() - h * h);
        let d_o = dc * scale * v * (o * (V::one() - o));
        let own: [V; MAX_OWN] = [dc * o * v, V::zero(), V::zero()];
        let recurrent = first(V::zero() - d_o);
        Backward { recurrent, read: dc * o * scale, dc: dc * kept, own, ..Backward::one_sided(first(d_o)) }
    }
}

impl Arithmetic for NormBetween {
    type State = LstmState;
    const GATES: usize = 2;
    const KERNEL: &'static dyn Kernel = &NormBetween;

    fn parameters(spec: &LayerSpec, vb: &VarBuilder) -> Result<LayerParams> {
        let init = spec.init.bias(spec.hidden);
        LayerParams::new(spec, Self::GATES, vb)?.and((SCALE, &[spec.hidden]), init, (spec, vb))
    }

    fn zeros(h: Tensor) -> LstmState {
        LstmState { c: h.clone(), h }
    }

    fn forward(
        params: &LayerParams,
        sums: &Sums,
        fed: &Tensor,
        state: &LstmState,
    ) -> Result<(LstmState, Saved)> {
        let (input, recurrent) = halves(sums, (2, 2))?;
        let u = (&input[0] + recurrent[0].sqr()?)?.tanh()?;
        let made = (&u * fed)?;
        let centred = made.broadcast_sub(&made.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + NORM_EPSILON)?.sqrt()?;
        let v = centred.broadcast_div(&deviation)?;
        let o = sigmoid(&(&input[1] - &recurrent[1])?)?;
        let c = ((&state.c * 0.7)? + (&o * &v)?.broadcast_mul(params.own(SCALE)?)?)?;
        let h = c.tanh()?;
        let saved = vec![u, recurrent[0].clone(), fed.clone(), v, deviation, o, h.clone()];
        Ok((LstmState { h, c }, Saved(saved)))
    }

    fn backward(params: &LayerParams, saved: &Saved, dnext: &LstmState) -> Result<PointwiseGrads<LstmState>> {
        let [u, y, fed, v, deviation, o, h] = &saved.read("NormBetween")?;
        let scale = &params.own(SCALE)?.detach();
        let dc = (&dnext.c + (&dnext.h * (1.0 - h.sqr()?)?)?)?;
        let own = vec![(SCALE, column_sums(&((&dc * o)? * v)?)?)];
        let d_o = ((&dc * v)?.broadcast_mul(scale)? * (o * (1.0 - o)?)?)?;
        let dv = (&dc * o)?.broadcast_mul(scale)?;
        let along_ones = dv.mean_keepdim(D::Minus1)?;
        let along_v = v.broadcast_mul(&(&dv * v)?.mean_keepdim(D::Minus1)?)?;
        let dmade = (dv.broadcast_sub(&along_ones)? - along_v)?.broadcast_div(deviation)?;
        let du = ((&dmade * fed)? * (1.0 - u.sqr()?)?)?;
        let input = Tensor::cat(&[&du, &d_o], D::Minus1)?;
        let recurrent = Tensor::cat(&[&(&du * (y * 2.0)?)?, &d_o.neg()?], D::Minus1)?;
        let state = LstmState { h: dnext.h.zeros_like()?, c: (dc * 0.7)? };
        Ok(PointwiseGrads { sums: Sums { input, recurrent }, state, fed: Some((dmade * u)?), own })
    }
}

#[test]
fn two_whose_halves_differ_around_a_norm() {
    all_ways::<NormBetween>();
    streams::<NormBetween>();
}
