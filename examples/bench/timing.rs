//! Clocks, threads and memory.

use crate::{Args, profile};
use anyhow::{Context, Result, bail};
use candle_core::Device;
use std::time::Instant;

const THREADS: &str = "RAYON_NUM_THREADS";

/// Makes rayon, and what asks rayon's variable, use `threads` threads. candle reads the variable when it first works,
/// and a running program cannot set it safely: the program starts itself again with the variable set.
#[cfg(unix)]
pub(crate) fn use_threads(threads: usize) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let wanted = threads.to_string();
    if std::env::var(THREADS).is_ok_and(|have| have == wanted) {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        return Ok(());
    }
    let program = std::env::current_exe().context("the path of this program")?;
    let error =
        std::process::Command::new(program).args(std::env::args_os().skip(1)).env(THREADS, wanted).exec();
    bail!("starting again with {THREADS}={threads}: {error}")
}

/// As above, where a program cannot replace itself: the variable has to be set by whoever starts it.
#[cfg(not(unix))]
pub(crate) fn use_threads(threads: usize) -> Result<()> {
    if !std::env::var(THREADS).is_ok_and(|have| have == threads.to_string()) {
        bail!("set {THREADS}={threads} first: candle reads it when it starts");
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    Ok(())
}

/// What `f` gives and the milliseconds it took, the device's queue drained on both sides.
pub(crate) fn clock<T>(device: &Device, f: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    device.synchronize()?;
    let start = Instant::now();
    let result = f()?;
    device.synchronize()?;
    Ok((result, start.elapsed().as_secs_f64() * 1e3))
}

/// The milliseconds of each counted step, after the others.
pub(crate) fn timed(device: &Device, args: &Args, mut step: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    for _ in 0..args.warmup {
        step()?;
    }
    profile::of(args.profile, args.steps, || {
        (0..args.steps).map(|_| Ok(clock(device, &mut step)?.1)).collect()
    })
}

/// The median; of an even number of values the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The smallest value.
pub(crate) fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The most memory that this process has held, in MiB: `VmHWM`, which Linux keeps; `None` elsewhere.
pub(crate) fn peak_rss_mb() -> Result<Option<f64>> {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return Ok(None) };
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in the status")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().context("VmHWM")?;
    Ok(Some(kib / 1024.0))
}
