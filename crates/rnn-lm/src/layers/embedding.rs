//! From ids to vectors, and from the gradients of these to that of their table.

use super::RowGrad;
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use candle_nn::{Init, VarBuilder};
use rnn_core::Scheme;
use rnn_core::kernels::Real;
use std::collections::HashMap;

/// A table of vectors, one for each id: `ys[n, t] = weight[ids[n, t]]`, with `ids [N, T]`, `weight [V, D]` and
/// `ys [N, T, D]`. The book's TimeEmbedding.
///
/// ```
/// use rnn_lm::layers::TimeEmbedding;
/// // Repeated ids add up.
/// let grad = TimeEmbedding::backward_rows(&[1, 0, 1], &[1.0, 2.0, 4.0], 1)?;
/// assert_eq!((grad.ids, grad.values), (vec![1, 0], vec![5.0, 2.0]));
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct TimeEmbedding {
    weight: Tensor,
}

impl TimeEmbedding {
    /// A table `weight [V, D]` from `vb`.
    ///
    /// # Errors
    /// Where a size is zero, or `vb` has no such tensor.
    pub fn new(vocabulary: usize, size: usize, init: Scheme, vb: &VarBuilder) -> Result<Self> {
        Self::with_init(vocabulary, size, init.embedding(), vb)
    }

    /// The same, beginning in a way of its own.
    pub(crate) fn with_init(vocabulary: usize, size: usize, init: Init, vb: &VarBuilder) -> Result<Self> {
        for (name, value) in [("vocabulary", vocabulary), ("size", size)] {
            if value == 0 {
                return Err(Error::invalid(format!("TimeEmbedding: {name}"), "at least 1", value));
            }
        }
        Ok(Self { weight: vb.get_with_hints((vocabulary, size), "weight", init)? })
    }

    /// The table `[V, D]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// `ids [N, T]` (u32) give `[N, T, D]`, through candle's autograd.
    ///
    /// # Errors
    /// Where an id is outside the table, or `ids` is not `[N, T]` of u32.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (numbers, (batch, time)) = numbers_of("TimeEmbedding: ids", ids)?;
        check_ids("TimeEmbedding: ids", &numbers, self.weight.dim(0)?)?;
        Ok(self.weight.index_select(&ids.flatten_all()?, 0)?.reshape((batch, time, ()))?)
    }

    /// The same of ids that the CPU still has, `[N, T]` row by row, with nothing recorded.
    ///
    /// # Errors
    /// Where an id is outside the table, or the ids are not N rows of one length.
    pub fn look_up(&self, ids: &[u32], batch: usize) -> Result<Tensor> {
        if batch == 0 || !ids.len().is_multiple_of(batch) {
            return Err(Error::invalid(
                "TimeEmbedding: ids",
                format!("{batch} rows of one length"),
                ids.len(),
            ));
        }
        check_ids("TimeEmbedding: ids", ids, self.weight.dim(0)?)?;
        let flat = Tensor::from_slice(ids, ids.len(), self.weight.device())?;
        Ok(self.weight.detach().index_select(&flat, 0)?.reshape((batch, ids.len() / batch, ()))?)
    }

    /// The gradient `[V, D]` of the table, from `ids [N, T]` of u32 and that of the output, `dys [N, T, D]`: row v is
    /// the sum of `dys[n, t]` over all n and t with `ids[n, t] = v`. By hand, in tensor ops.
    ///
    /// # Errors
    /// Where shapes do not fit; on the CPU also where an id is outside the table, except `u32::MAX`, which candle
    /// passes over. On a GPU ids are not looked at again: [`Self::forward`] has refused them.
    pub fn backward(&self, ids: &Tensor, dys: &Tensor) -> Result<Tensor> {
        let flat = ids.flatten_all()?;
        let rows = dys.detach().reshape((flat.elem_count(), self.weight.dim(1)?))?.contiguous()?;
        Ok(self.weight.detach().zeros_like()?.index_add(&flat, &rows, 0)?)
    }

    /// The same of ids that the CPU still has.
    ///
    /// # Errors
    /// Those of candle, where shapes do not fit.
    pub(crate) fn backward_looked_up(&self, ids: &[u32], dys: &Tensor) -> Result<Tensor> {
        /// Pairs of an id and a place that a GPU is asked to compare at once: 1 GB of f32.
        const MOST: usize = 1 << 28;
        let mut different = ids.to_vec();
        different.sort_unstable();
        different.dedup();
        if self.weight.device().is_cpu() || different.len().saturating_mul(ids.len()) > MOST {
            return self.backward(&Tensor::from_slice(ids, ids.len(), self.weight.device())?, dys);
        }
        self.backward_as_product((ids, &different), dys)
    }

    /// A product that adds up what belongs to one id, and a choice of rows: on a GPU candle's sum into places that may be
    /// the same takes one place after the other.
    fn backward_as_product(&self, (ids, different): (&[u32], &[u32]), dys: &Tensor) -> Result<Tensor> {
        let (vocabulary, size) = self.weight.dims2()?;
        let (device, dtype) = (self.weight.device(), self.weight.dtype());
        // Behind the sums stands a row of zeros, for all others.
        let mut rows = vec![different.len() as u32; vocabulary];
        for (row, &id) in (0..).zip(different) {
            rows[id as usize] = row;
        }
        let column = |ids: &[u32]| Tensor::from_slice(ids, (ids.len(), 1), device);
        let same = column(different)?.broadcast_eq(&column(ids)?.t()?)?.to_dtype(dtype)?;
        let sums = same.matmul(&dys.detach().reshape((ids.len(), size))?)?;
        let sums = Tensor::cat(&[&sums, &Tensor::zeros((1, size), dtype, device)?], 0)?;
        Ok(sums.index_select(&Tensor::from_vec(rows, vocabulary, device)?, 0)?)
    }

    /// The forward over slices: `ys [ids, D]`. The ids have been checked.
    pub(crate) fn forward_rows<T: Real>(weight: &[T], ids: &[u32], ys: &mut [T], size: usize) {
        for (y, &id) in ys.chunks_exact_mut(size).zip(ids) {
            y.copy_from_slice(&weight[id as usize * size..][..size]);
        }
    }

    /// The backward over slices: `dys [ids, D]`, of the size D.
    ///
    /// # Errors
    /// Where there is not one row of that size for each id.
    pub fn backward_rows<T: Real>(ids: &[u32], dys: &[T], size: usize) -> Result<RowGrad<T>> {
        if size == 0 || ids.len().checked_mul(size) != Some(dys.len()) {
            let want = format!("{} rows of a size of at least 1", ids.len());
            let got = format!("{} numbers for rows of {size}", dys.len());
            return Err(Error::invalid("TimeEmbedding::backward_rows: dys", want, got));
        }
        let mut place = HashMap::with_capacity(ids.len());
        let mut grad = RowGrad { ids: Vec::new(), values: Vec::new() };
        for (&id, dy) in ids.iter().zip(dys.chunks_exact(size)) {
            let row = *place.entry(id).or_insert(grad.ids.len());
            if row == grad.ids.len() {
                grad.ids.push(id);
                grad.values.extend_from_slice(dy);
                continue;
            }
            for (sum, &value) in grad.values[row * size..].iter_mut().zip(dy) {
                *sum += value;
            }
        }
        Ok(grad)
    }
}

