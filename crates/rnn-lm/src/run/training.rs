//! The loop of a training: window after window, with evaluations, a line of `metrics.jsonl` for each, the best weights kept, and
//! checkpoints.

use super::metrics::Metrics;
use super::since::Since;
use super::watch::{End, Measured, Stepped, Watch};
use super::windows::Windows;
use super::{CHECKPOINT, Run};
use crate::data::Batches;
use crate::evaluate;
use crate::train::Trainer;
use crate::{Error, LanguageModel, Result};
use serde_json::json;
use std::borrow::Cow;
use std::fs;
use std::time::{Duration, Instant};

/// Time between two checkpoints, beside those at evaluations.
const PAUSE: Duration = Duration::from_secs(60);

/// What goes on.
pub(super) struct Training<'a> {
    run: &'a Run,
    windows: Windows<'a>,
    /// What it is measured on.
    valid: Option<Cow<'a, [u32]>>,
    model: &'a mut dyn LanguageModel,
    trainer: &'a mut Trainer,
    metrics: &'a mut Metrics,
    since: &'a mut Since,
    /// Up to when seconds were counted.
    counted: Instant,
    /// When the last checkpoint was written.
    kept: Instant,
}

/// Where it stands after a window, and what is to be done there.
struct Step {
    at: Stepped,
    /// Whether an evaluation is due, by the settings.
    due: bool,
    /// Whether it is the last one, after which there is an evaluation in any case.
    last: bool,
}

impl<'a> Training<'a> {
    pub(super) fn new(
        (run, windows, valid): (&'a Run, Windows<'a>, Option<Cow<'a, [u32]>>),
        (model, trainer): (&'a mut dyn LanguageModel, &'a mut Trainer),
        (metrics, since): (&'a mut Metrics, &'a mut Since),
    ) -> Self {
        let now = Instant::now();
        Self { run, windows, valid, model, trainer, metrics, since, counted: now, kept: now }
    }

    /// To the end, or until it is told to stop.
    pub(super) fn go_on(&mut self, watch: &mut dyn Watch) -> Result<End> {
        let settings = &self.run.config.training;
        loop {
            if settings.stop_after > 0 && self.trainer.since_best() >= settings.stop_after {
                return Ok(End::Early);
            }
            let over = self.trainer.epochs() >= settings.epochs;
            let Step { at, due, last } = match over {
                false => self.step()?,
                true if self.metrics.reach(self.since.tokens) || self.since.targets == 0 => {
                    return Ok(End::Done);
                }
                // An end that was moved to where nothing is due is measured as well.
                true => {
                    let at = self.stands(self.trainer.epochs(), self.trainer.epochs(), self.trainer.lr());
                    Step { at, due: false, last: true }
                }
            };
            if !over {
                watch.stepped(&at, self.model);
            }
            let stop = watch.stop();
            if due || last {
                watch.measuring();
                let measured = self.measured(at, due)?;
                watch.measured(&measured, self.model);
            } else if stop || self.kept.elapsed() > PAUSE {
                self.count_seconds();
                self.keep()?;
            }
            if stop {
                return Ok(End::Stopped);
            }
        }
    }

    /// A window, and a step where that is due.
    fn step(&mut self) -> Result<Step> {
        let (epoch, before, lr) = (self.trainer.epochs(), self.trainer.steps(), self.trainer.lr());
        let window = self.windows.window(epoch, self.trainer.read())?;
        let loss = self.trainer.step(self.model, &window)?;
        self.since.nats += (loss - self.model.penalty()) * window.targets as f64;
        self.since.targets += window.targets;
        self.since.tokens += window.targets;
        let ends = self.trainer.read() == self.windows.windows(epoch);
        let mut at = self.stands(epoch, epoch + 1, lr);
        if ends {
            // Windows that wait for others make a step without them.
            self.trainer.epoch_ends(self.model)?;
            at.step = self.trainer.steps();
        }
        let settings = &self.run.config.training;
        let due = match settings.evaluate_every {
            0 => ends,
            every => self.trainer.steps() > before && self.trainer.steps().is_multiple_of(every),
        };
        Ok(Step { at, due, last: ends && self.trainer.epochs() == settings.epochs })
    }

    /// Where it stands in the windows of `epoch`, which is shown as number `shown`.
    fn stands(&self, epoch: usize, shown: usize, lr: f64) -> Stepped {
        Stepped {
            epoch: (shown, self.run.config.training.epochs),
            window: (self.trainer.read(), self.windows.windows(epoch)),
            step: self.trainer.steps(),
            loss: self.since.nats / self.since.targets as f64,
            tokens: self.since.tokens,
            lr,
        }
    }

    /// An evaluation, and what comes of it: the best weights, a line, a checkpoint.
    fn measured(&mut self, at: Stepped, due: bool) -> Result<Measured> {
        let batch = self.run.config.training.batch;
        let valid = measure(self.trainer, self.model, self.valid.as_deref(), batch)?;
        let loss = valid.unwrap_or(at.loss);
        let best = match valid.is_some() || due {
            true => self.improves(loss, due),
            // The few windows since the last evaluation say nothing: the weights are kept where there are no others, until any
            // evaluation.
            false if self.trainer.best().is_none() => {
                self.since.kept = Some(f64::MAX);
                true
            }
            false => false,
        };
        if best {
            self.trainer.with_average(self.model, |model| self.run.save(model))?;
        }
        if due {
            (self.since.nats, self.since.targets) = (0.0, 0);
        }
        self.count_seconds();
        let seconds = self.since.seconds;
        // Before the checkpoint: a line too many is taken back, one that is missing is not made up for.
        self.metrics.write(&json!({
            "step": at.step, "epoch": at.epoch.0, "tokens": at.tokens, "lr": at.lr,
            "train_loss": at.loss, "valid_loss": valid, "best": best, "seconds": seconds,
        }))?;
        self.keep()?;
        Ok(Measured { at, valid, best, seconds })
    }

    /// Takes in a loss, and says whether it is better than that of the weights that the run has.
    fn improves(&mut self, loss: f64, due: bool) -> bool {
        let lowest = self.take_in(loss, due);
        let best = lowest || self.since.kept.is_some_and(|kept| loss < kept);
        if best {
            self.since.kept = self.since.kept.filter(|_| !lowest).map(|_| loss);
        }
        best
    }

    /// Takes in a loss, and says whether it is the best so far. The trainer has those that were due; that of an end which falls
    /// between two evaluations is kept beside it, so that more epochs are what they would have been from the start.
    fn take_in(&mut self, loss: f64, due: bool) -> bool {
        let taken = match due {
            true => self.trainer.observe(loss),
            false => self.trainer.best().is_none_or(|best| loss < best),
        };
        let best = taken && self.since.beside.is_none_or(|beside| loss < beside);
        if best && !due {
            self.since.beside = Some(loss);
        }
        best
    }

    fn count_seconds(&mut self) {
        let now = Instant::now();
        self.since.seconds += (now - std::mem::replace(&mut self.counted, now)).as_secs_f64();
    }

    fn keep(&mut self) -> Result<()> {
        keep(self.run, self.trainer, self.model, self.since)?;
        self.kept = Instant::now();
        Ok(())
    }
}

/// Writes where it stands.
pub(super) fn keep(run: &Run, trainer: &Trainer, model: &dyn LanguageModel, since: &Since) -> Result<()> {
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

/// The loss of the text to measure on, of the mean of the weights where there is one; in as many streams as are trained
/// on, which is faster than one and tells evaluations apart as well.
pub(super) fn measure(
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
