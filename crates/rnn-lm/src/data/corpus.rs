//! A corpus: one text as a row of ids, with the vocabulary that gave them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::text_file::read_text;
use super::tokens::Tokens;
use super::vocabulary::{UNK, Vocabulary, VocabularyOptions};
use crate::error::{Error, Result};

/// A text as ids, of words or characters: the shortest way from a text to training. A run in a folder, bytes and BPE want a
/// [`Tokenizer`](crate::tokenizer::Tokenizer), which [`Tokenizer::of_vocabulary`](crate::tokenizer::Tokenizer::of_vocabulary)
/// makes of a vocabulary.
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

fn empty(what: impl fmt::Display) -> Error {
    Error::invalid(format!("Corpus: {what}"), "a text with at least one token", "an empty text")
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::{EOS, Unknown};
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
}
