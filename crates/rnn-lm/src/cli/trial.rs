//! A model on the beginning of its text, without a run: for what is to be known before there is one.

use super::Session;
use anyhow::Result;
use rnn_core::Way;
use rnn_lm::config::Config;
use rnn_lm::data::{Batches, TextFile};
use rnn_lm::run::{Ids, Run, Texts, Windows};
use rnn_lm::tokenizer::{Tokenizer, Unit};
use rnn_lm::train::{Averaging, Trainer};
use rnn_lm::{Error, LanguageModel};
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) struct Trial {
    pub(super) tokenizer: Tokenizer,
    pub(super) ids: Ids,
    pub(super) model: Box<dyn LanguageModel>,
    pub(super) trainer: Trainer,
    /// Tokens that all of the text has, about.
    pub(super) tokens: f64,
}

/// Bytes of text that are enough to learn from.
const BEGINNING: u64 = 1 << 23;

impl Trial {
    /// Of a text to learn from.
    pub(super) fn new(text: &TextFile, config: &Config, session: &Session) -> Result<Self> {
        let beginning = text.first(BEGINNING)?;
        // Words and characters are those of the run, on whose number the work of a step hangs. Pieces are as many of any text, and
        // to learn them from all of it takes long.
        let of = if config.tokens()?.unit == Unit::Bpe { &beginning } else { text };
        let tokenizer = Texts { train: of.clone(), valid: None }.tokenizer(config)?;
        // Tokens that are asked for are looked for in all of it; in memory, whatever their number.
        let some = if config.data.first > 0 { text } else { &beginning };
        let ids = Ids::encode(some, &tokenizer, config.data.first, (Path::new(""), u64::MAX))?;
        let run = Run::new("", config.clone(), tokenizer.clone());
        let model = run.at_first(Way::Fused, &session.device)?;
        let trainer = config.trainer(1)?.averaging(Averaging::Never);
        let tokens = ids.source().len() as f64 * (text.len() as f64 / some.len() as f64);
        Ok(Self { tokenizer, ids, model, trainer, tokens })
    }

    /// How many seconds an epoch would take, if steps go on as fast as they do in the next few seconds.
    pub(super) fn seconds_an_epoch(mut self, config: &Config) -> Result<f64> {
        /// What is spent on it, and steps that are slower than others: memory is new, and kernels for a GPU are compiled.
        const TIME: Duration = Duration::from_secs(3);
        const SLOW: usize = 2;
        // A step a window, so that each has its part of the time.
        self.trainer = self.trainer.accumulate(1)?;
        let windows = Windows::new(config, &self.ids)?;
        let begun = Instant::now();
        let mut seconds = Vec::new();
        for window in windows.endless() {
            let (window, step) = (window?, Instant::now());
            match self.trainer.step(self.model.as_mut(), &window) {
                Ok(_) => {}
                // That is said where it is trained.
                Err(Error::Diverged { .. }) if !seconds.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
            seconds.push(step.elapsed().as_secs_f64() / window.targets.max(1) as f64);
            if begun.elapsed() > TIME && seconds.len() > SLOW {
                break;
            }
        }
        let mut usual = seconds.split_off(SLOW.min(seconds.len() - 1));
        usual.sort_by(f64::total_cmp);
        Ok(usual[usual.len() / 2] * self.tokens)
    }
}
