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
        /// The share of the corpus, at its end, held out to measure on where valid names no file; ignored where first is set.
        holdout: f64 = 0.1,
        /// What a token is: word (split at white space), char, byte or bpe.
        tokens: String = "word".into(),
        /// A tokenizer.json to take; none: one is made from the corpus.
        tokenizer: String = String::new(),
        /// Entries of the vocabulary: the N most frequent; 0: all (bpe: 8000).
        max_vocab: usize = 10_000,
        /// Learn from the first N tokens only; 0: from all.
        first: usize = 0,
        /// The longest text, in MiB, whose ids are kept in memory; those of a longer one are read from a file.
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
        /// How parameters are initialised: pytorch, book, awd (PyTorch's, embeddings from U(-0.1, 0.1)) or uniform.
        init: String = "book".into(),
        /// The r of init uniform: U(-r, r).
        init_range: f64 = 0.1,
        /// A run whose weights to begin with, instead of drawing them.
        warm_start: String = String::new(),
        /// Tied weights: one table for words read and words predicted.
        tied: bool = false,
        /// Ids at which the clusters of an adaptive softmax begin; none: one full softmax.
        cutoffs: Vec<usize> = Vec::new(),
    }
}

impl Model {
    /// Its recurrent layers in words.
    ///
    /// ```
    /// use rnn_lm::config::Config;
    /// assert_eq!(Config::preset("zaremba-medium")?.model.sizes(), "2 x lstm of 650");
    /// assert_eq!(Config::preset("awd-lstm")?.model.sizes(), "3 x lstm of 1150, the last of 400");
    /// # rnn_lm::Result::Ok(())
    /// ```
    pub fn sizes(&self) -> String {
        let Self { layers, cell, hidden, .. } = self;
        match self.last {
            last if last == 0 || last == *hidden => format!("{layers} x {cell} of {hidden}"),
            last if *layers == 1 => format!("1 x {cell} of {last}"),
            last => format!("{layers} x {cell} of {hidden}, the last of {last}"),
        }
    }
}

section! {
    /// Rates of dropout and zoneout, each a probability, and the factors of two penalties; see [`crate::model::Dropout`].
    Rates {
        /// Embedding dropout: the probability that a word's whole vector is zero for a window.
        words: f64 = 0.0,
        /// Dropout on the input of the first recurrent layer.
        input: f64 = 0.0,
        /// Dropout between recurrent layers.
        between: f64 = 0.0,
        /// Dropout on the output of the last recurrent layer, before the softmax.
        output: f64 = 0.0,
        /// Locked dropout: input, between and output drop the same units at all steps of a window.
        locked: bool = false,
        /// Weight drop: the probability that a recurrent weight is zero for a window.
        weight: f64 = 0.0,
        /// Recurrent dropout: the probability that a unit of h is dropped where it is fed back.
        recurrent: f64 = 0.0,
        /// Zoneout: the probability that a unit of h keeps its value at a step.
        zoneout_h: f64 = 0.0,
        /// Zoneout of c, of an LSTM: the probability that a unit of c keeps its value at a step.
        zoneout_c: f64 = 0.0,
        /// AR: this factor times the mean square of the outputs is added to the loss.
        activation: f64 = 0.0,
        /// TAR: this factor times the mean square of the outputs' changes from step to step is added to the loss.
        temporal: f64 = 0.0,
    }
}

section! {
    /// Steps, rates and rules.
    Training {
        /// N, the batch size: streams of text read side by side.
        batch: usize = 20,
        /// T, the window's length: steps that the gradient goes back.
        time: usize = 35,
        /// Which windows: streams (each prediction once an epoch) or book (the book's rule).
        order: String = "streams".into(),
        /// Windows of random lengths around time (of order streams).
        varied: bool = false,
        /// Gradient accumulation: windows that make one step; the last step of an epoch has those that are left.
        accumulate: usize = 1,
        /// Epochs: times that the text is read.
        epochs: usize = 2,
        /// The optimiser: sgd, adam, adamw or rms-prop.
        rule: String = "sgd".into(),
        /// The learning rate, for the mean loss of a window (the rate of a paper that sums over T steps, times T).
        lr: f64 = 10.0,
        /// Momentum of sgd.
        momentum: f64 = 0.0,
        /// Nesterov's form of the momentum, of sgd.
        nesterov: bool = false,
        /// Adam's beta1: the decay of the mean of gradients.
        beta1: f64 = 0.9,
        /// Adam's beta2, and the alpha of rms-prop: the decay of the mean of squared gradients.
        beta2: f64 = 0.999,
        /// Weight decay.
        decay: f64 = 0.0,
        /// Weight decay beside the optimiser's step instead of in the gradient, as adamw always has it.
        decoupled: bool = false,
        /// Clipping: the largest norm of all gradients together (of a paper that sums over T steps, divided by T); 0: none.
        clip_norm: f64 = 0.25,
        /// Clipping of each number of a gradient to at most this; 0: none.
        clip_value: f64 = 0.0,
        /// The rate's schedule: constant, plateau, decay (by epochs) or cosine.
        schedule: String = "constant".into(),
        /// What the rate is divided by: by plateau where an evaluation is no better, by decay at each epoch after the first ones.
        divide: f64 = 4.0,
        /// Epochs with the whole rate before decay divides it.
        after: usize = 1,
        /// Steps in which the rate rises before cosine lets it fall.
        warmup: u64 = 0,
        /// Averaging of the weights: never, after (so many steps) or nt-asgd.
        average: String = "never".into(),
        /// after: steps before averaging begins; nt-asgd: it begins where an evaluation is worse than the best before the last N.
        patience: u64 = 0,
        /// Steps between two evaluations; 0: one an epoch.
        evaluate_every: u64 = 0,
        /// Early stopping: evaluations without a better one that end the training; 0: never.
        stop_after: usize = 0,
        /// The seed of all random numbers.
        seed: u64 = 1,
    }
}
