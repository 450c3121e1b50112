//! Penalties on the outputs of a recurrent layer (Merity, McCann & Socher 2017): on large ones, and on hasty changes.

use crate::autograd::{Flat, record};
use crate::kernels::Real;
use crate::kernels::lend::read;
use crate::{Error, Result};
use candle_core::{DType, Device, Shape, Tensor};

/// What is added to a loss for the outputs `hs [N, T, H]` of a layer.
///
/// ```text
/// activation * mean(hs^2) + temporal * mean((hs[:, t + 1] - hs[:, t])^2)
/// ```
///
/// Where there are no outputs it is 0.
///
/// AWD-LSTM takes the first of the outputs after dropout and the second of those before it: two calls.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use rnn_core::Penalty;
/// let hs = Tensor::new(&[[[1f64], [3.0]]], &Device::Cpu)?;
/// let penalty = Penalty { activation: 2.0, temporal: 0.5 };
/// let (loss, dhs) = penalty.by_hand(&hs)?;
/// assert_eq!(loss, 2.0 * 5.0 + 0.5 * 4.0);
/// assert_eq!(dhs.flatten_all()?.to_vec1::<f64>()?, [2.0 - 2.0, 6.0 + 2.0]);
/// assert_eq!(penalty.of(&hs)?.to_scalar::<f64>()?, loss);
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Penalty {
    /// AR, the factor of the mean square.
    pub activation: f64,
    /// TAR, the factor of the mean square of the change from one step to the next; a window of one step has none.
    pub temporal: f64,
}

impl Penalty {
    /// The penalty, as an op of candle's graph with its backward by hand.
    ///
    /// # Errors
    /// Where `hs` is not `[N, T, H]`, or those of candle.
    pub fn of(&self, hs: &Tensor) -> Result<Tensor> {
        let (value, dhs) = self.by_hand(hs)?;
        let flat = Tensor::new(&[value], &Device::Cpu)?.to_dtype(hs.dtype())?.to_device(hs.device())?;
        let backward =
            move |grads: &[Tensor]| Ok(vec![Some(dhs.broadcast_mul(&grads[0].reshape((1, 1, 1))?)?)]);
        let outputs = record("penalty", &[hs], Flat::Tensor(flat), &[Shape::from(())], backward)?;
        outputs.into_iter().next().ok_or_else(|| Error::invalid("Penalty", "a number", "none"))
    }

    /// The penalty and its gradient `[N, T, H]`, without autograd.
    ///
    /// # Errors
    /// Those of [`Self::of`].
    pub fn by_hand(&self, hs: &Tensor) -> Result<(f64, Tensor)> {
        let dims = hs.dims3()?;
        let hs = hs.detach().contiguous()?;
        if hs.elem_count() == 0 {
            return Ok((0.0, hs));
        }
        match (hs.device(), hs.dtype()) {
            (Device::Cpu, DType::F32) => self.on_cpu::<f32>(&hs, dims),
            (Device::Cpu, DType::F64) => self.on_cpu::<f64>(&hs, dims),
            _ => self.in_tensor_ops(&hs, dims),
        }
    }

    /// The factors of the gradient: of an output, and of a change.
    fn factors(&self, (batch, time, size): (usize, usize, usize)) -> (f64, f64) {
        let mean = |factor: f64, count: usize| if count == 0 { 0.0 } else { factor / count as f64 };
        (mean(self.activation, batch * time * size), mean(self.temporal, batch * (time - 1) * size))
    }

    /// One pass over the numbers.
    fn on_cpu<T: Real>(
        &self,
        hs: &Tensor,
        dims @ (_, time, size): (usize, usize, usize),
    ) -> Result<(f64, Tensor)> {
        let (large, hasty) = self.factors(dims);
        let lent = read::<T>(hs)?;
        let mut dhs = vec![T::ZERO; lent.slice().len()];
        let (of_output, of_change) = (T::from_f64(2.0 * large), T::from_f64(2.0 * hasty));
        let (mut squares, mut changes) = (0.0, 0.0);
        for (row, drow) in lent.slice().chunks_exact(time * size).zip(dhs.chunks_exact_mut(time * size)) {
            for (dh, &h) in drow.iter_mut().zip(row) {
                *dh = of_output * h;
                squares += h.to_f64() * h.to_f64();
            }
            for t in 1..time {
                let (before, here) = row[(t - 1) * size..(t + 1) * size].split_at(size);
                let (dbefore, dhere) = drow[(t - 1) * size..(t + 1) * size].split_at_mut(size);
                for (((&a, &b), da), db) in before.iter().zip(here).zip(dbefore).zip(dhere) {
                    let change = b - a;
                    changes += change.to_f64() * change.to_f64();
                    *da -= of_change * change;
                    *db += of_change * change;
                }
            }
        }
        Ok((large * squares + hasty * changes, Tensor::from_vec(dhs, dims, &Device::Cpu)?))
    }

    fn in_tensor_ops(
        &self,
        hs: &Tensor,
        dims @ (_, time, _): (usize, usize, usize),
    ) -> Result<(f64, Tensor)> {
        let (large, hasty) = self.factors(dims);
        let sum = |x: Tensor| x.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>();
        let (mut value, mut dhs) = (large * sum(hs.clone())?, (hs * (2.0 * large))?);
        if time > 1 {
            let change = (hs.narrow(1, 1, time - 1)? - hs.narrow(1, 0, time - 1)?)?;
            value += hasty * sum(change.clone())?;
            let step = (change * (2.0 * hasty))?;
            dhs = ((dhs + step.pad_with_zeros(1, 1, 0)?)? - step.pad_with_zeros(1, 0, 1)?)?;
        }
        Ok((value, dhs))
    }
}
