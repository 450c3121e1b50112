//! Recurrent language models on candle: the book's layers, truncated backpropagation through time, perplexity.
//!
//! ```
//! use candle_core::{DType, Device};
//! use rnn_lm::data::{Batches, Corpus, Streams, Tokens, VocabularyOptions};
//! use rnn_lm::model::{LanguageModel, LmSpec, Rnnlm};
//! use rnn_lm::train::{Clip, Optimizer, Sgd};
//! use rnn_core::{Bias, LstmCell, Scheme, Way};
//!
//! let text = "you say goodbye and i say hello .\n".repeat(20);
//! let corpus = Corpus::from_text(&text, Tokens::Word, VocabularyOptions::default())?;
//! let vocabulary = corpus.vocabulary.len();
//! let spec = LmSpec::new(vocabulary, 8, 16).bias(Bias::Single).init(Scheme::Book);
//! let mut model = Rnnlm::<LstmCell>::new(&spec, Way::Fused, (DType::F32, &Device::Cpu), 0)?;
//! let before = model.evaluate(&corpus.ids, 16)?.perplexity();
//! let mut sgd = Optimizer::new(Sgd::default(), 1.0).clip(Clip::Norm(1.0));
//! for window in Streams::new(&corpus.ids, 2, 9)?.epoch(0) {
//!     model.forward(&window?)?;
//!     model.backward()?;
//!     model.update(&mut sgd)?;
//! }
//! assert!(model.evaluate(&corpus.ids, 16)?.perplexity() < before);
//! # rnn_lm::Result::Ok(())
//! ```
#![forbid(unsafe_code)]

mod checksum;
pub mod config;
pub mod data;
mod error;
pub mod evaluate;
pub mod generate;
pub mod layers;
pub mod model;
pub mod run;
pub mod tokenizer;
pub mod train;
pub mod yardstick;

pub use error::{Error, Result};
pub use model::{LanguageModel, Rnnlm, SimpleRnnlm};
