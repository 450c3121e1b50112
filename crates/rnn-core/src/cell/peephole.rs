//! The LSTM with peepholes, [`PeepholeLstmCell`].

use super::lstm::{sigmoid_slope, tanh_slope};
use super::{Cell, LayerParams, LayerSpec, LstmState, PointwiseGrads, Saved, Sums};
use crate::Result;
use crate::convention::PEEPHOLES;
use crate::kernels::{Kernel, pointwise};
use crate::sums::column_sums;
use candle_core::{D, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::sigmoid;

/// The LSTM whose gates see the cell state (Gers & Schmidhuber 2000).
///
/// ```text
/// i, f = sigmoid(a_i + p_i * c), sigmoid(a_f + p_f * c)    g = tanh(a_g)    c' = f * c + i * g
/// o = sigmoid(a_o + p_o * c')                              h' = o * tanh(c')
/// ```
///
/// a, the shapes, the order of the gates and the projection are those of [`LstmCell`](super::LstmCell); p_i, p_f and
/// p_o are the thirds of `peepholes_l{k} [3H]`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::{Cell, LayerSpec, LstmState, Parameters, PeepholeLstmCell};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// PeepholeLstmCell::new(LayerSpec::new(3, 4), parameters.builder())?;
/// let (name, peepholes) = parameters.named().remove(4);
/// assert_eq!((name.as_str(), peepholes.dims()), ("peepholes_l0", [12].as_slice()));
///
/// let zero = PeepholeLstmCell::new(LayerSpec::new(1, 1), VarBuilder::zeros(DType::F64, &Device::Cpu))?;
/// let mut params = zero.params().clone();
/// params.own[0].1 = Tensor::new(&[0f64, 0.0, 2.0], &Device::Cpu)?; // p_o = 2
/// let one = Tensor::ones((1, 1), DType::F64, &Device::Cpu)?;
/// let next = zero.with_params(params).step(&one, &LstmState { h: one.clone(), c: one.clone() })?;
/// let h = next.h.to_vec2::<f64>()?[0][0];
/// assert!((h - 0.5f64.tanh() / (1.0 + (-1f64).exp())).abs() < 1e-12); // c' = 0.5, o = sigmoid(2 * 0.5)
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct PeepholeLstmCell {
    spec: LayerSpec,
    params: LayerParams,
}

impl Cell for PeepholeLstmCell {
    type State = LstmState;
    const GATES: usize = 4;

    fn new(spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        let params = LayerParams::projected(&spec, Self::GATES, &vb)?;
        let init = spec.init.bias(spec.hidden);
        let params = params.and((PEEPHOLES, &[3 * spec.hidden]), init, (&spec, &vb))?;
        Ok(Self { spec, params })
    }

    fn spec(&self) -> &LayerSpec {
        &self.spec
    }

    fn params(&self) -> &LayerParams {
        &self.params
    }

    fn with_params(&self, params: LayerParams) -> Self {
        Self { params, ..self.clone() }
    }

    fn zero_state(&self, batch: usize) -> Result<LstmState> {
        LstmState::zeros(&self.spec, &self.params, batch)
    }

    fn pointwise_forward(&self, sums: &Sums, state: &LstmState) -> Result<(LstmState, Saved)> {
        let gates = (&sums.input + &sums.recurrent)?.chunk(Self::GATES, D::Minus1)?;
        let peepholes = self.params.own(PEEPHOLES)?.chunk(3, 0)?;
        let seen_by_i = state.c.broadcast_mul(&peepholes[0])?;
        let seen_by_f = state.c.broadcast_mul(&peepholes[1])?;
        let i = sigmoid(&(&gates[0] + seen_by_i)?)?;
        let f = sigmoid(&(&gates[1] + seen_by_f)?)?;
        let g = gates[2].tanh()?;
        let kept = (&f * &state.c)?;
        let written = (&i * &g)?;
        let c = (kept + written)?;
        let seen_by_o = c.broadcast_mul(&peepholes[2])?;
        let o = sigmoid(&(&gates[3] + seen_by_o)?)?;
        let tanh_c = c.tanh()?;
        let h = (&o * &tanh_c)?;
        Ok((LstmState { h, c: c.clone() }, Saved(vec![i, f, g, o, tanh_c, state.c.clone(), c])))
    }

    fn pointwise_backward(&self, saved: &Saved, dnext: &LstmState) -> Result<PointwiseGrads<LstmState>> {
        let [i, f, g, o, tanh_c, c_before, c] = &saved.read("PeepholeLstmCell")?;
        let peepholes = self.params.own(PEEPHOLES)?.detach().chunk(3, 0)?;
        let d_o = ((&dnext.h * tanh_c)? * sigmoid_slope(o)?)?;
        let through_h = ((&dnext.h * o)? * tanh_slope(tanh_c)?)?;
        let through_o = d_o.broadcast_mul(&peepholes[2])?;
        let dc = ((&dnext.c + through_h)? + through_o)?;
        let di = ((&dc * g)? * sigmoid_slope(i)?)?;
        let df = ((&dc * c_before)? * sigmoid_slope(f)?)?;
        let dg = ((&dc * i)? * tanh_slope(g)?)?;
        let through_i = di.broadcast_mul(&peepholes[0])?;
        let through_f = df.broadcast_mul(&peepholes[1])?;
        let dc_before = (((dc * f)? + through_i)? + through_f)?;
        let seen =
            [(&di * c_before)?, (&df * c_before)?, (&d_o * c)?].into_iter().map(|row| column_sums(&row));
        let own = vec![(PEEPHOLES, Tensor::cat(&seen.collect::<Result<Vec<_>>>()?, 0)?)];
        let dsums = Tensor::cat(&[di, df, dg, d_o], D::Minus1)?;
        let state = LstmState { h: dnext.h.zeros_like()?, c: dc_before };
        Ok(PointwiseGrads { own, ..PointwiseGrads::one_sided(dsums, state) })
    }

    fn kernel(&self) -> Option<&'static dyn Kernel> {
        static KERNEL: &dyn Kernel = &pointwise::PeepholeLstm;
        Some(KERNEL)
    }
}
