//! What a run learns from and is measured on: from files to ids, in memory or, where they are too many, in a file.

use super::{begun, there};
use crate::config::Config;
use crate::data::{IdFile, Source, TextFile};
use crate::tokenizer::{Tokenizer, Unit};
use crate::{Error, Result};
use std::borrow::Cow;
use std::path::Path;

/// The two texts of a run.
#[derive(Debug, Clone)]
pub struct Texts {
    /// To learn from.
    pub train: TextFile,
    /// To measure on, if there is such a text.
    pub valid: Option<TextFile>,
}

/// Ids of a text.
#[derive(Debug)]
pub enum Ids {
    /// In memory.
    Memory(Vec<u32>),
    /// In a file.
    File(IdFile),
}

/// Bytes of text that a tokenizer is made of, and no more.
const LARGE: u64 = 1 << 28;

impl Texts {
    /// Those that the settings name.
    ///
    /// # Errors
    /// Where one cannot be read or is empty.
    pub fn open(config: &Config) -> Result<Self> {
        let data = &config.data;
        let train = Self::to_learn_from(&data.corpus)?;
        if !data.valid.is_empty() {
            return Ok(Self { train, valid: Some(Self::to_learn_from(&data.valid)?) });
        }
        // Whoever learns a few words by heart is measured on them.
        if data.holdout == 0.0 || data.first > 0 {
            return Ok(Self { train, valid: None });
        }
        let (train, valid) = train.split(data.holdout)?;
        if train.is_empty() || valid.is_empty() {
            let got = format!("{} bytes without a place to cut", train.len() + valid.len());
            return Err(Error::invalid(&data.corpus, "a text to learn from and to measure on", got)
                .hint("take a longer text, or --holdout 0 to measure on nothing"));
        }
        Ok(Self { train, valid: Some(valid) })
    }

    /// A text that has something in it.
    ///
    /// # Errors
    /// Where it cannot be read or is empty.
    pub fn to_learn_from(path: impl AsRef<Path>) -> Result<TextFile> {
        let text = TextFile::open(&path)?;
        match text.is_empty() {
            false => Ok(text),
            true => Err(Error::invalid(path.as_ref().display(), "a text", "an empty file")
                .hint("name one that has something in it")),
        }
    }

    /// The tokenizer that the settings name, or else the one that is made of the text to learn from, of its first 256 MiB
    /// where it is longer.
    ///
    /// # Errors
    /// Where the text is not what the tokens need, or the file is none of such tokens.
    pub fn tokenizer(&self, config: &Config) -> Result<Tokenizer> {
        let options = config.tokens()?;
        let path = &config.data.tokenizer;
        if !path.is_empty() {
            let tokenizer = Tokenizer::open(path)?;
            let (got, want) = (tokenizer.unit(), options.unit);
            return match got == want {
                true => Ok(tokenizer),
                false => Err(Error::invalid(path, format!("a tokenizer of data.tokens = \"{want}\""), got)
                    .hint(format!("--tokens {got}"))),
            };
        }
        let text = self.train.first(LARGE)?;
        let bytes = text.read()?;
        if options.unit == Unit::Word && bytes.trim_ascii().is_empty() {
            return Err(blank(&self.train));
        }
        Tokenizer::train(&bytes, &options).map_err(|error| text.of(error))
    }
}

fn blank(text: &TextFile) -> Error {
    Error::invalid(text.path().display(), "a text with at least one token", "one of white space")
        .hint("--tokens char takes blanks for tokens")
}

/// Of a text that has no token to this tokenizer.
fn no_token(text: &TextFile, tokenizer: &Tokenizer) -> Result<Error> {
    if String::from_utf8_lossy(&text.first(1 << 20)?.read()?).trim().is_empty() {
        return Ok(blank(text));
    }
    let unit = tokenizer.unit();
    let want = "a text of which the tokenizer makes a token";
    let got = format!("one of which its tokenizer of data.tokens = \"{unit}\" makes none");
    Ok(Error::invalid(text.path().display(), want, got)
        .hint("what its pre_tokenizer does removes all of it: take another tokenizer.json"))
}

impl Ids {
    /// A text's ids, the first `first` of them where that is not 0; in the file `cache` where the text is larger than `large`
    /// bytes. One that is there already and of the same text is used again.
    ///
    /// # Errors
    /// Where the text cannot be read, has what the tokenizer cannot encode, or has no token.
    pub fn encode(text: &TextFile, tokenizer: &Tokenizer, first: usize, cache: (&Path, u64)) -> Result<Self> {
        let (cache, large) = cache;
        if text.len() > large && first == 0 {
            let of = name(text, tokenizer)?;
            if there(cache)?
                && let Some(file) = IdFile::open(cache, &of)?
            {
                return Ok(Self::File(file));
            }
            if let Some(folder) = cache.parent() {
                begun::make(folder)?;
            }
            let mut writer = IdFile::create(cache, &of, tokenizer.len())?;
            tokenizer.encode_pieces(text, |ids| writer.write(&ids))?;
            let file = writer.finish()?;
            return if file.is_empty() { Err(no_token(text, tokenizer)?) } else { Ok(Self::File(file)) };
        }
        if first == 0 {
            let ids = tokenizer.encode_file(text)?;
            return if ids.is_empty() { Err(no_token(text, tokenizer)?) } else { Ok(Self::Memory(ids)) };
        }
        // So many bytes have them, or else twice as many.
        let mut size = 16u64.saturating_mul(first as u64);
        let ids = loop {
            let some = text.first(size)?;
            let ids = tokenizer.encode_first(&some.read()?, first).map_err(|error| some.of(error))?;
            if ids.len() == first || some.len() == text.len() {
                break ids;
            }
            size = size.saturating_mul(2);
        };
        if ids.len() < first {
            let most = format!("at most the {} tokens of the text", ids.len());
            return Err(Error::invalid("data.first", most, first));
        }
        Ok(Self::Memory(ids))
    }

