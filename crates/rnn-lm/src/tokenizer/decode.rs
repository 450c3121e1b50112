//! From ids to text, at once or as ids come one by one: a word needs its space, and a character may need more than one id.

use super::{Kind, Tokenizer, Unit};
use crate::error::{Error, Result};

impl Tokenizer {
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
        self.bytes(id).map(readable)
    }

    /// Text as ids come one by one.
    pub fn piece_decoder(&self) -> Pieces {
        Pieces { tokenizer: self.clone(), inside: false, held: Vec::new() }
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

    /// The bytes of a token that has to be one.
    fn bytes_of(&self, id: u32) -> Result<&[u8]> {
        self.bytes(id).ok_or_else(|| self.beyond(id))
    }

    /// The error of an id that no token has.
    fn beyond(&self, id: u32) -> Error {
        Error::invalid("Tokenizer::decode: ids", format!("an id below the tokenizer's {}", self.len()), id)
    }
}

/// Decodes ids one by one; all pieces together are what [`Tokenizer::decode`] gives.
///
/// ```
/// use rnn_lm::tokenizer::{Options, Tokenizer, Unit};
///
/// let tokenizer = Tokenizer::train(b"", &Options::new(Unit::Byte))?;
/// let mut pieces = tokenizer.piece_decoder();
/// assert_eq!(pieces.push(0xc3)?, "");
/// assert_eq!(pieces.push(0xa9)?, "é");
/// assert_eq!(pieces.push(0xc3)?, "");
/// assert_eq!(pieces.finish(), "\u{fffd}");
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Pieces {
    tokenizer: Tokenizer,
    /// Whether the next word needs a space before it.
    inside: bool,
    /// The beginning of a character whose other bytes have not come yet.
    held: Vec<u8>,
}

impl Pieces {
    /// The text that one more id adds.
    ///
    /// # Errors
    /// An id out of range.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let mut text = String::new();
        self.append(id, &mut text)?;
        Ok(text)
    }

    /// What is held back at the end: U+FFFD for a character that never became whole. The next id begins a
    /// text anew.
    pub fn finish(&mut self) -> String {
        self.inside = false;
        let rest = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        rest
    }

    /// The same into a text that is there.
    fn append(&mut self, id: u32, text: &mut String) -> Result<()> {
        match &*self.tokenizer.kind {
            Kind::Listed(listed) => {
                let token = listed.vocabulary().token(id).ok_or_else(|| self.tokenizer.beyond(id))?;
                self.inside = listed.tokens().append(token, self.inside, text);
            }
            Kind::Byte | Kind::Bpe(_) => {
                self.held.extend_from_slice(self.tokenizer.bytes_of(id)?);
                self.release(text);
            }
        }
        Ok(())
    }

    /// Moves all that is decided out of the held bytes, as `String::from_utf8_lossy` decides.
    fn release(&mut self, text: &mut String) {
        let mut done = 0;
        for chunk in self.held.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let bad = chunk.invalid();
            // Bytes that could still become a character wait; they can only be the last ones.
            let open = std::str::from_utf8(bad).is_err_and(|error| error.error_len().is_none());
            if bad.is_empty() || (open && done + bad.len() == self.held.len()) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            done += bad.len();
        }
        self.held.drain(..done);
    }
}

/// Bytes as a person reads them.
pub(super) fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                text.extend(c.escape_debug());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;
    use crate::data::Tokens;
    use proptest::prelude::*;

    fn train(unit: Unit) -> Tokenizer {
        let text = "you say\n\nhello é 🦀 e\u{301} .\n".repeat(3);
        Tokenizer::train(text.as_bytes(), &Options::new(unit)).expect("tokenizer")
    }

    proptest! {
        #[test]
        fn pieces_together_are_the_whole(
            unit in 0..2usize, ids in prop::collection::vec(any::<u32>(), 0..40),
        ) {
            let tokenizer = train([Unit::Word, Unit::Char][unit]);
            let ids: Vec<u32> = ids.into_iter().map(|id| id % tokenizer.len() as u32).collect();
            let mut pieces = tokenizer.piece_decoder();
            let mut text = String::new();
            for &id in &ids {
                text += &pieces.push(id).expect("piece");
            }
            text += &pieces.finish();
            prop_assert_eq!(&text, &tokenizer.decode(&ids).expect("text"));
            let tokens: Vec<_> = ids.iter().filter_map(|&id| tokenizer.bytes(id)).collect();
            let vocabulary = crate::data::Vocabulary::from_tokens(
                (0..tokenizer.len() as u32).filter_map(|id| tokenizer.token(id))).expect("vocabulary");
            if unit == 0 {
                prop_assert_eq!(text, Tokens::Word.decode(&vocabulary, &ids).expect("text"));
            } else {
                prop_assert_eq!(text.as_bytes(), tokens.concat());
            }
        }

        #[test]
        fn bytes_become_text_as_they_do_at_once(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let tokenizer = train(Unit::Byte);
            let ids = tokenizer.encode(&bytes).expect("ids");
            let text = tokenizer.decode(&ids).expect("text");
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn characters_wait_for_their_last_byte() {
        let tokenizer = train(Unit::Byte);
        for text in ["né 🦀!", "e\u{301}"] {
            let mut pieces = tokenizer.piece_decoder();
            let got: Vec<_> = text.bytes().map(|byte| pieces.push(byte.into()).expect("piece")).collect();
            let whole: Vec<_> = got.into_iter().filter(|piece| !piece.is_empty()).collect();
            assert_eq!(whole, text.chars().map(String::from).collect::<Vec<_>>());
            assert_eq!(pieces.finish(), "");
        }
    }

    #[test]
    fn a_text_goes_on_after_its_prompt() {
        let tokenizer = train(Unit::Word);
        let prompt = tokenizer.encode_part(b"you say").expect("ids");
        assert_eq!(prompt.len(), 2);
        let hello = tokenizer.id("hello").expect("a word");
        assert_eq!(tokenizer.pieces_after(&prompt).expect("pieces").push(hello).expect("piece"), " hello");
        assert_eq!(tokenizer.pieces_after(&[]).expect("pieces").push(hello).expect("piece"), "hello");
        assert_eq!(tokenizer.encode_part(b"you say\n").expect("ids").len(), 3);
    }

    #[test]
    fn ids_out_of_range_are_refused() {
        for unit in [Unit::Word, Unit::Char, Unit::Byte] {
            let tokenizer = train(unit);
            let beyond = tokenizer.len() as u32;
            let error = tokenizer.decode(&[0, beyond]).expect_err("range").to_string();
            assert!(error.contains(&format!("below the tokenizer's {beyond}, got {beyond}")), "{error}");
        }
    }

    #[test]
    fn tokens_are_readable() {
        assert_eq!(readable(b" a\n\xc3\xa9\x00\xff"), " a\\n\u{e9}\\0\\xff");
    }
}
