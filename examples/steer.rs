//! What it costs to steer a window: each plan's time over that of the plain window, pair by pair.
//!
//! ```text
//! cargo run --release --example steer -- --cell lstm --hidden 512 --batch 64 --time 128
//! cargo run --release --example steer -- --cell layer-norm-lstm --beside lstm
//! ```
//!
//! Forward and backward of one layer in f32, without autograd. One line of JSON a plan: the median and the range of the
//! ratios, and the largest error of outputs and gradients, relative to each tensor's largest number, against the manual way
//! in f64. The error is that of at most 16 steps: normalised cells make so much of rounding that over 64 steps either way is
//! off by 1e-4 in f32. Lengths are those of rows from 1 to T, evenly spread and in no order, so half of the window is padding.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};
use clap::{Parser, ValueEnum};
use rnn_core::rng::Stream;
use rnn_core::{
    Cell, Direction, GruCell, Layer, LayerNormLstmCell, LayerSpec, LstmCell, Normed, Parameters,
    PeepholeLstmCell, Plan, Recurrent, Regularisers, ResetBeforeGruCell, RnnCell, Segments, State, TimeRnn,
    Way,
};
use serde_json::json;
use std::io::Write;
use std::time::Instant;

/// Times steered windows beside plain ones
#[derive(Debug, Clone, Parser)]
struct Args {
    #[arg(long, default_value = "lstm")]
    cell: Kind,
    /// The cell whose plain window the others are held against [default: the same]
    #[arg(long)]
    beside: Option<Kind>,
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

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Rnn,
    Lstm,
    Gru,
    PeepholeLstm,
    LayerNormLstm,
    LayerNormGru,
    ResetBeforeGru,
}

/// A window, there and back: outputs, then gradients.
type Work<'a> = Box<dyn Fn() -> Result<Vec<Tensor>> + 'a>;

/// A name, what is timed, and the same in the manual way and in f64.
type Case<'a> = (&'static str, Work<'a>, Work<'a>);

/// An input `[N, T, D]` and a gradient of the output `[N, T, H]`, in f32.
struct Window {
    xs: Tensor,
    dhs: Tensor,
}

fn main() -> Result<()> {
    let args = Args::parse();
    for (flag, size) in [("pairs", args.pairs), ("batch", args.batch), ("time", args.time)] {
        ensure!(size > 0, "--{flag}: expected at least 1, got 0");
    }
    let (window, few) = (Window::new(&args)?, Args { time: args.time.min(16), ..args.clone() });
    let short = Window::new(&few)?;
    let cases = cases_of(args.cell, &args, &window)?;
    let beside = cases_of(args.beside.unwrap_or(args.cell), &args, &window)?;
    let (_, plain, _) = &beside[0];
    for ((name, work, _), (_, answer, exact)) in cases.iter().zip(cases_of(args.cell, &few, &short)?) {
        let checked = off(&answer()?, &exact()?)?;
        ensure!(checked < 1e-4, "{name}: the answer is off by {checked:e}");
        timed(plain)?;
        let pair = |_| Ok(timed(work)? / timed(plain)?);
        let mut ratios = (0..args.pairs).map(pair).collect::<Result<Vec<f64>>>()?;
        ratios.sort_by(f64::total_cmp);
        let (ratio, range) = (ratios[ratios.len() / 2], [ratios[0], ratios[ratios.len() - 1]]);
        writeln!(
            std::io::stdout(),
            "{}",
            json!({ "plan": name, "ratio": ratio, "range": range, "checked": checked })
        )?;
    }
    Ok(())
}

fn cases_of<'a>(kind: Kind, args: &Args, window: &'a Window) -> Result<Vec<Case<'a>>> {
    match kind {
        Kind::Rnn => cases::<RnnCell>(args, window),
        Kind::Lstm => cases::<LstmCell>(args, window),
        Kind::Gru => cases::<GruCell>(args, window),
        Kind::PeepholeLstm => cases::<PeepholeLstmCell>(args, window),
        Kind::LayerNormLstm => cases::<LayerNormLstmCell>(args, window),
        Kind::LayerNormGru => cases::<Normed<GruCell>>(args, window),
        Kind::ResetBeforeGru => cases::<ResetBeforeGruCell>(args, window),
    }
}

