//! A function with a hand-written backward as one op of candle's graph, with any number of inputs and outputs.
//!
//! candle's custom ops take at most three inputs and give one output. [`record`] builds what is missing out of them:
//!
//! ```text
//! inputs --(three at a time)--> Gate -> token --+
//! inputs --(three at a time)--> Gate -> token --+--> Hub -> all outputs in one buffer --> views, the outputs
//! ```
//!
//! A token is one number that carries nothing but the order of the graph. On the way back the hub gets the gradient of
//! the whole buffer, calls the backward, and leaves its results in slots, from which each gate hands its own inputs
//! theirs. The slots are filled anew by every `backward()`, so that calling it twice is fine.

use crate::Result;
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result as CandleResult, Shape, Storage,
    Tensor,
};
use std::sync::{Arc, Mutex, PoisonError};

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
        let tensor = match self {
            Self::Tensor(tensor) => tensor,
            Self::Cpu(storage) => {
                let total = shapes.iter().map(Shape::elem_count).sum::<usize>();
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
}

/// The hand-written backward: from the gradient of every output to that of every input, `None` for an input that is
/// not tracked (where candle's graph does not lead to a variable).
pub trait Backward: Fn(&[Tensor]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static {}
impl<F: Fn(&[Tensor]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static> Backward for F {}

/// Puts outputs that are already computed into candle's graph behind `inputs`, with `backward` as their backward.
///
/// All inputs and outputs have one dtype and one device.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use rnn_core::autograd::{Flat, record};
/// // y = 2 a and z = a b, computed by hand.
/// let (a, b) = (Var::new(3f64, &Device::Cpu)?, Var::new(5f64, &Device::Cpu)?);
/// let flat = Flat::Tensor(Tensor::new(&[6f64, 15.0], &Device::Cpu)?);
/// let outputs = record("example", &[&a, &b], flat, &[().into(), ().into()], |grads| {
///     let (dy, dz) = (&grads[0], &grads[1]);
///     Ok(vec![Some(((dy * 2.0)? + (dz * 5.0)?)?), Some((dz * 3.0)?)])
/// })?;
/// let grads = (&outputs[0] + &outputs[1])?.backward()?;
/// assert_eq!(grads.get(&a).map(|g| g.to_scalar::<f64>()).transpose()?, Some(7.0));
/// assert_eq!(grads.get(&b).map(|g| g.to_scalar::<f64>()).transpose()?, Some(3.0));
/// # rnn_core::Result::Ok(())
/// ```
///
/// # Errors
/// Those of candle.
pub fn record(
    name: &'static str,
    inputs: &[&Tensor],
    flat: Flat,
    shapes: &[Shape],
    backward: impl Backward,
) -> Result<Vec<Tensor>> {
    let slots = Arc::new(Slots::default());
    let mut token: Option<Tensor> = None;
    for (i, group) in inputs.chunks(3).enumerate() {
        let gate = Gate { name, slots: slots.clone(), first: 3 * i };
        let one = match group {
            [a] => a.apply_op1(gate)?,
            [a, b] => a.apply_op2(b, gate)?,
            [a, b, c] => a.apply_op3(b, c, gate)?,
            _ => continue,
        };
        token = Some(match token {
            Some(token) => (token + one)?,
            None => one,
        });
    }
    let token = token.ok_or_else(|| crate::Error::invalid("autograd: inputs", "at least one", "none"))?;
    let hub = Hub { name, outputs: Mutex::new(Some(flat)), shapes: shapes.to_vec(), slots, backward };
    views(&token.apply_op1(hub)?, shapes)
}

/// One tensor for each shape, out of a buffer that holds them one after the other.
fn views(flat: &Tensor, shapes: &[Shape]) -> Result<Vec<Tensor>> {
    let mut start = 0;
    let mut outputs = Vec::with_capacity(shapes.len());
    for shape in shapes {
        let size = shape.elem_count();
        outputs.push(flat.narrow(0, start, size)?.reshape(shape)?);
        start += size;
    }
    Ok(outputs)
}

/// The inputs' gradients, between the hub's backward and the gates'.
#[derive(Default)]
struct Slots(Mutex<Vec<Option<Tensor>>>);

impl Slots {
    fn fill(&self, gradients: Vec<Option<Tensor>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = gradients;
    }

    fn take(&self, i: usize) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(i).and_then(Option::take)
    }
}

/// Up to three inputs, as one token.
struct Gate {
    name: &'static str,
    slots: Arc<Slots>,
    first: usize,
}

impl Gate {
    fn cpu(storage: &CpuStorage) -> CandleResult<(CpuStorage, Shape)> {
        let shape = Shape::from(1);
        Ok((candle_core::cpu_backend::CpuDevice.zeros_impl(&shape, storage.dtype())?, shape))
    }

    fn cuda(storage: &CudaStorage) -> CandleResult<(CudaStorage, Shape)> {
        let shape = Shape::from(1);
        Ok((storage.device().zeros_impl(&shape, storage.dtype())?, shape))
    }

    /// The gradient of input `offset` of this gate.
    fn gradient(&self, offset: usize, input: &Tensor) -> CandleResult<Option<Tensor>> {
        match self.slots.take(self.first + offset) {
            None if input.track_op() => Err(crate::Error::invalid(
                format!("{}: backward", self.name),
                format!("a gradient for input {}", self.first + offset),
                "none",
            )
            .into()),
            gradient => Ok(gradient),
        }
    }
}

impl CustomOp1 for Gate {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, s: &CpuStorage, _: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        Self::cpu(s)
    }

    fn cuda_fwd(&self, s: &CudaStorage, _: &Layout) -> CandleResult<(CudaStorage, Shape)> {
        Self::cuda(s)
    }

    fn bwd(&self, a: &Tensor, _: &Tensor, _: &Tensor) -> CandleResult<Option<Tensor>> {
        self.gradient(0, a)
    }
}

impl CustomOp2 for Gate {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        s: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        Self::cpu(s)
    }

    fn cuda_fwd(
        &self,
        s: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> CandleResult<(CudaStorage, Shape)> {
        Self::cuda(s)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.gradient(0, a)?, self.gradient(1, b)?))
    }
}

