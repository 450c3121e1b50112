//! `rnn-lm evaluate`: how well a model predicts a text.

use super::lines::each;
use super::noun::{Noun, bits};
use super::progress::counted;
use super::{Session, open, print};
use anyhow::{Context, Result, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, ValueEnum};
use rnn_lm::LanguageModel;
use rnn_lm::data::{Batches, TextFile};
use rnn_lm::evaluate::{Dynamic, DynamicRule, Evaluation, GradientRms, NeuralCache, Order, lines};
use rnn_lm::run::{CONFIG, Ids, Run, Texts, Windows};
use rnn_lm::tokenizer::{Tokenizer, Unit};
use serde_json::json;
use std::path::PathBuf;

/// Measure a model on a text
///
/// One stream over every token, with the state carried, unless told otherwise: then the length of a window changes nothing
/// but the memory it takes, and roundings. With --batch N it is the book's way: N readers at equal distances, each from a
/// state of zeros, and what is left over after whole windows of T steps is not counted. With --lines each line stands by
/// itself, as `score` has them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnn-lm evaluate runs/ptb ptb.test.txt
  rnn-lm evaluate runs/ptb ptb.test.txt --batch 10 --time 35      as the book evaluates
  rnn-lm evaluate runs/ptb sentences.txt --lines                  sentences that have nothing to do with each other
  rnn-lm evaluate runs/ptb ptb.test.txt --mode cache --theta 0.3 --lambda 0.1
  rnn-lm evaluate runs/ptb ptb.test.txt --mode dynamic --rms --lr 0.002 --decay 0.02 --time 5")]
pub(super) struct Evaluate {
    /// The folder of the run
    run: PathBuf,
    /// The text
    file: PathBuf,
    /// N readers side by side, as the book evaluates
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// T, steps of a window; of dynamic evaluation those after which it learns [default: 35, dynamic 5]
    #[arg(long, value_name = "T")]
    time: Option<usize>,
    /// Each line by itself, after the end of another: nothing is known of the lines before it
    #[arg(long, conflicts_with_all = ["batch", "time"])]
    lines: bool,
    /// What the model may do with what it has read
    #[arg(long, value_enum, default_value_t = Mode::Plain)]
    mode: Mode,
    /// The learning rate [default: 0.1, with --rms 0.002]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "--mode dynamic")]
    lr: Option<f64>,
    /// How fast weights go back to what they were
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.0,
        allow_negative_numbers = true,
        help_heading = "--mode dynamic"
    )]
    decay: f64,
    /// Divide each gradient by its size on the run's corpus, as that file is now
    #[arg(long, help_heading = "--mode dynamic")]
    rms: bool,
    /// Tokens that it remembers
    #[arg(long, value_name = "N", default_value_t = 500, help_heading = "--mode cache")]
    size: usize,
    /// How much likeness counts
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.3,
        allow_negative_numbers = true,
        help_heading = "--mode cache"
    )]
    theta: f64,
    /// Its share of the probability
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.1,
        allow_negative_numbers = true,
        help_heading = "--mode cache"
    )]
    lambda: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Nothing: it stays what it is
    Plain,
    /// Go on learning from it (Krause et al. 2018)
    Dynamic,
    /// Expect it again (Grave, Joulin & Usunier 2017)
    Cache,
}

impl Evaluate {
    pub(super) fn run(self, session: &Session, flags: &ArgMatches) -> Result<()> {
        self.check(flags)?;
        let (run, model) = open(&self.run, &session.device)?;
        let text = TextFile::open(&self.file)?;
        let (ids, evaluation) = if self.lines {
            let lines = self.read_lines(&text, &run.tokenizer)?;
            (lines.concat(), line_by_line(&run.tokenizer, model.as_ref(), &lines, session))
        } else {
            let ids = run.tokenizer.encode_file(&text)?;
            let rule = if self.rms { gradients(&run, session)? } else { DynamicRule::Sgd };
            let evaluation = self.measure(&run, model.as_ref(), (&ids, rule), session);
            (ids, evaluation)
        };
        let evaluation = evaluation.map_err(|error| match is_of_text(&error) {
            true => error.context(self.file.display().to_string()),
            false => error,
        })?;
        let (file, perplexity) = (self.file.display(), evaluation.perplexity());
        let unknown =
            run.tokenizer.unknown().map_or(0, |unknown| ids.iter().filter(|&&id| id == unknown).count());
        if !perplexity.is_finite() {
            let why = match self.mode {
                Mode::Dynamic => format!("it learnt too fast: take a smaller --lr than {}", self.lr()),
                Mode::Plain | Mode::Cache => "the weights of the run are no model's".into(),
            };
            bail!("{file}: expected a finite perplexity, got {perplexity} ({why})");
        }
        let noun = Noun::of(&run.tokenizer);
        let per_token = bits(evaluation.loss());
        // What is not predicted, the first token of a stream and what windows leave over, counts like the rest.
        let per_byte = per_token * ids.len() as f64 / text.len() as f64;
        let unknown = unknown as f64 / ids.len() as f64;
        if self.json {
            return print(json!({
                "perplexity": perplexity, "loss": evaluation.loss(), "bits_per_token": per_token,
                "bits_per_byte": per_byte, "tokens": ids.len(), "predictions": evaluation.predictions,
                "unknown_rate": unknown, "bytes": text.len(), "token": noun.to_string(),
            }));
        }
        print(format_args!("perplexity       {perplexity:.2}"))?;
        print(format_args!("bits a {noun:<10}{per_token:.4}"))?;
        if run.tokenizer.unit() != Unit::Byte {
            print(format_args!("bits a byte      {per_byte:.4}"))?;
        }
        print(format_args!("tokens           {} ({} predicted)", ids.len(), evaluation.predictions))?;
        print(format_args!("unknown          {:.2} %", 100.0 * unknown))
    }

