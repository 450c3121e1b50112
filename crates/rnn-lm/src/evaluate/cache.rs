//! A cache of words that were just read (Grave, Joulin & Usunier 2017, "Improving Neural Language Models with
//! a Continuous Cache"): what followed a state like the present one may follow again. Nothing is trained.

use super::{Evaluation, Progress, Sum, TIME, check_text, streams};
use crate::data::Batches;
use crate::{Error, LanguageModel, Result};
use candle_core::{DType, Device};
use rnn_core::kernels::product::{Mat, Rooms, Store, grown, product};

/// The model's prediction and the cache's, mixed: with h_t what the last layer gives at step t,
///
/// `p(w) = (1 - lambda) p_model(w) + lambda p_cache(w)`,
/// `p_cache(w)` proportional to the sum over the last `size` pairs `(h_i, x_{i+1})` before t of
/// `1{w = x_{i+1}} exp(theta h_t . h_i)`.
///
/// As long as there is no pair, p is the model's.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::Way;
/// use rnn_lm::evaluate::NeuralCache;
/// use rnn_lm::model::{CellKind, LmSpec, build};
/// let model = build(CellKind::Lstm, &LmSpec::new(99, 4, 8), Way::Fused, (DType::F32, &Device::Cpu), 1)?;
/// let ids = [5, 98, 6, 98, 7, 98, 8, 98]; // a word that is rare elsewhere
/// let cache = NeuralCache { size: 100, theta: 0.3, lambda: 0.1 };
/// let evaluation = cache.evaluate(model.as_ref(), &ids, None)?;
/// assert!(evaluation.perplexity() < model.evaluate(&ids, 8)?.perplexity());
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeuralCache {
    /// How many pairs it remembers.
    pub size: usize,
    /// How much likeness counts, at least 0; at 0 the cache only counts words.
    pub theta: f64,
    /// The cache's share, from 0 to below 1.
    pub lambda: f64,
}

impl NeuralCache {
    /// The loss of `ids`, read as one stream with a state and a cache that begin empty.
    ///
    /// # Errors
    /// Where a setting is out of its range; where there are fewer than two ids, or one is outside the vocabulary.
    pub fn evaluate(
        &self,
        model: &dyn LanguageModel,
        ids: &[u32],
        progress: Progress<'_>,
    ) -> Result<Evaluation> {
        self.check()?;
        check_text("NeuralCache", model, ids)?;
        let mut pairs = Pairs::default();
        let mut all = Sum::new(progress);
        model.read(&mut streams(ids, 1, TIME)?.epoch(0), &mut |reading| {
            let hidden = reading.hidden.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
            let targets = &reading.window.ts;
            all.add(self.window(&mut pairs, &hidden.to_vec1()?, targets, reading.losses), targets.len());
            Ok(())
        })?;
        Ok(all.sum)
    }

    /// The nats of a window, of which `hidden` are the states `[T, H]`; its pairs are remembered.
    fn window(&self, pairs: &mut Pairs, hidden: &[f64], targets: &[u32], losses: &[f64]) -> f64 {
        let before = pairs.words.len();
        pairs.push(hidden, targets);
        let (words, rows) = pairs.likeness(hidden, targets.len());
        let mut nats = 0.0;
        for (t, row) in rows.chunks_exact(words.len()).enumerate() {
            // The pair of this very step is not known yet, nor are those behind it.
            let known = (before + t).saturating_sub(self.size)..before + t;
            nats -= self.log_prob(-losses[t], &row[known.clone()], &words[known], targets[t]);
        }
        pairs.keep(self.size);
        nats
    }

    /// ln p of `target`, out of the model's and the pairs that are known: of each `h_t . h_i`, and its word.
    fn log_prob(&self, of_model: f64, likeness: &[f64], words: &[u32], target: u32) -> f64 {
        if words.is_empty() {
            return of_model;
        }
        let largest = likeness.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut total, mut hits) = (0.0, 0.0);
        for (&likeness, &word) in likeness.iter().zip(words) {
            let weight = (self.theta * (likeness - largest)).exp();
            total += weight;
            if word == target {
                hits += weight;
            }
        }
        // In logarithms: what the model holds for impossible may be less than an f64 can be.
        let model = (1.0 - self.lambda).ln() + of_model;
        let cache = self.lambda.ln() + f64::ln(hits / total);
        let (large, small) = if model > cache { (model, cache) } else { (cache, model) };
        large + (small - large).exp().ln_1p()
    }

    fn check(&self) -> Result<()> {
        let Self { size, theta, lambda } = *self;
        if size == 0 {
            return Err(Error::invalid("NeuralCache: size", "at least 1", 0));
        }
        if !(theta >= 0.0 && theta.is_finite()) {
            return Err(Error::invalid("NeuralCache: theta", "at least 0", theta));
        }
        if !(0.0..1.0).contains(&lambda) {
            return Err(Error::invalid("NeuralCache: lambda", "from 0 to below 1", lambda)
                .hint("with nothing of the model's, a word that is not in the cache would be impossible"));
        }
        Ok(())
    }
}

