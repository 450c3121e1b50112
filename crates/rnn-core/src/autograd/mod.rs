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
//! theirs. The slots are filled anew by every `backward()`, so that calling it twice is fine, and each thread has
//! its own, so that two may do so at once.

mod flat;

pub use flat::Flat;

use crate::Result;
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result as CandleResult, Shape, Storage,
    Tensor,
};
use flat::{elements, views};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

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
    let slots = Arc::new(Slots { tracked, of_threads: Mutex::default() });
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
    /// Of the threads that run a `backward()`: each runs its own. What has been taken is gone.
    of_threads: Mutex<HashMap<ThreadId, Vec<Option<Tensor>>>>,
}

impl Slots {
    fn fill(&self, gradients: Vec<Option<Tensor>>) {
        let wanted = gradients.into_iter().zip(&self.tracked);
        let wanted = wanted.map(|(gradient, &tracked)| gradient.filter(|_| tracked)).collect();
        let mut of_threads = self.of_threads.lock().unwrap_or_else(PoisonError::into_inner);
        of_threads.insert(std::thread::current().id(), wanted);
    }

    fn take(&self, i: usize) -> Option<Tensor> {
        let thread = std::thread::current().id();
        let mut of_threads = self.of_threads.lock().unwrap_or_else(PoisonError::into_inner);
        let gradients = of_threads.get_mut(&thread)?;
        let gradient = gradients.get_mut(i).and_then(Option::take);
        if gradients.iter().all(Option::is_none) {
            of_threads.remove(&thread);
        }
        gradient
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
        self.slots.fill((self.backward)(&outputs)?);
        Ok(Some(token.zeros_like()?.detach()))
    }
}

fn elsewhere(name: &'static str, tensor: &Tensor) -> candle_core::Error {
    let error =
        crate::Error::invalid(name, "outputs on the inputs' device", format!("{:?}", tensor.device()));
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// 2a and ab.
    fn both(a: &Tensor, b: &Tensor) -> Vec<Tensor> {
        let flat = Tensor::cat(&[(a * 2.0).unwrap(), (a * b).unwrap()], 0).unwrap();
        let (x, y) = (a.detach(), b.detach());
        let backward = move |grads: &[Tensor]| {
            Ok(vec![Some(((&grads[0] * 2.0)? + (&grads[1] * &y)?)?), Some((&grads[1] * &x)?)])
        };
        record("both", &[a, b], Flat::Tensor(flat), &[2.into(), 2.into()], backward).unwrap()
    }

    #[test]
    fn two_threads_go_back_through_one_op_at_once_and_each_gets_its_own_gradients() {
        let var = |numbers: [f64; 2]| Var::new(&numbers, &Device::Cpu).unwrap();
        let (a, b) = (var([3.0, 4.0]), var([5.0, 6.0]));
        let outputs = both(&a, &b);
        std::thread::scope(|scope| {
            for (factor, want_a, want_b) in
                [(1.0, [7.0, 8.0], [3.0, 4.0]), (10.0, [70.0, 80.0], [30.0, 40.0])]
            {
                let (outputs, a, b) = (&outputs, &a, &b);
                scope.spawn(move || {
                    for _ in 0..5000 {
                        let loss = ((&outputs[0] + &outputs[1]).unwrap() * factor).unwrap();
                        let grads = loss.backward().unwrap();
                        let of = |var: &Var| grads.get(var).unwrap().to_vec1::<f64>().unwrap();
                        assert_eq!((of(a), of(b)), (want_a.to_vec(), want_b.to_vec()));
                    }
                });
            }
        });
    }

    #[test]
    fn gradients_that_were_taken_or_that_nobody_asks_for_are_not_kept() {
        let numbers = Tensor::new(&[1f64, 2.0], &Device::Cpu).unwrap();
        let slots = Slots { tracked: vec![true, false, true], of_threads: Mutex::default() };
        for _ in 0..2 {
            slots.fill(vec![Some(numbers.clone()), Some(numbers.clone()), Some(numbers.clone())]);
            assert!(slots.take(0).is_some() && slots.take(1).is_none() && slots.take(2).is_some());
            assert!(slots.of_threads.lock().unwrap().is_empty());
            assert!(slots.take(0).is_none());
        }
    }

    #[test]
    fn a_view_is_recorded_as_the_numbers_that_it_shows() {
        let a = Var::new(&[1f64, 2.0], &Device::Cpu).unwrap();
        let all = Tensor::new(&[[1f64, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu).unwrap();
        let row = all.get(1).unwrap();
        let views = [
            (row.narrow(0, 0, 2).unwrap(), [4.0, 5.0]),
            (row.narrow(0, 1, 2).unwrap(), [5.0, 6.0]),
            (all.narrow(1, 1, 1).unwrap().squeeze(1).unwrap(), [2.0, 5.0]),
            (Tensor::new(7f64, &Device::Cpu).unwrap().broadcast_as(2).unwrap(), [7.0, 7.0]),
        ];
        for (view, want) in views {
            let backward = |grads: &[Tensor]| Ok(vec![Some(grads[0].clone())]);
            let outputs = record("view", &[&a], Flat::Tensor(view), &[2.into()], backward).unwrap();
            assert_eq!(outputs[0].to_vec1::<f64>().unwrap(), want);
            let grads = outputs[0].sum_all().unwrap().backward().unwrap();
            assert_eq!(grads.get(&a).unwrap().to_vec1::<f64>().unwrap(), [1.0, 1.0]);
        }
    }

    #[test]
    fn shapes_of_another_number_of_elements_than_there_are_are_an_error() {
        let a = Var::new(&[1f64, 2.0], &Device::Cpu).unwrap();
        let flat = |len: usize| {
            let numbers = vec![0f64; len];
            [
                Flat::Cpu(CpuStorage::F64(numbers.clone())),
                Flat::Tensor(Tensor::from_vec(numbers, len, &Device::Cpu).unwrap()),
            ]
        };
        for flat in [2, 4].into_iter().flat_map(flat) {
            let backward = |grads: &[Tensor]| Ok(vec![Some(grads[0].clone())]);
            let shapes: [Shape; 2] = [1.into(), 2.into()];
            let detached = flat.clone().detached(&shapes, &a).unwrap_err().to_string();
            let error = record("f", &[&a], flat, &shapes, backward).unwrap_err().to_string();
            assert!(error.contains("f: outputs: expected 3 numbers, for [[1], [2]], got"), "{error}");
            assert!(detached.contains("autograd: outputs: expected 3 numbers"), "{detached}");
        }
    }
}
