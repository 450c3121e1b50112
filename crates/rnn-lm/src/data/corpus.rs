//! A corpus: one text as a row of ids, with the vocabulary that gave them.
//!
//! Two ways to cut a text, words and characters, for any script. Not a tokenizer: no lower-casing, no punctuation
//! rules; what is between two spaces is a word.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::vocabulary::{EOS, UNK, Vocabulary, VocabularyOptions};
use crate::error::{Error, Result};

/// How a text is cut into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tokens {
    /// What stands between Unicode white space is a token, and each line ends with `<eos>`.
    ///
    /// A blank line gives `<eos>` alone, and a last line without a line feed gives one as well: the counts published
    /// for the Penn Treebank and for WikiText-2 come out. Lines end with a line feed or with carriage return and
    /// line feed.
    Word,
    /// Each Unicode scalar value is a token; the line feed among them plays the part of `<eos>`.
    ///
    /// Carriage return and line feed together are one line feed.
    Char,
}

impl Tokens {
    /// The tokens of `text` in order.
    ///
    /// ```
    /// use rnn_lm::data::Tokens;
    ///
    /// let words: Vec<_> = Tokens::Word.split("you say\r\n\ngoodbye").collect();
    /// assert_eq!(words, ["you", "say", "<eos>", "<eos>", "goodbye", "<eos>"]);
    /// let chars: Vec<_> = Tokens::Char.split("né\r\n").collect();
    /// assert_eq!(chars, ["n", "é", "\n"]);
    /// ```
    pub fn split(self, text: &str) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Word => {
                Box::new(text.lines().flat_map(|line| line.split_whitespace().chain(std::iter::once(EOS))))
            }
            Self::Char => Box::new(text.char_indices().filter_map(|(at, c)| {
                let rest = &text[at + c.len_utf8()..];
                // Of "\r\n" only the line feed is a token.
                (c != '\r' || !rest.starts_with('\n')).then(|| &text[at..at + c.len_utf8()])
            })),
        }
    }

    /// The text that tokens stand for: words with a space between them and a line feed for `<eos>`, characters one
    /// after the other.
    ///
    /// ```
    /// use rnn_lm::data::{Tokens, Vocabulary};
    ///
    /// let vocabulary = Vocabulary::from_tokens(["you", "say", "<eos>"])?;
    /// assert_eq!(Tokens::Word.decode(&vocabulary, &[0, 1, 2, 0])?, "you say\nyou");
    /// # Ok::<(), rnn_lm::Error>(())
    /// ```
    ///
    /// # Errors
    /// An id that the vocabulary does not have.
    pub fn decode(self, vocabulary: &Vocabulary, ids: &[u32]) -> Result<String> {
        let (mut text, mut inside) = (String::new(), false);
        for (index, &id) in ids.iter().enumerate() {
            let token = vocabulary.token(id).ok_or_else(|| {
                Error::invalid(
                    format!("Tokens::decode: id at index {index}"),
                    format!("an id below the vocabulary's {}", vocabulary.len()),
                    id,
                )
            })?;
            inside = self.append(token, inside, &mut text);
        }
        Ok(text)
    }

    /// What one more token adds to a text. Whether the text is inside of a line, where a word needs a space before it, is given
    /// and returned.
    pub(crate) fn append(self, token: &str, inside: bool, text: &mut String) -> bool {
        match self {
            Self::Word if token == EOS => text.push('\n'),
            Self::Word if inside => text.extend([" ", token]),
            Self::Word | Self::Char => text.push_str(token),
        }
        self == Self::Char || token != EOS
    }

    /// The token that ends a line: `<eos>`, or the line feed among characters.
    pub fn line_end(self) -> &'static str {
        match self {
            Self::Word => EOS,
            Self::Char => "\n",
        }
    }

    /// Whether a text has nothing to learn from: for words, a text of line ends is as empty as no text.
    pub(crate) fn is_blank(self, text: &str) -> bool {
        match self {
            Self::Word => text.trim().is_empty(),
            Self::Char => text.is_empty(),
        }
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word => "word",
            Self::Char => "char",
        })
    }
}

impl FromStr for Tokens {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "word" => Ok(Self::Word),
            "char" => Ok(Self::Char),
            _ => Err(Error::invalid("Tokens", "word or char", format!("{name:?}"))),
        }
    }
}

/// A text as ids.
///
/// ```
/// use rnn_lm::data::{Corpus, Tokens, VocabularyOptions};
///
/// let train = Corpus::from_text("to be or not to be", Tokens::Word, VocabularyOptions::default())?;
/// assert_eq!(train.ids, [0, 1, 2, 3, 0, 1, 4]);
/// let held_out = Corpus::with_vocabulary("to do", Tokens::Word, train.vocabulary.clone())?;
/// assert_eq!(held_out.unknown_rate(), 1.0 / 3.0);
/// # Ok::<(), rnn_lm::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// The ids in the order of the text.
    pub ids: Vec<u32>,
    /// The vocabulary that the ids belong to.
    pub vocabulary: Arc<Vocabulary>,
    /// How the text was cut.
    pub tokens: Tokens,
}

