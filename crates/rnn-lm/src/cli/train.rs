//! `rnn-lm train` and `rnn-lm resume`.

use super::minutes::choose_epochs;
use super::noun::Noun;
use super::progress::{Progress, time, waiting};
use super::settings::Base;
use super::stop::Stop;
use super::{INTERRUPTED, Session, print, verdict};
use anyhow::{Context, Result};
use clap::{ArgMatches, Args};
use rnn_core::device_name;
use rnn_lm::LanguageModel;
use rnn_lm::config::Config;
use rnn_lm::data::TextFile;
use rnn_lm::generate::Sampling;
use rnn_lm::run::{CONFIG, CONTEXT, End, Fit, MODEL, Measured, Run, Stepped, Texts, Watch, quoted, vacant};
use rnn_lm::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Train a model on a text
///
/// With nothing but a text it learns letter by letter (word by word a text with an `<unk>` among a thousand words, as those have
/// that were prepared for it; byte by byte one that is not UTF-8; `--tokens` says otherwise), and chooses a model and a number of
/// epochs that takes about ten minutes on two cores. A trial of a few seconds raises that number on a faster machine. A short text
/// takes less: it is read 20 times at most. One of more than about 8 MB may take longer: it is read once at least. The last tenth
/// of the text is held out to measure on, unless `--valid` names a file for that.
///
/// `--preset` begins with a recipe, `--config` with a file, `--warm-start RUN` with the weights, the model and the tokens of another
/// run. Every setting is a flag as well, also under the name that others have for it (`--learning-rate`, `--batch-size`, `--optimizer`): a flag wins over the file, the file over the preset. `rnn-lm config CORPUS` prints all
/// settings with the values that they would have; a run's `config.toml` has those that it has.
///
/// Ctrl-C writes a checkpoint; `rnn-lm resume RUN` goes on with the bits it would have had.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnn-lm train book.txt
  rnn-lm train ptb.train.txt --valid ptb.valid.txt --preset zaremba-small --out runs/small
  rnn-lm train book.txt --tokens bpe --max-vocab 4000 --cell gru --layers 2 --dropout 0.3
  rnn-lm train letters.txt --warm-start runs/book --lr 0.001 --out runs/letters")]
pub(super) struct Train {
    /// The text to learn from
    corpus: PathBuf,
    /// A text to measure on, instead of the end of the corpus
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// The folder of the run [default: runs/ and the name of the text]
    #[arg(long, short, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Train for about M minutes: a trial of a few seconds sets the number of epochs
    #[arg(long, value_name = "M", allow_negative_numbers = true, conflicts_with = "epochs")]
    minutes: Option<f64>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    base: Base,
}

