//! How many epochs, where that hangs on how long they take.

use super::Session;
use super::noun::Noun;
use super::progress::{time, waiting};
use super::settings::Settings;
use super::trial::Trial;
use anyhow::{Result, bail};
use rnn_lm::config::Config;
use rnn_lm::data::TextFile;
use rnn_lm::run::Texts;
use std::ops::RangeInclusive;

/// Minutes of training, where nobody says how long: with what is counted for comparison, they are about ten.
const MINUTES: f64 = 8.0;

/// More epochs than anybody waits for.
const MOST: usize = 1_000_000_000;

/// So many epochs as the minutes hold; where nobody says how long, as many more than what is suggested for any machine.
pub(super) fn choose_epochs(
    minutes: Option<f64>,
    settings: &mut Settings,
    text: &TextFile,
    session: &Session,
) -> Result<()> {
    let range = match minutes {
        Some(minutes) if !(minutes > 0.0 && minutes.is_finite()) => {
            bail!("--minutes: expected a number above 0, got {minutes}")
        }
        Some(_) => 1..=MOST,
        None if settings.is_suggested("training", "epochs") => settings.config.suggest_epochs(text)?,
        None => return Ok(()),
    };
    if range.start() >= range.end() {
        return Ok(());
    }
    let trying = waiting(session, "trying how fast it learns here".into());
    let tried = try_out(&settings.config, session);
    trying.finish_and_clear();
    let Tried { epoch, speed } = tried?;
    let epochs = fitting(60.0 * minutes.unwrap_or(MINUTES), epoch, range);
    let takes = time(epochs as f64 * epoch);
    session
        .say(format_args!("epochs   {epochs}, {takes} at {speed} (--minutes M or --epochs N say otherwise)"));
    settings.config.training.epochs = epochs;
    if settings.is_suggested("training", "warmup") {
        settings.config.suggest_warmup(text)?;
    }
    Ok(settings.config.check()?)
}

/// What a trial showed.
struct Tried {
    /// Seconds an epoch, with measuring.
    epoch: f64,
    /// How fast it learns, as a person says it.
    speed: String,
}

fn try_out(config: &Config, session: &Session) -> Result<Tried> {
    let texts = Texts::open(config)?;
    let trial = Trial::new(&texts.train, config, session)?;
    let (noun, tokens) = (Noun::of(&trial.tokenizer), trial.tokens);
    let learning = trial.seconds_an_epoch(config)?;
    // Measuring goes forward only, which is a third of the work.
    let measured_on = texts.valid.map_or(0.0, |valid| valid.len() as f64 / texts.train.len() as f64);
    let speed = format!("{:.0} {noun}s/s", tokens / learning);
    Ok(Tried { epoch: learning * (1.0 + measurements(config, tokens) * measured_on / 3.0), speed })
}

/// How often it is measured in an epoch of so many tokens.
fn measurements(config: &Config, tokens: f64) -> f64 {
    let training = &config.training;
    let step = training.batch as f64 * training.time as f64 * training.accumulate as f64;
    match training.evaluate_every {
        0 => 1.0,
        every => tokens / step / every as f64,
    }
}

/// How many epochs of so many seconds are done in the time, of those that may be.
fn fitting(seconds: f64, epoch: f64, range: RangeInclusive<usize>) -> usize {
    ((seconds / epoch) as usize).clamp(*range.start(), *range.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_more_often_takes_longer() {
        let mut config = Config::default();
        (config.training.batch, config.training.time, config.training.accumulate) = (10, 20, 2);
        assert_eq!(measurements(&config, 8000.0), 1.0);
        config.training.evaluate_every = 5;
        assert_eq!(measurements(&config, 8000.0), 4.0);
    }

    #[test]
    fn as_many_as_the_time_holds_and_no_fewer_than_are_worth_it() {
        for (epoch, want) in [(1e-9, 12), (39.9, 12), (40.1, 11), (100.0, 4), (130.0, 4), (f64::INFINITY, 4)]
        {
            assert_eq!(fitting(480.0, epoch, 4..=12), want, "{epoch}");
        }
    }
}
