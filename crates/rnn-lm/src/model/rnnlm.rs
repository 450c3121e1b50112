//! The model: TimeEmbedding, a stack of recurrent layers, TimeAffine, TimeSoftmaxWithLoss.

use super::{Engine, Evaluation, LanguageModel, Sampling, chain::Chain, graph::Graph, infer, manual::Manual};
use crate::data::Window;
use crate::layers::{TimeAffine, TimeEmbedding, TimeSoftmaxWithLoss, check_ids, check_targets};
use crate::train::{Grad, Sgd, Values};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, Var};
use rnn_core::{Bias, Cell, LayerSpec, Parameters, Recurrent, RnnCell, Scheme, Stack, StackState, Way};

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

/// A recurrent language model; see the crate's page for an example.
pub struct Rnnlm<C: Cell> {
    net: Net<C>,
    parameters: Parameters,
    engine: Box<dyn Engine>,
    way: Way,
    /// The rows of the state that is carried; none where it is zero.
    rows: Option<usize>,
}

/// The book's chapter 5 model.
pub type SimpleRnnlm = Rnnlm<RnnCell>;

/// The layers, which all engines share.
#[derive(Debug, Clone)]
pub(super) struct Net<C> {
    pub(super) embedding: TimeEmbedding,
    pub(super) stack: Stack<C>,
    pub(super) affine: TimeAffine,
}

impl<C: Cell> Rnnlm<C> {
    /// A model whose parameters are drawn from `seed`.
    ///
    /// # Errors
    /// Where a size of `spec` is zero, or so large that its parameters cannot be counted.
    pub fn new(spec: &LmSpec, way: Way, (dtype, device): (DType, &Device), seed: u64) -> Result<Self> {
        check(spec, C::GATES)?;
        let parameters = Parameters::new(seed, dtype, device);
        let vb = parameters.builder();
        let layer = LayerSpec::new(spec.embed, spec.hidden).bias(spec.bias).init(spec.init);
        let net = Net::<C> {
            embedding: TimeEmbedding::new(spec.vocabulary, spec.embed, spec.init, &vb.pp("embedding"))?,
            stack: Stack::new(layer, spec.layers, &vb.pp("rnn"))?.with_way(way),
            affine: TimeAffine::new(spec.hidden, spec.vocabulary, spec.init, &vb.pp("affine"))?,
        };
        let way = net.stack.layers()[0].way();
        let engine: Box<dyn Engine> = match (way, dtype) {
            (Way::Reference, _) => Box::new(Graph::new(net.clone(), parameters.vars())),
            (Way::Fused, DType::F32) => Box::new(Chain::<f32>::new(&net)?),
            (Way::Fused, DType::F64) => Box::new(Chain::<f64>::new(&net)?),
            _ => Box::new(Manual::new(net.clone())),
        };
        Ok(Self { net, parameters, engine, way, rows: None })
    }

    /// The loss of `ids [N, T]` and its targets, row by row, through candle's autograd, and the next state: for models
    /// of a user's own, and what holds every gradient of the other ways.
    ///
    /// # Errors
    /// Where an id is outside the vocabulary, or sizes do not fit.
    pub fn loss(
        &self,
        ids: &Tensor,
        targets: &[u32],
        state: &StackState<C::State>,
    ) -> Result<(Tensor, StackState<C::State>)> {
        let (hs, next) = self.net.stack.forward(&self.net.embedding.forward(ids)?, state)?;
        Ok((TimeSoftmaxWithLoss.forward(&self.net.affine.forward(&hs)?, targets)?, next))
    }

    /// The state of zeros for `batch` rows.
    ///
    /// # Errors
    /// Where `batch` is zero.
    pub fn zero_state(&self, batch: usize) -> Result<StackState<C::State>> {
        Ok(self.net.stack.zero_state(batch)?)
    }

