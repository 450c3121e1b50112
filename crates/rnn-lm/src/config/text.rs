//! A configuration as text, there and back. What is wrong is named with its line, and with what was probably meant.

use super::{Config, Data, Model, PRESETS, Rates, Training};
use crate::{Error, Result};
use serde::Deserialize;
use toml::Table;
use toml::de::{DeTable, DeValue};

/// The sections of a file, each with its settings and what they are.
const SECTIONS: [(&str, &[(&str, &str)]); 4] = [
    ("data", Data::SETTINGS),
    ("model", Model::SETTINGS),
    ("dropout", Rates::SETTINGS),
    ("training", Training::SETTINGS),
];

/// What other programs call a setting.
const ELSEWHERE: [(&str, &str); 11] = [
    ("optimizer", "rule"),
    ("learning_rate", "lr"),
    ("weight_decay", "decay"),
    ("batch_size", "batch"),
    ("bptt", "time"),
    ("seq_len", "time"),
    ("hidden_size", "hidden"),
    ("num_layers", "layers"),
    ("embedding_dim", "embed"),
    ("vocab_size", "max_vocab"),
    ("early_stopping", "stop_after"),
];

/// A sentence of documentation as a comment.
fn comment(about: &'static str) -> &'static str {
    about.trim().trim_end_matches('.')
}

/// One setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its section.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What other programs call it.
    pub elsewhere: Vec<&'static str>,
    /// What it is.
    pub about: &'static str,
    /// What it is where nobody says otherwise, and of which type.
    pub default: toml::Value,
}

impl Config {
    /// All settings, in the order in which a file has them.
    ///
    /// # Errors
    /// Where TOML has no way to write one.
    pub fn settings() -> Result<Vec<Setting>> {
        let defaults = table_of(&Self::default())?;
        let mut settings = Vec::new();
        for (section, named) in SECTIONS {
            for (name, about) in named {
                let default = defaults.get(section).and_then(|section| section.get(*name));
                let default = default.cloned().unwrap_or(toml::Value::Boolean(false));
                let elsewhere = ELSEWHERE.iter().filter(|(_, ours)| ours == name).map(|(theirs, _)| *theirs);
                let elsewhere = elsewhere.collect();
                settings.push(Setting { section, name, elsewhere, about: comment(about), default });
            }
        }
        Ok(settings)
    }

    /// With one setting's value from text, as a command line has it.
    ///
    /// ```
    /// use rnn_lm::config::Config;
    /// let config = Config::default().with("model", "hidden", "300")?;
    /// assert_eq!(config.model.hidden, 300);
    /// assert!(Config::default().with("model", "hidden", "many").is_err());
    /// # rnn_lm::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where there is no such setting, or it has another type.
    pub fn with(&self, section: &str, name: &str, value: &str) -> Result<Self> {
        use toml::Value;
        let mut all = table_of(self)?;
        let setting = all.get_mut(section).and_then(|section| section.get_mut(name));
        let setting = setting
            .ok_or_else(|| Error::invalid("Config::with", "a setting", format!("{section}.{name}")))?;
        let kind = kind_of(setting);
        let wrong = || Error::invalid(format!("{section}.{name}"), kind, format!("{value:?}"));
        let whole = |text: &str| {
            let number = text.trim().parse().ok().filter(|&number: &i64| number >= 0);
            number.map(Value::Integer).ok_or_else(wrong)
        };
        *setting = match setting {
            Value::Integer(_) => whole(value)?,
            Value::Float(_) => Value::Float(value.trim().parse().map_err(|_| wrong())?),
            Value::Array(_) => {
                let numbers = value.split(',').filter(|number| !number.trim().is_empty());
                Value::Array(numbers.map(whole).collect::<Result<_>>()?)
            }
            Value::Boolean(_) => Value::Boolean(value.parse().map_err(|_| wrong())?),
            _ => Value::String(value.into()),
        };
        Self::deserialize(all).map_err(|_| wrong())
    }

