//! The arithmetic of each cell, once for all lanes, with its backward directly below.

mod gru;
mod lstm;
mod rnn;

pub use gru::Gru;
pub use lstm::Lstm;
pub use rnn::{RnnRelu, RnnTanh};

use super::Vector;

/// As many gates as any cell has; a cell uses the first [`Pointwise::GATES`] of an array.
pub const MAX_GATES: usize = 4;

/// From gate sums to the next state, and back.
pub trait Pointwise: Sync + 'static {
    /// G, at most [`MAX_GATES`].
    const GATES: usize;
    /// Whether the state has a part c beside h.
    const CARRY: bool;
    /// Whether the hidden state before the step is read, beside what the recurrent product makes of it. A cell that does
    /// without can be projected.
    const READS_H: bool;
    /// Whether the backward needs [`Tape::extra`].
    const EXTRA: bool;
    /// Whether the gradients of the two halves of the gate sums differ.
    const TWO_SIDED: bool;

    /// One step for some lanes of a row; the halves of the gate sums come with their biases.
    fn forward<V: Vector>(input: [V; MAX_GATES], recurrent: [V; MAX_GATES], h: V, c: V) -> Forward<V>;

    /// Its backward: `dh` and `dc` are the whole gradients of the state after the step.
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, dc: V) -> Backward<V>;
}

/// What a step's forward gives.
pub struct Forward<V> {
    /// Activations of the gates; they replace the gate sums in memory and are kept for the backward.
    pub gates: [V; MAX_GATES],
    /// One more value for the backward.
    pub extra: V,
    /// The next hidden state.
    pub h: V,
    /// The next c.
    pub c: V,
}

/// What a step's backward reads.
pub struct Tape<V> {
    /// As [`Forward::gates`].
    pub gates: [V; MAX_GATES],
    /// As [`Forward::extra`].
    pub extra: V,
    /// The hidden state before the step.
    pub h_before: V,
    /// The c before the step.
    pub c_before: V,
}

/// What a step's backward gives.
pub struct Backward<V> {
    /// Gradients of the input half of the gate sums.
    pub input: [V; MAX_GATES],
    /// Gradients of the recurrent half; read where [`Pointwise::TWO_SIDED`] alone.
    pub recurrent: [V; MAX_GATES],
    /// The part of the gradient of the h before the step that does not pass through the recurrent product.
    pub dh: V,
    /// The gradient of the c before the step.
    pub dc: V,
}
