//! The probability of a line, id by id.

use super::{Evaluation, Progress, Sum, TIME, streams};
use crate::data::Batches;
use crate::layers::check_ids;
use crate::{Error, LanguageModel, Result};

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

/// How well lines are predicted that have nothing to do with each other: each begins with an id that is given, from a state of
/// zeros. The sum of all [`log_probs`].
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::Way;
/// use rnn_lm::evaluate::lines;
/// use rnn_lm::model::{CellKind, LmSpec, build};
/// let model = build(CellKind::Lstm, &LmSpec::new(5, 4, 8), Way::Fused, (DType::F64, &Device::Cpu), 1)?;
/// let (one, twice) = (vec![0, 3, 1], vec![vec![0, 3, 1], vec![0, 3, 1]]);
/// let [one, twice] = [lines(model.as_ref(), [one], None)?, lines(model.as_ref(), twice, None)?];
/// assert_eq!((twice.predictions, twice.nats), (4, 2.0 * one.nats));
/// # rnn_lm::Result::Ok(())
/// ```
///
/// # Errors
/// Where there is nothing to predict, or an id is outside the vocabulary.
pub fn lines(
    model: &dyn LanguageModel,
    lines: impl IntoIterator<Item = Vec<u32>>,
    progress: Progress<'_>,
) -> Result<Evaluation> {
    let mut sum = Sum::new(progress);
    for line in lines {
        let scores = log_probs(model, &line)?;
        sum.add(-scores.iter().sum::<f64>(), scores.len());
    }
    match sum.sum.predictions {
        0 => Err(Error::invalid("evaluate: ids", "at least 1", 0).hint("take a longer text")),
        _ => Ok(sum.sum),
    }
}
