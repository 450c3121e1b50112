//! The most probable text: a search that follows several at once.

use super::{last_of, widen};
use crate::layers::check_ids;
use crate::model::LanguageModel;
use crate::{Error, Result};

/// A beam search: of all texts that are one id longer than those it follows, it follows the `width` most probable ones.
///
/// A text is over where it comes to one of the `ends`, whether or not it is among those to be followed, or has `length`
/// ids. Texts that are over compete by their score, `log p / len^penalty` (Wu et al. 2016 without their constants), where p
/// is the product of what the model expects and `len` the number of ids, the end among them. The search stops early only
/// where no text that it follows can become one of the `width` best any more. Of equals the one found first is before
/// the other: the shorter one, then the one that continues the better text, then the smaller id.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::{GruCell, Way};
/// use rnn_lm::generate::{Beam, Sampling};
/// use rnn_lm::model::{LanguageModel, LmSpec, Rnnlm};
/// let model = Rnnlm::<GruCell>::new(&LmSpec::new(9, 4, 4), Way::Fused, (DType::F32, &Device::Cpu), 0)?;
/// let best = Beam { width: 4, length: 3, ..Beam::default() }.search(&model, &[1])?;
/// assert_eq!((best.len(), best[0].ids.len()), (4, 3));
/// assert!(best[0].score >= best[1].score);
/// // A beam of one text is greedy.
/// let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
/// let one = Beam { width: 1, length: 3, ..Beam::default() }.search(&model, &[1])?;
/// assert_eq!(one[0].ids, model.generate(&[1], 3, &greedy)?);
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Beam {
    /// How many texts it follows, and gives at most.
    pub width: usize,
    /// The most ids of a text.
    pub length: usize,
    /// The exponent of the length in the score: 0 prefers short texts, which have fewer factors, 1 takes the mean.
    pub penalty: f64,
    /// Ids that end a text, such as `<eos>`.
    pub ends: Vec<u32>,
    /// Ids that no text has. What the model expects of them is not given to others.
    pub skip: Vec<u32>,
}

impl Default for Beam {
    /// Four texts of 32 ids at most.
    fn default() -> Self {
        Self { width: 4, length: 32, penalty: 0.0, ends: Vec::new(), skip: Vec::new() }
    }
}

/// A text that a beam search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Behind the prompt; the id that ended it is among them.
    pub ids: Vec<u32>,
    /// The sum of log p.
    pub log_prob: f64,
    /// `log_prob / len^penalty`
    pub score: f64,
    /// Whether one of the ends came, and not the greatest length.
    pub ended: bool,
}

impl Beam {
    /// The best texts after `prompt`, the best one first. A text of probability 0 is none.
    ///
    /// # Errors
    /// Where the prompt is empty, an id is outside the vocabulary, a setting cannot be, all ids are skipped, or a logit is
    /// a NaN.
    pub fn search(&self, model: &dyn LanguageModel, prompt: &[u32]) -> Result<Vec<Hypothesis>> {
        let vocabulary = model.vocabulary();
        let rows = self.rows(vocabulary)?;
        let (last, before) = last_of("Beam: prompt", prompt, vocabulary)?;
        let mut stream = model.stream(rows)?;
        let (mut ids, mut from, mut logits) = (vec![last; rows], vec![0; rows], Vec::new());
        for &id in before {
            ids.fill(id);
            stream.step(&ids)?;
        }
        ids.fill(last);
        let mut found = Found { beam: self, best: Vec::new(), steps: Vec::new() };
        let mut live = vec![Candidate { log_prob: 0.0, row: 0, step: None }];
        let mut candidates = Vec::new();
        for len in 1..=self.length {
            widen(stream.step(&ids)?, &mut logits);
            candidates.clear();
            for ((row, text), logits) in live.iter().enumerate().zip(logits.chunks_exact(vocabulary)) {
                let norm = log_sum_exp(logits)?;
                for (id, &logit) in (0..).zip(logits).filter(|(id, _)| !self.skip.contains(id)) {
                    let next = Step { id, before: text.step };
                    let log_prob = text.log_prob + (logit - norm).min(0.0);
                    let ended = self.ends.contains(&id);
                    if log_prob == f64::NEG_INFINITY {
                        continue;
                    }
                    if ended || len == self.length {
                        found.offer(log_prob, next, (len, ended));
                    } else {
                        candidates.push((Candidate { log_prob, row, step: text.step }, id));
                    }
                }
            }
            // The order of two candidates is never left open, so it does not matter that sorting is not stable.
            let order = |(a, i): &(Candidate, u32), (b, j): &(Candidate, u32)| {
                b.log_prob.total_cmp(&a.log_prob).then((a.row, i).cmp(&(b.row, j)))
            };
            if candidates.len() > rows {
                candidates.select_nth_unstable_by(rows, order);
                candidates.truncate(rows);
            }
            candidates.sort_unstable_by(order);
            live.clear();
            for (n, &(Candidate { log_prob, row, step }, id)) in candidates.iter().enumerate() {
                (ids[n], from[n]) = (id, row);
                live.push(Candidate { step: Some(found.steps.len()), log_prob, row });
                found.steps.push(Step { id, before: step });
            }
            if live.first().is_none_or(|best| found.settled(best.log_prob)) {
                break;
            }
            // Rows without a text follow the first one's, and are not looked at.
            let (first_id, first_row) = (ids[0], from[0]);
            ids[live.len()..].fill(first_id);
            from[live.len()..].fill(first_row);
            stream.select(&from)?;
        }
        if found.best.is_empty() {
            return Err(Error::invalid("Beam: texts", "one that can be written at least", "none")
                .hint("are all ids skipped?"));
        }
        Ok(found.best)
    }

