//! Tensors as the kernels of a GPU see them: where their numbers lie, how many there are, and that they stay there.

use super::launch::{Module, Numbers, OnGpu, Window, int};
use crate::cell::LayerParams;
use crate::kernels::unroll::cpu::Traits;
use crate::{Error, Result};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, CudaViewMut};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Device, Storage, Tensor};

/// A tensor whose numbers lie row by row on the module's device, exactly as many as a kernel will take for granted.
pub(super) struct Held {
    pub(super) tensor: Tensor,
    pub(super) numbers: Numbers,
}

impl Held {
    pub(super) fn new<T: OnGpu>(module: &Module, tensor: &Tensor, count: usize) -> Result<Self> {
        let op = "TimeRnn: a tensor on a GPU";
        if tensor.elem_count() != count {
            return Err(Error::invalid(op, format!("{count} numbers"), format!("{:?}", tensor.dims())));
        }
        if !tensor.device().same_device(&Device::Cuda(module.device.clone())) {
            let got = crate::device_name(tensor.device());
            return Err(Error::invalid(op, "the device of the layer's input", got));
        }
        let tensor = tensor.detach().contiguous()?;
        let numbers = lend(&tensor, |numbers: CudaView<'_, T>| Ok(Numbers::of(&numbers)))?;
        Ok(Self { tensor, numbers })
    }

    /// The same of what may be missing, where it is there or not as it has to be.
    pub(super) fn some<T: OnGpu>(
        module: &Module,
        tensor: Option<&Tensor>,
        (wanted, count): (bool, usize),
    ) -> Result<Option<Self>> {
        match tensor {
            Some(tensor) if wanted => Self::new::<T>(module, tensor, count).map(Some),
            None if !wanted => Ok(None),
            _ => Err(Error::invalid("TimeRnn: a tensor on a GPU", "what the cell has", "what another has")
                .hint("a tape and a state are for the cell that made them")),
        }
    }

    pub(super) fn copy_to<T: OnGpu>(&self, module: &Module, to: &mut CudaViewMut<'_, T>) -> Result<()> {
        lend(&self.tensor, |numbers: CudaView<'_, T>| Ok(module.device.memcpy_dtod(&numbers, to)?))
    }
}

/// Where what may be missing begins.
pub(super) fn address(held: Option<&Held>) -> u64 {
    held.map_or(0, |held| held.numbers.address)
}

/// Lends the numbers of a contiguous tensor.
fn lend<T: OnGpu, R>(tensor: &Tensor, f: impl FnOnce(CudaView<'_, T>) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let start = layout.start_offset();
    match &*storage {
        Storage::Cuda(cuda) => {
            f(cuda.as_cuda_slice::<T>()?.slice(start..start + layout.shape().elem_count()))
        }
        _ => {
            let got = crate::device_name(tensor.device());
            Err(Error::invalid("TimeRnn: fused", "tensors on the GPU", got))
        }
    }
}

/// What a buffer holds as a tensor of one dimension.
pub(super) fn tensor_of<T: OnGpu>(module: &Module, numbers: CudaSlice<T>) -> Result<Tensor> {
    let count = numbers.len();
    let storage = CudaStorage::wrap_cuda_slice(numbers, module.device.clone());
    Ok(Tensor::from_storage(Storage::Cuda(storage), count, BackpropOp::none(), false))
}

/// A layer's parameters, held.
pub(super) struct Params {
    pub(super) weight_ih: Held,
    pub(super) weight_hh: Held,
    bias_ih: Option<Held>,
    bias_hh: Option<Held>,
    own: Option<Held>,
}

impl Params {
    /// Of a cell with these traits, D inputs and H units.
    pub(super) fn new<T: OnGpu>(
        module: &Module,
        params: &LayerParams,
        (input, hidden): (usize, usize),
    ) -> Result<Self> {
        let Traits { gates, own, .. } = module.traced.traits;
        let sums = gates * hidden;
        let bias = |bias: &Option<Tensor>| Held::some::<T>(module, bias.as_ref(), (bias.is_some(), sums));
        let all = params.own.iter().map(|(_, tensor)| tensor.flatten_all());
        let all = all.collect::<candle_core::Result<Vec<_>>>()?;
        let all = (!all.is_empty()).then(|| Tensor::cat(&all, 0)).transpose()?;
        Ok(Self {
            weight_ih: Held::new::<T>(module, &params.weight_ih, sums * input)?,
            weight_hh: Held::new::<T>(module, &params.weight_hh, sums * hidden)?,
            bias_ih: bias(&params.bias_ih)?,
            bias_hh: bias(&params.bias_hh)?,
            own: Held::some::<T>(module, all.as_ref(), (own > 0, own * hidden))?,
        })
    }

    /// What of the window they decide, and its sizes.
    pub(super) fn window(&self, (batch, time, hidden): (usize, usize, usize)) -> Result<Window> {
        Ok(Window {
            bias_ih: address(self.bias_ih.as_ref()),
            bias_hh: address(self.bias_hh.as_ref()),
            own: address(self.own.as_ref()),
            batch: int(batch)?,
            time: int(time)?,
            hidden: int(hidden)?,
            ..Window::default()
        })
    }
}
