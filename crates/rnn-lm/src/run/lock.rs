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
            match held(folder, File::try_lock)? {
                Some(_file) => {
                    files::sweep(folder);
                    return Ok(Self { _file });
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
        // Where there is no file nobody has it, and where that cannot be opened whoever takes it will say so. Shared: two who
        // look at once are not in each other's way.
        match folder.join(LOCK).is_file() && matches!(held(folder, File::try_lock_shared), Ok(None)) {
            true => Err(in_use(folder)),
            false => Ok(()),
        }
    }
}

/// The folder's file with a lock on it, unless another process has one that excludes this.
fn held(
    folder: &Path,
    lock: impl Fn(&File) -> std::result::Result<(), TryLockError>,
) -> Result<Option<File>> {
    let path = folder.join(LOCK);
    let file = File::options().create(true).write(true).truncate(false).open(&path);
    let file = file.map_err(Error::io(&path))?;
    match lock(&file) {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io(&path)(error)),
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
        assert!(Lock::is_free(folder.path()).is_err());
        drop(lock);
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn those_who_only_look_are_not_in_each_others_way() {
        let folder = tempfile::tempdir().unwrap();
        drop(Lock::take(folder.path()).unwrap());
        let looking = held(folder.path(), File::try_lock_shared).unwrap().unwrap();
        Lock::is_free(folder.path()).unwrap();
        // But who takes it waits for them.
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(looking);
        });
        Lock::take(folder.path()).unwrap();
        ends.join().unwrap();
    }
}
