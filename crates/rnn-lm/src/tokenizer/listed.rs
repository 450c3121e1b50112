//! Words and characters: tokens that stand in a list, and `<unk>` for all others.

use std::sync::Arc;

use super::{Options, Unit};
use crate::data::{Tokens, UNK, Vocabulary, VocabularyOptions};
use crate::error::{Error, Result};
use indexmap::IndexMap;

pub(super) struct Listed {
    tokens: Tokens,
    vocabulary: Arc<Vocabulary>,
    /// The vocabulary's `<unk>`; a file may have another name for it.
    unknown: Option<u32>,
}

impl Listed {
    pub(super) fn new(
        op: &str,
        tokens: Tokens,
        vocabulary: Arc<Vocabulary>,
        unknown: Option<u32>,
    ) -> Result<Self> {
        if vocabulary.is_empty() {
            return Err(Error::invalid(op, "a vocabulary with at least one token", "an empty one"));
        }
        Ok(Self { tokens, vocabulary, unknown })
    }

    pub(super) fn train(text: &str, tokens: Tokens, options: &Options) -> Result<Self> {
        if tokens.is_blank(text) {
            return Err(super::empty());
        }
        let how = VocabularyOptions { max: options.max, unknown: options.unknown };
        let first = || tokens.split(text).take(options.at_most());
        let mut vocabulary = Vocabulary::from_text(first(), how)?;
        if options.by_frequency {
            vocabulary = by_frequency(&vocabulary, first())?;
        }
        let unknown = vocabulary.unk();
        Self::new("Tokenizer::train", tokens, Arc::new(vocabulary), unknown)
    }

    pub(super) fn unit(&self) -> Unit {
        match self.tokens {
            Tokens::Word => Unit::Word,
            Tokens::Char => Unit::Char,
        }
    }

    pub(super) fn tokens(&self) -> Tokens {
        self.tokens
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub(super) fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    pub(super) fn line_end(&self) -> Option<u32> {
        self.vocabulary.id(self.tokens.line_end())
    }

    /// Whether lines end in white space like any other: to words without `<eos>` among them.
    pub(super) fn lines_are_one(&self) -> bool {
        self.tokens == Tokens::Word && self.line_end().is_none()
    }

    /// Whether a text has an end of its own, [`EOS`], be there a last line feed or not.
    pub(super) fn ends_texts(&self) -> bool {
        self.tokens == Tokens::Word && !self.lines_are_one()
    }

    /// The tokens of a text.
    fn split<'a>(&self, text: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        if self.lines_are_one() { Box::new(text.split_whitespace()) } else { self.tokens.split(text) }
    }

    /// The ids of the first `count` tokens, of a text that goes on where `before` tokens were read already.
    pub(super) fn encode(&self, text: &str, before: usize, count: usize) -> Result<Vec<u32>> {
        let tokens = (before..).zip(self.split(text).take(count));
        self.vocabulary.encode_or("Tokenizer::encode", self.unknown, tokens).map_err(|error| {
            error.hint(
                "its vocabulary has no <unk>, as one of --first N tokens has none, and a tokenizer.json may have none: take a \
                 text of these tokens alone, or train without --first on one that has them all",
            )
        })
    }
}

/// The same tokens, the most frequent first; of those that are equally frequent, in the order that they had.
fn by_frequency<'a>(vocabulary: &Vocabulary, text: impl Iterator<Item = &'a str>) -> Result<Vocabulary> {
    let mut counts: IndexMap<&str, usize> = vocabulary.tokens().map(|token| (token, 0)).collect();
    for token in text {
        let token = if counts.contains_key(token) { token } else { UNK };
        if let Some(count) = counts.get_mut(token) {
            *count += 1;
        }
    }
    // The sort is stable.
    counts.sort_by(|_, a, _, b| b.cmp(a));
    Vocabulary::from_tokens(counts.into_keys())
}

#[cfg(test)]
mod tests {
    use super::super::Tokenizer;
    use super::*;
    use crate::data::Unknown;
    use std::num::NonZeroUsize;

    fn train(unit: Unit, text: &str, max: Option<usize>) -> Tokenizer {
        let options = Options { max, ..Options::new(unit) };
        Tokenizer::train(text.as_bytes(), &options).expect("tokenizer")
    }

    #[test]
    fn a_text_of_its_own_begins_after_a_line_end() {
        assert_eq!(train(Unit::Word, "a b\nc", None).begin(), 2);
        assert_eq!(train(Unit::Char, "ab\n", None).begin(), 2);
        assert_eq!(train(Unit::Char, "ab", None).begin(), 0);
    }

    #[test]
    fn vocabularies_that_exist_are_taken_as_they_are() {
        let vocabulary = Arc::new(Vocabulary::from_tokens(["b", "<eos>", "a"]).expect("vocabulary"));
        let tokenizer = Tokenizer::of_vocabulary(Unit::Word, vocabulary.clone()).expect("tokenizer");
        assert_eq!(tokenizer.encode(b"a b").expect("ids"), [2, 0, 1]);
        assert_eq!((tokenizer.unknown(), tokenizer.begin()), (None, 1));
        let error = tokenizer.encode(b"a z").expect_err("unknown").to_string();
        assert!(
            error.contains("index 1") && error.contains("got \"z\" (its vocabulary has no <unk>"),
            "{error}"
        );
        assert!(Tokenizer::of_vocabulary(Unit::Byte, vocabulary).is_err());
        let none = Arc::new(Vocabulary::from_tokens(Vec::<String>::new()).expect("vocabulary"));
        assert!(Tokenizer::of_vocabulary(Unit::Char, none).is_err());
    }

    #[test]
    fn the_most_frequent_may_come_first() {
        let options = Options { by_frequency: true, max: Some(4), ..Options::new(Unit::Word) };
        let tokenizer = Tokenizer::train(b"a b b c c c d e\n", &options).expect("tokenizer");
        let tokens: Vec<_> = tokenizer.vocabulary().expect("a list").tokens().collect();
        assert_eq!(tokens, ["<unk>", "c", "b", "<eos>"]);
    }

    #[test]
    fn the_first_tokens_are_learnt_and_read_without_a_look_at_what_comes_behind() {
        let text = b"a b a c d";
        for (unit, want) in [(Unit::Word, [0, 1, 0]), (Unit::Char, [0, 1, 2])] {
            let options =
                Options { first: NonZeroUsize::new(3), unknown: Unknown::Error, ..Options::new(unit) };
            let tokenizer = Tokenizer::train(text, &options).expect("tokenizer");
            assert_eq!(tokenizer.encode_first(text, 3).expect("ids"), want);
            assert!(tokenizer.encode(text).is_err(), "c is no token");
        }
        let bytes = Tokenizer::train(b"", &Options::new(Unit::Byte)).expect("tokenizer");
        assert_eq!(bytes.encode_first(text, 2).expect("ids"), [97, 32]);
    }

    #[test]
    fn texts_without_a_token_are_refused() {
        for (unit, text) in [(Unit::Word, " \n\n"), (Unit::Word, ""), (Unit::Char, "")] {
            for unknown in [Unknown::Add, Unknown::Error] {
                let options = Options { unknown, ..Options::new(unit) };
                assert!(Tokenizer::train(text.as_bytes(), &options).is_err(), "{unit} {text:?}");
            }
        }
    }
}
