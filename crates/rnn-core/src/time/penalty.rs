//! Penalties on the outputs of a recurrent layer (Merity, McCann & Socher 2017): on large ones, and on hasty changes.

use super::plan::{check_lengths, without_padding};
use crate::autograd::{Flat, record};
use crate::kernels::Real;
use crate::kernels::lend::read;
use crate::sums::wide;
use crate::{Error, Result};
use candle_core::{DType, Device, Shape, Tensor};

/// What is added to a loss for the outputs `hs [N, T, H]` of a layer.
///
/// ```text
/// activation * mean(hs^2) + temporal * mean((hs[:, t + 1] - hs[:, t])^2)
/// ```
///
/// Where there are no outputs it is 0. Of rows of different lengths the means are over the steps that each has, and what stands
/// behind them gets no gradient.
///
/// AWD-LSTM takes the first of the outputs after dropout and the second of those before it: two calls.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use rnn_core::Penalty;
/// let hs = Tensor::new(&[[[1f64], [3.0]]], &Device::Cpu)?;
/// let penalty = Penalty { activation: 2.0, temporal: 0.5 };
/// let (loss, dhs) = penalty.by_hand(&hs, None)?;
/// assert_eq!(loss, 2.0 * 5.0 + 0.5 * 4.0);
/// assert_eq!(dhs.flatten_all()?.to_vec1::<f64>()?, [2.0 - 2.0, 6.0 + 2.0]);
/// assert_eq!(penalty.of(&hs, None)?.to_scalar::<f64>()?, loss);
/// assert_eq!(penalty.of(&hs, Some(&[1]))?.to_scalar::<f64>()?, 2.0 * 1.0);
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
    /// The penalty, as an op of candle's graph with its backward by hand. `lengths` says how many steps each row has; without
    /// it all have all.
    ///
    /// # Errors
    /// Where `hs` is not `[N, T, H]`, there is not one length a row or one is beyond T, or those of candle.
    pub fn of(&self, hs: &Tensor, lengths: Option<&[usize]>) -> Result<Tensor> {
        let (value, dhs) = self.by_hand(hs, lengths)?;
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
    pub fn by_hand(&self, hs: &Tensor, lengths: Option<&[usize]>) -> Result<(f64, Tensor)> {
        let (batch, time, _) = hs.dims3()?;
        let hs = hs.detach().contiguous()?;
        if let Some(lengths) = lengths {
            check_lengths("Penalty", lengths, (batch, time))?;
        }
        if hs.elem_count() == 0 {
            return Ok((0.0, hs));
        }
        let lengths = lengths.map_or_else(|| vec![time; batch], <[usize]>::to_vec);
        match (hs.device(), hs.dtype()) {
            (Device::Cpu, DType::F32) => self.on_cpu::<f32>(&hs, &lengths),
            (Device::Cpu, DType::F64) => self.on_cpu::<f64>(&hs, &lengths),
            _ => self.in_tensor_ops(&hs, &lengths),
        }
    }

    /// The factors of the gradient: of an output, and of a change.
    fn factors(&self, lengths: &[usize], size: usize) -> (f64, f64) {
        let mean = |factor: f64, count: usize| if count == 0 { 0.0 } else { factor / count as f64 };
        let changes = lengths.iter().map(|length| length.saturating_sub(1)).sum::<usize>();
        (mean(self.activation, lengths.iter().sum::<usize>() * size), mean(self.temporal, changes * size))
    }

    /// One pass over the numbers.
    fn on_cpu<T: Real>(&self, hs: &Tensor, lengths: &[usize]) -> Result<(f64, Tensor)> {
        let dims @ (_, time, size) = hs.dims3()?;
        let (large, hasty) = self.factors(lengths, size);
        let lent = read::<T>(hs)?;
        let mut dhs = vec![T::ZERO; lent.slice().len()];
        let (of_output, of_change) = (T::from_f64(2.0 * large), T::from_f64(2.0 * hasty));
        let (mut squares, mut changes) = (0.0, 0.0);
        let rows = lent.slice().chunks_exact(time * size).zip(dhs.chunks_exact_mut(time * size));
        for ((row, drow), &length) in rows.zip(lengths) {
            for (dh, &h) in drow.iter_mut().zip(&row[..length * size]) {
                *dh = of_output * h;
                squares += h.to_f64() * h.to_f64();
            }
            for t in 1..length {
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

    fn in_tensor_ops(&self, hs: &Tensor, lengths: &[usize]) -> Result<(f64, Tensor)> {
        let (_, time, size) = hs.dims3()?;
        let (large, hasty) = self.factors(lengths, size);
        let wide = wide(hs.dtype());
        let sum = |x: &Tensor| x.to_dtype(wide)?.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>();
        let counted = without_padding(hs, lengths)?;
        let (mut value, mut dhs) = (large * sum(&counted)?, (&counted * (2.0 * large))?);
        if time > 1 {
            let change = (hs.narrow(1, 1, time - 1)? - hs.narrow(1, 0, time - 1)?)?;
            let pairs: Vec<usize> = lengths.iter().map(|length| length.saturating_sub(1)).collect();
            let change = without_padding(&change, &pairs)?;
            value += hasty * sum(&change)?;
            let step = (change * (2.0 * hasty))?;
            dhs = ((dhs + step.pad_with_zeros(1, 1, 0)?)? - step.pad_with_zeros(1, 0, 1)?)?;
        }
        Ok((value, dhs))
    }
}
