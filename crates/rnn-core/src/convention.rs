//! The names and orders this project follows, PyTorch's, in the one place that knows them.
//!
//! Conversions to other layouts (the book's, Keras's, ONNX's) stand at the border and translate to these.
//!
//! | what | convention |
//! |---|---|
//! | input, output, ids | `x [N, T, D]`, `hs [N, T, H]`, `ids [N, T]`: batch first |
//! | parameters of layer k | `weight_ih_l{k} [G*H, D]`, `weight_hh_l{k} [G*H, P]`, `bias_ih_l{k}`, `bias_hh_l{k} [G*H]`, `weight_hr_l{k} [P, H]` |
//! | those of the reversed direction | the same with `_reverse` behind |
//! | P | the size of a projection (`weight_hr`), H without one |
//! | gates | RNN: one; LSTM: i f g o; GRU: r z n, r applied after the recurrent product |
//! | two directions | outputs side by side, the forward one's first; so are a next layer's inputs |

use std::fmt;

/// What the names of the reversed direction end with.
pub(crate) const REVERSE: &str = "_reverse";

/// Order of the LSTM's gates in its parameters: input, forget, candidate, output.
pub const LSTM_GATES: [&str; 4] = ["i", "f", "g", "o"];

/// Order of the GRU's gates in its parameters: reset, update, new.
pub const GRU_GATES: [&str; 3] = ["r", "z", "n"];

/// The order in which a layer takes its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// From the first step to the last.
    #[default]
    Forward,
    /// From the last step to the first.
    Reverse,
}

impl Direction {
    /// The steps of a window in the order in which they are taken.
    pub(crate) fn steps(
        self,
        time: usize,
    ) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator + Clone {
        (0..time).map(move |s| self.step(s, time))
    }

    /// The step that is taken as number `s`, from 0.
    pub(crate) fn step(self, s: usize, time: usize) -> usize {
        match self {
            Self::Forward => s,
            Self::Reverse => time - 1 - s,
        }
    }

    /// From the order in which steps are taken to that of time, or back.
    pub(crate) fn turn<T>(self, steps: &mut [T]) {
        if self == Self::Reverse {
            steps.reverse();
        }
    }
}

impl Direction {
    /// Both, in the order in which their outputs stand side by side.
    pub const BOTH: [Self; 2] = [Self::Forward, Self::Reverse];
}

/// Where a layer stands: its number in a stack, and its direction. Part of its parameters' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Place {
    /// From 0.
    pub layer: usize,
    /// Forward, unless it is the second one of two directions.
    pub direction: Direction,
}

/// A layer of a stack of one direction.
impl From<usize> for Place {
    fn from(layer: usize) -> Self {
        Self { layer, direction: Direction::Forward }
    }
}

impl From<(usize, Direction)> for Place {
    fn from((layer, direction): (usize, Direction)) -> Self {
        Self { layer, direction }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.direction == Direction::Reverse { REVERSE } else { "" };
        write!(f, "l{}{suffix}", self.layer)
    }
}

/// The name of a layer's parameter.
///
/// ```
/// use rnn_core::convention::{Direction, WEIGHT_IH, name};
/// assert_eq!(name(WEIGHT_IH, 0), "weight_ih_l0");
/// assert_eq!(name(WEIGHT_IH, (1, Direction::Reverse)), "weight_ih_l1_reverse");
/// ```
pub fn name(parameter: &str, place: impl Into<Place>) -> String {
    format!("{parameter}_{}", place.into())
}

/// A layer's input weight `[G*H, D]`.
pub const WEIGHT_IH: &str = "weight_ih";

/// A layer's recurrent weight `[G*H, P]`.
pub const WEIGHT_HH: &str = "weight_hh";

/// The bias `[G*H]` that belongs to the input product, or the only one where there is one.
pub const BIAS_IH: &str = "bias_ih";

/// The bias `[G*H]` that belongs to the recurrent product.
pub const BIAS_HH: &str = "bias_hh";

/// The weight of the projection `[P, H]`.
pub const WEIGHT_HR: &str = "weight_hr";

/// The factors `[G*H]` of the normalised input product.
pub const NORM_IH: &str = "norm_ih";

/// The factors `[G*H]` of the normalised recurrent product.
pub const NORM_HH: &str = "norm_hh";

/// The factors `[H]` of the normalised cell state where it is read.
pub const NORM_C: &str = "norm_c";

/// The bias `[H]` that goes with them.
pub const BIAS_C: &str = "bias_c";

/// What a norm adds to a variance before its root is taken.
pub const NORM_EPSILON: f64 = 1e-5;

/// What the gates i, f and o see of the cell state, `[3H]`.
pub const PEEPHOLES: &str = "peepholes";

/// The recurrent weight `[H, H]` of the new gate where its product is one of its own.
pub const WEIGHT_HN: &str = "weight_hn";

/// The bias `[H]` that belongs to it.
pub const BIAS_HN: &str = "bias_hn";
