//! `metrics.jsonl`: what was measured, a line each, in the order of the steps.

use crate::{Error, Result};
use rnn_core::border::file;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file, and where it is.
#[derive(Debug)]
pub(super) struct Metrics {
    path: PathBuf,
}

impl Metrics {
    /// Goes on after step `steps`: what was written of later ones was of a training that went no further than a checkpoint.
    pub(super) fn open(path: PathBuf, steps: u64) -> Result<Self> {
        if path.exists() {
            let text = String::from_utf8_lossy(&file::read(&path)?).into_owned();
            let of_step = |line: &&str| {
                let line: Value = serde_json::from_str(line).ok()?;
                line.get("step")?.as_u64()
            };
            let kept: String = text
                .lines()
                .filter(|line| of_step(line).is_some_and(|step| step <= steps))
                .fold(String::new(), |kept, line| kept + line + "\n");
            if kept != text {
                file::write(&path, kept.as_bytes())?;
            }
        }
        Ok(Self { path })
    }

    /// Adds a line; it is in the file when this comes back.
    pub(super) fn write(&self, line: &Value) -> Result<()> {
        let path: &Path = &self.path;
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())).map_err(Error::io(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_came_after_the_checkpoint_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let metrics = Metrics::open(path.clone(), 0).unwrap();
        for step in [10, 20, 30] {
            metrics.write(&json!({ "step": step })).unwrap();
        }
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\": 3").unwrap();
        let metrics = Metrics::open(path.clone(), 20).unwrap();
        metrics.write(&json!({ "step": 25 })).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":10}\n{\"step\":20}\n{\"step\":25}\n");
    }
}
