//! From text to ids: the whole, its first tokens, line by line, piece by piece.

use super::{Kind, Tokenizer};
use crate::data::TextFile;
use crate::error::{Error, Result};

impl Tokenizer {
    /// The ids of a text.
    ///
    /// A text of words always ends with `<eos>`, be there a last line feed or not; in a vocabulary without it, a line's end is
    /// white space like any other.
    ///
    /// # Errors
    /// A text that is not UTF-8 (except for bytes), and an unknown token where there is no `<unk>`.
    pub fn encode(&self, text: &[u8]) -> Result<Vec<u32>> {
        self.encode_behind(0, text)
    }

    /// The ids of a text that is a part of another, behind so many tokens of it: what is wrong is said of the whole.
    fn encode_behind(&self, before: usize, text: &[u8]) -> Result<Vec<u32>> {
        match &*self.kind {
            Kind::Listed(listed) => listed.encode(utf8(text)?, before, usize::MAX),
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
            Kind::Listed(listed) => listed.encode(utf8(text)?, 0, count),
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
    /// the text, but for a BPE: that is given all up to white space at once, and the whole where it is one of others that cuts
    /// texts in another way than GPT-2's. To other tokens a line of more than 4 MiB that has no ASCII blank is cut all the same,
    /// which takes a word apart.
    ///
    /// # Errors
    /// Those of [`Self::encode_file`] and of `each`.
    pub fn encode_pieces(&self, text: &TextFile, mut each: impl FnMut(Vec<u32>) -> Result<()>) -> Result<()> {
        let (mut read, mut count, mut held) = (0, 0, String::new());
        text.pieces(|piece| {
            read += piece.len() as u64;
            let last = read == text.len();
            let ids = match &*self.kind {
                Kind::Bpe(bpe) => {
                    held.push_str(utf8(piece)?);
                    let end = if last { held.len() } else { bpe.cut(&held) };
                    let ids = bpe.encode(&held[..end])?;
                    held.drain(..end);
                    ids
                }
                Kind::Listed(_) | Kind::Byte if last => self.encode_behind(count, piece)?,
                Kind::Listed(_) | Kind::Byte => self.part_behind(count, piece)?,
            };
            count += ids.len();
            each(ids)
        })
    }

    /// The ids of a text that goes on: the same, without the `<eos>` of a last line that has no end yet.
    ///
    /// # Errors
    /// Those of [`Self::encode`].
    pub fn encode_part(&self, text: &[u8]) -> Result<Vec<u32>> {
        self.part_behind(0, text)
    }

    fn part_behind(&self, before: usize, text: &[u8]) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut ids = self.encode_behind(before, text)?;
        let ends = matches!(&*self.kind, Kind::Listed(listed) if listed.ends_texts());
        if ends && !text.ends_with(b"\n") {
            ids.pop();
        }
        Ok(ids)
    }
}

/// Bytes as text.
pub(super) fn utf8(text: &[u8]) -> Result<&str> {
    std::str::from_utf8(text).map_err(|error| Error::BadText { offset: error.valid_up_to() })
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Unit};
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
    fn an_unknown_token_is_named_by_its_place_in_the_whole_text() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("t.txt");
        let text = "a b\n".repeat((5 << 20) / 4) + "z\n";
        std::fs::write(&path, &text).expect("file");
        for unit in [Unit::Word, Unit::Char] {
            let options = Options { unknown: crate::data::Unknown::Error, ..Options::new(unit) };
            let tokenizer = Tokenizer::train(b"a b\n", &options).expect("tokenizer");
            let index = match unit {
                Unit::Word => 3 * ((5 << 20) / 4),
                _ => text.len() - 2,
            };
            let file = TextFile::open(&path).expect("file");
            let error = tokenizer.encode_file(&file).expect_err("z").to_string();
            assert!(error.contains(&format!("token at index {index}: ")), "{error}");
            assert!(!error.contains("::Add") && error.contains("--first"), "{error}");
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
}
