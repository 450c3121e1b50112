//! What a training tells whoever watches it, and why it ends.

use crate::LanguageModel;

/// After a step.
#[derive(Debug, Clone, Copy)]
pub struct Stepped {
    /// The epoch that goes on, counted from 1, and how many there will be.
    pub epoch: (usize, usize),
    /// Windows read of it, and how many it has.
    pub window: (usize, usize),
    /// Steps done in all.
    pub step: u64,
    /// Mean loss since the last evaluation, without penalties, in nats a token.
    pub loss: f64,
    /// Tokens learnt from in all.
    pub tokens: usize,
    /// The rate of the step that the last window is a part of, before the factor of its length
    /// ([`crate::data::Window::share`]).
    pub lr: f64,
}

/// After an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Where it stands.
    pub at: Stepped,
    /// Loss on the text to measure on, if there is one, in nats a token.
    pub valid: Option<f64>,
    /// Whether that, or else the loss while learning, is the best so far: these weights are the run's then.
    pub best: bool,
    /// Seconds of training so far, in all processes that took part.
    pub seconds: f64,
}

/// Who is told, and may stop it.
pub trait Watch {
    /// After each window.
    fn stepped(&mut self, _: &Stepped, _: &dyn LanguageModel) {}
    /// Before an evaluation.
    fn measuring(&mut self) {}
    /// After each evaluation.
    fn measured(&mut self, _: &Measured, _: &dyn LanguageModel) {}
    /// Whether to write a checkpoint and come back.
    fn stop(&self) -> bool {
        false
    }
}

/// Why [`Fit::train_on`](super::Fit::train_on) returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All epochs are done.
    Done,
    /// Nothing better came for as long as the settings wait.
    Early,
    /// It was told to stop, and can go on.
    Stopped,
}
