//! Softmax and cross-entropy as one layer.
//!
//! One buffer `[N*T, V]`: where a model learns and where it is measured, logits are turned into their gradient or used up where
//! they stand, on a GPU some rows at a time. Whoever calls the layer keeps the logits, so it works on a copy.

use super::embedding::check_ids;
use crate::data::IGNORE;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use rnn_core::autograd::{Flat, record};
use rnn_core::kernels::dispatch::{Instructions, Task, cpu, run};
use rnn_core::kernels::{Real, Vector, lend, team};
use std::ops::Range;

/// The book's TimeSoftmaxWithLoss: the mean, over the targets that are not [`IGNORE`], of `-log softmax(logits)[target]`, in
/// nats. Its gradient is `(softmax(logits) - one_hot(target)) / targets`, and zero in rows that are ignored.
///
/// The largest logit of a row is subtracted first, so that logits of +-10,000 are fine.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use rnn_lm::layers::TimeSoftmaxWithLoss;
/// let logits = Tensor::zeros((1, 1, 4), DType::F64, &Device::Cpu)?; // [N, T, V]
/// let (loss, dlogits) = TimeSoftmaxWithLoss.forward_taped(&logits, &[2])?;
/// assert_eq!(loss, 4f64.ln());
/// assert_eq!(dlogits.flatten_all()?.to_vec1::<f64>()?, [0.25, 0.25, -0.75, 0.25]);
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct TimeSoftmaxWithLoss;

/// A loss as one op of candle's graph, whose gradients with respect to `inputs` are known already.
pub(super) fn recorded(
    name: &'static str,
    loss: f64,
    inputs: &[&Tensor],
    gradients: Vec<Tensor>,
) -> Result<Tensor> {
    let like = inputs[0];
    let loss = Tensor::new(&[loss], &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())?;
    let backward =
        move |grads: &[Tensor]| gradients.iter().map(|of| Ok(Some(of.broadcast_mul(&grads[0])?))).collect();
    let mut outputs = record(name, inputs, Flat::Tensor(loss), &[().into()], backward)?;
    outputs.pop().ok_or_else(|| Error::invalid(name, "an output", "none"))
}

impl TimeSoftmaxWithLoss {
    /// The loss, as one op of candle's graph whose backward is by hand. `logits [N, T, V]`, targets row by row.
    ///
    /// # Errors
    /// Where the number of targets does not fit, one is outside the vocabulary, or all are [`IGNORE`].
    pub fn forward(self, logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
        let (loss, dlogits) = self.forward_taped(logits, targets)?;
        recorded("softmax-with-loss", loss, &[logits], vec![dlogits])
    }

    /// The mean loss in nats and the gradient `[N, T, V]` of the logits, by hand and without autograd.
    ///
    /// # Errors
    /// Those of [`Self::forward`].
    pub fn forward_taped(self, logits: &Tensor, targets: &[u32]) -> Result<(f64, Tensor)> {
        logits.dims3()?;
        self.turn(logits.detach().force_contiguous()?, targets)
    }

    /// The same of logits that nobody else has: they become the gradient where they stand.
    pub(crate) fn turn(self, logits: Tensor, targets: &[u32]) -> Result<(f64, Tensor)> {
        let logits = logits.contiguous()?;
        let loss = match (logits.device(), logits.dtype()) {
            (Device::Cpu, DType::F32) => in_kernels::<f32>(&logits, targets)?,
            (Device::Cpu, DType::F64) => in_kernels::<f64>(&logits, targets)?,
            _ => in_tensor_ops(&logits, targets, FEW)?,
        };
        Ok((loss, logits))
    }

    /// The same loss out of candle's own ops and through its autograd: what the one above is held against.
    ///
    /// # Errors
    /// Those of [`Self::forward`].
    pub fn reference(self, logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
        let (batch, time, vocabulary) = logits.dims3()?;
        let count = check(targets, batch * time, vocabulary)?;
        let rows = logits.reshape((batch * time, vocabulary))?;
        let log_probabilities = candle_nn::ops::log_softmax(&rows, 1)?;
        let (indices, counts) = columns(targets, rows.device())?;
        let picked = log_probabilities.gather(&indices, 1)?;
        Ok(((picked * counts.to_dtype(rows.dtype())?)?.sum_all()? * (-1.0 / count as f64))?)
    }
}

/// The loss; the logits become their gradient.
fn in_kernels<T: Real>(logits: &Tensor, targets: &[u32]) -> Result<f64> {
    let vocabulary = logits.dim(2)?;
    lend::write(logits, |logits: &mut [T]| softmax_loss(logits, targets, vocabulary))?
}