    /// The settings that another configuration has otherwise: name, value here, value there.
    ///
    /// ```
    /// use rnn_lm::config::Config;
    /// let other = Config::default().with("training", "lr", "3")?;
    /// assert_eq!(Config::default().differences(&other)?, [("training.lr".into(), "10.0".into(), "3.0".into())]);
    /// # rnn_lm::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where TOML has no way to write one.
    pub fn differences(&self, other: &Self) -> Result<Vec<(String, String, String)>> {
        let (here, there) = (table_of(self)?, table_of(other)?);
        let mut differences = Vec::new();
        for (section, settings) in SECTIONS {
            for (name, _) in settings {
                let of = |all: &Table| {
                    all.get(section).and_then(|section| section.get(*name)).map(ToString::to_string)
                };
                let (here, there) = (of(&here).unwrap_or_default(), of(&there).unwrap_or_default());
                if here != there {
                    differences.push((format!("{section}.{name}"), here, there));
                }
            }
        }
        Ok(differences)
    }

    /// The preset of this name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn preset(name: &str) -> Result<Self> {
        super::presets::preset(name).ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            meant(Error::invalid("preset", names.join(", "), format!("{name:?}")), name, &names)
        })
    }

    /// `base` with the settings that `text` has instead; `name` is that of the file, for errors.
    ///
    /// # Errors
    /// Where it is no TOML, a setting does not exist or has another type: with the line, and the nearest name.
    pub fn parse(name: &str, text: &str, base: &Self) -> Result<Self> {
        let at = |error: &toml::de::Error, want: &str| {
            let line = error.span().map_or(1, |span| line(text, span.start));
            Error::invalid(format!("{name}:{line}"), want, plain(error.message()))
        };
        let wrong = |error: toml::de::Error| at(&error, "a value that fits");
        let table = DeTable::parse(text).map_err(|error| at(&error, "TOML"))?;
        let defaults = table_of(&Self::default())?;
        for (section, settings) in table.get_ref() {
            let at = format!("{name}:{}", line(text, section.span().start));
            let sections: Vec<&str> = SECTIONS.iter().map(|(section, _)| *section).collect();
            let known = SECTIONS.iter().find(|(known, _)| *known == section.get_ref());
            if known.is_some() && settings.get_ref().as_table().is_none() {
                let want = format!("[{}], and its settings below", section.get_ref());
                let got =
                    text.get(settings.span()).and_then(|value| value.lines().next()).unwrap_or_default();
                return Err(Error::invalid(at, want, got));
            }
            let (Some((_, known)), Some(settings)) = (known, settings.get_ref().as_table()) else {
                let named = section.get_ref();
                return Err(unknown(&at, "a section", named, &sections, called(named)));
            };
            let known: Vec<&str> = known.iter().map(|(setting, _)| *setting).collect();
            for (setting, value) in settings {
                let at = format!("{name}:{}", line(text, setting.span().start));
                if !known.contains(&&**setting.get_ref()) {
                    let what = format!("a setting of [{}]", section.get_ref());
                    return Err(unknown(&at, &what, setting.get_ref(), &known, called(setting.get_ref())));
                }
                let default = defaults.get(&**section.get_ref()).and_then(|of| of.get(&**setting.get_ref()));
                if let Some(default) = default.filter(|default| !fits(value.get_ref(), default)) {
                    let named = format!("{at}: {}.{}", section.get_ref(), setting.get_ref());
                    return Err(Error::invalid(named, kind_of(default), &text[value.span()]));
                }
            }
        }
        // What is named takes the place of what there was.
        let changes: Table = toml::from_str(text).map_err(wrong)?;
        let mut all = table_of(base)?;
        for (section, changes) in changes {
            let settings = all.get_mut(&section).and_then(toml::Value::as_table_mut);
            if let (Some(settings), toml::Value::Table(changes)) = (settings, changes) {
                settings.extend(changes);
            }
        }
        Self::deserialize(all).map_err(wrong)
    }

    /// All settings with a comment each, as [`Self::parse`] reads them.
    ///
    /// # Errors
    /// Where TOML has no way to write one.
    pub fn to_toml(&self) -> Result<String> {
        let all = table_of(self)?;
        let mut text = String::from("# All settings of a run; the same file gives the same run.\n");
        for (section, settings) in SECTIONS {
            text.push_str(&format!("\n[{section}]\n"));
            for (setting, about) in settings {
                let value = all.get(section).and_then(|section| section.get(setting));
                let value = value.map_or_else(String::new, toml::Value::to_string);
                let line = format!("{setting} = {value}");
                text.push_str(&format!("{line:<24} # {}\n", comment(about)));
            }
        }
        Ok(text)
    }
}

