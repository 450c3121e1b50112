//! A text read by a model that stays what it is, as one stream or as several side by side.

use super::{Evaluation, Progress, Sum, check_text, streams};
use crate::data::{Batches, BookBatches, Window};
use crate::{Error, LanguageModel, Result};

/// In which order a text is read. It decides what a prediction can know of what stands before it, so numbers
/// of different orders differ a little.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::Way;
/// use rnn_lm::evaluate::Order;
/// use rnn_lm::model::{CellKind, LmSpec, build};
/// let ids: Vec<u32> = (0..40).map(|i| i % 7).collect();
/// let model = build(CellKind::Gru, &LmSpec::new(7, 4, 8), Way::Fused, (DType::F32, &Device::Cpu), 1)?;
/// // Of the book's windows of 4 x 5 there is one: another would be incomplete.
/// let (streams, book) = (Order::Streams { batch: 4 }, Order::Book { batch: 4 });
/// for (order, count) in [(Order::Whole, 39), (streams, 39), (book, 20)] {
///     assert_eq!(order.evaluate(model.as_ref(), &ids, 5, None)?.predictions, count);
/// }
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As one stream: every prediction once, each with all that is before it.
    #[default]
    Whole,
    /// As so many streams side by side, which is faster: every prediction once, dealt out as
    /// [`crate::data::Streams`] does. The state of each is zero where it begins.
    Streams {
        /// How many, N.
        batch: usize,
    },
    /// As the book does (chapter 6, `eval_perplexity`): N readers at equal distances, for as many whole
    /// windows of N x T as there are. What is left over is not read: of the 82,429 predictions of the Penn
    /// Treebank's test text 82,250, with N = 10 and T = 35.
    Book {
        /// How many readers, N.
        batch: usize,
    },
}

impl Order {
    /// The loss of `ids` in this order, in windows of `time` steps. Only the book's depends on `time`;
    /// elsewhere it is the memory that does.
    ///
    /// # Errors
    /// Where there are fewer than two ids, or too few for so many streams; where one is outside the
    /// vocabulary.
    pub fn evaluate(
        self,
        model: &dyn LanguageModel,
        ids: &[u32],
        time: usize,
        progress: Progress<'_>,
    ) -> Result<Evaluation> {
        check_text("evaluate", model, ids)?;
        if time == 0 {
            return Err(Error::invalid("evaluate: time", "at least 1", 0));
        }
        match self {
            Self::Whole => sum(model, &mut streams(ids, 1, time)?.epoch(0), progress),
            Self::Streams { batch } => sum(model, &mut streams(ids, batch, time)?.epoch(0), progress),
            Self::Book { batch } => sum(model, &mut BookBatches::new(ids, batch, time)?.epoch(0), progress),
        }
    }
}

fn sum(
    model: &dyn LanguageModel,
    windows: &mut dyn Iterator<Item = Result<Window>>,
    progress: Progress<'_>,
) -> Result<Evaluation> {
    let mut all = Sum::new(progress);
    model.read(windows, &mut |reading| {
        all.add(reading.losses.iter().sum(), reading.window.targets);
        Ok(())
    })?;
    Ok(all.sum)
}
