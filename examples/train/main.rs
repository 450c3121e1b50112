//! Trains a recurrent language model on real text and shows that it learned.
//!
//! With no argument: a word-level LSTM on the King James text that comes with a crate, in one to four minutes on
//! two cores. With `--corpus FILE` on any text of yours.

mod king_james;
mod progress;
mod text;

use anyhow::{Context, Result, bail};
use candle_core::DType;
use clap::Parser;
use rnn_core::{Bias, Scheme, Way, device, device_name};
use rnn_lm::LanguageModel;
use rnn_lm::data::{Batches, BookBatches, Corpus, Streams, Tokens};
use rnn_lm::generate::Sampling;
use rnn_lm::model::{CellKind, LmSpec, build};
use rnn_lm::train::{Clip, Optimizer, Sgd, Trainer};
use rnn_lm::yardstick::{KneserNey, Uniform, Unigram, perplexity};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Trains a recurrent language model by truncated backpropagation through time.
///
/// Without --corpus it learns from the King James text that comes with the build; nothing is downloaded.
#[derive(Parser, Debug)]
#[command(name = "train", version)]
struct Args {
    /// A UTF-8 text to learn from
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// A UTF-8 text to measure on [default: the last tenth of the corpus, which is then not learnt from]
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// What a token is: word or char
    #[arg(long, default_value = "word")]
    tokens: Tokens,
    /// Words kept in the vocabulary, the most frequent ones; the others become <unk> (not with --tokens char or --book)
    #[arg(long, default_value_t = 10_000)]
    max_vocab: usize,
    /// The recurrent cell: rnn, lstm or gru [default: lstm; rnn with --book]
    #[arg(long)]
    cell: Option<CellKind>,
    /// Who computes forward and backward: fused, manual or reference
    #[arg(long, default_value = "fused")]
    way: Way,
    /// D, the size of a word's vector
    #[arg(long, default_value_t = 100)]
    embed: usize,
    /// H, the size of the hidden state
    #[arg(long, default_value_t = 100)]
    hidden: usize,
    /// L, recurrent layers on top of each other
    #[arg(long, default_value_t = 1)]
    layers: usize,
    /// N, streams of text read side by side [default: 20; 10 with --book]
    #[arg(long)]
    batch: Option<usize>,
    /// T, steps that the gradient goes back [default: 35; 5 with --book]
    #[arg(long)]
    time: Option<usize>,
    /// Learning rate [default: 10, or 1 for the plain rnn; 0.1 with --book]
    #[arg(long, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// The longest gradient, over all parameters [default: 0.25; none with --book]
    #[arg(long, allow_negative_numbers = true)]
    clip: Option<f64>,
    /// Times that the corpus is read [default: 2; 100 with --book]
    #[arg(long)]
    epochs: Option<usize>,
    /// Where all random numbers come from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads of the fused kernels [default: RAYON_NUM_THREADS, or as many as there are cores]; results do not
    /// depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "auto")]
    device: String,
    /// No progress and no report
    #[arg(long)]
    quiet: bool,
    /// The last line of the output is one JSON object: train_ppl (over the last epoch, while learning), valid_ppl,
    /// uniform_ppl, unigram_ppl, ngram_ppl, train_unknown and valid_unknown (the share of <unk>), tokens_per_s,
    /// seconds, way, device, cell; null is what was not measured
    #[arg(long)]
    json: bool,
    /// The experiment of the book's chapter 5: the first 1000 words, its model, its batching
    #[arg(long)]
    book: bool,
}

fn main() -> Result<ExitCode> {
    match run(&Args::parse()) {
        // Whoever reads no further (`| head`) has what they wanted.
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(is_broken_pipe) => {
            Ok(ExitCode::SUCCESS)
        }
        outcome => outcome.map(|()| ExitCode::SUCCESS),
    }
}

