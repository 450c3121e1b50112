//! Sums over many rows, which gradients of biases are.

use crate::Result;
use candle_core::{DType, Device, Tensor};

/// The dtype in which sums of numbers of `dtype` are made: in half precision squares overflow, and long sums stand still.
pub(crate) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// The sum of the rows of `rows [N, size]`, `[size]`; of half precision in f32, and rounded at the end. On a GPU as a product
/// with ones, which adds up in f32 as well: candle's sum down the columns reads them a number at a time.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let rows = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// assert_eq!(rnn_core::sums::column_sums(&rows)?.to_vec1::<f32>()?, [4.0, 6.0]);
/// # rnn_core::Result::Ok(())
/// ```
///
/// # Errors
/// Those of candle, where `rows` is no matrix.
pub fn column_sums(rows: &Tensor) -> Result<Tensor> {
    let (count, size) = rows.dims2()?;
    if matches!(rows.device(), Device::Cpu) {
        return Ok(rows.to_dtype(wide(rows.dtype()))?.sum(0)?.to_dtype(rows.dtype())?);
    }
    let ones = Tensor::ones((1, count), rows.dtype(), rows.device())?;
    Ok(ones.matmul(rows)?.reshape(size)?)
}
