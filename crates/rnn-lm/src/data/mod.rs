//! From text to windows of ids: the vocabulary, the corpus, and the order in which a model sees it.
//!
//! Everything here is about ids on the CPU; tensors begin in the model.

mod batches;
mod corpus;
mod id_file;
mod mark;
mod source;
mod text_file;
mod tokens;
mod varied;
mod vocabulary;

pub(crate) use batches::lengths;
pub use batches::{Batches, BookBatches, IGNORE, Streams, Window};
pub use corpus::Corpus;
pub use id_file::{IdFile, IdFileWriter};
pub use mark::behind_mark;
pub use source::Source;
pub use text_file::{TextFile, open_text, read_text};
pub use tokens::Tokens;
pub use varied::Varied;
pub use vocabulary::{EOS, UNK, Unknown, Vocabulary, VocabularyOptions};