/// Logits that tensor ops take at a time, of which they make some copies: so many, whatever the size of a window.
pub(super) const FEW: usize = 1 << 22;

/// For devices without kernels of ours; the logits, whose storage nobody else has, become their gradient, rows of `few` numbers
/// together at a time.
fn in_tensor_ops(logits: &Tensor, targets: &[u32], few: usize) -> Result<f64> {
    let (batch, time, vocabulary) = logits.dims3()?;
    let count = check(targets, batch * time, vocabulary)?;
    let share = 1.0 / count as f64;
    let rows = logits.reshape((batch * time, vocabulary))?;
    let mut losses = Vec::new();
    for (piece, targets, at) in pieces(&rows, targets, few)? {
        let InOps { probabilities, losses: of_piece, counts, indices } = InOps::new(&piece, targets)?;
        // Once for a row without a target too, whose gradient is then taken away.
        let dense = (probabilities * share)?;
        let one = (dense.narrow(1, 0, 1)?.ones_like()? * -share)?;
        let mut gradient = dense.scatter_add(&indices, &one, 1)?;
        if let Some(counts) = counts {
            gradient =
                counts.broadcast_as(gradient.shape())?.where_cond(&gradient, &gradient.zeros_like()?)?;
        }
        rows.slice_set(&gradient, 0, at)?;
        losses.push(of_piece);
    }
    // Once for all pieces: whoever asks a GPU for a number waits for it.
    let loss = Tensor::cat(&losses, 0)?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
    Ok(loss * share)
}

/// `-log softmax(logits)[target]` of each row, 0 of ignored ones, on any device.
///
/// # Errors
/// Those of [`softmax_loss`].
pub(crate) fn losses_in_ops(logits: &Tensor, targets: &[u32]) -> Result<Vec<f64>> {
    let (batch, time, vocabulary) = logits.dims3()?;
    check(targets, batch * time, vocabulary)?;
    let rows = logits.detach().reshape((batch * time, vocabulary))?;
    let losses = pieces(&rows, targets, FEW)?
        .into_iter()
        .map(|(piece, targets, _)| Ok(InOps::new(&piece, targets)?.losses))
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&losses, 0)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

/// Rows that have `few` numbers together, or one that has more, with their targets and the number of the first.
fn pieces<'a>(rows: &Tensor, targets: &'a [u32], few: usize) -> Result<Vec<(Tensor, &'a [u32], usize)>> {
    let piece = |of: Range<usize>| Ok((rows.narrow(0, of.start, of.len())?, &targets[of.clone()], of.start));
    rows_of((targets.len(), rows.dim(1)?), few).map(piece).collect()
}

/// Rows, of so many of so many numbers each, that have `few` numbers together, or one that has more.
pub(super) fn rows_of((rows, numbers): (usize, usize), few: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (few / numbers.max(1)).max(1);
    (0..rows).step_by(size).map(move |at| at..rows.min(at + size))
}

/// What the softmax of some rows is in tensor ops.
struct InOps {
    /// `[rows, V]`
    probabilities: Tensor,
    /// `-log` of that of each target `[rows, 1]`, 0 of ignored ones, whatever their logits are.
    losses: Tensor,
    /// Which rows count, `[rows, 1]`; none where all do.
    counts: Option<Tensor>,
    /// The targets, `[rows, 1]`, 0 where ignored.
    indices: Tensor,
}

impl InOps {
    /// The largest probability of a row is one over the sum that the logarithm takes, so no row of logarithms is made; and
    /// however small a probability is, its logarithm is not lost.
    fn new(rows: &Tensor, targets: &[u32]) -> Result<Self> {
        // candle's softmax counts in 32 bits on a GPU.
        if i32::try_from(rows.elem_count()).is_err() {
            let want = format!("a vocabulary of at most {}", i32::MAX);
            return Err(Error::invalid("TimeSoftmaxWithLoss: logits", want, rows.elem_count()));
        }
        let (indices, counts) = columns(targets, rows.device())?;
        let probabilities = candle_nn::ops::softmax_last_dim(rows)?;
        let (largest, most) = (rows.max_keepdim(1)?, probabilities.max_keepdim(1)?);
        let mut losses = ((largest - rows.gather(&indices, 1)?)? - most.log()?)?;
        let counts = targets.contains(&IGNORE).then_some(counts);
        if let Some(counts) = &counts {
            losses = counts.where_cond(&losses, &losses.zeros_like()?)?;
        }
        Ok(Self { probabilities, losses, counts, indices })
    }
}

