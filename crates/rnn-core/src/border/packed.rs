//! Tensors as bytes, and as a file of safetensors: what every writer of numbers needs.

use crate::{Error, Result};
use candle_core::{DType, Tensor};
use safetensors::tensor::TensorView;
use std::collections::{HashMap, HashSet};

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
    /// Where a dtype or a shape is not that of the bytes, or a name is there twice.
    pub fn safetensors(tensors: &[Self], metadata: HashMap<String, String>) -> Result<Vec<u8>> {
        let views = named_once(tensors)?.iter().map(|packed| Ok((packed.name.as_str(), packed.view()?)));
        let written = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata));
        Ok(written.map_err(candle_core::Error::wrap)?)
    }

    fn view(&self) -> Result<TensorView<'_>> {
        let Self { name, dtype, dims, bytes } = self;
        let wrong = |want: String, got: String| Error::invalid(format!("Packed: {name}"), want, got);
        let of_file = match dtype {
            DType::F32 => safetensors::Dtype::F32,
            DType::F64 => safetensors::Dtype::F64,
            other => return Err(wrong("f32 or f64".into(), other.as_str().into())),
        };
        TensorView::new(of_file, dims.clone(), bytes).map_err(|_| {
            wrong(format!("the bytes of {dims:?} of {}", dtype.as_str()), format!("{} bytes", bytes.len()))
        })
    }
}

/// Tensors whose names differ: no file has two of one.
///
/// # Errors
/// Where a name is there twice.
pub(super) fn named_once(tensors: &[Packed]) -> Result<&[Packed]> {
    let mut names = HashSet::new();
    match tensors.iter().find(|packed| !names.insert(&packed.name)) {
        None => Ok(tensors),
        Some(Packed { name, .. }) => {
            Err(Error::invalid(format!("Packed: {name}"), "one of that name", "two")
                .hint("a part of a model has a prefix of its own: VarBuilder::pp gives one"))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_what_is_said_of_them_are_refused() {
        let packed = |dtype, dims: &[usize]| Packed {
            name: "w".into(),
            dtype,
            dims: dims.to_vec(),
            bytes: vec![0; 8],
        };
        let written = |packed: Packed| Packed::safetensors(&[packed], HashMap::new());
        for (dtype, dims) in [(DType::F32, [2]), (DType::F64, [1])] {
            written(packed(dtype, &dims)).unwrap();
        }
        for (dtype, want) in [
            (DType::U32, "Packed: w: expected f32 or f64, got u32"),
            (DType::F64, "Packed: w: expected the bytes of [2] of f64"),
        ] {
            let error = written(packed(dtype, &[2])).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        let error =
            named_once(&[packed(DType::F32, &[2]), packed(DType::F64, &[1])]).unwrap_err().to_string();
        assert!(error.starts_with("Packed: w: expected one of that name, got two"), "{error}");
    }
}
