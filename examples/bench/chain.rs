//! `lm` as the trainer runs it, a chain of hand-written forwards and backwards without a graph, and `generate` as a
//! model's stream.

use crate::check::{self, Answer};
use crate::lm::{LEARNING_RATE, MAX_NORM, report, window};
use crate::{Args, timing};
use anyhow::Result;
use candle_core::{DType, Tensor};
use rnn_core::kernels::Typed;
use rnn_core::{Cell, Way};
use rnn_lm::data::Window;
use rnn_lm::generate::most_probable;
use rnn_lm::model::{LanguageModel, LmSpec, Rnnlm};
use rnn_lm::train::{Clip, Optimizer, Sgd};
use serde_json::{Map, Value, json};

fn sgd() -> Optimizer {
    Optimizer::new(Sgd::default(), LEARNING_RATE).clip(Clip::Norm(MAX_NORM))
}

/// Checks and times.
pub(crate) fn train<C: Cell>(args: &Args, way: Way) -> Result<Map<String, Value>> {
    let checked = check::apart(args, || {
        let (batch, time) = (args.batch.min(3), args.time.min(9));
        let windows = (0..2).map(|i| own_window(args, (batch, time), i)).collect::<Result<Vec<_>>>()?;
        let oracle = answer(&mut model::<C>(args, Way::Reference)?, &windows)?;
        check::compare(&answer(&mut model::<C>(args, way)?, &windows)?, &oracle)
    })?;

    let mut model = model::<C>(args, way)?;
    let window = own_window(args, (args.batch, args.time), 0)?;
    model.forward(&window)?;
    // From here on the state is carried, as in a training run.
    let window = Window { first: false, ..window };
    let mut sgd = sgd();
    let times = timing::timed(&args.device()?, args, || {
        model.forward(&window)?;
        model.backward()?;
        model.update(&mut sgd)?;
        Ok(())
    })?;
    Ok(report(&times, args.batch * args.time, checked))
}

/// Tokens one at a time, the most probable one of each row, through the model's stream; packing its weights counts.
pub(crate) fn generate<C: Cell>(args: &Args, way: Way) -> Result<Map<String, Value>> {
    let first = own_window(args, (args.batch, 5), 0)?.xs;
    let answer = |way: Way| -> Result<Answer> {
        let model = model::<C>(args, way)?;
        let mut stream = model.stream(args.batch)?;
        let mut answer = Answer::new();
        for (i, ids) in first.chunks(args.batch).enumerate() {
            let logits = match stream.step(ids)? {
                Typed::F32(logits) => Tensor::new(logits, &candle_core::Device::Cpu)?,
                Typed::F64(logits) => Tensor::new(logits, &candle_core::Device::Cpu)?,
            };
            answer.push((format!("logits {i}"), logits));
        }
        Ok(answer)
    };
    let checked = check::apart(args, || check::compare(&answer(way)?, &answer(Way::Reference)?))?;

    let model = model::<C>(args, way)?;
    let mut ids = Vec::with_capacity(args.batch);
    let mut bytes = None;
    let times = timing::timed(&args.device()?, args, || {
        let mut stream = model.stream(args.batch)?;
        ids.clear();
        ids.extend_from_slice(&first[..args.batch]);
        for _ in 0..args.tokens {
            ids = match stream.step(&ids)? {
                Typed::F32(logits) => most_probable(logits, args.vocab)?,
                Typed::F64(logits) => most_probable(logits, args.vocab)?,
            };
        }
        bytes = stream.bytes();
        Ok(())
    })?;
    let mut result = report(&times, args.batch * args.tokens, checked);
    if let Some(bytes) = bytes {
        // Each step reads every weight once, for all rows.
        let seconds = 1e-3 * timing::median(&times);
        result.insert("weights_gb_per_s".into(), json!((bytes * args.tokens) as f64 / seconds * 1e-9));
    }
    Ok(result)
}

fn model<C: Cell>(args: &Args, way: Way) -> Result<Rnnlm<C>> {
    let spec = LmSpec::new(args.vocab, args.embed, args.hidden).layers(args.layers).tied(args.tied);
    Ok(Rnnlm::new(&spec, way, (DType::F32, &args.device()?), 0)?)
}

/// Loss, gradients and their norm for some windows, with a step after each.
fn answer(model: &mut impl LanguageModel, windows: &[Window]) -> Result<Answer> {
    let mut answer = Answer::new();
    for (i, window) in windows.iter().enumerate() {
        let loss = model.forward(window)?;
        model.backward()?;
        for (name, grad) in model.gradients()? {
            answer.push((format!("gradient {i} of {name}"), grad));
        }
        let norm = model.update(&mut sgd())?;
        let numbers = Tensor::new(&[loss, norm], &candle_core::Device::Cpu)?;
        answer.push((format!("loss and norm {i}"), numbers));
    }
    Ok(answer)
}

fn own_window(args: &Args, (batch, time): (usize, usize), number: u64) -> Result<Window> {
    let (ids, targets) = window(args, (batch, time), number, &candle_core::Device::Cpu)?;
    Ok(Window {
        xs: ids.flatten_all()?.to_vec1()?,
        ts: targets.to_vec1()?,
        batch,
        time,
        first: number == 0,
        share: 1.0,
        targets: batch * time,
    })
}