impl Corpus {
    /// A training corpus, whose vocabulary comes from the text itself.
    ///
    /// # Errors
    /// A text without tokens, and what [`Vocabulary::from_text`] refuses.
    pub fn from_text(text: &str, tokens: Tokens, options: VocabularyOptions) -> Result<Self> {
        let vocabulary = Vocabulary::from_text(tokens.split(text), options)?;
        Self::with_vocabulary(text, tokens, Arc::new(vocabulary))
    }

    /// [`Self::from_text`] on the text of a file.
    ///
    /// # Errors
    /// A file that [`read_text`] refuses, and what [`Self::from_text`] refuses.
    pub fn from_file(path: impl AsRef<Path>, tokens: Tokens, options: VocabularyOptions) -> Result<Self> {
        let text = read_text(path.as_ref())?;
        if tokens.is_blank(&text) {
            return Err(empty(path.as_ref().display()));
        }
        Self::from_text(&text, tokens, options)
    }

    /// A held-out corpus: `text` in the ids of a vocabulary that exists already.
    ///
    /// # Errors
    /// A text without tokens, and an unknown token where the vocabulary has no `<unk>`.
    pub fn with_vocabulary(text: &str, tokens: Tokens, vocabulary: Arc<Vocabulary>) -> Result<Self> {
        if tokens.is_blank(text) {
            return Err(empty("text"));
        }
        let ids = vocabulary.encode(tokens.split(text))?;
        Ok(Self { ids, vocabulary, tokens })
    }

    /// The training corpus of the first `n` tokens: their ids, and the vocabulary of only these tokens (with `<unk>`
    /// if this corpus has it).
    ///
    /// Of a training corpus the ids stay as they are, because they are in order of first appearance. For a held-out
    /// corpus, whose ids must stay those of the model, truncate [`Self::ids`] instead.
    ///
    /// # Errors
    /// An `n` of 0 or beyond the end.
    pub fn first(&self, n: usize) -> Result<Self> {
        let Some(ids) = self.ids.get(..n).filter(|ids| !ids.is_empty()) else {
            return Err(Error::invalid("Corpus::first: n", format!("1 to {}", self.ids.len()), n));
        };
        let vocabulary = {
            let mut kept = indexmap::IndexSet::new();
            for &id in ids {
                kept.insert(self.token(id)?);
            }
            if self.vocabulary.unk().is_some() {
                kept.insert(UNK);
            }
            Arc::new(Vocabulary::from_tokens(kept)?)
        };
        let tokens = ids.iter().map(|&id| self.token(id)).collect::<Result<Vec<_>>>()?;
        Ok(Self { ids: vocabulary.encode(tokens)?, vocabulary, tokens: self.tokens })
    }

    /// The text that `ids` stand for; see [`Tokens::decode`].
    ///
    /// # Errors
    /// An id that the vocabulary does not have.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokens.decode(&self.vocabulary, ids)
    }

    /// The share of ids that are `<unk>`, between 0 and 1.
    pub fn unknown_rate(&self) -> f64 {
        let Some(unk) = self.vocabulary.unk() else { return 0.0 };
        let unknown = self.ids.iter().filter(|&&id| id == unk).count();
        unknown as f64 / self.ids.len().max(1) as f64
    }

    fn token(&self, id: u32) -> Result<&str> {
        self.vocabulary.token(id).ok_or_else(|| {
            Error::invalid("Corpus: ids", format!("ids below the vocabulary's {}", self.vocabulary.len()), id)
        })
    }
}

/// The text of a file, without the byte order mark that some editors put in front.
///
/// # Errors
/// A file that cannot be read, or that is not UTF-8; both name the file, the second the first bad byte.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let text = String::from_utf8(bytes).map_err(|error| Error::NotUtf8 {
        path: path.to_path_buf(),
        offset: error.utf8_error().valid_up_to(),
    })?;
    Ok(text.strip_prefix(MARK).map(str::to_string).unwrap_or(text))
}

/// What some editors put in front of a text, and is none of it: the byte order mark.
pub const MARK: &str = "\u{feff}";

