//! The gradient of several windows as that of one, for a batch that memory has no room for.

use super::update::BLOCK;
use super::{Grad, Values, optimizer};
use crate::{Error, Result};
use candle_core::Var;
use rnn_core::kernels::{Real, lend, team};

/// The mean of gradients, each weighed by its targets: what one window with the rows of all of them would give.
///
/// ```
/// use candle_core::{Device, Var};
/// use rnn_lm::train::{Grad, MeanGrad, Values};
/// let weight = Var::new(&[0f64, 0.0], &Device::Cpu)?;
/// let mut mean = MeanGrad::default();
/// for (grad, targets) in [([4.0, 8.0], 1.0), ([0.0, 4.0], 3.0)] {
///     mean.add(std::slice::from_ref(&weight), &[Grad::Dense(Values::F64(&grad))], targets)?;
/// }
/// assert_eq!(mean.grads()[0].to_vec1::<f64>()?, [1.0, 5.0]);
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct MeanGrad {
    means: Vec<Var>,
    weight: f64,
    windows: usize,
}

impl MeanGrad {
    /// Takes in the gradients of a window, one a parameter, with their weight.
    ///
    /// # Errors
    /// Where there is not one a parameter, or the weight is not above 0.
    pub fn add(&mut self, params: &[Var], grads: &[Grad<'_>], weight: f64) -> Result<()> {
        if params.len() != grads.len() {
            let want = format!("{}, one a parameter", params.len());
            return Err(Error::invalid("MeanGrad: gradients", want, grads.len()));
        }
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(Error::invalid("MeanGrad: weight", "a number above 0", weight));
        }
        if self.means.is_empty() {
            let zeros = |param: &Var| Ok(Var::from_tensor(&param.zeros_like()?.detach())?);
            self.means = params.iter().map(zeros).collect::<Result<_>>()?;
        }
        let by = weight / (self.weight + weight);
        for (mean, grad) in self.means.iter().zip(grads) {
            towards(mean, grad, by)?;
        }
        self.weight += weight;
        self.windows += 1;
        Ok(())
    }

    /// The windows that were taken in.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// Their weights' sum.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// The means, in the order of the parameters.
    pub fn grads(&self) -> &[Var] {
        &self.means
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        // With a weight of nothing the next gradient takes the place of what is there.
        (self.weight, self.windows) = (0.0, 0);
    }

    /// Goes on from means over windows of this weight.
    pub fn resume(means: Vec<Var>, weight: f64, windows: usize) -> Self {
        Self { means, weight, windows }
    }
}

/// `mean += (grad - mean) * by`
fn towards(mean: &Var, grad: &Grad<'_>, by: f64) -> Result<()> {
    let on_cpu = mean.device().is_cpu();
    match (grad, grad.values()) {
        (Grad::Dense(_), Values::F32(values)) if on_cpu => optimizer::numbers_towards(mean, values, by),
        (Grad::Dense(_), Values::F64(values)) if on_cpu => optimizer::numbers_towards(mean, values, by),
        (Grad::Dense(_), Values::Tensor(tensor)) => optimizer::towards(mean, &tensor.contiguous()?, by),
        (Grad::Rows { ids, .. }, Values::F32(values)) if on_cpu => rows_towards(mean, ids, values, by),
        (Grad::Rows { ids, .. }, Values::F64(values)) if on_cpu => rows_towards(mean, ids, values, by),
        _ => optimizer::towards(mean, &grad.dense(mean)?, by),
    }
}

/// The same where the gradient has some rows and is zero in the others.
fn rows_towards<T: Real>(mean: &Var, ids: &[u32], values: &[T], by: f64) -> Result<()> {
    let size = mean.elem_count() / mean.dims().first().copied().unwrap_or(1).max(1);
    let (by, rest) = (T::from_f64(by), T::from_f64(1.0 - by));
    Ok(lend::write(mean, |mean: &mut [T]| {
        team::pieces(mean, BLOCK, &|_, mean| mean.iter_mut().for_each(|mean| *mean *= rest));
        for (&id, values) in ids.iter().zip(values.chunks_exact(size.max(1))) {
            for (mean, &value) in mean[id as usize * size..][..size].iter_mut().zip(values) {
                *mean += value * by;
            }
        }
    })?)
}
