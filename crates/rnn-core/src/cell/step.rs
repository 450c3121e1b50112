//! One step of any cell in tensor ops, and its backward by hand: products, projection, and between them the cell.

use super::{Cell, CellState, LayerParams, PointwiseGrads, Saved, Sums};
use crate::Result;
use candle_core::Tensor;

/// What one step's forward leaves for its backward.
#[derive(Debug, Clone)]
pub(crate) struct StepTape {
    /// What the recurrent product took, `[N, P]`.
    pub(crate) fed: Tensor,
    /// What the projection took, `[N, H]`.
    pub(crate) hidden: Option<Tensor>,
    pub(crate) saved: Saved,
}

/// From the input half of the gate sums `[N, G*H]`, what is fed to the recurrent product `[N, P]` and the state before
/// the step to the state after it. Differentiable.
pub(crate) fn forward<C: Cell>(
    cell: &C,
    input: Tensor,
    fed: &Tensor,
    state: &C::State,
) -> Result<(C::State, StepTape)> {
    let params = cell.params();
    let recurrent = params.recurrent_sums(fed)?;
    let (next, saved) = cell.pointwise_forward(&Sums { input, recurrent }, state)?;
    let hidden = params.weight_hr.is_some().then(|| next.h().clone());
    let next = next.with_h(params.project(next.h())?);
    Ok((next, StepTape { fed: fed.clone(), hidden, saved }))
}

/// What one step's backward gives.
#[derive(Debug)]
pub(crate) struct StepBack<S> {
    /// With respect to the gate sums.
    pub(crate) gates: Sums,
    /// With respect to what was fed.
    pub(crate) dfed: Tensor,
    /// With respect to the state before the step, as far as it does not pass through what was fed.
    pub(crate) direct: S,
    /// With respect to the cell's own parameters.
    pub(crate) own: Vec<Tensor>,
}

/// The backward of [`forward`], from the gradient of the state after the step.
pub(crate) fn backward<C: Cell>(cell: &C, tape: &StepTape, dnext: &C::State) -> Result<StepBack<C::State>> {
    let params = cell.params();
    let dhidden = match &params.weight_hr {
        Some(weight) => dnext.h().matmul(weight)?,
        None => dnext.h().clone(),
    };
    let PointwiseGrads { sums, state, own } = cell.pointwise_backward(&tape.saved, &dnext.with_h(dhidden))?;
    let dfed = sums.recurrent.matmul(&params.weight_hh)?;
    // A cell that projects does without the h before the step: there is no gradient but through what was fed.
    let direct = match &params.weight_hr {
        Some(_) => state.with_h(dfed.zeros_like()?),
        None => state,
    };
    Ok(StepBack { gates: sums, dfed, direct, own })
}

/// What the gradients of the parameters are made of, for any number of steps and rows: each is a sum over all of them.
pub(crate) struct Factors<'a> {
    /// `[rows, G*H]` each.
    pub(crate) gates: &'a Sums,
    /// `[rows, D]`
    pub(crate) xs: &'a Tensor,
    /// `[rows, P]`
    pub(crate) fed: &'a Tensor,
    /// Of a projection: the gradients `[rows, P]` of what it gave, and what it took, `[rows, H]`.
    pub(crate) projection: Option<(Tensor, Tensor)>,
    /// Summed already.
    pub(crate) own: Vec<Tensor>,
}

impl Factors<'_> {
    /// The gradient of each of `params`.
    pub(crate) fn gradients(self, params: &LayerParams) -> Result<LayerParams> {
        let Self { gates, xs, fed, projection, own } = self;
        let mut own = own.into_iter();
        Ok(LayerParams {
            weight_ih: gates.input.t()?.matmul(xs)?,
            weight_hh: gates.recurrent.t()?.matmul(fed)?,
            bias_ih: params.bias_ih.as_ref().map(|_| gates.input.sum(0)).transpose()?,
            bias_hh: params.bias_hh.as_ref().map(|_| gates.recurrent.sum(0)).transpose()?,
            weight_hr: projection.map(|(dh, hidden)| dh.t()?.matmul(&hidden)).transpose()?,
            own: params.own.iter().filter_map(|(name, _)| Some((*name, own.next()?))).collect(),
        })
    }
}
