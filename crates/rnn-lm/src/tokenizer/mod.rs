//! From text to ids and back, whatever a token is, and `tokenizer.json` as Hugging Face `tokenizers` has it.
//!
//! ```
//! use rnn_lm::tokenizer::{Options, Tokenizer, Unit};
//!
//! let tokenizer = Tokenizer::train(b"you say goodbye\n", &Options::new(Unit::Word))?;
//! let ids = tokenizer.encode(b"you say hello\n")?;
//! assert_eq!(tokenizer.decode(&ids)?, "you say <unk>\n");
//! let again = Tokenizer::from_json("tokenizer.json", &tokenizer.to_json()?)?;
//! assert_eq!(again.encode(b"you say hello\n")?, ids);
//! # rnn_lm::Result::Ok(())
//! ```

mod bpe;
mod bytes;
mod check;
mod cut;
mod decode;
mod encode;
mod json;
mod listed;
mod unit;
mod word_level;

pub use decode::Pieces;
pub use unit::{Options, Unit};

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::data::{Tokens, UNK, Vocabulary, read_text};
use crate::error::{Error, Result};
use bpe::Bpe;
use encode::utf8;
use listed::Listed;

/// A map between text and ids. A clone shares what it holds.
///
/// A byte order mark is text like any other; [`crate::data::read_text`] takes it off.
#[derive(Clone)]
pub struct Tokenizer {
    kind: Arc<Kind>,
}

enum Kind {
    Listed(Listed),
    Byte,
    Bpe(Box<Bpe>),
}

impl Tokenizer {
    fn new(kind: Kind) -> Self {
        Self { kind: Arc::new(kind) }
    }

    /// The tokenizer of a training text. The same text always gives the same one.
    ///
    /// ```
    /// use rnn_lm::tokenizer::{Options, Tokenizer, Unit};
    ///
    /// let options = Options { max: Some(258), ..Options::new(Unit::Bpe) };
    /// let tokenizer = Tokenizer::train(b"so so so", &options)?;
    /// assert_eq!(tokenizer.token(256).as_deref(), Some("so"));
    /// assert_eq!(tokenizer.encode(b"so so")?, [256, 257]);
    /// # rnn_lm::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// A text without tokens, one that is not UTF-8 (except for bytes), and a `max` that is too small.
    pub fn train(text: &[u8], options: &Options) -> Result<Self> {
        match options.unit {
            Unit::Byte => Ok(Self::new(Kind::Byte)),
            Unit::Word => Ok(Self::new(Kind::Listed(Listed::train(utf8(text)?, Tokens::Word, options)?))),
            Unit::Char => Ok(Self::new(Kind::Listed(Listed::train(utf8(text)?, Tokens::Char, options)?))),
            Unit::Bpe => Ok(Self::new(Kind::Bpe(Box::new(Bpe::train(utf8(text)?, options.max)?)))),
        }
    }

    /// The tokenizer of a vocabulary that exists already.
    ///
    /// # Errors
    /// A unit other than words and characters, and an empty vocabulary.
    pub fn of_vocabulary(unit: Unit, vocabulary: Arc<Vocabulary>) -> Result<Self> {
        let tokens = match unit {
            Unit::Word => Tokens::Word,
            Unit::Char => Tokens::Char,
            Unit::Byte | Unit::Bpe => {
                return Err(Error::invalid("Tokenizer::of_vocabulary: unit", "word or char", unit));
            }
        };
        let unknown = vocabulary.unk();
        Ok(Self::new(Kind::Listed(Listed::new("Tokenizer::of_vocabulary", tokens, vocabulary, unknown)?)))
    }

    /// What a token is.
    pub fn unit(&self) -> Unit {
        match &*self.kind {
            Kind::Listed(listed) => listed.unit(),
            Kind::Byte => Unit::Byte,
            Kind::Bpe(_) => Unit::Bpe,
        }
    }

    /// The number of tokens, V.
    pub fn len(&self) -> usize {
        match &*self.kind {
            Kind::Listed(listed) => listed.vocabulary().len(),
            Kind::Byte => bytes::ALL.len(),
            Kind::Bpe(bpe) => bpe.tokens().len(),
        }
    }

    /// Whether there is no token: never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of a token, as its text stands in a vocabulary or in a text.
    pub fn id(&self, token: &str) -> Option<u32> {
        match &*self.kind {
            Kind::Listed(listed) => listed.vocabulary().id(token),
            Kind::Byte | Kind::Bpe(_) => {
                (0..self.len() as u32).find(|&id| self.bytes(id) == Some(token.as_bytes()))
            }
        }
    }

    /// The list of words or characters, where tokens are these.
    pub fn vocabulary(&self) -> Option<&Vocabulary> {
        match &*self.kind {
            Kind::Listed(listed) => Some(listed.vocabulary()),
            Kind::Byte | Kind::Bpe(_) => None,
        }
    }

    /// The id of the token for everything that is not known. Bytes and byte pairs know everything.
    pub fn unknown(&self) -> Option<u32> {
        match &*self.kind {
            Kind::Listed(listed) => listed.unknown(),
            Kind::Byte | Kind::Bpe(_) => None,
        }
    }

    /// The id of a line's end: of `<eos>` for words, else of the line feed.
    pub fn line_end(&self) -> Option<u32> {
        match &*self.kind {
            Kind::Listed(listed) => listed.line_end(),
            Kind::Byte => Some(u32::from(b'\n')),
            Kind::Bpe(bpe) => bpe.line_end(),
        }
    }

