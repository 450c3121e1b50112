//! Every setting of a run as a flag: `model.hidden` is `--hidden`, `dropout.input` is `--dropout-input`. A flag goes before the
//! file of `--config`, that before the model and the tokens of a warm start's run, these before the preset, and that before what
//! the text suggests.

use super::Session;
use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, ValueHint};
use rnn_lm::config::{Config, Data, Idle, PRESETS, Setting};
use rnn_lm::data::TextFile;
use rnn_lm::run::{Run, TOKENIZER};
use rnn_lm::tokenizer::{Tokenizer, Unit};
use std::path::PathBuf;

/// What a run may be made of.
#[derive(Debug, Args)]
pub(super) struct Base {
    /// A recipe to begin with; `rnn-lm config --list` says what each is
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PRESETS.map(|(name, _)| name)), hide_possible_values = true)]
    pub(super) preset: Option<String>,
    /// A file of settings, as `config.toml` of a run is one
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The rate of all dropout at the ends and between layers
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(super) dropout: Option<f64>,
}

/// What `--dropout` sets.
const OF_DROPOUT: [&str; 3] = ["input", "between", "output"];

/// Commands that take settings.
const TAKE_SETTINGS: [&str; 4] = ["train", "lr-find", "config", "import"];

/// The command line with a flag for each setting.
pub(super) fn added_to(command: Command) -> Result<Command> {
    let settings = Config::settings()?;
    let mut command = command;
    for name in TAKE_SETTINGS {
        // What weights from elsewhere are is seen from them.
        let all = name != "import";
        let taken = settings.iter().filter(|setting| is_flag(setting) && (all || setting.section == "data"));
        let flags: Vec<Arg> = taken.map(flag).collect();
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
    let elsewhere = setting.elsewhere.iter().map(|name| name.replace('_', "-"));
    let arg = Arg::new(name.clone())
        .long(name)
        .aliases(elsewhere)
        .value_name(value)
        .help(setting.about)
        .help_heading(setting.section)
        .allow_negative_numbers(true)
        .value_hint(match setting.name {
            "tokenizer" => ValueHint::FilePath,
            "warm_start" => ValueHint::DirPath,
            _ => ValueHint::Other,
        })
        .action(ArgAction::Set);
    if is_switch { arg.num_args(0..=1).require_equals(true).default_missing_value("true") } else { arg }
}

/// What the flags, the file, the preset and the text make together.
pub(super) struct Settings<'a> {
    pub(super) config: Config,
    said: Said<'a>,
}

/// Where settings come from that somebody said.
struct Said<'a> {
    flags: &'a ArgMatches,
    file: Option<toml::Table>,
    preset: Option<String>,
}

impl Said<'_> {
    fn in_file(&self, section: &str, name: &str) -> Option<&toml::Value> {
        self.file.as_ref()?.get(section)?.get(name)
    }

    /// Whether a flag or the file says a setting.
    fn says(&self, section: &str, name: &str) -> bool {
        said(self.flags, &name.replace('_', "-")).is_some() || self.in_file(section, name).is_some()
    }

    /// The run whose weights it begins with, if one is said.
    fn warm_start(&self) -> Result<Option<Run>> {
        const NAME: &str = "warm_start";
        let by_flag =
            said(self.flags, &NAME.replace('_', "-")).map(|folder| (folder.as_str(), "--warm-start"));
        let in_file = || Some((self.in_file("model", NAME)?.as_str()?, "model.warm_start"));
        let said = by_flag.or_else(in_file).filter(|(folder, _)| !folder.is_empty());
        said.map(|(folder, by)| Run::open(folder).context(by)).transpose()
    }

    /// Whether a setting is what the text suggests: neither a flag, a file nor a preset says it.
    fn leaves(&self, section: &str, name: &str) -> bool {
        self.preset.is_none() && !self.says(section, name)
    }

    /// What a token is, where somebody said it: by its name, by a tokenizer, or by the run that it begins with. What is no unit is
    /// refused with all other settings.
    fn unit(&self, before: Option<&Run>) -> Result<Option<Unit>> {
        let say = |name| {
            let in_file = || Some(self.in_file("data", name)?.as_str()?.to_string());
            said(self.flags, name).cloned().or_else(in_file)
        };
        let named = say("tokens").and_then(|unit| unit.parse().ok());
        Ok(match (named, say("tokenizer")) {
            (None, Some(path)) if !path.is_empty() => {
                let by_flag = said(self.flags, "tokenizer").is_some();
                let by = if by_flag { "--tokenizer" } else { "data.tokenizer" };
                Some(Tokenizer::open(path).context(by)?.unit())
            }
            (unit, _) => unit.or_else(|| before.map(|run| run.tokenizer.unit())),
        })
    }

    /// What was only suggested gives way to what was said and does not go with it.
    fn settle(&self, config: &mut Config, text: Option<&TextFile>) -> Result<()> {
        if config.model.tied && self.leaves("model", "tied") {
            let model = &mut config.model;
            let output = if model.last == 0 { model.hidden } else { model.last };
            model.tied = model.embed == output && model.cutoffs.is_empty();
        }
        let suggested = |name| self.leaves("training", name);
        if suggested("lr") && !suggested("rule") {
            config.suggest_rate();
        }
        if suggested("clip_norm") && config.training.clip_value > 0.0 {
            config.training.clip_norm = 0.0;
        }
        if let Some(text) = text {
            if suggested("batch") && suggested("time") {
                config.suggest_windows(text)?;
            }
            if suggested("epochs") {
                config.training.epochs = *config.suggest_epochs(text)?.start();
            }
            if suggested("warmup") {
                config.suggest_warmup(text)?;
            }
        }
        Ok(())
    }
}

