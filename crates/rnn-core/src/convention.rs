//! The names and orders this project follows, PyTorch's, in the one place that knows them.
//!
//! Conversions to other layouts (the book's, Keras's, ONNX's) stand at the border and translate to these.
//!
//! | what | convention |
//! |---|---|
//! | input, output, ids | `x [N, T, D]`, `hs [N, T, H]`, `ids [N, T]`: batch first |
//! | parameters of layer k | `weight_ih_l{k} [G*H, D]`, `weight_hh_l{k} [G*H, H]`, `bias_ih_l{k}`, `bias_hh_l{k} [G*H]` |
//! | gates | RNN: one; LSTM: i f g o; GRU: r z n, r applied after the recurrent product |

/// Order of the LSTM's gates in its parameters: input, forget, candidate, output.
pub const LSTM_GATES: [&str; 4] = ["i", "f", "g", "o"];

/// Order of the GRU's gates in its parameters: reset, update, new.
pub const GRU_GATES: [&str; 3] = ["r", "z", "n"];

/// The name of a layer's input weight `[G*H, D]`.
///
/// ```
/// assert_eq!(rnn_core::convention::weight_ih(0), "weight_ih_l0");
/// ```
pub fn weight_ih(layer: usize) -> String {
    format!("weight_ih_l{layer}")
}

/// The name of a layer's recurrent weight `[G*H, H]`.
pub fn weight_hh(layer: usize) -> String {
    format!("weight_hh_l{layer}")
}

/// The name of the bias `[G*H]` that belongs to the input product, or of the only one where there is one.
pub fn bias_ih(layer: usize) -> String {
    format!("bias_ih_l{layer}")
}

/// The name of the bias `[G*H]` that belongs to the recurrent product.
pub fn bias_hh(layer: usize) -> String {
    format!("bias_hh_l{layer}")
}
