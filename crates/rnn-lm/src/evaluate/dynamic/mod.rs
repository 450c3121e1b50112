//! Dynamic evaluation (Krause, Kahembwe, Murray & Renals 2018, "Dynamic Evaluation of Neural Sequence
//! Models"): a model is trained on by what it has just predicted, and drawn back to where it began.

mod gradients;
mod rule;

pub use gradients::GradientRms;

use super::{Evaluation, Progress, Sum, check_text, streams};
use crate::data::{Batches, Window};
use crate::train::Optimizer;
use crate::{Error, LanguageModel, Result};
use candle_core::{Tensor, Var};
use rule::{Back, BackByRms};

/// Segment after segment of `time` steps is predicted, which is the loss that counts, and then learnt from:
/// with g the gradient of its mean loss, w the weights and w0 those that the model came with,
///
/// `w' = w - lr g + decay (w0 - w)`, or what [`DynamicRule::Rms`] says.
///
/// The paper has segments of 5 words, or of 20 characters.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::Way;
/// use rnn_lm::evaluate::{Dynamic, DynamicRule};
/// use rnn_lm::model::{CellKind, LmSpec, build};
/// let ids: Vec<u32> = (0..100).map(|i| i % 4).collect();
/// let mut model = build(CellKind::Gru, &LmSpec::new(9, 4, 8), Way::Fused, (DType::F32, &Device::Cpu), 1)?;
/// let plain = model.evaluate(&ids, 16)?;
/// let dynamic = Dynamic { time: 5, lr: 0.5, decay: 0.001, rule: DynamicRule::Sgd };
/// assert!(dynamic.evaluate(model.as_mut(), &ids, None)?.perplexity() < plain.perplexity());
/// assert_eq!(model.evaluate(&ids, 16)?, plain); // it has the weights that it had
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Dynamic {
    /// Steps of a segment.
    pub time: usize,
    /// The rate at which it learns.
    pub lr: f64,
    /// The share of the way back that is taken after each segment, from 0 to 1.
    pub decay: f64,
    /// How a gradient becomes a step.
    pub rule: DynamicRule,
}

/// How a gradient becomes a step.
#[derive(Debug, Clone)]
pub enum DynamicRule {
    /// By gradient descent: `w' = w - lr g + decay (w0 - w)`.
    Sgd,
    /// With the root mean square r of each weight's gradients over the training text, and m the mean of all
    /// r: `w' = w - lr g / (r + epsilon) + min(1, decay r / m) (w0 - w)`. What seldom has a gradient moves
    /// more, and stays away longer.
    Rms {
        /// The r of each weight.
        gradients: GradientRms,
        /// What keeps steps finite where there was never a gradient.
        epsilon: f64,
    },
}

impl Dynamic {
    /// The loss of `ids`, read as one stream from a state of zeros. The model has the weights, the state and
    /// the number of windows that it came with when this is over, also by an error; only the gradients of its
    /// last backward are lost.
    ///
    /// # Errors
    /// Where a setting is out of its range; where the model drops something or adds to the loss, which would be
    /// another loss; where there are fewer than two ids, or one is outside the vocabulary; where the weights grow
    /// beyond all bounds.
    pub fn evaluate(
        &self,
        model: &mut dyn LanguageModel,
        ids: &[u32],
        progress: Progress<'_>,
    ) -> Result<Evaluation> {
        self.check()?;
        check_text("Dynamic", model, ids)?;
        drops_nothing("Dynamic", model)?;
        let windows = streams(ids, 1, self.time)?;
        let mut optimizer = self.optimizer(&model.parameters())?;
        undone(model, |model| {
            let mut all = Sum::new(progress);
            for window in windows.epoch(0) {
                let window = window?;
                let loss = step("Dynamic", model, &window, &mut optimizer, all.sum.predictions)?;
                all.add(loss * window.targets as f64, window.targets);
            }
            Ok(all.sum)
        })
    }

