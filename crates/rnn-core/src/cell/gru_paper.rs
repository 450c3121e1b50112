//! The gated recurrent unit as its paper has it (Cho et al. 2014, as of its third version), reset applied before the
//! product, where cuDNN's, PyTorch's and [`super::GruCell`]'s is applied after it:
//!
//! ```text
//! r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)    n = tanh(x_n + (r * h) W_hn^T + b_hn)    h' = (1 - z) * n + z * h
//! with x = x W_ih^T + b_ih in three parts, and h = h W_hh^T + b_hh in two
//! ```
//!
//! The second product waits for the first one's gates: it has a weight of its own, and a step takes longer.

use super::lstm::{sigmoid_slope, tanh_slope};
use super::{Bias, Cell, GruState, LayerParams, LayerSpec, PointwiseGrads, Saved, Sums};
use crate::Result;
use crate::convention::{BIAS_HN, WEIGHT_HN};
use crate::kernels::{Kernel, pointwise};
use candle_core::{D, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::sigmoid;

/// A GRU cell whose reset acts before the product: Keras's `reset_after=False`, ONNX's `linear_before_reset=0`.
///
/// `weight_hh_l{k} [2H, H]` and `bias_hh_l{k} [2H]` are of r and z, `weight_hn_l{k} [H, H]` and `bias_hn_l{k} [H]` of n.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::{Cell, LayerSpec, Parameters, ResetBeforeGruCell};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// ResetBeforeGruCell::new(LayerSpec::new(3, 4), parameters.builder())?;
/// let named = parameters.named();
/// assert_eq!((named[1].1.dims(), named[4].0.as_str()), ([8, 4].as_slice(), "weight_hn_l0"));
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct ResetBeforeGruCell {
    spec: LayerSpec,
    params: LayerParams,
}

impl Cell for ResetBeforeGruCell {
    type State = GruState;
    const GATES: usize = 3;

    fn new(spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        let params = LayerParams::with_recurrent(&spec, (Self::GATES, 2), &vb)?;
        let size = spec.hidden;
        let init = spec.init.weight(size, size);
        let mut params = params.and((WEIGHT_HN, &[size, size]), init, (&spec, &vb))?;
        if spec.bias == Bias::Both {
            params = params.and((BIAS_HN, &[size]), spec.init.bias(size), (&spec, &vb))?;
        }
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

    fn zero_state(&self, batch: usize) -> Result<GruState> {
        Ok(GruState { h: self.params.zeros(batch, self.spec.hidden)? })
    }

    fn pointwise_forward(&self, sums: &Sums, state: &GruState) -> Result<(GruState, Saved)> {
        self.pointwise_fed(sums, &state.h, state)
    }

    fn pointwise_fed(&self, sums: &Sums, fed: &Tensor, state: &GruState) -> Result<(GruState, Saved)> {
        let input = sums.input.chunk(Self::GATES, D::Minus1)?;
        let recurrent = sums.recurrent.chunk(2, D::Minus1)?;
        let r = sigmoid(&(&input[0] + &recurrent[0])?)?;
        let z = sigmoid(&(&input[1] + &recurrent[1])?)?;
        let reset = (&r * fed)?;
        let mut sum = (&input[2] + reset.matmul(&self.params.own(WEIGHT_HN)?.t()?)?)?;
        if self.spec.bias == Bias::Both {
            sum = sum.broadcast_add(self.params.own(BIAS_HN)?)?;
        }
        let n = sum.tanh()?;
        let kept = (&z * &state.h)?;
        let renewed = ((1.0 - &z)? * &n)?;
        let h = (renewed + kept)?;
        Ok((GruState { h }, Saved(vec![r, z, n, fed.clone(), reset, state.h.clone()])))
    }

    fn pointwise_backward(&self, saved: &Saved, dnext: &GruState) -> Result<PointwiseGrads<GruState>> {
        let [r, z, n, fed, reset, h_before] = &saved.read("ResetBeforeGruCell")?;
        let dn = ((&dnext.h * (1.0 - z)?)? * tanh_slope(n)?)?;
        let dz = ((&dnext.h * (h_before - n)?)? * sigmoid_slope(z)?)?;
        let dreset = dn.matmul(&self.params.own(WEIGHT_HN)?.detach())?;
        let dr = ((&dreset * fed)? * sigmoid_slope(r)?)?;
        let mut own = vec![(WEIGHT_HN, dn.t()?.matmul(reset)?)];
        if self.spec.bias == Bias::Both {
            own.push((BIAS_HN, dn.sum(0)?));
        }
        let recurrent = Tensor::cat(&[&dr, &dz], D::Minus1)?;
        let input = Tensor::cat(&[&dr, &dz, &dn], D::Minus1)?;
        let state = GruState { h: (&dnext.h * z)? };
        Ok(PointwiseGrads { sums: Sums { input, recurrent }, state, fed: Some((dreset * r)?), own })
    }

    fn kernel(&self) -> Option<&'static dyn Kernel> {
        static KERNEL: &dyn Kernel = &pointwise::ResetBeforeGru;
        Some(KERNEL)
    }
}
