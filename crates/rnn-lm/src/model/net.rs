//! The layers of a language model, which all engines share.

use crate::layers::{TimeAffine, TimeEmbedding};
use crate::{Error, Result};
use candle_nn::VarBuilder;
use rnn_core::{Bias, Cell, LayerSpec, Scheme, Stack, Way};

/// The sizes of a language model, its biases and how it begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LmSpec {
    /// V
    pub vocabulary: usize,
    /// D, the size of an embedding.
    pub embed: usize,
    /// H
    pub hidden: usize,
    /// L
    pub layers: usize,
    /// Of the recurrent layers.
    pub bias: Bias,
    /// How all parameters begin.
    pub init: Scheme,
}

/// The layers, and the names of their parameters.
#[derive(Debug, Clone)]
pub(super) struct Net<C> {
    pub(super) embedding: TimeEmbedding,
    pub(super) stack: Stack<C>,
    pub(super) affine: TimeAffine,
}

impl<C: Cell> Net<C> {
    pub(super) fn new(spec: &LmSpec, way: Way, vb: &VarBuilder) -> Result<Self> {
        check(spec, C::GATES)?;
        let layer = LayerSpec::new(spec.embed, spec.hidden).bias(spec.bias).init(spec.init);
        Ok(Self {
            embedding: TimeEmbedding::new(spec.vocabulary, spec.embed, spec.init, &vb.pp("embedding"))?,
            stack: Stack::new(layer, spec.layers, &vb.pp("rnn"))?.with_way(way),
            affine: TimeAffine::new(spec.hidden, spec.vocabulary, spec.init, &vb.pp("affine"))?,
        })
    }
}

/// Every size at least 1, and the parameters few enough to be counted in memory.
fn check(spec: &LmSpec, gates: usize) -> Result<()> {
    /// Ten thousand million numbers: 40 GB in f32.
    const MOST: usize = 10_000_000_000;
    let &LmSpec { vocabulary, embed, hidden, layers, .. } = spec;
    for (name, value) in
        [("vocabulary", vocabulary), ("embed", embed), ("hidden", hidden), ("layers", layers)]
    {
        if value == 0 {
            return Err(Error::invalid(format!("LmSpec: {name}"), "at least 1", value));
        }
    }
    let product = |factors: &[usize]| factors.iter().try_fold(1usize, |all, &factor| all.checked_mul(factor));
    let parts = [
        product(&[vocabulary, embed]),
        product(&[vocabulary, hidden]),
        product(&[gates, hidden, embed]),
        product(&[2, gates, hidden, hidden, layers]),
    ];
    let total = parts.into_iter().try_fold(0usize, |sum, part| sum.checked_add(part?));
    match total {
        Some(total) if total <= MOST => Ok(()),
        _ => {
            let got = format!("vocabulary {vocabulary}, embed {embed}, hidden {hidden}, layers {layers}");
            Err(Error::invalid("LmSpec", format!("at most {MOST} parameters"), got))
        }
    }
}
