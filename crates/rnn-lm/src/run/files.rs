//! The files of a run by their names, and what a process that was ended leaves of them.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

/// The settings.
pub const CONFIG: &str = "config.toml";
/// The tokens.
pub const TOKENIZER: &str = "tokenizer.json";
/// The weights.
pub const MODEL: &str = "model.safetensors";
/// What a text goes on from.
pub const CONTEXT: &str = "context.txt";
/// What was measured.
pub const METRICS: &str = "metrics.jsonl";
/// Where the training stands.
pub const CHECKPOINT: &str = "checkpoints/latest.safetensors";

/// Held by the process that trains.
pub(super) const LOCK: &str = "lock";
/// There while a run is made: where no process has the lock, what lies beside it is no run.
pub(super) const UNFINISHED: &str = "unfinished";

/// Where ids of a corpus are that memory has no room for: of the text to learn from, and of that to measure on.
pub(super) const CACHE: &str = "cache";
pub(super) const TRAIN_IDS: &str = "cache/train.ids";
pub(super) const VALID_IDS: &str = "cache/valid.ids";

/// All of them.
const ALL: [&str; 10] =
    [CONFIG, TOKENIZER, MODEL, CONTEXT, METRICS, CHECKPOINT, LOCK, UNFINISHED, TRAIN_IDS, VALID_IDS];

/// Their names, wherever they are.
fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|file| file.rsplit_once('/').map_or(*file, |(_, name)| name))
}

/// The folders inside of a run.
fn folders() -> BTreeSet<&'static str> {
    ALL.iter().filter_map(|file| Some(file.rsplit_once('/')?.0)).collect()
}

/// Whether a run has, or may for a moment have, something of this name.
pub(super) fn is_ours(name: &OsStr) -> bool {
    is_half(name) || names().chain(folders()).any(|ours| name == ours)
}

/// Whether it is a file of ours that was not whole yet: those are written beside their place, under names that the crate
/// `atomic-write-file` ends with six letters or digits. An editor's `.config.toml.swp` is none.
fn is_half(name: &OsStr) -> bool {
    const DRAWN: usize = 6;
    let half = |name: &str| {
        let (of, drawn) = name.strip_prefix('.')?.rsplit_once('.')?;
        let is_drawn = drawn.len() == DRAWN && drawn.bytes().all(|byte| byte.is_ascii_alphanumeric());
        Some(is_drawn && names().any(|name| name == of))
    };
    name.to_str().and_then(half) == Some(true)
}

/// Removes what a process that was killed had not written to its end. Only who has the folder's lock may.
pub(super) fn sweep(folder: &Path) {
    remove(folder, is_half);
    for inside in folders() {
        remove(&folder.join(inside), is_half);
    }
}

/// Removes all of a run but for what is named, and what is not a run's.
pub(super) fn clear(folder: &Path, but: &HashSet<OsString>) {
    for inside in folders().into_iter().filter(|inside| !but.contains(OsStr::new(inside))) {
        let inside = folder.join(inside);
        remove(&inside, is_ours);
        // Where somebody else put something there meanwhile it stays.
        let _ = fs::remove_dir(inside);
    }
    remove(folder, |name| is_ours(name) && !but.contains(name));
}

/// Removes files; what cannot be removed stays.
fn remove(folder: &Path, which: impl Fn(&OsStr) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if which(&entry.file_name()) && entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_whole_is_told_from_what_others_call_so() {
        for (name, ours, half) in [
            ("config.toml", true, false),
            (".config.toml.x7dJ2a", true, true),
            (".train.ids.AbCdEf", true, true),
            ("checkpoints", true, false),
            (".notes.txt.AbCdEf", false, false),
            (".config.toml.swp", false, false),
            (".metrics.jsonl.bak", false, false),
            (".config.toml.x7-J2a", false, false),
            ("config.toml.bak", false, false),
            (".config.toml", false, false),
            (".git", false, false),
        ] {
            assert_eq!((is_ours(name.as_ref()), is_half(name.as_ref())), (ours, half), "{name}");
        }
    }

    #[test]
    fn half_files_have_the_names_that_the_crate_gives_them() {
        let folder = tempfile::tempdir().unwrap();
        let half = atomic_write_file::AtomicWriteFile::open(folder.path().join(CONFIG)).unwrap();
        let names = || fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let name = names().next().unwrap();
        assert!(is_half(&name), "{name:?}");
        fs::write(folder.path().join(MODEL), "whole").unwrap();
        sweep(folder.path());
        assert_eq!(names().collect::<Vec<_>>(), [MODEL]);
        drop(half);
    }
}
