//! A model in use: what it expects, and text out of it. Nothing is recorded.

use super::net::Net;
use super::stream::stream;
use crate::layers::{check_ids, ids_tensor};
use crate::{Error, Result};
use candle_core::DType;
use rnn_core::kernels::Typed;
use rnn_core::rng::Stream;
use rnn_core::{Cell, Recurrent};

pub(super) fn probabilities<C: Cell>(net: &Net<C>, ids: &[u32]) -> Result<Vec<Vec<f64>>> {
    if ids.is_empty() {
        return Err(Error::invalid("probabilities: ids", "at least one", "none"));
    }
    check_ids("probabilities: ids", ids, net.embedding.weight().dim(0)?)?;
    let tensor = ids_tensor(ids, 1, ids.len(), net.embedding.weight().device())?;
    let (hs, _) = net.stack.infer(&net.embedding.forward(&tensor)?.detach(), &net.stack.zero_state(1)?)?;
    let logits = net.head.infer(&hs)?.squeeze(0)?.to_dtype(DType::F64)?;
    Ok(candle_nn::ops::softmax(&logits, 1)?.to_vec2()?)
}

/// How to draw the next word.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it: below 1 bolder, above 1 wilder.
    pub temperature: f64,
    /// Ids that are never drawn, such as `<unk>`.
    pub skip: Vec<u32>,
    /// The same seed gives the same text.
    pub seed: u64,
}

pub(super) fn generate<C: Cell>(
    net: &Net<C>,
    prompt: &[u32],
    count: usize,
    sampling: &Sampling,
) -> Result<Vec<u32>> {
    let vocabulary = net.embedding.weight().dim(0)?;
    check_ids("generate: prompt", prompt, vocabulary)?;
    check_ids("generate: skip", &sampling.skip, vocabulary)?;
    if !(sampling.temperature > 0.0 && sampling.temperature.is_finite()) {
        return Err(Error::invalid("generate: temperature", "a number above 0", sampling.temperature));
    }
    if prompt.is_empty() {
        return Err(Error::invalid("generate: prompt", "at least one id to begin with", "none"));
    }
    let mut random = Stream::new(sampling.seed, "generate", 0);
    let mut stream = stream(net, 1)?;
    let (last, before) = prompt.split_last().unwrap_or((&0, &[]));
    for &id in before {
        stream.step(&[id])?;
    }
    let (mut id, mut drawn, mut logits) = (*last, Vec::with_capacity(count), Vec::new());
    while drawn.len() < count {
        logits.clear();
        match stream.step(&[id])? {
            Typed::F32(numbers) => logits.extend(numbers.iter().map(|&logit| f64::from(logit))),
            Typed::F64(numbers) => logits.extend_from_slice(numbers),
        }
        id = draw(&logits, sampling, &mut random)?;
        drawn.push(id);
    }
    Ok(drawn)
}

fn draw(logits: &[f64], sampling: &Sampling, stream: &mut Stream) -> Result<u32> {
    let allowed = |id: usize| !sampling.skip.iter().any(|&skipped| skipped as usize == id);
    let ids = (0..logits.len()).filter(|&id| allowed(id));
    let largest = ids.clone().map(|id| logits[id]).fold(f64::NEG_INFINITY, f64::max);
    let weight = |id: usize| ((logits[id] - largest) / sampling.temperature).exp();
    let total: f64 = ids.clone().map(weight).sum();
    if !(total.is_finite() && total > 0.0) {
        return Err(Error::invalid("generate: probabilities", "a positive finite sum", total)
            .hint("are all ids skipped, or the weights not numbers?"));
    }
    let mut rest = stream.uniform(0.0, total);
    let mut chosen = 0;
    for id in ids {
        chosen = id;
        rest -= weight(id);
        if rest < 0.0 {
            break;
        }
    }
    Ok(chosen as u32)
}
