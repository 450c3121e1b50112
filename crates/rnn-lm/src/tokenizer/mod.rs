//! From text to ids and back, whatever a token is; and `tokenizer.json`, in the format of Hugging Face's `tokenizers`.
//!
//! Words and characters are lists that are looked up ([`crate::data::Vocabulary`]), bytes are their own ids, and pieces are those of a
//! byte-level BPE. Text is read line by line: a line's ids depend on nothing outside of it.

mod bpe;
mod bytes;
mod json;
mod listed;
mod pieces;

pub use pieces::Pieces;

use crate::data::{Tokens, Unknown, Vocabulary, VocabularyOptions};
use crate::{Error, Result};
use bpe::Bpe;
use listed::Listed;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// What stands between white space, and `<eos>` at the end of each line: [`Tokens::Word`].
    Word,
    /// A Unicode scalar value: [`Tokens::Char`].
    Char,
    /// A byte, of any file.
    Byte,
    /// A piece of a byte-level BPE (Sennrich, Haddow & Birch 2016; Radford et al. 2019): frequent runs of bytes.
    Bpe,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Word, Self::Char, Self::Byte, Self::Bpe];
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word => "word",
            Self::Char => "char",
            Self::Byte => "byte",
            Self::Bpe => "bpe",
        })
    }
}

impl FromStr for Unit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let named = Self::ALL.into_iter().find(|unit| unit.to_string() == name);
        named.ok_or_else(|| Error::invalid("tokens", "word, char, byte or bpe", format!("{name:?}")))
    }
}

/// How a tokenizer is made of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What a token is.
    pub unit: Unit,
    /// The most entries of its vocabulary; none for all of the text, of BPE for [`Options::PIECES`]. Bytes are always 256.
    pub max: Option<usize>,
    /// What becomes of words and characters that are not in it.
    pub unknown: Unknown,
    /// Whether ids are in the order of frequency, the most frequent first (words and characters), instead of that of their
    /// first appearance.
    pub by_frequency: bool,
}

impl Options {
    /// Pieces of a BPE where nobody says how many.
    pub const PIECES: usize = 8000;

    /// Of all that the text has.
    pub fn new(unit: Unit) -> Self {
        Self { unit, max: None, unknown: Unknown::default(), by_frequency: false }
    }
}

/// A tokenizer; a clone is the same one.
///
/// ```
/// use rnn_lm::tokenizer::{Options, Tokenizer, Unit};
/// let tokenizer = Tokenizer::train(b"to be or not to be", &Options::new(Unit::Word))?;
/// assert_eq!(tokenizer.encode(b"not to be")?, [3, 0, 1, 4]);
/// assert_eq!(tokenizer.decode(&[3, 0, 1, 4])?, "not to be\n");
/// let again = Tokenizer::from_json("tokenizer.json", &tokenizer.to_json()?)?;
/// assert_eq!(again.encode(b"to see")?, [0, 5, 4]); // 5 is <unk>
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Tokenizer(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Listed(Listed),
    Bytes,
    Bpe(Arc<Bpe>),
}

impl Tokenizer {
    /// Made of a text.
    ///
    /// # Errors
    /// [`Error::BadText`] where the text is not UTF-8 and tokens are not bytes; a text without tokens; a `max` that has no
    /// room.
    pub fn train(text: &[u8], options: &Options) -> Result<Self> {
        let listed = |tokens: Tokens| {
            let text = utf8(text)?;
            let how = VocabularyOptions { max: options.max, unknown: options.unknown };
            let vocabulary = Vocabulary::from_text(tokens.split(text), how)?;
            let vocabulary = match options.by_frequency {
                true => listed::by_frequency(&vocabulary, tokens.split(text))?,
                false => vocabulary,
            };
            Ok(Self(Kind::Listed(Listed::new(tokens, Arc::new(vocabulary)))))
        };
        match options.unit {
            Unit::Word => listed(Tokens::Word),
            Unit::Char => listed(Tokens::Char),
            Unit::Byte => Ok(Self(Kind::Bytes)),
            Unit::Bpe => Ok(Self(Kind::Bpe(Arc::new(Bpe::train(utf8(text)?, options.max)?)))),
        }
    }

    /// Of words or characters that are listed already.
    ///
    /// # Errors
    /// Where tokens are others.
    pub fn of_vocabulary(unit: Unit, vocabulary: Arc<Vocabulary>) -> Result<Self> {
        match unit {
            Unit::Word => Ok(Self(Kind::Listed(Listed::new(Tokens::Word, vocabulary)))),
            Unit::Char => Ok(Self(Kind::Listed(Listed::new(Tokens::Char, vocabulary)))),
            other => Err(Error::invalid("Tokenizer::of_vocabulary", "word or char", other)),
        }
    }

    /// What a token is.
    pub fn unit(&self) -> Unit {
        match &self.0 {
            Kind::Listed(listed) => listed.unit(),
            Kind::Bytes => Unit::Byte,
            Kind::Bpe(_) => Unit::Bpe,
        }
    }

