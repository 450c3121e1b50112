//! The model: TimeEmbedding, a stack of recurrent layers, TimeAffine, TimeSoftmaxWithLoss; TimeAdaptive in place of these
//! two where there are cutoffs.

use super::dropout::Draw;
use super::ends::{InKernels, InOps};
use super::net::{LmSpec, Net};
use super::{Dropout, Engine, Evaluation, LanguageModel, LmStream, Reading, infer, read, stream};
use super::{chain::Chain, graph::Graph, manual::Manual};
use crate::data::{Window, lengths};
use crate::error;
use crate::evaluate::Order;
use crate::generate::{Sampling, Writing};
use crate::layers::{check_ids, check_targets, numbers_of};
use crate::train::{MeanGrad, Optimizer};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, Var};
use rnn_core::{Cell, Parameters, Penalty, Recurrent, RnnCell, StackState, State, Way};

/// A recurrent language model; see the crate's page for an example.
pub struct Rnnlm<C: Cell> {
    net: Net<C>,
    parameters: Parameters,
    engine: Box<dyn Engine>,
    way: Way,
    /// The rows of the state that is carried; none where it is zero.
    rows: Option<usize>,
    seed: u64,
    windows: u64,
}

/// The book's chapter 5 model.
pub type SimpleRnnlm = Rnnlm<RnnCell>;

impl<C: Cell> Rnnlm<C> {
    /// A model whose parameters are drawn from `seed`. The fused way takes f32 and f64; for another dtype, or a
    /// device without kernels, the manual way takes its place, and [`LanguageModel::way`] says so.
    ///
    /// # Errors
    /// Where [`LmSpec::check`] refuses the spec (a size of 0, more than 1000 layers, tied weights with cutoffs or with
    /// `embed` not the last layer's size, a rate or a penalty out of its range), a rate of `dropout.recurrent` is out
    /// of its range, `zoneout_c` is set for a cell without c, a cutoff is not below V, or there would be more than
    /// 10^10 parameters, estimated from above.
    pub fn new(spec: &LmSpec, way: Way, (dtype, device): (DType, &Device), seed: u64) -> Result<Self> {
        let parameters = Parameters::new(seed, dtype, device);
        let net = Net::<C>::new(spec, way, &parameters.builder())?;
        let way = net.stack.layers()[0].way();
        let in_ops = !device.is_cpu() || net.head.full().is_err();
        let engine: Box<dyn Engine> = match (way, dtype, spec.dropout.any()) {
            (Way::Reference, ..) => Box::new(Graph::new(net.clone(), parameters.vars())),
            _ if in_ops => Box::new(Manual::new(net.clone(), InOps::new(&net))),
            (Way::Fused, DType::F32, false) => Box::new(Chain::<f32>::new(&net)?),
            (Way::Fused, DType::F64, false) => Box::new(Chain::<f64>::new(&net)?),
            (Way::Fused, DType::F32, true) => {
                Box::new(Manual::new(net.clone(), InKernels::<f32>::new(&net)?))
            }
            (Way::Fused, DType::F64, true) => {
                Box::new(Manual::new(net.clone(), InKernels::<f64>::new(&net)?))
            }
            _ => Box::new(Manual::new(net.clone(), InOps::new(&net))),
        };
        Ok(Self { net, parameters, engine, way, rows: None, seed, windows: 0 })
    }

