//! From text to windows of ids: the vocabulary, the corpus, and the order in which a model sees it.
//!
//! Everything here is about ids on the CPU; tensors begin in the model.

mod batches;
mod corpus;
mod vocabulary;

pub use batches::{Batches, BookBatches, IGNORE, Streams, Window};
pub use corpus::{Corpus, Tokens, read_text};
pub use vocabulary::{EOS, UNK, Unknown, Vocabulary, VocabularyOptions};
