//! Ids in a file, for a text that memory has no room for.

use super::IGNORE;
use super::source::beyond;
use crate::{Error, Result};
use atomic_write_file::AtomicWriteFile;
use crc32fast::Hasher;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Ids in a file, for a text that memory has no room for: written once, piece by piece, and read a window at a time.
///
/// The file has, from front to back and with all numbers little-endian:
/// 1. the ids, two bytes each where the vocabulary has at most 65,536 and else four;
/// 2. a JSON object: `of`, the name of what they are of; `ids`, how many; `width`, bytes of an id; `crc32`, the
///    checksum of the ids as four bytes each, whatever the width;
/// 3. the length of that object in bytes, as four bytes.
///
/// ```
/// use rnn_lm::data::{IdFile, Source};
/// let path = std::env::temp_dir().join("example.ids");
/// let mut writer = IdFile::create(&path, "abc", 300)?;
/// writer.write(&[1, 2, 299])?;
/// writer.write(&[7])?;
/// let file = writer.finish()?;
/// let mut two = [0; 2];
/// Source::from(&file).copy(2, &mut two)?;
/// assert_eq!((file.len(), two), (4, [299, 7]));
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct IdFile {
    path: PathBuf,
    file: Mutex<File>,
    about: About,
}

/// What the ids are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    /// Of what: a name of text and tokenizer that changes where they do.
    of: String,
    ids: usize,
    /// Bytes of an id.
    width: usize,
    crc32: u32,
}

/// A file that is being written; without [`Self::finish`] there is none.
#[derive(Debug)]
pub struct IdFileWriter {
    path: PathBuf,
    file: BufWriter<AtomicWriteFile>,
    crc32: Hasher,
    about: About,
}

impl IdFile {
    /// Begins one, of ids below `vocabulary`; `of` names what they are of.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn create(path: impl AsRef<Path>, of: &str, vocabulary: usize) -> Result<IdFileWriter> {
        let path = path.as_ref();
        let width = if vocabulary <= 1 << 16 { 2 } else { 4 };
        let file = BufWriter::new(AtomicWriteFile::open(path).map_err(Error::io(path))?);
        let about = About { of: of.into(), ids: 0, width, crc32: 0 };
        Ok(IdFileWriter { path: path.into(), file, crc32: Hasher::new(), about })
    }

    /// Opens one, if it is of what is named so; reads it through once, for its checksum.
    ///
    /// # Errors
    /// Where it cannot be read, or is no such file, or a damaged one. One of something else is `None`.
    pub fn open(path: impl AsRef<Path>, of: &str) -> Result<Option<Self>> {
        let path = path.as_ref();
        let Some(file) = Self::opened(path, of)? else { return Ok(None) };
        let (mut crc32, mut ids, mut at) = (Hasher::new(), vec![0; 1 << 16], 0);
        while at < file.len() {
            let count = ids.len().min(file.len() - at);
            file.copy(at, &mut ids[..count])?;
            Self::add_up(&mut crc32, &ids[..count]);
            at += count;
        }
        match crc32.finalize() == file.crc32() {
            true => Ok(Some(file)),
            false => Err(wrong(path, "a damaged one")),
        }
    }

    /// The same of one that was written a moment ago.
    fn opened(path: &Path, of: &str) -> Result<Option<Self>> {
        let mut file = File::open(path).map_err(Error::io(path))?;
        let size = file.seek(SeekFrom::End(0)).map_err(Error::io(path))?;
        let mut length = [0; 4];
        let about = size.checked_sub(4).and_then(|at| {
            file.seek(SeekFrom::Start(at)).ok()?;
            file.read_exact(&mut length).ok()?;
            let length = u64::from(u32::from_le_bytes(length)).min(size);
            file.seek(SeekFrom::Start(at.checked_sub(length)?)).ok()?;
            let mut json = vec![0; usize::try_from(length).ok()?];
            file.read_exact(&mut json).ok()?;
            let about: About = serde_json::from_slice(&json).ok()?;
            let ids = about.ids.checked_mul(about.width)? as u64;
            let whole = ids.checked_add(length)?.checked_add(4)? == size;
            (matches!(about.width, 2 | 4) && whole).then_some(about)
        });
        let about = about.ok_or_else(|| wrong(path, "something else, or a part of one"))?;
        Ok((about.of == of).then(|| Self { path: path.into(), file: Mutex::new(file), about }))
    }

    /// L, how many ids.
    pub fn len(&self) -> usize {
        self.about.ids
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.about.ids == 0
    }

    /// A checksum of the ids, however many bytes each of them has here.
    pub fn crc32(&self) -> u32 {
        self.about.crc32
    }

    /// Takes ids into such a checksum.
    pub(crate) fn add_up(crc32: &mut Hasher, ids: &[u32]) {
        ids.iter().for_each(|id| crc32.update(&id.to_le_bytes()));
    }

    /// Those from `at` on.
    pub(super) fn copy(&self, at: usize, into: &mut [u32]) -> Result<()> {
        let end = at.saturating_add(into.len());
        if end > self.len() {
            return Err(beyond(end, self.len()));
        }
        let width = self.about.width;
        let mut bytes = vec![0; into.len() * width];
        {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let from = SeekFrom::Start((at * width) as u64);
            let read = file.seek(from).and_then(|_| file.read_exact(&mut bytes));
            read.map_err(Error::io(&self.path))?;
        }
        for (id, bytes) in into.iter_mut().zip(bytes.chunks_exact(width)) {
            *id = bytes.iter().rev().fold(0, |id, &byte| id << 8 | u32::from(byte));
        }
        Ok(())
    }
}

