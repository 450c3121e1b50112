//! The layers of a language model, which all engines share.

use super::dropout::{Draw, Dropout, Masks};
use super::head::Head;
use super::names;
use crate::layers::{Cutoffs, TimeEmbedding};
use crate::{Error, Result};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use rnn_core::{Bias, Cell, LayerSpec, Plan, Recurrent, Scheme, Stack, StackState, State, TimeRnn, Way};

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
    /// Whether the output layer's weight is the embedding's table (Press & Wolf 2017; Inan et al. 2017), which takes D = H,
    /// or D = the last layer's size where that is another. It is then the one parameter `embedding.weight`, begins as
    /// [`Scheme::tied`] says, and its gradient is the sum of both.
    pub tied: bool,
    /// The size of the last layer where it is another than H.
    pub last: Option<usize>,
    /// Where an adaptive softmax begins its clusters, in a vocabulary in the order of frequency; none for one softmax over
    /// all words.
    pub cutoffs: Option<Cutoffs>,
    /// What keeps it from learning by heart while it is trained.
    pub dropout: Dropout,
}

/// More than anyone has trained; each has buffers of its own, however small.
const MOST_LAYERS: usize = 1000;

impl LmSpec {
    /// One layer with both biases, PyTorch's initialisation and weights that are not tied.
    pub fn new(vocabulary: usize, embed: usize, hidden: usize) -> Self {
        let (bias, init) = (Bias::default(), Scheme::default());
        let dropout = Dropout::default();
        let (last, cutoffs) = (None, None);
        Self { vocabulary, embed, hidden, layers: 1, bias, init, tied: false, last, cutoffs, dropout }
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

    /// With a last layer of another size.
    #[must_use]
    pub fn last(self, size: usize) -> Self {
        Self { last: Some(size), ..self }
    }

    /// With an adaptive softmax.
    #[must_use]
    pub fn adaptive(self, cutoffs: Cutoffs) -> Self {
        Self { cutoffs: Some(cutoffs), ..self }
    }

    /// With dropout.
    #[must_use]
    pub fn dropout(self, dropout: Dropout) -> Self {
        Self { dropout, ..self }
    }

    /// The size of what the affine layer takes.
    pub fn output(&self) -> usize {
        self.last.unwrap_or(self.hidden)
    }

    /// Whether these sizes make a model, of at most a thousand layers: every one at least 1, and those of tied weights equal.
    ///
    /// # Errors
    /// Where they do not.
    pub fn check(&self) -> Result<()> {
        let &Self { vocabulary, embed, hidden, layers, .. } = self;
        self.dropout.check()?;
        let output = self.output();
        for (name, value) in [
            ("vocabulary", vocabulary),
            ("embed", embed),
            ("hidden", hidden),
            ("layers", layers),
            ("last", output),
        ] {
            if value == 0 {
                return Err(Error::invalid(format!("LmSpec: {name}"), "at least 1", value));
            }
        }
        if layers > MOST_LAYERS {
            return Err(Error::invalid("LmSpec: layers", format!("at most {MOST_LAYERS}"), layers));
        }
        if self.tied && self.cutoffs.is_some() {
            return Err(Error::invalid("LmSpec: cutoffs", "none with tied weights", "an adaptive softmax").hint(
                "its words have vectors of several sizes, so there is no one table to share; it goes with tied = false",
            ));
        }
        if self.tied && embed != output {
            let want = match self.last {
                None => format!("{hidden}, the hidden size, of tied weights"),
                Some(last) => format!("{last}, the size of the last layer, of tied weights"),
            };
            return Err(Error::invalid("LmSpec: embed", want, embed)
                .hint("one table serves both ends, so a word is as wide at the one as at the other"));
        }
        Ok(())
    }

    /// Whether memory can be expected to have room for the parameters, of a cell with so many gates.
    fn check_count(&self, gates: usize) -> Result<()> {
        /// Ten thousand million numbers: 40 GB in f32.
        const MOST: usize = 10_000_000_000;
        let (&Self { vocabulary, embed, hidden, layers, .. }, output) = (self, self.output());
        let product =
            |factors: &[usize]| factors.iter().try_fold(1usize, |all, &factor| all.checked_mul(factor));
        let parts = [
            product(&[vocabulary, embed]),
            product(&[vocabulary, output]),
            product(&[gates, hidden, embed]),
            product(&[2, gates, hidden.max(output), hidden.max(output), layers]),
        ];
        let total = parts.into_iter().try_fold(0usize, |sum, part| sum.checked_add(part?));
        match total {
            Some(total) if total <= MOST => Ok(()),
            _ => {
                let last = self.last.map_or_else(String::new, |last| format!(", last {last}"));
                let got =
                    format!("vocabulary {vocabulary}, embed {embed}, hidden {hidden}, layers {layers}{last}");
                Err(Error::invalid("LmSpec", format!("at most {MOST} parameters"), got)
                    .hint("a smaller one of these"))
            }
        }
    }
}

/// The layers, and the names of their parameters.
#[derive(Debug, Clone)]
pub(super) struct Net<C> {
    pub(super) embedding: TimeEmbedding,
    pub(super) stack: Stack<TimeRnn<C>>,
    pub(super) head: Head,
    /// Whether the affine layer's weight is the embedding's.
    pub(super) tied: bool,
    pub(super) dropout: Dropout,
}

impl<C: Cell> Net<C> {
    pub(super) fn new(spec: &LmSpec, way: Way, vb: &VarBuilder) -> Result<Self> {
        spec.check()?;
        spec.check_count(C::GATES)?;
        let layer = LayerSpec::new(spec.embed, spec.hidden).bias(spec.bias).init(spec.init);
        let begin = if spec.tied { spec.init.tied(spec.embed) } else { spec.init.embedding() };
        let embedding =
            TimeEmbedding::with_init(spec.vocabulary, spec.embed, begin, &vb.pp(names::EMBEDDING))?;
        let stack = stack(spec, layer, &vb.pp(names::RNN))?.with_way(way);
        let head = Head::new(spec, embedding.weight(), &vb.pp(names::AFFINE))?;
        Ok(Self { embedding, stack, head, tied: spec.tied, dropout: spec.dropout })
    }

