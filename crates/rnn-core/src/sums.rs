//! Sums over many rows, which gradients of biases are.

use crate::Result;
use candle_core::{Device, Tensor};

/// The sum of the rows of `rows [N, size]`, `[size]`. On a GPU as a product with ones: candle's sum
/// down the columns reads them a number at a time.
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
        return Ok(rows.sum(0)?);
    }
    let ones = Tensor::ones((1, count), rows.dtype(), rows.device())?;
    Ok(ones.matmul(rows)?.reshape(size)?)
}
