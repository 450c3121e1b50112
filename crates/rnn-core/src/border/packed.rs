//! Tensors as bytes, and as a file of safetensors: what every writer of numbers needs.

use crate::{Error, Result};
use candle_core::{DType, Tensor};
use safetensors::tensor::TensorView;
use std::collections::HashMap;

/// A tensor of f32 or f64 that has left candle: its bytes are little-endian and in the order of its places.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// Its name in the file.
    pub name: String,
    /// f32 or f64.
    pub dtype: DType,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its numbers.
    pub bytes: Vec<u8>,
}

impl Packed {
    /// A tensor under this name; `op` is who writes it, for errors.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use rnn_core::border::Packed;
    /// let packed = Packed::new("example", "x".into(), &Tensor::new(&[[1f32], [2.0]], &Device::Cpu)?)?;
    /// assert_eq!((packed.dims, packed.bytes), (vec![2, 1], vec![0, 0, 128, 63, 0, 0, 0, 64]));
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where it is neither f32 nor f64.
    pub fn new(op: &str, name: String, tensor: &Tensor) -> Result<Self> {
        let (dtype, dims) = (tensor.dtype(), tensor.dims().to_vec());
        let bytes = bytes_of(&format!("{op}: {name}"), tensor)?;
        Ok(Self { name, dtype, dims, bytes })
    }

    /// A file of safetensors with these tensors and this metadata.
    ///
    /// # Errors
    /// Where a dtype or a shape is not that of the bytes.
    pub fn safetensors(tensors: &[Self], metadata: HashMap<String, String>) -> Result<Vec<u8>> {
        let views = tensors.iter().map(|Self { name, dtype, dims, bytes }| {
            let dtype = if *dtype == DType::F64 { safetensors::Dtype::F64 } else { safetensors::Dtype::F32 };
            Ok((name.as_str(), TensorView::new(dtype, dims.clone(), bytes)?))
        });
        let views: std::result::Result<Vec<_>, safetensors::SafeTensorError> = views.collect();
        let written = views.and_then(|views| safetensors::serialize(views, Some(metadata)));
        Ok(written.map_err(candle_core::Error::wrap)?)
    }
}

/// The numbers of a tensor.
pub(super) fn bytes_of(op: &str, tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.flatten_all()?;
    match tensor.dtype() {
        DType::F32 => Ok(flat.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect()),
        DType::F64 => Ok(flat.to_vec1::<f64>()?.into_iter().flat_map(f64::to_le_bytes).collect()),
        other => Err(Error::invalid(op, "f32 or f64", other.as_str())),
    }
}
