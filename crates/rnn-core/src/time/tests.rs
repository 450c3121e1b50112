//! Any number of threads gives a layer's window the same bits.

use super::{Layer, Recurrent, TimeRnn};
use crate::kernels::team::in_company;
use crate::{Cell, GruCell, LayerSpec, LstmCell, Parameters, RnnCell, State};
use candle_core::{DType, Device, Tensor};

/// Outputs and gradients of a window large enough to be split.
fn everything<C: Cell>() -> Vec<Vec<f32>> {
    let parameters = Parameters::new(2, DType::F32, &Device::Cpu);
    let layer = TimeRnn::<C>::build(LayerSpec::new(90, 70), &parameters.builder()).unwrap();
    let random = |size: usize| {
        let random = Parameters::new(3, DType::F32, &Device::Cpu);
        let builder = random.builder();
        builder.get_with_hints((7, 33, size), "x", candle_nn::Init::Randn { mean: 0.0, stdev: 1.0 }).unwrap()
    };
    let state = layer.zero_state(7).unwrap();
    let (hs, next, tape) = layer.forward_taped(&random(90), &state).unwrap();
    let grads = layer.backward(tape, &random(70), &next).unwrap();
    let mut all = vec![hs, grads.dxs];
    all.extend(grads.dstate.parts().into_iter().cloned());
    all.extend(grads.params[0].tensors().into_iter().cloned());
    all.iter().map(|tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

fn with_threads<C: Cell>() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (made, members) = pool.install(|| in_company(everything::<C>));
        assert_eq!(members, threads, "all of them took part");
        made
    };
    let one = run(1);
    for threads in [2, 3, 5] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    with_threads::<RnnCell>();
    with_threads::<LstmCell>();
    with_threads::<GruCell>();
}