    /// All that can be wrong with a window, before anything is changed.
    fn check(&self, window: &Window) -> Result<()> {
        let (batch, time) = (window.batch, window.time);
        let want = batch.checked_mul(time).unwrap_or(0);
        if window.xs.len() != want || want == 0 {
            let expected = format!("{batch} x {time} ids, at least one");
            return Err(Error::invalid("Rnnlm::forward: xs", expected, window.xs.len()));
        }
        let vocabulary = self.net.embedding.weight().dim(0)?;
        check_ids("Rnnlm::forward: xs", &window.xs, vocabulary)?;
        check_targets("Rnnlm::forward: ts", &window.ts, want, vocabulary)?;
        match self.rows {
            Some(rows) if rows != batch && !window.first => {
                let expected = format!("{rows} rows, as in the window before");
                Err(Error::invalid("Rnnlm::forward: batch", expected, batch).hint("reset_state begins anew"))
            }
            _ => Ok(()),
        }
    }
}

impl<C: Cell> LanguageModel for Rnnlm<C> {
    fn forward(&mut self, window: &Window) -> Result<f64> {
        self.check(window)?;
        if window.first {
            self.reset_state();
        }
        let loss = self.engine.forward(window)?;
        self.rows = Some(window.batch);
        Ok(loss)
    }

    fn backward(&mut self) -> Result<()> {
        self.engine.backward()
    }

    fn update(&mut self, rule: &Sgd) -> Result<f64> {
        let grads = self.engine.grads().ok_or_else(|| missing("update"))?;
        rule.step(&self.parameters.vars(), &grads)
    }

    fn reset_state(&mut self) {
        self.engine.reset_state();
        self.rows = None;
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        self.parameters.named()
    }

    fn gradients(&self) -> Result<Vec<(String, Tensor)>> {
        let grads = self.engine.grads().ok_or_else(|| missing("gradients"))?;
        let named = self.parameters.named();
        named
            .into_iter()
            .zip(grads)
            .map(|((name, var), grad)| Ok((name, dense(&grad, var.as_tensor())?)))
            .collect()
    }

    fn evaluate(&self, ids: &[u32], time: usize) -> Result<Evaluation> {
        infer::evaluate(&self.net, ids, time)
    }

    fn probabilities(&self, ids: &[u32]) -> Result<Vec<Vec<f64>>> {
        infer::probabilities(&self.net, ids)
    }

    fn generate(&self, prompt: &[u32], count: usize, sampling: &Sampling) -> Result<Vec<u32>> {
        infer::generate(&self.net, prompt, count, sampling)
    }

    fn way(&self) -> Way {
        self.way
    }
}

fn missing(op: &str) -> Error {
    Error::invalid(format!("Rnnlm::{op}"), "a backward before it", "none")
}

/// A gradient as a tensor of the parameter's shape.
fn dense(grad: &Grad<'_>, like: &Tensor) -> Result<Tensor> {
    let rows = match grad {
        Grad::Dense(_) => like.shape().clone(),
        Grad::Rows { ids, .. } => (ids.len(), like.dim(1)?).into(),
    };
    let values = match grad.values() {
        Values::F32(numbers) => Tensor::from_slice(numbers, rows, like.device())?,
        Values::F64(numbers) => Tensor::from_slice(numbers, rows, like.device())?,
        Values::Tensor(tensor) => tensor.copy()?,
    };
    match grad {
        Grad::Dense(_) => Ok(values),
        Grad::Rows { ids, .. } => {
            let ids = Tensor::from_slice(ids, ids.len(), like.device())?;
            Ok(like.zeros_like()?.detach().index_add(&ids, &values, 0)?)
        }
    }
}

/// Every size at least 1, and the parameters few enough to be counted in memory.
fn check(spec: &LmSpec, gates: usize) -> Result<()> {
    /// A hundred thousand million numbers: 400 GB in f32.
    const MOST: usize = 100_000_000_000;
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
        _ => Err(Error::invalid("LmSpec", format!("at most {MOST} parameters"), format!("{spec:?}"))),
    }
}
