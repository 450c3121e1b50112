//! A gradient as an optimiser sees it, and the norm over all of them.

use crate::Result;
use candle_core::{D, DType, Tensor};
use rnn_core::kernels::{Real, Typed, lend, team};

/// Numbers of a gradient, wherever they are.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// In a buffer of a model's own.
    F32(&'a [f32]),
    /// The same.
    F64(&'a [f64]),
    /// In a tensor on any device.
    Tensor(&'a Tensor),
}

impl<'a> Values<'a> {
    /// Numbers of either type.
    pub fn of<T: Real>(numbers: &'a [T]) -> Self {
        match T::typed(numbers) {
            Typed::F32(numbers) => Self::F32(numbers),
            Typed::F64(numbers) => Self::F64(numbers),
        }
    }
}

/// The gradient of one parameter.
#[derive(Debug, Clone, Copy)]
pub enum Grad<'a> {
    /// Of every element.
    Dense(Values<'a>),
    /// Of some rows of a table `[V, D]`, each id once; it is zero in all others.
    Rows {
        /// Which rows.
        ids: &'a [u32],
        /// `[ids, D]`
        values: Values<'a>,
    },
}

impl<'a> Grad<'a> {
    /// The numbers there are.
    pub fn values(&self) -> Values<'a> {
        match *self {
            Self::Dense(values) | Self::Rows { values, .. } => values,
        }
    }

    /// The same with the numbers elsewhere.
    pub(super) fn with(self, values: Values<'a>) -> Self {
        match self {
            Self::Dense(_) => Self::Dense(values),
            Self::Rows { ids, .. } => Self::Rows { ids, values },
        }
    }

    /// As a tensor like the parameter, zero in the rows that it does not have.
    ///
    /// # Errors
    /// Those of candle.
    pub fn dense(&self, like: &Tensor) -> Result<Tensor> {
        let device = like.device();
        let values = match self.values() {
            Values::F32(numbers) => Tensor::from_slice(numbers, numbers.len(), device)?,
            Values::F64(numbers) => Tensor::from_slice(numbers, numbers.len(), device)?,
            Values::Tensor(tensor) => tensor.clone(),
        };
        Ok(match self {
            Self::Dense(_) => values.reshape(like.shape())?,
            Self::Rows { ids: [], .. } => like.zeros_like()?.detach(),
            Self::Rows { ids, .. } => {
                let values = values.reshape((ids.len(), ()))?;
                let ids = Tensor::from_slice(ids, ids.len(), device)?;
                like.zeros_like()?.detach().index_add(&ids, &values, 0)?
            }
        })
    }

    /// The sum of squares, in f64 and in order, whoever of the team did which part.
    ///
    /// # Errors
    /// Those of candle.
    pub fn sum_of_squares(&self) -> Result<f64> {
        Ok(match self.values() {
            Values::F32(numbers) => in_blocks(numbers, squares_f32),
            Values::F64(numbers) => in_blocks(numbers, squares_f64),
            Values::Tensor(tensor) => match (tensor.device().is_cpu(), tensor.dtype()) {
                (true, DType::F32) => in_blocks(lend::read(&tensor.contiguous()?)?.slice(), squares_f32),
                (true, DType::F64) => in_blocks(lend::read(&tensor.contiguous()?)?.slice(), squares_f64),
                _ => squares_in_ops(tensor)?.to_scalar()?,
            },
        })
    }

    /// The tensor whose numbers they are, where no kernel of the CPU's can read them.
    fn elsewhere(&self) -> Option<&'a Tensor> {
        match self.values() {
            Values::Tensor(tensor) if !tensor.device().is_cpu() => Some(tensor),
            _ => None,
        }
    }
}

/// The sum of squares as an f64 where the numbers are; row by row first, for a sum over all is the work of few threads.
fn squares_in_ops(tensor: &Tensor) -> Result<Tensor> {
    // In half precision squares overflow, and sums stand still.
    let wide = if tensor.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let squares = tensor.to_dtype(wide)?.sqr()?;
    let of_rows = if squares.rank() > 1 { squares.sum(D::Minus1)? } else { squares };
    Ok(of_rows.to_dtype(DType::F64)?.sum_all()?)
}

/// The sum over blocks, in their order.
fn in_blocks<T: Real>(numbers: &[T], squares: impl Fn(&[T]) -> f64 + Sync) -> f64 {
    /// Numbers that a member of the team takes at a time.
    const BLOCK: usize = 1 << 15;
    let mut sums = vec![0.0; numbers.len().div_ceil(BLOCK)];
    team::pieces(&mut sums, 1, &|i, sum| {
        sum[0] = squares(&numbers[i * BLOCK..numbers.len().min((i + 1) * BLOCK)]);
    });
    sums.iter().sum()
}

fn squares_f64(numbers: &[f64]) -> f64 {
    numbers.iter().map(|x| x * x).sum()
}

/// Blocks of 64 are summed in sixteen f32 lanes, and the blocks in f64: as exact as it need be, in vector code.
fn squares_f32(numbers: &[f32]) -> f64 {
    let mut total = 0.0;
    for block in numbers.chunks(64) {
        let mut lanes = [0f32; 16];
        for chunk in block.chunks(16) {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += x * x;
            }
        }
        total += f64::from(lanes.iter().sum::<f32>());
    }
    total
}

/// The length of all gradients together as one vector.
///
/// ```
/// use rnn_lm::train::{Grad, Values, global_norm};
/// let grads = [Grad::Dense(Values::F64(&[3.0])), Grad::Rows { ids: &[7], values: Values::F64(&[4.0]) }];
/// assert_eq!(global_norm(&grads)?, 5.0);
/// # rnn_lm::Result::Ok(())
/// ```
///
/// # Errors
/// Those of candle.
pub fn global_norm(grads: &[Grad<'_>]) -> Result<f64> {
    let (mut sum, mut elsewhere) = (0.0, Vec::new());
    for grad in grads {
        match grad.elsewhere() {
            Some(tensor) => elsewhere.push(squares_in_ops(tensor)?),
            None => sum += grad.sum_of_squares()?,
        }
    }
    // A device is waited for once, not once a parameter.
    if !elsewhere.is_empty() {
        sum += Tensor::stack(&elsewhere, 0)?.sum_all()?.to_scalar::<f64>()?;
    }
    Ok(sum.sqrt())
}
