//! The gated recurrent unit, [`GruCell`].

use super::lstm::{sigmoid_slope, tanh_slope};
use super::state::state;
use super::{Cell, LayerParams, LayerSpec, PointwiseGrads, Saved, Sums};
use crate::Result;
use crate::kernels::{Kernel, pointwise};
use candle_core::{D, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::sigmoid;

state! {
    /// The state of a [`GruCell`].
    GruState {
        /// Hidden state `[N, H]`.
        h
    }
}

/// The gated recurrent unit (Cho et al. 2014) in PyTorch's and cuDNN's form, reset applied after the product.
///
/// ```text
/// r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)    n = tanh(x_n + r * h_n)    h' = (1 - z) * n + z * h
/// x_r, x_z, x_n = x W_ih^T + b_ih                  h_r, h_z, h_n = h W_hh^T + b_hh
/// ```
///
/// `x [N, D]`, `h [N, H]`; `weight_ih [3H, D]`, `weight_hh [3H, H]`, biases `[3H]`; gates in the order r z n.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::{Cell, GruCell, GruState, LayerSpec};
/// let gru = GruCell::new(LayerSpec::new(1, 1), VarBuilder::zeros(DType::F64, &Device::Cpu))?;
/// let one = Tensor::ones((1, 1), DType::F64, &Device::Cpu)?;
/// let next = gru.step(&one, &GruState { h: one.clone() })?;
/// assert_eq!(next.h.to_vec2::<f64>()?, [[0.5]]); // z = 0.5, n = 0
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct GruCell {
    spec: LayerSpec,
    params: LayerParams,
}

impl Cell for GruCell {
    type State = GruState;
    const GATES: usize = 3;

    fn new(spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        let params = LayerParams::new(&spec, Self::GATES, &vb)?;
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
        let input = sums.input.chunk(Self::GATES, D::Minus1)?;
        let recurrent = sums.recurrent.chunk(Self::GATES, D::Minus1)?;
        let r = sigmoid(&(&input[0] + &recurrent[0])?)?;
        let z = sigmoid(&(&input[1] + &recurrent[1])?)?;
        let reset = (&r * &recurrent[2])?;
        let n = (&input[2] + reset)?.tanh()?;
        let kept = (&z * &state.h)?;
        let renewed = ((1.0 - &z)? * &n)?;
        let h = (renewed + kept)?;
        Ok((GruState { h }, Saved(vec![r, z, n, recurrent[2].clone(), state.h.clone()])))
    }

    fn pointwise_backward(&self, saved: &Saved, dnext: &GruState) -> Result<PointwiseGrads<GruState>> {
        let [r, z, n, recurrent_n, h_before] = &saved.read("GruCell")?;
        let dn = ((&dnext.h * (1.0 - z)?)? * tanh_slope(n)?)?;
        let dz = ((&dnext.h * (h_before - n)?)? * sigmoid_slope(z)?)?;
        let dr = ((&dn * recurrent_n)? * sigmoid_slope(r)?)?;
        let drecurrent_n = (&dn * r)?;
        let state = GruState { h: (&dnext.h * z)? };
        // The halves part at the n gate alone: r stands between the recurrent half and the sum.
        let input = Tensor::cat(&[&dr, &dz, &dn], D::Minus1)?;
        let recurrent = Tensor::cat(&[&dr, &dz, &drecurrent_n], D::Minus1)?;
        Ok(PointwiseGrads { sums: Sums { input, recurrent }, state, fed: None, own: Vec::new() })
    }

    fn kernel(&self) -> Option<&'static dyn Kernel> {
        static KERNEL: &dyn Kernel = &pointwise::Gru;
        Some(KERNEL)
    }
}
