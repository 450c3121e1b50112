//! `--profile`: where the time of the counted steps went.

use anyhow::Result;
use rnn_core::kernels::profile::{Part, parts, peak};
use std::io::Write;

/// Does `work` of `steps` steps, and says on the standard error what its parts took if that is `wanted`.
pub(crate) fn of<R>(wanted: bool, steps: usize, work: impl FnOnce() -> Result<R>) -> Result<R> {
    if !wanted {
        return work();
    }
    let before = peak();
    let start = std::time::Instant::now();
    let (result, parts) = parts(work);
    let whole = start.elapsed().as_secs_f64();
    let peak = before.max(peak());
    table(&parts, steps, whole, peak)?;
    result
}

/// Two floating-point operations are a multiplication and its addition.
fn table(parts: &[Part], steps: usize, whole: f64, peak: f64) -> Result<()> {
    let mut out = std::io::stderr().lock();
    let line = |name: &str, seconds: f64, multiplications: usize| {
        let rate = multiplications as f64 / seconds;
        let speed = if multiplications == 0 {
            String::new()
        } else {
            format!("{:>8.0} {:>6.0} %", 2e-9 * rate, 100.0 * rate / peak)
        };
        let (ms, share) = (1e3 * seconds / steps as f64, 100.0 * seconds / whole);
        format!("{name:<26} {ms:>9.2} {share:>6.1} % {speed}")
    };
    writeln!(out, "{:<26} {:>9} {:>8} {:>8} {:>8}", "part", "ms/step", "time", "GFLOP/s", "of peak")?;
    for part in parts {
        writeln!(out, "{}", line(part.name, part.time.as_secs_f64(), part.multiplications))?;
    }
    let named: f64 = parts.iter().map(|part| part.time.as_secs_f64()).sum();
    writeln!(out, "{}", line("rest", whole - named, 0))?;
    writeln!(out, "{}", line("all", whole, parts.iter().map(|part| part.multiplications).sum()))?;
    writeln!(out, "peak, nothing read or written: {:.0} GFLOP/s", 2e-9 * peak)?;
    Ok(())
}
