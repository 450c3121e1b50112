//! Every setting of a run as a flag: `model.hidden` is `--hidden`, `dropout.input` is `--dropout-input`. A flag goes before the
//! file of `--config`, that before the preset, that before what the text suggests.

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use rnn_lm::config::{Config, PRESETS, Setting};
use rnn_lm::data::TextFile;
use std::path::PathBuf;

/// What a run may be made of.
#[derive(Debug, Args)]
pub(super) struct Base {
    /// A recipe to begin with; `rnn-lm config --list` has them all
    #[arg(long, value_name = "NAME")]
    pub(super) preset: Option<String>,
    /// A file of settings, as `config.toml` of a run is one
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The rate of all dropout at the ends and between layers
    #[arg(long, value_name = "RATE", help_heading = "dropout")]
    pub(super) dropout: Option<f64>,
}

/// Commands that take settings.
const TAKE_SETTINGS: [&str; 4] = ["train", "lr-find", "config", "import"];

/// The command line with a flag for each setting.
pub(super) fn added_to(command: Command) -> Result<Command> {
    let settings = Config::settings()?;
    let mut command = command;
    for name in TAKE_SETTINGS {
        let flags: Vec<Arg> = settings.iter().filter(|setting| is_flag(setting)).map(flag).collect();
        command = command.mut_subcommand(name, |command| command.args(flags));
    }
    Ok(command)
}

/// Files are said otherwise.
fn is_flag(setting: &Setting) -> bool {
    !matches!(setting.name, "corpus" | "valid")
}

fn name(setting: &Setting) -> String {
    let name = setting.name.replace('_', "-");
    if setting.section == "dropout" { format!("dropout-{name}") } else { name }
}

fn flag(setting: &Setting) -> Arg {
    let name = name(setting);
    let (value, is_switch) = match setting.default {
        toml::Value::Integer(_) => ("N", false),
        toml::Value::Float(_) => ("X", false),
        toml::Value::Boolean(_) => ("true|false", true),
        toml::Value::Array(_) => ("N,N,...", false),
        _ => ("NAME", false),
    };
    let arg = Arg::new(name.clone())
        .long(name)
        .value_name(value)
        .help(setting.about)
        .help_heading(setting.section)
        .allow_negative_numbers(true)
        .action(ArgAction::Set);
    if is_switch { arg.num_args(0..=1).require_equals(true).default_missing_value("true") } else { arg }
}

impl Base {
    /// What the flags, the file, the preset and the text make together.
    pub(super) fn settings(&self, text: Option<&TextFile>, flags: &ArgMatches) -> Result<Config> {
        let mut config = match (&self.preset, text) {
            (Some(preset), _) => Config::preset(preset).context("--preset")?,
            (None, Some(text)) => {
                // What is no unit is refused below, with all other settings.
                let unit = flags.try_get_one::<String>("tokens").ok().flatten();
                Config::suggest(text, unit.and_then(|unit| unit.parse().ok()))?
            }
            (None, None) => Config::default(),
        };
        if let Some(path) = &self.config {
            let bytes = rnn_core::border::file::read(path).context("--config")?;
            let text = String::from_utf8(bytes).with_context(|| format!("--config {}", path.display()))?;
            config = Config::parse(&path.display().to_string(), &text, &config)?;
        }
        if let Some(rate) = self.dropout {
            let rate = rate.to_string();
            for place in ["input", "between", "output"] {
                config = config.with("dropout", place, &rate).context("--dropout")?;
            }
        }
        for setting in Config::settings()?.iter().filter(|setting| is_flag(setting)) {
            let name = name(setting);
            if let Some(value) = flags.try_get_one::<String>(&name).ok().flatten() {
                config =
                    config.with(setting.section, setting.name, value).with_context(|| format!("--{name}"))?;
            }
        }
        // What was only suggested gives way to what was said and does not go with it.
        let model = &mut config.model;
        let said = self.preset.is_some() || self.config.is_some() || flags.contains_id("tied");
        if model.tied && !said {
            let output = if model.last == 0 { model.hidden } else { model.last };
            model.tied = model.embed == output && model.cutoffs.is_empty();
        }
        config.check()?;
        Ok(config)
    }
}

/// All presets, a line each.
pub(super) fn presets() -> String {
    PRESETS.iter().map(|(name, about)| format!("{name:<16}{about}\n")).collect()
}
