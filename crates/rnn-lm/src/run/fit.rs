//! A run's training: window after window, with evaluations, a line of `metrics.jsonl` for each, the best weights kept, and
//! checkpoints from which it goes on with the bits that it would have had.

use super::begun;
use super::files::{TRAIN_IDS, VALID_IDS};
use super::known::{mark, moved, same_texts};
use super::metrics::Metrics;
use super::since::Since;
use super::windows::Windows;
use super::{Begun, CHECKPOINT, CONFIG, CONTEXT, Ids, Lock, METRICS, MODEL, Run, Texts, quoted};
use crate::config::Config;
use crate::data::Batches;
use crate::evaluate;
use crate::train::{Checkpoint, Trainer};
use crate::{Error, LanguageModel, Result};
use candle_core::Device;
use rnn_core::Way;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A training, begun or gone on with. Its texts are files, which it is gone on with from: a text in memory is written into one
/// first.
///
/// ```
/// use candle_core::Device;
/// use rnn_core::Way;
/// use rnn_lm::config::Config;
/// use rnn_lm::run::{End, Fit, Run, Watch};
/// struct Nobody;
/// impl Watch for Nobody {}
/// let folder = std::env::temp_dir().join(format!("a-run-{}", std::process::id()));
/// let corpus = folder.with_extension("txt");
/// std::fs::write(&corpus, "you say goodbye and i say hello .\n".repeat(50)).unwrap();
/// let mut config = Config::parse("c", "[model]\nhidden = 8\n[training]\nbatch = 4\n", &Config::default())?;
/// config.data.corpus = corpus.display().to_string();
/// let mut fit = Fit::begin(&folder, &config, &Device::Cpu)?;
/// assert_eq!(fit.train_on(&mut Nobody)?, End::Done);
/// let run = Run::open(&folder)?;
/// let model = run.model(Way::Fused, &Device::Cpu)?;
/// assert!(model.evaluate(&run.tokenizer.encode(b"you say hello .")?, 8)?.perplexity() < 20.0);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # rnn_lm::Result::Ok(())
/// ```
pub struct Fit {
    run: Run,
    train: Ids,
    valid: Option<Ids>,
    total_steps: u64,
    model: Box<dyn LanguageModel>,
    trainer: Trainer,
    metrics: Metrics,
    since: Since,
    _lock: Lock,
}

/// What a run's settings make of its texts, before anything has been learnt.
struct Parts {
    train: Ids,
    valid: Option<Ids>,
    total_steps: u64,
    model: Box<dyn LanguageModel>,
    trainer: Trainer,
    since: Since,
}

impl Parts {
    fn new(run: &Run, texts: &Texts, model: Box<dyn LanguageModel>) -> Result<Self> {
        let (train, valid) = ids(texts, run)?;
        let total_steps = Windows::new(&run.config, &train)?.steps(&run.config.training)?;
        let trainer = run.config.trainer(total_steps)?;
        let (corpus, settings) = (mark(&train, valid.as_ref()), run.config.to_toml()?);
        let since = Since { corpus, settings, ..Since::default() };
        Ok(Self { train, valid, total_steps, model, trainer, since })
    }
}

/// After a step.
#[derive(Debug, Clone, Copy)]
pub struct Stepped {
    /// The epoch that goes on, counted from 1, and how many there will be.
    pub epoch: (usize, usize),
    /// Windows read of it, and how many it has.
    pub window: (usize, usize),
    /// Steps done in all.
    pub step: u64,
    /// Mean loss since the last evaluation, without penalties, in nats a token.
    pub loss: f64,
    /// Tokens learnt from in all.
    pub tokens: usize,
    /// The rate of the step that the last window is a part of, before the factor of its length
    /// ([`crate::data::Window::share`]).
    pub lr: f64,
}

/// After an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Where it stands.
    pub at: Stepped,
    /// Loss on the text to measure on, if there is one, in nats a token.
    pub valid: Option<f64>,
    /// Whether that, or else the loss while learning, is the best so far: these weights are the run's then.
    pub best: bool,
    /// Seconds of training so far, in all processes that took part.
    pub seconds: f64,
}

