//! `rnn-lm lr-find`: which learning rate a model can take (the range test of Smith 2017).

use super::progress::counted;
use super::settings::Base;
use super::trial::Trial;
use super::{Session, print};
use anyhow::{Result, bail};
use clap::{ArgMatches, Args};
use rnn_lm::data::{Batches, Window};
use rnn_lm::run::{Texts, Windows};
use rnn_lm::train::{Rate, Schedule, Trainer};
use rnn_lm::{Error, LanguageModel};
use serde_json::json;
use std::path::PathBuf;

/// Look for a learning rate
///
/// Trains at rates that rise from one step to the next, until the loss does (Smith 2017). Draws the loss over the rate and,
/// where training broke down at the higher ones, names a rate that is well below.
#[derive(Debug, Args)]
pub(super) struct LrFind {
    /// The text to learn from
    corpus: PathBuf,
    /// The first rate [default: a thousandth of the settings']
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    from: Option<f64>,
    /// The last rate [default: a thousand times the settings']
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    to: Option<f64>,
    /// Steps between them
    #[arg(long, value_name = "N", default_value_t = 100, allow_negative_numbers = true)]
    steps: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    base: Base,
}

/// A rate, and the loss about there.
type Point = (f64, f64);

impl LrFind {
    pub(super) fn run(self, session: &Session, flags: &ArgMatches) -> Result<()> {
        let text = Texts::to_learn_from(&self.corpus)?;
        let settings = self.base.settings(Some(&text), flags)?;
        settings.say_notes(session);
        let mut config = settings.config;
        config.data.corpus = self.corpus.display().to_string();
        let Trial { ids, mut model, trainer, .. } = Trial::new(&text, &config, session)?;
        let training = &config.training;
        let windows = Windows::new(&config, &ids)?;
        let (from, to) = (self.from.unwrap_or(training.lr / 1e3), self.to.unwrap_or(training.lr * 1e3));
        if !(from > 0.0 && to > from && to.is_finite()) {
            bail!("--from and --to: expected rates above 0, the second above the first, got {from} and {to}");
        }
        if self.steps < 10 {
            bail!("--steps: expected at least 10, got {}", self.steps);
        }
        let windows = &mut windows.endless().take(self.steps.saturating_mul(training.accumulate));
        let (points, broke) = counted(session, (self.steps, "steps"), |progress| {
            rising(model.as_mut(), trainer, windows, (from, to, self.steps), progress)
        })?;
        let (first, lowest) = lowest(&points)?;
        let found = points[lowest].0 / 3.0;
        // By so much, behind the lowest: less is noise.
        const RISE: f64 = 1.05;
        let rose = |(_, loss): &Point| *loss > RISE * points[lowest].1;
        let rises = broke || points[lowest..].iter().any(rose);
        let sure = first < lowest && rises;
        if self.json {
            return print(json!({ "lr": if sure { Some(found) } else { None }, "points": points }));
        }
        print(chart(&points))?;
        print(if sure {
            format!("--lr {found:.2e}: a third of the rate at which the loss was lowest")
        } else if rises {
            format!("the loss rises from the first rates on: begin lower than --from {from:e}")
        } else {
            format!(
                "the loss has hardly risen at the last rate: go further than --to {to:e}, or take more --steps"
            )
        })
    }
}

/// A step at each of `steps` rates from `from` to `to`, or as many as training stands: the points, and whether it broke down.
fn rising(
    model: &mut dyn LanguageModel,
    mut trainer: Trainer,
    windows: &mut dyn Iterator<Item = rnn_lm::Result<Window>>,
    (from, to, steps): (f64, f64, usize),
    progress: &mut dyn FnMut(usize),
) -> Result<(Vec<Point>, bool)> {
    let (mut points, mut mean, mut best) = (Vec::new(), 0.0, f64::INFINITY);
    // In logarithms: a ratio of the two may be no number.
    let (low, high) = (from.ln(), to.ln());
    // Of a step's windows, by their targets.
    let (mut nats, mut targets) = (0.0, 0.0);
    for window in windows {
        let (window, step) = (window?, trainer.steps());
        let lr = (low + (high - low) * step as f64 / (steps - 1) as f64).exp();
        trainer = trainer.rate(Rate::new(lr, Schedule::Constant)?);
        let loss = match trainer.step(model, &window) {
            Ok(loss) => loss,
            Err(Error::Diverged { .. }) => return Ok((points, true)),
            Err(error) => return Err(error.into()),
        };
        nats += loss * window.targets as f64;
        targets += window.targets as f64;
        if trainer.steps() == step {
            continue;
        }
        // As the paper smooths: a mean that forgets, without the bias of its beginning.
        mean = 0.9 * mean + 0.1 * (std::mem::take(&mut nats) / std::mem::take(&mut targets));
        let smooth = mean / (1.0 - 0.9f64.powi(points.len() as i32 + 1));
        points.push((lr, smooth));
        progress(points.len());
        best = f64::min(best, smooth);
        if smooth > 2.0 * best || !smooth.is_finite() {
            return Ok((points, true));
        }
    }
    Ok((points, false))
}

/// The first point that counts, and the one with the lowest loss: the mean of the first few is of a window or two, and of these
/// any may be an easy one.
fn lowest(points: &[Point]) -> Result<(usize, usize)> {
    let first = points.len() / 10;
    let losses = points.iter().map(|(_, loss)| *loss).enumerate().skip(first);
    match losses.min_by(|(_, a), (_, b)| a.total_cmp(b)) {
        Some((lowest, _)) => Ok((first, lowest)),
        None => bail!("the loss was no number at the first rate: begin with a lower one (--from)"),
    }
}

/// The loss over the rate, a line for some of them.
fn chart(points: &[Point]) -> String {
    const LINES: usize = 25;
    const WIDTH: f64 = 50.0;
    let losses = || points.iter().map(|(_, loss)| *loss);
    let (low, high) = (losses().fold(f64::INFINITY, f64::min), losses().fold(0.0, f64::max));
    let every = points.len().div_ceil(LINES).max(1);
    let line = |(lr, loss): &Point| {
        let length = ((loss - low) / (high - low).max(1e-9) * WIDTH).round() as usize;
        let loss = if *loss < 1e4 { format!("{loss:.3}") } else { format!("{loss:.2e}") };
        format!("{lr:>9.2e}  {loss:>8}  {}\n", "█".repeat(length.max(1)))
    };
    let lines: String = points.iter().step_by(every).map(line).collect();
    format!("{:>9}  {:>8}\n{lines}", "lr", "loss")
}
