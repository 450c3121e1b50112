//! Text made by a model: how the next id is chosen out of what it expects, one at a time or with an eye on
//! the whole.
//!
//! [`Writing`] draws id after id as [`Sampling`] says, [`Sampler`] being what draws; [`Beam`] looks for the
//! most probable text; [`Stops`] ends a text at a string, wherever the pieces it comes in are cut.

mod beam;
mod greedy;
mod sampler;
mod sampling;
mod stops;
mod writing;

pub use beam::{Beam, Hypothesis};
pub use greedy::most_probable;
pub use sampler::Sampler;
pub use sampling::Sampling;
pub use stops::{Shown, Stops};
pub use writing::Writing;

use crate::layers::check_ids;
use crate::{Error, Result};
use rnn_core::kernels::Typed;

/// The prompt's last id and those before it.
fn last_of<'a>(op: &str, prompt: &'a [u32], vocabulary: usize) -> Result<(u32, &'a [u32])> {
    check_ids(op, prompt, vocabulary)?;
    match prompt.split_last() {
        Some((&last, before)) => Ok((last, before)),
        None => Err(Error::invalid(op, "at least one id to begin with", "none")),
    }
}

/// Logits as f64, whatever they are, in a buffer that is used again.
fn widen(logits: Typed<'_>, into: &mut Vec<f64>) {
    into.clear();
    match logits {
        Typed::F32(numbers) => into.extend(numbers.iter().map(|&logit| f64::from(logit))),
        Typed::F64(numbers) => into.extend_from_slice(numbers),
    }
}
