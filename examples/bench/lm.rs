//! `lm` and `generate`: a language model of an embedding, a stack of recurrent layers and an output layer.

use crate::candle_nn_layers::CandleNn;
use crate::chain;
use crate::check::{self, Answer};
use crate::graph::{Layers, Ours};
use crate::{Args, Door, Who, timing};
use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Embedding, Linear, Module, Optimizer, SGD};
use rnn_core::rng::Stream;
use rnn_core::{Cell, LayerSpec, Parameters, Stack, Way};
use rnn_lm::model::CellKind;
use serde_json::{Map, Value, json};

pub(crate) const LEARNING_RATE: f64 = 0.1;
pub(crate) const MAX_NORM: f64 = 0.25;

/// Training steps.
pub(crate) fn train<C: Cell>(args: &Args) -> Result<Map<String, Value>> {
    match (args.way, args.door()) {
        (Who::CandleNn, _) => train_graph::<C, _>(args, |p| candle_nn(args, p)),
        (Who::Reference, _) => train_graph::<C, _>(args, |p| ours::<C>(args, p, Way::Reference)),
        (Who::Manual, Door::Graph) => train_graph::<C, _>(args, |p| ours::<C>(args, p, Way::Manual)),
        (Who::Fused, Door::Graph) => train_graph::<C, _>(args, |p| ours::<C>(args, p, Way::Fused)),
        (Who::Manual, Door::Chain) => chain::train::<C>(args, Way::Manual),
        (Who::Fused, Door::Chain) => chain::train::<C>(args, Way::Fused),
    }
}

/// Tokens, one at a time.
pub(crate) fn generate<C: Cell>(args: &Args) -> Result<Map<String, Value>> {
    match args.way {
        Who::CandleNn => generate_graph::<C, _>(args, |p| candle_nn(args, p)),
        Who::Reference => generate_graph::<C, _>(args, |p| ours::<C>(args, p, Way::Reference)),
        Who::Manual => generate_graph::<C, _>(args, |p| ours::<C>(args, p, Way::Manual)),
        Who::Fused => chain::generate::<C>(args, Way::Fused),
    }
}

fn ours<C: Cell>(args: &Args, parameters: &Parameters, way: Way) -> Result<Ours<C>> {
    let spec = LayerSpec::new(args.embed, args.hidden);
    Ok(Ours::new(Stack::new(spec, args.layers, &parameters.builder().pp("rnn"))?, way))
}

fn candle_nn(args: &Args, parameters: &Parameters) -> Result<CandleNn> {
    CandleNn::new(args.cell, (args.embed, args.hidden, args.layers), &parameters.builder().pp("rnn"))
}

/// A language model in candle's own ops around some recurrent layers.
struct GraphModel<L: Layers> {
    embed: Embedding,
    layers: L,
    out: Linear,
    parameters: Parameters,
    optimizer: SGD,
    state: L::State,
}

impl<L: Layers> GraphModel<L> {
    /// A model whose parameters depend on their names and shapes alone: two models begin the same.
    fn new(args: &Args, batch: usize, layers: impl Fn(&Parameters) -> Result<L>) -> Result<Self> {
        let parameters = Parameters::new(0, DType::F32, &args.device()?);
        // The oracle's layers come first, so that whoever computes, the numbers begin as this project draws them.
        match args.cell {
            CellKind::Rnn => drop(ours::<rnn_core::RnnCell>(args, &parameters, Way::Reference)?),
            CellKind::Lstm => drop(ours::<rnn_core::LstmCell>(args, &parameters, Way::Reference)?),
            CellKind::Gru => drop(ours::<rnn_core::GruCell>(args, &parameters, Way::Reference)?),
        }
        let vb = parameters.builder();
        let embed = candle_nn::embedding(args.vocab, args.embed, vb.pp("embed"))?;
        let out = candle_nn::linear(args.hidden, args.vocab, vb.pp("out"))?;
        let layers = layers(&parameters)?;
        let state = layers.zero_state(batch)?;
        let optimizer = SGD::new(parameters.vars(), LEARNING_RATE)?;
        Ok(Self { embed, layers, out, parameters, optimizer, state })
    }

    fn loss(&mut self, ids: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (hs, next) = self.layers.forward(&self.embed.forward(ids)?, &self.state)?;
        self.state = L::detach(next);
        let logits = self.out.forward(&hs)?.flatten_to(1)?;
        Ok(candle_nn::loss::cross_entropy(&logits, targets)?)
    }

    fn step(&mut self, ids: &Tensor, targets: &Tensor) -> Result<()> {
        let mut grads = self.loss(ids, targets)?.backward()?;
        self.clip(&mut grads)?;
        Ok(self.optimizer.step(&grads)?)
    }

