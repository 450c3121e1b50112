//! A network as an ONNX model: for ONNX Runtime and whatever else reads such files.
//!
//! | what | name and shape |
//! |---|---|
//! | inputs | `x [N, T, D]`, `h0 [L*dirs, N, H]`, of an LSTM `c0 [L*dirs, N, H]` |
//! | outputs | `out [N, T, dirs*H]`, `h_n [L*dirs, N, H]`, of an LSTM `c_n [L*dirs, N, H]` |
//!
//! These are PyTorch's, batch first; N and T are any, from call to call. A layer is one RNN, LSTM or GRU node. Inside,
//! time comes first, which is the only order that ONNX Runtime's nodes know. There is no way back from a model to a
//! network.
//!
//! f64 is a valid model, too, but ONNX Runtime (1.32) does not run it: its recurrent nodes are f32 only.

mod graph;
pub mod messages;

use super::{Network, file};
use crate::{Error, Result};
use messages::{Message, ModelProto};
use std::path::Path;

/// The version of ONNX's operators that a model asks for: the first that has the recurrent ones in the form used here.
pub const OPSET: i64 = 14;

/// The version of the file format, that of the same release of ONNX (1.9).
pub const IR_VERSION: i64 = 7;

impl Network {
    /// The network as an ONNX model, to which others may add nodes of theirs.
    ///
    /// ```
    /// use candle_core::DType;
    /// use rnn_core::border::{Kind, Network, NetworkSpec};
    /// let network = Network::seeded(NetworkSpec::new(Kind::Gru, 3, 4), 0, DType::F32)?;
    /// let nodes = network.to_onnx_model()?.graph.unwrap_or_default().node;
    /// let ops: Vec<&str> = nodes.iter().map(|node| node.op_type.as_str()).collect();
    /// assert_eq!(ops, ["Transpose", "GRU", "Transpose", "Reshape"]);
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where there is a projection, which ONNX's LSTM cannot have, or the parameters are neither f32 nor f64.
    pub fn to_onnx_model(&self) -> Result<ModelProto> {
        graph::model(self)
    }

    /// The bytes of [`Self::to_onnx_model`]; the same ones for the same network.
    ///
    /// ```
    /// use candle_core::DType;
    /// use rnn_core::border::{Kind, Network, NetworkSpec};
    /// let spec = NetworkSpec::new(Kind::Lstm, 3, 4);
    /// let bytes = Network::seeded(spec, 0, DType::F32)?.to_onnx()?;
    /// assert_eq!(bytes[..2], [8, 7]); // field 1, the version of the format: 7
    /// let spec = NetworkSpec { projection: Some(2), ..spec };
    /// let error = Network::seeded(spec, 0, DType::F32)?.to_onnx().unwrap_err().to_string();
    /// assert!(error.starts_with("Network::to_onnx: expected a network without a projection, got one to 2"));
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Self::to_onnx_model`], and where it takes 2 GiB or more, which no reader accepts.
    pub fn to_onnx(&self) -> Result<Vec<u8>> {
        let model = self.to_onnx_model()?;
        let size = model.encoded_len();
        if i32::try_from(size).is_err() {
            return Err(Error::invalid("Network::to_onnx", "a model below 2 GiB", format!("{size} bytes")));
        }
        Ok(model.encode_to_vec())
    }

    /// Writes [`Self::to_onnx`] to a file, all of it or nothing: what stood there stays until the whole is written.
    ///
    /// # Errors
    /// Those of [`Self::to_onnx`], and where the file cannot be written.
    pub fn save_onnx(&self, path: impl AsRef<Path>) -> Result<()> {
        file::write(path.as_ref(), &self.to_onnx()?)
    }
}
