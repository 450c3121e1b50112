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
        let numbers = (0..=u8::MAX).map(|_| self.next.fetch_add(1, Ordering::Relaxed));
        let vacant = |number: &u8| !of_runs.contains_key(&(thread, *number));
        let number = if on_cpu { { numbers }.find(vacant).unwrap_or(0) } else { 0 };
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

    /// The gradient of input `offset` of this gate, in the run whose number the token has for a gradient.
    fn gradient(&self, offset: usize, input: &Tensor, token: &Tensor) -> CandleResult<Option<Tensor>> {
        let number = match token.device().is_cpu() {
            true => token.to_dtype(DType::F32)?.reshape(())?.to_scalar::<f32>()? as u8,
            false => 0,
        };
        match self.slots.take(number, self.first + offset) {
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
        self.gradient(0, a, token)
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
        Ok((self.gradient(0, a, token)?, self.gradient(1, b, token)?))
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
        Ok((self.gradient(0, a, token)?, self.gradient(1, b, token)?, self.gradient(2, c, token)?))
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
        let slots = Slots::new(vec![true, false, true]);
        for _ in 0..2 {
            let run =
                slots.fill(vec![Some(numbers.clone()), Some(numbers.clone()), Some(numbers.clone())], true);
            assert!(slots.take(run, 0).is_some() && slots.take(run, 1).is_none());
            assert!(slots.take(run, 2).is_some());
            assert!(slots.runs().is_empty());
            assert!(slots.take(run, 0).is_none());
        }
    }

    /// What is recorded, where a backward through it can be begun.
    type Slot = Arc<Mutex<Option<Tensor>>>;

    /// A number whose backward runs another one, through what is recorded.
    struct Inside {
        outputs: Slot,
        found: Arc<Mutex<Vec<Vec<f64>>>>,
        vars: Vec<Var>,
    }

    impl CustomOp1 for Inside {
        fn name(&self) -> &'static str {
            "inside"
        }

        fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
            Ok((storage.try_clone(layout)?, layout.shape().clone()))
        }

        fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> CandleResult<Option<Tensor>> {
            // The one inside comes here too, and finds nothing to begin.
            let outputs = self.outputs.lock().unwrap().take();
            if let Some(outputs) = outputs {
                let grads = outputs.backward()?;
                let of = |var: &Var| grads.get(var).unwrap().to_scalar::<f64>().unwrap();
                self.found.lock().unwrap().push(self.vars.iter().map(of).collect());
            }
            Ok(Some(grad.clone()))
        }
    }

    #[test]
    fn a_backward_inside_of_another_through_one_op_leaves_it_its_gradients() {
        // Of two gates the one that comes last, whichever that is, has its input behind such a number.
        let vars: Vec<Var> = (0..4).map(|i| Var::new(f64::from(i), &Device::Cpu).unwrap()).collect();
        let (slots, found) = ([Slot::default(), Slot::default()], Arc::new(Mutex::new(Vec::new())));
        let inside = |var: &Var, outputs: &Slot| {
            let (outputs, found, vars) = (outputs.clone(), found.clone(), vars.clone());
            var.apply_op1(Inside { outputs, found, vars }).unwrap()
        };
        let (first, last) = (inside(&vars[0], &slots[0]), inside(&vars[3], &slots[1]));
        let inputs = [&first, vars[1].as_tensor(), vars[2].as_tensor(), &last];
        let backward = |grads: &[Tensor]| {
            (1..5).map(|by| Ok(Some((&grads[0] * f64::from(by))?))).collect::<Result<Vec<_>>>()
        };
        let flat = Flat::Tensor(Tensor::new(&[0f64], &Device::Cpu).unwrap());
        let output = record("four", &inputs, flat, &[().into()], backward).unwrap().remove(0);
        for slot in &slots {
            *slot.lock().unwrap() = Some(output.clone());
        }
        let grads = (output * 10.0).unwrap().backward().unwrap();
        let got: Vec<f64> = vars.iter().map(|var| grads.get(var).unwrap().to_scalar().unwrap()).collect();
        assert_eq!(got, [10.0, 20.0, 30.0, 40.0]);
        assert_eq!(*found.lock().unwrap(), [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]]);
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