/// Go on with a run that was stopped
///
/// Weights, what the optimiser keeps, the carried state, random numbers and the place in the text are those of the last
/// checkpoint, so the result has the bits of a training that did not stop.
#[derive(Debug, Args)]
pub(super) struct Resume {
    /// The folder of the run
    run: PathBuf,
    /// Go on to another number of epochs
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

impl Train {
    pub(super) fn run(self, session: &Session, flags: &ArgMatches) -> Result<ExitCode> {
        let text = Texts::to_learn_from(&self.corpus)?;
        let mut settings = self.base.settings(Some(&text), flags)?;
        let config = &mut settings.config;
        name_files(config, Some(&self.corpus), self.valid.as_deref())?;
        let of_another = !config.data.tokenizer.is_empty() || !config.model.warm_start.is_empty();
        let chosen = !of_another && settings.is_suggested("data", "tokens");
        let why = match settings.config.data.tokens.as_str() {
            "byte" if chosen => why_bytes(&text)?,
            "word" if chosen => Some(WHY_WORDS.into()),
            _ => None,
        };
        if let Some(why) = why {
            session.say(format_args!("note     {}: {why}", self.corpus.display()));
        }
        settings.say_notes(session);
        // Before the trial, which takes a while. What was found free is not asked again: another may have taken it by then.
        if let Some(out) = &self.out {
            vacant(out)?;
        }
        let mut out = self.out.clone().unwrap_or_else(|| free(&self.corpus));
        let stop = Stop::new()?;
        choose_epochs(self.minutes, &mut settings, &text, session)?;
        let fit = loop {
            let reading = waiting(session, format!("reading {}", self.corpus.display()));
            let fit = Fit::begin(&out, &settings.config, &session.device);
            reading.finish_and_clear();
            let error = match fit {
                Ok(fit) => break fit,
                Err(error) => error,
            };
            // Another training may have taken the name meanwhile; where nobody asked for it any other will do.
            let other = self.out.is_none().then(|| free(&self.corpus)).filter(|other| *other != out);
            out = other.ok_or(error)?;
        };
        session.say(format_args!("run      {0} (`rnn-lm resume {0}` goes on with it)", quoted(&out)));
        train(fit, session, self.json, &stop)
    }
}

impl Resume {
    pub(super) fn run(self, session: &Session) -> Result<ExitCode> {
        let run = Run::open(&self.run)?;
        let (without_best, corpus) = (!run.has(MODEL)?, run.config.data.corpus);
        let stop = Stop::new()?;
        let what = if corpus.is_empty() { self.run.display().to_string() } else { corpus };
        let reading = waiting(session, format!("reading {what}"));
        let fit = Fit::resume(&self.run, self.epochs, &session.device);
        reading.finish_and_clear();
        let fit = fit?;
        if without_best && fit.run().has(MODEL)? {
            session.say(format_args!(
                "note     {MODEL}, the weights that measured best, was missing: it has those of the checkpoint now"
            ));
        }
        session.say(format_args!("run      {}, from step {}", self.run.display(), fit.steps()));
        if fit.steps() >= fit.total_steps() {
            let epochs = fit.run().config.training.epochs;
            session.say(format_args!(
                "note     nothing is left of {epochs} epochs: it is only measured (--epochs N goes on to more)"
            ));
        }
        train(fit, session, self.json, &stop)
    }
}

/// A path that is the same from everywhere.
pub(super) fn whole(path: &Path) -> Result<String> {
    let whole = path.canonicalize().map_err(rnn_lm::Error::io(path))?;
    let text = whole.to_str().map(str::to_string);
    text.with_context(|| format!("{}: expected a name in Unicode", path.display()))
}

/// The same of all files that settings name, and of those that a command names.
pub(super) fn name_files(config: &mut Config, corpus: Option<&Path>, valid: Option<&Path>) -> Result<()> {
    if let Some(corpus) = corpus {
        config.data.corpus = whole(corpus)?;
    }
    if let Some(valid) = valid {
        config.data.valid = whole(valid).context("--valid")?;
    }
    let (data, model) = (&mut config.data, &mut config.model);
    for (path, setting) in [
        (&mut data.valid, "data.valid"),
        (&mut data.tokenizer, "data.tokenizer"),
        (&mut model.warm_start, "model.warm_start"),
    ] {
        if !path.is_empty() {
            *path = whole(Path::new(path)).context(setting)?;
        }
    }
    Ok(())
}

/// Why a text is learnt word by word where nobody asked for that.
const WHY_WORDS: &str = "it has <unk>, as texts that were prepared for words have: learnt word by word (--tokens char: by letters)";

/// Why one is learnt byte by byte.
fn why_bytes(text: &TextFile) -> Result<Option<String>> {
    let start = text.first(1 << 20)?.read()?;
    if start.starts_with(&[0xFF, 0xFE]) || start.starts_with(&[0xFE, 0xFF]) {
        return Ok(Some(
            "UTF-16, learnt byte by byte (iconv -f UTF-16 -t UTF-8 makes a text of letters)".into(),
        ));
    }
    let error = std::str::from_utf8(&start).err();
    Ok(error.map(|error| format!("not UTF-8 (at byte {}), learnt byte by byte", error.valid_up_to())))
}

/// A folder that no run is in.
fn free(corpus: &Path) -> PathBuf {
    let name = corpus.file_stem().map(|name| name.to_string_lossy().into_owned());
    // No name that leads elsewhere: that of `..txt` is a dot.
    let name = name.filter(|name| !name.trim_matches('.').is_empty()).unwrap_or_else(|| "run".into());
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.clone()).chain(numbered).map(|name| Path::new("runs").join(name));
    // Where it cannot even be looked, another number is no way out.
    let good = |path: &PathBuf| matches!(vacant(path), Ok(()) | Err(rnn_lm::Error::Io { .. }));
    names.find(good).unwrap_or_else(|| Path::new("runs").join(&name))
}

/// What is learnt from, what learns, and how.
fn describe(fit: &Fit, session: &Session) -> Result<()> {
    let (run, tokens) = (fit.run(), fit.train().source().len());
    let config = &run.config;
    let noun = Noun::of(&run.tokenizer);
    let parameters: usize = fit.model().parameters().iter().map(|(_, var)| var.elem_count()).sum();
    let measured_on = match fit.valid() {
        Some(valid) => {
            let of = match config.data.valid.as_str() {
                "" => "behind them".into(),
                file => format!("of {file}"),
            };
            format!(", measured on {} {of}, in {} streams", valid.some()?.len(), config.training.batch)
        }
        None => String::new(),
    };
    session
        .say(format_args!("corpus   {tokens} {noun}s, {} different ones{measured_on}", run.tokenizer.len()));
    session.say(format_args!("model    {}, {parameters} parameters", config.model.sizes()));
    session.say(format_args!("way      {} on {}", fit.model().way(), device_name(&session.device)));
    let (warmup, steps) = (config.training.warmup, fit.total_steps());
    if config.training.schedule == "cosine" && warmup >= steps {
        session.say(format_args!(
            "note     the rate rises for {warmup} steps, and there are {steps}: it never comes to {} (--warmup {})",
            config.training.lr,
            steps / 10
        ));
    }
    Ok(())
}

