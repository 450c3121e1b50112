//! What a drawn text depends on: settings, and what they may be.

use crate::layers::check_ids;
use crate::{Error, Result};

/// How to draw the next id. Every setting begins as what changes nothing.
///
/// They apply in this order: `repetition` and `temperature` to the logits; then `skip`, `top_k`, `top_p` and
/// `min_p` each leave some of the ids that the one before left, and what is left is drawn from in proportion
/// to its probability. Of equally probable ids the smaller ones are kept first.
///
/// ```
/// use rnn_lm::generate::Sampling;
/// let sampling = Sampling { temperature: 0.8, top_p: 0.9, seed: 7, ..Sampling::default() };
/// assert!(sampling.check(100).is_ok());
/// let error = Sampling { top_p: 0.0, ..sampling }.check(100).unwrap_err();
/// assert_eq!(error.to_string(), "generate: top_p: expected a number above 0 and at most 1 (1 keeps all), got 0");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it: below 1 more predictable, above 1 wilder. 0 is its limit, always the most probable id,
    /// of equal ones the first.
    pub temperature: f64,
    /// Only so many of the most probable ids are kept (Fan et al. 2018); 0 keeps all.
    pub top_k: usize,
    /// Only the fewest most probable ids are kept whose probabilities together reach it (the nucleus,
    /// Holtzman et al. 2020), as shares of what is left before it; 1 keeps all.
    pub top_p: f64,
    /// Only ids at least so many times as probable as the most probable one are kept (Nguyen et al. 2024); 0
    /// keeps all.
    pub min_p: f64,
    /// The logit of an id that came before, in the prompt or behind it, is divided by it where it is positive
    /// and multiplied with it where it is negative (CTRL, Keskar et al. 2019, who take 1.2); 1 changes
    /// nothing.
    pub repetition: f64,
    /// Ids that are never drawn, such as `<unk>`.
    pub skip: Vec<u32>,
    /// The same seed gives the same text.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        let skip = Vec::new();
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition: 1.0, skip, seed: 0 }
    }
}

impl Sampling {
    /// Whether these settings are valid for a vocabulary of so many ids.
    ///
    /// # Errors
    /// Where one is not; the error names it, its value and what is expected.
    pub fn check(&self, vocabulary: usize) -> Result<()> {
        let Self { temperature, top_p, min_p, repetition, .. } = *self;
        let wrong =
            |name: &str, want: &str, got: f64| Err(Error::invalid(format!("generate: {name}"), want, got));
        // Written so that a NaN is refused.
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return wrong("temperature", "a number of at least 0 (0 is the most probable id)", temperature);
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return wrong("top_p", "a number above 0 and at most 1 (1 keeps all)", top_p);
        }
        if !(0.0..=1.0).contains(&min_p) {
            return wrong("min_p", "a number from 0 to 1 (0 keeps all)", min_p);
        }
        if !(repetition > 0.0 && repetition.is_finite()) {
            return wrong("repetition", "a number above 0 (1 changes nothing)", repetition);
        }
        check_ids("generate: skip", &self.skip, vocabulary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_cannot_be_is_refused_by_name() {
        const NAN: f64 = f64::NAN;
        const INF: f64 = f64::INFINITY;
        let good = Sampling::default;
        let refused = |wrong: &[f64], name: &str, want: &str, set: &dyn Fn(f64) -> Sampling| {
            for &value in wrong {
                let error = set(value).check(5).unwrap_err().to_string();
                assert_eq!(error, format!("generate: {name}: expected {want}, got {value}"));
            }
        };
        let want = "a number of at least 0 (0 is the most probable id)";
        refused(&[-0.1, NAN, INF], "temperature", want, &|temperature| Sampling { temperature, ..good() });
        let want = "a number above 0 and at most 1 (1 keeps all)";
        refused(&[0.0, -1.0, 1.1, NAN], "top_p", want, &|top_p| Sampling { top_p, ..good() });
        let want = "a number from 0 to 1 (0 keeps all)";
        refused(&[-0.1, 1.1, NAN], "min_p", want, &|min_p| Sampling { min_p, ..good() });
        let want = "a number above 0 (1 changes nothing)";
        refused(&[0.0, -1.2, NAN, INF], "repetition", want, &|repetition| Sampling { repetition, ..good() });
        let error = Sampling { skip: vec![4, 5], ..good() }.check(5).unwrap_err().to_string();
        let want = "generate: skip: expected ids below 5, the size of the vocabulary, got 5 (at position 1)";
        assert_eq!(error, want);
    }

    #[test]
    fn what_lies_on_an_edge_is_accepted() {
        let edge = Sampling {
            temperature: 0.0,
            top_k: 9,
            top_p: 1e-9,
            min_p: 1.0,
            repetition: 0.5,
            ..Sampling::default()
        };
        assert!(edge.check(5).is_ok());
        assert!(Sampling { skip: vec![4, 4], ..Sampling::default() }.check(5).is_ok());
    }
}