    /// V, the entries of the vocabulary; never 0.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Listed(listed) => listed.vocabulary.len(),
            Kind::Bytes => 256,
            Kind::Bpe(bpe) => bpe.len(),
        }
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// [`Error::BadText`] where it is not UTF-8 and tokens are not bytes; a token that is not in a vocabulary without `<unk>`.
    pub fn encode(&self, text: &[u8]) -> Result<Vec<u32>> {
        match &self.0 {
            Kind::Listed(listed) => listed.encode(utf8(text)?),
            Kind::Bytes => Ok(text.iter().copied().map(u32::from).collect()),
            Kind::Bpe(bpe) => bpe.encode(utf8(text)?),
        }
    }

    /// The ids of a text that goes on: the same, without the `<eos>` of a last line that has no end yet.
    ///
    /// # Errors
    /// Those of [`Self::encode`].
    pub fn encode_part(&self, text: &[u8]) -> Result<Vec<u32>> {
        let mut ids = self.encode(text)?;
        if self.unit() == Unit::Word && !text.ends_with(b"\n") {
            ids.pop();
        }
        Ok(ids)
    }

    /// The text of ids; bytes that are no UTF-8 are U+FFFD in it.
    ///
    /// # Errors
    /// Where an id is not below V.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut pieces = self.pieces();
        let mut text = String::new();
        for &id in ids {
            text.push_str(&pieces.push(id)?);
        }
        text.push_str(&pieces.finish());
        Ok(text)
    }

    /// The text of ids as they come one by one.
    pub fn pieces(&self) -> Pieces {
        Pieces::new(self.clone())
    }

    /// The same after ids that have been shown already.
    ///
    /// # Errors
    /// Where an id is not below V.
    pub fn pieces_after(&self, ids: &[u32]) -> Result<Pieces> {
        let mut pieces = self.pieces();
        ids.iter().try_for_each(|&id| pieces.push(id).map(drop))?;
        pieces.finish();
        Ok(pieces)
    }

    /// A token as a person reads it.
    pub fn token(&self, id: u32) -> Option<String> {
        match &self.0 {
            Kind::Listed(listed) => listed.vocabulary.token(id).map(str::to_string),
            _ => Some(String::from_utf8_lossy(&self.bytes(id)?).into_owned()),
        }
    }

    /// The token of this text.
    pub fn id(&self, token: &str) -> Option<u32> {
        match &self.0 {
            Kind::Listed(listed) => listed.vocabulary.id(token),
            Kind::Bytes => match token.as_bytes() {
                [byte] => Some(u32::from(*byte)),
                _ => None,
            },
            Kind::Bpe(bpe) => bpe.id(token.as_bytes()),
        }
    }

    /// The id of what is not in the vocabulary, where there is one.
    pub fn unknown(&self) -> Option<u32> {
        match &self.0 {
            Kind::Listed(listed) => listed.vocabulary.unk(),
            _ => None,
        }
    }

    /// What a text of its own comes after: the end of a line; 0 where there is none.
    pub fn begin(&self) -> u32 {
        match &self.0 {
            Kind::Listed(listed) => listed.vocabulary.eos().unwrap_or(0),
            _ => self.id("\n").unwrap_or(0),
        }
    }

    /// As Hugging Face's `tokenizers` reads it.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        match &self.0 {
            Kind::Listed(listed) => json::text(&listed.to_json()),
            Kind::Bytes => json::text(&bytes::to_json()),
            Kind::Bpe(bpe) => Ok(bpe.json().to_string()),
        }
    }

    /// Reads one back: a `WordLevel` of words or characters, or a byte-level `BPE`, also one that others made. `name` is that
    /// of the file, for errors.
    ///
    /// # Errors
    /// Where it is none, or asks for what is not done here.
    pub fn from_json(name: &str, text: &str) -> Result<Self> {
        let file = json::Json::read(name, text)?;
        match file.kind()? {
            "WordLevel" => Ok(Self(Kind::Listed(Listed::from_json(&file)?))),
            "BPE" if bytes::is(&file) => Ok(Self(Kind::Bytes)),
            "BPE" => Ok(Self(Kind::Bpe(Arc::new(Bpe::from_json(&file, text)?)))),
            other => Err(file.wrong("a model of type WordLevel or BPE", other)),
        }
    }

    /// The bytes of a token of bytes.
    fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        match &self.0 {
            Kind::Listed(_) => None,
            Kind::Bytes => u8::try_from(id).ok().map(|byte| vec![byte]),
            Kind::Bpe(bpe) => bpe.bytes(id).map(<[u8]>::to_vec),
        }
    }
}

fn utf8(text: &[u8]) -> Result<&str> {
    std::str::from_utf8(text).map_err(|error| Error::BadText { offset: error.valid_up_to() })
}

#[cfg(test)]
mod tests;
