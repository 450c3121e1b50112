//! A run's training, begun in a folder, or gone on with from its last checkpoint with the bits that it would have had.

use super::begun;
use super::files::{TRAIN_IDS, VALID_IDS};
use super::known::{fingerprint, moved, same_texts, same_tokenizer};
use super::metrics::Metrics;
use super::since::Since;
use super::training::{Training, keep, measure};
use super::weights;
use super::windows::Windows;
use super::{Begun, CHECKPOINT, CONFIG, CONTEXT, End, Ids, Lock, METRICS, MODEL, Run, Texts, Watch, quoted};
use crate::config::Config;
use crate::train::{Checkpoint, Trainer};
use crate::{Error, LanguageModel, Result};
use candle_core::Device;
use rnn_core::Way;
use std::path::Path;

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
        let (corpus, settings) = (fingerprint(&train, valid.as_ref()), run.config.to_toml()?);
        let since = Since { corpus, settings, tokenizer: run.tokenizer.fingerprint(), ..Since::default() };
        Ok(Self { train, valid, total_steps, model, trainer, since })
    }
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
        let checkpoint = last(&run)?;
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
        if let Some((checkpoint, was)) = checkpoint {
            same_texts(&run, &was.corpus, &parts.since.corpus)?;
            parts.trainer.resume(parts.model.as_mut(), &checkpoint)?;
            if run.has(MODEL)? {
                // Before a training that would end at them.
                weights::check(parts.model.as_ref(), &run).map_err(|error| {
                    error.hint(format!("remove it, and the weights of {CHECKPOINT} take its place"))
                })?;
            }
            let Since { settings, tokenizer, .. } = parts.since;
            parts.since = Since { settings, tokenizer, ..was };
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
        replace_lost(&run, &mut parts)?;
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
        let windows = Windows::new(&run.config, train)?;
        let valid = valid.as_ref().map(Ids::some).transpose()?;
        Training::new((run, windows, valid), (model.as_mut(), trainer), (metrics, since)).go_on(watch)
    }
}

/// The last checkpoint of a run, and what stands in it. None where there are no weights either: nothing was learnt yet.
fn last(run: &Run) -> Result<Option<(Checkpoint, Since)>> {
    let anew = || format!("`rnn-lm train CORPUS --config {}` begins anew", quoted(&run.path(CONFIG)));
    if !run.has(CHECKPOINT)? {
        if !run.has(MODEL)? {
            return Ok(None);
        }
        // Weights that were trained elsewhere, or whose checkpoint is lost, are not to be written over.
        return Err(Error::invalid(
            run.folder().display(),
            format!("a run with {CHECKPOINT}, to go on from"),
            format!("one with {MODEL} and without that"),
        )
        .hint(anew()));
    }
    let checkpoint = Checkpoint::read(run.path(CHECKPOINT)).map_err(|error| error.hint(anew()))?;
    let was: Since = checkpoint.notes()?;
    was.check_settings(run)?;
    same_tokenizer(run, &was.tokenizer)?;
    Ok(Some((checkpoint, was)))
}

/// The best weights may be gone; those of the checkpoint are there, and take their place.
fn replace_lost(run: &Run, parts: &mut Parts) -> Result<()> {
    let Parts { valid, model, trainer, since, .. } = parts;
    let measured = trainer.best().is_some() || since.beside.is_some() || since.kept.is_some();
    if !measured || run.has(MODEL)? {
        return Ok(());
    }
    let valid = valid.as_ref().map(Ids::some).transpose()?;
    let loss = measure(trainer, model.as_mut(), valid.as_deref(), run.config.training.batch)?;
    // Without a text to measure on whatever comes next takes their place.
    since.kept = Some(loss.unwrap_or(f64::MAX));
    // Before the weights, which are missing until they are there.
    keep(run, trainer, model.as_ref(), since)?;
    trainer.with_average(model.as_mut(), |model| run.save(model))
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
