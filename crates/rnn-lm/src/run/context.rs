//! What a text goes on from where nobody says a prompt. A model has met a state of zeros only where an epoch begins, so what it
//! writes from there can be noise; behind a few lines of text it is at home.

use super::{CONTEXT, Run};
use crate::Result;
use crate::data::{Source, TextFile};
use crate::tokenizer::Unit;
use rnn_core::border::file;

/// Tokens at most.
const MOST: usize = 256;

impl Run {
    /// Writes the beginning of a text as the run's context: lines that are whole, where one ends early enough.
    pub(super) fn write_context(&self, text: &Source<'_>) -> Result<()> {
        let mut ids = text.first(MOST)?.into_owned();
        if let Some(end) = ids.iter().rposition(|&id| Some(id) == self.tokenizer.line_end()) {
            ids.truncate(end + 1);
        }
        let mut bytes = self.written(&ids)?;
        if self.tokenizer.unit() != Unit::Byte {
            // The last piece may be the beginning of a character.
            let whole = bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
            bytes.truncate(whole);
        }
        Ok(file::write(&self.path(CONTEXT), &bytes)?)
    }

    /// As a text that has these ids again: the name of an unknown character would be read letter by letter.
    fn written(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let unknown = self.tokenizer.unknown().filter(|_| self.tokenizer.unit() == Unit::Char);
        let known = ids.split(|&id| Some(id) == unknown).map(|known| self.tokenizer.decode_bytes(known));
        let known = known.collect::<Result<Vec<_>>>()?;
        Ok(known.join(char::REPLACEMENT_CHARACTER.to_string().as_bytes()))
    }

    /// The ids of `context.txt` behind the end of a line; that end alone where a run has none.
    ///
    /// # Errors
    /// Where the file cannot be read, or its tokens are none of the run's.
    pub fn context(&self) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        if self.has(CONTEXT)? {
            // As a prompt is: a text that goes on, whose last line ends where it says so.
            let text = TextFile::open(self.path(CONTEXT))?;
            ids.extend(self.tokenizer.encode_part(&text.read()?).map_err(|error| text.of(error))?);
        }
        Ok(self.tokenizer.behind_a_line(&ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::tokenizer::{Options, Tokenizer};

    #[test]
    fn bytes_that_are_no_text_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(b"", &Options::new(Unit::Byte)).unwrap();
        let run = Run::new(folder.path().join("r"), Config::default(), tokenizer);
        run.write().unwrap();
        let ids: Vec<u32> = b"caf\xe9 au lait\n".iter().map(|&byte| byte.into()).collect();
        run.write_context(&Source::Memory(&ids)).unwrap();
        assert_eq!(run.context().unwrap()[1..], ids);
    }

    #[test]
    fn unknown_characters_and_lines_that_go_on_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let run = |unit, learnt: &str| {
            let tokenizer = Tokenizer::train(learnt.as_bytes(), &Options::new(unit)).unwrap();
            let run = Run::new(folder.path().join(unit.to_string()), Config::default(), tokenizer);
            run.write().unwrap();
            run
        };
        let chars = run(Unit::Char, "abc\n");
        let ids = chars.tokenizer.encode("a\u{e9}b\u{e9}\u{e9}\n".as_bytes()).unwrap();
        assert_eq!(ids.iter().filter(|&&id| Some(id) == chars.tokenizer.unknown()).count(), 3);
        chars.write_context(&Source::Memory(&ids)).unwrap();
        assert_eq!(chars.context().unwrap()[1..], ids);
        let words = run(Unit::Word, "the sea\n");
        std::fs::write(words.path(CONTEXT), "the").unwrap();
        assert_eq!(words.context().unwrap(), [words.tokenizer.begin(), words.tokenizer.id("the").unwrap()]);
    }

    #[test]
    fn a_character_that_is_cut_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        // Three tokens a character, of which 256 are no multiple.
        let text = "世界".repeat(100);
        let options = Options { max: Some(256), ..Options::new(Unit::Bpe) };
        let tokenizer = Tokenizer::train(text.as_bytes(), &options).unwrap();
        let run = Run::new(folder.path().join("r"), Config::default(), tokenizer);
        run.write().unwrap();
        let ids = run.tokenizer.encode(text.as_bytes()).unwrap();
        run.write_context(&Source::Memory(&ids)).unwrap();
        assert_eq!(run.context().unwrap()[1..], ids[..255]);
    }

    #[test]
    fn it_is_whole_lines_of_the_text_and_can_be_written_by_hand() {
        let folder = tempfile::tempdir().unwrap();
        let text = "you say goodbye\nand i say hello\n".repeat(30);
        for unit in [Unit::Word, Unit::Char, Unit::Byte] {
            let tokenizer = Tokenizer::train(text.as_bytes(), &Options::new(unit)).unwrap();
            let ids = tokenizer.encode(text.as_bytes()).unwrap();
            let run = Run::new(folder.path().join(unit.to_string()), Config::default(), tokenizer);
            run.write().unwrap();
            let begin = run.tokenizer.begin();
            assert_eq!(run.context().unwrap(), [begin]);
            run.write_context(&Source::Memory(&ids)).unwrap();
            let context = run.context().unwrap();
            assert!((MOST - 32..=MOST + 1).contains(&context.len()), "{unit}: {}", context.len());
            assert_eq!((context[0], context.last()), (begin, Some(&begin)), "{unit}");
            assert_eq!(context[1..], ids[..context.len() - 1], "{unit}");
            // What a person wrote there.
            std::fs::write(run.path(CONTEXT), "say hello").unwrap();
            assert!(run.context().unwrap().len() > 2, "{unit}");
        }
    }
}
