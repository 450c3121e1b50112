//! Optimisers against PyTorch's, rows against dense gradients, and a state that is saved against one that goes on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test expects")]

use candle_core::{DType, Device, Tensor, Var, safetensors};
use rnn_core::kernels::Real;
use rnn_lm::train::{Adam, Average, Clip, Decay, Grad, MAX_KEPT, Optimizer, RmsProp, Rule, Sgd, Values};
use std::collections::HashMap;
use std::path::Path;

const STEPS: usize = 6;
const NAMES: [&str; 2] = ["a", "b"];

fn fixture() -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/optimizers.safetensors");
    safetensors::load(path, &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// All of them, under the names they have in the fixture.
fn all() -> Vec<(&'static str, Optimizer)> {
    let sgd = |lr| Optimizer::new(Sgd::default(), lr);
    let adam = || Optimizer::new(Adam::default(), 0.01);
    let other = Adam { beta1: 0.8, beta2: 0.95, epsilon: 1e-6 };
    let decay = Decay::Coupled(0.05);
    vec![
        ("sgd", sgd(0.1)),
        ("sgd_decay", sgd(0.1).decay(decay)),
        ("momentum", Optimizer::new(Sgd { momentum: 0.9, nesterov: false }, 0.1)),
        ("nesterov_decay", Optimizer::new(Sgd { momentum: 0.8, nesterov: true }, 0.1).decay(decay)),
        ("adam", adam()),
        ("adam_decay", Optimizer::new(other, 0.01).decay(decay)),
        ("adamw", adam().decay(Decay::Decoupled(0.05))),
        ("rms_prop", Optimizer::new(RmsProp::default(), 0.01)),
        ("clip_norm", sgd(0.1).clip(Clip::Norm(1.5))),
        ("clip_value", adam().clip(Clip::Value(0.3))),
    ]
}

/// Parameters at their start, and the gradients of each step.
struct Path6 {
    params: Vec<Var>,
    grads: Vec<Vec<Tensor>>,
}

fn path(fixture: &HashMap<String, Tensor>, dtype: DType) -> Path6 {
    let of = |name: String| fixture[&name].to_dtype(dtype).unwrap();
    let params = NAMES.map(|name| Var::from_tensor(&of(format!("start.{name}"))).unwrap());
    let grads = (0..STEPS).map(|k| NAMES.map(|name| of(format!("grad.{k}.{name}"))).into()).collect();
    Path6 { params: params.into(), grads }
}

fn dense(grads: &[Tensor]) -> Vec<Grad<'_>> {
    grads.iter().map(|grad| Grad::Dense(Values::Tensor(grad))).collect()
}