    /// The ids of each line.
    fn read_lines(&self, text: &TextFile, tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>> {
        let mut lines = Vec::new();
        each(text.read()?.as_slice(), &self.file.display().to_string(), tokenizer, |_, _, ids| {
            lines.push(ids);
            Ok(())
        })?;
        Ok(lines)
    }

    /// Where every gradient is divided by its size, a step is as long as the rate says.
    fn lr(&self) -> f64 {
        self.lr.unwrap_or(if self.rms { 0.002 } else { 0.1 })
    }

    /// Whether each flag that was given is one of the mode.
    fn check(&self, flags: &ArgMatches) -> Result<()> {
        const OF: [(&str, &[Mode]); 9] = [
            ("batch", &[Mode::Plain]),
            ("lines", &[Mode::Plain]),
            ("time", &[Mode::Plain, Mode::Dynamic]),
            ("lr", &[Mode::Dynamic]),
            ("decay", &[Mode::Dynamic]),
            ("rms", &[Mode::Dynamic]),
            ("size", &[Mode::Cache]),
            ("theta", &[Mode::Cache]),
            ("lambda", &[Mode::Cache]),
        ];
        let name =
            |mode: Mode| mode.to_possible_value().map_or_else(String::new, |value| value.get_name().into());
        let given = |flag: &str| flags.value_source(flag) == Some(ValueSource::CommandLine);
        match OF.iter().find(|(flag, modes)| given(flag) && !modes.contains(&self.mode)) {
            Some((flag, modes)) => {
                let modes: Vec<String> = modes.iter().map(|mode| name(*mode)).collect();
                bail!(
                    "--{flag}: expected with --mode {}, got with --mode {}",
                    modes.join(" or "),
                    name(self.mode)
                )
            }
            None => Ok(()),
        }
    }

    fn measure(
        &self,
        run: &Run,
        model: &dyn LanguageModel,
        (ids, rule): (&[u32], DynamicRule),
        session: &Session,
    ) -> Result<Evaluation> {
        let time = self.time.unwrap_or(if self.mode == Mode::Dynamic { 5 } else { 35 });
        let tokens = (ids.len(), "tokens");
        Ok(match self.mode {
            Mode::Plain => {
                let order = self.batch.map_or(Order::Whole, |batch| Order::Book { batch });
                counted(session, tokens, |progress| order.evaluate(model, ids, time, Some(progress)))?
            }
            Mode::Cache => {
                let Self { size, theta, lambda, .. } = *self;
                let cache = NeuralCache { size, theta, lambda };
                counted(session, tokens, |progress| cache.evaluate(model, ids, Some(progress)))?
            }
            Mode::Dynamic => {
                let mut adaptable = run.adaptable(rnn_core::Way::Fused, &session.device)?;
                let dynamic = Dynamic { time, lr: self.lr(), decay: self.decay, rule };
                let model = adaptable.as_mut();
                counted(session, tokens, |progress| dynamic.evaluate(model, ids, Some(progress)))?
            }
        })
    }
}

/// Whether it is the text that is wrong, or something at a place in it, and not a flag.
fn is_of_text(error: &anyhow::Error) -> bool {
    let Some(rnn_lm::Error::Core(rnn_core::Error::Invalid { op, .. })) = error.downcast_ref() else {
        return false;
    };
    op.ends_with(": ids") || op.ends_with(" predictions")
}

/// Each line by itself.
fn line_by_line(
    tokenizer: &Tokenizer,
    model: &dyn LanguageModel,
    of_lines: &[Vec<u32>],
    session: &Session,
) -> Result<Evaluation> {
    let tokens = (of_lines.iter().map(Vec::len).sum(), "tokens");
    let each_after_another = of_lines.iter().map(|line| tokenizer.behind_a_line(line));
    Ok(counted(session, tokens, |progress| lines(model, each_after_another, Some(progress)))?)
}

/// The size of each weight's gradient on the text that the run learnt from: of its beginning, in windows as it had them.
fn gradients(run: &Run, session: &Session) -> Result<DynamicRule> {
    /// Windows that are enough.
    const WINDOWS: usize = 500;
    /// The authors' program has this.
    const EPSILON: f64 = 1e-3;
    let config = &run.config;
    if config.data.corpus.is_empty() {
        let config = run.path(CONFIG);
        bail!("--rms: expected data.corpus in {}, whose gradients it looks at, got none", config.display());
    }
    const WHY: &str = "--rms looks at the corpus";
    let text = Texts::open(config).context(WHY)?.train.first(1 << 22)?;
    let encoded = run.tokenizer.encode_first(&text.read()?, config.tokens()?.at_most());
    let encoded = encoded.with_context(|| format!("{WHY}: {}", config.data.corpus))?;
    let ids = Ids::Memory(encoded);
    let windows = Windows::new(config, &ids).context(WHY)?;
    let windows = &mut windows.epoch(0).take(WINDOWS);
    let tokens = (WINDOWS * config.training.batch * config.training.time, "tokens");
    let mut model = run.adaptable(rnn_core::Way::Fused, &session.device)?;
    let gradients =
        counted(session, tokens, |progress| GradientRms::collect(model.as_mut(), windows, Some(progress)))?;
    Ok(DynamicRule::Rms { gradients, epsilon: EPSILON })
}