/// What is remembered, in the order of the text. It is cut back once a window, so that it stands in one piece
/// and a window's likenesses are one product of matrices.
#[derive(Default)]
struct Pairs {
    /// `[pairs, H]`
    states: Vec<f64>,
    /// The word that followed each.
    words: Vec<u32>,
    likeness: Vec<f64>,
    rooms: Rooms<f64>,
}

impl Pairs {
    fn push(&mut self, states: &[f64], words: &[u32]) {
        self.states.extend_from_slice(states);
        self.words.extend_from_slice(words);
    }

    /// All words, and the likeness `h_t . h_i` of each of `count` states to each pair, `[count, pairs]`.
    fn likeness(&mut self, states: &[f64], count: usize) -> (&[u32], &[f64]) {
        let (pairs, size) = (self.words.len(), states.len() / count);
        let out = grown(&mut self.likeness, count * pairs);
        let (left, right) = (Mat::new(states, count, size), Mat::new(&self.states, pairs, size));
        product(out, left, right.t(), Store::Set, &mut self.rooms);
        (&self.words, out)
    }

    /// Forgets all but the last `size`.
    fn keep(&mut self, size: usize) {
        let (pairs, hidden) = (self.words.len(), self.states.len() / self.words.len().max(1));
        let old = pairs.saturating_sub(size);
        self.words.drain(..old);
        self.states.drain(..old * hidden);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::tests::{CELLS, model, steps, text, wild};
    use crate::model::CellKind;
    use rnn_core::Way;

    /// The equation, with all pairs looked at for each word; probabilities, not logarithms.
    fn plain(cache: NeuralCache, model: &mut dyn LanguageModel, ids: &[u32]) -> f64 {
        let steps = steps(model, ids);
        let mut nats = 0.0;
        for t in 0..steps.len() {
            let weight = |i: &usize| {
                let dot: f64 = steps[t].hidden.iter().zip(&steps[*i].hidden).map(|(a, b)| a * b).sum();
                (cache.theta * dot).exp()
            };
            let known = t.saturating_sub(cache.size)..t;
            let all: f64 = known.clone().map(|i| weight(&i)).sum();
            let hits: f64 = known.clone().filter(|i| ids[i + 1] == ids[t + 1]).map(|i| weight(&i)).sum();
            let of_model = (-steps[t].loss).exp();
            let p = match known.is_empty() {
                true => of_model,
                false => (1.0 - cache.lambda) * of_model + cache.lambda * hits / all,
            };
            nats -= p.ln();
        }
        nats
    }

    #[test]
    fn it_is_the_equation() {
        let ids = text(300);
        for cell in CELLS {
            let mut model = model(cell, Way::Fused);
            wild(model.as_ref());
            // Of one pair, of some, of more than a window, and of more than the text.
            for size in [1, 20, 100, 1000] {
                for (theta, lambda) in [(0.0, 0.3), (0.7, 0.1), (3.0, 0.9)] {
                    let cache = NeuralCache { size, theta, lambda };
                    let got = cache.evaluate(model.as_ref(), &ids, None).unwrap();
                    let want = plain(cache, model.as_mut(), &ids);
                    assert_eq!(got.predictions, 299);
                    assert!((got.nats / want - 1.0).abs() < 1e-12, "{cell} {cache:?}: {} {want}", got.nats);
                }
            }
        }
    }

    #[test]
    fn with_no_share_it_is_the_model_alone() {
        let (ids, model) = (text(200), model(CellKind::Gru, Way::Fused));
        let cache = NeuralCache { size: 50, theta: 1.0, lambda: 0.0 };
        let (got, want) =
            (cache.evaluate(model.as_ref(), &ids, None).unwrap(), model.evaluate(&ids, 64).unwrap());
        assert!((got.nats / want.nats - 1.0).abs() < 1e-14);
    }

    #[test]
    fn what_a_model_holds_for_impossible_is_a_number_all_the_same() {
        let cache = NeuralCache { size: 5, theta: 1e300, lambda: 0.5 };
        let half = 0.5f64.ln();
        assert!((cache.log_prob(-5000.0, &[2.0, 1.0], &[7, 8], 9) - (half - 5000.0)).abs() < 1e-9);
        assert!((cache.log_prob(-5000.0, &[2.0, 1.0], &[7, 8], 7) - half).abs() < 1e-12);
        assert_eq!(cache.log_prob(-5000.0, &[], &[], 7), -5000.0);
    }
}
