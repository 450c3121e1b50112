//! Gradients by hand through candle's graph: of several inputs and outputs, on two threads, and one backward inside of another.

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
        for (factor, want_a, want_b) in [(1.0, [7.0, 8.0], [3.0, 4.0]), (10.0, [70.0, 80.0], [30.0, 40.0])] {
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
        let run = slots.fill(vec![Some(numbers.clone()), Some(numbers.clone()), Some(numbers.clone())], true);
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
