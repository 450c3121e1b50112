//! Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1999): the best model that only counts n-grams.
//!
//! A closed vocabulary; no pruning, and line ends are ids like any other.

use super::ngrams::Ngrams;
use super::{Yardstick, is_id};
use crate::error::{Error, Result};
use crate::layers::check_ids;

/// An n-gram model of some order n: the next id depends on the n - 1 before it.
///
/// With `c(h w)` the count of an n-gram, `c(h)` the sum of these over w, and `h'` the context h without its first id,
///
/// ```text
/// p(w | h)     = max(c(h w) - D(c(h w)), 0) / c(h) + backoff(h) p(w | h')
/// backoff(h)   = sum over w of D(c(h w)) / c(h)
/// ```
///
/// down to the empty context, which is interpolated with the uniform 1 / V. n-grams of full length are counted by
/// how often they occur, shorter ones by how many different ids stand before them. The discount D is D1, D2 or D3
/// for counts of 1, 2 and more, estimated for each length from how many n-grams have a count of 1, 2, 3 and 4.
///
/// ```
/// use rnn_lm::yardstick::{KneserNey, Yardstick};
///
/// let model = KneserNey::new(&[0, 1, 0, 2, 0, 1], 3, 2)?;
/// assert!((model.log_prob(&[0], 1).exp() - 7.0 / 15.0).abs() < 1e-12);
/// # Ok::<(), rnn_lm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct KneserNey {
    vocabulary: usize,
    ngrams: Ngrams,
    /// For n-grams of 1, 2, ... ids.
    discounts: Vec<Discounts>,
    /// For contexts of 0, 1, ... ids, in the order of [`Ngrams`].
    contexts: Vec<Vec<Context>>,
}

/// What is subtracted from counts of 1, of 2, and of 3 or more.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Discounts([f64; 3]);

/// What a context hands to its n-grams.
#[derive(Debug, Clone, Copy)]
struct Context {
    /// The sum of the counts; 0 where the text ends with this context and has it nowhere else.
    total: u32,
    /// The weight of the next shorter context.
    backoff: f64,
}

impl KneserNey {
    /// The order that a yardstick of words usually has.
    pub const ORDER: usize = 5;

    /// Counts the training text `ids` over a vocabulary of `vocabulary` ids, in n-grams of up to `order` ids.
    ///
    /// # Errors
    /// An order of 0 or beyond the length of the text, or an id outside the vocabulary.
    pub fn new(ids: &[u32], vocabulary: usize, order: usize) -> Result<Self> {
        if ids.is_empty() {
            return Err(Error::invalid("KneserNey::new: ids", "at least 1 id", "none"));
        }
        if order == 0 || order > ids.len() {
            return Err(Error::invalid("KneserNey::new: order", format!("1 to {}", ids.len()), order)
                .hint("an n-gram is no longer than the text"));
        }
        check_ids("KneserNey::new", ids, vocabulary)?;
        let ngrams = Ngrams::new(ids, order)?;
        let discounts: Vec<_> = (0..order).map(|depth| Discounts::estimate(ngrams.counts(depth))).collect();
        let contexts = (0..order).map(|depth| contexts(&ngrams, depth, discounts[depth])).collect();
        Ok(Self { vocabulary, ngrams, discounts, contexts })
    }

    /// The order n.
    pub fn order(&self) -> usize {
        self.ngrams.order()
    }

    /// D1, D2 and D3 of the n-grams of `length` ids; `None` where the length is not 1 to the order.
    pub fn discounts(&self, length: usize) -> Option<[f64; 3]> {
        Some(self.discounts.get(length.checked_sub(1)?)?.0)
    }
}

fn contexts(ngrams: &Ngrams, depth: usize, discounts: Discounts) -> Vec<Context> {
    let context = |index| {
        let counts = &ngrams.counts(depth)[ngrams.children(depth, index)];
        let total = counts.iter().sum();
        let discounted: f64 = counts.iter().map(|&count| discounts.of(count)).sum();
        Context { total, backoff: discounted / f64::from(total) }
    };
    (0..ngrams.contexts(depth)).map(context).collect()
}

impl Discounts {
    /// Where the formula has no answer: the discounts of a small text, as other tools have them.
    const FALLBACK: Self = Self([0.5, 1.0, 1.5]);

    fn estimate(counts: &[u32]) -> Self {
        let mut counts_of_counts = [0u64; 4];
        for &count in counts {
            if let 1..=4 = count {
                counts_of_counts[count as usize - 1] += 1;
            }
        }
        Self::from_counts_of_counts(counts_of_counts)
    }