    /// The rows that it takes; an error where a setting cannot be.
    fn rows(&self, vocabulary: usize) -> Result<usize> {
        /// Logits that are worth a search.
        const MOST: usize = 1 << 32;
        for (name, value) in [("width", self.width), ("length", self.length)] {
            if value == 0 {
                return Err(Error::invalid(format!("Beam: {name}"), "at least 1", value));
            }
        }
        // Written so that a NaN is refused.
        if !(self.penalty >= 0.0 && self.penalty.is_finite()) {
            return Err(Error::invalid("Beam: penalty", "a number of at least 0 (0 is none)", self.penalty));
        }
        check_ids("Beam: ends", &self.ends, vocabulary)?;
        check_ids("Beam: skip", &self.skip, vocabulary)?;
        // There are no more texts than that to be read.
        let texts = vocabulary.saturating_pow(u32::try_from(self.length - 1).unwrap_or(u32::MAX));
        let rows = self.width.min(texts);
        match rows.checked_mul(vocabulary) {
            Some(logits) if logits <= MOST => Ok(rows),
            _ => {
                let most = format!("at most {} for {vocabulary} ids", MOST / vocabulary.max(1));
                Err(Error::invalid("Beam: width", most, self.width))
            }
        }
    }

    fn score(&self, log_prob: f64, len: usize) -> f64 {
        log_prob / (len as f64).powf(self.penalty)
    }
}

/// A text that is followed.
#[derive(Clone, Copy)]
struct Candidate {
    log_prob: f64,
    /// The row of the stream that has read the text before this one.
    row: usize,
    /// Its last id, among the steps; none where it has none yet.
    step: Option<usize>,
}

/// An id and the place of the one before it.
struct Step {
    id: u32,
    before: Option<usize>,
}

/// The best of the texts that are over, in order.
struct Found<'a> {
    beam: &'a Beam,
    best: Vec<Hypothesis>,
    /// The ids of all texts that were ever followed: what they have in common stands once.
    steps: Vec<Step>,
}

impl Found<'_> {
    /// Keeps a text that is over, where it is one of the best.
    fn offer(&mut self, log_prob: f64, last: Step, (len, ended): (usize, bool)) {
        let score = self.beam.score(log_prob, len);
        let place = self.best.partition_point(|other| other.score >= score);
        if place == self.beam.width {
            return;
        }
        let mut ids = Vec::with_capacity(len);
        let mut step = Some(&last);
        while let Some(&Step { id, before }) = step {
            ids.push(id);
            step = before.map(|place| &self.steps[place]);
        }
        ids.reverse();
        self.best.truncate(self.beam.width - 1);
        self.best.insert(place, Hypothesis { ids, log_prob, score, ended });
    }

    /// Whether nothing that begins with a text of that probability can be one of the best any more. No id makes a text more
    /// probable; the greatest length gives it the best score it can have.
    fn settled(&self, log_prob: f64) -> bool {
        let worst = self.best.get(self.beam.width - 1);
        worst.is_some_and(|worst| worst.score >= self.beam.score(log_prob, self.beam.length))
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

#[cfg(test)]
mod tests;
