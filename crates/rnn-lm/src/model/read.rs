//! A text read window by window, with nothing recorded: what the last layer made of it, and the loss of every
//! prediction. Memory does not grow with the text, and of a window's V logits a position none outlive it.

use super::net::Net;
use crate::Result;
use crate::data::Window;
use crate::layers::{losses, losses_in_ops};
use candle_core::{DType, Tensor};
use rnn_core::kernels::lend;
use rnn_core::{Cell, Recurrent};

/// What a model made of one window.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// What was read.
    pub window: &'a Window,
    /// What the last layer gave, `[N, T, H]`.
    pub hidden: &'a Tensor,
    /// `-ln p` of each target `[N, T]`, row by row; 0 of those that are [`IGNORE`](crate::data::IGNORE).
    pub losses: &'a [f64],
}

pub(super) fn read<C: Cell>(
    net: &Net<C>,
    windows: &mut dyn Iterator<Item = Result<Window>>,
    each: &mut dyn FnMut(&Reading<'_>) -> Result<()>,
) -> Result<()> {
    let Net { embedding, stack, head, .. } = net;
    let table = embedding.weight();
    let mut carried = None;
    for window in windows {
        let window = window?;
        let state = match carried.take() {
            Some(state) if !window.first => state,
            _ => stack.zero_state(window.batch)?,
        };
        let (hidden, next) = stack.infer(&embedding.look_up(&window.xs, window.batch)?, &state)?;
        let losses = losses_of(&head.infer(&hidden)?, &window.ts, table.dim(0)?)?;
        each(&Reading { window: &window, hidden: &hidden, losses: &losses })?;
        carried = Some(next);
    }
    Ok(())
}

/// Of logits that nobody else has: on the CPU they are used up where they stand, and elsewhere they stay.
fn losses_of(logits: &Tensor, targets: &[u32], vocabulary: usize) -> Result<Vec<f64>> {
    if !logits.device().is_cpu() {
        return losses_in_ops(logits, targets);
    }
    let flat = logits.flatten_all()?;
    match flat.dtype() {
        DType::F64 => lend::write(&flat, |flat: &mut [f64]| losses(flat, targets, vocabulary))?,
        _ => {
            let flat = flat.to_dtype(DType::F32)?;
            lend::write(&flat, |flat: &mut [f32]| losses(flat, targets, vocabulary))?
        }
    }
}