impl CustomOp3 for Gate {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        s: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> CandleResult<(CpuStorage, Shape)> {
        Self::cpu(s)
    }

    fn cuda_fwd(
        &self,
        s: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> CandleResult<(CudaStorage, Shape)> {
        Self::cuda(s)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((self.gradient(0, a)?, self.gradient(1, b)?, self.gradient(2, c)?))
    }
}

/// The function itself.
struct Hub<B> {
    name: &'static str,
    outputs: Mutex<Option<Flat>>,
    shapes: Vec<Shape>,
    slots: Arc<Slots>,
    backward: B,
}

impl<B> Hub<B> {
    fn take(&self) -> CandleResult<Flat> {
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs.take().ok_or_else(|| crate::Error::invalid(self.name, "one forward", "another").into())
    }

    fn total(&self) -> Shape {
        Shape::from(self.shapes.iter().map(Shape::elem_count).sum::<usize>())
    }
}

impl<B: Backward> CustomOp1 for Hub<B> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let storage = match self.take()? {
            Flat::Cpu(storage) => storage,
            Flat::Tensor(tensor) => {
                let (storage, layout) = tensor.storage_and_layout();
                match &*storage {
                    Storage::Cpu(storage) => storage.try_clone(layout)?,
                    _ => return Err(elsewhere(self.name, &tensor)),
                }
            }
        };
        Ok((storage, self.total()))
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> CandleResult<(CudaStorage, Shape)> {
        match self.take()? {
            Flat::Cpu(_) => {
                Err(crate::Error::invalid(self.name, "outputs on the GPU", "outputs on the CPU").into())
            }
            Flat::Tensor(tensor) => {
                let (storage, layout) = tensor.storage_and_layout();
                match &*storage {
                    Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, self.total())),
                    _ => Err(elsewhere(self.name, &tensor)),
                }
            }
        }
    }

    fn bwd(&self, token: &Tensor, _: &Tensor, grad: &Tensor) -> CandleResult<Option<Tensor>> {
        let outputs = views(&grad.detach().contiguous()?, &self.shapes)?;
        self.slots.fill((self.backward)(&outputs)?);
        Ok(Some(token.zeros_like()?.detach()))
    }
}

fn elsewhere(name: &'static str, tensor: &Tensor) -> candle_core::Error {
    let error =
        crate::Error::invalid(name, "outputs on the inputs' device", format!("{:?}", tensor.device()));
    error.into()
}
