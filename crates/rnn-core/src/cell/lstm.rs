//! Long short-term memory, [`LstmCell`].

use super::state::state;
use super::{Cell, LayerParams, LayerSpec, PointwiseGrads, Saved, Sums};
use crate::Result;
use crate::kernels::{Kernel, pointwise};
use candle_core::{D, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::sigmoid;

state! {
    /// The state of an [`LstmCell`].
    LstmState {
        /// Hidden state `[N, P]`.
        h,
        /// Cell state `[N, H]`.
        c
    }
}

impl LstmState {
    /// Zeros for `batch` rows of a layer.
    pub(super) fn zeros(spec: &LayerSpec, params: &LayerParams, batch: usize) -> Result<Self> {
        Ok(Self { h: params.zeros(batch, spec.output())?, c: params.zeros(batch, spec.hidden)? })
    }
}

/// Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000), in PyTorch's
/// form.
///
/// ```text
/// i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)    g = tanh(a_g)    a = x W_ih^T + b_ih + h W_hh^T + b_hh
/// c' = f * c + i * g                                    h' = o * tanh(c')
/// ```
///
/// With a projection (Sak et al. 2014) h' = (o * tanh(c')) W_hr^T.
///
/// `x [N, D]`, `h [N, P]` (P = H without a projection), `c [N, H]`; `weight_ih [4H, D]`, `weight_hh [4H, P]`, biases
/// `[4H]`, `weight_hr [P, H]`; gates in the order i f g o.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::{Cell, LayerSpec, LstmCell, LstmState};
/// let lstm = LstmCell::new(LayerSpec::new(1, 1), VarBuilder::zeros(DType::F64, &Device::Cpu))?;
/// let one = Tensor::ones((1, 1), DType::F64, &Device::Cpu)?;
/// let next = lstm.step(&one, &LstmState { h: one.clone(), c: one.clone() })?;
/// assert_eq!(next.c.to_vec2::<f64>()?, [[0.5]]); // f = 0.5, g = 0
/// let h = next.h.to_vec2::<f64>()?[0][0];
/// assert!((h - 0.5 * 0.5f64.tanh()).abs() < 1e-12);
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct LstmCell {
    spec: LayerSpec,
    params: LayerParams,
}

impl Cell for LstmCell {
    type State = LstmState;
    const GATES: usize = 4;

    fn new(spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        let params = LayerParams::projected(&spec, Self::GATES, &vb)?;
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
        let tanh_c = c.tanh()?;
        let h = (&o * &tanh_c)?;
        Ok((LstmState { h, c }, Saved(vec![i, f, g, o, tanh_c, state.c.clone()])))
    }

    fn pointwise_backward(&self, saved: &Saved, dnext: &LstmState) -> Result<PointwiseGrads<LstmState>> {
        let [i, f, g, o, tanh_c, c_before] = &saved.read("LstmCell")?;
        let through_h = ((&dnext.h * o)? * tanh_slope(tanh_c)?)?;
        let dc = (&dnext.c + through_h)?;
        let di = ((&dc * g)? * sigmoid_slope(i)?)?;
        let df = ((&dc * c_before)? * sigmoid_slope(f)?)?;
        let dg = ((&dc * i)? * tanh_slope(g)?)?;
        let d_o = ((&dnext.h * tanh_c)? * sigmoid_slope(o)?)?;
        let dsums = Tensor::cat(&[di, df, dg, d_o], D::Minus1)?;
        let state = LstmState { h: dnext.h.zeros_like()?, c: (dc * f)? };
        Ok(PointwiseGrads::one_sided(dsums, state))
    }

    fn kernel(&self) -> Option<&'static dyn Kernel> {
        static KERNEL: &dyn Kernel = &pointwise::Lstm;
        Some(KERNEL)
    }
}

/// The slope of tanh where its value is `y`.
pub(super) fn tanh_slope(y: &Tensor) -> Result<Tensor> {
    Ok((1.0 - y.sqr()?)?)
}

/// The slope of the sigmoid where its value is `y`.
pub(super) fn sigmoid_slope(y: &Tensor) -> Result<Tensor> {
    Ok((y * (1.0 - y)?)?)
}
