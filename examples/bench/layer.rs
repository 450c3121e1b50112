//! `layer`: a stack of recurrent layers over one window, forward and backward timed apart.

use crate::candle_nn_layers::CandleNn;
use crate::check::{self, Answer};
use crate::graph::{Layers, Ours};
use crate::{Args, Door, Who, profile, timing};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use rnn_core::rng::Stream;
use rnn_core::{
    Cell, LayerSpec, Parameters, Recurrent, Stack, StackState, StackTape, State, TimeRnn, TimeTape, Way,
};
use serde_json::{Map, Value, json};

/// Checks and times.
pub(crate) fn run<C: Cell>(args: &Args) -> Result<Map<String, Value>> {
    let device = args.device()?;
    let parameters = Parameters::new(0, DType::F32, &device);
    let spec = LayerSpec::new(args.input, args.hidden);
    let stack = Stack::<TimeRnn<C>>::new(spec, args.layers, &parameters.builder())?;
    let ours = |way| Ours::new(stack.clone(), way);
    match (args.way, args.door()) {
        (Who::CandleNn, _) => {
            let layers =
                CandleNn::new(args.cell, (args.input, args.hidden, args.layers), &parameters.builder())?;
            measure(args, &parameters, &Graph(layers), &stack)
        }
        (Who::Reference, _) => measure(args, &parameters, &Graph(ours(Way::Reference)), &stack),
        (Who::Manual, Door::Graph) => measure(args, &parameters, &Graph(ours(Way::Manual)), &stack),
        (Who::Fused, Door::Graph) => measure(args, &parameters, &Graph(ours(Way::Fused)), &stack),
        (Who::Manual, Door::Chain) => {
            measure(args, &parameters, &Chain(stack.clone().with_way(Way::Manual)), &stack)
        }
        (Who::Fused, Door::Chain) => {
            measure(args, &parameters, &Chain(stack.clone().with_way(Way::Fused)), &stack)
        }
    }
}

/// A forward and the backward that belongs to it.
trait TwoHalves {
    type Kept;
    /// Outputs from `xs [N, T, D]` and a state of zeros, and what the backward needs.
    fn forward(&self, xs: &Var) -> Result<(Tensor, Self::Kept)>;
    /// The gradients of `xs` and of every parameter, for the gradient `dhs` of the outputs.
    fn backward(&self, kept: Self::Kept, xs: &Var, dhs: &Tensor, parameters: &Parameters) -> Result<Answer>;
}

/// Through candle's graph.
struct Graph<L>(L);

impl<L: Layers> TwoHalves for Graph<L> {
    type Kept = Tensor;

    fn forward(&self, xs: &Var) -> Result<(Tensor, Tensor)> {
        let (hs, _) = self.0.forward(xs, &self.0.zero_state(xs.dim(0)?)?)?;
        Ok((hs.clone(), hs))
    }

    fn backward(&self, hs: Tensor, xs: &Var, dhs: &Tensor, parameters: &Parameters) -> Result<Answer> {
        // candle's backward starts from a number; the gradient of this one with respect to hs is dhs.
        let grads = (hs * dhs)?.sum_all()?.backward()?;
        let mut answer = vec![("xs".to_string(), grads.get(xs).context("no gradient of xs")?.clone())];
        for (name, var) in parameters.named() {
            let grad = grads.get(&var).with_context(|| format!("no gradient of {name}"))?;
            answer.push((name, grad.clone()));
        }
        Ok(answer)
    }
}

/// Without a graph: each layer's forward, then each layer's backward in reverse.
struct Chain<C>(Stack<TimeRnn<C>>);

impl<C: Cell> TwoHalves for Chain<C> {
    type Kept = (StackTape<TimeTape>, StackState<C::State>);

    fn forward(&self, xs: &Var) -> Result<(Tensor, Self::Kept)> {
        let state = self.0.zero_state(xs.dim(0)?)?;
        let (hs, next, tape) = self.0.forward_taped(&xs.as_detached_tensor(), &state)?;
        Ok((hs, (tape, next)))
    }

    fn backward(&self, (tape, next): Self::Kept, _: &Var, dhs: &Tensor, _: &Parameters) -> Result<Answer> {
        let grads = self.0.backward(tape, dhs, &next.zeros_like()?)?;
        let mut answer = vec![("xs".to_string(), grads.dxs)];
        for (k, params) in grads.params.iter().enumerate() {
            answer.extend(params.named(k).into_iter().map(|(name, grad)| (name, grad.clone())));
        }
        Ok(answer)
    }
}

fn measure<C: Cell, H: TwoHalves>(
    args: &Args,
    parameters: &Parameters,
    halves: &H,
    stack: &Stack<TimeRnn<C>>,
) -> Result<Map<String, Value>> {
    let device = args.device()?;
    let answer = |xs: &Var, dhs: &Tensor| answer(halves, parameters, xs, dhs);
    let checked = check::apart(args, || {
        let (xs, dhs) = window(args, (args.batch.min(3), args.time.min(9)), &device)?;
        let oracle = Graph(Ours::new(stack.clone(), Way::Reference));
        check::compare(&answer(&xs, &dhs)?, &self::answer(&oracle, parameters, &xs, &dhs)?)
    })?;

    let (xs, dhs) = window(args, (args.batch, args.time), &device)?;
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    let both_ways = || -> Result<(f64, f64)> {
        let ((_, kept), ms_forward) = timing::clock(&device, || halves.forward(&xs))?;
        let (_, ms_backward) = timing::clock(&device, || halves.backward(kept, &xs, &dhs, parameters))?;
        Ok((ms_forward, ms_backward))
    };
    for _ in 0..args.warmup {
        both_ways()?;
    }
    profile::of(args.profile, args.steps, || {
        for _ in 0..args.steps {
            let (ms_forward, ms_backward) = both_ways()?;
            forward.push(ms_forward);
            backward.push(ms_backward);
        }
        Ok(())
    })?;
    let both: Vec<f64> = forward.iter().zip(&backward).map(|(f, b)| f + b).collect();
    let mut result = Map::new();
    result.insert("ms".into(), json!(timing::median(&both)));
    result.insert("ms_min".into(), json!(timing::least(&both)));
    result.insert("ms_forward".into(), json!(timing::median(&forward)));
    result.insert("ms_backward".into(), json!(timing::median(&backward)));
    result.insert("checked".into(), json!(checked));
    Ok(result)
}

/// The outputs and every gradient.
fn answer<H: TwoHalves>(halves: &H, parameters: &Parameters, xs: &Var, dhs: &Tensor) -> Result<Answer> {
    let (hs, kept) = halves.forward(xs)?;
    let mut answer = vec![("hs".to_string(), hs)];
    answer.extend(halves.backward(kept, xs, dhs, parameters)?);
    Ok(answer)
}

/// An input `[N, T, D]` and a gradient of the output `[N, T, H]`, of normal numbers.
fn window(args: &Args, (batch, time): (usize, usize), device: &Device) -> Result<(Var, Tensor)> {
    let normal = |purpose: &str, size: usize| -> Result<Tensor> {
        let mut stream = Stream::new(0, purpose, 0);
        let numbers: Vec<f32> = (0..batch * time * size).map(|_| stream.normal() as f32).collect();
        Ok(Tensor::from_vec(numbers, (batch, time, size), device)?)
    };
    Ok((Var::from_tensor(&normal("bench/xs", args.input)?)?, normal("bench/dhs", args.hidden)?))
}
