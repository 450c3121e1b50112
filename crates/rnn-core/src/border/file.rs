//! Whole files: read into memory, and written all or not at all.

use crate::{Error, Result};
use atomic_write_file::AtomicWriteFile;
use std::io::Write;
use std::path::Path;

/// The bytes of a file. Not mapped: a mapped file that is cut while it is read ends the process.
///
/// # Errors
/// Where it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::invalid(path.display(), "a file that can be read", error))
}

/// Writes a file that others see whole, or as it was before.
///
/// # Errors
/// Where it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = AtomicWriteFile::open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.commit()
    });
    written.map_err(|error| Error::invalid(path.display(), "a place where a file can be written", error))
}