fn empty(what: impl fmt::Display) -> Error {
    Error::invalid(format!("Corpus: {what}"), "a text with at least one token", "an empty text")
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::Unknown;
    use super::*;

    fn exact(text: &str, tokens: Tokens) -> Corpus {
        let options = VocabularyOptions { max: None, unknown: Unknown::Error };
        Corpus::from_text(text, tokens, options).expect("corpus")
    }

    #[test]
    fn words_of_any_script_and_white_space() {
        let corpus = exact("吾輩は\u{3000}猫 である\nПривет,\tмир\n", Tokens::Word);
        let tokens: Vec<_> = corpus.vocabulary.tokens().collect();
        assert_eq!(tokens, ["吾輩は", "猫", "である", EOS, "Привет,", "мир"]);
        assert_eq!(corpus.ids, [0, 1, 2, 3, 4, 5, 3]);
    }

    #[test]
    fn line_ends_of_both_kinds_give_the_same_ids() {
        for tokens in [Tokens::Word, Tokens::Char] {
            let unix = exact("a b\n\nc\n", tokens);
            assert_eq!(exact("a b\r\n\r\nc\r\n", tokens), unix);
        }
        assert_eq!(exact("a b\nc", Tokens::Word), exact("a b\nc\n", Tokens::Word));
    }

    #[test]
    fn characters_are_scalar_values_and_the_line_feed_ends_a_line() {
        let corpus = exact("a🦀\r\nb\r", Tokens::Char);
        let tokens: Vec<_> = corpus.vocabulary.tokens().collect();
        assert_eq!(tokens, ["a", "🦀", "\n", "b", "\r"]);
        assert_eq!(corpus.vocabulary.id(corpus.tokens.line_end()), Some(2));
    }

    #[test]
    fn decoding_gives_the_text_back() {
        for (tokens, text) in [(Tokens::Word, "a b\n\nc\n"), (Tokens::Char, " né\n\n 世界")] {
            let corpus = exact(text, tokens);
            assert_eq!(corpus.decode(&corpus.ids).expect("text"), text);
        }
    }

    #[test]
    fn decoding_refuses_an_id_out_of_range() {
        let error = exact("a b", Tokens::Word).decode(&[0, 3]).expect_err("range").to_string();
        assert!(error.contains("index 1") && error.contains("below the vocabulary's 3, got 3"), "{error}");
    }

    #[test]
    fn empty_texts_are_errors() {
        for (text, tokens) in [("", Tokens::Word), (" \n\n", Tokens::Word), ("", Tokens::Char)] {
            assert!(Corpus::from_text(text, tokens, VocabularyOptions::default()).is_err(), "{text:?}");
        }
        assert!(Corpus::from_text(" \n", Tokens::Char, VocabularyOptions::default()).is_ok());
    }

    #[test]
    fn first_keeps_the_ids_and_only_their_vocabulary() {
        let corpus = exact("a b a c d\n", Tokens::Word);
        let first = corpus.first(4).expect("first");
        assert_eq!(first.ids, corpus.ids[..4]);
        assert_eq!(first.vocabulary.tokens().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(corpus.first(0).is_err());
        let error = corpus.first(7).expect_err("beyond").to_string();
        assert!(error.contains("n: expected 1 to 6, got 7"), "{error}");
    }

    #[test]
    fn first_is_the_corpus_of_the_shorter_text() {
        for unknown in [Unknown::Add, Unknown::Error] {
            let options = VocabularyOptions { max: None, unknown };
            let long = Corpus::from_text("b a b c", Tokens::Char, options).expect("corpus");
            let short = Corpus::from_text("b a", Tokens::Char, options).expect("corpus");
            assert_eq!(long.first(3).expect("first"), short);
        }
    }

    #[test]
    fn unknown_rate_counts_what_the_vocabulary_lacks() {
        let options = VocabularyOptions { max: Some(3), unknown: Unknown::Add };
        let train = Corpus::from_text("a a b b c\n", Tokens::Word, options).expect("corpus");
        assert_eq!(train.vocabulary.tokens().collect::<Vec<_>>(), ["a", UNK, EOS]);
        assert_eq!(train.unknown_rate(), 0.5);
        assert_eq!(exact("a b", Tokens::Word).unknown_rate(), 0.0);
    }

    #[test]
    fn files_lose_their_byte_order_mark_and_nothing_else() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("text.txt");
        std::fs::write(&path, "\u{feff}a b\u{feff}\n").expect("write");
        assert_eq!(read_text(&path).expect("text"), "a b\u{feff}\n");
    }

    #[test]
    fn unusable_files_are_named() {
        let folder = tempfile::tempdir().expect("folder");
        let load = |path: &Path| Corpus::from_file(path, Tokens::Word, VocabularyOptions::default());
        let missing = folder.path().join("missing.txt");
        assert!(matches!(load(&missing), Err(Error::Io { path, .. }) if path == missing));
        let latin = folder.path().join("latin.txt");
        std::fs::write(&latin, b"caf\xe9 au lait").expect("write");
        assert!(matches!(load(&latin), Err(Error::NotUtf8 { path, offset: 3 }) if path == latin));
        let blank = folder.path().join("blank.txt");
        std::fs::write(&blank, "\n\n").expect("write");
        let error = load(&blank).expect_err("blank").to_string();
        assert!(error.contains("blank.txt") && error.contains("an empty text"), "{error}");
    }

    #[test]
    fn token_names_go_both_ways() {
        for tokens in [Tokens::Word, Tokens::Char] {
            assert_eq!(tokens.to_string().parse::<Tokens>().expect("name"), tokens);
        }
        let error = "bpe".parse::<Tokens>().expect_err("name").to_string();
        assert!(error.contains("word or char, got \"bpe\""), "{error}");
    }
}