/// Targets as `[rows, 1]`, 0 where ignored, and 1 or 0 for those that count or do not.
fn columns(targets: &[u32], device: &Device) -> Result<(Tensor, Tensor)> {
    let column = |of: &dyn Fn(u32) -> u32| {
        let numbers: Vec<u32> = targets.iter().map(|&target| of(target)).collect();
        Tensor::from_vec(numbers, (targets.len(), 1), device)
    };
    let indices = column(&|target| if target == IGNORE { 0 } else { target })?;
    Ok((indices, column(&|target| u32::from(target != IGNORE))?))
}

/// How many targets count.
fn check(targets: &[u32], rows: usize, vocabulary: usize) -> Result<usize> {
    check_targets("TimeSoftmaxWithLoss: targets", targets, rows, vocabulary)
}

/// The same, with the argument's name for the error.
pub(crate) fn check_targets(op: &str, targets: &[u32], rows: usize, vocabulary: usize) -> Result<usize> {
    if targets.len() != rows {
        return Err(Error::invalid(op, format!("{rows}, one a step"), targets.len()));
    }
    let counted: Vec<u32> = targets.iter().copied().filter(|&target| target != IGNORE).collect();
    check_ids(op, &counted, vocabulary)?;
    if counted.is_empty() {
        return Err(Error::invalid(op, "at least one that is not ignored", "none")
            .hint("the mean of nothing is no loss"));
    }
    Ok(counted.len())
}

/// How many rows of V there are.
pub(crate) fn whole_rows<T>(op: &str, logits: &[T], vocabulary: usize) -> Result<usize> {
    if vocabulary == 0 || !logits.len().is_multiple_of(vocabulary) {
        let want = format!("rows of {vocabulary}, the size of the vocabulary");
        return Err(Error::invalid(op, want, format!("{} numbers", logits.len())));
    }
    Ok(logits.len() / vocabulary)
}

/// Turns `logits [rows, V]` into the gradient of their mean loss, in place, and gives the loss. Ignored rows get a
/// gradient of zero.
///
/// ```
/// let mut logits = [0.0f64, 0.0];
/// let loss = rnn_lm::layers::softmax_loss(&mut logits, &[1], 2)?;
/// assert!((loss - 2f64.ln()).abs() < 1e-15);
/// assert_eq!(logits, [0.5, -0.5]);
/// # rnn_lm::Result::Ok(())
/// ```
///
/// # Errors
/// Where `logits` are not whole rows, the number of targets does not fit, one is outside the vocabulary, or all are
/// [`IGNORE`]; nothing has been changed then.
pub fn softmax_loss<T: Real>(logits: &mut [T], targets: &[u32], vocabulary: usize) -> Result<f64> {
    let count = check(targets, whole_rows("softmax_loss: logits", logits, vocabulary)?, vocabulary)?;
    Ok(rows(logits, targets, vocabulary, Some(1.0 / count as f64)) / count as f64)
}

/// `-log softmax(logits)[target]` of each row, 0 of ignored ones; what `logits` holds afterwards is of no use.
///
/// # Errors
/// Those of [`softmax_loss`].
pub(crate) fn losses<T: Real>(logits: &mut [T], targets: &[u32], vocabulary: usize) -> Result<Vec<f64>> {
    check(targets, whole_rows("softmax_loss: logits", logits, vocabulary)?, vocabulary)?;
    Ok(each_row(logits, targets, vocabulary, None))
}

/// All rows; the sum of their losses in the order of the rows, whoever did them. With a `scale` the logits become their
/// gradient times it.
pub(super) fn rows<T: Real>(logits: &mut [T], targets: &[u32], vocabulary: usize, scale: Option<f64>) -> f64 {
    each_row(logits, targets, vocabulary, scale).iter().sum()
}

/// The loss of each row, over the team.
fn each_row<T: Real>(logits: &mut [T], targets: &[u32], vocabulary: usize, scale: Option<f64>) -> Vec<f64> {
    let cpu = cpu();
    let mut losses = vec![0.0; targets.len()];
    let rows: Vec<_> = logits.chunks_mut(vocabulary).zip(targets).zip(&mut losses).collect();
    let mut work: Vec<_> =
        rows.into_iter().map(|((logits, &target), loss)| Row { logits, target, scale, loss }).collect();
    team::pieces(&mut work, 1, &|_, rows| rows.iter_mut().for_each(|row| run(cpu, row)));
    losses
}

