//! One piece of work, timed, as one JSON object on one line; its answer is checked before the clock starts.
//!
//! ```text
//! cargo run --release --example bench -- lm       --cell lstm --vocab 10000 --embed 650 --hidden 650 --layers 2
//! cargo run --release --example bench -- layer    --cell gru  --input 512 --hidden 512 --batch 64 --time 128
//! cargo run --release --example bench -- generate --cell lstm --batch 1 --tokens 200 --way candle-nn
//! ```
//!
//! - `lm`: one training step is forward, cross-entropy, backward, clipping of the global norm at 0.25 and SGD, with the
//!   state carried and detached.
//! - `layer`: forward, then backward for a given gradient of the output, the input's gradient included.
//! - `generate`: one token at a time, the most probable one, the state carried.
//!
//! `ms` is the median over `--steps` counted steps after `--warmup`; `peak_rss_mb` is the process's; `checked`, which
//! another process finds out first, is the largest error found against the reference way, relative to the largest number of the same tensor.

mod candle_nn_layers;
mod chain;
mod check;
mod graph;
mod layer;
mod lm;
mod profile;
mod timing;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::{Parser, ValueEnum};
use rnn_core::{GruCell, LstmCell, RnnCell};
use rnn_lm::model::CellKind;
use serde_json::{Map, Value, json};
use std::io::Write;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    Lm,
    Layer,
    Generate,
}

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    /// This project's fused kernels.
    Fused,
    /// This project's hand-written backward in tensor ops.
    Manual,
    /// This project's cell step by step under candle's autograd.
    Reference,
    /// candle-nn's own layers under candle's autograd.
    CandleNn,
}

/// How the work is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Door {
    /// A chain of hand-written forwards and backwards, without autograd.
    Chain,
    /// Ops of candle's graph, differentiated by candle's autograd.
    Graph,
}

