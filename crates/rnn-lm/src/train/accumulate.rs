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
    /// Where there is not one a parameter, one has another size, the parameters are not those of the window before, or the weight
    /// is not above 0.
    pub fn add(&mut self, params: &[Var], grads: &[Grad<'_>], weight: f64) -> Result<()> {
        if params.len() != grads.len() {
            let want = format!("{}, one a parameter", params.len());
            return Err(Error::invalid("MeanGrad: gradients", want, grads.len()));
        }
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(Error::invalid("MeanGrad: weight", "a number above 0", weight));
        }
        params.iter().zip(grads).try_for_each(|(param, grad)| optimizer::check("MeanGrad", param, grad))?;
        let fits = self.means.len() == params.len() && self.means.iter().zip(params).all(alike);
        if !fits {
            if self.weight > 0.0 {
                let want = format!("the {} parameters of the window before", self.means.len());
                return Err(Error::invalid("MeanGrad: parameters", want, format!("{} others", params.len())));
            }
            let zeros = |param: &Var| Ok(Var::from_tensor(&param.zeros_like()?.detach())?);
            self.means = params.iter().map(zeros).collect::<Result<_>>()?;
        } else if self.weight == 0.0 {
            // Nothing of the means before, not even how they would round, or that one was not a number.
            self.means.iter().try_for_each(|mean| mean.zero_set())?;
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
        (self.weight, self.windows) = (0.0, 0);
    }

    /// Goes on from means over windows of this weight.
    pub fn resume(means: Vec<Var>, weight: f64, windows: usize) -> Self {
        Self { means, weight, windows }
    }
}

fn alike((mean, param): (&Var, &Var)) -> bool {
    let of = |var: &Var| (var.dims().to_vec(), var.dtype(), var.device().location());
    of(mean) == of(param)
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    #[test]
    fn nothing_is_left_of_what_was_before() {
        let weight = Var::new(&[0f32, 0.0], &Device::Cpu).unwrap();
        let params = std::slice::from_ref(&weight);
        let mut mean = MeanGrad::default();
        for before in [0.1, f32::NAN] {
            mean.add(params, &[Grad::Dense(Values::F32(&[before; 2]))], 1.0).unwrap();
            mean.clear();
            // 0.1 + (0.003 - 0.1) would be another number.
            mean.add(params, &[Grad::Dense(Values::F32(&[0.003; 2]))], 3.0).unwrap();
            assert_eq!(mean.grads()[0].to_vec1::<f32>().unwrap(), [0.003; 2]);
            mean.clear();
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let weight = Var::new(&[[0f32, 0.0], [0.0, 0.0]], &Device::Cpu).unwrap();
        let params = std::slice::from_ref(&weight);
        let mut mean = MeanGrad::default();
        let good = [1f32, 2.0, 3.0, 4.0];
        mean.add(params, &[Grad::Dense(Values::F32(&good))], 1.0).unwrap();
        let doubles = Tensor::zeros((2, 2), candle_core::DType::F64, &Device::Cpu).unwrap();
        let ids = [2];
        for (grad, named) in [
            (Grad::Dense(Values::F32(&good[..1])), "gradient: expected 4 numbers, got 1"),
            (Grad::Rows { ids: &ids, values: Values::F32(&good[..2]) }, "rows: expected below 2, got 2"),
            (Grad::Dense(Values::Tensor(&doubles)), "gradient: expected f32, got f64"),
        ] {
            let error = mean.add(params, &[grad], 1.0).unwrap_err().to_string();
            assert!(error.starts_with(&format!("MeanGrad: {named}")), "{error}");
        }
        let two = [weight.clone(), weight.clone()];
        assert!(mean.add(&two, &[Grad::Dense(Values::F32(&good)); 2], 1.0).is_err());
        let six = Var::new(&[0f32; 6], &Device::Cpu).unwrap();
        let large = [Grad::Dense(Values::F32(&[6.0; 6]))];
        let error = mean.add(std::slice::from_ref(&six), &large, 1.0).unwrap_err().to_string();
        assert!(error.ends_with("the 1 parameters of the window before, got 1 others"), "{error}");
        assert_eq!(
            (mean.windows(), mean.grads()[0].to_vec2::<f32>().unwrap()),
            (1, vec![vec![1.0, 2.0], vec![3.0, 4.0]])
        );
        // Once it begins anew, those of another model are as good.
        mean.clear();
        mean.add(std::slice::from_ref(&six), &large, 1.0).unwrap();
        assert_eq!(mean.grads()[0].to_vec1::<f32>().unwrap(), [6.0; 6]);
    }
}
