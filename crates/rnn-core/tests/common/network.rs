//! A network of the border as layers that run: what several tests hold against what others compute.
#![allow(dead_code, reason = "each test takes what it needs")]

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use rnn_core::border::{Kind, Network};
use rnn_core::{
    Bias, Bidirectional, Cell, GruCell, Layer, LayerSpec, LstmCell, Recurrent, Result, RnnCell, Stack, State,
    TimeRnn, Way,
};

/// Output `[N, T, dirs*H]` and last states, `[L*dirs, N, H]` each, from `x [N, T, D]` and initial states like the last.
pub(crate) fn run(network: &Network, way: Way, x: &Tensor, starts: &[Tensor]) -> Vec<Tensor> {
    match network.spec().kind {
        Kind::RnnTanh => either(network, way, (x, starts), RnnCell::new),
        Kind::RnnRelu => either(network, way, (x, starts), RnnCell::relu),
        Kind::Lstm => either(network, way, (x, starts), LstmCell::new),
        Kind::Gru => either(network, way, (x, starts), GruCell::new),
    }
}

type Make<C> = fn(LayerSpec, VarBuilder) -> Result<C>;

fn either<C: Cell>(network: &Network, way: Way, given: (&Tensor, &[Tensor]), make: Make<C>) -> Vec<Tensor> {
    if network.spec().bidirectional {
        of_layers::<Bidirectional<C>>(network, way, given, make)
    } else {
        of_layers::<TimeRnn<C>>(network, way, given, make)
    }
}

fn of_layers<R: Layer>(
    network: &Network,
    way: Way,
    (x, starts): (&Tensor, &[Tensor]),
    make: Make<R::Cell>,
) -> Vec<Tensor> {
    let sizes = network.spec();
    let bias = if sizes.bias { Bias::Both } else { Bias::None };
    let tensors = network.tensors().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
    let vb = VarBuilder::from_tensors(tensors, x.dtype(), &Device::Cpu);
    let spec = LayerSpec::new(sizes.input, sizes.hidden).bias(bias);
    let stack = Stack::<R>::make(spec, sizes.layers, |spec| make(spec, vb.clone())).unwrap().with_way(way);
    // Parts follow each other within a direction, directions within a layer.
    let mut place = 0;
    let start = stack.zero_state(x.dim(0).unwrap()).unwrap().try_map(&mut |_| {
        let part = starts[place % starts.len()].get(place / starts.len())?;
        place += 1;
        Ok(part)
    });
    let (out, next) = stack.infer(x, &start.unwrap()).unwrap();
    let last = next.parts();
    assert_eq!(last.len(), place);
    let of_part =
        |p| Tensor::stack(&last.iter().skip(p).step_by(starts.len()).collect::<Vec<_>>(), 0).unwrap();
    std::iter::once(out).chain((0..starts.len()).map(of_part)).collect()
}

/// All numbers of a tensor, in f64.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference; NaN where one is in it.
pub(crate) fn off(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let differences = numbers(a).into_iter().zip(numbers(b)).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
}
