//! Holds files in which PyTorch wrote down what it computes against every way that can run them.
//!
//! ```text
//! cargo run --release --example check_pytorch -- tests/fixtures/*.safetensors
//! ```
//!
//! One line of JSON for each file and way: the largest error over outputs, last state and every gradient, relative to
//! the largest magnitude of each tensor (absolute where that is zero), and the tensor it was found in.

mod fixture;

use anyhow::Result;
use clap::Parser;
use fixture::Fixture;
use rnn_core::Way;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Holds files of PyTorch's outputs and gradients against every way that can run them.
///
/// Exit code 1 where an error is above 1e-10 (f64) or 1e-4 (f32), or a file cannot be read or asks for what is not
/// supported; the others are checked all the same. tests/fixtures/make_fixtures.py writes such files.
#[derive(Parser, Debug)]
#[command(name = "check_pytorch", version)]
struct Args {
    /// Files to check
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let device = rnn_core::device(&args.device)?;
    // candle walks its graph by recursion, and the reference way's is deep. Only pages that are touched count as memory.
    let worker = std::thread::Builder::new().stack_size(1 << 30).spawn(move || {
        let mut good = true;
        for file in &args.files {
            good &= hold(file, &device).unwrap_or_else(|error| {
                let _ = writeln!(std::io::stderr(), "{}: {error:#}", file.display());
                false
            });
        }
        good
    })?;
    let good = worker.join().map_err(|_| anyhow::anyhow!("the check panicked"))?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether all ways are within the tolerance.
fn hold(file: &Path, device: &candle_core::Device) -> Result<bool> {
    let fixture = Fixture::read(file, device)?;
    let mut good = true;
    for way in [Way::Reference, Way::Manual, Way::Fused] {
        if let Some(reason) = fixture.cannot(way) {
            let _ = writeln!(std::io::stderr(), "{}: not in the {way} way: {reason}", file.display());
            continue;
        }
        let found = fixture.hold(way)?;
        let line = json!({
            "file": file.display().to_string(), "way": way.to_string(),
            "max_rel_err": found.max_rel_err, "worst": found.worst,
        });
        writeln!(std::io::stdout(), "{line}")?;
        good &= found.max_rel_err <= fixture.tolerance();
    }
    Ok(good)
}
