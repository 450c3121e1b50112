//! The arithmetic of each cell, once for all lanes, with its backward directly below.
//!
//! Most cells take one stage from gate sums to the next state. Some need a whole row on the way, and have two stages with
//! something [`Between`] them; the gates of the first come first.

mod gru;
mod gru_paper;
mod lstm;
mod norm_lstm;
mod peephole;
mod rnn;

pub use gru::Gru;
pub use gru_paper::ResetBeforeGru;
pub use lstm::Lstm;
pub use norm_lstm::CellNormLstm;
pub use peephole::PeepholeLstm;
pub use rnn::{RnnRelu, RnnTanh};

use super::Vector;

/// As many gates as any cell has; a stage uses the first [`Pointwise::GATES`] of an array.
pub const MAX_GATES: usize = 4;

/// As many numbers of its own as any cell has for a unit; a stage uses the first [`Pointwise::OWN`].
pub const MAX_OWN: usize = 3;

/// What a stage reads beside gate sums and c.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Nothing: only what the recurrent product makes of the state.
    Nothing,
    /// The hidden state before the step. A cell that reads neither this nor what is fed can be projected.
    Hidden,
    /// What is fed to the recurrent product: that hidden state, or what a mask left of it.
    Fed,
    /// What stands between two stages.
    Between,
}

/// A stage of a cell: from gate sums, a unit at a time, to what it makes of them, and back.
pub trait Pointwise: Sync + 'static {
    /// The gates of this stage, at least one; a cell has at most [`MAX_GATES`].
    const GATES: usize;
    /// Whether the state has a part c beside h, and this stage makes the next one; at most one of a cell does.
    const CARRY: bool;
    /// What else it reads.
    const READS: Reads;
    /// Whether the backward needs [`Tape::extra`]; at most one stage of a cell does.
    const EXTRA: bool;
    /// Whether the gradients of the two halves of the gate sums differ; of both stages of a cell or of none.
    const TWO_SIDED: bool;
    /// Parameters of the cell's own for each unit, at most [`MAX_OWN`]; only a last stage has some.
    const OWN: usize = 0;

    /// One step for some lanes of a row.
    fn forward<V: Vector>(inputs: Inputs<V>) -> Forward<V>;

    /// Its backward: `dmade` and `dc` are the whole gradients of what it made and of the c after the step.
    fn backward<V: Vector>(tape: &Tape<V>, dmade: V, dc: V) -> Backward<V>;
}

/// The stages of a cell.
///
/// By these constants the kernels give each member of a team places of its own. What they could not keep apart does not
/// compile where a kernel of it is asked for: a stage without gates, or more than [`MAX_GATES`]; a single stage, or the
/// first of two, that reads [`Reads::Between`]; a first of two that reads [`Reads::Hidden`] or has numbers of its own;
/// two that both read [`Reads::Fed`], have an extra or make the next c; two of which one is [`Pointwise::TWO_SIDED`], or
/// both are beside a [`Between::Product`]; a last one that reads [`Reads::Between`] behind a product, or does not behind
/// a [`Between::Norm`].
pub trait Stages: Send + Sync + 'static {
    /// The first one, where there are two.
    type First: Pointwise;
    /// The one that makes the next hidden state.
    type Last: Pointwise;
    /// What stands between two.
    const BETWEEN: Option<Between>;
}

impl<P: Pointwise + Send> Stages for P {
    type First = P;
    type Last = P;
    const BETWEEN: Option<Between> = None;
}

/// What stands between two stages; it takes whole rows of what the first one made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// A product with `weight_hn [H, H]`: a part of the sum of the last gate, which the recurrent product has none in.
    Product,
    /// Normalisation, `(v - mean(v)) / sqrt(var(v) + 1e-5)`: read by the last stage.
    Norm,
}

/// What a stage's forward reads.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<V> {
    /// The halves of the gate sums, with their biases.
    pub input: [V; MAX_GATES],
    /// Zeros where the recurrent product was added to the other half, but for its bias.
    pub recurrent: [V; MAX_GATES],
    /// As [`Pointwise::READS`] says.
    pub read: V,
    /// The c before the step.
    pub c: V,
    /// Parameters of the cell's own.
    pub own: [V; MAX_OWN],
}

/// What a stage's forward gives.
pub struct Forward<V> {
    /// Activations of the gates; they replace the gate sums in memory and are kept for the backward.
    pub gates: [V; MAX_GATES],
    /// One more value for the backward.
    pub extra: V,
    /// The next hidden state, or what stands between the stages.
    pub made: V,
    /// The next c.
    pub c: V,
}

/// What a stage's backward reads.
pub struct Tape<V> {
    /// As [`Forward::gates`].
    pub gates: [V; MAX_GATES],
    /// As [`Forward::extra`].
    pub extra: V,
    /// As [`Inputs::read`].
    pub read: V,
    /// The c before the step.
    pub c_before: V,
    /// As [`Inputs::own`].
    pub own: [V; MAX_OWN],
}

/// What a stage's backward gives.
pub struct Backward<V> {
    /// Gradients of the input half of the gate sums.
    pub input: [V; MAX_GATES],
    /// Gradients of the recurrent half; read where [`Pointwise::TWO_SIDED`] alone.
    pub recurrent: [V; MAX_GATES],
    /// The gradient of what was read, as far as it does not pass through the recurrent product.
    pub read: V,
    /// The gradient of the c before the step.
    pub dc: V,
    /// What this row and step adds to the gradients of the parameters of the cell's own.
    pub own: [V; MAX_OWN],
}

impl<V: Vector> Backward<V> {
    /// Of a stage whose halves are a sum, and which reads and carries nothing.
    #[inline(always)]
    pub fn one_sided(gates: [V; MAX_GATES]) -> Self {
        let own = [V::zero(); MAX_OWN];
        Self { input: gates, recurrent: gates, read: V::zero(), dc: V::zero(), own }
    }
}
