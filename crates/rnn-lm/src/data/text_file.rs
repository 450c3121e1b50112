//! A file of text, or a part of one, read in pieces that end with a line: whatever its size.

use super::mark::{MARK, unmarked};
use crate::{Error, Result, error};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes `from..to` of a file.
///
/// ```
/// use rnn_lm::data::TextFile;
/// let path = std::env::temp_dir().join("ten-lines.txt");
/// std::fs::write(&path, "a line\n".repeat(10)).unwrap();
/// let (train, valid) = TextFile::open(&path)?.split(0.25)?;
/// assert_eq!((train.len(), valid.len()), (8 * 7, 2 * 7));
/// assert_eq!(valid.read()?, b"a line\na line\n");
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    path: PathBuf,
    from: u64,
    to: u64,
}

/// Bytes of a piece, more or less.
const PIECE: usize = 1 << 22;

impl TextFile {
    /// The whole file, but for the byte order mark that some editors put in front.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let about = std::fs::metadata(path).map_err(Error::io(path))?;
        if about.is_dir() {
            return Err(a_folder(path, "name a file in it; `cat` makes one text of several"));
        }
        if !about.is_file() {
            let error = Error::invalid(
                path.display(),
                "a file that can be read more than once",
                "a pipe or a device",
            );
            return Err(error.hint("write it into a file first"));
        }
        let whole = Self { path: path.into(), from: 0, to: about.len() };
        let mut start = Vec::new();
        whole.open_at(0)?.take(MARK.len() as u64).read_to_end(&mut start).map_err(Error::io(path))?;
        let from = (start.len() - unmarked(&start).len()) as u64;
        Ok(Self { from, ..whole })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes.
    pub fn len(&self) -> u64 {
        self.to - self.from
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `len` bytes and what is left of the line that they end in, or all where there is not so much. Where lines are
    /// very long it ends behind a blank.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn first(&self, len: u64) -> Result<Self> {
        if len >= self.len() {
            Ok(self.clone())
        } else {
            Ok(Self { to: self.cut(self.from + len, self.to)?, ..self.clone() })
        }
    }

    /// What comes before the last `share` of it, from 0 to below 1, and that: cut behind the next end of a line, where there is
    /// one that is not the end of all, or else behind a blank.
    ///
    /// # Errors
    /// Where `share` is no such number, or the file cannot be read.
    pub fn split(&self, share: f64) -> Result<(Self, Self)> {
        error::share("TextFile::split: share", share)?;
        let goal = self.from + ((1.0 - share) * self.len() as f64) as u64;
        let at = self.cut(goal.min(self.to), self.to.saturating_sub(1))?;
        Ok((Self { to: at, ..self.clone() }, Self { from: at, ..self.clone() }))
    }

    /// A good place to cut, at `goal` or soon after, and not behind `last`; the end of all where there is none.
    fn cut(&self, goal: u64, last: u64) -> Result<u64> {
        // The byte before: a cut that is good already stays.
        let begin = goal.saturating_sub(1).max(self.from);
        let mut near = Vec::new();
        let part = self.open_at(begin)?.take((self.to - begin).min(PIECE as u64));
        { part }.read_to_end(&mut near).map_err(Error::io(&self.path))?;
        near.truncate(usize::try_from(last.saturating_sub(begin)).unwrap_or(usize::MAX));
        let behind = |byte: fn(u8) -> bool| near.iter().position(|&b| byte(b)).map(|at| at + 1);
        let at = behind(|b| b == b'\n').or_else(|| behind(|b| b.is_ascii_whitespace())).or_else(|| {
            // Not inside a character.
            (1..near.len()).find(|&at| near[at] & 0xC0 != 0x80)
        });
        Ok(at.map_or(self.to, |at| begin + at as u64))
    }

