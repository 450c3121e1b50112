//! The probability of a line, id by id.

use super::{TIME, streams};
use crate::data::Batches;
use crate::layers::check_ids;
use crate::{LanguageModel, Result};

/// `ln p(ids[i + 1] | ids[..=i])` for each i, from a state of zeros; none where there are fewer than two ids.
/// The sum is minus the nats of [`LanguageModel::evaluate`].
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::Way;
/// use rnn_lm::evaluate::log_probs;
/// use rnn_lm::model::{CellKind, LmSpec, build};
/// let model = build(CellKind::Lstm, &LmSpec::new(5, 4, 8), Way::Fused, (DType::F64, &Device::Cpu), 1)?;
/// let line = [3, 1, 4, 1];
/// let scores = log_probs(model.as_ref(), &line)?;
/// assert_eq!(scores.len(), 3);
/// assert!((model.probabilities(&line[..2])?[1][4].ln() - scores[1]).abs() < 1e-12);
/// # rnn_lm::Result::Ok(())
/// ```
///
/// # Errors
/// Where an id is outside the vocabulary.
pub fn log_probs(model: &dyn LanguageModel, ids: &[u32]) -> Result<Vec<f64>> {
    check_ids("log_probs: ids", ids, model.vocabulary())?;
    if ids.len() < 2 {
        return Ok(Vec::new());
    }
    let mut scores = Vec::with_capacity(ids.len() - 1);
    model.read(&mut streams(ids, 1, TIME)?.epoch(0), &mut |reading| {
        scores.extend(reading.losses.iter().map(|loss| -loss));
        Ok(())
    })?;
    Ok(scores)
}
