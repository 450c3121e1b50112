//! Everything that makes a run, as one value and as a file: what a text is cut into, the model, what is dropped, and how it
//! is trained. A preset ([`PRESETS`]) is such a value; a file changes what it names, and nothing else.
//!
//! The file is TOML. Every setting is a number, a text, a switch or a list, and what 0 or nothing in it means stands beside it, so
//! a resolved file has all of them:
//!
//! ```
//! use rnn_lm::config::Config;
//! let config = Config::parse("run.toml", "[model]\nhidden = 200\n", &Config::preset("zaremba-small")?)?;
//! assert_eq!((config.model.hidden, config.training.batch), (200, 20));
//! let again = Config::parse("config.toml", &config.to_toml()?, &Config::default())?;
//! assert_eq!(again, config);
//! # rnn_lm::Result::Ok(())
//! ```

#[macro_use]
mod section;

mod build;
mod idle;
mod presets;
mod suggest;
mod text;

pub(crate) use build::WindowOrder;
pub(crate) use build::bias_name;
pub use idle::Idle;
pub use presets::PRESETS;
pub use text::Setting;

use serde::{Deserialize, Serialize};

/// All settings of a run. The default is the book's LSTM with SGD; a rule other than that wants another rate than its 10
/// ([`Self::suggest`] chooses all for a text).
///
/// ```
/// use rnn_lm::config::Config;
/// let config = Config::preset("zaremba-medium")?.with("training", "batch", "10")?;
/// assert_eq!((config.model.hidden, config.training.time, config.training.batch), (650, 35, 10));
/// assert_eq!(config.spec(10_000)?.output(), 650);
/// assert!(config.with("training", "batch", "0")?.check().is_err());
/// # rnn_lm::Result::Ok(())
/// ```
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

section! {
    /// The texts, and what a token of them is.
    Data {
        /// The file to learn from.
        corpus: String = String::new(),
        /// The file to measure on; none: the end of the corpus.
        valid: String = String::new(),
        /// The share of the corpus, at its end, to measure on where no file is named for that; none where first is not 0.
        holdout: f64 = 0.1,
        /// What a token is: word, char, byte or bpe.
        tokens: String = "word".into(),
        /// A tokenizer.json to take; none: one is made of the corpus.
        tokenizer: String = String::new(),
        /// Entries of the vocabulary, the most frequent ones; 0 keeps all, of bpe 8000.
        max_vocab: usize = 10_000,
        /// Learn from so many tokens only; 0 from all.
        first: usize = 0,
        /// MiB of text with its ids in memory; of a longer one they are in a file.
        memory: u64 = 256,
    }
}

section! {
    /// Sizes and how it begins.
    Model {
        /// Which cell: rnn, lstm or gru.
        cell: String = "lstm".into(),
        /// D, the size of a word's vector.
        embed: usize = 100,
        /// H, the size of the hidden state.
        hidden: usize = 100,
        /// L, recurrent layers on top of each other.
        layers: usize = 1,
        /// The size of the last layer; 0 for H.
        last: usize = 0,
        /// Biases of recurrent layers: none, single (the book's) or both (PyTorch's).
        bias: String = "single".into(),
        /// How parameters begin: pytorch, book, awd (PyTorch's, embeddings from U(-0.1, 0.1)) or uniform.
        init: String = "book".into(),
        /// The r of uniform: from U(-r, r).
        init_range: f64 = 0.1,
        /// A run whose weights it begins with instead; none: they are drawn.
        warm_start: String = String::new(),
        /// One table for words read and words predicted.
        tied: bool = false,
        /// Ids at which an adaptive softmax begins its clusters; none for one softmax.
        cutoffs: Vec<usize> = Vec::new(),
    }
}

section! {
    /// Rates of dropout and zoneout, each a probability, and the factors of penalties; see [`crate::model::Dropout`].
    Rates {
        /// The probability that a word of the vocabulary is missing in a window.
        words: f64 = 0.0,
        /// The probability that a number is dropped of what the first layer takes.
        input: f64 = 0.0,
        /// The probability that one is dropped of what each layer takes of the one below.
        between: f64 = 0.0,
        /// The probability that one is dropped of what is predicted from.
        output: f64 = 0.0,
        /// Drop the same units at all steps of a window.
        locked: bool = false,
        /// The probability that a recurrent weight is dropped (weight drop).
        weight: f64 = 0.0,
        /// The probability that a unit of the state that is fed back is dropped.
        recurrent: f64 = 0.0,
        /// The probability that a unit of h keeps its value at a step.
        zoneout_h: f64 = 0.0,
        /// The probability that a unit of an LSTM's c keeps its value at a step.
        zoneout_c: f64 = 0.0,
        /// AR, the factor of the outputs' mean square in the loss.
        activation: f64 = 0.0,
        /// TAR, the factor of the mean square of the outputs' changes in the loss.
        temporal: f64 = 0.0,
    }
}

section! {
    /// Steps, rates and rules.
    Training {
        /// N, streams of text read side by side.
        batch: usize = 20,
        /// T, steps that the gradient goes back.
        time: usize = 35,
        /// Which windows: streams (each prediction once an epoch) or book (the book's rule).
        order: String = "streams".into(),
        /// Windows of lengths that are drawn (of streams).
        varied: bool = false,
        /// Windows whose gradients make a step; the last one of an epoch has those that are left.
        accumulate: usize = 1,
        /// Times that the text is read.
        epochs: usize = 2,
        /// The rule of a step: sgd, adam, adamw or rms-prop.
        rule: String = "sgd".into(),
        /// The learning rate, for the mean loss of a window.
        lr: f64 = 10.0,
        /// Momentum of sgd.
        momentum: f64 = 0.0,
        /// Nesterov's momentum, of sgd.
        nesterov: bool = false,
        /// How long adam and adamw remember gradients.
        beta1: f64 = 0.9,
        /// How long adam, adamw and rms-prop remember their squares.
        beta2: f64 = 0.999,
        /// The factor of the weights' decay.
        decay: f64 = 0.0,
        /// Decay beside the rule instead of in the gradient; that of adamw is.
        decoupled: bool = false,
        /// The longest gradient, over all parameters; 0 for any.
        clip_norm: f64 = 0.25,
        /// The largest number of a gradient; 0 for any.
        clip_value: f64 = 0.0,
        /// Schedule of the rate: constant, plateau, decay or cosine.
        schedule: String = "constant".into(),
        /// By what plateau (an evaluation no better) and decay (each epoch) divide the rate.
        divide: f64 = 4.0,
        /// Epochs with the whole rate, of the schedule decay.
        after: usize = 1,
        /// Steps in which the rate rises, of the schedule cosine.
        warmup: u64 = 0,
        /// Average of the weights: never, after (a step) or nt-asgd.
        average: String = "never".into(),
        /// Steps before an average begins that is called after, or evaluations that nt-asgd waits for.
        patience: u64 = 0,
        /// Steps between two evaluations; 0 for one an epoch.
        evaluate_every: u64 = 0,
        /// Evaluations without a better one that end the training; 0 for none.
        stop_after: usize = 0,
        /// Where all random numbers come from.
        seed: u64 = 1,
    }
}
