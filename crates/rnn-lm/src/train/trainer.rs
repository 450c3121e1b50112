//! One step after the other: forward, backward, update, and an end before the weights are spoilt.

use super::Optimizer;
use crate::data::Window;
use crate::{Error, LanguageModel, Result};

/// Trains a model window by window.
#[derive(Debug)]
pub struct Trainer {
    /// What is done with the gradients.
    pub optimizer: Optimizer,
    /// Steps done.
    pub steps: usize,
}

impl Trainer {
    /// A trainer that has done nothing yet.
    pub fn new(optimizer: Optimizer) -> Self {
        Self { optimizer, steps: 0 }
    }

    /// One step; gives the window's mean loss before it.
    ///
    /// # Errors
    /// [`Error::Diverged`] where the loss or the gradients' norm is not finite, before any weight has been touched;
    /// and those of the model.
    pub fn step(&mut self, model: &mut dyn LanguageModel, window: &Window) -> Result<f64> {
        let step = self.steps + 1;
        let loss = model.forward(window)?;
        if !loss.is_finite() {
            return Err(Error::Diverged { step, what: "loss", value: loss });
        }
        model.backward()?;
        model.update(&mut self.optimizer).map_err(|error| match error {
            Error::Diverged { what, value, .. } => Error::Diverged { step, what, value },
            other => other,
        })?;
        self.steps = step;
        Ok(loss)
    }
}