    /// The id that a text of its own may begin after: that end, and 0 where there is none.
    pub fn begin(&self) -> u32 {
        self.line_end().unwrap_or(0)
    }

    /// The ids of a text of its own behind what it begins after, which predicts the first of them.
    ///
    /// ```
    /// use rnn_lm::tokenizer::{Options, Tokenizer, Unit};
    /// let bytes = Tokenizer::train(b"hi", &Options::new(Unit::Byte))?;
    /// assert_eq!(bytes.behind_a_line(&[104, 105]), [10, 104, 105]);
    /// # rnn_lm::Result::Ok(())
    /// ```
    pub fn behind_a_line(&self, ids: &[u32]) -> Vec<u32> {
        [&[self.begin()], ids].concat()
    }

    /// The content of a `tokenizer.json`.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        match &*self.kind {
            Kind::Listed(listed) => word_level::to_json(listed),
            Kind::Byte => bytes::to_json(),
            Kind::Bpe(bpe) => bpe.to_json(),
        }
    }

    /// What tells it from others: a checksum of the tokens in the order of their ids, of which of them is the unknown one, and of
    /// what makes pieces of bytes. It does not depend on how a `tokenizer.json` is written.
    pub fn fingerprint(&self) -> String {
        let mut sum = crc32fast::Hasher::new();
        sum.update(self.unit().to_string().as_bytes());
        for id in 0..self.len() as u32 {
            let token = self.bytes(id).unwrap_or_default();
            sum.update(&(token.len() as u64).to_le_bytes());
            sum.update(token);
        }
        match &*self.kind {
            Kind::Listed(listed) => {
                let unknown = listed.unknown().and_then(|id| listed.vocabulary().token(id));
                sum.update(unknown.filter(|&token| token != UNK).unwrap_or_default().as_bytes());
            }
            Kind::Byte => {}
            Kind::Bpe(bpe) => bpe.fingerprint(&mut sum),
        }
        format!("{:08x}", sum.finalize())
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Where the file cannot be read, and those of [`Self::from_json`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_json(&path.display().to_string(), &read_text(path)?)
    }

    /// Reads the content of a `tokenizer.json`; `name` is that of the file, for errors.
    ///
    /// # Errors
    /// What is no JSON, and a tokenizer that this crate cannot be; both name the file and the place.
    pub fn from_json(name: &str, json: &str) -> Result<Self> {
        Ok(Self::new(json::read(name, json)?))
    }

    /// The bytes that a token stands for.
    fn bytes(&self, id: u32) -> Option<&[u8]> {
        match &*self.kind {
            Kind::Listed(listed) => listed.vocabulary().token(id).map(str::as_bytes),
            Kind::Byte => bytes::ALL.get(id as usize).map(std::slice::from_ref),
            Kind::Bpe(bpe) => bpe.tokens().get(id as usize).map(Vec::as_slice),
        }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("unit", &self.unit()).field("len", &self.len()).finish()
    }
}

/// The error of a training text that has nothing to learn from.
fn empty() -> Error {
    Error::invalid("Tokenizer::train: text", "a text with at least one token", "an empty text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_gives_other_ids_has_another_fingerprint() {
        let trained = |unit| {
            let options = Options { max: (unit == Unit::Bpe).then_some(260), ..Options::new(unit) };
            Tokenizer::train(b"the sea the sea", &options).expect("tokenizer")
        };
        let word = ("/model/unk_token", json!("the"));
        let whole = ("/model/ignore_merges", json!(true));
        let composed = ("/normalizer", json!({"type": "NFC"}));
        let prefixed = ("/pre_tokenizer/add_prefix_space", json!(true));
        let digits = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, bytes::byte_level(true)
        ]});
        let added = json!([{
            "id": 260, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }]);
        for (unit, changes) in [
            (Unit::Word, vec![word]),
            (
                Unit::Bpe,
                vec![whole, composed, prefixed, ("/pre_tokenizer", digits), ("/added_tokens", added)],
            ),
        ] {
            let tokenizer = trained(unit);
            let json = tokenizer.to_json().expect("json");
            let mut fingerprints = vec![tokenizer.fingerprint()];
            assert_eq!(
                Tokenizer::from_json("t.json", &json).expect("tokenizer").fingerprint(),
                fingerprints[0]
            );
            for (place, value) in changes {
                let mut file: serde_json::Value = serde_json::from_str(&json).expect("json");
                *file.pointer_mut(place).expect("place") = value;
                let other = Tokenizer::from_json("t.json", &file.to_string()).expect("tokenizer");
                // Written and read again it is the same one.
                let again =
                    Tokenizer::from_json("t.json", &other.to_json().expect("json")).expect("tokenizer");
                assert_eq!(again.fingerprint(), other.fingerprint(), "{place}");
                assert!(!fingerprints.contains(&other.fingerprint()), "{place}");
                fingerprints.push(other.fingerprint());
            }
        }
    }

    #[test]
    fn a_tokenizer_goes_to_other_threads_and_says_what_it_is() {
        fn shared(_: &(impl Send + Sync + Clone + fmt::Debug)) {}
        let tokenizer = Tokenizer::train(b"a b", &Options::new(Unit::Word)).expect("tokenizer");
        shared(&tokenizer);
        assert_eq!(format!("{tokenizer:?}"), "Tokenizer { unit: Word, len: 4 }");
    }
}
