//! `lm` as the trainer runs it: rnn-lm's model, a chain of hand-written forwards and backwards without a graph.

use crate::check::{self, Answer};
use crate::lm::{LEARNING_RATE, MAX_NORM, report, window};
use crate::{Args, timing};
use anyhow::Result;
use candle_core::{DType, Tensor};
use rnn_core::{Bias, Cell, Scheme, Way};
use rnn_lm::data::Window;
use rnn_lm::model::{LanguageModel, LmSpec, Rnnlm};
use rnn_lm::train::Sgd;
use serde_json::{Map, Value};

const RULE: Sgd = Sgd { lr: LEARNING_RATE, clip: Some(MAX_NORM) };

/// Checks and times.
pub(crate) fn train<C: Cell>(args: &Args, way: Way) -> Result<Map<String, Value>> {
    let (batch, time) = (args.batch.min(3), args.time.min(9));
    let windows = (0..2).map(|i| own_window(args, (batch, time), i)).collect::<Result<Vec<_>>>()?;
    let oracle = answer(&mut model::<C>(args, Way::Reference)?, &windows)?;
    let checked = check::compare(&answer(&mut model::<C>(args, way)?, &windows)?, &oracle)?;
    drop(oracle);

    let mut model = model::<C>(args, way)?;
    let window = own_window(args, (args.batch, args.time), 0)?;
    model.forward(&window)?;
    // From here on the state is carried, as in a training run.
    let window = Window { first: false, ..window };
    let times = timing::timed(&args.device()?, args, || {
        model.forward(&window)?;
        model.backward()?;
        model.update(&RULE)?;
        Ok(())
    })?;
    Ok(report(&times, args.batch * args.time, checked))
}

fn model<C: Cell>(args: &Args, way: Way) -> Result<Rnnlm<C>> {
    let spec = LmSpec {
        vocabulary: args.vocab,
        embed: args.embed,
        hidden: args.hidden,
        layers: args.layers,
        bias: Bias::Both,
        init: Scheme::default(),
    };
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
        let norm = model.update(&RULE)?;
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
        targets: batch * time,
    })
}
