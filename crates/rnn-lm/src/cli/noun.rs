//! How people call a token, and in what they say how well it is predicted.

use rnn_lm::tokenizer::{Tokenizer, Unit};
use std::fmt;

/// What a tokenizer's token is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noun(Unit);

impl Noun {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        Self(tokenizer.unit())
    }

    /// Whether it is larger than a character, as words and pieces are: a few make a text.
    pub(super) fn is_large(self) -> bool {
        matches!(self.0, Unit::Word | Unit::Bpe)
    }

    /// A loss in nats as people of the field say it: perplexity of what is large, bits of what is small.
    pub(super) fn quality(self, loss: f64) -> String {
        let (measure, figure) = (self.measure(), self.short(self.figure(loss)));
        if self.is_large() { format!("{measure} {figure}") } else { format!("{figure} {measure}") }
    }

    /// What that is.
    pub(super) fn measure(self) -> String {
        if self.is_large() { "perplexity".into() } else { format!("bits a {self}") }
    }

    /// Its number.
    pub(super) fn figure(self, loss: f64) -> f64 {
        if self.is_large() { loss.exp() } else { bits(loss) }
    }

    /// As many digits of it as say something.
    pub(super) fn short(self, figure: f64) -> String {
        if self.is_large() { format!("{figure:.1}") } else { format!("{figure:.3}") }
    }
}

/// Nats as bits.
pub(super) fn bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.0 {
            Unit::Word => "word",
            Unit::Char => "character",
            Unit::Byte => "byte",
            Unit::Bpe => "piece",
        })
    }
}
