//! One training at a time in a folder.

use super::files::{self, LOCK};
use crate::{Error, Result};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

/// Held while it is there; the operating system takes it from a process that ends, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder's lock, and removes what a process that had it and was killed had half written.
    ///
    /// # Errors
    /// Where another process has it, or the folder cannot be written.
    pub fn take(folder: &Path) -> Result<Self> {
        /// Who only looks whether it is free has it for a moment.
        const MOMENT: Duration = Duration::from_millis(100);
        let begun = Instant::now();
        loop {
            match Self::of(folder)? {
                Some(lock) => {
                    files::sweep(folder);
                    return Ok(lock);
                }
                None if begun.elapsed() > MOMENT => return Err(in_use(folder)),
                None => std::thread::sleep(MOMENT / 10),
            }
        }
    }

    /// Whether nobody has it.
    ///
    /// # Errors
    /// Where another process has.
    pub(super) fn is_free(folder: &Path) -> Result<()> {
        // Where there is no file nobody has it, and where that cannot be opened whoever takes it will say so.
        match folder.join(LOCK).is_file() && matches!(Self::of(folder), Ok(None)) {
            true => Err(in_use(folder)),
            false => Ok(()),
        }
    }

    /// The lock, unless another process has it.
    fn of(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(LOCK);
        let file = File::options().create(true).write(true).truncate(false).open(&path);
        let file = file.map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io(&path)(error)),
        }
    }
}

fn in_use(folder: &Path) -> Error {
    Error::invalid(folder.display(), "a run that no other process trains", "one that is in use")
        .hint("wait for that process, or stop it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_holders_until_that_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains("one that is in use"), "{error}");
        drop(lock);
        Lock::take(folder.path()).unwrap();
    }
}
