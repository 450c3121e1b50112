//! The most probable text: a search that follows several at once.

mod search;

use super::{last_of, widen};
use crate::layers::check_ids;
use crate::model::LanguageModel;
use crate::{Error, Result};
use search::Search;

/// A beam search: of all texts that are one id longer than those it follows, it follows the `width` most
/// probable ones.
///
/// A text is over where it comes to one of the `ends`, whether or not it is among those to be followed, or
/// has `length` ids. Texts that are over compete by their score, `log p / len^penalty` (Wu et al. 2016
/// without their constants), where p is the product of what the model expects and `len` the number of ids,
/// the end among them. The search stops early only where no text that it follows can become one of the
/// `width` best any more. Of equals the one found first is before the other: the shorter one, then the one
/// that continues the better text, then the smaller id.
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
    /// The exponent of the length in the score: 0 prefers short texts, which have fewer factors, 1 takes the
    /// mean.
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
    /// Where the prompt is empty, an id is outside the vocabulary, a setting is invalid, all ids are skipped,
    /// or a logit is a NaN.
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
        let mut search = Search::new(self);
        for len in 1..=self.length {
            widen(stream.step(&ids)?, &mut logits);
            search.read(&logits, vocabulary, len)?;
            search.follow(&mut ids, &mut from);
            if search.settled() {
                break;
            }
            // Rows without a text read what they read before; nobody looks at what comes of it.
            stream.select(&from)?;
        }
        let best = search.best();
        if best.is_empty() {
            return Err(Error::invalid("Beam: texts", "one that can be written at least", "none")
                .hint("are all ids skipped?"));
        }
        Ok(best)
    }

    /// The rows that it takes; an error where a setting is invalid.
    fn rows(&self, vocabulary: usize) -> Result<usize> {
        /// Logits that are worth a search.
        const MOST: usize = 1 << 26;
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

#[cfg(test)]
mod tests;
