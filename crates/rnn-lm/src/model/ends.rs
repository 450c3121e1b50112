//! Both ends of a model by hand: the table that ids are looked up in, and the affine layer with the loss. In tensor ops,
//! on any device; and in kernels, where memory is used again and gradients of the table are rows.

use super::net::Net;
use crate::layers::{
    AffineGrads, AffineLoss, AffineParams, RowGrad, TimeAffine, TimeEmbedding, TimeSoftmaxWithLoss,
};
use crate::train::{Grad, Values};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use rnn_core::Cell;
use rnn_core::kernels::Real;
use rnn_core::kernels::lend::read;
use rnn_core::kernels::product::Rooms;

/// The loss and what belongs to it; each call's gradients stay until the next one.
pub(super) trait Ends: Send {
    /// The loss of `hs [N, T, H]`, and its gradient with respect to them.
    fn loss(&mut self, hs: &Tensor, targets: &[u32]) -> Result<(f64, Tensor)>;
    /// The gradient of the table, from that of what was looked up, `dxs [N, T, D]`.
    fn looked_up(&mut self, ids: &[u32], dxs: &Tensor) -> Result<()>;
    /// Of the table, of the affine weight where it is another, and of the bias.
    fn grads(&self) -> Option<(Grad<'_>, Option<Grad<'_>>, Grad<'_>)>;
}

/// In tensor ops.
pub(super) struct InOps {
    embedding: TimeEmbedding,
    affine: TimeAffine,
    tied: bool,
    of_affine: Option<AffineGrads>,
    of_table: Option<Tensor>,
}

impl InOps {
    pub(super) fn new<C: Cell>(net: &Net<C>) -> Self {
        let (embedding, affine) = (net.embedding.clone(), net.affine.clone());
        Self { embedding, affine, tied: net.tied, of_affine: None, of_table: None }
    }
}

impl Ends for InOps {
    fn loss(&mut self, hs: &Tensor, targets: &[u32]) -> Result<(f64, Tensor)> {
        let (loss, dlogits) = TimeSoftmaxWithLoss.forward_taped(&self.affine.infer(hs)?, targets)?;
        let grads = self.affine.backward(hs, &dlogits)?;
        let dhs = grads.dxs.clone();
        self.of_affine = Some(grads);
        Ok((loss, dhs))
    }

    fn looked_up(&mut self, ids: &[u32], dxs: &Tensor) -> Result<()> {
        let ids = Tensor::from_slice(ids, ids.len(), dxs.device())?;
        let mut of_table = self.embedding.backward(&ids, dxs)?;
        if let Some(of_affine) = self.of_affine.as_ref().filter(|_| self.tied) {
            of_table = (of_table + &of_affine.weight)?;
        }
        self.of_table = Some(of_table);
        Ok(())
    }

    fn grads(&self) -> Option<(Grad<'_>, Option<Grad<'_>>, Grad<'_>)> {
        let dense = |tensor| Grad::Dense(Values::Tensor(tensor));
        let affine = self.of_affine.as_ref()?;
        let weight = (!self.tied).then(|| dense(&affine.weight));
        Some((dense(self.of_table.as_ref()?), weight, dense(&affine.bias)))
    }
}

/// In kernels.
pub(super) struct InKernels<T: Real> {
    embedding: TimeEmbedding,
    affine: TimeAffine,
    tied: bool,
    output: AffineLoss<T>,
    rows: RowGrad<T>,
    rooms: Rooms<T>,
    made: bool,
}

impl<T: Real> InKernels<T> {
    pub(super) fn new<C: Cell>(net: &Net<C>) -> Self {
        let (embedding, affine) = (net.embedding.clone(), net.affine.clone());
        let (output, rows, rooms) = (AffineLoss::default(), RowGrad::default(), Rooms::default());
        Self { embedding, affine, tied: net.tied, output, rows, rooms, made: false }
    }
}

impl<T: Real> Ends for InKernels<T> {
    fn loss(&mut self, hs: &Tensor, targets: &[u32]) -> Result<(f64, Tensor)> {
        let hs = hs.detach().contiguous()?;
        let (weight, bias) = (read::<T>(self.affine.weight())?, read::<T>(self.affine.bias())?);
        let params = AffineParams { weight: weight.slice(), bias: bias.slice() };
        self.made = false;
        let loss = self.output.forward(read::<T>(&hs)?.slice(), targets, params, &mut self.rooms)?;
        Ok((loss, Tensor::from_vec(std::mem::take(&mut self.output.dhs), hs.shape(), &Device::Cpu)?))
    }

    fn looked_up(&mut self, ids: &[u32], dxs: &Tensor) -> Result<()> {
        let dxs = dxs.contiguous()?;
        let size = self.embedding.weight().dim(1)?;
        self.rows = TimeEmbedding::backward_rows(ids, read::<T>(&dxs)?.slice(), size);
        if self.tied {
            self.rows.add_to(&mut self.output.weight);
        }
        self.made = true;
        Ok(())
    }

    fn grads(&self) -> Option<(Grad<'_>, Option<Grad<'_>>, Grad<'_>)> {
        let of_weight = Grad::Dense(Values::of(&self.output.weight));
        let of_rows = Grad::Rows { ids: &self.rows.ids, values: Values::of(&self.rows.values) };
        let (first, second) = if self.tied { (of_weight, None) } else { (of_rows, Some(of_weight)) };
        self.made.then(|| (first, second, Grad::Dense(Values::of(&self.output.bias))))
    }
}

/// Before a backward there is nothing to be had.
pub(super) fn no_forward() -> Error {
    Error::invalid("backward", "a forward before it", "none")
}