/// Who is told, and may stop it.
pub trait Watch {
    /// After each window.
    fn stepped(&mut self, _: &Stepped, _: &dyn LanguageModel) {}
    /// Before an evaluation.
    fn measuring(&mut self) {}
    /// After each evaluation.
    fn measured(&mut self, _: &Measured, _: &dyn LanguageModel) {}
    /// Whether to write a checkpoint and come back.
    fn stop(&self) -> bool {
        false
    }
}

/// Why [`Fit::train_on`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All epochs are done.
    Done,
    /// Nothing better came for as long as the settings wait.
    Early,
    /// It was told to stop, and can go on.
    Stopped,
}

impl Fit {
    /// A new run in a folder that is not there yet, or has nothing in it: its corpus is read, its tokenizer made, its model drawn,
    /// or begun with the weights of another run ([`Run::at_first`]). Where anything is wrong nothing is left of it.
    ///
    /// # Errors
    /// Where the folder is in the way, a setting is out of its range, or the corpus cannot be read or is too short.
    pub fn begin(folder: impl AsRef<Path>, config: &Config, device: &Device) -> Result<Self> {
        let folder = folder.as_ref();
        config.check()?;
        let begun = Begun::new(folder)?;
        let texts = Texts::open(config)?;
        let run = Run::new(folder, config.clone(), texts.tokenizer(config)?);
        let parts = Parts::new(&run, &texts, run.at_first(Way::Fused, device)?)?;
        run.write()?;
        run.write_context(&parts.valid.as_ref().unwrap_or(&parts.train).source())?;
        let metrics = Metrics::open(run.path(METRICS), 0)?;
        keep(&run, &parts.trainer, parts.model.as_ref(), &parts.since)?;
        Ok(Self::of(run, parts, metrics, begun.keep()?))
    }

    /// Goes on with a run from its last checkpoint; from its beginning where it has neither that nor weights. With `epochs` it
    /// goes on to another number of them, which its settings then say. Where the best weights are missing, those of the
    /// checkpoint take their place.
    ///
    /// # Errors
    /// Where a file of it is missing or wrong, another process trains it, or its corpus or its settings are not what they were.
    pub fn resume(folder: impl AsRef<Path>, epochs: Option<usize>, device: &Device) -> Result<Self> {
        let folder = folder.as_ref();
        // What is no run has no lock either; what counts is what is read once no other process writes it.
        Run::settings(folder)?;
        let lock = Lock::take(folder)?;
        let mut run = Run::open(folder)?;
        if run.config.data.corpus.is_empty() {
            return Err(Error::invalid(
                run.path(super::CONFIG).display(),
                "data.corpus, to learn from",
                "none",
            )
            .hint(format!(
                "a run without a corpus can be used; `rnn-lm train CORPUS --warm-start {}` begins with its weights",
                quoted(folder)
            )));
        }
        let checkpoint = run.has(CHECKPOINT)?.then(|| Checkpoint::read(run.path(CHECKPOINT))).transpose();
        let anew = || format!("`rnn-lm train CORPUS --config {}` begins anew", quoted(&run.path(CONFIG)));
        let checkpoint = checkpoint.map_err(|error| error.hint(anew()))?;
        let was: Option<Since> = checkpoint.as_ref().map(Checkpoint::notes).transpose()?;
        match &was {
            Some(was) => was.check_settings(&run)?,
            // Weights that were trained elsewhere, or whose checkpoint is lost, are not to be written over.
            None if run.has(MODEL)? => {
                return Err(Error::invalid(
                    run.folder().display(),
                    format!("a run with {CHECKPOINT}, to go on from"),
                    format!("one with {MODEL} and without that"),
                )
                .hint(anew()));
            }
            None => {}
        }
        if run.has(MODEL)? {
            // Before a training that would end at it.
            run.parameters().map_err(|error| {
                error.hint(format!("remove it, and the weights of {CHECKPOINT} take its place"))
            })?;
        }
        if let Some(epochs) = epochs {
            run.config.training.epochs = epochs;
            run.config.check()?;
        }
        let texts = Texts::open(&run.config).map_err(|error| moved(error, &run))?;
        let model = match checkpoint {
            Some(_) => run.untrained(Way::Fused, device),
            None => run.at_first(Way::Fused, device),
        };
        let mut parts = Parts::new(&run, &texts, model?)?;
        if let (Some(checkpoint), Some(was)) = (checkpoint, was) {
            same_texts(&run, &was.corpus, &parts.since.corpus)?;
            parts.trainer.resume(parts.model.as_mut(), &checkpoint)?;
            let since = Since { settings: std::mem::take(&mut parts.since.settings), ..was };
            parts.since = since;
        } else if !run.has(CONTEXT)? {
            // It was ended before this was written.
            run.write_context(&parts.valid.as_ref().unwrap_or(&parts.train).source())?;
        }
        if let Some(epochs) = epochs {
            let done = parts.trainer.epochs();
            if epochs < done {
                return Err(Error::invalid(
                    "Fit::resume: epochs",
                    format!("at least the {done} that are done"),
                    epochs,
                ));
            }
        }
        // It may have been ended a moment before it was whole.
        begun::whole(run.folder())?;
        let metrics = Metrics::open(run.path(METRICS), parts.since.tokens)?;
        // The best weights may be gone, those of the checkpoint are there.
        let measured = parts.trainer.best().is_some() || parts.since.beside.is_some();
        if measured && !run.has(MODEL)? {
            let Parts { valid, model, trainer, since, .. } = &mut parts;
            let valid = valid.as_ref().map(Ids::some).transpose()?;
            let loss = measure(trainer, model.as_mut(), valid.as_deref(), run.config.training.batch)?;
            // Without a text to measure on whatever comes next takes their place.
            since.kept = Some(loss.unwrap_or(f64::MAX));
            // Before the weights, which are missing until they are there.
            keep(&run, trainer, model.as_ref(), since)?;
            trainer.with_average(model.as_mut(), |model| run.save(model))?;
        }
        if epochs.is_some() {
            // Last: where anything failed, the run is to end where it was to.
            run.write_config()?;
        }
        Ok(Self::of(run, parts, metrics, lock))
    }

