//! `metrics.jsonl`: what was measured, a line each, in the order of the steps.

use super::there;
use crate::{Error, Result};
use rnn_core::border::file;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What stands in it; nothing where it is not there.
pub(super) fn read(path: &Path) -> Result<Vec<Value>> {
    Ok(if there(path)? { lines(&text(path)?).map(|(_, value)| value).collect() } else { Vec::new() })
}

fn text(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&file::read(path)?).into_owned())
}

/// Its lines, and what each says; one that was cut off says nothing and is left out.
fn lines(text: &str) -> impl Iterator<Item = (&str, Value)> {
    text.lines().filter_map(|line| Some((line, serde_json::from_str(line).ok()?)))
}

/// The file, and where it is.
#[derive(Debug)]
pub(super) struct Metrics {
    path: PathBuf,
    /// Tokens learnt from where the last line was written.
    tokens: u64,
}

impl Metrics {
    /// Goes on after so many tokens: what was written of later ones was of a training that went no further than a checkpoint.
    pub(super) fn open(path: PathBuf, tokens: usize) -> Result<Self> {
        let mut last = 0;
        if there(&path)? {
            let text = text(&path)?;
            let mut kept = String::new();
            for (line, value) in lines(&text) {
                if let Some(learnt) = learnt(&value).filter(|&learnt| learnt <= tokens as u64) {
                    kept = kept + line + "\n";
                    last = learnt;
                }
            }
            if kept != text {
                file::write(&path, kept.as_bytes())?;
            }
        }
        Ok(Self { path, tokens: last })
    }

    /// Whether the last line is of so many tokens.
    pub(super) fn reach(&self, tokens: usize) -> bool {
        self.tokens >= tokens as u64
    }

    /// Adds a line; it is in the file when this comes back.
    pub(super) fn write(&mut self, line: &Value) -> Result<()> {
        let path: &Path = &self.path;
        let file = OpenOptions::new().create(true).append(true).open(path);
        let written = file.and_then(|mut file| {
            file.write_all(format!("{line}\n").as_bytes())?;
            // A checkpoint that comes after it may not be there without it.
            file.sync_data()
        });
        written.map_err(Error::io(path))?;
        self.tokens = learnt(line).unwrap_or(self.tokens);
        Ok(())
    }
}

/// Tokens learnt from, as a line says.
fn learnt(line: &Value) -> Option<u64> {
    line.get("tokens")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_came_after_the_checkpoint_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(path.clone(), 0).unwrap();
        // Of windows that are gathered for a step, several may end at the same one.
        for (step, tokens) in [(0, 10), (0, 20), (1, 30)] {
            metrics.write(&json!({ "step": step, "tokens": tokens })).unwrap();
        }
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"tokens\": 3").unwrap();
        let mut metrics = Metrics::open(path.clone(), 10).unwrap();
        assert!(metrics.reach(10) && !metrics.reach(11));
        metrics.write(&json!({ "step": 0, "tokens": 25 })).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":0,\"tokens\":10}\n{\"step\":0,\"tokens\":25}\n");
    }
}
