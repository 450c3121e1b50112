//! Kernels beside tensor ops, and what is refused.

use super::*;
use crate::train::{Adam, MAX_KEPT, RmsProp, Sgd};
use candle_core::Device;

/// In kernels and in tensor ops, in f64, with everything on.
fn same(rule: impl Rule) {
    let numbers =
        |k: usize, len: usize| (0..len).map(|i| ((i * 7 + k * 5) % 11) as f64 - 5.0).collect::<Vec<_>>();
    let ids = [4u32, 0];
    for decay in [Decay::None, Decay::Coupled(0.1), Decay::Decoupled(0.1)] {
        for clip in [Clip::None, Clip::Norm(2.0), Clip::Value(1.5)] {
            let weight = || Var::from_vec(numbers(0, 15), (5, 3), &Device::Cpu).unwrap();
            let mut optimizer = Optimizer::new(rule.clone(), 0.1).clip(clip).decay(decay);
            let (kernels, ops) = (weight(), weight());
            let of_ops = optimizer.begin(&ops).unwrap();
            for k in 1..4 {
                let (dense, rows) = (numbers(k, 15), numbers(k, 6));
                let grad = match k {
                    2 => Grad::Rows { ids: &ids, values: Values::F64(&rows) },
                    _ => Grad::Dense(Values::F64(&dense)),
                };
                let norm = optimizer.step(std::slice::from_ref(&kernels), &[grad]).unwrap();
                let (scale, most) = (clip.scale(norm), clip.most());
                let at = At { lr: 0.1, step: k as u64, scale, most, decay };
                optimizer.in_ops(at, &ops, &grad, &of_ops).unwrap();
                let [got, want] =
                    [&kernels, &ops].map(|var| var.flatten_all().unwrap().to_vec1::<f64>().unwrap());
                for (got, want) in got.iter().zip(&want) {
                    let off = (got - want).abs();
                    assert!(off < 1e-13, "{:?} {decay:?} {clip:?}, step {k}: {off:e}", optimizer.rule);
                }
            }
        }
    }
}

#[test]
fn the_parameters_of_another_model_are_refused_before_one_is_touched() {
    let var = |len: usize| Var::from_vec(vec![1.0f64; len], len, &Device::Cpu).unwrap();
    let gradient = [1.0; 3];
    let grad = |len: usize| Grad::Dense(Values::F64(&gradient[..len]));
    let mut adam = Optimizer::new(Adam::default(), 0.1);
    adam.step(&[var(2)], &[grad(2)]).unwrap();
    let other = "[[2]], those of the steps before";
    let (more, none) =
        ("1, as many as in the steps before, got 2", "1, as many as in the steps before, got 0");
    for (sizes, want) in [(&[3][..], other), (&[2, 1], more), (&[], none)] {
        let vars: Vec<_> = sizes.iter().map(|&len| var(len)).collect();
        let grads: Vec<_> = sizes.iter().map(|&len| grad(len)).collect();
        let error = adam.step(&vars, &grads).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        assert!(vars.iter().all(|var| var.to_vec1::<f64>().unwrap().iter().all(|&x| x == 1.0)));
    }
    assert_eq!(adam.steps(), 1);
    // Also where nothing is kept of any.
    let mut sgd = Optimizer::new(Sgd::default(), 0.1);
    sgd.step(&[var(2)], &[grad(2)]).unwrap();
    let error = sgd.step(&[var(2), var(3)], &[grad(2), grad(3)]).unwrap_err().to_string();
    assert!(error.contains("expected 1, as many as in the steps before, got 2"), "{error}");
    // A row twice.
    let (table, twice) = (Var::zeros((3, 1), DType::F64, &Device::Cpu).unwrap(), [2, 2]);
    let rows = Grad::Rows { ids: &twice, values: Values::F64(&gradient[..2]) };
    let error = Optimizer::new(Adam::default(), 0.1).step(&[table], &[rows]).unwrap_err().to_string();
    assert!(error.contains("each once, got 2 twice"), "{error}");
}

