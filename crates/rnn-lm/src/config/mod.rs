//! Everything that makes a run, as one value and as a file: what a text is cut into, the model, what is dropped, and how it
//! is trained. A preset ([`PRESETS`]) is such a value; a file changes what it names, and nothing else.
//!
//! The file is TOML. Every setting is a number, a word or a switch, and 0 means that there is none of it, so a resolved
//! file has all of them:
//!
//! ```
//! use rnn_lm::config::Config;
//! let config = Config::parse("run.toml", "[model]\nhidden = 200\n", &Config::preset("zaremba-small")?)?;
//! assert_eq!((config.model.hidden, config.training.batch), (200, 20));
//! let again = Config::parse("config.toml", &config.to_toml()?, &Config::default())?;
//! assert_eq!(again, config);
//! # rnn_lm::Result::Ok(())
//! ```

mod build;
mod presets;
mod suggest;
mod text;

pub use build::Order;
pub(crate) use build::bias_name;
pub use presets::PRESETS;
pub use text::Setting;

use serde::{Deserialize, Serialize};

/// All settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What a text becomes.
    pub data: Data,
    /// The model.
    pub model: Model,
    /// What is dropped while it is trained.
    pub dropout: Rates,
    /// How it is trained.
    pub training: Training,
}

/// The texts, and what a token of them is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The file to learn from; it is the command's to say, and stands here for the record and for going on.
    pub corpus: String,
    /// The file to measure on; none where it is held out of the corpus.
    pub valid: String,
    /// The share of the corpus, at its end, that is held out where there is no other file; none where [`Self::first`] is not 0.
    pub holdout: f64,
    /// `word`, `char`, `byte` or `bpe`.
    pub tokens: String,
    /// A `tokenizer.json` to take instead of one that is made of the text; empty where there is none.
    pub tokenizer: String,
    /// The most entries of the vocabulary; 0 for all, or 8000 of `bpe`. Bytes, and a tokenizer that there is, have as many as they
    /// have.
    pub max_vocab: usize,
    /// Only so many tokens of the text, 0 for all.
    pub first: usize,
    /// Megabytes (2^20) of text whose ids are held in memory; those of a longer one are read from a file. The run is the same.
    pub memory: u64,
}

impl Default for Data {
    fn default() -> Self {
        let (corpus, valid, tokenizer) = (String::new(), String::new(), String::new());
        let (tokens, max_vocab) = ("word".into(), 10_000);
        Self { corpus, valid, holdout: 0.1, tokens, tokenizer, max_vocab, first: 0, memory: 256 }
    }
}

/// Sizes and how it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// `rnn`, `lstm` or `gru`.
    pub cell: String,
    /// D
    pub embed: usize,
    /// H
    pub hidden: usize,
    /// L
    pub layers: usize,
    /// The size of the last layer, 0 for H.
    pub last: usize,
    /// `none`, `single` or `both`.
    pub bias: String,
    /// `pytorch`, `book` or `uniform`.
    pub init: String,
    /// r of `uniform`: from U(-r, r).
    pub init_range: f64,
    /// One table for both ends.
    pub tied: bool,
    /// Where clusters of an adaptive softmax begin; empty for one softmax over all words.
    pub cutoffs: Vec<usize>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            cell: "lstm".into(),
            embed: 100,
            hidden: 100,
            layers: 1,
            last: 0,
            bias: "single".into(),
            init: "book".into(),
            init_range: 0.1,
            tied: false,
            cutoffs: Vec::new(),
        }
    }
}

/// Rates, each the probability of being dropped, and the factors of penalties; see [`crate::model::Dropout`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Whole words.
    pub words: f64,
    /// What the first layer takes.
    pub input: f64,
    /// What each layer takes of the one below.
    pub between: f64,
    /// What the affine layer takes.
    pub output: f64,
    /// The same units at all steps of a window.
    pub locked: bool,
    /// Weights of `weight_hh`.
    pub weight: f64,
    /// Units of the hidden state that is fed back.
    pub recurrent: f64,
    /// Units of h that keep their value.
    pub zoneout_h: f64,
    /// Units of c that keep their value.
    pub zoneout_c: f64,
    /// AR
    pub activation: f64,
    /// TAR
    pub temporal: f64,
}

/// Steps, rates and rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// N
    pub batch: usize,
    /// T
    pub time: usize,
    /// `streams` or `book`.
    pub order: String,
    /// Windows of lengths that are drawn anew in each epoch.
    pub varied: bool,
    /// Windows whose gradients make a step.
    pub accumulate: usize,
    /// Times that the text is read.
    pub epochs: usize,
    /// `sgd`, `adam` or `rms-prop`.
    pub rule: String,
    /// The learning rate.
    pub lr: f64,
    /// Of `sgd`.
    pub momentum: f64,
    /// Of `sgd`.
    pub nesterov: bool,
    /// Of `adam`, and alpha of `rms-prop`'s mean is `beta2`.
    pub beta1: f64,
    /// The same.
    pub beta2: f64,
    /// The factor of the weights' decay.
    pub decay: f64,
    /// Whether decay stands beside the rule (AdamW) or is part of the gradient.
    pub decoupled: bool,
    /// The longest gradient, 0 for any.
    pub clip_norm: f64,
    /// The largest number of a gradient, 0 for any.
    pub clip_value: f64,
    /// `constant`, `plateau`, `decay` or `cosine`.
    pub schedule: String,
    /// By what the rate is divided, of `plateau` and `decay`.
    pub divide: f64,
    /// Epochs with the whole rate, of `decay`.
    pub after: usize,
    /// Steps of the rise, of `cosine`.
    pub warmup: u64,
    /// `never`, `after` or `nt-asgd`.
    pub average: String,
    /// Steps before `after` begins, or evaluations that `nt-asgd` waits for.
    pub patience: u64,
    /// Steps from one evaluation to the next, 0 for one at the end of each epoch.
    pub evaluate_every: u64,
    /// Evaluations without a better one after which it ends, 0 for never.
    pub stop_after: usize,
    /// Where all random numbers come from.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            batch: 20,
            time: 35,
            order: "streams".into(),
            varied: false,
            accumulate: 1,
            epochs: 2,
            rule: "sgd".into(),
            lr: 10.0,
            momentum: 0.0,
            nesterov: false,
            beta1: 0.9,
            beta2: 0.999,
            decay: 0.0,
            decoupled: false,
            clip_norm: 0.25,
            clip_value: 0.0,
            schedule: "constant".into(),
            divide: 4.0,
            after: 0,
            warmup: 0,
            average: "never".into(),
            patience: 0,
            evaluate_every: 0,
            stop_after: 0,
            seed: 1,
        }
    }
}
