//! What draws the next id: from a row of logits to a distribution, and from that to an id.

use super::Sampling;
use crate::layers::check_ids;
use crate::{Error, Result};
use rnn_core::rng::Stream;

/// Draws ids as a [`Sampling`] says. Its buffers are made once: to draw allocates nothing.
///
/// ```
/// use rnn_lm::generate::{Sampler, Sampling};
/// let logits = [0.5f64, 0.25, 0.125, 0.125].map(f64::ln);
/// let mut sampler = Sampler::new(&Sampling { top_k: 2, ..Sampling::default() }, 4)?;
/// let kept = sampler.distribution(&logits)?;
/// assert_eq!(kept.len(), 2);
/// assert!((kept[0].1 - 2.0 / 3.0).abs() < 1e-15 && kept[1].0 == 1);
/// assert!(sampler.draw(&logits)? < 2);
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: Stream,
    skipped: Vec<bool>,
    /// What came before, for `repetition`.
    seen: Vec<bool>,
    /// Of each id, in proportion to its probability: 1 for the most probable one, 0 for what is not kept.
    weights: Vec<f64>,
    /// The ids that are kept, while they are sorted.
    order: Vec<u32>,
}

impl Sampler {
    /// For rows of so many logits.
    ///
    /// # Errors
    /// Where a setting is not what [`Sampling::check`] expects.
    pub fn new(sampling: &Sampling, vocabulary: usize) -> Result<Self> {
        sampling.check(vocabulary)?;
        let mut skipped = vec![false; vocabulary];
        for &id in &sampling.skip {
            skipped[id as usize] = true;
        }
        Ok(Self {
            random: Stream::new(sampling.seed, "generate", 0),
            skipped,
            seen: vec![false; vocabulary],
            weights: vec![0.0; vocabulary],
            order: Vec::with_capacity(vocabulary),
            sampling: sampling.clone(),
        })
    }

    /// `id` is in the text: its repetition is held against it from now on.
    ///
    /// # Errors
    /// Where it is outside the vocabulary.
    pub fn see(&mut self, id: u32) -> Result<()> {
        check_ids("generate: id", &[id], self.seen.len())?;
        self.seen[id as usize] = true;
        Ok(())
    }

    /// The ids that can be drawn after these logits, the smallest first, each with its probability.
    ///
    /// # Errors
    /// Those of [`Self::draw`].
    pub fn distribution(&mut self, logits: &[f64]) -> Result<Vec<(u32, f64)>> {
        let total = self.weigh(logits)?;
        let kept = (0..).zip(&self.weights).filter(|&(_, &weight)| weight > 0.0);
        Ok(kept.map(|(id, weight)| (id, weight / total)).collect())
    }

    /// Draws the next id.
    ///
    /// # Errors
    /// Where there is not one logit for each id, one that is not skipped is a NaN, or all ids are skipped.
    pub fn draw(&mut self, logits: &[f64]) -> Result<u32> {
        let total = self.weigh(logits)?;
        let mut rest = self.random.uniform(0.0, total);
        let mut chosen = 0;
        for (id, &weight) in (0..).zip(&self.weights) {
            // What rounding leaves at the end goes to the last id that can be drawn.
            if weight > 0.0 {
                chosen = id;
                rest -= weight;
                if rest < 0.0 {
                    break;
                }
            }
        }
        Ok(chosen)
    }

    /// Gives each id its weight; their sum.
    fn weigh(&mut self, logits: &[f64]) -> Result<f64> {
        let Self { sampling, skipped, seen, weights, .. } = self;
        let Sampling { temperature, repetition, .. } = *sampling;
        if logits.len() != weights.len() {
            let want = format!("{}, one for each id", weights.len());
            return Err(Error::invalid("generate: logits", want, logits.len()));
        }
        for (id, (weight, &logit)) in weights.iter_mut().zip(logits).enumerate() {
            *weight = match (skipped[id], seen[id], logit > 0.0) {
                (true, ..) => f64::NEG_INFINITY,
                (_, false, _) => logit,
                (_, true, true) => logit / repetition,
                (_, true, false) => logit * repetition,
            };
        }
        let nan = weights.iter().copied().find(|weight| weight.is_nan());
        let largest = nan.unwrap_or_else(|| weights.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        if !largest.is_finite() {
            let why = if repetition == 1.0 { "" } else { ", or too much made of the repetition penalty" };
            return Err(Error::invalid("generate: probabilities", "a finite largest logit", largest)
                .hint(format!("are all ids skipped, the weights not numbers{why}?")));
        }
        if temperature == 0.0 {
            let most = weights.iter().position(|&weight| weight == largest);
            weights.fill(0.0);
            if let Some(most) = most {
                weights[most] = 1.0;
            }
        } else {
            for weight in &mut *weights {
                *weight = ((*weight - largest) / temperature).exp();
            }
        }
        self.filter();
        Ok(self.weights.iter().sum())
    }

    /// Top-k, top-p and min-p: what they do not keep gets a weight of 0.
    fn filter(&mut self) {
        let Self { sampling, weights, order, .. } = self;
        let Sampling { top_k, top_p, min_p, .. } = *sampling;
        if top_k > 0 || top_p < 1.0 {
            order.clear();
            order.extend((0..).zip(&*weights).filter(|&(_, &weight)| weight > 0.0).map(|(id, _)| id));
        }
        let by_weight = |weights: &[f64], &a: &u32, &b: &u32| {
            weights[b as usize].total_cmp(&weights[a as usize]).then(a.cmp(&b))
        };
        if top_k > 0 && top_k < order.len() {
            order.select_nth_unstable_by(top_k, |a, b| by_weight(weights, a, b));
            order.drain(top_k..).for_each(|id| weights[id as usize] = 0.0);
        }
        if top_p < 1.0 {
            order.sort_unstable_by(|a, b| by_weight(weights, a, b));
            let of = |&id: &u32| weights[id as usize];
            let enough = top_p * order.iter().map(of).sum::<f64>();
            let mut sum = 0.0;
            let reaches = order.iter().map(of).position(|weight| {
                sum += weight;
                sum >= enough
            });
            let kept = reaches.map_or(order.len(), |last| last + 1);
            order.drain(kept..).for_each(|id| weights[id as usize] = 0.0);
        }
        if min_p > 0.0 {
            // The largest weight is 1.
            weights.iter_mut().filter(|weight| **weight < min_p).for_each(|weight| *weight = 0.0);
        }
    }
}

#[cfg(test)]
mod tests;
