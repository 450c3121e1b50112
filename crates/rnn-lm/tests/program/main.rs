//! The program as a user has it: a run trained, stopped, gone on with, measured and used.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test expects")]

mod elsewhere;
mod help;
mod interrupted;
mod lines;
mod measuring;
mod minutes;
mod pictures;
mod rates;
mod streams;
mod suggested;
mod terminal;
mod training;
mod using;
mod verdicts;
mod writing;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rnn-lm"));
        command.current_dir(self.0.path()).args(line.split_whitespace());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Standard output of a command that works.
    fn out(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.out(&format!("{line} --json"))).unwrap()
    }
}

/// Sentences that have something to be learnt, the same ones everywhere.
fn text(lines: usize) -> String {
    let (who, does, what) = (
        ["the cat", "a dog", "the old man"],
        ["sees", "eats", "likes", "wants"],
        ["fish", "the sea", "a bone"],
    );
    let line = |i: usize| {
        let pick = |words: &[&'static str], by: usize| words[(i * by + i / 5) % words.len()];
        format!("{} {} {}\n", pick(&who, 7), pick(&does, 11), pick(&what, 13))
    };
    (0..lines).map(line).collect()
}

const SMALL: &str = "--tokens word --embed 8 --hidden 12 --layers 2 --dropout 0.2 --rule adam --lr 0.01 --clip-norm 1 \
    --batch 4 --time 6";

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