    /// The mean loss in nats per target, plus penalties, of `ids [N, T]` and their targets, row by row, through
    /// candle's autograd, and the next state: for models of a user's own, and what holds every gradient of the other
    /// ways. It drops what the next window of [`LanguageModel::forward`] would; a caller counts its windows with
    /// [`LanguageModel::seek`].
    ///
    /// # Errors
    /// Where an id is outside the vocabulary, no target counts, or sizes do not fit.
    pub fn loss(
        &self,
        ids: &Tensor,
        targets: &[u32],
        state: &StackState<C::State>,
    ) -> Result<(Tensor, StackState<C::State>)> {
        let draw = Draw { seed: self.seed, window: self.windows };
        let (numbers, (batch, time)) = numbers_of("Rnnlm::loss: ids", ids)?;
        if numbers.is_empty() {
            let got = format!("[{batch}, {time}]");
            return Err(Error::invalid("Rnnlm::loss: ids", "[N, T] of at least one id", got));
        }
        check_ids("Rnnlm::loss: ids", &numbers, self.vocabulary())?;
        let masks = self.net.masks((&numbers, batch), draw)?;
        let (hs, dropped, next) = self.net.outputs(ids, state, &masks, draw)?;
        let mut loss = self.net.head.loss(&dropped, targets)?;
        let lengths = lengths(targets, time);
        for (penalty, hs) in self.net.dropout.penalties().into_iter().zip([&dropped, &hs]) {
            if penalty != Penalty::default() {
                loss = (loss + penalty.of(hs, lengths.as_deref())?)?;
            }
        }
        Ok((loss, next))
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
        let loss = self.engine.forward(window, Draw { seed: self.seed, window: self.windows })?;
        self.windows += 1;
        self.rows = Some(window.batch);
        Ok(loss)
    }

    fn penalty(&self) -> f64 {
        self.engine.penalty()
    }

    fn backward(&mut self) -> Result<()> {
        self.engine.backward()
    }

    fn update(&mut self, optimizer: &mut Optimizer) -> Result<f64> {
        let grads = self.engine.grads().ok_or_else(|| missing("update"))?;
        optimizer.step(&self.parameters.vars(), &grads)
    }

    fn add_gradients(&self, mean: &mut MeanGrad, weight: f64) -> Result<()> {
        let grads = self.engine.grads().ok_or_else(|| missing("add_gradients"))?;
        mean.add(&self.parameters.vars(), &grads, weight)
    }

    fn reset_state(&mut self) {
        self.engine.reset_state();
        self.rows = None;
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let names = self.net.stack.zero_state(1)?.names();
        Ok(self.engine.state()?.map_or_else(Vec::new, |parts| names.into_iter().zip(parts).collect()))
    }

    fn set_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let Some(rows) = state.first().and_then(|(_, part)| part.dims().first().copied()) else {
            self.reset_state();
            return Ok(());
        };
        let like = self.net.stack.zero_state(rows.max(1))?;
        let parts = like.names().into_iter().zip(like.parts()).map(|(name, like)| {
            let found = state.iter().find(|(other, _)| *other == name).map(|(_, part)| part);
            error::like(format!("Rnnlm::set_state: {name}"), found, like)
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        self.engine.set_state(parts)?;
        self.rows = Some(rows);
        Ok(())
    }

    fn windows(&self) -> u64 {
        self.windows
    }

    fn seek(&mut self, windows: u64) {
        self.windows = windows;
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
            .map(|((name, var), grad)| Ok((name, grad.dense(&var)?.copy()?)))
            .collect()
    }

    fn evaluate(&self, ids: &[u32], time: usize) -> Result<Evaluation> {
        Order::Whole.evaluate(self, ids, time, None)
    }

    fn read(
        &self,
        windows: &mut dyn Iterator<Item = Result<Window>>,
        each: &mut dyn FnMut(&Reading<'_>) -> Result<()>,
    ) -> Result<()> {
        read::read(&self.net, windows, each)
    }

    fn probabilities(&self, ids: &[u32]) -> Result<Vec<Vec<f64>>> {
        infer::probabilities(&self.net, ids)
    }

    fn generate(&self, prompt: &[u32], count: usize, sampling: &Sampling) -> Result<Vec<u32>> {
        Writing::new(self, prompt, sampling)?.take(count).collect()
    }

    fn stream(&self, rows: usize) -> Result<Box<dyn LmStream + '_>> {
        stream::stream(&self.net, rows)
    }

    fn vocabulary(&self) -> usize {
        self.net.embedding.weight().dims().first().copied().unwrap_or(0)
    }

    fn dropout(&self) -> Dropout {
        self.net.dropout
    }

    fn way(&self) -> Way {
        self.way
    }
}

fn missing(op: &str) -> Error {
    Error::invalid(format!("Rnnlm::{op}"), "a backward before it", "none")
}