fn wrong(path: &Path, got: &str) -> Error {
    Error::invalid(path.display(), "a file of ids", got).hint("remove it, and it is made again")
}

impl IdFileWriter {
    /// Adds ids.
    ///
    /// # Errors
    /// Where one needs more bytes than those of the vocabulary that it was begun for, or it cannot be written.
    pub fn write(&mut self, ids: &[u32]) -> Result<()> {
        let width = self.about.width;
        let most = if width == 2 { u32::from(u16::MAX) } else { IGNORE - 1 };
        if let Some(&id) = ids.iter().find(|&&id| id > most) {
            return Err(Error::invalid("IdFileWriter: id", format!("at most {most}"), id));
        }
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes().into_iter().take(width)).collect();
        IdFile::add_up(&mut self.crc32, ids);
        self.about.ids += ids.len();
        self.file.write_all(&bytes).map_err(Error::io(&self.path))
    }

    /// All are written: the file is there, as a whole.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(mut self) -> Result<IdFile> {
        self.about.crc32 = self.crc32.finalize();
        let json = serde_json::to_vec(&self.about)
            .map_err(|error| Error::invalid("IdFileWriter", "numbers that JSON has", error))?;
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes();
        let path = &self.path;
        let written = self.file.write_all(&json).and_then(|()| self.file.write_all(&length));
        written.map_err(Error::io(path))?;
        let file = self.file.into_inner().map_err(|error| Error::io(path)(error.into_error()))?;
        file.commit().map_err(Error::io(path))?;
        let again = IdFile::opened(path, &self.about.of)?;
        again.ok_or_else(|| Error::invalid(path.display(), "the file just written", "another"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Batches, Source, Streams};

    fn file(path: &Path, ids: &[u32], vocabulary: usize) -> IdFile {
        let mut writer = IdFile::create(path, "a text", vocabulary).unwrap();
        ids.chunks(7).for_each(|ids| writer.write(ids).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn windows_of_a_file_are_those_of_memory() {
        let folder = tempfile::tempdir().unwrap();
        for (vocabulary, scale) in [(1 << 16, 500), (1 << 20, 9000)] {
            let ids: Vec<u32> = (0..101).map(|i| i * i % 97 * scale % vocabulary).collect();
            let file = file(&folder.path().join("ids"), &ids, vocabulary as usize);
            let windows = |source: Source<'_>| -> Vec<_> {
                Streams::new(source, 3, 7).unwrap().epoch(0).map(Result::unwrap).collect()
            };
            assert_eq!(windows((&file).into()), windows((&ids).into()));
            assert!(Source::from(&file).copy(100, &mut [0; 2]).is_err());
        }
    }

    #[test]
    fn a_part_of_a_file_and_one_of_another_text_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        let whole = file(&path, &[1, 2, 3, 4, 5], 10);
        assert_eq!(IdFile::open(&path, "a text").unwrap().unwrap().crc32(), whole.crc32());
        assert!(IdFile::open(&path, "another").unwrap().is_none());
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 3, 9, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let error = IdFile::open(&path, "a text").unwrap_err().to_string();
            assert!(error.contains("ids: expected a file of ids"), "{cut}: {error}");
        }
        // What it says of itself has no end.
        let about = br#"{"of":"a text","ids":9223372036854775807,"width":2,"crc32":0}"#;
        let endless = [&[0; 4], about.as_slice(), &(about.len() as u32).to_le_bytes()].concat();
        std::fs::write(&path, endless).unwrap();
        assert!(IdFile::open(&path, "a text").is_err());
        let mut damaged = bytes;
        damaged[0] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let error = IdFile::open(&path, "a text").unwrap_err().to_string();
        assert!(error.contains("got a damaged one (remove it"), "{error}");
    }

    #[test]
    fn what_is_not_finished_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        let mut writer = IdFile::create(&path, "a text", 10).unwrap();
        writer.write(&[1]).unwrap();
        assert!(writer.write(&[70_000]).is_err());
        drop(writer);
        assert!(!path.exists());
    }
}