#[test]
fn as_pytorch() {
    let fixture = fixture();
    for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6)] {
        for (name, mut optimizer) in all() {
            let Path6 { params, grads } = path(&fixture, dtype);
            for (k, grads) in grads.iter().enumerate() {
                optimizer.step(&params, &dense(grads)).unwrap();
                for (parameter, param) in NAMES.iter().zip(&params) {
                    let want = numbers(&fixture[&format!("{name}.{k}.{parameter}")]);
                    for (got, want) in numbers(param).iter().zip(&want) {
                        let off = (got - want).abs();
                        assert!(off < tolerance, "{name} {dtype:?}, {parameter} after step {k}: {off:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_mean_of_weights_as_pytorch_has_it() {
    let fixture = fixture();
    let Path6 { params, grads } = path(&fixture, DType::F64);
    let mut sgd = Optimizer::new(Sgd::default(), 0.1);
    let mut average = Average::default();
    for (k, grads) in grads.iter().enumerate() {
        sgd.step(&params, &dense(grads)).unwrap();
        // With t0 = 3, PyTorch's mean begins at the fifth step.
        if k >= 4 {
            average.add(&params).unwrap();
        }
    }
    for (name, mean) in NAMES.iter().zip(average.means()) {
        let want = numbers(&fixture[&format!("asgd.5.{name}")]);
        assert!(numbers(mean).iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-14), "{name}");
    }
}

#[test]
fn rows_are_a_dense_gradient_that_is_zero_elsewhere() {
    let fixture = fixture();
    let mut moved = Vec::new();
    for ((name, mut by_rows), (_, mut by_all)) in all().into_iter().zip(all()) {
        let (rows, whole) = (path(&fixture, DType::F32), path(&fixture, DType::F32));
        let [mut mean_of_rows, mut mean_of_all] = [Average::default(), Average::default()];
        for (k, grads) in whole.grads.iter().enumerate() {
            // At each step the gradient of another row is left out, whatever it is: in the dense one it is zero.
            let without = (k + 2) % 3;
            let mut table = grads[0].to_vec2::<f32>().unwrap();
            // In their order: a norm is summed in the order that rows come in.
            let ids: Vec<u32> = (0..3).filter(|&id| id != without as u32).collect();
            let of_rows: Vec<f32> = ids.iter().flat_map(|&id| table[id as usize].clone()).collect();
            table[without].fill(0.0);
            let zeroed = Tensor::new(table, &Device::Cpu).unwrap();
            let others = Grad::Dense(Values::Tensor(&grads[1]));
            by_all.step(&whole.params, &[Grad::Dense(Values::Tensor(&zeroed)), others]).unwrap();
            let row = |params: &[Var]| numbers(&params[0].get(without).unwrap());
            let before = row(&rows.params);
            let first = Grad::Rows { ids: &ids, values: Values::F32(&of_rows) };
            by_rows.step(&rows.params, &[first, others]).unwrap();
            if k > 0 && row(&rows.params) != before {
                moved.push(name);
            }
            mean_of_rows.add(&rows.params).unwrap();
            mean_of_all.add(&whole.params).unwrap();
            for (a, b) in rows.params.iter().zip(&whole.params) {
                assert_eq!(numbers(a), numbers(b), "{name}");
            }
            for (a, b) in mean_of_rows.means().iter().zip(mean_of_all.means()) {
                assert_eq!(numbers(a), numbers(b), "{name}, the mean");
            }
        }
    }
    // What is kept of earlier steps, and decay, move a row without a gradient; where there is neither it stays.
    moved.dedup();
    let others = ["sgd", "rms_prop", "clip_norm"];
    let want: Vec<&str> = all().iter().map(|(name, _)| *name).filter(|name| !others.contains(name)).collect();
    assert_eq!(moved, want);
}

#[test]
fn what_is_kept_goes_on_as_if_nothing_had_been() {
    let fixture = fixture();
    let names = NAMES.map(String::from);
    for ((name, mut first), (_, mut second)) in all().into_iter().zip(all()) {
        let Path6 { params, grads } = path(&fixture, DType::F32);
        for grads in &grads[..3] {
            first.step(&params, &dense(grads)).unwrap();
        }
        let state: HashMap<String, Tensor> = first.state(&names).unwrap().into_iter().collect();
        let copies: Vec<Var> = params.iter().map(|p| Var::from_tensor(&p.copy().unwrap()).unwrap()).collect();
        let named: Vec<(String, Var)> = names.iter().cloned().zip(copies.iter().cloned()).collect();
        second.resume(first.steps(), &named, |name| Ok(state[name].clone())).unwrap();
        for grads in &grads[3..] {
            first.step(&params, &dense(grads)).unwrap();
            second.step(&copies, &dense(grads)).unwrap();
        }
        for (a, b) in params.iter().zip(&copies) {
            assert_eq!(numbers(a), numbers(b), "{name}");
        }
        assert_eq!((first.steps(), second.steps()), (6, 6));
        let wrong = second.resume(3, &named, |_| Ok(Tensor::zeros(2, DType::F32, &Device::Cpu)?));
        match state.is_empty() {
            true => wrong.unwrap(),
            false => assert!(wrong.unwrap_err().to_string().contains("expected [3, 4] f32, got [2] f32")),
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let len = 200_003;
    let grads: Vec<f32> = (0..len).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let after = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let weight = Var::zeros(len, DType::F32, &Device::Cpu).unwrap();
            let mut adam = Optimizer::new(Adam::default(), 0.01).clip(Clip::Norm(0.5));
            for _ in 0..3 {
                adam.step(std::slice::from_ref(&weight), &[Grad::Dense(Values::F32(&grads))]).unwrap();
            }
            weight.to_vec1::<f32>().unwrap()
        })
    };
    assert_eq!(after(1), after(3));
}

#[test]
fn nothing_is_touched_by_a_step_that_fails() {
    let weight = Var::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    let mut adam = Optimizer::new(Adam::default(), 0.1);
    for (grad, want) in [
        (Grad::Dense(Values::F32(&[1.0, f32::NAN, 0.0, 0.0])), "step 1: the gradient norm is NaN"),
        (Grad::Dense(Values::F32(&[1.0])), "Optimizer: gradient: expected 4 numbers, got 1"),
        (
            Grad::Rows { ids: &[2], values: Values::F32(&[1.0, 1.0]) },
            "Optimizer: rows: expected below 2, got 2",
        ),
    ] {
        let error = adam.step(std::slice::from_ref(&weight), &[grad]).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    assert_eq!((numbers(&weight), adam.steps()), (vec![1.0, 2.0, 3.0, 4.0], 0));
}

/// A rule that would keep more than there is room for.
#[derive(Debug, Clone)]
struct Three;

impl Rule for Three {
    fn kept(&self) -> &'static [&'static str] {
        &["a", "b", "c"]
    }

    fn update<T: Real>(
        &self,
        _: f64,
        _: u64,
    ) -> impl Fn(T, T, [T; MAX_KEPT]) -> (T, [T; MAX_KEPT]) + Send + Sync {
        |w, _, kept| (w, kept)
    }

    fn in_ops(
        &self,
        _: (f64, u64),
        weight: &Tensor,
        _: &Tensor,
        kept: &[Tensor],
    ) -> rnn_lm::Result<(Tensor, Vec<Tensor>)> {
        Ok((weight.clone(), kept.to_vec()))
    }
}

#[test]
fn a_rule_that_keeps_too_much_is_refused() {
    let weight = Var::new(&[1f32], &Device::Cpu).unwrap();
    let grads = [Grad::Dense(Values::F32(&[1.0]))];
    let error = Optimizer::new(Three, 0.1).step(std::slice::from_ref(&weight), &grads).unwrap_err();
    assert_eq!(error.to_string(), "Rule::kept: expected at most 2 names, got 3");
}
