//! What it costs to steer a window: each plan's time over that of the plain window, pair by pair.
//!
//! ```text
//! cargo run --release --example steer -- --cell lstm --hidden 512 --batch 64 --time 128
//! ```
//!
//! Forward and backward of one layer in f32, without autograd. One line of JSON a plan: the median and the range of the
//! ratios, and the largest error of its outputs and gradients against the manual way, relative to each tensor's largest
//! number. Lengths are those of rows from 1 to T, evenly spread and in no order, so half of the window is padding.

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use clap::Parser;
use rnn_core::rng::Stream;
use rnn_core::{
    Cell, Direction, GruCell, LayerSpec, LstmCell, Parameters, Plan, Recurrent, Regularisers, RnnCell,
    Segments, State, TimeRnn, Way,
};
use serde_json::json;
use std::time::Instant;

/// Times steered windows beside plain ones
#[derive(Debug, Clone, Parser)]
struct Args {
    /// rnn, lstm or gru
    #[arg(long, default_value = "lstm")]
    cell: String,
    /// D
    #[arg(long, default_value_t = 512)]
    input: usize,
    /// H
    #[arg(long, default_value_t = 512)]
    hidden: usize,
    /// N
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// T
    #[arg(long, default_value_t = 128)]
    time: usize,
    /// Pairs of a plain and a steered window
    #[arg(long, default_value_t = 9)]
    pairs: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.pairs > 0, "--pairs: expected at least 1, got 0");
    match args.cell.as_str() {
        "rnn" => all::<RnnCell>(&args),
        "lstm" => all::<LstmCell>(&args),
        "gru" => all::<GruCell>(&args),
        other => bail!("--cell: expected rnn, lstm or gru, got {other:?}"),
    }
}

fn all<C: Cell>(args: &Args) -> Result<()> {
    let &Args { batch, time, .. } = args;
    let layer = |direction: Direction| -> Result<TimeRnn<C>> {
        let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
        let spec = LayerSpec::new(args.input, args.hidden).direction(direction);
        Ok(TimeRnn::new(C::new(spec, parameters.builder())?))
    };
    let plain = layer(Direction::Forward)?;
    // A step that has no common factor with the number of rows visits all of them.
    let lengths: Vec<usize> = (0..batch).map(|n| 1 + (n * 29 % batch) * (time - 1) / batch.max(2)).collect();
    let full = Plan::new().lengths(&lengths);
    let resets: Vec<bool> = (0..batch * time).map(|i| i % 37 == 5).collect();
    let none = Regularisers::default();
    let drawn = Plan::new().draw(1, 2);
    let masked = |regularisers| plain.clone().with_regularisers(regularisers);
    let segments = plain.clone().with_segments(Segments::for_window(time))?;
    let cases = [
        ("plain", plain.clone(), Plan::new()),
        ("reverse", layer(Direction::Reverse)?, Plan::new()),
        ("lengths", plain.clone(), full),
        ("resets", plain.clone(), Plan::new().resets(&resets)),
        ("recurrent dropout", masked(Regularisers { recurrent: 0.25, ..none })?, drawn.clone()),
        ("locked dropout", masked(Regularisers { input: 0.5, output: 0.5, ..none })?, drawn.clone()),
        ("weight drop", masked(Regularisers { weight: 0.5, ..none })?, drawn.clone()),
        ("zoneout", masked(Regularisers { zoneout_h: 0.1, zoneout_c: 0.1, ..none })?, drawn),
        ("segments", segments, Plan::new()),
    ];
    let random = |shape: (usize, usize, usize), purpose: &str| -> Result<Tensor> {
        let mut stream = Stream::new(0, purpose, 0);
        let numbers = (0..shape.0 * shape.1 * shape.2).map(|_| stream.normal() as f32).collect();
        Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    };
    let xs = random((batch, time, args.input), "xs")?;
    let dhs = random((batch, time, args.hidden), "dhs")?;
    let run = |layer: &TimeRnn<C>, plan: &Plan| -> Result<Vec<Tensor>> {
        let (hs, next, tape) = layer.forward_taped_with(&xs, &layer.zero_state(batch)?, plan)?;
        let grads = layer.backward(tape, &dhs, &next.zeros_like()?)?;
        let mut all = vec![hs];
        all.extend(grads.dxs);
        all.extend(grads.params.tensors().into_iter().cloned());
        Ok(all)
    };
    let timed = |layer: &TimeRnn<C>, plan: &Plan| -> Result<f64> {
        let start = Instant::now();
        run(layer, plan)?;
        Ok(start.elapsed().as_secs_f64())
    };
    for (name, layer, plan) in &cases {
        ensure!(layer.way() == Way::Fused, "the fused way is asked for, and {} runs", layer.way());
        let mut checked = 0f64;
        for (got, want) in run(layer, plan)?.iter().zip(run(&layer.clone().with_way(Way::Manual), plan)?) {
            let scale = want.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            let off = (got - &want)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()? / scale;
            checked = if off.is_finite() { checked.max(f64::from(off)) } else { f64::INFINITY };
        }
        ensure!(checked < 1e-4, "{name}: the answer is off by {checked:e}");
        timed(&plain, &Plan::new())?;
        let pair = |_| Ok(timed(layer, plan)? / timed(&plain, &Plan::new())?);
        let mut ratios = (0..args.pairs).map(pair).collect::<Result<Vec<f64>>>()?;
        ratios.sort_by(f64::total_cmp);
        let (ratio, range) = (ratios[ratios.len() / 2], [ratios[0], ratios[ratios.len() - 1]]);
        println!("{}", json!({ "plan": name, "ratio": ratio, "range": range, "checked": checked }));
    }
    Ok(())
}