fn table_of(config: &Config) -> Result<Table> {
    Table::try_from(config).map_err(|error| Error::invalid("Config", "settings that TOML has", error))
}

/// What a setting can be, by what it is by default.
fn kind_of(default: &toml::Value) -> &'static str {
    match default {
        toml::Value::Integer(_) => "a whole number from 0 to 9223372036854775807",
        toml::Value::Float(_) => "a number",
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Array(_) => "whole numbers from 0 to 9223372036854775807",
        _ => "a text",
    }
}

/// Whether what a file says is that.
fn fits(value: &DeValue<'_>, default: &toml::Value) -> bool {
    let integer = |value: &DeValue<'_>| {
        let number = value.as_integer()?;
        i64::from_str_radix(number.as_str(), number.radix()).ok()
    };
    let whole = |value: &DeValue<'_>| integer(value).is_some_and(|number| number >= 0);
    // One that is written out and too large is none; `inf` is, and whoever needs a smaller one says so.
    let number = |value: &DeValue<'_>| match value.as_float() {
        Some(number) => {
            !number.as_str().parse::<f64>().is_ok_and(f64::is_infinite) || number.as_str().ends_with("inf")
        }
        None => integer(value).is_some(),
    };
    match default {
        toml::Value::Integer(_) => whole(value),
        toml::Value::Float(_) => number(value),
        toml::Value::Boolean(_) => value.is_bool(),
        toml::Value::Array(_) => {
            value.as_array().is_some_and(|all| all.iter().all(|one| whole(one.get_ref())))
        }
        _ => value.is_str(),
    }
}

/// What serde says, without the names of Rust's types.
fn plain(message: &str) -> String {
    let words = [
        ("usize", "a whole number of at least 0"),
        ("u64", "a whole number of at least 0"),
        ("f64", "a number"),
    ];
    words.iter().fold(message.to_string(), |message, (theirs, ours)| message.replace(theirs, ours))
}

/// The number of the line that this byte is in.
fn line(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count() + 1
}

/// The line of a file that says this `section.setting`.
pub(super) fn line_of(text: &str, setting: &str) -> Option<usize> {
    let (section, name) = setting.split_once('.')?;
    let table = DeTable::parse(text).ok()?;
    let settings = table.get_ref().iter().find(|(key, _)| **key.get_ref() == *section)?.1;
    let settings = settings.get_ref().as_table()?;
    let (key, _) = settings.iter().find(|(key, _)| **key.get_ref() == *name)?;
    Some(line(text, key.span().start))
}

/// The setting that is called so here or elsewhere: its section and its name.
fn called(setting: &str) -> Option<(&'static str, &'static str)> {
    let ours = ELSEWHERE.iter().find(|(theirs, _)| *theirs == setting).map_or(setting, |(_, ours)| *ours);
    let mut all =
        SECTIONS.iter().flat_map(|(section, named)| named.iter().map(|(name, _)| (*section, *name)));
    all.find(|(_, name)| *name == ours)
}

fn unknown(at: &str, what: &str, got: &str, known: &[&str], meant: Option<(&str, &str)>) -> Error {
    let error = Error::invalid(at, what, format!("{got:?}"));
    match (meant, nearest(got, known)) {
        (Some((section, name)), _) if name == got => error.hint(format!("it is a setting of [{section}]")),
        (Some((section, name)), _) => error.hint(format!("here it is {name}, of [{section}]")),
        (None, Some(near)) => error.hint(format!("did you mean {near}?")),
        (None, None) => error.hint(format!("there are {}", known.join(", "))),
    }
}

/// An error about a name that is none of these, with the one that is probably meant.
pub(super) fn meant(error: Error, got: &str, known: &[&str]) -> Error {
    match nearest(got, known) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error,
    }
}

