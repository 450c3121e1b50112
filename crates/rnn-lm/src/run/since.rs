//! What a run writes into its checkpoints beside where the trainer stands.

use super::{CHECKPOINT, CONFIG, Run};
use crate::config::Config;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What is counted from one evaluation to the next, and over all; part of a checkpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Since {
    /// What the texts were, to know them again.
    pub(super) corpus: String,
    /// The settings, as `config.toml` has them; nothing in checkpoints of a time that did not keep them.
    #[serde(default)]
    pub(super) settings: String,
    /// What the tokenizer was; nothing in checkpoints of a time that did not keep it.
    #[serde(default)]
    pub(super) tokenizer: String,
    /// The best loss of an end that fell between two evaluations, which the trainer has not taken in.
    #[serde(default)]
    pub(super) beside: Option<f64>,
    /// The loss of the run's weights, where these are not those of the best evaluation: that was lost, or there is none yet.
    #[serde(default)]
    pub(super) kept: Option<f64>,
    pub(super) nats: f64,
    pub(super) targets: usize,
    pub(super) tokens: usize,
    pub(super) seconds: f64,
}

/// Settings that may change from one process of a training to the next: where texts are and when to end. They change nothing that
/// was computed. What is still to come they change only where a cosine is to end later.
const FREE: [&str; 5] =
    ["data.corpus", "data.valid", "data.memory", "training.epochs", "training.stop_after"];

impl Since {
    /// Whether a run still has the settings that its training began with.
    pub(super) fn check_settings(&self, run: &Run) -> Result<()> {
        if self.settings.is_empty() {
            return Ok(());
        }
        let was = Config::parse(CHECKPOINT, &self.settings, &Config::default())?;
        let mut changed = was.differences(&run.config)?;
        changed.retain(|(setting, ..)| !FREE.contains(&setting.as_str()));
        if changed.is_empty() {
            return Ok(());
        }
        let both =
            changed.iter().map(|(name, was, is)| (format!("{name} = {was}"), format!("{name} = {is}")));
        let (was, is): (Vec<_>, Vec<_>) = both.unzip();
        let want = format!("the settings that the training began with: {}", was.join(", "));
        Err(Error::invalid(run.path(CONFIG).display(), want, is.join(", "))
            .hint("put them back, or begin a new run: `rnn-lm train CORPUS --config FILE`"))
    }
}
