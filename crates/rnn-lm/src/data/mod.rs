//! From text to windows of ids: the vocabulary, the corpus, and the order in which a model sees it.
//!
//! Everything here is about ids on the CPU; tensors begin in the model.

mod batches;
mod corpus;
mod id_file;
mod source;
mod text_file;
mod varied;
mod vocabulary;

pub use batches::{Batches, BookBatches, IGNORE, Streams, Window};
pub use corpus::{Corpus, MARK, Tokens, read_text};
pub use id_file::{IdFile, IdFileWriter};
pub use source::Source;
pub use text_file::TextFile;
pub use varied::Varied;
pub use vocabulary::{EOS, UNK, Unknown, Vocabulary, VocabularyOptions};
