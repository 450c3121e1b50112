//! A long sequence in little memory: forward and backward over T steps, whole or segment by segment.
//!
//! ```text
//! cargo run --release --example long -- --time 20000
//! ```
//!
//! Each is run in a process of its own, and its peak memory is told beside what inputs, outputs and their gradients take.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use clap::Parser;
use rnn_core::{Cell, Layer, LayerSpec, LstmCell, Parameters, Recurrent, Segments, State, TimeRnn};
use std::io::Write;
use std::process::Command;

/// Shows the memory that a long sequence takes, whole and segment by segment
#[derive(Debug, Clone, Parser)]
struct Args {
    /// T
    #[arg(long, default_value_t = 20_000)]
    time: usize,
    /// D and H
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// N
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Steps of a segment; about the square root of T where it is not said
    #[arg(long)]
    segment: Option<usize>,
    /// For the process that is measured: nothing, whole or segments
    #[arg(long, hide = true)]
    only: Option<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(only) = &args.only {
        return one(&args, only);
    }
    let numbers = 4 * args.batch * args.time * args.size; // xs, hs, dhs and dxs
    let borders = numbers as f64 * 4.0 / (1 << 20) as f64;
    let mut out = std::io::stdout();
    writeln!(out, "inputs, outputs and their gradients: {borders:.1} MiB")?;
    let nothing = measured("nothing")?;
    for only in ["whole", "segments"] {
        let (memory, seconds, sum) = measured(only)?;
        let memory = memory - nothing.0 - borders;
        writeln!(out, "{only:>8}: {memory:8.1} MiB beside them, {seconds:.2} s, sum of dxs {sum:+.9e}")?;
    }
    Ok(())
}

/// Peak memory in MiB, seconds, and a number that both ways must agree on.
fn measured(only: &str) -> Result<(f64, f64, f64)> {
    let program = std::env::current_exe()?;
    let output = Command::new(program).args(std::env::args_os().skip(1)).args(["--only", only]).output()?;
    ensure!(output.status.success(), "{only}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().context("a number is missing")?.context("a number");
    Ok((next()?, next()?, next()?))
}

fn one(args: &Args, only: &str) -> Result<()> {
    let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
    let lstm = LstmCell::new(LayerSpec::new(args.size, args.size), parameters.builder())?;
    let lstm = match (only, args.segment) {
        ("segments", Some(steps)) => TimeRnn::new(lstm).with_segments(Segments::recomputed(steps))?,
        ("segments", None) => TimeRnn::new(lstm).with_segments(Segments::for_window(args.time))?,
        _ => TimeRnn::new(lstm),
    };
    let (mut seconds, mut sum) = (0.0, 0.0);
    if only != "nothing" {
        let count = args.batch * args.time * args.size;
        let numbers: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
        let xs = Tensor::from_vec(numbers, (args.batch, args.time, args.size), &Device::Cpu)?;
        let start = std::time::Instant::now();
        let (hs, next, tape) = lstm.forward_taped(&xs, &lstm.zero_state(args.batch)?)?;
        let dhs = hs.ones_like()?;
        let grads = lstm.backward(tape, &dhs, &next.zeros_like()?)?;
        seconds = start.elapsed().as_secs_f64();
        sum = f64::from(grads.dxs.sum_all()?.to_scalar::<f32>()?);
    }
    Ok(writeln!(std::io::stdout(), "{} {seconds} {sum}", peak_mib()?)?)
}

/// The most memory that this process has held: `VmHWM`, which Linux keeps.
fn peak_mib() -> Result<f64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("Linux says how much memory is held")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}
