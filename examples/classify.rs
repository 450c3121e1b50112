//! A classifier with candle's own layers around a recurrent one: is a verse of the Old Testament or of the New?
//!
//! `cargo run --release --example classify`

#[path = "train/king_james.rs"]
mod king_james;

use anyhow::{Result, ensure};
use candle_core::{D, DType, Tensor};
use candle_nn::{Embedding, Linear, Module, VarBuilder};
use clap::Parser;
use rnn_core::{Bidirectional, GruCell, LayerSpec, Parameters, Plan, Recurrent, Stack, rng};
use rnn_lm::data::{Vocabulary, VocabularyOptions};
use rnn_lm::train::{Adam, Clip, Decay, Optimizer};
use std::io::Write;
use std::path::PathBuf;

/// Learns to tell verses of the Old Testament from those of the New, and is measured on every tenth verse.
#[derive(Parser)]
#[command(name = "classify", version)]
struct Args {
    /// Verses to learn from, at most, and to measure on
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    verses: usize,
    /// Where the parameters go, a .safetensors, .pt or .pth; nowhere by default
    #[arg(long)]
    save: Option<PathBuf>,
}

/// N
const BATCH: usize = 64;
/// Batches between two lines.
const EVERY: u64 = 50;

/// Embedding, a bidirectional GRU of two layers, and a linear layer on its last states.
struct Classifier {
    embedding: Embedding,
    rnn: Stack<Bidirectional<GruCell>>,
    head: Linear,
}

impl Classifier {
    fn new(vocabulary: usize, vb: &VarBuilder) -> Result<Self> {
        let rnn = Stack::new(LayerSpec::new(64, 64), 2, &vb.pp("rnn"))?.with_dropout(0.3)?;
        let embedding = candle_nn::embedding(vocabulary, 64, vb.pp("embedding"))?;
        Ok(Self { embedding, head: candle_nn::linear(2 * 64, 2, vb.pp("head"))?, rnn })
    }

    /// Logits `[N, 2]` of N verses; `step` says which masks, and is none where nothing is learnt.
    fn logits(&self, verses: &[Verse], step: Option<u64>) -> Result<Tensor> {
        let lengths: Vec<usize> = verses.iter().map(|verse| verse.ids.len()).collect();
        let time = lengths.iter().copied().max().unwrap_or(0);
        let padding = |verse: &Verse| std::iter::repeat_n(0, time - verse.ids.len());
        let ids = verses.iter().flat_map(|verse| verse.ids.iter().copied().chain(padding(verse)));
        let ids = Tensor::from_iter(ids, self.head.weight().device())?.reshape((verses.len(), time))?;
        let (xs, zero) = (self.embedding.forward(&ids)?, self.rnn.zero_state(verses.len())?);
        let plan = Plan::new().lengths(&lengths);
        let (_, state) = match step {
            Some(step) => self.rnn.forward_with(&xs, &zero, &plan.draw(1, step))?,
            None => self.rnn.infer_with(&xs, &zero, &plan)?,
        };
        // Each direction has read the whole verse when it ends.
        let last = Tensor::cat(&[&state.last().forward.h, &state.last().reverse.h], D::Minus1)?;
        Ok(self.head.forward(&last)?)
    }
}

struct Verse {
    ids: Vec<u32>,
    /// 0 of the Old Testament, 1 of the New.
    class: u32,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.verses > 0, "--verses: expected at least 1, got 0");
    let (mut learnt, measured, vocabulary) = verses(args.verses)?;
    let device = rnn_core::device("auto")?;
    let parameters = Parameters::new(1, DType::F32, &device);
    let model = Classifier::new(vocabulary, &parameters.builder())?;
    let mut adam = Optimizer::new(Adam::default(), 2e-3).clip(Clip::Norm(1.0)).decay(Decay::Decoupled(0.01));
    // Verses of one length stand together, so that there is little padding, and batches come in any order.
    learnt.sort_by_key(|verse| verse.ids.len());
    let mut batches: Vec<&[Verse]> = learnt.chunks(BATCH).collect();
    shuffle(&mut batches);
    let (mut out, mut sum) = (std::io::stdout(), 0.0);
    for (step, batch) in (1..).zip(&batches) {
        let classes = Tensor::from_iter(batch.iter().map(|verse| verse.class), &device)?;
        let loss = candle_nn::loss::cross_entropy(&model.logits(batch, Some(step))?, &classes)?;
        adam.backward_step(&parameters.vars(), &loss)?;
        sum += loss.to_scalar::<f32>()?;
        if step % EVERY == 0 {
            writeln!(out, "batch {step:>3} of {}  mean loss {:.3}", batches.len(), sum / EVERY as f32)?;
            sum = 0.0;
        }
    }
    let mut right = 0;
    for batch in measured.chunks(BATCH) {
        let found = model.logits(batch, None)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
        right += found.iter().zip(batch).filter(|(found, verse)| **found == verse.class).count();
    }
    let old = measured.iter().filter(|verse| verse.class == 0).count();
    let share = |count: usize| 100.0 * count as f64 / measured.len() as f64;
    writeln!(
        out,
        "right on {} verses: {:.1} % (always the Old Testament: {:.1} %)",
        measured.len(),
        share(right),
        share(old)
    )?;
    if let Some(path) = args.save {
        parameters.save(path)?;
    }
    Ok(())
}

/// Verses to learn from and verses to measure on, every tenth: at most so many of each, spread over the text. And V.
fn verses(most: usize) -> Result<(Vec<Verse>, Vec<Verse>, usize)> {
    /// Books of the Old Testament, which come first.
    const OLD: usize = 39;
    let books = king_james::books()?;
    let mut all = Vec::new();
    for (book, verses) in books.iter().enumerate() {
        all.extend(verses.iter().map(|verse| (verse, u32::from(book >= OLD))));
    }
    let part = |of_measured: bool| {
        let numbered = all.iter().enumerate().filter(move |(i, _)| (i % 10 == 9) == of_measured);
        let part: Vec<_> = numbered.map(|(_, verse)| *verse).collect();
        let every = part.len().div_ceil(most);
        part.into_iter().step_by(every).collect::<Vec<_>>()
    };
    let (learnt, measured) = (part(false), part(true));
    let words = learnt.iter().flat_map(|(verse, _)| verse.split(' '));
    let vocabulary = Vocabulary::from_text(words, VocabularyOptions::default())?;
    let encode =
        |(verse, class): (&String, u32)| Ok(Verse { ids: vocabulary.encode(verse.split(' '))?, class });
    let encoded = |part: Vec<_>| part.into_iter().map(encode).collect::<Result<Vec<_>>>();
    Ok((encoded(learnt)?, encoded(measured)?, vocabulary.len()))
}

/// Fisher and Yates's.
fn shuffle<T>(items: &mut [T]) {
    let mut stream = rng::Stream::new(1, "shuffle", 0);
    for i in (1..items.len()).rev() {
        items.swap(i, stream.uniform(0.0, (i + 1) as f64) as usize);
    }
}
