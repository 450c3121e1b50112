//! Writes a stack of recurrent layers, its parameters drawn from a seed, as an ONNX model.
//!
//! `cargo run --release --example export_onnx -- --cell gru --layers 2 --bidirectional gru.onnx`

use anyhow::Result;
use candle_core::DType;
use clap::Parser;
use rnn_core::border::{Kind, Network, NetworkSpec};
use std::io::Write;
use std::path::PathBuf;

/// Writes a stack of recurrent layers, its parameters drawn from a seed, as an ONNX model.
///
/// Inputs: x [N, T, D], h0 [L*dirs, N, H] and of an LSTM c0; outputs: out [N, T, dirs*H], h_n and c_n. N and T are any.
#[derive(Parser)]
#[command(name = "export_onnx", version)]
struct Args {
    /// The file to write; what stands there is replaced
    file: PathBuf,
    /// rnn_tanh, rnn_relu, lstm or gru
    #[arg(long, default_value = "lstm")]
    cell: Kind,
    /// D
    #[arg(long, default_value_t = 100)]
    input: usize,
    /// H
    #[arg(long, default_value_t = 100)]
    hidden: usize,
    /// L
    #[arg(long, default_value_t = 1)]
    layers: usize,
    /// Two directions instead of one
    #[arg(long)]
    bidirectional: bool,
    /// Layers without biases
    #[arg(long)]
    no_bias: bool,
    /// f64 instead of f32; ONNX Runtime does not run it
    #[arg(long)]
    f64: bool,
    /// Where the parameters come from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let spec = NetworkSpec {
        layers: args.layers,
        bidirectional: args.bidirectional,
        bias: !args.no_bias,
        ..NetworkSpec::new(args.cell, args.input, args.hidden)
    };
    let dtype = if args.f64 { DType::F64 } else { DType::F32 };
    Network::seeded(spec, args.seed, dtype)?.save_onnx(&args.file)?;
    writeln!(std::io::stdout(), "{}", args.file.display())?;
    Ok(())
}
