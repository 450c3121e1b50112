//! The outputs of a function in one buffer, as it goes into the graph, and out of it as one tensor each.

use crate::Result;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Shape, Tensor};

/// The numbers of all outputs, one after the other.
#[derive(Debug, Clone)]
pub enum Flat {
    /// Just computed by a kernel: handed over without a copy.
    Cpu(CpuStorage),
    /// A tensor on any device.
    Tensor(Tensor),
}

impl Flat {
    /// The outputs of the given shapes as constants, with no graph behind them. The first one keeps the buffer; the
    /// others are copies, so that a state that is carried on does not keep the outputs of its window alive.
    ///
    /// # Errors
    /// Where the shapes do not add up to the buffer.
    pub fn detached(self, shapes: &[Shape], like: &Tensor) -> Result<Vec<Tensor>> {
        self.check("autograd", shapes)?;
        let tensor = match self {
            Self::Tensor(tensor) => tensor,
            Self::Cpu(storage) => {
                let total = elements(shapes);
                match storage {
                    CpuStorage::F32(numbers) => Tensor::from_vec(numbers, total, like.device())?,
                    CpuStorage::F64(numbers) => Tensor::from_vec(numbers, total, like.device())?,
                    other => {
                        let got = other.dtype().as_str();
                        return Err(crate::Error::invalid("autograd: outputs", "f32 or f64", got));
                    }
                }
            }
        };
        let mut outputs = views(&tensor.detach(), shapes)?;
        for output in outputs.iter_mut().skip(1) {
            *output = output.force_contiguous()?;
        }
        Ok(outputs)
    }

    /// Whether there are as many numbers as the shapes have.
    pub(super) fn check(&self, name: &str, shapes: &[Shape]) -> Result<()> {
        let want = elements(shapes);
        let got = match self {
            Self::Tensor(tensor) => tensor.elem_count(),
            Self::Cpu(storage) => len(storage),
        };
        if got != want {
            let op = format!("{name}: outputs");
            return Err(crate::Error::invalid(op, format!("{want} numbers, for {shapes:?}"), got));
        }
        Ok(())
    }

    /// The same with its first number at the beginning of its buffer, and the others behind it.
    pub(super) fn dense(self) -> Result<Self> {
        let Self::Tensor(tensor) = self else { return Ok(self) };
        let begins = tensor.layout().start_offset() == 0 && tensor.is_contiguous();
        let tensor = tensor.detach();
        Ok(Self::Tensor(if begins { tensor } else { tensor.force_contiguous()? }))
    }
}

pub(super) fn elements(shapes: &[Shape]) -> usize {
    shapes.iter().map(Shape::elem_count).sum()
}

fn len(storage: &CpuStorage) -> usize {
    match storage {
        CpuStorage::U8(numbers) => numbers.len(),
        CpuStorage::U32(numbers) => numbers.len(),
        CpuStorage::I16(numbers) => numbers.len(),
        CpuStorage::I32(numbers) => numbers.len(),
        CpuStorage::I64(numbers) => numbers.len(),
        CpuStorage::BF16(numbers) => numbers.len(),
        CpuStorage::F16(numbers) => numbers.len(),
        CpuStorage::F32(numbers) => numbers.len(),
        CpuStorage::F64(numbers) => numbers.len(),
        CpuStorage::F8E4M3(numbers) => numbers.len(),
        CpuStorage::F6E2M3(bytes)
        | CpuStorage::F6E3M2(bytes)
        | CpuStorage::F4(bytes)
        | CpuStorage::F8E8M0(bytes) => bytes.len(),
    }
}

/// One tensor for each shape, out of a buffer that holds them one after the other.
pub(super) fn views(flat: &Tensor, shapes: &[Shape]) -> Result<Vec<Tensor>> {
    let mut start = 0;
    let mut outputs = Vec::with_capacity(shapes.len());
    for shape in shapes {
        let size = shape.elem_count();
        outputs.push(flat.narrow(0, start, size)?.reshape(shape)?);
        start += size;
    }
    Ok(outputs)
}
