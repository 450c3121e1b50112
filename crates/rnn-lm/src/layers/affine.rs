//! From hidden states to logits: one affine map at every step.

use super::softmax_loss::{FEW, rows_of};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use rnn_core::Scheme;
use rnn_core::kernels::{Real, lend};
use rnn_core::sums::column_sums;

/// `y = x W^T + b` at every step, from hidden states to logits: `xs [N, T, H]`, `W [V, H]` and `b [V]` give
/// `ys [N, T, V]`. The book's TimeAffine, with PyTorch's shapes.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::Scheme;
/// use rnn_lm::layers::TimeAffine;
/// let weight = ("weight".to_string(), Tensor::new(&[[1f64, 2.0]], &Device::Cpu)?);
/// let bias = ("bias".to_string(), Tensor::new(&[3f64], &Device::Cpu)?);
/// let vb = VarBuilder::from_tensors([weight, bias].into(), DType::F64, &Device::Cpu);
/// let affine = TimeAffine::new(2, 1, Scheme::Book, &vb)?;
/// let xs = Tensor::new(&[[[4f64, 5.0]]], &Device::Cpu)?;
/// assert_eq!(affine.forward(&xs)?.to_vec3::<f64>()?, [[[17.0]]]);
/// let grads = affine.backward(&xs, &Tensor::new(&[[[1f64]]], &Device::Cpu)?)?;
/// assert_eq!(grads.weight.to_vec2::<f64>()?, [[4.0, 5.0]]);
/// assert_eq!(grads.bias.to_vec1::<f64>()?, [1.0]);
/// assert_eq!(grads.dxs.to_vec3::<f64>()?, [[[1.0, 2.0]]]);
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct TimeAffine {
    weight: Tensor,
    bias: Tensor,
}

/// The gradients of a [`TimeAffine`].
#[derive(Debug, Clone)]
pub struct AffineGrads {
    /// With respect to the input, `[N, T, H]`.
    pub dxs: Tensor,
    /// `[V, H]`
    pub weight: Tensor,
    /// `[V]`
    pub bias: Tensor,
}

impl TimeAffine {
    /// `weight [outputs, inputs]` and `bias [outputs]` from `vb`.
    ///
    /// # Errors
    /// Where a size is zero, or `vb` has no such tensors.
    pub fn new(inputs: usize, outputs: usize, init: Scheme, vb: &VarBuilder) -> Result<Self> {
        for (name, value) in [("inputs", inputs), ("outputs", outputs)] {
            if value == 0 {
                return Err(Error::invalid(format!("TimeAffine: {name}"), "at least 1", value));
            }
        }
        let weight = vb.get_with_hints((outputs, inputs), "weight", init.affine(inputs))?;
        Self::sharing(&weight, init, vb)
    }

    /// A layer whose weight is another's, and a bias of its own from `vb`.
    ///
    /// # Errors
    /// Where `weight` is no matrix, or `vb` has no such bias.
    pub fn sharing(weight: &Tensor, init: Scheme, vb: &VarBuilder) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        Ok(Self {
            weight: weight.clone(),
            bias: vb.get_with_hints(outputs, "bias", init.affine_bias(inputs))?,
        })
    }

    /// `[V, H]`
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `[V]`
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// `xs [N, T, H]` give `[N, T, V]`, through candle's autograd.
    ///
    /// # Errors
    /// Where `xs` has not three dimensions, and those of candle, where sizes, dtypes or devices do not fit.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        Ok(product(xs, &self.weight)?.broadcast_add(&self.bias)?)
    }

    /// The same with nothing recorded.
    ///
    /// # Errors
    /// Those of [`Self::forward`].
    pub fn infer(&self, xs: &Tensor) -> Result<Tensor> {
        let (ys, bias) = (product(&xs.detach(), &self.weight.detach())?, self.bias.detach());
        // Logits are large: the bias is added where they stand.
        match (ys.device(), ys.dtype()) {
            (Device::Cpu, DType::F32) => add_to_rows::<f32>(ys, &bias),
            (Device::Cpu, DType::F64) => add_to_rows::<f64>(ys, &bias),
            _ => add_in_ops(ys, &bias, FEW),
        }
    }

    /// The backward by hand, from `xs [N, T, H]` and the gradient of the output, `dys [N, T, V]`. With both as the
    /// rows X and dY of all steps: `dW = dY^T X`, `db` = the sum of the rows of dY, `dX = dY W`.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    pub fn backward(&self, xs: &Tensor, dys: &Tensor) -> Result<AffineGrads> {
        let (batch, time, size) = xs.dims3()?;
        let rows = batch * time;
        let (xs, dys) = (xs.detach().reshape((rows, size))?, dys.detach().reshape((rows, ()))?);
        Ok(AffineGrads {
            dxs: dys.matmul(&self.weight.detach())?.reshape((batch, time, size))?,
            weight: dys.t()?.matmul(&xs)?,
            bias: column_sums(&dys)?,
        })
    }
}

/// `xs W^T`, `[N, T, V]`.
fn product(xs: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let &[batch, time, size] = xs.dims() else {
        return Err(Error::invalid("TimeAffine: xs", "[N, T, H]", format!("{:?}", xs.dims()))
            .hint("of single steps T is 1: unsqueeze(1)"));
    };
    let ys = xs.reshape((batch * time, size))?.matmul(&weight.t()?)?;
    Ok(ys.reshape((batch, time, ()))?)
}

/// For devices without kernels of ours, rows of `few` numbers together at a time. Nobody else has the storage.
fn add_in_ops(ys: Tensor, bias: &Tensor, few: usize) -> Result<Tensor> {
    let all = ys.flatten_to(1)?;
    for rows in rows_of(all.dims2()?, few) {
        let sums = all.narrow(0, rows.start, rows.len())?.broadcast_add(bias)?;
        all.slice_set(&sums, 0, rows.start)?;
    }
    Ok(ys)
}

fn add_to_rows<T: Real>(ys: Tensor, bias: &Tensor) -> Result<Tensor> {
    let bias = lend::read::<T>(bias)?;
    let bias = bias.slice();
    let add = |ys: &mut [T]| {
        ys.chunks_mut(bias.len()).flat_map(|row| row.iter_mut().zip(bias)).for_each(|(y, &b)| *y += b);
    };
    lend::write(&ys, add)?;
    Ok(ys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_ops_add_what_the_cpu_does_however_many_rows_they_take() {
        let numbers = |count: usize| (0..count).map(|i| (i * 29 % 31) as f64 - 15.0).collect::<Vec<_>>();
        let [ys, want] = [0, 1].map(|_| Tensor::from_vec(numbers(66), (2, 3, 11), &Device::Cpu).unwrap());
        let bias = Tensor::from_vec(numbers(11), 11, &Device::Cpu).unwrap();
        let want = add_to_rows::<f64>(want, &bias).unwrap().to_vec3::<f64>().unwrap();
        for few in [1, 11, 22, 50, 66, 1000] {
            let got = add_in_ops(ys.copy().unwrap(), &bias, few).unwrap();
            assert_eq!(got.to_vec3::<f64>().unwrap(), want, "{few}");
        }
    }
}
