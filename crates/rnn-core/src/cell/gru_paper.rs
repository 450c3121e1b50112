//! The gated recurrent unit with its reset before the product, [`ResetBeforeGruCell`].

use super::lstm::{sigmoid_slope, tanh_slope};
use super::{Bias, Cell, GruState, LayerParams, LayerSpec, PointwiseGrads, Saved, Sums};
use crate::Result;
use crate::convention::{BIAS_HN, WEIGHT_HN};
use crate::kernels::{Kernel, pointwise};
use crate::sums::column_sums;
use candle_core::{D, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::sigmoid;

/// The gated recurrent unit as its paper has it (Cho et al. 2014, as of its third version), reset applied before the
/// product, where cuDNN's, PyTorch's and [`GruCell`](super::GruCell)'s is applied after it. Keras calls it
/// `reset_after=False`, ONNX `linear_before_reset=0`.
///
/// ```text
/// r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)    n = tanh(x_n + (r * h) W_hn^T + b_hn)
/// h' = (1 - z) * n + z * h
/// x_r, x_z, x_n = x W_ih^T + b_ih                  h_r, h_z = h W_hh^T + b_hh
/// ```
///
/// The second product waits for the first one's gates: it has a weight of its own, and a step takes longer.
///
/// `x [N, D]`, `h [N, H]`; `weight_ih [3H, D]` and `bias_ih [3H]` are of r, z and n, `weight_hh [2H, H]` and
/// `bias_hh [2H]` of r and z, `weight_hn [H, H]` and `bias_hn [H]` of n.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::{Cell, GruState, LayerSpec, Parameters, ResetBeforeGruCell};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// ResetBeforeGruCell::new(LayerSpec::new(3, 4), parameters.builder())?;
/// let named = parameters.named();
/// assert_eq!((named[1].1.dims(), named[4].0.as_str()), ([8, 4].as_slice(), "weight_hn_l0"));
///
/// let zero = ResetBeforeGruCell::new(LayerSpec::new(1, 1), VarBuilder::zeros(DType::F64, &Device::Cpu))?;
/// let mut params = zero.params().clone();
/// params.own[0].1 = Tensor::new(&[[2f64]], &Device::Cpu)?; // weight_hn
/// let one = Tensor::ones((1, 1), DType::F64, &Device::Cpu)?;
/// let next = zero.with_params(params).step(&one, &GruState { h: one.clone() })?;
/// let h = next.h.to_vec2::<f64>()?[0][0];
/// assert!((h - (0.5 * 1f64.tanh() + 0.5)).abs() < 1e-12); // r = z = 0.5, n = tanh(0.5 * 1 * 2)
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
            own.push((BIAS_HN, column_sums(&dn)?));
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