    /// What is dropped at the ends in a window.
    pub(super) fn masks(&self, ids: (&[u32], usize), draw: Draw) -> Result<Masks> {
        let table = self.embedding.weight();
        let (vocabulary, input) = table.dims2()?;
        let sizes = [vocabulary, input, self.head.inputs()?];
        let kind = (table.dtype(), table.device());
        Masks::new(&self.dropout, draw, ids, sizes, kind)
    }

    /// The state that these parts are.
    pub(super) fn state_of(&self, parts: Vec<Tensor>) -> Result<StackState<C::State>> {
        let rows = parts.first().map_or(Ok(1), |part| part.dim(0))?;
        let mut parts = parts.into_iter();
        let mut next = |part: &Tensor| Ok(parts.next().unwrap_or_else(|| part.clone()));
        Ok(self.stack.zero_state(rows)?.try_map(&mut next)?)
    }

    /// Through candle's graph: what the last layer gives for `ids [N, T]`, the same after dropout, and the next state.
    pub(super) fn outputs(
        &self,
        ids: &Tensor,
        state: &StackState<C::State>,
        masks: &Masks,
        draw: Draw,
    ) -> Result<(Tensor, Tensor, StackState<C::State>)> {
        let plan = Plan::new().draw(draw.seed, draw.window);
        let xs = masks.input(&self.embedding.forward(ids)?)?;
        let (hs, next) = self.stack.forward_with(&xs, state, &plan)?;
        Ok((hs.clone(), masks.output(&hs)?, next))
    }
}

/// Layers of H, the last one of its own size, with what acts in and between them.
fn stack<C: Cell>(spec: &LmSpec, layer: LayerSpec, vb: &VarBuilder) -> Result<Stack<TimeRnn<C>>> {
    let mut layers = Vec::with_capacity(spec.layers);
    let mut input = spec.embed;
    for k in 0..spec.layers {
        let hidden = if k + 1 == spec.layers { spec.output() } else { spec.hidden };
        let cell = C::new(LayerSpec { input, hidden, ..layer }.layer(k), vb.clone())?;
        layers.push(TimeRnn::new(cell).with_regularisers(spec.dropout.of_layer(k, spec.layers))?);
        input = hidden;
    }
    Ok(Stack::from_layers(layers)?.with_dropout(spec.dropout.of_stack())?)
}
