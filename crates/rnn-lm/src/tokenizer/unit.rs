//! What a token is, and how a tokenizer is made.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use crate::data::Unknown;
use crate::error::{Error, Result};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// What stands between white space, with `<eos>` at each line's end; see
    /// [`Word`](crate::data::Tokens::Word).
    Word,
    /// A Unicode scalar value; see [`Char`](crate::data::Tokens::Char).
    Char,
    /// A byte, whose id is its value. There is nothing to train, and every file has one reading.
    Byte,
    /// A row of bytes that often comes: byte pair encoding as in GPT-2.
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
        let unit = Self::ALL.into_iter().find(|unit| unit.to_string() == name);
        unit.ok_or_else(|| Error::invalid("Unit", "word, char, byte or bpe", format!("{name:?}")))
    }
}

/// How a tokenizer is made from a training text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What a token is.
    pub unit: Unit,
    /// The largest number of tokens. Words and characters have no limit of their own, byte pairs have 8000,
    /// and bytes are always 256.
    pub max: Option<usize>,
    /// Whether words and characters get an `<unk>` for what the training text does not have.
    pub unknown: Unknown,
    /// How many tokens of the text words and characters are taken from; none for all of them.
    pub first: Option<NonZeroUsize>,
    /// Whether the ids of words and characters are in the order of frequency, the most frequent first, as an adaptive softmax
    /// wants them; else in that of their first appearance.
    pub by_frequency: bool,
}

impl Options {
    /// No maximum, `<unk>` added, the whole text, ids by first appearance.
    pub fn new(unit: Unit) -> Self {
        Self { unit, max: None, unknown: Unknown::Add, first: None, by_frequency: false }
    }

    /// `first` as a number that no text has more tokens than.
    pub fn at_most(&self) -> usize {
        self.first.map_or(usize::MAX, NonZeroUsize::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for unit in Unit::ALL {
            assert_eq!(unit.to_string().parse::<Unit>().expect("name"), unit);
        }
        let error = "words".parse::<Unit>().expect_err("name").to_string();
        assert!(error.contains("word, char, byte or bpe, got \"words\""), "{error}");
    }
}
