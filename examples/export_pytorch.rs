//! Writes a network whose weights come from a seed as a state_dict, and says how PyTorch loads it.
//!
//! ```text
//! cargo run --example export_pytorch -- --cell lstm --layers 2 --bidirectional lstm.pt
//! ```

use anyhow::Result;
use candle_core::DType;
use clap::Parser;
use rnn_core::border::{Kind, Network, NetworkSpec};
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes a network whose weights come from a seed as a state_dict, and says how PyTorch loads it.
#[derive(Parser)]
#[command(name = "export_pytorch", version)]
struct Args {
    /// The file, a .safetensors, .pt or .pth
    file: PathBuf,
    /// rnn_tanh, rnn_relu, lstm or gru
    #[arg(long, default_value = "lstm")]
    cell: Kind,
    /// Size of the input
    #[arg(long, default_value_t = 8)]
    input: usize,
    /// Size of the hidden state
    #[arg(long, default_value_t = 16)]
    hidden: usize,
    /// Size of an LSTM's projection
    #[arg(long)]
    projection: Option<usize>,
    /// Number of layers
    #[arg(long, default_value_t = 1)]
    layers: usize,
    /// Read each window from both ends
    #[arg(long)]
    bidirectional: bool,
    /// Leave the biases out
    #[arg(long)]
    no_bias: bool,
    /// Double precision
    #[arg(long)]
    f64: bool,
    /// Where the weights come from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let spec = NetworkSpec {
        projection: args.projection,
        layers: args.layers,
        bidirectional: args.bidirectional,
        bias: !args.no_bias,
        ..NetworkSpec::new(args.cell, args.input, args.hidden)
    };
    let dtype = if args.f64 { DType::F64 } else { DType::F32 };
    Network::seeded(spec, args.seed, dtype)?.write(&args.file, "")?;
    writeln!(std::io::stdout(), "{}", in_python(&spec, dtype, &args.file)?)?;
    Ok(())
}

/// The lines of Python that make the module and load the file.
fn in_python(spec: &NetworkSpec, dtype: DType, file: &Path) -> Result<String> {
    let module = match spec.kind {
        Kind::Lstm => "LSTM",
        Kind::Gru => "GRU",
        Kind::RnnTanh | Kind::RnnRelu => "RNN",
    };
    let mut module = format!("torch.nn.{module}({}, {}, num_layers={}", spec.input, spec.hidden, spec.layers);
    if spec.kind == Kind::RnnRelu {
        module += ", nonlinearity=\"relu\"";
    }
    if let Some(size) = spec.projection {
        write!(module, ", proj_size={size}")?;
    }
    if spec.bidirectional {
        module += ", bidirectional=True";
    }
    if !spec.bias {
        module += ", bias=False";
    }
    if dtype == DType::F64 {
        module += ", dtype=torch.float64";
    }
    let file = file.display().to_string();
    let (library, load) = match file.ends_with(".safetensors") {
        true => ("import torch, safetensors.torch", "safetensors.torch.load_file"),
        false => ("import torch", "torch.load"),
    };
    Ok(format!("{library}\nrnn = {module}, batch_first=True)\nrnn.load_state_dict({load}({file:?}))"))
}
