//! Where ids come from: a row in memory, or a file that was written once and is read a window at a time.

use super::{IGNORE, IdFile};
use crate::{Error, Result};
use std::borrow::Cow;

/// A row of ids.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// In memory.
    Memory(&'a [u32]),
    /// In a file.
    File(&'a IdFile),
}

impl<'a> Source<'a> {
    /// L, how many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(ids) => ids.len(),
            Self::File(file) => file.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those from `at` on, as many as `into` has room for.
    ///
    /// # Errors
    /// Where there are not so many, or the file cannot be read.
    pub fn copy(&self, at: usize, into: &mut [u32]) -> Result<()> {
        match self {
            Self::Memory(ids) => {
                let end = at.saturating_add(into.len());
                let ids = ids.get(at..end).ok_or_else(|| beyond(end, ids.len()))?;
                into.copy_from_slice(ids);
                Ok(())
            }
            Self::File(file) => file.copy(at, into),
        }
    }

    /// The first ones, `most` at most, where they stand if that is in memory.
    ///
    /// ```
    /// use rnn_lm::data::Source;
    /// let source = Source::from(&[3, 1, 4]);
    /// assert_eq!((source.first(2)?.len(), source.first(9)?.len()), (2, 3));
    /// # rnn_lm::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn first(&self, most: usize) -> Result<Cow<'a, [u32]>> {
        let count = self.len().min(most);
        if let Self::Memory(ids) = *self {
            return Ok(ids[..count].into());
        }
        let mut first = vec![0; count];
        self.copy(0, &mut first)?;
        Ok(first.into())
    }

    /// Refuses ids that mean something else. A file has none: it was looked at when it was written.
    pub(super) fn check(&self, op: &str) -> Result<()> {
        let Self::Memory(ids) = self else { return Ok(()) };
        match ids.iter().position(|&id| id == IGNORE) {
            None => Ok(()),
            Some(at) => Err(Error::invalid(
                format!("{op}: id at index {at}"),
                format!("below {IGNORE}"),
                format!("{IGNORE}, which marks ignored targets"),
            )),
        }
    }
}

pub(super) fn beyond(end: usize, len: usize) -> Error {
    Error::invalid("ids", format!("an index up to {len}"), end)
}

impl<'a> From<&'a [u32]> for Source<'a> {
    fn from(ids: &'a [u32]) -> Self {
        Self::Memory(ids)
    }
}

impl<'a> From<&'a Vec<u32>> for Source<'a> {
    fn from(ids: &'a Vec<u32>) -> Self {
        Self::Memory(ids)
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for Source<'a> {
    fn from(ids: &'a [u32; N]) -> Self {
        Self::Memory(ids)
    }
}

impl<'a> From<&'a IdFile> for Source<'a> {
    fn from(file: &'a IdFile) -> Self {
        Self::File(file)
    }
}
