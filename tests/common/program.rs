//! What several tests need: the built examples, as a user starts them.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::path::PathBuf;
use std::process::{Command, Output};

/// The example `name` as it was built with this test.
///
/// # Panics
/// Where it was not built: `cargo test` builds all examples, `cargo test --test NAME` does not.
pub fn example(name: &str) -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop(); // deps/
    path.pop();
    let path = path.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is not there; `cargo build --examples` makes it", path.display());
    Command::new(path)
}

/// A file of the repository, wherever the test runs.
pub fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Standard output and standard error as text.
pub fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}
