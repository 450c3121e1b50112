//! How well a model predicts a text. [`Order`] says how the text is read by a model that stays what it is,
//! and [`log_probs`] gives each id's share. Two others let it profit from what it has just read: [`Dynamic`]
//! evaluation trains it on, and a [`NeuralCache`] remembers words. All give an [`Evaluation`], and numbers
//! that may be compared: each prediction is made before its word is seen.

mod cache;
mod dynamic;
mod order;
mod score;

pub use cache::NeuralCache;
pub use dynamic::{Dynamic, DynamicRule, GradientRms};
pub use order::Order;
pub use score::{lines, log_probs};

use crate::data::Streams;
use crate::layers::check_ids;
use crate::{Error, LanguageModel, Result};

/// Called after each window with the number of predictions so far; `None` for no callback.
pub type Progress<'a> = Option<&'a mut dyn FnMut(usize)>;

/// How well a model predicts a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// The sum of -log p over all predictions, in nats.
    pub nats: f64,
    /// How many there were: one less than ids, where none was left out.
    pub predictions: usize,
}

impl Evaluation {
    /// Mean loss in nats a prediction.
    pub fn loss(&self) -> f64 {
        self.nats / self.predictions as f64
    }

    /// exp of the mean loss: as if the model had to choose among so many equally likely words, its branching
    /// factor.
    ///
    /// ```
    /// let evaluation = rnn_lm::evaluate::Evaluation { nats: 3.0 * 8f64.ln(), predictions: 3 };
    /// assert!((evaluation.perplexity() - 8.0).abs() < 1e-12);
    /// ```
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }
}

/// Adds up an [`Evaluation`], window by window.
struct Sum<'a> {
    sum: Evaluation,
    progress: Progress<'a>,
}

impl<'a> Sum<'a> {
    fn new(progress: Progress<'a>) -> Self {
        Self { sum: Evaluation { nats: 0.0, predictions: 0 }, progress }
    }

    fn add(&mut self, nats: f64, predictions: usize) {
        self.sum.nats += nats;
        self.sum.predictions += predictions;
        if let Some(progress) = &mut self.progress {
            progress(self.sum.predictions);
        }
    }
}

/// Steps of a window where how many there are changes nothing: the logits of so many are in memory at once.
pub const TIME: usize = 64;

/// What all ask of a text: something to predict, and known ids.
fn check_text(op: &str, model: &dyn LanguageModel, ids: &[u32]) -> Result<()> {
    if ids.len() < 2 {
        let want = "at least 2: a word and the one after it";
        return Err(Error::invalid(format!("{op}: ids"), want, ids.len()).hint("take a longer text"));
    }
    check_ids(&format!("{op}: ids"), ids, model.vocabulary())
}

/// `batch` streams in windows of `time` steps, or of fewer where no stream is as long.
fn streams(ids: &[u32], batch: usize, time: usize) -> Result<Streams<'_>> {
    let shortest = (ids.len().saturating_sub(1) / batch.max(1)).max(1);
    Streams::new(ids, batch, time.min(shortest))
}

#[cfg(test)]
mod tests;
