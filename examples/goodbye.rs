//! The book's sentence, learnt by heart: after each word, how likely the model takes every other to be the next one.
//!
//! `cargo run --release --example goodbye`

use anyhow::{Result, ensure};
use candle_core::{DType, Device};
use clap::Parser;
use rnn_core::{Bias, Scheme, Way};
use rnn_lm::data::{Batches, Corpus, Streams, Tokens, VocabularyOptions};
use rnn_lm::model::{CellKind, LmSpec, build};
use rnn_lm::train::{Clip, Optimizer, Sgd};
use std::io::Write;

const SENTENCE: &str = "you say goodbye and i say hello .";

/// Learns "you say goodbye and i say hello ." by heart and draws what it expects after each word.
#[derive(Parser)]
#[command(name = "goodbye", version)]
struct Args {
    /// Where the first weights come from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let text = format!("{SENTENCE} ").repeat(50);
    let corpus = Corpus::from_text(&text, Tokens::Word, VocabularyOptions::default())?;
    let words: Vec<&str> = SENTENCE.split_whitespace().collect();
    // The stream without ends of lines: one sentence follows on the other.
    let ids = &corpus.ids[..50 * words.len()];
    let vocabulary = corpus.vocabulary.len();
    let spec = LmSpec::new(vocabulary, 8, 16).bias(Bias::Single).init(Scheme::Book);
    let mut model = build(CellKind::Lstm, &spec, Way::Fused, (DType::F32, &Device::Cpu), args.seed)?;
    let mut sgd = Optimizer::new(Sgd::default(), 1.0).clip(Clip::Norm(1.0));
    for epoch in 0..200 {
        for window in Streams::new(ids, 2, 16)?.epoch(epoch) {
            model.forward(&window?)?;
            model.backward()?;
            model.update(&mut sgd)?;
        }
    }
    let sentence = &ids[..words.len()];
    let probabilities = model.probabilities(sentence)?;
    let mut stdout = std::io::stdout();
    for (position, row) in probabilities.iter().enumerate() {
        writeln!(stdout, "after {:?}", words[position])?;
        for (k, word) in words.iter().enumerate() {
            if words[..k].contains(word) {
                continue;
            }
            let probability = row[sentence[k] as usize];
            writeln!(stdout, "  {word:>8} {:<24} {probability:.3}", bar(probability, 24))?;
        }
    }
    let loss = model.evaluate(ids, 16)?.loss();
    writeln!(stdout, "mean loss {loss:.4} nats a word")?;
    ensure!(loss < 0.05, "the sentence was not learnt: mean loss {loss:.4}, expected below 0.05");
    Ok(())
}

/// A bar of at most `width` cells, exact to an eighth of one.
fn bar(part: f64, width: usize) -> String {
    let eighths = (part * (8 * width) as f64).round() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + rest
}
