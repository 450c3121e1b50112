//! The plain recurrent cell, [`RnnCell`].

use super::state::state;
use super::{Cell, LayerParams, LayerSpec, PointwiseGrads, Saved, Sums};
use crate::Result;
use crate::kernels::{Kernel, pointwise};
use candle_nn::VarBuilder;

state! {
    /// The state of an [`RnnCell`].
    RnnState {
        /// Hidden state `[N, H]`.
        h
    }
}

/// Elman's cell (1990), the book's chapter 5: [`Cell::new`] makes one with f = tanh, [`RnnCell::relu`] one with
/// f = max(0, .).
///
/// ```text
/// h' = f(x W_ih^T + b_ih + h W_hh^T + b_hh)
/// ```
///
/// `x [N, D]`, `h [N, H]`; `weight_ih [H, D]`, `weight_hh [H, H]`, biases `[H]`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::{Bias, Cell, LayerSpec, RnnCell, RnnState};
/// let number = |x: f64| Tensor::new(&[[x]], &Device::Cpu);
/// let weights = [("weight_ih_l0".to_string(), number(2.0)?), ("weight_hh_l0".to_string(), number(-1.0)?)];
/// let vb = VarBuilder::from_tensors(weights.into(), DType::F64, &Device::Cpu);
/// let relu = RnnCell::relu(LayerSpec::new(1, 1).bias(Bias::None), vb)?;
/// let next = relu.step(&number(3.0)?, &RnnState { h: number(1.0)? })?;
/// assert_eq!(next.h.to_vec2::<f64>()?, [[5.0]]); // max(0, 2 * 3 - 1 * 1)
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct RnnCell {
    spec: LayerSpec,
    params: LayerParams,
    activation: Activation,
}

#[derive(Debug, Clone, Copy)]
enum Activation {
    Tanh,
    Relu,
}

impl RnnCell {
    /// A cell whose f is max(0, .); PyTorch's `nonlinearity="relu"`.
    ///
    /// # Errors
    /// Those of [`Cell::new`].
    pub fn relu(spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        Self::with_activation(spec, &vb, Activation::Relu)
    }

    /// Whether f is max(0, .).
    pub(crate) fn is_relu(&self) -> bool {
        matches!(self.activation, Activation::Relu)
    }

    fn with_activation(spec: LayerSpec, vb: &VarBuilder, activation: Activation) -> Result<Self> {
        let params = LayerParams::new(&spec, Self::GATES, vb)?;
        Ok(Self { spec, params, activation })
    }
}

impl Cell for RnnCell {
    type State = RnnState;
    const GATES: usize = 1;

    fn new(spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        Self::with_activation(spec, &vb, Activation::Tanh)
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

    fn zero_state(&self, batch: usize) -> Result<RnnState> {
        Ok(RnnState { h: self.params.zeros(batch, self.spec.hidden)? })
    }

    fn pointwise_forward(&self, sums: &Sums, _: &RnnState) -> Result<(RnnState, Saved)> {
        let sum = (&sums.input + &sums.recurrent)?;
        let h = match self.activation {
            Activation::Tanh => sum.tanh()?,
            // Not candle's relu: its gradient at exactly 0 is 1, PyTorch's and ours is 0. NaN stays NaN.
            Activation::Relu => sum.le(0.0)?.where_cond(&sum.zeros_like()?, &sum)?,
        };
        Ok((RnnState { h: h.clone() }, Saved(vec![h])))
    }

    fn pointwise_backward(&self, saved: &Saved, dnext: &RnnState) -> Result<PointwiseGrads<RnnState>> {
        let [h] = saved.read("RnnCell")?;
        let slope = match self.activation {
            Activation::Tanh => (1.0 - h.sqr()?)?,
            Activation::Relu => h.gt(0.0)?.to_dtype(h.dtype())?,
        };
        let dsum = (&dnext.h * slope)?;
        // h reaches the next step through the recurrent product alone.
        let state = RnnState { h: dnext.h.zeros_like()? };
        Ok(PointwiseGrads::one_sided(dsum, state))
    }

    fn kernel(&self) -> Option<&'static dyn Kernel> {
        static TANH: &dyn Kernel = &pointwise::RnnTanh;
        static RELU: &dyn Kernel = &pointwise::RnnRelu;
        Some(match self.activation {
            Activation::Tanh => TANH,
            Activation::Relu => RELU,
        })
    }
}