#[test]
fn a_tensor_that_is_not_like_its_parameter_is_refused() {
    let ones = |shape: &[usize], dtype| Tensor::ones(shape, dtype, &Device::Cpu).unwrap();
    let var = |shape: &[usize], dtype| Var::from_tensor(&ones(shape, dtype)).unwrap();
    let ids = [2, 0];
    let refused = |param: &Var, grad: Grad<'_>| {
        let sgd = &mut Optimizer::new(Sgd::default(), 0.1);
        let error = sgd.step(std::slice::from_ref(param), &[grad]).unwrap_err().to_string();
        assert!(numbers_of(param).iter().all(|&x| x == 1.0));
        error
    };
    let table = var(&[3, 4], DType::F32);
    let turned = ones(&[4, 3], DType::F32);
    let error = refused(&table, Grad::Dense(Values::Tensor(&turned)));
    assert_eq!(error, "Optimizer: gradient: expected [3, 4], got [4, 3]");
    let turned = ones(&[4, 2], DType::F32);
    let error = refused(&table, Grad::Rows { ids: &ids, values: Values::Tensor(&turned) });
    assert_eq!(error, "Optimizer: gradient: expected [2, 4], got [4, 2]");
    for dtype in [DType::F16, DType::BF16] {
        let half = ones(&[3, 4], dtype);
        let error = refused(&var(&[3, 4], dtype), Grad::Dense(Values::Tensor(&half)));
        assert!(error.starts_with("Optimizer: parameter: expected f32 or f64, got "), "{error}");
    }
    // Of no width there is nothing to do.
    let none = Grad::Rows { ids: &ids, values: Values::F32(&[]) };
    Optimizer::new(Sgd::default(), 0.1).step(&[var(&[3, 0], DType::F32)], &[none]).unwrap();
}