    fn check(&self) -> Result<()> {
        if self.time == 0 {
            return Err(Error::invalid("Dynamic: time", "at least 1", 0));
        }
        if !(self.lr >= 0.0 && self.lr.is_finite()) {
            return Err(Error::invalid("Dynamic: lr", "at least 0", self.lr));
        }
        if let DynamicRule::Rms { epsilon, .. } = self.rule {
            let hint = "where the training text gave no gradient, it alone bounds a step";
            crate::train::epsilon("Dynamic: epsilon", epsilon).map_err(|error| error.hint(hint))?;
        }
        if !(0.0..=1.0).contains(&self.decay) {
            return Err(Error::invalid("Dynamic: decay", "from 0 to 1", self.decay));
        }
        Ok(())
    }

    /// One that has the weights as they are for w0.
    fn optimizer(&self, params: &[(String, Var)]) -> Result<Optimizer> {
        let (mut optimizer, gradients) = match &self.rule {
            DynamicRule::Sgd => (Optimizer::new(Back { decay: self.decay }, self.lr), None),
            DynamicRule::Rms { gradients, epsilon } => {
                let rule = BackByRms { decay: self.decay / gradients.mean(), epsilon: *epsilon };
                (Optimizer::new(rule, self.lr), Some(gradients))
            }
        };
        // What a rule keeps begins at zero, unless a step was done: these do not count theirs.
        optimizer.resume(1, params, |name| {
            let found = match name.split_once('.') {
                Some((rule::ORIGIN, name)) => {
                    params.iter().find(|(other, _)| other == name).map(|(_, var)| var.as_tensor().clone())
                }
                Some((rule::RMS, name)) => gradients.and_then(|gradients| gradients.of(name)).cloned(),
                _ => None,
            };
            found.ok_or_else(|| {
                Error::invalid(format!("Dynamic: {name}"), "one for each parameter of the model", "none")
            })
        })?;
        Ok(optimizer)
    }
}

/// Predicts a window and learns from it; gives its mean loss before that.
fn step(
    op: &str,
    model: &mut dyn LanguageModel,
    window: &Window,
    optimizer: &mut Optimizer,
    predictions: usize,
) -> Result<f64> {
    let lr = optimizer.lr;
    let diverged = |what: &str, value: f64| {
        let what = format!("{op}: {what} after {predictions} predictions");
        Error::invalid(what, "a finite number", value).hint(match predictions {
            0 => "it has learnt nothing yet: are its weights numbers, and the text one of its kind?".into(),
            _ => format!("it learns too fast: take a lower rate than {lr:?}"),
        })
    };
    let loss = model.forward(window)?;
    if !loss.is_finite() {
        return Err(diverged("loss", loss));
    }
    model.backward()?;
    match model.update(optimizer) {
        Ok(_) => Ok(loss),
        Err(Error::Diverged { what, value, .. }) => Err(diverged(what, value)),
        Err(other) => Err(other),
    }
}

/// A model whose loss is the text's and nothing else's.
fn drops_nothing(op: &str, model: &dyn LanguageModel) -> Result<()> {
    let dropout = model.dropout();
    if !dropout.any() {
        return Ok(());
    }
    let want = "one that drops nothing and adds nothing to the loss";
    Err(Error::invalid(format!("{op}: model"), want, format!("{dropout:?}"))
        .hint("build it anew with Dropout::default() and give it the weights of this one"))
}

/// Does `f` with a model that then has its weights, its state and its number of windows again.
fn undone<R>(
    model: &mut dyn LanguageModel,
    f: impl FnOnce(&mut dyn LanguageModel) -> Result<R>,
) -> Result<R> {
    let (state, windows, params) = (model.state()?, model.windows(), model.parameters());
    let weights =
        params.iter().map(|(_, var)| Ok(var.as_tensor().copy()?)).collect::<Result<Vec<Tensor>>>()?;
    let result = f(model);
    for ((_, var), weight) in params.iter().zip(&weights) {
        var.set(weight)?;
    }
    model.set_state(&state)?;
    model.seek(windows);
    result
}

#[cfg(test)]
mod tests;
