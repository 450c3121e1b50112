//! A folder in which a run is made: the run is whole there in the end, or nothing is that was not there before.

use super::files::{self, CACHE, CHECKPOINT, CONFIG, LOCK, MODEL, TOKENIZER, UNFINISHED};
use super::lock::Lock;
use super::quoted;
use crate::{Error, Result};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// While a run is made.
#[derive(Debug)]
pub struct Begun {
    traces: Traces,
    lock: Lock,
}

/// What goes when it goes.
#[derive(Debug)]
struct Traces {
    of: Arc<Folder>,
    stay: bool,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// The folder and those around it that were not there before, the innermost first.
    made: Vec<PathBuf>,
    /// What was in the folder before.
    others: HashSet<OsString>,
}

/// What this process is making now. Held where a run's folder begins to be one and where it is one, so that whoever abandons
/// them meets neither halfway.
static MAKING: Mutex<Vec<Arc<Folder>>> = Mutex::new(Vec::new());

/// What lies in the mark, for a person who finds it.
const MARKED: &str = "A run is being made here. If no process is at it, all of this can go.\n";

fn making() -> MutexGuard<'static, Vec<Arc<Folder>>> {
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Begun {
    /// Makes the folder, where it is not there yet, and takes its lock.
    ///
    /// # Errors
    /// Where something is in the way, another process makes a run there, or it cannot be made.
    pub fn new(folder: &Path) -> Result<Self> {
        vacant(folder)?;
        let mut making = making();
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = folder.ancestors().take_while(missing).map(Path::to_path_buf).collect();
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let names = || -> Result<HashSet<OsString>> {
            let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
            Ok(entries.flatten().map(|entry| entry.file_name()).collect())
        };
        let before = names()?;
        // Whoever else begins one here has written nothing yet, or is in the way now.
        let lock = Lock::take(folder)?;
        nothing_in_the_way(folder)?;
        if folder.join(UNFINISHED).exists() {
            files::clear(folder, &[LOCK, CACHE].map(OsString::from).into());
        }
        let others = names()?.intersection(&before).cloned().collect();
        let of = Arc::new(Folder { path: folder.into(), made, others });
        let mark = folder.join(UNFINISHED);
        fs::write(&mark, MARKED).map_err(Error::io(&mark)).inspect_err(|_| of.clear())?;
        making.push(of.clone());
        let traces = Traces { of, stay: false };
        Ok(Self { traces, lock })
    }

    /// The run is whole: it stays.
    ///
    /// # Errors
    /// Where the mark that says it is not cannot be removed.
    pub fn keep(self) -> Result<Lock> {
        let Self { mut traces, lock } = self;
        let mut making = making();
        let whole = whole(&traces.of.path);
        traces.stay = whole.is_ok();
        if traces.stay {
            making.retain(|other| !Arc::ptr_eq(other, &traces.of));
        }
        // Before what goes takes it.
        drop(making);
        whole.map(|()| lock)
    }
}

/// Takes away the mark of a run that is made.
pub(super) fn whole(folder: &Path) -> Result<()> {
    let mark = folder.join(UNFINISHED);
    match fs::remove_file(&mark) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&mark)(error)),
        _ => Ok(()),
    }
}

/// Makes a folder and those around it; once this process has abandoned what it made, it waits for its end instead.
///
/// # Errors
/// Where it cannot be made.
pub(super) fn make(folder: &Path) -> Result<()> {
    let _making = making();
    fs::create_dir_all(folder).map_err(Error::io(folder))
}

/// Removes what this process has written of runs that are not whole, for who ends it at once: other threads may go on writing
/// until then, but none begins a run or comes to the end of one any more.
pub fn abandon() {
    let mut making = making();
    for folder in making.drain(..) {
        files::sweep(&folder.path);
        folder.abandon();
    }
    // Never let go of: what would be whole now has lost files.
    std::mem::forget(making);
}

impl Folder {
    /// What was there already stays what it is, a link or a folder with rights of its own, and so does what was in it, and what
    /// somebody else put there.
    fn clear(&self) {
        self.empty();
        self.unmark();
        for folder in &self.made {
            let _ = fs::remove_dir(folder);
        }
    }

