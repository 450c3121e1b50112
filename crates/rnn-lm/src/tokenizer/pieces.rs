//! The text of ids as they come: what can be shown of it by now.

use super::{Kind, Tokenizer};
use crate::data::{EOS, Tokens};
use crate::{Error, Result};

/// Puts words apart by spaces, and holds the bytes of a character back until it is whole.
///
/// ```
/// use rnn_lm::tokenizer::{Options, Tokenizer, Unit};
/// let tokenizer = Tokenizer::train("é".as_bytes(), &Options::new(Unit::Byte))?;
/// let mut pieces = tokenizer.pieces();
/// assert_eq!([pieces.push(0xC3)?, pieces.push(0xA9)?], ["", "é"]);
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Pieces {
    tokenizer: Tokenizer,
    /// Whether a word that comes next stands at the beginning of a line.
    at_start: bool,
    /// Bytes that are no text yet.
    held: Vec<u8>,
}

impl Pieces {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer, at_start: true, held: Vec::new() }
    }

    /// Takes an id; gives what it adds to the text.
    ///
    /// # Errors
    /// Where it is not below V.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let outside = || {
            let want = format!("an id below the vocabulary's {}", self.tokenizer.len());
            Error::invalid("Tokenizer::decode", want, id)
        };
        let Kind::Listed(listed) = &self.tokenizer.0 else {
            self.held.extend(self.tokenizer.bytes(id).ok_or_else(outside)?);
            return Ok(self.whole());
        };
        let token = listed.vocabulary.token(id).ok_or_else(outside)?;
        if listed.tokens == Tokens::Char {
            return Ok(token.to_string());
        }
        let text = match (token, self.at_start) {
            (EOS, _) => "\n".to_string(),
            (word, true) => word.to_string(),
            (word, false) => format!(" {word}"),
        };
        self.at_start = token == EOS;
        Ok(text)
    }

    /// What is still held back, as far as it goes.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }

    /// Takes out what is text by now; a byte that can be of none is U+FFFD.
    fn whole(&mut self) -> String {
        let mut text = String::new();
        loop {
            let (valid, bad) = match std::str::from_utf8(&self.held) {
                Ok(all) => (all.len(), None),
                Err(error) => (error.valid_up_to(), error.error_len()),
            };
            text.push_str(&String::from_utf8_lossy(&self.held[..valid]));
            self.held.drain(..valid + bad.unwrap_or(0));
            match bad {
                Some(_) => text.push('\u{fffd}'),
                None => return text,
            }
        }
    }
}