    /// Scales all gradients so that the norm over all of them is at most [`MAX_NORM`].
    fn clip(&self, grads: &mut GradStore) -> Result<()> {
        let mut squares = 0f64;
        for (name, var) in self.parameters.named() {
            let grad = grads.get(&var).with_context(|| format!("no gradient of {name}"))?;
            squares += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        let scale = MAX_NORM / (squares.sqrt() + 1e-6);
        if scale < 1.0 {
            for var in self.parameters.vars() {
                let grad = grads.get(&var).context("a parameter has no gradient")?;
                let scaled = (grad * scale)?;
                grads.insert(&var, scaled);
            }
        }
        Ok(())
    }

    fn infer(&mut self, ids: &Tensor) -> Result<Tensor> {
        let (hs, next) = self.layers.infer(&self.embed.forward(ids)?.detach(), &self.state)?;
        self.state = next;
        Ok(self.out.forward(&hs)?.detach())
    }

    /// The loss and the clipped gradients of each of some windows, with a step after each.
    fn training_answer(&mut self, windows: &[(Tensor, Tensor)]) -> Result<Answer> {
        let mut answer = Answer::new();
        for (i, (ids, targets)) in windows.iter().enumerate() {
            let loss = self.loss(ids, targets)?;
            let mut grads = loss.backward()?;
            answer.push((format!("loss {i}"), loss));
            self.clip(&mut grads)?;
            for (name, var) in self.parameters.named() {
                let grad = grads.get(&var).with_context(|| format!("no gradient of {name}"))?;
                answer.push((format!("gradient {i} of {name}"), grad.clone()));
            }
            self.optimizer.step(&grads)?;
        }
        Ok(answer)
    }
}

fn train_graph<C: Cell, L: Layers>(
    args: &Args,
    layers: impl Fn(&Parameters) -> Result<L>,
) -> Result<Map<String, Value>> {
    let device = args.device()?;
    let checked = check::apart(args, || {
        let (batch, time) = (args.batch.min(3), args.time.min(9));
        let windows = (0..2).map(|i| window(args, (batch, time), i, &device)).collect::<Result<Vec<_>>>()?;
        let mut oracle = GraphModel::new(args, batch, |p| ours::<C>(args, p, Way::Reference))?;
        let mut model = GraphModel::new(args, batch, &layers)?;
        check::compare(&model.training_answer(&windows)?, &oracle.training_answer(&windows)?)
    })?;

    let mut model = GraphModel::new(args, args.batch, &layers)?;
    let (ids, targets) = window(args, (args.batch, args.time), 0, &device)?;
    let times = timing::timed(&device, args, || model.step(&ids, &targets))?;
    Ok(report(&times, args.batch * args.time, checked))
}

fn generate_graph<C: Cell, L: Layers>(
    args: &Args,
    layers: impl Fn(&Parameters) -> Result<L>,
) -> Result<Map<String, Value>> {
    let device = args.device()?;
    let checked = check::apart(args, || {
        let batch = args.batch.min(3);
        let (ids, _) = window(args, (batch, args.tokens.min(9)), 0, &device)?;
        let mut oracle = GraphModel::new(args, batch, |p| ours::<C>(args, p, Way::Reference))?;
        let mut model = GraphModel::new(args, batch, &layers)?;
        // The same tokens go into both: one close call of the argmax would make the rest incomparable.
        let (mut got, mut want) = (Answer::new(), Answer::new());
        for t in 0..ids.dim(1)? {
            let token = ids.narrow(1, t, 1)?;
            got.push((format!("logits {t}"), model.infer(&token)?));
            want.push((format!("logits {t}"), oracle.infer(&token)?));
        }
        check::compare(&got, &want)
    })?;

    let mut model = GraphModel::new(args, args.batch, &layers)?;
    let (first, _) = window(args, (args.batch, 1), 0, &device)?;
    let times = timing::timed(&device, args, || {
        model.state = model.layers.zero_state(args.batch)?;
        let mut token = first.clone();
        for _ in 0..args.tokens {
            token = model.infer(&token)?.argmax(D::Minus1)?;
        }
        Ok(())
    })?;
    Ok(report(&times, args.batch * args.tokens, checked))
}

pub(crate) fn report(times: &[f64], tokens: usize, checked: f64) -> Map<String, Value> {
    let ms = timing::median(times);
    let mut result = Map::new();
    result.insert("ms".into(), json!(ms));
    result.insert("ms_min".into(), json!(timing::least(times)));
    result.insert("tokens_per_s".into(), json!(tokens as f64 / ms * 1e3));
    result.insert("checked".into(), json!(checked));
    result
}

/// Random ids `[N, T]` and targets `[N*T]`.
pub(crate) fn window(
    args: &Args,
    (batch, time): (usize, usize),
    number: u64,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let ids = |purpose: &str| -> Vec<u32> {
        let mut stream = Stream::new(0, purpose, number);
        (0..batch * time).map(|_| stream.uniform(0.0, args.vocab as f64) as u32).collect()
    };
    let inputs = Tensor::from_vec(ids("bench/ids"), (batch, time), device)?;
    Ok((inputs, Tensor::from_vec(ids("bench/targets"), batch * time, device)?))
}
