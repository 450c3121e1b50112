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
//! theirs. Every `backward()` has slots of its own, so that calling it twice is fine, and two may run at once: on two threads,
//! or on the CPU one inside of the other, where a thread that waits for a product takes up other work. What tells them apart is a
//! number that the hub gives the gates as the token's gradient.

mod flat;

pub use flat::Flat;

use crate::Result;
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result as CandleResult, Shape,
    Storage, Tensor,
};
use flat::{elements, views};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

/// The hand-written backward: from the gradient of every output to that of every input, `None` for an input that is not
/// tracked ([`Tensor::track_op`]).
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
/// Where there is no input, `flat` does not have as many numbers as the shapes, or those of candle.
pub fn record(
    name: &'static str,
    inputs: &[&Tensor],
    flat: Flat,
    shapes: &[Shape],
    backward: impl Backward,
) -> Result<Vec<Tensor>> {
    flat.check(name, shapes)?;
    let flat = flat.dense()?;
    let tracked = inputs.iter().map(|input| input.track_op()).collect();
    let slots = Arc::new(Slots::new(tracked));
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

/// The inputs' gradients, between the hub's backward and the gates'.
struct Slots {
    /// Whether each input's gradient will be asked for.
    tracked: Vec<bool>,
    next: AtomicU8,
    /// Of each `backward()` that goes on. What has been taken is gone.
    of_runs: Mutex<HashMap<Run, Vec<Option<Tensor>>>>,
}

/// Which `backward()` it is: its thread, and a number that tells those of a thread apart.
type Run = (ThreadId, u8);

impl Slots {
    fn new(tracked: Vec<bool>) -> Self {
        Self { tracked, next: AtomicU8::new(0), of_runs: Mutex::default() }
    }

    /// Leaves them for the gates, behind the number that this gives. On a GPU it is always 0: to read one there would be to wait,
    /// and no thread takes up other work while it waits for a GPU.
    fn fill(&self, gradients: Vec<Option<Tensor>>, on_cpu: bool) -> u8 {
        let wanted = gradients.into_iter().zip(&self.tracked);
        let wanted = wanted.map(|(gradient, &tracked)| gradient.filter(|_| tracked)).collect();
        let (thread, mut of_runs) = (std::thread::current().id(), self.runs());
        // All that BF16 counts to without a gap. Where every one is taken it is by what failed on the way and was left.
        let mut numbers = (0..=u8::MAX).map(|_| self.next.fetch_add(1, Ordering::Relaxed));
        let vacant = |number: &u8| !of_runs.contains_key(&(thread, *number));
        let number = if on_cpu { numbers.find(vacant).unwrap_or(0) } else { 0 };
        of_runs.insert((thread, number), wanted);
        number
    }

    fn take(&self, number: u8, i: usize) -> Option<Tensor> {
        let run = (std::thread::current().id(), number);
        let mut of_runs = self.runs();
        let gradients = of_runs.get_mut(&run)?;
        let gradient = gradients.get_mut(i).and_then(Option::take);
        if gradients.iter().all(Option::is_none) {
            of_runs.remove(&run);
        }
        gradient
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<Run, Vec<Option<Tensor>>>> {
        self.of_runs.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// The run that this backward is of: its number is what the token has for a gradient.
    fn run(token: &Tensor) -> CandleResult<u8> {
        Ok(match token.device().is_cpu() {
            true => token.to_dtype(DType::F32)?.reshape(())?.to_scalar::<f32>()? as u8,
            false => 0,
        })
    }

    /// The gradient of input `offset` of this gate in a run.
    fn gradient(&self, offset: usize, input: &Tensor, run: u8) -> CandleResult<Option<Tensor>> {
        match self.slots.take(run, self.first + offset) {
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

    fn bwd(&self, a: &Tensor, _: &Tensor, token: &Tensor) -> CandleResult<Option<Tensor>> {
        self.gradient(0, a, Self::run(token)?)
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
        token: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>)> {
        let run = Self::run(token)?;
        Ok((self.gradient(0, a, run)?, self.gradient(1, b, run)?))
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
        token: &Tensor,
    ) -> CandleResult<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let run = Self::run(token)?;
        Ok((self.gradient(0, a, run)?, self.gradient(1, b, run)?, self.gradient(2, c, run)?))
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
        Shape::from(elements(&self.shapes))
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
        let number = self.slots.fill((self.backward)(&outputs)?, token.device().is_cpu());
        Ok(Some((token.zeros_like()?.detach() + f64::from(number))?))
    }
}

fn elsewhere(name: &'static str, tensor: &Tensor) -> candle_core::Error {
    let error =
        crate::Error::invalid(name, "outputs on the inputs' device", format!("{:?}", tensor.device()));
    error.into()
}

#[cfg(test)]
mod tests;
