//! A cell whose second stage, behind a product, reads what is fed, makes c and has an extra.

use super::{Arithmetic, all_ways, first, halves, streams};
use candle_core::{D, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::sigmoid;
use rnn_core::cell::{LstmState, PointwiseGrads, Saved, Sums};
use rnn_core::convention::{BIAS_HN, WEIGHT_HN};
use rnn_core::kernels::pointwise::{Backward, Between, Forward, Inputs, Pointwise, Reads, Stages, Tape};
use rnn_core::kernels::{Kernel, Vector};
use rnn_core::sums::column_sums;
use rnn_core::{Bias, LayerParams, LayerSpec, Result};

/// `r = sigmoid(a_r)`, `z = sigmoid(a_z)`,
/// `n = tanh(x_n + W_hn r + b_hn)`, `c' = c / 2 + z n`, `h' = tanh(c') fed + n`.
#[derive(Debug, Clone)]
pub(super) struct LateFed;

impl Stages for LateFed {
    type First = OpenGate;
    type Last = ReadLate;
    const BETWEEN: Option<Between> = Some(Between::Product);
}

pub(super) struct OpenGate;

impl Pointwise for OpenGate {
    const GATES: usize = 1;
    const CARRY: bool = false;
    const READS: Reads = Reads::Nothing;
    const EXTRA: bool = false;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, .. }: Inputs<V>) -> Forward<V> {
        let r = (input[0] + recurrent[0]).sigmoid();
        Forward { gates: first(r), extra: V::zero(), made: r, c: V::zero() }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dr: V, _: V) -> Backward<V> {
        let r = tape.gates[0];
        Backward::one_sided(first(dr * r * (V::one() - r)))
    }
}

pub(super) struct ReadLate;

impl Pointwise for ReadLate {
    const GATES: usize = 2;
    const CARRY: bool = true;
    const READS: Reads = Reads::Fed;
    const EXTRA: bool = true;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, read: fed, c, .. }: Inputs<V>) -> Forward<V> {
        let z = (input[0] + recurrent[0]).sigmoid();
        let n = (input[1] + recurrent[1]).tanh();
        let next_c = V::number(0.5) * c + z * n;
        let k = next_c.tanh();
        Forward { gates: [z, n, V::zero(), V::zero()], extra: k, made: k * fed + n, c: next_c }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, dc: V) -> Backward<V> {
        let ([z, n, ..], k) = (tape.gates, tape.extra);
        let dc = dc + dh * tape.read * (V::one() - k * k);
        let dz = dc * n * (z * (V::one() - z));
        let dn = (dh + dc * z) * (V::one() - n * n);
        let sums = Backward::one_sided([dz, dn, V::zero(), V::zero()]);
        Backward { read: dh * k, dc: dc * V::number(0.5), ..sums }
    }
}

impl Arithmetic for LateFed {
    type State = LstmState;
    const GATES: usize = 3;
    const KERNEL: &'static dyn Kernel = &LateFed;

    fn parameters(spec: &LayerSpec, vb: &VarBuilder) -> Result<LayerParams> {
        let (size, init) = (spec.hidden, spec.init);
        let params = LayerParams::with_recurrent(spec, (Self::GATES, 2), vb)?;
        let params = params.and((WEIGHT_HN, &[size, size]), init.weight(size, size), (spec, vb))?;
        match spec.bias {
            Bias::Both => params.and((BIAS_HN, &[size]), init.bias(size), (spec, vb)),
            Bias::None | Bias::Single => Ok(params),
        }
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
        let (input, recurrent) = halves(sums, (3, 2))?;
        let r = sigmoid(&(&input[0] + &recurrent[0])?)?;
        let z = sigmoid(&(&input[1] + &recurrent[1])?)?;
        let mut sum = (&input[2] + r.matmul(&params.own(WEIGHT_HN)?.t()?)?)?;
        if let Ok(bias) = params.own(BIAS_HN) {
            sum = sum.broadcast_add(bias)?;
        }
        let n = sum.tanh()?;
        let c = ((&state.c * 0.5)? + (&z * &n)?)?;
        let k = c.tanh()?;
        let h = ((&k * fed)? + &n)?;
        Ok((LstmState { h, c }, Saved(vec![r, z, n, k, fed.clone()])))
    }

    fn backward(params: &LayerParams, saved: &Saved, dnext: &LstmState) -> Result<PointwiseGrads<LstmState>> {
        let [r, z, n, k, fed] = &saved.read("LateFed")?;
        let dc = (&dnext.c + ((&dnext.h * fed)? * (1.0 - k.sqr()?)?)?)?;
        let dz = ((&dc * n)? * (z * (1.0 - z)?)?)?;
        let dn = ((&dnext.h + (&dc * z)?)? * (1.0 - n.sqr()?)?)?;
        let dr = (dn.matmul(&params.own(WEIGHT_HN)?.detach())? * (r * (1.0 - r)?)?)?;
        let mut own = vec![(WEIGHT_HN, dn.t()?.matmul(r)?)];
        if params.own(BIAS_HN).is_ok() {
            own.push((BIAS_HN, column_sums(&dn)?));
        }
        let recurrent = Tensor::cat(&[&dr, &dz], D::Minus1)?;
        let input = Tensor::cat(&[&dr, &dz, &dn], D::Minus1)?;
        let state = LstmState { h: dnext.h.zeros_like()?, c: (dc * 0.5)? };
        let dfed = (&dnext.h * k)?;
        Ok(PointwiseGrads { sums: Sums { input, recurrent }, state, fed: Some(dfed), own })
    }
}

#[test]
fn one_behind_a_product_that_reads_what_is_fed_and_makes_c() {
    all_ways::<LateFed>();
    streams::<LateFed>();
}