/// The name that is meant, if one is near enough.
fn nearest<'a>(got: &str, known: &[&'a str]) -> Option<&'a str> {
    let got = &got.to_lowercase();
    let near = known.iter().map(|name| (strsim::jaro_winkler(got, name), *name));
    let near = near.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(likeness, _)| *likeness > 0.8);
    // Of a short name one letter, or two that changed places, are much of it.
    let slip = || known.iter().copied().find(|name| strsim::osa_distance(got, name) == 1);
    near.map(|(_, name)| name).or_else(slip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_comment_and_every_comment_a_setting() {
        let all = table_of(&Config::default()).unwrap();
        let names =
            |section: &str| -> Vec<String> { all[section].as_table().unwrap().keys().cloned().collect() };
        assert_eq!(all.len(), SECTIONS.len());
        for (section, settings) in SECTIONS {
            let mut commented: Vec<&str> = settings.iter().map(|(name, _)| *name).collect();
            commented.sort_unstable();
            let mut have = names(section);
            have.sort_unstable();
            assert_eq!(have, commented, "[{section}]");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_with_what_was_meant() {
        for (text, want) in [
            ("[modle]\nhidden = 3\n", "run.toml:1: expected a section, got \"modle\" (did you mean model?)"),
            ("hidden = 3\n", "run.toml:1: expected a section, got \"hidden\" (it is a setting of [model])"),
            (
                "[model]\n\nhiden = 3\n",
                "run.toml:3: expected a setting of [model], got \"hiden\" (did you mean hidden?)",
            ),
            (
                "[training]\noptimizer = \"adam\"\n",
                "run.toml:2: expected a setting of [training], got \"optimizer\" (here it is rule, of [training])",
            ),
            (
                "[model]\nlr = 3\n",
                "run.toml:2: expected a setting of [model], got \"lr\" (it is a setting of [training])",
            ),
            (
                "[model]\nhidden = \"big\"\n",
                "run.toml:2: model.hidden: expected a whole number from 0 to 9223372036854775807, got \"big\"",
            ),
            ("[model]\nhidden = -3\n", "run.toml:2: model.hidden: expected a whole number from 0 to"),
            ("[model]\nhidden = 99999999999999999999\n", "run.toml:2: model.hidden: expected a whole number"),
            (
                "[model]\ncutoffs = 3\n",
                "run.toml:2: model.cutoffs: expected whole numbers from 0 to 9223372036854775807, got 3",
            ),
            ("[model]\ntied = 1\n", "run.toml:2: model.tied: expected true or false, got 1"),
            ("[training]\nlr = \"1\"\n", "run.toml:2: training.lr: expected a number, got \"1\""),
            ("[data]\ntokens = 3\n", "run.toml:2: data.tokens: expected a text, got 3"),
            ("[model]\nhidden = \n", "run.toml:2: expected TOML, got "),
            ("model = 3\n", "run.toml:1: expected [model], and its settings below, got 3"),
            ("[[model]]\nhidden = 3\n", "run.toml:1: expected [model], and its settings below, got "),
        ] {
            let error = Config::parse("run.toml", text, &Config::default()).unwrap_err().to_string();
            assert!(error.starts_with(want), "{text:?}: {error}");
        }
        let error = Config::preset("zaremba-smal").unwrap_err().to_string();
        assert!(error.ends_with("got \"zaremba-smal\" (did you mean zaremba-small?)"), "{error}");
        for (_, ours) in ELSEWHERE {
            assert!(called(ours).is_some(), "{ours}");
        }
    }

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() {
        for (name, _) in PRESETS {
            let base = Config::preset(name).unwrap();
            assert_eq!(
                Config::parse("c", &base.to_toml().unwrap(), &Config::default()).unwrap(),
                base,
                "{name}"
            );
            assert_eq!(Config::parse("c", "", &base).unwrap(), base, "{name}");
            let changed = Config::parse("c", "[training]\nseed = 77\n", &base).unwrap();
            let mut want = base.clone();
            want.training.seed = 77;
            assert_eq!(changed, want, "{name}");
        }
    }
}
