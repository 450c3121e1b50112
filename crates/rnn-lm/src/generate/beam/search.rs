//! Where a beam search stands: the texts that it follows and the best of those that are over.

use super::{Beam, Hypothesis};
use crate::{Error, Result};

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

/// Where a search stands.
pub(super) struct Search<'a> {
    beam: &'a Beam,
    /// The texts that are followed: log p and the place of the last id, none before the first.
    live: Vec<(f64, Option<usize>)>,
    /// Those that may be followed next.
    candidates: Vec<Text>,
    /// The ids of all texts that were ever followed: what they have in common stands once.
    steps: Vec<Step>,
    /// The best of the texts that are over, in order.
    pub(super) best: Vec<Hypothesis>,
}

impl<'a> Search<'a> {
    /// Before the first id.
    pub(super) fn new(beam: &'a Beam) -> Self {
        let (candidates, steps, best) = (Vec::new(), Vec::new(), Vec::new());
        Self { beam, live: vec![(0.0, None)], candidates, steps, best }
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
        Ok(())
    }

    /// Keeps a text that is over, where it is one of the best.
    fn offer(&mut self, text: Text, len: usize, ended: bool) {
        let score = self.beam.score(text.log_prob, len);
        let place = self.best.partition_point(|other| other.score >= score);
        if place == self.beam.width {
            return;
        }
        let mut ids = Vec::with_capacity(len);
        let mut step = Some(text.last);
        while let Some(Step { id, before }) = step {
            ids.push(id);
            step = before.map(|place| self.steps[place]);
        }
        ids.reverse();
        self.best.truncate(self.beam.width - 1);
        self.best.insert(place, Hypothesis { ids, log_prob: text.log_prob, score, ended });
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
        let worst = self.best.get(self.beam.width - 1);
        worst.is_some_and(|worst| worst.score >= self.beam.score(log_prob, self.beam.length))
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
