//! What must not change the bits: how a window is cut, whether it is recorded. And what must not end a process: a long
//! sequence.

use crate::numbers::{off, random};
use candle_core::{DType, Device, Tensor, Var};
use rnn_core::kernels::unroll::REFERENCE_MAX_STEPS;
use rnn_core::{
    Cell, GruCell, LayerSpec, LstmCell, Parameters, Recurrent, RnnCell, Stack, State, TimeRnn, Way, last_ran,
};

fn layer<C: Cell>(way: Way, dtype: DType, input: usize, hidden: usize) -> TimeRnn<C> {
    let parameters = Parameters::new(2, dtype, &Device::Cpu);
    TimeRnn::new(C::new(LayerSpec::new(input, hidden), parameters.builder()).unwrap()).with_way(way)
}

fn cut<C: Cell>() {
    for (dtype, loose) in [(DType::F32, 1e-6), (DType::F64, 1e-13)] {
        for way in Way::ALL {
            let layer = layer::<C>(way, dtype, 40, 37);
            for batch in [1, 3] {
                let xs = random(&[batch, 9, 40], dtype, "xs");
                let start = layer.zero_state(batch).unwrap();
                let (whole, last) = layer.forward(&xs, &start).unwrap();
                assert_eq!(last_ran(), Some(way));
                for at in [1, 4, 8] {
                    let (first, state) = layer.infer(&xs.narrow(1, 0, at).unwrap(), &start).unwrap();
                    let (second, end) = layer.infer(&xs.narrow(1, at, 9 - at).unwrap(), &state).unwrap();
                    let pieces = Tensor::cat(&[first, second], 1).unwrap();
                    let tolerance = if way == Way::Fused { 0.0 } else { loose };
                    assert!(off(&whole, &pieces) <= tolerance, "{way} {dtype:?} N {batch} cut at {at}");
                    for (a, b) in last.parts().into_iter().zip(end.parts()) {
                        assert!(off(a, b) <= tolerance, "{way} {dtype:?} N {batch} cut at {at}: state");
                    }
                }
            }
        }
    }
}

#[test]
fn a_window_in_pieces_gives_the_same_bits_on_the_fused_way() {
    cut::<RnnCell>();
    cut::<LstmCell>();
    cut::<GruCell>();
}

fn twenty_thousand_steps<C: Cell>() {
    let mut of_ways = Vec::new();
    for way in [Way::Manual, Way::Fused] {
        let layer = layer::<C>(way, DType::F64, 2, 3);
        let xs = Var::from_tensor(&random(&[1, 20_000, 2], DType::F64, "xs")).unwrap();
        let (hs, _) = layer.forward(&xs, &layer.zero_state(1).unwrap()).unwrap();
        assert_eq!(last_ran(), Some(way));
        let grads = hs.sum_all().unwrap().backward().unwrap();
        let dxs = grads.get(&xs).unwrap().clone();
        // The first step's input has a gradient of its own: the backward went all the way.
        assert!(
            dxs.narrow(1, 0, 1).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap() > 0.0
        );
        of_ways.push((hs.detach(), dxs));
    }
    assert!(off(&of_ways[0].0, &of_ways[1].0) < 1e-12);
    assert!(off(&of_ways[0].1, &of_ways[1].1) < 1e-12);
}

#[test]
fn twenty_thousand_steps_there_and_back() {
    twenty_thousand_steps::<RnnCell>();
    twenty_thousand_steps::<LstmCell>();
    twenty_thousand_steps::<GruCell>();
}

#[test]
fn the_reference_goes_to_its_limit_and_says_no_beyond() {
    let layer = layer::<LstmCell>(Way::Reference, DType::F32, 2, 3);
    let state = layer.zero_state(1).unwrap();
    let xs = |time| random(&[1, time, 2], DType::F32, "xs");
    let (hs, _) = layer.forward(&xs(REFERENCE_MAX_STEPS), &state).unwrap();
    hs.sum_all().unwrap().backward().unwrap();
    // Layers on top of each other make the graph wider, not deeper.
    let parameters = Parameters::new(2, DType::F32, &Device::Cpu);
    let stack = Stack::<TimeRnn<LstmCell>>::new(LayerSpec::new(2, 3), 3, &parameters.builder()).unwrap();
    let stack = stack.with_way(Way::Reference);
    let (hs, _) = stack.forward(&xs(REFERENCE_MAX_STEPS), &stack.zero_state(1).unwrap()).unwrap();
    hs.sum_all().unwrap().backward().unwrap();
    let error = layer.forward(&xs(REFERENCE_MAX_STEPS + 1), &state).unwrap_err().to_string();
    assert!(error.contains("at most") && error.contains("overflow the stack"), "{error}");
}
