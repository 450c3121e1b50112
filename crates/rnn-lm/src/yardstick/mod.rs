//! Models that only count: the perplexities that a neural model has to beat before it has learnt anything.
//!
//! All work on ids of a closed vocabulary and give every id of it a probability above 0; the probabilities after one
//! history sum to 1.

mod kneser_ney;
mod ngrams;
mod unigram;

pub use kneser_ney::KneserNey;
pub use unigram::Unigram;

use crate::error::{Error, Result};
use crate::layers::check_ids;

/// A language model that answers one question: how likely is `next` after `history`?
pub trait Yardstick {
    /// The size of the vocabulary, V.
    fn vocabulary(&self) -> usize;

    /// The natural logarithm of the probability of `next` after `history`, whose last id is the nearest.
    ///
    /// Minus infinity for a `next` outside the vocabulary. Ids of `history` may be any.
    fn log_prob(&self, history: &[u32], next: u32) -> f64;
}

/// The model that knows the vocabulary and nothing else: 1 / V for every id.
#[derive(Debug, Clone, Copy)]
pub struct Uniform {
    /// The size of the vocabulary, V.
    pub vocabulary: usize,
}

impl Yardstick for Uniform {
    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn log_prob(&self, _history: &[u32], next: u32) -> f64 {
        if is_id(next, self.vocabulary) { -(self.vocabulary as f64).ln() } else { f64::NEG_INFINITY }
    }
}

/// The perplexity of a text: the exponential of minus the mean log probability of `ids[1..]`, each id after all ids
/// before it. The first id is given, as it is to a recurrent model.
///
/// ```
/// use rnn_lm::yardstick::{Uniform, perplexity};
///
/// let perplexity = perplexity(&Uniform { vocabulary: 50 }, &[3, 1, 4, 1, 5])?;
/// assert!((perplexity - 50.0).abs() < 1e-9);
/// # Ok::<(), rnn_lm::Error>(())
/// ```
///
/// # Errors
/// Fewer than two ids, or an id outside the vocabulary.
pub fn perplexity(model: &impl Yardstick, ids: &[u32]) -> Result<f64> {
    if ids.len() < 2 {
        return Err(Error::invalid(
            "perplexity: ids",
            "at least 2 ids, of which the first is given",
            ids.len(),
        ));
    }
    check_ids("perplexity", ids, model.vocabulary())?;
    let sum: f64 = (1..ids.len()).map(|at| model.log_prob(&ids[..at], ids[at])).sum();
    Ok((-sum / (ids.len() - 1) as f64).exp())
}

/// Whether `id` is one of `vocabulary` ids.
fn is_id(id: u32, vocabulary: usize) -> bool {
    usize::try_from(id).is_ok_and(|id| id < vocabulary)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows that 1 follows 0, and halves the probability of whatever has a longer history.
    struct Fixed;

    impl Yardstick for Fixed {
        fn vocabulary(&self) -> usize {
            2
        }

        fn log_prob(&self, history: &[u32], next: u32) -> f64 {
            assert_eq!(next, u32::from(history.len() % 2 == 1));
            -(history.len() as f64)
        }
    }

    #[test]
    fn perplexity_is_over_every_id_but_the_first_given_all_before() {
        // Log probabilities -1, -2, -3: their mean is -2.
        let value = perplexity(&Fixed, &[0, 1, 0, 1]).expect("perplexity");
        assert!((value - 2f64.exp()).abs() < 1e-12, "{value}");
    }

    #[test]
    fn texts_that_do_not_fit_are_refused() {
        let uniform = Uniform { vocabulary: 3 };
        assert!(perplexity(&uniform, &[1]).is_err());
        let error = perplexity(&uniform, &[0, 2, 3]).expect_err("range").to_string();
        assert!(error.contains("ids below 3") && error.contains("got 3 (at position 2)"), "{error}");
        assert_eq!(uniform.log_prob(&[], 3), f64::NEG_INFINITY);
    }
}
