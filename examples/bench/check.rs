//! The answer before the clock: every tensor against the reference way's.

use crate::Args;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// What f32 may be off, relative to the largest number of the tensor.
const TOLERANCE: f64 = 1e-4;

/// Named tensors: outputs, states, gradients.
pub(crate) type Answer = Vec<(String, Tensor)>;

/// What `check` gives, in a process of its own: the memory it takes is not that of the work which is then measured.
pub(crate) fn apart(args: &Args, check: impl FnOnce() -> Result<f64>) -> Result<f64> {
    if args.check_only {
        writeln!(std::io::stdout(), "{}", json!({ "checked": check()? }))?;
        std::process::exit(0);
    }
    let program = std::env::current_exe().context("the path of this program")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).arg("--check-only").stderr(Stdio::inherit());
    let output = command.output().context("starting the check")?;
    if !output.status.success() {
        bail!("the check of the answer failed: {}", output.status);
    }
    let answer: Value = serde_json::from_slice(&output.stdout).context("the check's answer")?;
    answer["checked"].as_f64().context("the check's answer has no number")
}

/// The largest error of `got` against `want`.
///
/// # Errors
/// Where it is over the tolerance, or a tensor is missing, has another shape or is not finite.
pub(crate) fn compare(got: &Answer, want: &Answer) -> Result<f64> {
    if got.len() != want.len() {
        bail!("check: expected {} tensors, got {}", want.len(), got.len());
    }
    let mut worst = 0f64;
    for ((name, got), (want_name, want)) in got.iter().zip(want) {
        if name != want_name || got.dims() != want.dims() {
            bail!("check: expected {want_name} {:?}, got {name} {:?}", want.dims(), got.dims());
        }
        let (got, want) = (numbers(got)?, numbers(want)?);
        let scale = want.iter().fold(f64::MIN_POSITIVE, |most, x| most.max(x.abs()));
        let off = got.iter().zip(&want).fold(0f64, |most, (a, b)| {
            // A NaN is an error of its own: `max` would drop it.
            let error = (a - b).abs() / scale;
            if error.is_finite() { most.max(error) } else { f64::INFINITY }
        });
        if off > TOLERANCE {
            bail!("check: {name} is off by {off:.2e} of its largest number, allowed are {TOLERANCE:.0e}");
        }
        worst = worst.max(off);
    }
    Ok(worst)
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}
