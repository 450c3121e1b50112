//! Stochastic gradient descent with clipping by the global norm: `w -= lr * g * min(1, clip / norm)`.

use super::{Grad, Values, global_norm};
use crate::{Error, Result};
use candle_core::{DType, Tensor, Var};
use rnn_core::kernels::profile::part;
use rnn_core::kernels::{Real, lend, team};

/// The book's rule; without `clip` the gradients are taken as they are. Rows that have no gradient stay what they are,
/// which is what a dense gradient of zeros would do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// The longest that all gradients together may be.
    pub clip: Option<f64>,
}

impl Sgd {
    /// One step in place; gives the norm before clipping.
    ///
    /// # Errors
    /// [`Error::Diverged`] where the norm is not finite: no weight has been touched then.
    pub fn step(&self, params: &[Var], grads: &[Grad<'_>]) -> Result<f64> {
        if params.len() != grads.len() {
            return Err(Error::invalid(
                "Sgd: gradients",
                format!("{}, one a parameter", params.len()),
                grads.len(),
            ));
        }
        let norm = part("norm", 0, || global_norm(grads))?;
        if !norm.is_finite() {
            return Err(Error::Diverged { step: 0, what: "gradient norm", value: norm });
        }
        // The 1e-6 is PyTorch's: a norm that is just the limit is clipped by a hair.
        let scale = self.clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0));
        part("update", 0, || {
            params.iter().zip(grads).try_for_each(|(param, grad)| update(param, grad, self.lr * scale))
        })?;
        Ok(norm)
    }
}

fn update(param: &Var, grad: &Grad<'_>, rate: f64) -> Result<()> {
    match grad.values() {
        Values::F32(values) => on_cpu(param, grad, values, rate),
        Values::F64(values) => on_cpu(param, grad, values, rate),
        Values::Tensor(tensor) => match (param.device().is_cpu(), param.dtype()) {
            (true, DType::F32) => {
                on_cpu(param, grad, lend::read::<f32>(&tensor.contiguous()?)?.slice(), rate)
            }
            (true, DType::F64) => {
                on_cpu(param, grad, lend::read::<f64>(&tensor.contiguous()?)?.slice(), rate)
            }
            _ => in_tensor_ops(param, grad, tensor, rate),
        },
    }
}

fn on_cpu<T: Real>(param: &Var, grad: &Grad<'_>, values: &[T], rate: f64) -> Result<()> {
    /// Numbers a thread takes at a time.
    const BLOCK: usize = 1 << 15;
    let rate = T::from_f64(rate);
    let subtract = |weights: &mut [T], values: &[T]| {
        for (weight, &value) in weights.iter_mut().zip(values) {
            *weight -= rate * value;
        }
    };
    let size = param.dims().last().copied().unwrap_or(1).max(1);
    let want = match grad {
        Grad::Dense(_) => param.elem_count(),
        Grad::Rows { ids, .. } => ids.len() * size,
    };
    if values.len() != want {
        return Err(Error::invalid("Sgd: gradient", format!("{want} numbers"), values.len()));
    }
    Ok(lend::write(param, |weights: &mut [T]| match grad {
        Grad::Dense(_) => {
            team::pieces(weights, BLOCK, &|i, weights| subtract(weights, &values[i * BLOCK..]));
        }
        Grad::Rows { ids, .. } => {
            for (&id, values) in ids.iter().zip(values.chunks_exact(size)) {
                let start = id as usize * size;
                subtract(&mut weights[start..start + size], values);
            }
        }
    })?)
}

fn in_tensor_ops(param: &Var, grad: &Grad<'_>, values: &Tensor, rate: f64) -> Result<()> {
    let step = (values * rate)?;
    let next = match grad {
        Grad::Dense(_) => (param.as_tensor().detach() - step)?,
        Grad::Rows { ids, .. } => {
            let ids = Tensor::from_slice(ids, ids.len(), param.device())?;
            param.as_tensor().detach().index_add(&ids, &step.neg()?, 0)?
        }
    };
    Ok(param.set(&next)?)
}