fn is_broken_pipe(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

fn run(args: &Args) -> Result<()> {
    args.check()?;
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    let device = device(&args.device)?;
    let (train, valid) = text::load(args)?;
    let plan = Plan::new(args, &train);
    let mut model = build(plan.cell, &plan.spec, args.way, (DType::F32, &device), args.seed)?;
    // Not `println!`, which panics where nobody reads on.
    let mut stdout = std::io::stdout();
    let mut say = |line: String| if args.quiet { Ok(()) } else { writeln!(stdout, "{line}") };
    let parameters: usize = model.parameters().iter().map(|(_, var)| var.elem_count()).sum();
    let LmSpec { vocabulary, embed, hidden, layers, .. } = plan.spec;
    say(format!("corpus   {} tokens, {vocabulary} in the vocabulary", train.ids.len()))?;
    let (train_unknown, valid_unknown) = (train.unknown_rate(), valid.as_ref().map(Corpus::unknown_rate));
    if let Some(valid_unknown) = valid_unknown {
        let [of_train, of_valid] = [train_unknown, valid_unknown].map(|share| 100.0 * share);
        say(format!("unknown  {of_train:.2} % of them, {of_valid:.2} % of those to measure on"))?;
    }
    let kind = plan.cell;
    say(format!("model    {layers} x {kind} of {hidden}, embedding {embed}, {parameters} parameters"))?;
    say(format!("way      {} on {}", model.way(), device_name(&device)))?;

    // All that can be refused is refused before the long part: the windows, and the yardsticks' text.
    let started;
    let (train_ppl, tokens, yardsticks);
    if args.book {
        let batches = BookBatches::new(&train.ids, plan.batch, plan.time)?;
        yardsticks = None;
        started = Instant::now();
        (train_ppl, tokens) = learn(&mut *model, &batches, &plan, args.quiet)?;
    } else {
        let batches = Streams::new(&train.ids, plan.batch, plan.time)?;
        yardsticks = valid.as_ref().map(|valid| Yardsticks::new(&train, valid)).transpose()?;
        started = Instant::now();
        (train_ppl, tokens) = learn(&mut *model, &batches, &plan, args.quiet)?;
    }
    let seconds = started.elapsed().as_secs_f64();

    let mut report = json!({
        "train_ppl": train_ppl, "valid_ppl": null, "uniform_ppl": vocabulary, "unigram_ppl": null, "ngram_ppl": null,
        "train_unknown": train_unknown, "valid_unknown": valid_unknown,
        "tokens_per_s": tokens as f64 / seconds, "seconds": seconds,
        "way": model.way().to_string(), "device": device_name(&device), "cell": plan.cell.to_string(),
    });
    say(format!("trained  {seconds:.0} s, perplexity over the last epoch, while learning: {train_ppl:.1}"))?;
    if let (Some(valid), Some(Yardsticks { uniform, unigram, ngram })) = (&valid, yardsticks) {
        let valid_ppl = finite("the validation perplexity", model.evaluate(&valid.ids, 64)?.perplexity())?;
        for (key, value) in [("valid_ppl", valid_ppl), ("unigram_ppl", unigram), ("ngram_ppl", ngram)] {
            report[key] = json!(value);
        }
        let (count, kind) = (valid.ids.len(), train.tokens);
        say(format!("\nperplexity on the {count} tokens to measure on: the number of equally likely"))?;
        say(format!("{kind}s it would be choosing from at each step"))?;
        for (name, value) in [
            ("uniform (knows the vocabulary)", uniform),
            ("unigram (knows how often)", unigram),
            ("Kneser-Ney, order 5 (counts phrases)", ngram),
            ("this model", valid_ppl),
        ] {
            say(format!("  {name:<38}{value:>9.1}"))?;
        }
        if train_unknown == 0.0 && valid_unknown > Some(0.0) {
            say("  (no <unk> in what was learnt: each one measured costs what nobody could know)".into())?;
        }
    }
    if !args.quiet {
        say(format!("\nwhat it writes by itself:\n\n{}\n", sample(&*model, &train, args.seed)?))?;
        say(MORE.into())?;
    }
    if args.json {
        writeln!(std::io::stdout(), "{report}")?;
    }
    Ok(())
}

/// What counting achieves on the same text.
struct Yardsticks {
    uniform: f64,
    unigram: f64,
    ngram: f64,
}

impl Yardsticks {
    fn new(train: &Corpus, valid: &Corpus) -> Result<Self> {
        let vocabulary = train.vocabulary.len();
        let order = KneserNey::ORDER.min(train.ids.len());
        let measure = || -> rnn_lm::Result<Self> {
            Ok(Self {
                uniform: perplexity(&Uniform { vocabulary }, &valid.ids)?,
                unigram: perplexity(&Unigram::new(&train.ids, vocabulary)?, &valid.ids)?,
                ngram: perplexity(&KneserNey::new(&train.ids, vocabulary, order)?, &valid.ids)?,
            })
        };
        measure().context("the text to measure on")
    }
}

/// What else there is.
const MORE: &str = "\
more:  cargo run --release --example train -- --corpus FILE          a text of your own
       cargo run --release --example train -- --tokens char          letter by letter
       cargo run --release --example train -- --cell gru --layers 2  another model
       cargo run --release --example train -- --book                 the book's chapter 5
       cargo run --release --example train -- --help                 everything else";

impl Args {
    /// All that can be said of the flags before a file is read.
    fn check(&self) -> Result<()> {
        /// More than any machine is likely to have.
        const MOST_THREADS: usize = 512;
        if let Some(threads) = self.threads.filter(|threads| !(1..=MOST_THREADS).contains(threads)) {
            bail!("--threads: expected at least 1 and at most {MOST_THREADS}, got {threads}");
        }
        if self.max_vocab < 2 {
            bail!("--max-vocab: expected at least 2, <unk> and a word, got {}", self.max_vocab);
        }
        if self.epochs == Some(0) {
            bail!("--epochs: expected at least 1, got 0");
        }
        for (flag, value) in [("--lr", self.lr), ("--clip", self.clip)] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                bail!("{flag}: expected a number above 0, got {value}");
            }
        }
        Ok(())
    }
}

