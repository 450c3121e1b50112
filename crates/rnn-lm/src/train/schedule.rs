//! How the learning rate changes.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// A rule for the rate.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub enum Schedule {
    /// It does not change.
    #[default]
    Constant,
    /// Divided after every evaluation that is no better than the best before it: the book's chapter 6.
    Plateau {
        /// By what, at least 1.
        divide: f64,
    },
    /// Divided after every epoch from number `after` on, counted from 1: Zaremba et al. 2014.
    Decay {
        /// The last epoch with the whole rate, at least 1.
        after: usize,
        /// By what, at least 1.
        divide: f64,
    },
    /// From nothing up to the whole rate within `warmup` steps, then down to nothing at step `steps` along half a cosine
    /// (Loshchilov & Hutter 2017): `base (s + 1) / warmup` at step `s < warmup`, then
    /// `base/2 (1 + cos(pi (s - warmup) / (steps - warmup)))`, and 0 from `steps` on.
    Cosine {
        /// Steps of the rise.
        warmup: u64,
        /// Steps in all.
        steps: u64,
    },
}

/// A rate that follows a rule, and the best evaluation so far.
///
/// ```
/// use rnn_lm::train::{Rate, Schedule};
/// let mut rate = Rate::new(20.0, Schedule::Plateau { divide: 4.0 })?;
/// assert!(rate.observe(5.1) && !rate.observe(5.2));
/// assert_eq!((rate.at(2, 100), rate.since_best()), (5.0, 1));
/// assert!(!rate.observe(f64::NAN) && rate.observe(5.0));
/// let rate = Rate::new(1.0, Schedule::Decay { after: 4, divide: 2.0 })?;
/// assert_eq!([0, 3, 4, 6].map(|epoch| rate.at(epoch, 0)), [1.0, 1.0, 0.5, 0.125]);
/// assert!(Rate::new(1.0, Schedule::Plateau { divide: 0.0 }).is_err());
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    base: f64,
    schedule: Schedule,
    best: Option<f64>,
    since_best: usize,
    worse: u32,
}

impl Rate {
    /// A rate that begins at `base`.
    ///
    /// # Errors
    /// Where `base` is not finite, or a number of the schedule is out of its range.
    pub fn new(base: f64, schedule: Schedule) -> Result<Self> {
        if !base.is_finite() {
            return Err(Error::invalid("Rate: base", "a number", base));
        }
        if let Schedule::Plateau { divide } | Schedule::Decay { divide, .. } = schedule
            && !(divide >= 1.0 && divide.is_finite())
        {
            return Err(Error::invalid("Rate: divide", "a number of at least 1", divide)
                .hint("the rate is divided by it: 2 halves it"));
        }
        if let Schedule::Decay { after: 0, .. } = schedule {
            return Err(Error::invalid("Rate: after", "at least 1, the last epoch with the whole rate", 0));
        }
        Ok(Self { schedule, ..Self::constant(base) })
    }

    /// One that does not change, whatever it is: an optimizer looks at it.
    pub(super) fn constant(base: f64) -> Self {
        Self { base, schedule: Schedule::Constant, best: None, since_best: 0, worse: 0 }
    }

    /// The rate in epoch `epoch`, counted from 0, at step `step`, counted from 0 over all epochs.
    pub fn at(&self, epoch: usize, step: u64) -> f64 {
        let times = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        match self.schedule {
            Schedule::Constant => self.base,
            Schedule::Plateau { divide } => self.base / divide.powi(times(self.worse as usize)),
            Schedule::Decay { after, divide } => {
                self.base / divide.powi(times((epoch + 1).saturating_sub(after)))
            }
            Schedule::Cosine { warmup, .. } if step < warmup => self.base * (step + 1) as f64 / warmup as f64,
            Schedule::Cosine { warmup, steps } => {
                let (gone, all) = (step - warmup, steps.saturating_sub(warmup).max(1));
                let share = (gone as f64 / all as f64).min(1.0);
                self.base * 0.5 * (1.0 + (PI * share).cos())
            }
        }
    }

    /// Takes in the loss of an evaluation; says whether it is the best so far, which one that is not finite never is.
    pub fn observe(&mut self, loss: f64) -> bool {
        let better = loss.is_finite() && self.best.is_none_or(|best| loss < best);
        if better {
            (self.best, self.since_best) = (Some(loss), 0);
        } else {
            self.since_best += 1;
            self.worse += 1;
        }
        better
    }

    /// The same rule with what another one, mostly itself in another process, has taken in: a training that goes on to more
    /// epochs has a cosine that ends later.
    ///
    /// ```
    /// use rnn_lm::train::{Rate, Schedule};
    /// let short = Rate::new(1.0, Schedule::Cosine { warmup: 0, steps: 100 })?;
    /// let long = Rate::new(1.0, Schedule::Cosine { warmup: 0, steps: 200 })?.resume(short);
    /// assert!(short.at(9, 100) < 1e-9 && (long.at(9, 100) - 0.5).abs() < 1e-9);
    /// # rnn_lm::Result::Ok(())
    /// ```
    #[must_use]
    pub fn resume(self, other: Self) -> Self {
        Self { base: self.base, schedule: self.schedule, ..other }
    }

    /// The best loss taken in, if any was.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// Evaluations since the best one: who stops early asks this.
    pub fn since_best(&self) -> usize {
        self.since_best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_rises_for_four_steps_and_is_nothing_after_twelve() {
        let rate = Rate::new(2.0, Schedule::Cosine { warmup: 4, steps: 12 }).unwrap();
        // By hand: 1, 2, 3 and 4 quarters; then (1 + cos(k pi / 8)) / 2 for k from 0 to 8, and nothing more.
        let (eighth, quarter, three_eighths) = (0.9619397662556434, 0.8535533905932737, 0.6913417161825449);
        let rise = [0.25, 0.5, 0.75, 1.0];
        let fall = [1.0, eighth, quarter, three_eighths, 0.5];
        let rest = [1.0 - three_eighths, 1.0 - quarter, 1.0 - eighth, 0.0, 0.0, 0.0];
        for (step, want) in rise.into_iter().chain(fall).chain(rest).enumerate() {
            // Which epoch it is changes nothing.
            for epoch in [0, 7] {
                let got = rate.at(epoch, step as u64);
                assert!((got - 2.0 * want).abs() < 1e-12, "step {step}: {got}, not {}", 2.0 * want);
            }
        }
        let whole = Rate::new(2.0, Schedule::Cosine { warmup: 0, steps: 8 }).unwrap();
        assert_eq!([0, 4, 8].map(|step| (whole.at(0, step) * 1e12).round() / 1e12), [2.0, 1.0, 0.0]);
        // A rise that takes the whole training has no fall, and nothing is divided by nothing.
        let rise = Rate::new(2.0, Schedule::Cosine { warmup: 4, steps: 4 }).unwrap();
        assert_eq!([0, 3, 4].map(|step| rise.at(0, step)), [0.5, 2.0, 2.0]);
    }
}
