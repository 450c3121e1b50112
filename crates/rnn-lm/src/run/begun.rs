//! A folder in which a run is made: the run is whole there in the end, or nothing is that was not there before.

use super::lock::{self, Lock};
use super::{CONFIG, quoted};
use crate::{Error, Result};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// While a run is made.
#[derive(Debug)]
pub struct Begun {
    traces: Traces,
    lock: Lock,
}

/// What goes when it goes.
#[derive(Debug)]
struct Traces {
    folder: PathBuf,
    /// The folder and those around it that were not there before, the innermost first.
    made: Vec<PathBuf>,
    /// What was in the folder before.
    others: HashSet<OsString>,
    stay: bool,
}

impl Begun {
    /// Makes the folder, where it is not there yet, and takes its lock.
    ///
    /// # Errors
    /// Where something is in the way, another process makes a run there, or it cannot be made.
    pub fn new(folder: &Path) -> Result<Self> {
        vacant(folder)?;
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = folder.ancestors().take_while(missing).map(Path::to_path_buf).collect();
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let others = fs::read_dir(folder).map_err(Error::io(folder))?;
        let others = others.flatten().map(|entry| entry.file_name()).collect();
        // Whoever else begins one here has written nothing yet, or is in the way now.
        let lock = Lock::take(folder)?;
        vacant(folder)?;
        Ok(Self { traces: Traces { folder: folder.into(), made, others, stay: false }, lock })
    }

    /// The run is whole: it stays.
    pub fn keep(self) -> Lock {
        let Self { mut traces, lock } = self;
        traces.stay = true;
        lock
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        let Self { folder, made, others, stay } = self;
        if *stay {
            return;
        }
        let Some((_, around)) = made.split_first() else {
            // What was there already stays what it is, a link or a folder with rights of its own, and so does what was in it.
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| !others.contains(&entry.file_name())) {
                let path = entry.path();
                let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            }
            return;
        };
        let _ = fs::remove_dir_all(folder);
        for folder in around {
            // Only where nobody else put something there meanwhile.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// What may lie in a folder in which a training was ended before it began: it is no run.
const NO_RUN: [&str; 2] = [lock::NAME, super::CACHE];

/// Whether a run can be made there.
///
/// # Errors
/// Where something is in the way.
pub fn vacant(folder: &Path) -> Result<()> {
    if folder.as_os_str().is_empty() {
        return Err(Error::invalid("a run's folder", "a path", "an empty one"));
    }
    if folder.is_file() {
        return Err(Error::invalid(folder.display(), "a folder to make", "a file of that name"));
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(folder)(error)),
    };
    if entries.flatten().all(|entry| NO_RUN.iter().any(|name| entry.file_name() == *name)) {
        return Ok(());
    }
    let error =
        Error::invalid(folder.display(), "a folder that is not there yet, or is empty", "one with files");
    // Weights without a checkpoint came from elsewhere; where there is neither, a training was ended while it began.
    let there = |name: &str| folder.join(name).exists();
    Err(
        match there(CONFIG) && there(super::TOKENIZER) && (there(super::CHECKPOINT) || !there(super::MODEL)) {
            true => error.hint(format!("`rnn-lm resume {}` goes on with the training in it", quoted(folder))),
            false => error.hint("choose another with --out"),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_leaves_all_as_it_was() {
        let home = tempfile::tempdir().unwrap();
        let new = home.path().join("runs/of/mine");
        let begun = Begun::new(&new).unwrap();
        fs::write(new.join(CONFIG), "").unwrap();
        assert!(Begun::new(&new).is_err(), "another one");
        assert!(new.join(CONFIG).exists(), "what failed took nothing of the first");
        drop(begun);
        assert!(!home.path().join("runs").exists());
        // What others put beside it stays.
        let begun = Begun::new(&new).unwrap();
        fs::write(home.path().join("runs/notes"), "mine").unwrap();
        drop(begun);
        assert!(home.path().join("runs/notes").exists() && !home.path().join("runs/of").exists());
        // A folder that was there, and one behind a link.
        let there = home.path().join("there");
        fs::create_dir(&there).unwrap();
        let folders: &[PathBuf] = &[
            there.clone(),
            #[cfg(unix)]
            {
                let link = home.path().join("link");
                std::os::unix::fs::symlink(&there, &link).unwrap();
                link
            },
        ];
        for folder in folders {
            let begun = Begun::new(folder).unwrap();
            fs::write(folder.join(CONFIG), "").unwrap();
            fs::create_dir(folder.join("checkpoints")).unwrap();
            let before = fs::symlink_metadata(folder).unwrap().file_type();
            drop(begun);
            assert_eq!(fs::symlink_metadata(folder).unwrap().file_type(), before);
            assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
        }
        // What may lie there stays too: ids that took hours, and what somebody else calls so.
        fs::create_dir(there.join("cache")).unwrap();
        fs::write(there.join("cache/train.ids"), "mine").unwrap();
        fs::write(there.join("lock"), "mine").unwrap();
        let begun = Begun::new(&there).unwrap();
        fs::write(there.join(CONFIG), "").unwrap();
        drop(begun);
        for name in ["cache/train.ids", "lock"] {
            assert_eq!(fs::read_to_string(there.join(name)).unwrap(), "mine", "{name}");
        }
        assert!(!there.join(CONFIG).exists());
        fs::remove_dir_all(there.join("cache")).unwrap();
        Begun::new(&there).unwrap().keep();
        assert_eq!(fs::read_dir(&there).unwrap().count(), 1, "its lock");
        vacant(&there).unwrap();
    }

    #[test]
    fn what_is_in_the_way_is_named_with_the_way_out() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a run");
        fs::create_dir_all(folder.join("checkpoints")).unwrap();
        fs::write(folder.join(CONFIG), "").unwrap();
        assert!(vacant(Path::new("")).unwrap_err().to_string().contains("got an empty one"));
        let error = vacant(&folder).unwrap_err().to_string();
        assert!(error.ends_with("got one with files (choose another with --out)"), "{error}");
        fs::write(folder.join(super::super::TOKENIZER), "").unwrap();
        let goes_on = |folder: &Path| vacant(folder).unwrap_err().to_string().contains("goes on with");
        assert!(goes_on(&folder), "it was ended while it began");
        fs::write(folder.join(super::super::MODEL), "").unwrap();
        assert!(!goes_on(&folder), "weights from elsewhere");
        fs::write(folder.join(super::super::CHECKPOINT), "").unwrap();
        let error = vacant(&folder).unwrap_err().to_string();
        assert!(error.contains("a run'` goes on with the training in it"), "{error}");
    }
}