/// The flags, with what they default to.
struct Plan {
    cell: CellKind,
    spec: LmSpec,
    batch: usize,
    time: usize,
    lr: f64,
    clip: Clip,
    epochs: usize,
}

impl Plan {
    fn new(args: &Args, train: &Corpus) -> Self {
        let cell = args.cell.unwrap_or(if args.book { CellKind::Rnn } else { CellKind::Lstm });
        let or = |flag: Option<usize>, book, usual| flag.unwrap_or(if args.book { book } else { usual });
        let usual_lr = if cell == CellKind::Rnn { 1.0 } else { 10.0 };
        let spec = LmSpec::new(train.vocabulary.len(), args.embed, args.hidden)
            .layers(args.layers)
            .bias(Bias::Single)
            .init(Scheme::Book);
        Self {
            cell,
            spec,
            batch: or(args.batch, 10, 20),
            time: or(args.time, 5, 35),
            lr: args.lr.unwrap_or(if args.book { 0.1 } else { usual_lr }),
            clip: args.clip.or((!args.book).then_some(0.25)).map_or(Clip::None, Clip::Norm),
            epochs: or(args.epochs, 100, 2),
        }
    }
}

/// All epochs; gives exp of the last one's mean loss over its targets, and the tokens read in all.
fn learn(
    model: &mut dyn LanguageModel,
    batches: &impl Batches,
    plan: &Plan,
    quiet: bool,
) -> Result<(f64, usize)> {
    let mut trainer = Trainer::new(Optimizer::new(Sgd::default(), plan.lr).clip(plan.clip));
    let mut progress = progress::Progress::new(batches.windows(0), plan.epochs, quiet);
    let (mut mean, mut tokens) = (f64::NAN, 0);
    for epoch in 0..plan.epochs {
        let (mut nats, mut targets) = (0.0, 0);
        for window in batches.epoch(epoch) {
            let window = window?;
            nats += trainer.step(model, &window).context("training stopped")? * window.targets as f64;
            targets += window.targets;
            mean = nats / targets as f64;
            progress.step(epoch, mean, tokens + targets);
        }
        tokens += targets;
        finite("the perplexity", mean.exp())
            .with_context(|| format!("training stopped after epoch {}", epoch + 1))?;
    }
    progress.finish();
    Ok((mean.exp(), tokens))
}

/// A perplexity that is a number.
fn finite(what: &str, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    bail!("{what} is {value}: what was learnt is worth nothing (try a smaller --lr or --clip)")
}

/// What the model writes after a line's end.
fn sample(model: &dyn LanguageModel, train: &Corpus, seed: u64) -> Result<String> {
    let begin = train.vocabulary.id(train.tokens.line_end()).unwrap_or(0);
    let skip = train.vocabulary.unk().into_iter().collect();
    let count = if train.tokens == Tokens::Char { 300 } else { 60 };
    let sampling = Sampling { temperature: 0.8, skip, seed, ..Sampling::default() };
    let drawn = model.generate(&[begin], count, &sampling)?;
    Ok(train.decode(&drawn)?)
}
