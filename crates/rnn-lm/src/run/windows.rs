//! The windows of a training, in the order that its settings say.

use super::Ids;
use crate::Result;
use crate::config::{Config, Order};
use crate::data::{Batches, BookBatches, Streams, Varied, Window};

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
        let (batch, time) = (training.batch, training.time);
        Ok(match config.order()? {
            Order::Book => Self::Book(BookBatches::new(ids.source(), batch, time)?),
            Order::Streams if training.varied => {
                Self::Varied(Varied::new(Streams::new(ids.source(), batch, time)?, training.seed))
            }
            Order::Streams => Self::Streams(Streams::new(ids.source(), batch, time)?),
        })
    }
}

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