impl Settings<'_> {
    /// Tells what was said and does not go together, or has no effect.
    pub(super) fn say_notes(&self, session: &Session) {
        for what in self.without_effect().into_iter().chain(self.rate_of_another_rule()) {
            session.say(format_args!("note     {what}"));
        }
    }

    /// A preset's rate is for the preset's rule.
    fn rate_of_another_rule(&self) -> Option<String> {
        let preset = self.said.preset.as_ref()?;
        let (of_preset, training) = (Config::preset(preset).ok()?.training, &self.config.training);
        let other = of_preset.rule != training.rule;
        (other && !self.said.says("training", "lr")).then(|| {
            format!(
                "the rate {} is that of {preset} for {}, and the rule is {}: --lr says another",
                training.lr, of_preset.rule, training.rule
            )
        })
    }

    /// What was said and has no effect, with what it is for.
    fn without_effect(&self) -> Vec<String> {
        let Said { flags, .. } = &self.said;
        let idle = self.config.idle().into_iter().filter_map(|Idle { section, name, purpose }| {
            let flag = flag_of(&format!("{section}.{name}"), flags).map(|flag| format!("--{flag}"));
            // One rate for all places is not meant for each.
            let flag = flag.filter(|flag| flag != "--dropout");
            Some(format!("{} has no effect here: it is for {purpose}", flag?))
        });
        idle.collect()
    }

    /// Whether a setting is what the text suggests.
    pub(super) fn is_suggested(&self, section: &str, name: &str) -> bool {
        self.said.leaves(section, name)
    }
}

impl Base {
    /// All of them.
    pub(super) fn settings<'a>(
        &self,
        text: Option<&TextFile>,
        flags: &'a ArgMatches,
    ) -> Result<Settings<'a>> {
        let file = match &self.config {
            Some(path) => {
                let text = rnn_lm::data::read_text(path).context("--config")?;
                Some((path.display().to_string(), text))
            }
            None => None,
        };
        // What is wrong in it is said below.
        let table = file.as_ref().and_then(|(_, text)| toml::from_str(text).ok());
        let from = Said { flags, file: table, preset: self.preset.clone() };
        let before = from.warm_start()?;
        let mut config = match (&self.preset, text) {
            (Some(preset), _) => Config::preset(preset).context("--preset")?,
            (None, Some(text)) => Config::suggest(text, from.unit(before.as_ref())?)?,
            (None, None) => Config::default(),
        };
        if let Some(run) = before {
            // What its weights are of.
            let tokenizer = run.path(TOKENIZER).display().to_string();
            config.data = Data { tokens: run.config.data.tokens, tokenizer, ..config.data };
            config.model = run.config.model;
        }
        let of_file = match &file {
            Some((name, text)) => {
                config = Config::parse(name, text, &config)?;
                Some((config.clone(), name, text))
            }
            None => None,
        };
        if let Some(rate) = self.dropout {
            let rate = rate.to_string();
            for place in OF_DROPOUT {
                config = config.with("dropout", place, &rate)?;
            }
        }
        let settings = Config::settings()?;
        for setting in settings.iter().filter(|setting| is_flag(setting)) {
            let name = name(setting);
            if let Some(value) = said(flags, &name) {
                config = config.with(setting.section, setting.name, value)?;
            }
        }
        from.settle(&mut config, text)?;
        config.check().or_else(|error| match &of_file {
            // What is wrong in the file has its line, what flags made wrong has not.
            Some((of_file, name, text)) => of_file.check_file(name, text).and(Err(error)),
            None => Err(error),
        })?;
        Ok(Settings { config, said: from })
    }
}

/// The flag that said a setting, `section.name`, if one did.
pub(super) fn flag_of(setting: &str, flags: &ArgMatches) -> Option<String> {
    let settings = Config::settings().ok()?;
    let of = settings.iter().find(|of| setting == format!("{}.{}", of.section, of.name))?;
    let of_all = of.section == "dropout" && OF_DROPOUT.contains(&of.name);
    let dropout = || flags.try_get_one::<f64>("dropout").ok().flatten().is_some();
    match said(flags, &name(of)) {
        Some(_) => Some(name(of)),
        None => (of_all && dropout()).then(|| "dropout".into()),
    }
}

/// The value of a flag, if it was given.
pub(super) fn said<'a>(flags: &'a ArgMatches, name: &str) -> Option<&'a String> {
    flags.try_get_one(name).ok().flatten()
}

/// All presets, a line each.
pub(super) fn presets() -> String {
    PRESETS.iter().map(|(name, about)| format!("{name:<16}{about}\n")).collect()
}
