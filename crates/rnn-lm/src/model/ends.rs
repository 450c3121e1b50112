//! Both ends of a model by hand: the table that ids are looked up in, and the head with the loss. In tensor ops, on any
//! device; and in kernels, where memory is used again and gradients of the table are rows.

use super::head::Head;
use super::net::Net;
use crate::layers::{AffineLoss, AffineParams, RowGrad, TimeAffine, TimeEmbedding};
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
    /// Of the table, and of the head's own parameters in their order.
    fn grads(&self) -> Option<(Grad<'_>, Vec<Grad<'_>>)>;
}

/// In tensor ops.
pub(super) struct InOps {
    embedding: TimeEmbedding,
    head: Head,
    tied: bool,
    /// Of the head's parameters, the weight first where that is the table.
    of_head: Vec<Tensor>,
    of_table: Option<Tensor>,
}

impl InOps {
    pub(super) fn new<C: Cell>(net: &Net<C>) -> Self {
        let (embedding, head) = (net.embedding.clone(), net.head.clone());
        Self { embedding, head, tied: net.tied, of_head: Vec::new(), of_table: None }
    }
}

impl Ends for InOps {
    fn loss(&mut self, hs: &Tensor, targets: &[u32]) -> Result<(f64, Tensor)> {
        self.of_table = None;
        let (loss, dhs);
        match &self.head {
            Head::Full(affine) => {
                let (of_window, grads) = affine.loss_taped(hs, targets)?;
                (loss, dhs, self.of_head) = (of_window, grads.dxs, vec![grads.weight, grads.bias]);
            }
            Head::Adaptive(adaptive) => {
                let (of_window, grads) = adaptive.forward_taped(hs, targets)?;
                (loss, dhs, self.of_head) = (of_window, grads.dhs, grads.parameters);
            }
        }
        Ok((loss, dhs))
    }

    fn looked_up(&mut self, ids: &[u32], dxs: &Tensor) -> Result<()> {
        let mut of_table = self.embedding.backward_looked_up(ids, dxs)?;
        if self.tied {
            of_table = (of_table + &self.of_head[0])?;
        }
        self.of_table = Some(of_table);
        Ok(())
    }

    fn grads(&self) -> Option<(Grad<'_>, Vec<Grad<'_>>)> {
        let dense = |tensor| Grad::Dense(Values::Tensor(tensor));
        let own = self.of_head.iter().skip(usize::from(self.tied)).map(dense);
        Some((dense(self.of_table.as_ref()?), own.collect()))
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
    pub(super) fn new<C: Cell>(net: &Net<C>) -> Result<Self> {
        let (embedding, affine) = (net.embedding.clone(), net.head.full()?.clone());
        let (output, rows, rooms) = (AffineLoss::default(), RowGrad::default(), Rooms::default());
        Ok(Self { embedding, affine, tied: net.tied, output, rows, rooms, made: false })
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
        self.rows = TimeEmbedding::backward_rows(ids, read::<T>(&dxs)?.slice(), size)?;
        if self.tied {
            self.rows.add_to(&mut self.output.weight);
        }
        self.made = true;
        Ok(())
    }

    fn grads(&self) -> Option<(Grad<'_>, Vec<Grad<'_>>)> {
        let weight = Grad::Dense(Values::of(&self.output.weight));
        let bias = Grad::Dense(Values::of(&self.output.bias));
        let rows = Grad::Rows { ids: &self.rows.ids, values: Values::of(&self.rows.values) };
        self.made.then(|| if self.tied { (weight, vec![bias]) } else { (rows, vec![weight, bias]) })
    }
}

/// Before a backward there is nothing to be had.
pub(super) fn no_forward() -> Error {
    Error::invalid("backward", "a forward before it", "none")
}
