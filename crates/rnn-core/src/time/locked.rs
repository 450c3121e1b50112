//! Locked dropout: a mask `[N, size]` that is the same at all steps of a row, over a window `[N, T, size]`.

use crate::Way;
use crate::autograd::{Flat, record};
use crate::kernels::Real;
use crate::kernels::lend::read;
use crate::{Error, Result};
use candle_core::{CpuStorage, DType, Device, Tensor};

/// `x [N, T, size]` times the mask, if there is one: one pass and one op, but for the reference, which is plain ops. Times
/// the same mask is its own backward.
pub(super) fn drop_units(x: &Tensor, mask: Option<&Tensor>, way: Way) -> Result<Tensor> {
    let Some(mask) = mask else { return Ok(x.clone()) };
    let dims = x.dims3()?;
    let flat = match (way, x.device(), x.dtype()) {
        (Way::Manual | Way::Fused, Device::Cpu, DType::F32) => {
            Flat::Cpu(CpuStorage::F32(times::<f32>(x, mask, dims)?))
        }
        (Way::Manual | Way::Fused, Device::Cpu, DType::F64) => {
            Flat::Cpu(CpuStorage::F64(times::<f64>(x, mask, dims)?))
        }
        _ => return Ok(x.broadcast_mul(&mask.unsqueeze(1)?)?),
    };
    let shape = [x.shape().clone()];
    let outputs = if x.track_op() {
        let mask = mask.clone();
        let backward = move |grads: &[Tensor]| Ok(vec![Some(drop_units(&grads[0], Some(&mask), way)?)]);
        record("locked-dropout", &[x], flat, &shape, backward)?
    } else {
        flat.detached(&shape, x)?
    };
    outputs.into_iter().next().ok_or_else(|| Error::invalid("locked dropout", "an output", "none"))
}

fn times<T: Real>(x: &Tensor, mask: &Tensor, (_, time, size): (usize, usize, usize)) -> Result<Vec<T>> {
    let x = x.detach().contiguous()?;
    let (x, mask) = (read::<T>(&x)?, read::<T>(mask)?);
    let mut all = Vec::with_capacity(x.slice().len());
    for (row, mask) in x.slice().chunks_exact(time * size).zip(mask.slice().chunks_exact(size)) {
        for step in row.chunks_exact(size) {
            all.extend(step.iter().zip(mask).map(|(&x, &mask)| x * mask));
        }
    }
    Ok(all)
}
