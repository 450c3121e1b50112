//! lm
#![forbid(unsafe_code)]
mod error;
pub use error::{Error, Result};
