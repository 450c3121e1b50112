//! The one error type of the crate: what was asked for, what was expected, what came, and the way out.
//!
//! Errors of candle itself pass through unchanged as [`Error::Candle`].

use std::fmt::Display;

/// What can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument does not fit: names the operation, what it expected, what it got and what to do about it.
    #[error("{op}: expected {expected}, got {got}{}", hint_suffix(.hint))]
    Invalid {
        /// The operation and, where there are several, its argument: `"TimeRnn::forward: xs"`.
        op: String,
        /// What would have been accepted.
        expected: String,
        /// What came.
        got: String,
        /// The way out; empty where `expected` says it all.
        hint: String,
    },
    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

fn hint_suffix(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!(" ({hint})") }
}

impl Error {
    /// An [`Error::Invalid`] without a hint.
    ///
    /// ```
    /// let error = rnn_core::Error::invalid("f: x", "[2, 3]", "[2]");
    /// assert_eq!(error.to_string(), "f: x: expected [2, 3], got [2]");
    /// ```
    pub fn invalid(op: impl Display, expected: impl Display, got: impl Display) -> Self {
        Self::Invalid {
            op: op.to_string(),
            expected: expected.to_string(),
            got: got.to_string(),
            hint: String::new(),
        }
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(mut self, text: impl Display) -> Self {
        if let Self::Invalid { hint, .. } = &mut self {
            *hint = text.to_string();
        }
        self
    }
}

/// So that `?` works inside a user's functions that return candle's result.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(inner) => inner,
            other => candle_core::Error::wrap(other),
        }
    }
}