    /// The estimate of Chen and Goodman; where a count of counts is 0 or a discount leaves (0, count], all three
    /// are the fallback's, so that every backoff weight is above 0 and no count turns negative.
    fn from_counts_of_counts(n: [u64; 4]) -> Self {
        if n.contains(&0) {
            return Self::FALLBACK;
        }
        let [n1, n2, n3, n4] = n.map(|count| count as f64);
        let y = n1 / (n1 + 2.0 * n2);
        let d1 = 1.0 - 2.0 * y * n2 / n1;
        let d2 = 2.0 - 3.0 * y * n3 / n2;
        let d3 = 3.0 - 4.0 * y * n4 / n3;
        if d2 > 0.0 && d3 > 0.0 { Self([d1, d2, d3]) } else { Self::FALLBACK }
    }

    fn of(self, count: u32) -> f64 {
        match count {
            0 => 0.0,
            1 => self.0[0],
            2 => self.0[1],
            _ => self.0[2],
        }
    }
}

impl Yardstick for KneserNey {
    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn log_prob(&self, history: &[u32], next: u32) -> f64 {
        if !is_id(next, self.vocabulary) {
            return f64::NEG_INFINITY;
        }
        let mut prob = 1.0 / self.vocabulary as f64;
        for depth in 0..self.order().min(history.len() + 1) {
            // Where the text never goes on after a context, it does not after a longer one either.
            let Some(index) = self.ngrams.find(&history[history.len() - depth..]) else { break };
            let Context { total, backoff } = self.contexts[depth][index];
            if total == 0 {
                break;
            }
            let count =
                self.ngrams.child(depth, index, next).map_or(0, |gram| self.ngrams.counts(depth)[gram]);
            let own = (f64::from(count) - self.discounts[depth].of(count)) / f64::from(total);
            prob = own + backoff * prob;
        }
        prob.ln()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    /// A text whose n-grams have counts of all kinds: a skewed walk over `vocabulary` ids, the last never used.
    fn text(length: usize, vocabulary: u32) -> Vec<u32> {
        let (mut seed, mut id) = (1u64, 0u32);
        let step = |_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = (seed >> 40) as u32 % 100;
            id = (id * 3 + draw * draw / 1700) % (vocabulary - 1);
            id
        };
        (0..length).map(step).collect()
    }

    /// The definition, word for word, in slow hash maps; discounts are taken from the model.
    fn oracle(ids: &[u32], model: &KneserNey, history: &[u32], next: u32) -> f64 {
        let order = model.order();
        let mut prob = 1.0 / model.vocabulary as f64;
        for length in 1..=order.min(history.len() + 1) {
            let mut counts: HashMap<&[u32], f64> = HashMap::new();
            let mut seen = HashSet::new();
            for (at, gram) in ids.windows(length).enumerate() {
                let left = at.checked_sub(1).map(|left| ids[left]);
                if length == order || seen.insert((left, gram)) {
                    *counts.entry(gram).or_default() += 1.0;
                }
            }
            let context = &history[history.len() + 1 - length..];
            let discounts = model.discounts(length).expect("length");
            let discount = |count: f64| discounts[count as usize - 1..].first().copied();
            let (mut total, mut discounted, mut own) = (0.0, 0.0, 0.0);
            for (gram, &count) in counts.iter().filter(|(gram, _)| gram.starts_with(context)) {
                let d = discount(count.min(3.0)).expect("discount");
                total += count;
                discounted += d;
                if gram[length - 1] == next {
                    own = count - d;
                }
            }
            if total > 0.0 {
                prob = own / total + discounted / total * prob;
            }
        }
        prob
    }

    #[test]
    fn the_model_is_the_definition() {
        let ids = text(200, 8);
        for order in 1..=4 {
            let model = KneserNey::new(&ids, 8, order).expect("model");
            // Otherwise the estimated discounts would not be under test.
            assert!(order == 1 || model.discounts(order) != Some(Discounts::FALLBACK.0));
            for history in [&[][..], &[0], &[7], &[7, 0], &ids[5..7], &ids[100..120], &ids[..], &[6, 6, 6]] {
                for next in 0..8 {
                    let (got, expected) =
                        (model.log_prob(history, next).exp(), oracle(&ids, &model, history, next));
                    assert!((got - expected).abs() < 1e-13, "order {order}: {got} for {expected}");
                }
            }
        }
    }

