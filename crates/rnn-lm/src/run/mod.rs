//! A run: a model, how it came to be, and what it needs to be used or to go on, in one folder.
//!
//! | file | what |
//! |---|---|
//! | `config.toml` | every setting: the same file gives the same run |
//! | `tokenizer.json` | from text to ids, as Hugging Face's `tokenizers` has it |
//! | `model.safetensors` | the weights that measured best, under PyTorch's names |
//! | `metrics.jsonl` | what was measured, a line each |
//! | `checkpoints/latest.safetensors` | where the training stands |
//! | `context.txt` | what a text goes on from where nobody says a prompt; anything can stand there, or nothing |
//! | `cache/` | ids of a corpus that memory has no room for; made again where it is missing |
//! | `lock` | empty; held by the process that trains |
//! | `unfinished` | there while the others are made |
//!
//! [`Run::open`] is for using one, [`Fit`] for training one. A folder written by hand that has the first three files is used like
//! any other; it has no checkpoint that a training could go on from.

mod begun;
mod context;
mod corpus;
mod files;
mod fit;
mod import;
mod known;
mod lock;
mod metrics;
mod since;
mod training;
mod watch;
mod weights;
mod windows;

pub use begun::{Begun, abandon, vacant};
pub use corpus::{Ids, Texts};
pub use files::{CHECKPOINT, CONFIG, CONTEXT, METRICS, MODEL, TOKENIZER};
pub use fit::Fit;
pub use import::{Imported, Layout};
pub use lock::Lock;
pub use watch::{End, Measured, Stepped, Watch};
pub use windows::Windows;

use crate::config::{Config, Model, Rates};
use crate::data::read_text;
use crate::tokenizer::Tokenizer;
use crate::{Error, LanguageModel, Result};
use candle_core::{Device, Tensor};
use rnn_core::Way;
use rnn_core::border::file;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A run's folder, its settings and its tokenizer.
///
/// ```
/// use candle_core::Device;
/// use rnn_core::Way;
/// use rnn_lm::config::Config;
/// use rnn_lm::run::Run;
/// use rnn_lm::tokenizer::{Options, Tokenizer, Unit};
/// let config = Config::default().with("model", "hidden", "8")?;
/// let tokenizer = Tokenizer::train(b"you say goodbye\n", &Options::new(Unit::Word))?;
/// let folder = std::env::temp_dir().join(format!("an-untrained-run-{}", std::process::id()));
/// let run = Run::new(&folder, config, tokenizer);
/// run.write()?;
/// run.save(run.untrained(Way::Fused, &Device::Cpu)?.as_ref())?;
/// let model = Run::open(&folder)?.model(Way::Fused, &Device::Cpu)?;
/// assert_eq!(model.vocabulary(), 5); // three words, <eos> and <unk>
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Run {
    folder: PathBuf,
    /// Its settings.
    pub config: Config,
    /// Its tokens.
    pub tokenizer: Tokenizer,
}