fn numbers_of(var: &Var) -> Vec<f64> {
    var.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn the_norm_of_half_precision_is_that_of_its_numbers() {
    for (value, count, want) in [(1.0, 8192, 8192f64.sqrt()), (1e-3, 4, 2e-3), (300.0, 1, 300.0)] {
        let half = Tensor::full(value, (1, count), &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap();
        let norm = crate::train::global_norm(&[Grad::Dense(Values::Tensor(&half))]).unwrap();
        assert!((norm / want - 1.0).abs() < 1e-3, "{norm} {want}");
    }
}

#[test]
fn numbers_out_of_their_range_are_refused_before_a_weight_is_touched() {
    let adam = |beta1| Optimizer::new(Adam { beta1, ..Adam::default() }, 0.1);
    let sgd = |lr| Optimizer::new(Sgd::default(), lr);
    let slow = Optimizer::new(Sgd { momentum: 1.0, nesterov: false }, 0.1);
    let square = Optimizer::new(RmsProp { alpha: -0.1, ..RmsProp::default() }, 0.1);
    for (mut optimizer, want) in [
        (adam(1.0), "Adam: beta1: expected at least 0 and below 1, got 1"),
        (adam(f64::NAN), "Adam: beta1: expected at least 0 and below 1, got NaN"),
        (slow, "Sgd: momentum: expected at least 0 and below 1, got 1"),
        (square, "RmsProp: alpha: expected at least 0 and below 1, got -0.1"),
        // In a row that has no gradient a step would be 0 / 0.
        (
            Optimizer::new(Adam { epsilon: 0.0, ..Adam::default() }, 0.1),
            "Adam: epsilon: expected a number above 0, in f32 too, got 0",
        ),
        (
            Optimizer::new(RmsProp { epsilon: 1e-60, ..RmsProp::default() }, 0.1),
            "RmsProp: epsilon: expected a number above 0, in f32 too, got 0.000000000000000000000000000000000000000000000000000000000001",
        ),
        (sgd(f64::NAN), "Optimizer: lr: expected a number, got NaN"),
        (sgd(0.1).clip(Clip::Norm(f64::NAN)), "Clip::Norm: expected a number above 0, got NaN"),
        (sgd(0.1).clip(Clip::Value(-1.0)), "Clip::Value: expected a number above 0, got -1"),
        (sgd(0.1).decay(Decay::Coupled(-1.0)), "Decay::Coupled: expected a number of at least 0, got -1"),
    ] {
        let weight = Var::new(&[1f64, 2.0], &Device::Cpu).unwrap();
        let grads = [Grad::Dense(Values::F64(&[1.0, 1.0]))];
        let error = optimizer.step(std::slice::from_ref(&weight), &grads).unwrap_err().to_string();
        assert_eq!(error, want);
        assert_eq!(weight.to_vec1::<f64>().unwrap(), [1.0, 2.0]);
    }
}

#[test]
fn a_step_by_autograd_is_one_with_the_gradients_of_the_graph() {
    let [used, unused] = [[3f64, 4.0], [1.0, 2.0]].map(|values| Var::new(&values, &Device::Cpu).unwrap());
    let params = [used, unused];
    let mut optimizer =
        Optimizer::new(Sgd::default(), 0.5).clip(Clip::Norm(2.0)).decay(Decay::Decoupled(0.1));
    let loss = (params[0].sqr().unwrap().sum_all().unwrap() * 0.5).unwrap();
    assert_eq!(optimizer.backward_step(&params, &loss).unwrap(), 5.0);
    let after = params.each_ref().map(|param| param.to_vec1::<f64>().unwrap());
    for (got, want) in after.concat().iter().zip([
        3.0 * 0.95 - 0.5 * 1.2,
        4.0 * 0.95 - 0.5 * 1.6,
        // What the loss does not depend on only decays.
        0.95,
        1.9,
    ]) {
        assert!((got - want).abs() < 1e-6, "{got} {want}");
    }
    // A loss that is no number touches none.
    let loss = (params[0].sum_all().unwrap() * f64::NAN).unwrap();
    let error = optimizer.backward_step(&params, &loss).unwrap_err();
    assert!(matches!(error, Error::Diverged { step: 2, .. }), "{error}");
    assert_eq!(params.each_ref().map(|param| param.to_vec1::<f64>().unwrap()), after);
}

#[test]
fn a_gradient_may_be_in_the_memory_of_its_parameter() {
    // That of half the square of the weight, which is the weight.
    let weight = Var::new(&[1f64, 2.0], &Device::Cpu).unwrap();
    let tensor = weight.as_tensor().clone();
    let grads = [Grad::Dense(Values::Tensor(&tensor))];
    Optimizer::new(Sgd::default(), 0.5).step(std::slice::from_ref(&weight), &grads).unwrap();
    assert_eq!(weight.to_vec1::<f64>().unwrap(), [0.5, 1.0]);
    // And in that of another one: of the loss a b the gradient of a is b, and that of b is a, as they were before the step.
    for order in [[0, 1], [1, 0]] {
        let weights = [3f64, 2.0].map(|weight| Var::new(&[weight], &Device::Cpu).unwrap());
        let of = |k: usize| weights[k].as_tensor().clone();
        let tensors = order.map(|k| of(1 - k));
        let grads = [&tensors[0], &tensors[1]].map(|tensor| Grad::Dense(Values::Tensor(tensor)));
        Optimizer::new(Sgd::default(), 0.5).step(&order.map(|k| weights[k].clone()), &grads).unwrap();
        let got = weights.map(|weight| weight.to_vec1::<f64>().unwrap()[0]);
        assert_eq!(got, [3.0 - 0.5 * 2.0, 2.0 - 0.5 * 3.0], "{order:?}");
    }
}

/// `w' = w - lr (g + w / 10)`: keeps nothing, and a weight without a gradient moves.
#[derive(Debug, Clone)]
struct Shrinks;

impl Rule for Shrinks {
    fn kept(&self) -> &'static [&'static str] {
        &[]
    }

    fn update<T: Real>(
        &self,
        lr: f64,
        _: u64,
    ) -> impl Fn(T, T, [T; MAX_KEPT]) -> (T, [T; MAX_KEPT]) + Send + Sync {
        let (lr, tenth) = (T::from_f64(lr), T::from_f64(0.1));
        move |w, g, kept| (w - lr * (g + tenth * w), kept)
    }

    fn in_ops(
        &self,
        (lr, _): (f64, u64),
        weight: &Tensor,
        grad: &Tensor,
        _: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)> {
        Ok(((weight - ((grad + (weight * 0.1)?)? * lr)?)?, Vec::new()))
    }
}

#[test]
fn rows_without_a_gradient_are_passed_over_only_where_a_rule_leaves_them() {
    let values = [1.0, 2.0, 3.0, 4.0];
    for ids in [&[2u32, 0][..], &[]] {
        let rows = Grad::Rows { ids, values: Values::F64(&values[..2 * ids.len()]) };
        let step = |grad: &dyn Fn(&Tensor) -> Tensor, by_rows: bool| {
            let table = Var::new(&[[1f64, -2.0], [3.0, -4.0], [5.0, -6.0]], &Device::Cpu).unwrap();
            let dense = grad(&table);
            let grad = if by_rows { rows } else { Grad::Dense(Values::Tensor(&dense)) };
            Optimizer::new(Shrinks, 0.5).step(std::slice::from_ref(&table), &[grad]).unwrap();
            table.to_vec2::<f64>().unwrap()
        };
        let dense = |table: &Tensor| rows.dense(table).unwrap();
        assert_eq!(step(&dense, true), step(&dense, false), "{ids:?}");
        assert_eq!(step(&dense, true)[1], [3.0 - 0.5 * 0.3, -4.0 + 0.5 * 0.4], "{ids:?}");
    }
}

#[test]
fn kernels_do_what_tensor_ops_do() {
    same(Sgd::default());
    same(Sgd { momentum: 0.9, nesterov: false });
    same(Sgd { momentum: 0.9, nesterov: true });
    same(Adam::default());
    same(RmsProp::default());
}
