//! What a model expects after each word of a text. Nothing is recorded.

use super::net::Net;
use crate::layers::check_ids;
use crate::{Error, Result};
use candle_core::DType;
use rnn_core::{Cell, Recurrent};

pub(super) fn probabilities<C: Cell>(net: &Net<C>, ids: &[u32]) -> Result<Vec<Vec<f64>>> {
    if ids.is_empty() {
        return Err(Error::invalid("probabilities: ids", "at least one", "none"));
    }
    check_ids("probabilities: ids", ids, net.embedding.weight().dim(0)?)?;
    let (hs, _) = net.stack.infer(&net.embedding.look_up(ids, 1)?, &net.stack.zero_state(1)?)?;
    let logits = net.head.infer(&hs)?.squeeze(0)?.to_dtype(DType::F64)?;
    Ok(candle_nn::ops::softmax(&logits, 1)?.to_vec2()?)
}
