//! The memory of the fused way: it grows to a window's size once, and is used again.

use super::cpu::Dims;
use crate::kernels::Real;
use crate::kernels::product::Rooms;

/// What a forward leaves for its backward.
#[derive(Debug, Clone, Default)]
pub struct Tape<T> {
    pub(super) dims: Dims,
    /// Activations `[N, T, G*H]`; a backward that need not keep them turns them into the gradients of the input
    /// halves of the gate sums.
    pub(super) gates: Vec<T>,
    /// `[N, T, H]`, or empty where the cell has none.
    pub(super) extra: Vec<T>,
    /// The initial hidden state `[N, P]`.
    pub(super) h: Vec<T>,
    /// The c before each step, `[N, T, H]` or empty.
    pub(super) c_before: Vec<T>,
    /// What was projected, `[N, T, H]`, or empty.
    pub(super) hidden: Vec<T>,
    /// Of a window that was steered: what the recurrent product took at each step, and the hidden state that each started
    /// with where that is another, `[N, T, P]`.
    pub(super) fed: Vec<T>,
    pub(super) before: Vec<T>,
    /// Of a cell of two stages: what stood between them, `[N, T, H]`.
    pub(super) between: Vec<T>,
    /// What each norm left: the input product's, the recurrent product's, and that between two stages.
    pub(super) norms: [Normed<T>; 3],
    /// Whether there is something for a backward.
    pub(super) kept: bool,
}

/// What a norm leaves for its backward.
#[derive(Debug, Clone, Default)]
pub(super) struct Normed<T> {
    /// The rows before their factor, `[N, T, size]`; empty where they stand elsewhere.
    pub(super) rows: Vec<T>,
    /// What each was multiplied with, `[N, T]`.
    pub(super) scale: Vec<T>,
}

impl<T: Real> Normed<T> {
    pub(super) fn resize(&mut self, rows: usize, scale: usize) {
        resize(&mut self.rows, rows);
        resize(&mut self.scale, scale);
    }
}

/// Memory that nothing is read from before it is written.
#[derive(Debug, Default)]
pub struct Scratch<T> {
    /// What the members pack.
    pub rooms: Rooms<T>,
    /// Recurrent sums of one step, `[N, R*H]`, where they are not added to the input halves.
    pub(super) sums: Vec<T>,
    /// Gradients of the input halves of the gate sums `[N, T, G*H]`, where they cannot take the activations' place.
    pub(super) dinput: Vec<T>,
    /// Those of the recurrent halves, or empty where they are the same.
    pub(super) drecurrent: Vec<T>,
    /// Of a window that was steered or projected: gradients of what the cell made `[N, T, P]` or `[N, P]`, of what was
    /// projected at a step `[N, H]`, and of what was fed at one `[N, P]`.
    pub(super) made: Vec<T>,
    pub(super) dhidden: Vec<T>,
    pub(super) dfed: Vec<T>,
    /// Gradients of the two products where they are normalised, `[N, T, G*H]` and `[N, T, R*H]`.
    pub(super) dproducts: [Vec<T>; 2],
    /// Those of what stood between two stages at a step, `[N, H]`.
    pub(super) dbetween: Vec<T>,
    /// What each row and step adds to the gradients of the cell's own, `[N, T, OWN*H]`.
    pub(super) terms: Vec<T>,
}

/// Sets the length; what stands there afterwards is of no importance, but it is never uninitialised. Memory of a window that was
/// far larger than this one is given back.
pub fn resize<T: Real>(buffer: &mut Vec<T>, len: usize) {
    /// Numbers that are worth it, and how many times those that are needed.
    const MANY: usize = 1 << 22;
    const TIMES: usize = 16;
    if buffer.capacity() > MANY.max(TIMES * len) {
        *buffer = Vec::new();
    }
    if buffer.len() != len {
        buffer.resize(len, T::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_far_larger_window_is_given_back() {
        let mut buffer = Vec::<f32>::new();
        resize(&mut buffer, 1 << 23);
        resize(&mut buffer, 1 << 20);
        assert!(buffer.capacity() >= 1 << 23, "as it was");
        resize(&mut buffer, 1 << 10);
        assert!(buffer.len() == 1 << 10 && buffer.capacity() < 1 << 20, "{}", buffer.capacity());
        // What is small is kept.
        resize(&mut buffer, 0);
        assert!(buffer.capacity() >= 1 << 10);
    }
}
