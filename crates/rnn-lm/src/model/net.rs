//! The layers of a language model, which all engines share.

use crate::layers::{TimeAffine, TimeEmbedding};
use crate::{Error, Result};
use candle_nn::VarBuilder;
use rnn_core::{Bias, Cell, LayerSpec, Scheme, Stack, TimeRnn, Way};

/// The sizes of a language model, its biases and how it begins.
///
/// ```
/// use rnn_core::Bias;
/// use rnn_lm::model::LmSpec;
/// let spec = LmSpec::new(10_000, 650, 650).layers(2).bias(Bias::Single).tied(true);
/// assert_eq!((spec.vocabulary, spec.layers, spec.tied), (10_000, 2, true));
/// ```
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
    /// Whether the output layer's weight is the embedding's table (Press & Wolf 2017; Inan et al. 2017), which takes
    /// D = H. It is then the one parameter `embedding.weight`, begins as an output layer's does, and its gradient is the
    /// sum of both.
    pub tied: bool,
}

impl LmSpec {
    /// One layer with both biases, PyTorch's initialisation and weights that are not tied.
    pub fn new(vocabulary: usize, embed: usize, hidden: usize) -> Self {
        let (bias, init) = (Bias::default(), Scheme::default());
        Self { vocabulary, embed, hidden, layers: 1, bias, init, tied: false }
    }

    /// With another number of layers.
    #[must_use]
    pub fn layers(self, layers: usize) -> Self {
        Self { layers, ..self }
    }

    /// With other biases.
    #[must_use]
    pub fn bias(self, bias: Bias) -> Self {
        Self { bias, ..self }
    }

    /// With another initialisation.
    #[must_use]
    pub fn init(self, init: Scheme) -> Self {
        Self { init, ..self }
    }

    /// With one table for both ends, or two.
    #[must_use]
    pub fn tied(self, tied: bool) -> Self {
        Self { tied, ..self }
    }
}

/// The layers, and the names of their parameters.
#[derive(Debug, Clone)]
pub(super) struct Net<C> {
    pub(super) embedding: TimeEmbedding,
    pub(super) stack: Stack<TimeRnn<C>>,
    pub(super) affine: TimeAffine,
    /// Whether the affine layer's weight is the embedding's.
    pub(super) tied: bool,
}

impl<C: Cell> Net<C> {
    pub(super) fn new(spec: &LmSpec, way: Way, vb: &VarBuilder) -> Result<Self> {
        check(spec, C::GATES)?;
        let layer = LayerSpec::new(spec.embed, spec.hidden).bias(spec.bias).init(spec.init);
        let begin = if spec.tied { spec.init.affine(spec.hidden) } else { spec.init.embedding() };
        let embedding = TimeEmbedding::with_init(spec.vocabulary, spec.embed, begin, &vb.pp("embedding"))?;
        let stack = Stack::new(layer, spec.layers, &vb.pp("rnn"))?.with_way(way);
        let vb = vb.pp("affine");
        let affine = if spec.tied {
            TimeAffine::sharing(embedding.weight(), spec.init, &vb)?
        } else {
            TimeAffine::new(spec.hidden, spec.vocabulary, spec.init, &vb)?
        };
        Ok(Self { embedding, stack, affine, tied: spec.tied })
    }
}

/// Every size at least 1, those of tied weights equal, and the parameters few enough to be counted in memory.
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
    if spec.tied && embed != hidden {
        let want = format!("{hidden}, the hidden size");
        return Err(Error::invalid("LmSpec: embed of tied weights", want, embed)
            .hint("one table serves both ends, so a word is as wide at the one as at the other"));
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