    /// The same while other threads may write there. The mark goes with the folder only, which no file can come into then; where
    /// the folder stays, so does the mark.
    fn abandon(&self) {
        self.empty();
        let [folder, around @ ..] = &self.made[..] else { return };
        self.unmark();
        if fs::remove_dir(folder).is_err() {
            let _ = fs::write(self.path.join(UNFINISHED), MARKED);
        }
        for folder in around {
            let _ = fs::remove_dir(folder);
        }
    }

    /// All but the mark and the lock: whatever ends this halfway, the next one knows that it may clear the rest.
    fn empty(&self) {
        let mut stay = self.others.clone();
        stay.extend([UNFINISHED, LOCK].map(OsString::from));
        files::clear(&self.path, &stay);
    }

    fn unmark(&self) {
        // The mark last: what has a lock and nothing else is in nobody's way.
        for name in [LOCK, UNFINISHED].iter().filter(|name| !self.others.contains(OsStr::new(name))) {
            let _ = fs::remove_file(self.path.join(name));
        }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        making().retain(|other| !Arc::ptr_eq(other, &self.of));
        if !self.stay {
            self.of.clear();
        }
    }
}

/// Whether a run can be made there.
///
/// # Errors
/// Where something is in the way, or another process makes or trains one.
pub fn vacant(folder: &Path) -> Result<()> {
    // Before what lies there: nobody goes on with a run that is being trained.
    Lock::is_free(folder)?;
    nothing_in_the_way(folder)
}

fn nothing_in_the_way(folder: &Path) -> Result<()> {
    if folder.as_os_str().is_empty() {
        return Err(Error::invalid("a run's folder", "a path", "an empty one"));
    }
    if folder.is_file() {
        return Err(Error::invalid(folder.display(), "a folder to make", "a file of that name")
            .hint("give another name"));
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(folder)(error)),
    };
    let there = |name: &str| folder.join(name).exists();
    let may_lie_there = |name: &OsStr| match there(UNFINISHED) {
        true => files::is_ours(name),
        // Of a training that was ended before it began: ids that took long, and the lock.
        false => [LOCK, CACHE].iter().any(|one| name == *one),
    };
    if entries.flatten().all(|entry| may_lie_there(&entry.file_name())) {
        return Ok(());
    }
    let error =
        Error::invalid(folder.display(), "a folder that is not there yet, or is empty", "one with files");
    // Weights without a checkpoint came from elsewhere; where there is neither, a training was ended while it began.
    Err(match there(CONFIG) && there(TOKENIZER) && (there(CHECKPOINT) || !there(MODEL)) {
        true => error.hint(format!(
            "`rnn-lm resume {}` goes on with the training in it, --out takes another folder",
            quoted(folder)
        )),
        false => error.hint("choose another with --out"),
    })
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
        // And what they put into it.
        let begun = Begun::new(&new).unwrap();
        fs::create_dir(new.join("checkpoints")).unwrap();
        for name in ["notes", "checkpoints/notes"] {
            fs::write(new.join(name), "mine").unwrap();
        }
        fs::write(new.join(CONFIG), "").unwrap();
        drop(begun);
        for name in ["notes", "checkpoints/notes"] {
            assert_eq!(fs::read_to_string(new.join(name)).unwrap(), "mine", "{name}");
        }
        assert_eq!(fs::read_dir(&new).unwrap().count(), 2);
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
        Begun::new(&there).unwrap().keep().unwrap();
        assert_eq!(fs::read_dir(&there).unwrap().count(), 1, "its lock");
        vacant(&there).unwrap();
    }

    #[test]
    fn what_was_ended_while_it_was_made_is_in_nobodys_way() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("r");
        let write = |name: &str| fs::write(folder.join(name), "").unwrap();
        // As by a process that is killed: nothing of it is dropped.
        let killed = || {
            let Begun { traces, lock } = Begun::new(&folder).unwrap();
            std::mem::forget(traces);
            write(CONFIG);
            write(".tokenizer.json.AbCdEf");
            drop(lock);
        };
        killed();
        vacant(&folder).unwrap();
        let begun = Begun::new(&folder).unwrap();
        assert!(!folder.join(CONFIG).exists() && !folder.join(".tokenizer.json.AbCdEf").exists());
        assert!(vacant(&folder).unwrap_err().to_string().contains("one that is in use"));
        begun.keep().unwrap();
        vacant(&folder).unwrap();
        // Where somebody else has files beside what was begun, it is theirs.
        killed();
        write("notes");
        assert!(vacant(&folder).unwrap_err().to_string().contains("choose another with --out"));
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
