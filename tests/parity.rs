//! Every way gives the reference's numbers: outputs, next state, and the gradient of everything that has one.

use candle_core::{DType, Device, Tensor, Var};
use rnn_core::kernels::dispatch::{self, Cpu};
use rnn_core::rng::Stream;
use rnn_core::{
    Bias, Cell, GruCell, LayerSpec, LstmCell, Parameters, Recurrent, Result, RnnCell, State, TimeRnn, Way,
    last_ran, reset_last_ran,
};

type Make<C> = fn(LayerSpec, candle_nn::VarBuilder) -> Result<C>;

/// N, T, D, H: ones, and sizes that are no multiple of any vector's width.
const SIZES: [[usize; 4]; 4] = [[1, 1, 1, 1], [3, 4, 3, 5], [2, 3, 20, 17], [7, 2, 5, 33]];

fn random(shape: &[usize], dtype: DType, purpose: &str) -> Tensor {
    let mut stream = Stream::new(5, purpose, 0);
    let numbers: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal()).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Outputs, next state and all gradients of one way, by name.
fn run<C: Cell>(cell: &C, way: Way, [n, t, d, h]: [usize; 4], dtype: DType) -> Vec<(String, Tensor)> {
    let layer = TimeRnn::new(cell.clone()).with_way(way);
    let xs = Var::from_tensor(&random(&[n, t, d], dtype, "xs")).unwrap();
    let mut parts = Vec::new();
    let state = layer.zero_state(n).unwrap();
    let state = state
        .try_map(&mut |_| {
            let var = Var::from_tensor(&random(&[n, h], dtype, &format!("part {}", parts.len())))?;
            parts.push(var.clone());
            Ok(var.as_tensor().clone())
        })
        .unwrap();
    reset_last_ran();
    let (hs, next) = layer.forward(&xs, &state).unwrap();
    let mut named = vec![("hs".to_string(), hs.detach())];
    let mut loss = (&hs * random(&[n, t, h], dtype, "dhs")).unwrap().sum_all().unwrap();
    for (name, part) in next.names().iter().zip(next.parts()) {
        named.push((format!("next {name}"), part.detach()));
        let weighted = (part * random(&[n, h], dtype, &format!("d{name}"))).unwrap().sum_all().unwrap();
        loss = (loss + weighted).unwrap();
    }
    let grads = loss.backward().unwrap();
    assert_eq!(last_ran(), Some(way), "another way ran than the one under test");
    let mut take = |name: String, tensor: &Tensor| named.push((name, grads.get(tensor).unwrap().clone()));
    take("dxs".into(), &xs);
    for (i, part) in parts.iter().enumerate() {
        take(format!("dstate {i}"), part);
    }
    for (name, tensor) in cell.params().named(0) {
        take(name, tensor);
    }
    if way != Way::Reference {
        by_hand(&layer, (&xs, &state), [n, t, h], dtype, &named);
    }
    named
}

/// The door without autograd gives the same bits as the one with it.
fn by_hand<C: Cell>(
    layer: &TimeRnn<C>,
    (xs, state): (&Tensor, &C::State),
    [n, t, h]: [usize; 3],
    dtype: DType,
    recorded: &[(String, Tensor)],
) {
    let (hs, next, tape) = layer.forward_taped(xs, state).unwrap();
    let mut names = next.names().into_iter();
    let dnext =
        next.try_map(&mut |_| Ok(random(&[n, h], dtype, &format!("d{}", names.next().unwrap())))).unwrap();
    let grads = layer.backward(&tape, &random(&[n, t, h], dtype, "dhs"), &dnext).unwrap();
    let mut all = vec![hs];
    all.extend(next.parts().into_iter().cloned());
    all.push(grads.dxs.unwrap());
    all.extend(grads.dstate.parts().into_iter().cloned());
    all.extend(grads.params.tensors().into_iter().cloned());
    assert_eq!(all.len(), recorded.len());
    for (got, (name, want)) in all.iter().zip(recorded) {
        assert_eq!(distance(got, want), 0.0, "{name} by hand");
    }
}

/// The largest difference, relative to the largest magnitude that was wanted.
fn distance(got: &Tensor, want: &Tensor) -> f64 {
    let flat = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert_eq!(got.dims(), want.dims());
    let (got, want) = (flat(got), flat(want));
    let scale = want.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    // A NaN must win: `f64::max` would drop it.
    let off = got.iter().zip(&want).map(|(g, w)| (g - w).abs());
    let off = off.fold(0.0f64, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) });
    if scale > 0.0 { off / scale } else { off }
}

fn holds<C: Cell>(make: Make<C>) {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
        for bias in [Bias::None, Bias::Single, Bias::Both] {
            for sizes @ [_, _, d, h] in SIZES {
                let parameters = Parameters::new(9, dtype, &Device::Cpu);
                let cell = make(LayerSpec::new(d, h).bias(bias), parameters.builder()).unwrap();
                let want = run(&cell, Way::Reference, sizes, dtype);
                let held = |what: String, got: Vec<(String, Tensor)>| {
                    for ((name, got), (_, want)) in got.iter().zip(&want) {
                        let off = distance(got, want);
                        assert!(
                            off <= tolerance,
                            "{what} {dtype:?} {bias:?} {sizes:?}: {name} is off by {off:e}"
                        );
                    }
                };
                held("manual".into(), run(&cell, Way::Manual, sizes, dtype));
                for cpu in Cpu::available() {
                    let got = dispatch::with(cpu, || run(&cell, Way::Fused, sizes, dtype));
                    held(format!("fused on {cpu:?}"), got);
                }
            }
        }
    }
}

#[test]
fn rnn_tanh() {
    holds(RnnCell::new);
}

#[test]
fn rnn_relu() {
    holds(RnnCell::relu);
}

#[test]
fn lstm() {
    holds(LstmCell::new);
}

#[test]
fn gru() {
    holds(GruCell::new);
}

#[test]
fn a_gradient_that_is_wrong_by_a_thousandth_is_seen() {
    let right = random(&[3, 4], DType::F64, "right");
    assert!(distance(&(&right * 1.001).unwrap(), &right) > 1e-4);
    assert!(distance(&(&right * f64::NAN).unwrap(), &right).is_nan());
}
