//! One step of any cell in tensor ops, and its backward by hand: products, projection, and between them the cell.

use super::state::with_parts;
use super::{Cell, CellState, Half, LayerParams, Own, PointwiseGrads, Saved, State, Sums};
use crate::Result;
use crate::sums::{column_sums, wide};
use candle_core::Tensor;

/// The input half of the gate sums of `x [rows, D]`, of any number of steps and rows, and what [`Factors`] needs of it.
pub(crate) fn input<C: Cell>(cell: &C, x: &Tensor) -> Result<(Tensor, Saved)> {
    let LayerParams { weight_ih, bias_ih, .. } = cell.params();
    let (shaped, saved) = cell.shape(Half::Input, &times(x, weight_ih)?)?;
    Ok((plus(shaped, bias_ih.as_ref())?, saved))
}

/// What one step's forward leaves for its backward.
#[derive(Debug, Clone)]
pub(crate) struct StepTape {
    /// What the recurrent product took, `[N, P]`.
    pub(crate) fed: Tensor,
    /// What the projection took, `[N, H]`.
    pub(crate) hidden: Option<Tensor>,
    shaped: Saved,
    saved: Saved,
}

/// From the input half of the gate sums `[N, G*H]`, what is fed to the recurrent product `[N, P]` and the state before
/// the step to the state after it. Differentiable.
pub(crate) fn forward<C: Cell>(
    cell: &C,
    input: Tensor,
    fed: &Tensor,
    state: &C::State,
) -> Result<(C::State, StepTape)> {
    let LayerParams { weight_hh, bias_hh, weight_hr, .. } = cell.params();
    let (recurrent, shaped) = cell.shape(Half::Recurrent, &times(fed, weight_hh)?)?;
    let recurrent = plus(recurrent, bias_hh.as_ref())?;
    let (next, saved) = cell.pointwise_fed(&Sums { input, recurrent }, fed, state)?;
    let (next, hidden) = match weight_hr {
        Some(weight) => (next.with_h(times(next.h(), weight)?), Some(next.h().clone())),
        None => (next, None),
    };
    Ok((next, StepTape { fed: fed.clone(), hidden, shaped, saved }))
}

/// What one step's backward gives.
#[derive(Debug)]
pub(crate) struct StepBack<S> {
    /// With respect to the gate sums.
    pub(crate) gates: Sums,
    /// With respect to the recurrent product.
    pub(crate) product: Tensor,
    /// With respect to what was fed.
    pub(crate) dfed: Tensor,
    /// With respect to the state before the step, as far as it does not pass through what was fed.
    pub(crate) direct: S,
    /// With respect to the cell's own parameters.
    pub(crate) own: Own,
}

/// The backward of [`forward`], from the gradient of the state after the step.
pub(crate) fn backward<C: Cell>(cell: &C, tape: &StepTape, dnext: &C::State) -> Result<StepBack<C::State>> {
    let params = cell.params();
    let dhidden = match &params.weight_hr {
        Some(weight) => dnext.h().matmul(weight)?,
        None => dnext.h().clone(),
    };
    let PointwiseGrads { sums: gates, state, fed, mut own } =
        cell.pointwise_backward(&tape.saved, &dnext.with_h(dhidden))?;
    let (product, of_shape) = cell.shape_backward(Half::Recurrent, &tape.shaped, &gates.recurrent)?;
    own.extend(of_shape);
    let mut dfed = product.matmul(&params.weight_hh)?;
    if let Some(fed) = fed {
        dfed = (dfed + fed)?;
    }
    // A cell that projects does without the h before the step: there is no gradient but through what was fed.
    let direct = match &params.weight_hr {
        Some(_) => state.with_h(dfed.zeros_like()?),
        None => state,
    };
    Ok(StepBack { gates, product, dfed, direct, own })
}

/// What the gradients of the parameters are made of, for any number of steps and rows: each is a sum over all of them.
pub(crate) struct Factors<'a> {
    /// `[rows, G*H]` each.
    pub(crate) gates: &'a Sums,
    /// Of the recurrent product, `[rows, G*H]`.
    pub(crate) product: &'a Tensor,
    /// `[rows, P]`
    pub(crate) fed: &'a Tensor,
    /// Of a projection: the gradients `[rows, P]` of what it gave, and what it took, `[rows, H]`.
    pub(crate) projection: Option<(Tensor, Tensor)>,
    /// Of each step.
    pub(crate) own: Own,
}

impl Factors<'_> {
    /// The gradient of the input `[rows, D]`, and of each parameter; `xs` and what [`input`] saved of them.
    pub(crate) fn gradients<C: Cell>(
        self,
        cell: &C,
        (xs, shaped): (&Tensor, &Saved),
    ) -> Result<(Tensor, LayerParams)> {
        let Self { gates, product, fed, projection, mut own } = self;
        let params = cell.params();
        let (of_input, of_shape) = cell.shape_backward(Half::Input, shaped, &gates.input)?;
        own.extend(of_shape);
        let sum = |parameter: &'static str, like: &Tensor| {
            let mut all = own.iter().filter(|(name, _)| *name == parameter);
            let wide = |grad: &Tensor| grad.to_dtype(wide(like.dtype()));
            let first = all.next().map_or_else(|| wide(&like.zeros_like()?), |(_, first)| wide(first))?;
            all.try_fold(first, |sum, (_, grad)| sum + wide(grad)?)?.to_dtype(like.dtype())
        };
        let own = params.own.iter().map(|(name, tensor)| Ok((*name, sum(name, tensor)?)));
        let own = own.collect::<Result<_>>()?;
        let grads = LayerParams {
            weight_ih: of_input.t()?.matmul(xs)?,
            weight_hh: product.t()?.matmul(fed)?,
            bias_ih: params.bias_ih.as_ref().map(|_| column_sums(&gates.input)).transpose()?,
            bias_hh: params.bias_hh.as_ref().map(|_| column_sums(&gates.recurrent)).transpose()?,
            weight_hr: projection.map(|(dh, hidden)| dh.t()?.matmul(&hidden)).transpose()?,
            own,
        };
        Ok((of_input.matmul(&params.weight_ih)?, grads))
    }
}

/// The sum of two states, part by part.
pub(crate) fn sum<S: State>(a: &S, b: &S) -> Result<S> {
    let parts = a.parts().into_iter().zip(b.parts()).map(|(a, b)| a + b);
    with_parts(a, parts.collect::<candle_core::Result<Vec<_>>>()?)
}

/// `x W^T`
fn times(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&weight.t()?)?)
}

fn plus(product: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => Ok(product.broadcast_add(bias)?),
        None => Ok(product),
    }
}