    fn of(run: Run, parts: Parts, metrics: Metrics, lock: Lock) -> Self {
        let Parts { train, valid, total_steps, model, trainer, since } = parts;
        Self { run, train, valid, total_steps, model, trainer, metrics, since, _lock: lock }
    }

    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Its model, as far as it has learnt.
    pub fn model(&self) -> &dyn LanguageModel {
        self.model.as_ref()
    }

    /// What it learns from.
    pub fn train(&self) -> &Ids {
        &self.train
    }

    /// What it is measured on.
    pub fn valid(&self) -> Option<&Ids> {
        self.valid.as_ref()
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.trainer.steps()
    }

    /// Steps of all epochs together.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// Trains to the end, or until it is told to stop.
    ///
    /// # Errors
    /// [`Error::Diverged`], after which the last checkpoint stands as it was; and where a file cannot be written.
    pub fn train_on(&mut self, watch: &mut dyn Watch) -> Result<End> {
        let Self { run, train, valid, model, trainer, metrics, since, .. } = self;
        let model = model.as_mut();
        let config = &run.config;
        let batches = Windows::new(config, train)?;
        let valid = valid.as_ref().map(Ids::some).transpose()?;
        let training = &config.training;
        let (mut clock, mut saved) = (Instant::now(), Instant::now());
        loop {
            if training.stop_after > 0 && trainer.since_best() >= training.stop_after {
                return Ok(End::Early);
            }
            let (epoch, before, lr) = (trainer.epochs(), trainer.steps(), trainer.lr());
            let windows = batches.windows(epoch);
            let over = epoch >= training.epochs;
            // An end that was moved to where nothing is due is measured as well.
            if over && (metrics.reach(since.tokens) || since.targets == 0) {
                return Ok(End::Done);
            }
            if !over {
                let window = batches.window(epoch, trainer.read())?;
                let loss = trainer.step(model, &window)?;
                since.nats += (loss - model.penalty()) * window.targets as f64;
                since.targets += window.targets;
                since.tokens += window.targets;
            }
            let read = trainer.read();
            let ends = !over && read == windows;
            if ends {
                trainer.epoch_ends(model)?;
            }
            let at = Stepped {
                epoch: (if over { epoch } else { epoch + 1 }, training.epochs),
                window: (read, windows),
                step: trainer.steps(),
                loss: since.nats / since.targets as f64,
                tokens: since.tokens,
                lr,
            };
            if !over {
                watch.stepped(&at, model);
            }
            let stop = watch.stop();
            let stepped = trainer.steps() > before;
            let due = match training.evaluate_every {
                0 => ends,
                every => stepped && trainer.steps().is_multiple_of(every),
            };
            let last = over || (ends && trainer.epochs() == training.epochs);
            if due || last {
                watch.measuring();
                let measured = measure(trainer, model, valid.as_deref(), training.batch)?;
                let loss = measured.unwrap_or(at.loss);
                let lowest = is_best(trainer, since, loss, due);
                let best = lowest || since.kept.is_some_and(|kept| loss < kept);
                if best {
                    trainer.with_average(model, |model| run.save(model))?;
                    since.kept = since.kept.filter(|_| !lowest).map(|_| loss);
                }
                if due {
                    (since.nats, since.targets) = (0.0, 0);
                }
                since.seconds += std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
                // Before the checkpoint: a line too many is taken back, one that is missing is not made up for.
                metrics.write(&json!({
                    "step": at.step, "epoch": at.epoch.0, "tokens": at.tokens, "lr": at.lr,
                    "train_loss": at.loss, "valid_loss": measured, "best": best, "seconds": since.seconds,
                }))?;
                keep(run, trainer, model, since)?;
                saved = Instant::now();
                watch.measured(&Measured { at, valid: measured, best, seconds: since.seconds }, model);
            } else if stop || saved.elapsed() > PAUSE {
                since.seconds += std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
                keep(run, trainer, model, since)?;
                saved = Instant::now();
            }
            if stop {
                return Ok(End::Stopped);
            }
        }
    }
}