/// One row.
struct Row<'a, T> {
    logits: &'a mut [T],
    target: u32,
    /// What the gradient is multiplied with; none is wanted where there is none.
    scale: Option<f64>,
    loss: &'a mut f64,
}

impl<T: Real> Task for &mut Row<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Row { logits, target, scale, loss } = self;
        let (target, scale) = (*target, *scale);
        if target == IGNORE {
            logits.fill(T::ZERO);
            return;
        }
        let target = target as usize;
        let largest = largest::<I::Lanes<T>>(logits);
        let picked = logits[target];
        let mut sums = I::Lanes::<T>::zero();
        let width = I::Lanes::<T>::WIDTH;
        let mut whole = logits.chunks_exact_mut(width);
        let shift = I::Lanes::<T>::splat(largest);
        for chunk in &mut whole {
            let exponential = (I::Lanes::<T>::load(chunk) - shift).exp();
            exponential.store(chunk);
            sums = sums + exponential;
        }
        let mut lanes = [T::ZERO; 64];
        sums.store(&mut lanes[..width]);
        // The sixteen partial sums and the rest are few: f64 costs nothing here.
        let mut sum = lanes[..width].iter().map(|x| x.to_f64()).sum::<f64>();
        let rest = whole.into_remainder();
        (I::Lanes::<T>::load(rest) - shift).exp().store(rest);
        sum += rest.iter().map(|x| x.to_f64()).sum::<f64>();
        **loss = largest.to_f64() - picked.to_f64() + sum.ln();
        if let Some(scale) = scale {
            let factor = T::from_f64(scale / sum);
            for logit in logits.iter_mut() {
                *logit *= factor;
            }
            logits[target] -= T::from_f64(scale);
        }
    }
}

/// The largest of a row. It begins with the first: of a NaN it makes a NaN or what is beside it, and the sum of the
/// exponentials gets to see it either way.
#[inline(always)]
pub(crate) fn largest<V: Vector>(row: &[V::Elem]) -> V::Elem {
    let mut whole = row.chunks_exact(2 * V::WIDTH);
    let (mut even, mut odd) = (V::splat(row[0]), V::splat(row[0]));
    for pair in &mut whole {
        even = even.larger(V::load(pair));
        odd = odd.larger(V::load(&pair[V::WIDTH..]));
    }
    let mut lanes = [row[0]; 64];
    even.larger(odd).store(&mut lanes[..V::WIDTH]);
    let larger = |a, &b| if b > a { b } else { a };
    lanes[..V::WIDTH].iter().chain(whole.remainder()).fold(row[0], larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_ops_do_what_kernels_do() {
        let numbers =
            |i: usize| ((i * 29 % 31) as f64 - 15.0) * if i.is_multiple_of(7) { 900.0 } else { 0.3 };
        let (rows, vocabulary) = (6, 11);
        let logits: Vec<f64> = (0..rows * vocabulary).map(numbers).collect();
        let logits = Tensor::from_vec(logits, (2, 3, vocabulary), &Device::Cpu).unwrap();
        // The second row is no target's in the second case, and not to be looked at.
        let with_nan: Vec<f64> =
            (0..rows * vocabulary).map(|i| if i / vocabulary == 1 { f64::NAN } else { numbers(i) }).collect();
        let with_nan = Tensor::from_vec(with_nan, (2, 3, vocabulary), &Device::Cpu).unwrap();
        for (logits, targets) in [(&logits, [3, 0, 10, 5, 5, 7]), (&with_nan, [3, IGNORE, 10, IGNORE, 5, 7])]
        {
            let (want, want_grad) = TimeSoftmaxWithLoss.forward_taped(logits, &targets).unwrap();
            let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            // All rows at once, one, two and four at a time: the last four are two.
            for few in [FEW, 1, 2 * vocabulary, 4 * vocabulary + 3] {
                let grad = logits.copy().unwrap();
                let loss = in_tensor_ops(&grad, &targets, few).unwrap();
                assert!((loss - want).abs() < 1e-12 * want, "{loss} and {want}");
                for (got, want) in flat(&grad).into_iter().zip(flat(&want_grad)) {
                    assert!((got - want).abs() < 1e-15, "{got} and {want}");
                }
            }
            let want = losses(&mut flat(logits), &targets, vocabulary).unwrap();
            for (got, want) in losses_in_ops(logits, &targets).unwrap().into_iter().zip(want) {
                assert!((got - want).abs() <= 1e-12 * want, "{got} and {want}");
            }
        }
    }
}