fn train(mut fit: Fit, session: &Session, json: bool, stop: &Stop) -> Result<ExitCode> {
    describe(&fit, session)?;
    let mut show = Show::new(&fit, session, stop);
    let end = stop.while_training(|| fit.train_on(&mut show));
    show.progress.finish();
    let folder = fit.run().folder();
    if let Err(rnn_lm::Error::Diverged { .. }) = end {
        session.say(format_args!(
            "note     a run keeps its settings: `rnn-lm train {} --config {} --out ANOTHER` begins anew, with --lr or --clip-norm \
             as flags",
            quoted(Path::new(&fit.run().config.data.corpus)),
            quoted(&folder.join(CONFIG)),
        ));
    }
    let end = end.with_context(|| format!("run {}", folder.display()))?;
    match end {
        End::Stopped => {
            session.say(format_args!(
                "stopped at step {}; `rnn-lm resume {}` goes on",
                fit.steps(),
                quoted(folder)
            ));
            return Ok(ExitCode::from(INTERRUPTED));
        }
        End::Early => {
            session.say(format_args!("it ends here: {}", in_vain(fit.run().config.training.stop_after)));
        }
        End::Done => {}
    }
    let verdict = verdict::Verdict::new(&fit, end, session)?;
    if json {
        print(verdict.json())?;
    } else {
        print(verdict.text())?;
        let folder = quoted(folder);
        session.say(format_args!("\nwhat it writes: `rnn-lm generate {folder} --prompt TEXT`"));
        // Of one point there is no picture; a training that is done does not fail for a hint.
        if fit.run().measured().is_ok_and(|lines| lines.len() > 1) {
            session.say(format_args!("how it learnt:  `rnn-lm plot {folder}`"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Why a training ends early.
pub(super) fn in_vain(evaluations: usize) -> String {
    let plural = if evaluations == 1 { "" } else { "s" };
    format!("{evaluations} evaluation{plural} brought nothing better (training.stop_after)")
}

/// Time after which a person sees what it writes so far, and between two samples at least.
const SAMPLES: Duration = Duration::from_secs(20);

/// Shows a training to a person.
struct Show {
    progress: Progress,
    tokenizer: Tokenizer,
    /// What a sample goes on with.
    context: Vec<u32>,
    seed: u64,
    noun: Noun,
    stop: Stop,
    next_sample: Instant,
    sampled: bool,
    quiet: bool,
}

impl Show {
    fn new(fit: &Fit, session: &Session, stop: &Stop) -> Self {
        let (run, noun) = (fit.run(), Noun::of(&fit.run().tokenizer));
        // It is for samples: no reason not to train.
        let context = run.context().unwrap_or_else(|error| {
            session
                .say(format_args!("note     samples go on from nothing: {CONTEXT} cannot be read: {error}"));
            vec![run.tokenizer.begin()]
        });
        Self {
            progress: Progress::new(session, noun),
            tokenizer: run.tokenizer.clone(),
            context,
            seed: run.config.training.seed,
            noun,
            stop: stop.clone(),
            next_sample: Instant::now() + SAMPLES,
            sampled: false,
            quiet: session.quiet,
        }
    }

    fn sample(&mut self, model: &dyn LanguageModel) {
        if self.quiet {
            return;
        }
        let count = if self.noun.is_large() { 30 } else { 160 };
        let skip = self.tokenizer.unknown().into_iter().collect();
        let sampling = Sampling { temperature: 0.8, skip, seed: self.seed, ..Sampling::default() };
        let drawn = model.generate(&self.context, count, &sampling);
        if let Ok(text) = drawn.and_then(|ids| self.tokenizer.decode(&ids)) {
            let lines = text.trim().lines().map(|line| format!("    | {}", readable(line)));
            self.progress.say(&lines.collect::<Vec<_>>().join("\n"));
        }
        (self.sampled, self.next_sample) = (true, Instant::now() + SAMPLES);
    }
}

/// A line that does nothing to a terminal: a tab is as wide as what is in front of it lets it be, which no bar knows.
fn readable(line: &str) -> String {
    let control = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    line.replace('\t', "    ").chars().map(control).collect()
}

impl Watch for Show {
    fn stepped(&mut self, at: &Stepped, model: &dyn LanguageModel) {
        self.progress.step(at);
        if !self.sampled && Instant::now() > self.next_sample {
            self.progress.say(&format!("what it writes after {} steps:", at.step));
            self.sample(model);
        }
    }

    fn measuring(&mut self) {
        self.progress.measuring();
    }

    fn measured(&mut self, measured: &Measured, model: &dyn LanguageModel) {
        let Measured { at, valid, best, seconds } = measured;
        let learnt = self.noun.quality(at.loss);
        let on_valid =
            valid.map_or_else(String::new, |loss| format!(", {} measured", self.noun.quality(loss)));
        let best = if *best { ", the best so far" } else { "" };
        let after = time(*seconds);
        let (epoch, step) = (at.epoch.0, at.step);
        self.progress
            .say(&format!("epoch {epoch}, step {step}, {after}: {learnt} while learning{on_valid}{best}"));
        if !self.sampled || Instant::now() > self.next_sample {
            self.sample(model);
        }
    }

    fn stop(&self) -> bool {
        self.stop.is_asked()
    }
}
