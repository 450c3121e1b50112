//! `rnn-lm config`: the settings that a run would have.

use super::settings::{Base, presets};
use super::train::name_files;
use super::write;
use anyhow::Result;
use clap::{ArgMatches, Args};
use rnn_lm::run::Texts;
use std::path::PathBuf;

/// Print the settings that a run would have, each with what it means
///
/// What is printed can be changed and given to `rnn-lm train --config FILE`. Where nobody says how many epochs, they are those
/// of a slow machine, to which `train` may add some.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The text that `train` would learn from, which the defaults depend on
    corpus: Option<PathBuf>,
    /// The text that it would be measured on, instead of the end of the corpus
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// List the presets instead
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    base: Base,
}

impl Show {
    pub(super) fn run(self, flags: &ArgMatches) -> Result<()> {
        let text = if self.list {
            presets()
        } else {
            let text = self.corpus.as_ref().map(Texts::to_learn_from).transpose()?;
            let mut config = self.base.settings(text.as_ref(), flags)?.config;
            name_files(&mut config, self.corpus.as_deref(), self.valid.as_deref())?;
            config.to_toml()?
        };
        write(&text)
    }
}