/// The ids of a tensor `[N, T]`, row by row, with N and T.
///
/// # Errors
/// Where it is no such tensor of u32.
pub(crate) fn numbers_of(op: &str, ids: &Tensor) -> Result<(Vec<u32>, (usize, usize))> {
    match (ids.dims(), ids.dtype()) {
        (&[batch, time], DType::U32) => Ok((ids.flatten_all()?.to_vec1()?, (batch, time))),
        (dims, dtype) => {
            let got = format!("{dims:?} of {}", dtype.as_str());
            Err(Error::invalid(op, "[N, T] of u32", got).hint("to_dtype and reshape make one"))
        }
    }
}

/// Every id below `vocabulary`, or an error that names the first one that is not.
pub(crate) fn check_ids(op: &str, ids: &[u32], vocabulary: usize) -> Result<()> {
    match ids.iter().position(|&id| id as usize >= vocabulary) {
        None => Ok(()),
        Some(i) => {
            Err(Error::invalid(op, format!("ids below {vocabulary}, the size of the vocabulary"), ids[i])
                .hint(format!("at position {i}")))
        }
    }
}

/// Ids as a tensor `[N, T]`.
pub(crate) fn ids_tensor(
    ids: &[u32],
    batch: usize,
    time: usize,
    device: &candle_core::Device,
) -> Result<Tensor> {
    Ok(Tensor::from_slice(ids, (batch, time), device)?.to_dtype(DType::U32)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use rnn_core::Parameters;

    #[test]
    fn both_ways_to_add_up_rows_give_the_same() {
        let parameters = Parameters::new(3, DType::F64, &Device::Cpu);
        let embedding = TimeEmbedding::new(7, 2, Scheme::Book, &parameters.builder()).unwrap();
        let ids = [4u32, 1, 4, 4, 0, 1];
        let looked_up = embedding.look_up(&ids, 2).unwrap();
        let tensor = ids_tensor(&ids, 2, 3, &Device::Cpu).unwrap();
        let all = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(all(&looked_up), all(&embedding.forward(&tensor).unwrap()));
        let dys = Tensor::arange(0f64, 12.0, &Device::Cpu).unwrap().reshape((2, 3, 2)).unwrap();
        let want = all(&embedding.backward(&tensor, &dys).unwrap());
        assert_eq!(all(&embedding.backward_looked_up(&ids, &dys).unwrap()), want);
        assert_eq!(all(&embedding.backward_as_product((&ids, &[0, 1, 4]), &dys).unwrap()), want);
        assert!(embedding.look_up(&[7], 1).is_err() && embedding.look_up(&ids, 4).is_err());
    }
}
