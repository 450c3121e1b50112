//! The LSTM with layer normalisation, [`LayerNormLstmCell`].

use super::lstm::{sigmoid_slope, tanh_slope};
use super::{Cell, LayerParams, LayerSpec, LstmState, Normed, PointwiseGrads, Saved, Sums, norm};
use crate::Result;
use crate::convention::{BIAS_C, NORM_C};
use crate::kernels::{Kernel, pointwise};
use crate::sums::column_sums;
use candle_core::{D, Tensor};
use candle_nn::ops::sigmoid;
use candle_nn::{Init, VarBuilder};

/// The layer-normalised LSTM of Ba et al. 2016: products normalised as [`Normed`] says, and the cell state where it
/// is read, as [`CellNormLstmCell`] says.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use rnn_core::{Cell, LayerNormLstmCell, LayerSpec, Parameters, Recurrent, TimeRnn, Way};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// let lstm = TimeRnn::new(LayerNormLstmCell::new(LayerSpec::new(3, 4), parameters.builder())?);
/// let xs = Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(lstm.forward(&xs, &lstm.zero_state(2)?)?.0.dims(), [2, 5, 4]);
/// assert_eq!(lstm.way(), Way::Fused);
/// # rnn_core::Result::Ok(())
/// ```
pub type LayerNormLstmCell = Normed<CellNormLstmCell>;

/// The LSTM whose cell state is normalised where it is read (Ba, Kiros & Hinton 2016): the part of
/// [`LayerNormLstmCell`] that is not in [`Normed`].
///
/// ```text
/// i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)    g = tanh(a_g)
/// c' = f * c + i * g                                    h' = o * tanh(gamma_c * norm(c') + b_c)
/// ```
///
/// a, the shapes, the order of the gates and the projection are those of [`LstmCell`](super::LstmCell), norm is that
/// of [`Normed`], over the H numbers of a row. gamma_c is `norm_c_l{k} [H]`, which begins as ones, b_c is
/// `bias_c_l{k} [H]`, which begins as zeros.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use rnn_core::{Cell, CellNormLstmCell, LayerSpec, LstmState, Parameters, Scheme};
/// let spec = LayerSpec::new(1, 2).init(Scheme::Uniform(0.0)); // all zeros but gamma_c
/// let lstm = CellNormLstmCell::new(spec, Parameters::new(0, DType::F64, &Device::Cpu).builder())?;
/// let c = Tensor::new(&[[1f64, 3.0]], &Device::Cpu)?;
/// let state = LstmState { h: c.zeros_like()?, c };
/// let next = lstm.step(&Tensor::ones((1, 1), DType::F64, &Device::Cpu)?, &state)?;
/// assert_eq!(next.c.to_vec2::<f64>()?, [[0.5, 1.5]]);
/// let h = next.h.to_vec2::<f64>()?[0][1];
/// assert!((h - 0.5 * (0.5 / (0.25f64 + 1e-5).sqrt()).tanh()).abs() < 1e-12);
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct CellNormLstmCell {
    spec: LayerSpec,
    params: LayerParams,
}

impl Cell for CellNormLstmCell {
    type State = LstmState;
    const GATES: usize = 4;

    fn new(spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        let size = [spec.hidden];
        let params = LayerParams::projected(&spec, Self::GATES, &vb)?;
        let params = params.and((NORM_C, &size), Init::Const(1.0), (&spec, &vb))?;
        let params = params.and((BIAS_C, &size), Init::Const(0.0), (&spec, &vb))?;
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
        let i = sigmoid(&gates[0])?;
        let f = sigmoid(&gates[1])?;
        let g = gates[2].tanh()?;
        let o = sigmoid(&gates[3])?;
        let kept = (&f * &state.c)?;
        let written = (&i * &g)?;
        let c = (kept + written)?;
        let (scaled, Saved(normed)) = norm::forward(&c, self.params.own(NORM_C)?)?;
        let tanh_c = scaled.broadcast_add(self.params.own(BIAS_C)?)?.tanh()?;
        let h = (&o * &tanh_c)?;
        let saved = [vec![i, f, g, o, tanh_c, state.c.clone()], normed].concat();
        Ok((LstmState { h, c }, Saved(saved)))
    }

    fn pointwise_backward(&self, saved: &Saved, dnext: &LstmState) -> Result<PointwiseGrads<LstmState>> {
        let [i, f, g, o, tanh_c, c_before, normed, deviation] = &saved.read("CellNormLstmCell")?;
        let normed = Saved(vec![normed.clone(), deviation.clone()]);
        let dread = ((&dnext.h * o)? * tanh_slope(tanh_c)?)?;
        let (through_h, dgamma) = norm::backward(&normed, self.params.own(NORM_C)?, &dread)?;
        let dc = (&dnext.c + through_h)?;
        let di = ((&dc * g)? * sigmoid_slope(i)?)?;
        let df = ((&dc * c_before)? * sigmoid_slope(f)?)?;
        let dg = ((&dc * i)? * tanh_slope(g)?)?;
        let d_o = ((&dnext.h * tanh_c)? * sigmoid_slope(o)?)?;
        let dsums = Tensor::cat(&[di, df, dg, d_o], D::Minus1)?;
        let state = LstmState { h: dnext.h.zeros_like()?, c: (dc * f)? };
        let own = vec![(NORM_C, dgamma), (BIAS_C, column_sums(&dread)?)];
        Ok(PointwiseGrads { own, ..PointwiseGrads::one_sided(dsums, state) })
    }

    fn kernel(&self) -> Option<&'static dyn Kernel> {
        static KERNEL: &dyn Kernel = &pointwise::CellNormLstm;
        Some(KERNEL)
    }
}
