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
mod json;
mod listed;
mod pieces;
mod unit;
mod word_level;

pub use pieces::Pieces;
pub use unit::{Options, Unit};

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::data::{TextFile, Tokens, Vocabulary, read_text};
use crate::error::{Error, Result};
use bpe::Bpe;
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

    /// The ids of a text.
    ///
    /// A text of words always ends with `<eos>`, be there a last line feed or not; in a vocabulary without it, a line's end is
    /// white space like any other.
    ///
    /// # Errors
    /// A text that is not UTF-8 (except for bytes), and an unknown token where there is no `<unk>`.
    pub fn encode(&self, text: &[u8]) -> Result<Vec<u32>> {
        match &*self.kind {
            Kind::Listed(listed) => listed.encode(utf8(text)?, usize::MAX),
            Kind::Byte => Ok(text.iter().copied().map(u32::from).collect()),
            Kind::Bpe(bpe) => bpe.encode(utf8(text)?),
        }
    }

    /// The ids of the first `count` tokens of a text; nothing behind them is looked at, so it may have any others.
    ///
    /// # Errors
    /// Those of [`Self::encode`].
    pub fn encode_first(&self, text: &[u8], count: usize) -> Result<Vec<u32>> {
        match &*self.kind {
            Kind::Listed(listed) => listed.encode(utf8(text)?, count),
            Kind::Byte | Kind::Bpe(_) => {
                let mut ids = self.encode(text)?;
                ids.truncate(count);
                Ok(ids)
            }
        }
    }

    /// The ids of a text, line by line: one behind the other they are those of the whole. A token that goes over a line's end, as
    /// pieces of BPE may, is one of the line in which it begins.
    ///
    /// ```
    /// use rnn_lm::tokenizer::{Options, Tokenizer, Unit};
    ///
    /// let options = Options { max: Some(257), ..Options::new(Unit::Bpe) };
    /// let tokenizer = Tokenizer::train(b"a\n\n\nb\n\n\nc", &options)?;
    /// assert_eq!(tokenizer.token(256).as_deref(), Some(r"\n\n"));
    /// let lines = tokenizer.encode_lines(b"a\n\n\nb")?;
    /// assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 1, 1]);
    /// assert_eq!(lines.concat(), tokenizer.encode(b"a\n\n\nb")?);
    /// # rnn_lm::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Self::encode`].
    pub fn encode_lines(&self, text: &[u8]) -> Result<Vec<Vec<u32>>> {
        let lines = text.split_inclusive(|&byte| byte == b'\n');
        match &*self.kind {
            Kind::Listed(_) => {
                // Where a bad byte is, is said of the text.
                utf8(text)?;
                let encode =
                    |(number, line)| self.encode(line).map_err(|error| error.at(format!("line {number}")));
                (1..).zip(lines).map(encode).collect()
            }
            Kind::Byte => lines.map(|line| self.encode(line)).collect(),
            Kind::Bpe(bpe) => {
                let mut ids = bpe.encode_with_places(utf8(text)?)?.into_iter().peekable();
                let mut end = 0;
                let of_line = |line: &[u8]| {
                    end += line.len();
                    std::iter::from_fn(|| ids.next_if(|&(at, _)| at < end || end == text.len()))
                        .map(|(_, id)| id)
                        .collect()
                };
                Ok(lines.map(of_line).collect())
            }
        }
    }

    /// The ids of a file, or of a part of one, read piece by piece.
    ///
    /// # Errors
    /// Where it cannot be read, and those of [`Self::encode`], with the file's name where a byte is bad.
    pub fn encode_file(&self, text: &TextFile) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_pieces(text, |some| {
            ids.extend(some);
            Ok(())
        })?;
        Ok(ids)
    }

    /// The same, some ids at a time. They are those of the whole text, wherever it was cut to be read. Memory does not grow with
    /// the text, unless a BPE of others cuts it in another way than GPT-2's: that is given the whole at once. A line of more than
    /// 4 MiB that has no ASCII blank is cut all the same, which takes a word apart.
    ///
    /// # Errors
    /// Those of [`Self::encode_file`] and of `each`.
    pub fn encode_pieces(&self, text: &TextFile, mut each: impl FnMut(Vec<u32>) -> Result<()>) -> Result<()> {
        let (mut read, mut held) = (0, String::new());
        text.pieces(|piece| {
            read += piece.len() as u64;
            let last = read == text.len();
            match &*self.kind {
                Kind::Bpe(bpe) => {
                    held.push_str(utf8(piece)?);
                    let end = if last { held.len() } else { bpe.cut(&held) };
                    each(bpe.encode(&held[..end])?)?;
                    held.drain(..end);
                    Ok(())
                }
                Kind::Listed(_) | Kind::Byte if last => each(self.encode(piece)?),
                Kind::Listed(_) | Kind::Byte => each(self.encode_part(piece)?),
            }
        })
    }

    /// The ids of a text that goes on: the same, without the `<eos>` of a last line that has no end yet.
    ///
    /// # Errors
    /// Those of [`Self::encode`].
    pub fn encode_part(&self, text: &[u8]) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut ids = self.encode(text)?;
        let ends = matches!(&*self.kind, Kind::Listed(listed) if listed.ends_texts());
        if ends && !text.ends_with(b"\n") {
            ids.pop();
        }
        Ok(ids)
    }

    /// The text that ids stand for. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// An id out of range.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut pieces = self.piece_decoder();
        let mut text = String::new();
        for &id in ids {
            pieces.append(id, &mut text)?;
        }
        text.push_str(&pieces.finish());
        Ok(text)
    }

    /// The bytes that ids stand for: those of [`Self::decode`], but that bytes which are no UTF-8 stay what they are.
    ///
    /// # Errors
    /// An id out of range.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>> {
        if self.unit() == Unit::Word {
            return Ok(self.decode(ids)?.into_bytes());
        }
        let bytes: Result<Vec<_>> = ids.iter().map(|&id| self.bytes_of(id)).collect();
        Ok(bytes?.concat())
    }

    /// One token as a person reads it: control characters and bytes that are no UTF-8 are escaped.
    ///
    /// ```
    /// use rnn_lm::tokenizer::{Options, Tokenizer, Unit};
    ///
    /// let tokenizer = Tokenizer::train(b"", &Options::new(Unit::Byte))?;
    /// let tokens = [65, 10, 255].map(|id| tokenizer.token(id).unwrap_or_default());
    /// assert_eq!(tokens, ["A", r"\n", r"\xff"]);
    /// assert_eq!(tokenizer.token(256), None);
    /// # rnn_lm::Result::Ok(())
    /// ```
    pub fn token(&self, id: u32) -> Option<String> {
        self.bytes(id).map(pieces::readable)
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

    /// Text as ids come one by one.
    pub fn piece_decoder(&self) -> Pieces {
        Pieces::new(self.clone())
    }

    /// The same after ids whose text has been shown already.
    ///
    /// # Errors
    /// An id out of range.
    pub fn pieces_after(&self, ids: &[u32]) -> Result<Pieces> {
        let (mut pieces, mut shown) = (self.piece_decoder(), String::new());
        ids.iter().try_for_each(|&id| pieces.append(id, &mut shown))?;
        Ok(pieces)
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

    /// What tells it from others: a checksum of the tokens in the order of their ids, and of what makes pieces of bytes. It does
    /// not hang on how a `tokenizer.json` is written.
    pub fn mark(&self) -> String {
        let mut sum = crc32fast::Hasher::new();
        sum.update(self.unit().to_string().as_bytes());
        for id in 0..self.len() as u32 {
            let token = self.bytes(id).unwrap_or_default();
            sum.update(&(token.len() as u64).to_le_bytes());
            sum.update(token);
        }
        if let Kind::Bpe(bpe) = &*self.kind {
            sum.update(&bpe.merges().to_le_bytes());
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

    /// The same, where there has to be one.
    fn bytes_of(&self, id: u32) -> Result<&[u8]> {
        let want = || format!("an id below the tokenizer's {}", self.len());
        self.bytes(id).ok_or_else(|| Error::invalid("Tokenizer::decode: ids", want(), id))
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("unit", &self.unit()).field("len", &self.len()).finish()
    }
}

/// Bytes as text.
fn utf8(text: &[u8]) -> Result<&str> {
    std::str::from_utf8(text).map_err(|error| Error::BadText { offset: error.valid_up_to() })
}

/// The error of a training text that has nothing to learn from.
fn empty() -> Error {
    Error::invalid("Tokenizer::train: text", "a text with at least one token", "an empty text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_bytes_are_named_by_their_offset() {
        for unit in [Unit::Word, Unit::Char] {
            let error = Tokenizer::train(b"caf\xe9", &Options::new(unit)).expect_err("Latin-1").to_string();
            assert!(error.contains("not UTF-8: the first bad byte is at offset 3"), "{error}");
            let tokenizer = Tokenizer::train(b"cafe", &Options::new(unit)).expect("tokenizer");
            let error = tokenizer.encode(b"c\xff").expect_err("no UTF-8").to_string();
            assert!(error.contains("not UTF-8: the first bad byte is at offset 1"), "{error}");
        }
    }

    #[test]
    fn a_file_has_the_ids_of_its_text_however_it_is_read() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("t.txt");
        // Read in pieces of about 4 MiB: of one line, and with a row of line feeds where a piece ends.
        for text in ["a b c ".repeat(1 << 20), "x".repeat((1 << 22) - 1) + "\n\n\nb x\n"] {
            std::fs::write(&path, &text).expect("file");
            let file = TextFile::open(&path).expect("file");
            for unit in Unit::ALL {
                let options = Options { max: Some(300), ..Options::new(unit) };
                let tokenizer =
                    Tokenizer::train(&b"a b c\n\n\nb x\n".repeat(9), &options).expect("tokenizer");
                let whole = tokenizer.encode(text.as_bytes()).expect("ids");
                assert!(tokenizer.encode_file(&file).expect("ids") == whole, "{unit}");
            }
        }
    }

    #[test]
    fn the_lines_of_a_text_have_its_ids_whatever_a_token_is() {
        let text = "  def f(x):\n      return é\n\n\n\n \n\tdef g  \r\n\r\n   \n\n世界 f";
        let lines = text.split_inclusive('\n').count();
        for unit in Unit::ALL {
            let options = Options { max: (unit == Unit::Bpe).then_some(300), ..Options::new(unit) };
            let trained = Tokenizer::train(text.repeat(9).as_bytes(), &options).expect("tokenizer");
            let mut file: serde_json::Value =
                serde_json::from_str(&trained.to_json().expect("json")).expect("json");
            let mut tokenizers = vec![trained];
            if unit == Unit::Bpe {
                // As others have it: with a blank put before a text, and characters that are composed first.
                file["pre_tokenizer"]["add_prefix_space"] = true.into();
                file["normalizer"] = serde_json::json!({"type": "NFC"});
                tokenizers.push(Tokenizer::from_json("t.json", &file.to_string()).expect("tokenizer"));
            }
            for tokenizer in tokenizers {
                for text in [text, "", "\n", "e\u{301}\n\ne\u{301}", "a", "\n\n\n"] {
                    let ids = tokenizer.encode(text.as_bytes()).expect("ids");
                    let got = tokenizer.encode_lines(text.as_bytes()).expect("ids");
                    assert_eq!(got.concat(), ids, "{unit} {text:?}");
                    assert_eq!(got.len(), text.split_inclusive('\n').count());
                }
                let got = tokenizer.encode_lines(text.as_bytes()).expect("ids");
                assert_eq!(got.len(), lines);
                assert_eq!(tokenizer.decode(&got[lines - 1]).expect("text").trim(), "世界 f", "{unit}");
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
