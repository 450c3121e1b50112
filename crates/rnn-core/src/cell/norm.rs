//! Layer normalisation inside a recurrent cell, [`Normed`].

use super::{Cell, Half, LayerParams, LayerSpec, Own, PointwiseGrads, Saved, Sums};
use crate::Result;
use crate::convention::{NORM_EPSILON, NORM_HH, NORM_IH};
use crate::kernels::Kernel;
use crate::sums::{column_sums, wide};
use candle_core::{D, Tensor};
use candle_nn::{Init, VarBuilder};

/// A cell whose two products are normalised before their biases are added (Ba, Kiros & Hinton 2016), around any cell that
/// leaves [`Cell::shape`] as it is: what this one does stands in its place.
///
/// ```text
/// input     = gamma_ih * norm(x W_ih^T) + b_ih
/// recurrent = gamma_hh * norm(h W_hh^T) + b_hh
/// norm(v)   = (v - mean(v)) / sqrt(var(v) + 1e-5)    over the gate sums of a row
/// ```
///
/// The two are the halves of the gate sums, [`Sums`], from which the cell goes on. var(v) divides by the number of
/// sums. gamma_ih is `norm_ih_l{k} [G*H]`, gamma_hh is `norm_hh_l{k}` with as many numbers as `weight_hh` has rows;
/// both begin as ones.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::{Cell, GruCell, LayerSpec, Normed, Parameters};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// Normed::<GruCell>::new(LayerSpec::new(3, 4), parameters.builder())?;
/// let (name, gamma) = parameters.named().remove(4);
/// assert_eq!((name.as_str(), gamma.to_vec1::<f32>()?), ("norm_ih_l0", vec![1.0; 12]));
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Normed<C>(C);

impl<C: Cell> Cell for Normed<C> {
    type State = C::State;
    const GATES: usize = C::GATES;

    fn new(spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        let cell = C::new(spec, vb.clone())?;
        let rows = cell.params().weight_hh.dim(0)?;
        let ones = Init::Const(1.0);
        let params = cell.params().clone();
        let params = params.and((NORM_IH, &[C::GATES * spec.hidden]), ones, (&spec, &vb))?;
        let params = params.and((NORM_HH, &[rows]), ones, (&spec, &vb))?;
        Ok(Self(cell.with_params(params)))
    }

    fn spec(&self) -> &LayerSpec {
        self.0.spec()
    }

    fn params(&self) -> &LayerParams {
        self.0.params()
    }

    fn with_params(&self, params: LayerParams) -> Self {
        Self(self.0.with_params(params))
    }

    fn zero_state(&self, batch: usize) -> Result<C::State> {
        self.0.zero_state(batch)
    }

    fn shape(&self, half: Half, product: &Tensor) -> Result<(Tensor, Saved)> {
        forward(product, self.params().own(gamma(half))?)
    }

    fn shape_backward(&self, half: Half, saved: &Saved, dshaped: &Tensor) -> Result<(Tensor, Own)> {
        let (dproduct, dgamma) = backward(saved, self.params().own(gamma(half))?, dshaped)?;
        Ok((dproduct, vec![(gamma(half), dgamma)]))
    }

    fn pointwise_fed(&self, sums: &Sums, fed: &Tensor, state: &C::State) -> Result<(C::State, Saved)> {
        self.0.pointwise_fed(sums, fed, state)
    }

    fn pointwise_forward(&self, sums: &Sums, state: &C::State) -> Result<(C::State, Saved)> {
        self.0.pointwise_forward(sums, state)
    }

    fn pointwise_backward(&self, saved: &Saved, dnext: &C::State) -> Result<PointwiseGrads<C::State>> {
        self.0.pointwise_backward(saved, dnext)
    }

    /// The engine sees the factors, and normalises.
    fn kernel(&self) -> Option<&'static dyn Kernel> {
        self.0.kernel()
    }
}

fn gamma(half: Half) -> &'static str {
    match half {
        Half::Input => NORM_IH,
        Half::Recurrent => NORM_HH,
    }
}

/// `gamma * norm(x)` for `x [rows, size]`.
pub(super) fn forward(x: &Tensor, gamma: &Tensor) -> Result<(Tensor, Saved)> {
    let (x, dtype) = (x.to_dtype(wide(x.dtype()))?, x.dtype());
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let deviation = (variance + NORM_EPSILON)?.sqrt()?;
    let normed = centred.broadcast_div(&deviation)?.to_dtype(dtype)?;
    Ok((normed.broadcast_mul(gamma)?, Saved(vec![normed, deviation])))
}

/// The gradients of x and of gamma, the latter summed over the rows.
pub(super) fn backward(saved: &Saved, gamma: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
    let [normed, deviation] = saved.read("norm::backward")?;
    let dtype = dy.dtype();
    let wide = |tensor: &Tensor| tensor.to_dtype(wide(dtype));
    let (normed, dy) = (wide(&normed)?, wide(dy)?);
    let dnormed = dy.broadcast_mul(&wide(&gamma.detach())?)?;
    // x moves its mean and its deviation too: what lies along either has no effect.
    let along_ones = dnormed.mean_keepdim(D::Minus1)?;
    let along_normed = (&dnormed * &normed)?.mean_keepdim(D::Minus1)?;
    let across = dnormed.broadcast_sub(&along_ones)?;
    let across = (across - normed.broadcast_mul(&along_normed)?)?;
    let dgamma = column_sums(&(dy * &normed)?)?;
    Ok((across.broadcast_div(&deviation)?.to_dtype(dtype)?, dgamma.to_dtype(dtype)?))
}
