//! The end of the model as one: affine layer, softmax, loss, and their backward, a chunk of rows at a time.
//!
//! A window's logits are its largest thing. Here they exist for some rows at once, in one buffer that is used again:
//! made, turned into their gradient, and read for the gradients below while they are in the cache. So the forward does
//! the work of the backward too, and the backward finds it done. In tensor ops, on any device, they exist whole, and once.

use super::affine::{AffineGrads, TimeAffine};
use super::softmax_loss::{TimeSoftmaxWithLoss, check_targets, recorded, rows};
use crate::Result;
use candle_core::Tensor;
use rnn_core::kernels::Real;
use rnn_core::kernels::product::{Mat, Rooms, Store, gradients, grown, product};
use rnn_core::kernels::profile::part;
use rnn_core::kernels::unroll::cpu::resize;

impl TimeAffine {
    /// [`TimeSoftmaxWithLoss`] of what this layer gives for `hs [N, T, H]`, as one op of candle's graph whose backward is by
    /// hand. The logits `[N, T, V]` exist once and only here: what stays for the backward are the gradients below them.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::VarBuilder;
    /// use rnn_core::Scheme;
    /// use rnn_lm::layers::TimeAffine;
    /// let affine = TimeAffine::new(2, 4, Scheme::Book, &VarBuilder::zeros(DType::F64, &Device::Cpu))?;
    /// let hs = Tensor::ones((1, 3, 2), DType::F64, &Device::Cpu)?;
    /// assert_eq!(affine.loss(&hs, &[0, 3, 1])?.to_scalar::<f64>()?, 4f64.ln());
    /// # rnn_lm::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where a shape does not fit, a target is outside the vocabulary, or all are [`crate::data::IGNORE`].
    pub fn loss(&self, hs: &Tensor, targets: &[u32]) -> Result<Tensor> {
        let (loss, grads) = self.loss_taped(hs, targets)?;
        let (inputs, grads) = ([hs, self.weight(), self.bias()], vec![grads.dxs, grads.weight, grads.bias]);
        recorded("affine-with-loss", loss, &inputs, grads)
    }

    /// The loss in nats and all gradients of it, by hand and without autograd.
    ///
    /// # Errors
    /// Those of [`Self::loss`].
    pub fn loss_taped(&self, hs: &Tensor, targets: &[u32]) -> Result<(f64, AffineGrads)> {
        let (loss, dlogits) = TimeSoftmaxWithLoss.turn(self.infer(hs)?, targets)?;
        Ok((loss, self.backward(hs, &dlogits)?))
    }
}

/// What the affine layer's parameters are, row by row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AffineParams<'a, T> {
    /// `[V, H]`
    pub(crate) weight: &'a [T],
    /// `[V]`
    pub(crate) bias: &'a [T],
}

/// Gradients and the buffer they are made in.
#[derive(Debug, Default)]
pub(crate) struct AffineLoss<T> {
    /// `[rows, V]`: logits, then their gradient; kept by [`grown`].
    logits: Vec<T>,
    /// `[V, H]`
    pub(crate) weight: Vec<T>,
    /// `[V]`
    pub(crate) bias: Vec<T>,
    /// The gradient of the hidden states, `[N*T, H]`.
    pub(crate) dhs: Vec<T>,
}

impl<T: Real> AffineLoss<T> {
    /// The mean loss of `hs [N*T, H]` with these targets; all gradients of it are left here.
    ///
    /// # Errors
    /// Those of [`super::softmax_loss`]; nothing has been changed then.
    pub(crate) fn forward(
        &mut self,
        hs: &[T],
        targets: &[u32],
        params: AffineParams<'_, T>,
        rooms: &mut Rooms<T>,
    ) -> Result<f64> {
        let vocabulary = params.bias.len();
        let hidden = params.weight.len() / vocabulary;
        let count = check_targets("AffineLoss: targets", targets, hs.len() / hidden, vocabulary)?;
        let chunk = chunk::<T>(targets.len(), vocabulary);
        let buffer = grown(&mut self.logits, chunk * vocabulary);
        resize(&mut self.weight, params.weight.len());
        resize(&mut self.bias, vocabulary);
        resize(&mut self.dhs, hs.len());
        let weight = Mat::new(params.weight, vocabulary, hidden);
        let (mut loss, mut first) = (0.0, true);
        let work =
            hs.chunks(chunk * hidden).zip(self.dhs.chunks_mut(chunk * hidden)).zip(targets.chunks(chunk));
        for ((hs, dhs), targets) in work {
            let logits = &mut buffer[..targets.len() * vocabulary];
            let hs = Mat::new(hs, targets.len(), hidden);
            let work = targets.len() * vocabulary * hidden;
            part("logits", work, || product(logits, hs, weight.t(), Store::Row(params.bias), rooms));
            loss +=
                part("softmax and loss", 0, || rows(logits, targets, vocabulary, Some(1.0 / count as f64)));
            let dlogits = Mat::new(&*logits, targets.len(), vocabulary);
            part("output's input gradient", work, || product(dhs, dlogits, weight, Store::Set, rooms));
            part("output's weight gradient", work, || {
                gradients((&mut self.weight, Some(&mut self.bias)), dlogits, hs, !first, rooms);
            });
            first = false;
        }
        Ok(loss / count as f64)
    }
}

/// Rows of a chunk: as many as keep its logits in the cache that the cores share, in even pieces.
fn chunk<T>(rows: usize, vocabulary: usize) -> usize {
    /// Bytes of logits.
    const MOST: usize = 1 << 25;
    /// Rows that a product needs to be fast.
    const FEWEST: usize = 64;
    let fitting = (MOST / size_of::<T>() / vocabulary).max(FEWEST);
    rows.div_ceil(rows.div_ceil(fitting))
}
