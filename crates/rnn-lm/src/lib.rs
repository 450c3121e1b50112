//! lm
#![forbid(unsafe_code)]
pub mod data;
mod error;
pub mod yardstick;
pub use error::{Error, Result};