/// The plain window first.
fn cases<'a, C: Cell>(args: &Args, window: &'a Window) -> Result<Vec<Case<'a>>> {
    let ensured = |layer: &TimeRnn<C>| -> Result<()> {
        ensure!(layer.way() == Way::Fused, "the fused way is asked for, and {} runs", layer.way());
        Ok(())
    };
    let (timed, exact) = (layers::<C>(args, DType::F32)?, layers::<C>(args, DType::F64)?);
    ensured(&timed[0].1)?;
    let work = |layer: TimeRnn<C>, plan: Plan| -> Work<'a> { Box::new(move || window.run(&layer, &plan)) };
    let case = |((name, layer, plan), (_, exact, _)): (Steered<C>, Steered<C>)| {
        (name, work(layer, plan.clone()), work(exact.with_way(Way::Manual), plan))
    };
    Ok(timed.into_iter().zip(exact).map(case).collect())
}

type Steered<C> = (&'static str, TimeRnn<C>, Plan);

fn layers<C: Cell>(args: &Args, dtype: DType) -> Result<Vec<Steered<C>>> {
    let &Args { batch, time, .. } = args;
    let layer = |direction: Direction| -> Result<TimeRnn<C>> {
        let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
        let spec = LayerSpec::new(args.input, args.hidden).direction(direction);
        let cell = C::new(spec, parameters.builder())?;
        let params = cell.params().try_map(|tensor| Ok(tensor.to_dtype(dtype)?))?;
        Ok(TimeRnn::new(cell.with_params(params.detach())))
    };
    let plain = layer(Direction::Forward)?;
    // A step that has no common factor with the number of rows visits all of them.
    let lengths: Vec<usize> =
        (0..batch).map(|n| 1 + (n * 29 % batch) * (time - 1) / (batch - 1).max(1)).collect();
    let full = Plan::new().lengths(&lengths);
    let resets: Vec<bool> = (0..batch * time).map(|i| i % 37 == 5).collect();
    let none = Regularisers::default();
    let has_c = plain.zero_state(1)?.parts().len() > 1;
    let zoneout_c = if has_c { 0.1 } else { 0.0 };
    let drawn = Plan::new().draw(1, 2);
    let masked = |regularisers| plain.clone().with_regularisers(regularisers);
    let segments = plain.clone().with_segments(Segments::for_window(time))?;
    Ok(vec![
        ("plain", plain.clone(), Plan::new()),
        ("reverse", layer(Direction::Reverse)?, Plan::new()),
        ("lengths", plain.clone(), full),
        ("resets", plain.clone(), Plan::new().resets(&resets)),
        ("recurrent dropout", masked(Regularisers { recurrent: 0.25, ..none })?, drawn.clone()),
        ("locked dropout", masked(Regularisers { input: 0.5, output: 0.5, ..none })?, drawn.clone()),
        ("weight drop", masked(Regularisers { weight: 0.5, ..none })?, drawn.clone()),
        ("zoneout", masked(Regularisers { zoneout_h: 0.1, zoneout_c, ..none })?, drawn),
        ("segments", segments, Plan::new()),
        ("in the manual way", plain.with_way(Way::Manual), Plan::new()),
    ])
}

impl Window {
    fn new(args: &Args) -> Result<Self> {
        let random = |size: usize, purpose: &str| -> Result<Tensor> {
            let (mut stream, count) = (Stream::new(0, purpose, 0), args.batch * args.time * size);
            let numbers = (0..count).map(|_| stream.normal() as f32).collect();
            Ok(Tensor::from_vec(numbers, (args.batch, args.time, size), &Device::Cpu)?)
        };
        Ok(Self { xs: random(args.input, "xs")?, dhs: random(args.hidden, "dhs")? })
    }

    fn run<C: Cell>(&self, layer: &TimeRnn<C>, plan: &Plan) -> Result<Vec<Tensor>> {
        let dtype = layer.cell().params().weight_ih.dtype();
        let (xs, dhs) = (self.xs.to_dtype(dtype)?, self.dhs.to_dtype(dtype)?);
        let state = layer.zero_state(xs.dim(0)?)?;
        let (hs, next, tape) = layer.forward_taped_with(&xs, &state, plan)?;
        let grads = layer.backward(tape, &dhs, &next.zeros_like()?)?;
        let mut all = vec![hs];
        all.push(grads.dxs);
        all.extend(grads.params[0].tensors().into_iter().cloned());
        Ok(all)
    }
}

/// The largest difference, relative to each tensor's largest number.
fn off(got: &[Tensor], want: &[Tensor]) -> Result<f64> {
    let mut worst = 0f64;
    for (got, want) in got.iter().zip(want) {
        let numbers = |of: Tensor| of.abs()?.flatten_all()?.to_vec1::<f64>();
        let largest = numbers(want.clone())?.into_iter().fold(f64::MIN_POSITIVE, f64::max);
        for off in numbers((got.to_dtype(DType::F64)? - want)?)? {
            let off = off / largest;
            worst = if off.is_finite() { worst.max(off) } else { f64::INFINITY };
        }
    }
    Ok(worst)
}

fn timed(work: &Work<'_>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}