    /// Where windows are read from.
    pub fn source(&self) -> Source<'_> {
        match self {
            Self::Memory(ids) => ids.into(),
            Self::File(file) => file.into(),
        }
    }

    /// Those to measure on, in memory: the first 2^21, so that an evaluation takes no longer than it is worth.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn some(&self) -> Result<Cow<'_, [u32]>> {
        const MOST: usize = 1 << 21;
        self.source().first(MOST)
    }

    /// What tells them from others.
    pub fn fingerprint(&self) -> String {
        let crc32 = match self {
            Self::Memory(ids) => {
                let mut crc32 = crc32fast::Hasher::new();
                IdFile::add_up(&mut crc32, ids);
                crc32.finalize()
            }
            Self::File(file) => file.crc32(),
        };
        format!("{} ids, checksum {crc32:08x}", self.source().len())
    }
}

/// What a file of ids is of: the file's name, part, size and time, and the tokenizer.
fn name(text: &TextFile, tokenizer: &Tokenizer) -> Result<String> {
    let path = text.path();
    let about = std::fs::metadata(path).map_err(Error::io(path))?;
    let changed = about.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let changed = changed.map_or(0, |time| time.as_nanos());
    // The whole file of it: what becomes of a text before it is cut counts too.
    let tokenizer = crc32fast::hash(tokenizer.to_json()?.as_bytes());
    Ok(format!("{text:?}, {} bytes, changed at {changed}, tokenizer {tokenizer:08x}", about.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Batches, Streams};
    use crate::tokenizer::Options;

    #[test]
    fn more_first_tokens_than_there_are_are_an_error_however_many() {
        let folder = tempfile::tempdir().unwrap();
        let (path, cache) = (folder.path().join("t.txt"), folder.path().join("cache"));
        std::fs::write(&path, "a b c\n").unwrap();
        let text = TextFile::open(&path).unwrap();
        let tokenizer = Tokenizer::train(b"a b c\n", &Options::new(Unit::Word)).unwrap();
        for first in [5, 1 << 60, usize::MAX] {
            let error = Ids::encode(&text, &tokenizer, first, (&cache, LARGE)).unwrap_err().to_string();
            assert!(error.contains("at most the 4 tokens of the text"), "{error}");
        }
    }

    #[test]
    fn a_tokenizer_that_takes_all_text_away_is_told_from_a_text_of_white_space() {
        let folder = tempfile::tempdir().unwrap();
        let (path, cache) = (folder.path().join("t.txt"), folder.path().join("cache/train.ids"));
        let options = Options { max: Some(256), ..Options::new(Unit::Bpe) };
        let made = Tokenizer::train(b"a b c\n", &options).unwrap().to_json().unwrap();
        let mut file: serde_json::Value = serde_json::from_str(&made).unwrap();
        let all = serde_json::json!({
            "type": "Split", "pattern": {"Regex": "(?s)."}, "behavior": "Removed", "invert": false
        });
        file["pre_tokenizer"] =
            serde_json::json!({"type": "Sequence", "pretokenizers": [all, file["pre_tokenizer"]]});
        let tokenizer = Tokenizer::from_json("t.json", &file.to_string()).unwrap();
        for (text, want) in
            [("a b c\n", "its tokenizer of data.tokens = \"bpe\""), (" \n", "one of white space")]
        {
            std::fs::write(&path, text).unwrap();
            for large in [LARGE, 0] {
                let text = TextFile::open(&path).unwrap();
                let error = Ids::encode(&text, &tokenizer, 0, (&cache, large)).unwrap_err().to_string();
                assert!(error.contains(want), "{error}");
            }
        }
    }

    #[test]
    fn what_memory_has_no_room_for_is_read_from_a_file_with_the_same_windows() {
        let folder = tempfile::tempdir().unwrap();
        let (path, cache) = (folder.path().join("t.txt"), folder.path().join("cache/train.ids"));
        let write = |words: &str| {
            std::fs::write(&path, words.repeat(40)).unwrap();
            TextFile::open(&path).unwrap()
        };
        let text = write("a line of some words\n");
        let tokenizer = Tokenizer::train(&text.read().unwrap(), &Options::new(Unit::Word)).unwrap();
        let ids = |text: &TextFile, large| Ids::encode(text, &tokenizer, 0, (&cache, large)).unwrap();
        let windows = |ids: &Ids| -> Vec<_> {
            Streams::new(ids.source(), 3, 7).unwrap().epoch(0).map(Result::unwrap).collect()
        };
        let (memory, file) = (ids(&text, LARGE), ids(&text, 10));
        assert!(matches!((&memory, &file), (Ids::Memory(_), Ids::File(_))));
        assert_eq!(windows(&memory), windows(&file));
        // The same text is not encoded again, another one is.
        let made = || std::fs::metadata(&cache).unwrap().modified().unwrap();
        let first = made();
        ids(&text, 10);
        assert_eq!(made(), first);
        let other = write("some words of a longer line\n");
        assert_eq!(windows(&ids(&other, 10)), windows(&ids(&other, LARGE)));
        assert_ne!(ids(&other, 10).fingerprint(), file.fingerprint());
    }
}
