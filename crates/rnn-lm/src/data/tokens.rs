//! Two ways to cut a text, words and characters, for any script. No lower-casing and no rules for punctuation: what is
//! between two spaces is a word.

use std::fmt;
use std::str::FromStr;

use super::vocabulary::{EOS, Vocabulary};
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_names_go_both_ways() {
        for tokens in [Tokens::Word, Tokens::Char] {
            assert_eq!(tokens.to_string().parse::<Tokens>().expect("name"), tokens);
        }
        let error = "bpe".parse::<Tokens>().expect_err("name").to_string();
        assert!(error.contains("word or char, got \"bpe\""), "{error}");
    }
}
