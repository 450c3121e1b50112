//! From hidden states to the vocabulary: one affine layer and one softmax, or the adaptive one.

use super::net::LmSpec;
use crate::layers::{TimeAdaptive, TimeAffine, TimeSoftmaxWithLoss};
use crate::{Error, Result};
use candle_core::Tensor;
use candle_nn::VarBuilder;

#[derive(Debug, Clone)]
pub(super) enum Head {
    Full(TimeAffine),
    Adaptive(TimeAdaptive),
}

impl Head {
    /// `table` is the embedding's.
    pub(super) fn new(spec: &LmSpec, table: &Tensor, vb: &VarBuilder) -> Result<Self> {
        let (inputs, vocabulary, init) = (spec.output(), spec.vocabulary, spec.init);
        match spec.cutoffs {
            Some(cutoffs) => Ok(Self::Adaptive(TimeAdaptive::new(inputs, vocabulary, cutoffs, init, vb)?)),
            None if spec.tied => Ok(Self::Full(TimeAffine::sharing(table, init, vb)?)),
            None => Ok(Self::Full(TimeAffine::new(inputs, vocabulary, init, vb)?)),
        }
    }

    /// The one affine layer, where there is one.
    pub(super) fn full(&self) -> Result<&TimeAffine> {
        match self {
            Self::Full(affine) => Ok(affine),
            Self::Adaptive(_) => Err(Error::invalid("model", "one affine layer", "an adaptive softmax")),
        }
    }

    /// H of what it takes.
    pub(super) fn inputs(&self) -> Result<usize> {
        match self {
            Self::Full(affine) => Ok(affine.weight().dim(1)?),
            Self::Adaptive(adaptive) => adaptive.inputs(),
        }
    }

    /// Logits `[N, T, V]`, with nothing recorded.
    pub(super) fn infer(&self, hs: &Tensor) -> Result<Tensor> {
        match self {
            Self::Full(affine) => affine.infer(hs),
            Self::Adaptive(adaptive) => adaptive.infer(hs),
        }
    }

    /// The mean loss through candle's graph, by the op whose backward is by hand.
    pub(super) fn loss(&self, hs: &Tensor, targets: &[u32]) -> Result<Tensor> {
        match self {
            Self::Full(affine) => affine.loss(hs, targets),
            Self::Adaptive(adaptive) => {
                adaptive.forward(hs, targets, |logits, targets| TimeSoftmaxWithLoss.forward(logits, targets))
            }
        }
    }

    /// The same in candle's own ops.
    pub(super) fn reference(&self, hs: &Tensor, targets: &[u32]) -> Result<Tensor> {
        let loss = |logits: &Tensor, targets: &[u32]| TimeSoftmaxWithLoss.reference(logits, targets);
        match self {
            Self::Full(affine) => loss(&affine.forward(hs)?, targets),
            Self::Adaptive(adaptive) => adaptive.forward(hs, targets, loss),
        }
    }
}
