//! Whole files: read into memory, and written all or not at all.

use crate::{Error, Result};
use atomic_write_file::AtomicWriteFile;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// The bytes of a file. Not mapped: a mapped file that is cut while it is read ends the process.
///
/// # Errors
/// Where it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::invalid(path.display(), "a file that can be read", error))
}

/// Whether something other than a file or a folder is there: a pipe, a device.
pub fn is_no_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// Writes a file that others see whole, or as it was before; behind a link it is the file that the link leads to. What is no
/// file, a pipe or a device, stays what it is, and is written into.
///
/// # Errors
/// Where it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error| Error::invalid(path.display(), "a place where a file can be written", error);
    if is_no_file(path) {
        let written = OpenOptions::new().write(true).open(path).and_then(|mut there| there.write_all(bytes));
        return written.map_err(failed);
    }
    let place = if path.is_symlink() { path.canonicalize() } else { Ok(path.to_path_buf()) };
    let written = place.and_then(AtomicWriteFile::open).and_then(|mut file| {
        file.write_all(bytes)?;
        file.commit()
    });
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_what_it_leads_to_keeps_its_rights() {
        use super::write;
        use std::fs;
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (there, link) = (folder.path().join("there"), folder.path().join("link"));
        fs::write(&there, "old").unwrap();
        fs::set_permissions(&there, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("there", &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&there).unwrap(), b"new");
        assert_eq!(fs::metadata(&there).unwrap().permissions().mode() & 0o777, 0o600);
        // One that leads nowhere is an error that names it.
        symlink("nowhere", folder.path().join("lost")).unwrap();
        let error = write(&folder.path().join("lost"), b"new").unwrap_err().to_string();
        assert!(error.contains("lost: expected a place where a file can be written"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_written_into_and_stays_what_it_is() {
        use super::write;
        use std::os::unix::fs::FileTypeExt;
        use std::process::Command;
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        write(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo());
    }
}