/// Whether a loss is the best so far. The trainer takes in one that was due; that of an end which falls between two evaluations is
/// kept beside it, so that more epochs are what they would have been from the start.
fn is_best(trainer: &mut Trainer, since: &mut Since, loss: f64, due: bool) -> bool {
    let taken = if due { trainer.observe(loss) } else { trainer.best().is_none_or(|best| loss < best) };
    let best = taken && since.beside.is_none_or(|beside| loss < beside);
    if best && !due {
        since.beside = Some(loss);
    }
    best
}

/// Writes where it stands.
fn keep(run: &Run, trainer: &Trainer, model: &dyn LanguageModel, since: &Since) -> Result<()> {
    let path = run.path(CHECKPOINT);
    if let Some(folder) = path.parent() {
        // Not the run's own, which may have been removed meanwhile: a checkpoint alone is no run.
        match fs::create_dir(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io(folder)(error));
            }
            _ => {}
        }
    }
    trainer.checkpoint(model)?.with_notes(since)?.write(&path)
}

/// Time between two checkpoints, beside those at evaluations.
const PAUSE: Duration = Duration::from_secs(60);

/// The loss of the text to measure on, of the mean of the weights where there is one; in as many streams as are trained
/// on, which is faster than one and tells evaluations apart as well.
fn measure(
    trainer: &Trainer,
    model: &mut dyn LanguageModel,
    valid: Option<&[u32]>,
    batch: usize,
) -> Result<Option<f64>> {
    let Some(valid) = valid else { return Ok(None) };
    let order = evaluate::Order::Streams { batch: batch.min(valid.len() - 1) };
    let measured = trainer.with_average(model, |model| order.evaluate(model, valid, evaluate::TIME, None))?;
    let loss = measured.loss();
    // Ten times what knowing nothing costs: no model that learns is ever there.
    let most = 10.0 * (model.vocabulary().max(2) as f64).ln();
    if loss.is_nan() || loss > most {
        let step = usize::try_from(trainer.steps()).unwrap_or(usize::MAX);
        return Err(Error::Diverged { step, what: "loss of an evaluation", value: loss });
    }
    Ok(Some(loss))
}

fn ids(texts: &Texts, run: &Run) -> Result<(Ids, Option<Ids>)> {
    let Run { config, tokenizer, .. } = run;
    let large = config.data.memory.saturating_mul(1 << 20);
    let ids = |text, first, cache| Ids::encode(text, tokenizer, first, (&run.path(cache), large));
    let train = ids(&texts.train, config.data.first, TRAIN_IDS)?;
    let valid = texts.valid.as_ref().map(|text| ids(text, 0, VALID_IDS));
    let valid = valid.transpose()?;
    if let Some(valid) = valid.as_ref().filter(|valid| valid.source().len() < 2) {
        return Err(Error::invalid("the text to measure on", "at least 2 tokens", valid.source().len())
            .hint("take a longer one, or none: --holdout 0 without --valid"));
    }
    Ok((train, valid))
}