impl Run {
    /// Opens one.
    ///
    /// # Errors
    /// Where a file is missing or wrong.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let config = Self::settings(folder)?;
        let (path, text) = read(folder, TOKENIZER)?;
        let tokenizer = Tokenizer::from_json(&path.display().to_string(), &text)?;
        let unit = config.tokens()?.unit;
        if tokenizer.unit() != unit {
            let got = format!("data.tokens = \"{unit}\" in {CONFIG}");
            let want = format!("{}, as {TOKENIZER} has it", tokenizer.unit());
            return Err(Error::invalid(folder.display(), want, got));
        }
        Ok(Self::new(folder, config, tokenizer))
    }

    /// What its settings are, which a folder that is no run has none of.
    fn settings(folder: &Path) -> Result<Config> {
        if !folder.is_dir() {
            let got = if folder.exists() { "a file" } else { "nothing of that name" };
            return Err(Error::invalid(folder.display(), "the folder of a run", got)
                .hint("`rnn-lm train CORPUS --out RUN` makes one"));
        }
        let (path, text) = read(folder, CONFIG)?;
        let name = path.display().to_string();
        let config = Config::parse(&name, &text, &Config::default())?;
        config.check_file(&name, &text)?;
        Ok(config)
    }

    /// One of settings and a tokenizer, which is nowhere yet.
    pub fn new(folder: impl AsRef<Path>, config: Config, tokenizer: Tokenizer) -> Self {
        Self { folder: folder.as_ref().into(), config, tokenizer }
    }

    /// Makes its folder, with its settings and its tokenizer; [`vacant`] says whether anything is in the way.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self) -> Result<()> {
        begun::make(&self.folder)?;
        self.write_config()?;
        Ok(file::write(&self.path(TOKENIZER), self.tokenizer.to_json()?.as_bytes())?)
    }

    /// Writes its settings.
    fn write_config(&self) -> Result<()> {
        Ok(file::write(&self.path(CONFIG), self.config.to_toml()?.as_bytes())?)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether a file of it is there.
    ///
    /// # Errors
    /// Where nobody may look.
    pub fn has(&self, name: &str) -> Result<bool> {
        there(&self.path(name))
    }

    /// What was measured while it was trained, an object each: the lines of `metrics.jsonl`, but for one that was cut off.
    ///
    /// # Errors
    /// Where the file cannot be read; that there is none is no error.
    pub fn measured(&self) -> Result<Vec<Value>> {
        metrics::read(&self.path(METRICS))
    }

    /// The model that its settings say, as it begins, in f32.
    ///
    /// # Errors
    /// Those of [`Config::untrained`].
    pub fn untrained(&self, way: Way, device: &Device) -> Result<Box<dyn LanguageModel>> {
        self.config.untrained(self.tokenizer.len(), way, device)
    }

    /// The model that its training begins with: with the weights of the run of `model.warm_start`, where the settings name one,
    /// else as [`Self::untrained`].
    ///
    /// # Errors
    /// Where that run cannot be read, is of another tokenizer, or its weights are not those of this model.
    pub fn at_first(&self, way: Way, device: &Device) -> Result<Box<dyn LanguageModel>> {
        let model = self.untrained(way, device)?;
        let from = &self.config.model.warm_start;
        if from.is_empty() {
            return Ok(model);
        }
        let other = Self::open(from)?;
        if other.tokenizer.fingerprint() != self.tokenizer.fingerprint() {
            let want = format!("a run of the same tokenizer, of {} tokens", self.tokenizer.len());
            let got = format!("{from} with another, of {}", other.tokenizer.len());
            return Err(Error::invalid("model.warm_start", want, got)
                .hint("its ids mean other tokens: without --tokens and --tokenizer its own are taken"));
        }
        let of = |model: &Model| {
            let Model { init, init_range, .. } = Model::default();
            let model = Model { init, init_range, warm_start: String::new(), ..model.clone() };
            Config { model, ..Config::default() }
        };
        let changed = of(&other.config.model).differences(&of(&self.config.model))?;
        if let Some((setting, was, is)) = changed.first() {
            let (want, got) =
                (format!("the model of {from}, {setting} = {was}"), format!("{setting} = {is}"));
            return Err(Error::invalid("model.warm_start", want, got)
                .hint("leave out what says so: all of its model is taken"));
        }
        weights::load(model.as_ref(), &other)?;
        Ok(model)
    }

    /// The model with the weights of `model.safetensors`.
    ///
    /// # Errors
    /// Where the file is missing, or its tensors are others than the settings say: all of them are named.
    pub fn model(&self, way: Way, device: &Device) -> Result<Box<dyn LanguageModel>> {
        let model = self.untrained(way, device)?;
        weights::load(model.as_ref(), self)?;
        Ok(model)
    }

    /// The same in a form that drops nothing when it learns, for [`crate::evaluate::Dynamic`].
    ///
    /// # Errors
    /// Those of [`Self::model`], and where it has zoneout: what that expects acts in evaluation, and nothing here learns
    /// through it.
    pub fn adaptable(&self, way: Way, device: &Device) -> Result<Box<dyn LanguageModel>> {
        let mut plain = self.clone();
        let Rates { zoneout_h, zoneout_c, .. } = self.config.dropout;
        if zoneout_h > 0.0 || zoneout_c > 0.0 {
            let got = format!("zoneout_h = {zoneout_h}, zoneout_c = {zoneout_c}");
            return Err(Error::invalid(
                self.folder.display(),
                "a model without zoneout, to go on learning",
                got,
            )
            .hint("--mode plain and --mode cache take it"));
        }
        plain.config.dropout = Rates::default();
        plain.model(way, device)
    }

    /// Writes a model's weights as the run's.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn save(&self, model: &dyn LanguageModel) -> Result<()> {
        let tensors = model.parameters().into_iter().map(|(name, var)| (name, var.into_inner()));
        weights::save(tensors, &self.path(MODEL), &self.tokenizer)
    }

    /// Writes these weights as those of a run that has none yet.
    ///
    /// # Errors
    /// Where they cannot be written, or are not those of its model: there is no file then.
    pub fn save_tensors(&self, tensors: Vec<(String, Tensor)>) -> Result<()> {
        let path = self.path(MODEL);
        if self.has(MODEL)? {
            return Err(Error::invalid(path.display(), "no weights yet", "a file"));
        }
        weights::save(tensors, &path, &self.tokenizer)?;
        self.model(Way::Fused, &Device::Cpu).map(drop).inspect_err(|_| drop(std::fs::remove_file(&path)))
    }
}

/// Whether a file is there; that nobody may look is no answer.
fn there(path: &Path) -> Result<bool> {
    path.try_exists().map_err(Error::io(path))
}

/// A path as a shell takes it, for commands that are shown.
///
/// ```
/// assert_eq!(rnn_lm::run::quoted("runs/my book".as_ref()), "'runs/my book'");
/// assert_eq!(rnn_lm::run::quoted("-book".as_ref()), "./-book"); // which is no flag
/// ```
pub fn quoted(path: &Path) -> String {
    let name = path.to_string_lossy();
    let name = if name.starts_with('-') { format!("./{name}").into() } else { name };
    // What has a zero byte is no path.
    shlex::try_quote(&name).map_or_else(|_| name.to_string(), |quoted| quoted.into_owned())
}

fn read(folder: &Path, name: &str) -> Result<(PathBuf, String)> {
    let path = folder.join(name);
    let text = read_text(&path).map_err(|error| match error.is_not_found() {
        true => Error::invalid(folder.display(), "the folder of a run", format!("one without {name}"))
            .hint("a run has config.toml, tokenizer.json and model.safetensors"),
        false => error,
    })?;
    Ok((path, text))
}
