//! Where a beam search stands: the texts that it follows and the best of those that are over.

use super::{Beam, Hypothesis};
use crate::{Error, Result};
use std::cmp::Ordering;

/// A text that is followed, or may be.
#[derive(Clone, Copy)]
struct Text {
    log_prob: f64,
    /// The row of the stream that has read it without its last id.
    row: usize,
    last: Step,
}

/// An id and the place of the one before it, none where it is the first.
#[derive(Clone, Copy)]
struct Step {
    id: u32,
    before: Option<usize>,
}

/// A text that is over.
#[derive(Clone, Copy)]
struct Over {
    log_prob: f64,
    score: f64,
    last: Step,
    ended: bool,
}

/// Where a search stands.
pub(super) struct Search<'a> {
    beam: &'a Beam,
    /// The texts that are followed: log p and the place of the last id, none before the first.
    live: Vec<(f64, Option<usize>)>,
    /// Those that may be followed next.
    candidates: Vec<Text>,
    /// The ids of all texts that were ever followed: what they have in common stands once.
    steps: Vec<Step>,
    /// The best of the texts that are over, in order; behind them, while a step is read, those that it ended.
    over: Vec<Over>,
    /// The score of the worst of the best, where there are as many as are kept.
    worst: Option<f64>,
}

impl<'a> Search<'a> {
    /// Before the first id.
    pub(super) fn new(beam: &'a Beam) -> Self {
        let (candidates, steps, over) = (Vec::new(), Vec::new(), Vec::new());
        Self { beam, live: vec![(0.0, None)], candidates, steps, over, worst: None }
    }

    /// Takes in what the model expects after the texts that are followed: texts of `len` ids.
    pub(super) fn read(&mut self, logits: &[f64], vocabulary: usize, len: usize) -> Result<()> {
        self.candidates.clear();
        for (row, logits) in logits.chunks_exact(vocabulary).enumerate().take(self.live.len()) {
            let norm = log_sum_exp(logits)?;
            let (so_far, before) = self.live[row];
            for (id, &logit) in (0..).zip(logits) {
                // Rounding must not make a text more probable than its beginning.
                let log_prob = so_far + (logit - norm).min(0.0);
                if log_prob == f64::NEG_INFINITY || self.beam.skip.contains(&id) {
                    continue;
                }
                let text = Text { log_prob, row, last: Step { id, before } };
                let ended = self.beam.ends.contains(&id);
                if ended || len == self.beam.length {
                    self.offer(text, len, ended);
                } else {
                    self.candidates.push(text);
                }
            }
        }
        self.keep_best();
        Ok(())
    }

    /// Takes a text that is over, where it may be one of the best.
    fn offer(&mut self, text: Text, len: usize, ended: bool) {
        let score = self.beam.score(text.log_prob, len);
        // One found later is behind its equals.
        if self.worst.is_some_and(|worst| worst >= score) {
            return;
        }
        self.over.push(Over { log_prob: text.log_prob, score, last: text.last, ended });
        // Now and then: a step may end as many as it has logits.
        if self.over.len() / 2 >= self.beam.width {
            self.keep_best();
        }
    }

    /// Those that are behind the best go.
    fn keep_best(&mut self) {
        // No score is a NaN, and the sort is stable: equals stay as they were found.
        self.over.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
        self.over.truncate(self.beam.width);
        self.worst = self.over.get(self.beam.width - 1).map(|over| over.score);
    }

    /// The best of the texts that are over, in order.
    pub(super) fn best(&self) -> Vec<Hypothesis> {
        let with_ids = |over: &Over| {
            let (mut ids, mut step) = (Vec::new(), Some(over.last));
            while let Some(Step { id, before }) = step {
                ids.push(id);
                step = before.map(|place| self.steps[place]);
            }
            ids.reverse();
            Hypothesis { ids, log_prob: over.log_prob, score: over.score, ended: over.ended }
        };
        self.over.iter().map(with_ids).collect()
    }

    /// Follows as many of the candidates as there are rows: what each reads next, and from which row it goes
    /// on.
    pub(super) fn follow(&mut self, ids: &mut [u32], from: &mut [usize]) {
        let Self { live, candidates, steps, .. } = self;
        // No two are equal in this order, so it does not matter that sorting is not stable.
        let order = |a: &Text, b: &Text| b.log_prob.total_cmp(&a.log_prob).then(a.place().cmp(&b.place()));
        if candidates.len() > ids.len() {
            candidates.select_nth_unstable_by(ids.len(), order);
            candidates.truncate(ids.len());
        }
        candidates.sort_unstable_by(order);
        live.clear();
        for (text, (id, from)) in candidates.iter().zip(ids.iter_mut().zip(from)) {
            (*id, *from) = (text.last.id, text.row);
            live.push((text.log_prob, Some(steps.len())));
            steps.push(text.last);
        }
    }

    /// Whether nothing that begins with a text that is followed can be one of the best any more. No id makes
    /// a text more probable; the greatest length gives it the best score it can have.
    pub(super) fn settled(&self) -> bool {
        let Some(&(log_prob, _)) = self.live.first() else { return true };
        self.worst.is_some_and(|worst| worst >= self.beam.score(log_prob, self.beam.length))
    }
}

impl Text {
    /// Where it stands among equals.
    fn place(&self) -> (usize, u32) {
        (self.row, self.last.id)
    }
}

/// log of the sum of e^logit.
fn log_sum_exp(logits: &[f64]) -> Result<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let norm = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
    if norm.is_finite() {
        return Ok(norm);
    }
    Err(Error::invalid("Beam: logits", "numbers", norm).hint("are the weights not numbers any more?"))
}
