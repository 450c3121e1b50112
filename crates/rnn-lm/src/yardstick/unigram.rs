//! The unigram: how often an id came in the training text, whatever stands before it.

use super::{Yardstick, is_id};
use crate::error::{Error, Result};
use crate::layers::check_ids;

/// Relative frequencies, as if one id more had been seen and were spread evenly over the vocabulary:
/// `(count(id) + 1 / V) / (L + 1)`.
///
/// So an id that never came has a probability above 0, and all others together lose one part in L + 1 at most, where
/// adding 1 to each count would cost them V.
///
/// ```
/// use rnn_lm::yardstick::{Unigram, Yardstick};
///
/// let unigram = Unigram::new(&[0, 1, 0], 4)?;
/// assert!((unigram.log_prob(&[], 0).exp() - 2.25 / 4.0).abs() < 1e-12);
/// assert!((unigram.log_prob(&[], 3).exp() - 0.25 / 4.0).abs() < 1e-12);
/// # Ok::<(), rnn_lm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Unigram {
    log_probs: Vec<f64>,
}

impl Unigram {
    /// Counts the training text `ids` over a vocabulary of `vocabulary` ids.
    ///
    /// # Errors
    /// An empty vocabulary, or an id outside it.
    pub fn new(ids: &[u32], vocabulary: usize) -> Result<Self> {
        if vocabulary == 0 {
            return Err(Error::invalid("Unigram::new: vocabulary", "at least 1", 0));
        }
        check_ids("Unigram::new", ids, vocabulary)?;
        let mut counts = vec![0u64; vocabulary];
        for &id in ids {
            counts[id as usize] += 1;
        }
        let share = 1.0 / vocabulary as f64;
        let total = (ids.len() + 1) as f64;
        Ok(Self {
            log_probs: counts.into_iter().map(|count| ((count as f64 + share) / total).ln()).collect(),
        })
    }
}

impl Yardstick for Unigram {
    fn vocabulary(&self) -> usize {
        self.log_probs.len()
    }

    fn log_prob(&self, _history: &[u32], next: u32) -> f64 {
        if is_id(next, self.log_probs.len()) { self.log_probs[next as usize] } else { f64::NEG_INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_smoothed_frequencies_and_sum_to_one() {
        let unigram = Unigram::new(&[2, 2, 0, 2], 4).expect("unigram");
        let probs: Vec<f64> = (0..4).map(|id| unigram.log_prob(&[1, 3], id).exp()).collect();
        for (prob, expected) in probs.iter().zip([1.25, 0.25, 3.25, 0.25]) {
            assert!((prob - expected / 5.0).abs() < 1e-15, "{probs:?}");
        }
        assert!((probs.iter().sum::<f64>() - 1.0).abs() < 1e-15);
        assert_eq!(unigram.log_prob(&[], 4), f64::NEG_INFINITY);
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        assert!(Unigram::new(&[0], 0).is_err());
        let error = Unigram::new(&[0, 3], 3).expect_err("range").to_string();
        assert!(
            error.contains("Unigram::new: expected ids below 3") && error.contains("at position 1"),
            "{error}"
        );
    }
}
