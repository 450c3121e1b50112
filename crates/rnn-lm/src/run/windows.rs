//! The windows of a training, in the order that its settings say.

use super::Ids;
use crate::config::{Config, Training, WindowOrder};
use crate::data::{Batches, BookBatches, Streams, Varied, Window};
use crate::{Error, Result};

/// In one of the orders that there are.
#[derive(Debug)]
pub enum Windows<'a> {
    /// Every prediction once an epoch.
    Streams(Streams<'a>),
    /// The same in windows of lengths that are drawn.
    Varied(Varied<'a>),
    /// The book's rule.
    Book(BookBatches<'a>),
}

impl<'a> Windows<'a> {
    /// Those of a text, as the settings say.
    ///
    /// # Errors
    /// Where it is too short for one.
    pub fn new(config: &Config, ids: &'a Ids) -> Result<Self> {
        let training = &config.training;
        let (batch, time, corpus) = (training.batch, training.time, &config.data.corpus);
        let of_text = |error: Error| {
            // A text from memory has no name.
            let named = |op: &str| op.ends_with(": ids") && !corpus.is_empty();
            error.renamed(|op| named(op).then(|| format!("{corpus}, what is learnt from")))
        };
        let streams = || Streams::new(ids.source(), batch, time).map_err(of_text);
        Ok(match config.order()? {
            WindowOrder::Book => Self::Book(BookBatches::new(ids.source(), batch, time).map_err(of_text)?),
            WindowOrder::Streams if training.varied => Self::Varied(Varied::new(streams()?, training.seed)),
            WindowOrder::Streams => Self::Streams(streams()?),
        })
    }

    /// Steps of all epochs together. Where lengths are drawn epochs differ: a cosine is to end with the last of them.
    ///
    /// # Errors
    /// Where a step shall have more windows than an epoch.
    pub fn steps(&self, training: &Training) -> Result<u64> {
        let Training { epochs, accumulate, .. } = *training;
        let windows = self.windows(0);
        if accumulate > windows {
            let most = format!("at most {windows}, the windows of an epoch");
            return Err(Error::invalid("training.accumulate", most, accumulate)
                .hint("no step has windows of two epochs, so that none would have as many"));
        }
        let steps = |epoch| self.windows(epoch).div_ceil(accumulate.max(1)) as u64;
        Ok(match self {
            // Of a number that nobody waits for the rest is about the same.
            Self::Varied(_) if epochs <= DRAWN => (0..epochs).map(steps).sum(),
            _ => steps(0).saturating_mul(epochs as u64),
        })
    }
}

/// Epochs whose lengths are drawn to be counted, which takes less than a second.
const DRAWN: usize = 10_000;

impl Batches for Windows<'_> {
    fn windows(&self, epoch: usize) -> usize {
        match self {
            Self::Streams(batches) => batches.windows(epoch),
            Self::Varied(batches) => batches.windows(epoch),
            Self::Book(batches) => batches.windows(epoch),
        }
    }

    fn window(&self, epoch: usize, number: usize) -> Result<Window> {
        match self {
            Self::Streams(batches) => batches.window(epoch, number),
            Self::Varied(batches) => batches.window(epoch, number),
            Self::Book(batches) => batches.window(epoch, number),
        }
    }
}