    #[test]
    fn probabilities_sum_to_one_and_none_is_zero() {
        let ids = text(3000, 30);
        let strange = text(50, 40);
        for order in [1, 2, 3, 5, 8] {
            let model = KneserNey::new(&ids, 30, order).expect("model");
            let seen = ids.windows(7).step_by(101);
            let unseen = strange.windows(4).step_by(5);
            for history in seen.chain(unseen).chain([&[][..], &[29], &ids[2990..], &[u32::MAX, 3]]) {
                let probs: Vec<f64> = (0..30).map(|id| model.log_prob(history, id).exp()).collect();
                assert!((probs.iter().sum::<f64>() - 1.0).abs() < 1e-12, "order {order}, {history:?}");
                assert!(probs.iter().all(|&prob| prob > 0.0), "order {order}, {history:?}");
            }
            assert_eq!(model.log_prob(&[0], 30), f64::NEG_INFINITY);
        }
    }

    #[test]
    fn a_bigram_by_hand() {
        // a b a c a b: before a stand the begin, b and c; before b and before c only a.
        let model = KneserNey::new(&[0, 1, 0, 2, 0, 1], 3, 2).expect("model");
        assert_eq!(model.discounts(1), Some([0.5, 1.0, 1.5]));
        let unigram = [1.5 / 5.0 + 0.5 / 3.0, 0.5 / 5.0 + 0.5 / 3.0, 0.5 / 5.0 + 0.5 / 3.0];
        let after_a = [0.5 * unigram[0], 1.0 / 3.0 + 0.5 * unigram[1], 0.5 / 3.0 + 0.5 * unigram[2]];
        let after_b = [0.5 + 0.5 * unigram[0], 0.5 * unigram[1], 0.5 * unigram[2]];
        let cases = [(&[][..], unigram), (&[0], after_a), (&[2, 1, 0], after_a), (&[1], after_b)];
        for (history, expected) in cases {
            for (next, expected) in (0u32..).zip(expected) {
                let got = model.log_prob(history, next).exp();
                assert!((got - expected).abs() < 1e-14, "{next} after {history:?}: {got} for {expected}");
            }
        }
    }

    #[test]
    fn discounts_by_hand_and_where_there_are_none() {
        let Discounts(d) = Discounts::from_counts_of_counts([8, 4, 2, 1]);
        for (got, expected) in d.into_iter().zip([0.5, 1.25, 2.0]) {
            assert!((got - expected).abs() < 1e-15, "{d:?}");
        }
        assert_eq!(Discounts::from_counts_of_counts([8, 4, 0, 1]), Discounts::FALLBACK);
        // Twice as many threes as ones: D2 would be below 0.
        assert_eq!(Discounts::from_counts_of_counts([8, 4, 16, 1]), Discounts::FALLBACK);
        let estimate = Discounts::estimate(&[1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5, 9]);
        assert_eq!(estimate, Discounts(d));
    }

    #[test]
    fn two_models_of_one_text_agree_in_every_bit() {
        let ids = text(2000, 20);
        let bits = || {
            let model = KneserNey::new(&ids, 20, KneserNey::ORDER).expect("model");
            crate::yardstick::perplexity(&model, &ids).expect("perplexity").to_bits()
        };
        assert_eq!(bits(), bits());
    }

    #[test]
    fn a_longer_order_fits_a_text_with_memory_better() {
        // A period of 7 over 3 ids: three ids back tell what comes, one does not.
        let ids: Vec<u32> = [0, 0, 1, 0, 1, 1, 2].into_iter().cycle().take(700).collect();
        let perplexity = |order| {
            let model = KneserNey::new(&ids, 3, order).expect("model");
            crate::yardstick::perplexity(&model, &ids).expect("perplexity")
        };
        assert!(perplexity(1) > 2.5 && perplexity(2) > 1.5 && perplexity(4) < 1.2);
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        let message = |ids: &[u32], vocabulary, order| {
            KneserNey::new(ids, vocabulary, order).expect_err("refused").to_string()
        };
        assert!(message(&[0, 1], 2, 0).contains("order: expected 1 to 2, got 0"));
        assert!(message(&[0, 1], 2, 3).contains("order: expected 1 to 2, got 3"));
        assert!(message(&[0, 2], 2, 1).contains("at position 1"));
        assert!(message(&[], 2, 1).contains("ids: expected at least 1 id"));
    }
}
