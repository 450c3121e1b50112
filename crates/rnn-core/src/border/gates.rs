//! The orders in which others keep the gates of a layer, all under our names of the gates.

use super::Kind;
use crate::convention::{GRU_GATES, LSTM_GATES};
use crate::{Error, Result};
use candle_core::Tensor;

/// The one gate of a plain layer.
const RNN: &[&str] = &["a"];

/// An order of gates.
pub(super) type Order = &'static [&'static str];

/// The order of our parameters.
pub(super) fn ours(kind: Kind) -> Order {
    match kind {
        Kind::RnnTanh | Kind::RnnRelu => RNN,
        Kind::Lstm => &LSTM_GATES,
        Kind::Gru => &GRU_GATES,
    }
}

/// ONNX's `iofc` and `zrh`.
pub(super) fn onnx(kind: Kind) -> Order {
    match kind {
        Kind::RnnTanh | Kind::RnnRelu => RNN,
        Kind::Lstm => &["i", "o", "f", "g"],
        Kind::Gru => &["z", "r", "n"],
    }
}

/// Keras's `ifco` and `zrh`.
pub(super) fn keras(kind: Kind) -> Order {
    match kind {
        Kind::RnnTanh | Kind::RnnRelu => RNN,
        Kind::Lstm => &["i", "f", "g", "o"],
        Kind::Gru => &["z", "r", "n"],
    }
}

/// The book's order, of the kinds that mean there what they mean here.
pub(super) fn book(kind: Kind) -> Option<Order> {
    match kind {
        Kind::RnnTanh => Some(RNN),
        Kind::Lstm => Some(&["f", "g", "i", "o"]),
        Kind::RnnRelu | Kind::Gru => None,
    }
}

/// `rows [G*H, ...]`, whose gates stand in the order `from`, in the order `to`.
///
/// # Errors
/// Where the orders are not of the same gates.
pub(super) fn reorder(rows: &Tensor, from: Order, to: Order) -> Result<Tensor> {
    if from == to {
        return Ok(rows.contiguous()?);
    }
    let gates = rows.chunk(from.len(), 0)?;
    let of = |gate: &&str| {
        let gate = from.iter().zip(&gates).find(|(name, _)| *name == gate);
        gate.map(|(_, rows)| rows)
            .ok_or_else(|| Error::invalid("gates", format!("{to:?}"), format!("{from:?}")))
    };
    Ok(Tensor::cat(&to.iter().map(of).collect::<Result<Vec<_>>>()?, 0)?)
}