    /// All of it.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_at(self.from)?.take(self.len()).read_to_end(&mut bytes).map_err(Error::io(&self.path))?;
        Ok(bytes)
    }

    /// Piece by piece, each but the last with whole lines, if lines are not too long for that. What is wrong with a piece is
    /// said of the file.
    ///
    /// # Errors
    /// Where the file cannot be read, and what `f` says.
    pub fn pieces(&self, mut f: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut rest = self.clone();
        while !rest.is_empty() {
            let piece = rest.first(PIECE as u64)?;
            let bytes = piece.read()?;
            if (bytes.len() as u64) < piece.len() {
                let got = format!("{} bytes less", piece.len() - bytes.len() as u64);
                return Err(Error::invalid(self.path.display(), "the file that it was a moment ago", got));
            }
            f(&bytes).map_err(|error| piece.of(error))?;
            rest.from = piece.to;
        }
        Ok(())
    }

    /// What is wrong with a byte of it or a token, said of the file.
    pub(crate) fn of(&self, error: Error) -> Error {
        match error {
            Error::BadText { offset } => {
                Error::NotUtf8 { path: self.path.clone(), offset: self.from as usize + offset }
            }
            Error::Core(rnn_core::Error::Invalid { ref op, .. }) if op.starts_with("Tokenizer::") => {
                error.at(self.path.display())
            }
            other => other,
        }
    }

    fn open_at(&self, at: u64) -> Result<File> {
        let mut file = File::open(&self.path).map_err(Error::io(&self.path))?;
        file.seek(SeekFrom::Start(at)).map_err(Error::io(&self.path))?;
        Ok(file)
    }
}

fn a_folder(path: &Path, hint: &str) -> Error {
    Error::invalid(path.display(), "a file of text", "a folder").hint(hint)
}

/// Opens a text to be read once, which may come out of a pipe.
///
/// # Errors
/// What cannot be opened, or is a folder.
pub fn open_text(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    let file = File::open(path).map_err(Error::io(path))?;
    match file.metadata().map_err(Error::io(path))?.is_dir() {
        true => Err(a_folder(path, "name a file in it")),
        false => Ok(file),
    }
}

/// The text of a file, without the byte order mark that some editors put in front.
///
/// # Errors
/// A file that cannot be read, or that is not UTF-8; both name the file, the second the first bad byte.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    open_text(path)?.read_to_end(&mut bytes).map_err(Error::io(path))?;
    let mark = bytes.len() - unmarked(&bytes).len();
    let mut text = String::from_utf8(bytes).map_err(|error| Error::NotUtf8 {
        path: path.to_path_buf(),
        offset: error.utf8_error().valid_up_to(),
    })?;
    text.drain(..mark);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir, bytes: &[u8]) -> TextFile {
        let path = folder.path().join("text");
        std::fs::write(&path, bytes).unwrap();
        TextFile::open(path).unwrap()
    }

    #[test]
    fn pieces_are_the_text() {
        let folder = tempfile::tempdir().unwrap();
        for line in ["abc\n".to_string(), "x".repeat(3 << 20) + "\n", "é".repeat(5 << 20)] {
            let text = line.repeat((9 << 20) / line.len() + 1);
            let (mut all, mut count) = (Vec::new(), 0);
            let file = file(&folder, text.as_bytes());
            file.pieces(|piece| {
                assert!(std::str::from_utf8(piece).is_ok(), "cut inside a character");
                all.extend_from_slice(piece);
                count += 1;
                Ok(())
            })
            .unwrap();
            assert!(all == text.as_bytes() && count > 1);
        }
    }

    #[test]
    fn it_is_cut_behind_lines_or_else_behind_words() {
        let folder = tempfile::tempdir().unwrap();
        for (text, want) in [
            ("ab\ncd\nef\ngh\n", ("ab\ncd\n", "ef\ngh\n")),
            ("one two three four", ("one two three ", "four")),
            ("ééééé", ("ééé", "éé")),
        ] {
            let (a, b) = file(&folder, text.as_bytes()).split(0.5).unwrap();
            assert_eq!((a.read().unwrap(), b.read().unwrap()), (want.0.into(), want.1.into()), "{text:?}");
        }
        let (all, none) = file(&folder, b"ab\ncd\n").split(0.0).unwrap();
        assert_eq!((all.len(), none.len()), (6, 0));
        for share in [1.0, -0.1, f64::NAN] {
            let error = file(&folder, b"ab\ncd\n").split(share).unwrap_err().to_string();
            assert!(error.starts_with("TextFile::split: share: expected at least 0 and below 1"), "{error}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_text_and_a_bad_byte_has_its_place_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder, "\u{feff}ab\n".as_bytes());
        assert_eq!(file.read().unwrap(), b"ab\n");
        let error = file.pieces(|_| Err(Error::BadText { offset: 2 })).unwrap_err();
        assert!(matches!(error, Error::NotUtf8 { offset: 5, .. }), "{error}");
        assert!(TextFile::open(folder.path()).unwrap_err().to_string().contains("got a folder"));
    }

    #[test]
    fn files_lose_their_byte_order_mark_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        std::fs::write(&path, "\u{feff}a b\u{feff}\n").unwrap();
        assert_eq!(read_text(&path).unwrap(), "a b\u{feff}\n");
    }
}