#[derive(Debug, Clone, Parser)]
#[command(about = "Times one piece of work after checking its answer, and prints one JSON object")]
struct Args {
    /// What is timed: a training step of a language model, a layer there and back, or generation
    work: Work,
    #[arg(long, value_enum, default_value = "fused")]
    way: Who,
    /// The chain where the way has one, else the graph.
    #[arg(long, value_enum)]
    door: Option<Door>,
    /// rnn, lstm or gru
    #[arg(long, default_value = "lstm")]
    cell: CellKind,
    /// V, of lm and generate
    #[arg(long, default_value_t = 10_000)]
    vocab: usize,
    /// D of lm and generate
    #[arg(long, default_value_t = 100)]
    embed: usize,
    /// D of layer
    #[arg(long, default_value_t = 100)]
    input: usize,
    /// H
    #[arg(long, default_value_t = 100)]
    hidden: usize,
    /// L
    #[arg(long, default_value_t = 1)]
    layers: usize,
    /// One table for the embedding and the output layer, of lm and generate through the chain; D = H
    #[arg(long)]
    tied: bool,
    /// N
    #[arg(long, default_value_t = 20)]
    batch: usize,
    /// T of lm and layer
    #[arg(long, default_value_t = 35)]
    time: usize,
    /// Tokens of generate
    #[arg(long, default_value_t = 200)]
    tokens: usize,
    /// Counted steps.
    #[arg(long, default_value_t = 9)]
    steps: usize,
    /// Steps before the counted ones.
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Threads, candle's own among them
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Say on the standard error where the time of the steps went, and what share of the machine's peak that was
    #[arg(long)]
    profile: bool,
    /// Only check the answer, and print how far off it is
    #[arg(long)]
    check_only: bool,
    /// Between the layers in training; what is timed has none.
    #[arg(long, default_value_t = 0.0)]
    dropout: f64,
    /// There is none yet but f32.
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl Args {
    fn door(&self) -> Door {
        match self.way {
            Who::Fused | Who::Manual => self.door.unwrap_or(Door::Chain),
            Who::Reference | Who::CandleNn => self.door.unwrap_or(Door::Graph),
        }
    }

    fn validate(&self) -> Result<()> {
        let sizes = [
            ("vocab", self.vocab),
            ("embed", self.embed),
            ("input", self.input),
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("batch", self.batch),
            ("time", self.time),
            ("tokens", self.tokens),
            ("steps", self.steps),
            ("threads", self.threads),
        ];
        for (name, size) in sizes {
            if size == 0 {
                bail!("--{name}: expected at least 1, got 0");
            }
        }
        let has_a_model = match self.work {
            Work::Layer => false,
            Work::Lm => self.door() == Door::Chain,
            Work::Generate => self.way == Who::Fused,
        };
        if self.tied && !has_a_model {
            bail!("--tied: only lm through --door chain and generate --way fused have weights to tie");
        }
        if self.dropout != 0.0 {
            bail!("--dropout: expected 0, got {}; what is timed has no dropout", self.dropout);
        }
        if self.dtype != "f32" {
            bail!("--dtype: expected f32, got {}", self.dtype);
        }
        if self.way == Who::CandleNn && self.cell == CellKind::Rnn {
            bail!("--way candle-nn --cell rnn: candle-nn has LSTM and GRU, and no plain RNN");
        }
        if matches!(self.way, Who::Reference | Who::CandleNn) && self.door() == Door::Chain {
            bail!("--door chain: only --way fused and --way manual have a backward of their own");
        }
        Ok(())
    }

    fn device(&self) -> Result<Device> {
        Ok(rnn_core::device(&self.device)?)
    }

    /// The flags under the names that the other programs of this form print.
    fn report(&self) -> Map<String, Value> {
        let name = |value: Option<clap::builder::PossibleValue>| value.map(|v| v.get_name().to_string());
        let mut report = Map::new();
        // Generating has no backward: no door to choose.
        let door = (self.work != Work::Generate).then(|| self.door().to_possible_value()).flatten();
        let entries = [
            ("way", json!(name(self.way.to_possible_value()))),
            ("door", json!(name(door))),
            ("work", json!(name(self.work.to_possible_value()))),
            ("cell", json!(self.cell.to_string())),
            ("vocab", json!(self.vocab)),
            ("embed", json!(self.embed)),
            ("input", json!(self.input)),
            ("hidden", json!(self.hidden)),
            ("layers", json!(self.layers)),
            ("tied", json!(self.tied)),
            ("batch", json!(self.batch)),
            ("time", json!(self.time)),
            ("tokens", json!(self.tokens)),
            ("steps", json!(self.steps)),
            ("warmup", json!(self.warmup)),
            ("threads", json!(self.threads)),
            ("dropout", json!(self.dropout)),
            ("dtype", json!(self.dtype)),
            ("device", json!(self.device)),
        ];
        for (key, value) in entries {
            report.insert(key.into(), value);
        }
        report
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    args.validate()?;
    timing::use_threads(args.threads)?;
    // candle walks its graph by recursion: long windows of plain ops need more stack than a thread usually has. Only
    // pages that are touched count as memory.
    let worker = std::thread::Builder::new().stack_size(1 << 30).spawn(move || work(&args))?;
    let result = worker.join().map_err(|_| anyhow::anyhow!("the benchmark panicked"))??;
    writeln!(std::io::stdout(), "{}", Value::Object(result))?;
    Ok(())
}

fn work(args: &Args) -> Result<Map<String, Value>> {
    let measured = match args.cell {
        CellKind::Rnn => of_cell::<RnnCell>(args),
        CellKind::Lstm => of_cell::<LstmCell>(args),
        CellKind::Gru => of_cell::<GruCell>(args),
    };
    let mut report = args.report();
    report.extend(measured.with_context(|| format!("{:?} in the way {:?}", args.work, args.way))?);
    report.insert("peak_rss_mb".into(), json!(timing::peak_rss_mb()?));
    Ok(report)
}

fn of_cell<C: rnn_core::Cell>(args: &Args) -> Result<Map<String, Value>> {
    match args.work {
        Work::Layer => layer::run::<C>(args),
        Work::Lm => lm::train::<C>(args),
        Work::Generate => lm::generate::<C>(args),
    }
}
