//! Every way gives the reference's numbers: outputs, next state, and the gradient of everything that has one.

use crate::case::{Case, held};
use crate::numbers::{self, relative};
use candle_core::{DType, Device};
use rnn_core::kernels::dispatch::{self, Cpu};
use rnn_core::{Bias, Cell, GruCell, Layer, LayerSpec, LstmCell, Result, RnnCell, Stack, TimeRnn, Way};

type Make<C> = fn(LayerSpec, candle_nn::VarBuilder) -> Result<C>;

/// N, T, D, H: ones, and sizes that are no multiple of any vector's width.
const SIZES: [[usize; 4]; 4] = [[1, 1, 1, 1], [3, 4, 3, 5], [2, 3, 20, 17], [7, 2, 5, 33]];

const TOLERANCES: [(DType, f64); 2] = [(DType::F64, 1e-12), (DType::F32, 2e-5)];

fn holds<C: Cell>(make: Make<C>) {
    for (dtype, tolerance) in TOLERANCES {
        for bias in [Bias::None, Bias::Single, Bias::Both] {
            for sizes in SIZES {
                let case = Case::new(sizes, dtype, &Device::Cpu);
                let layer = TimeRnn::new(make(case.spec(bias), case.parameters.builder()).unwrap());
                let want = case.recorded(&layer.clone().with_way(Way::Reference), Way::Reference);
                let both_doors = |what: &str, way: Way| {
                    let what = format!("{what} {dtype:?} {bias:?} {sizes:?}");
                    let layer = layer.clone().with_way(way);
                    let got = case.recorded(&layer, way);
                    held(&what, &got, &want, tolerance);
                    held(
                        &format!("{what}: without autograd the same bits"),
                        &case.by_hand(&layer),
                        &got,
                        0.0,
                    );
                };
                both_doors("manual", Way::Manual);
                for cpu in Cpu::available() {
                    dispatch::with(cpu, || both_doors(&format!("fused on {cpu:?}"), Way::Fused));
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

/// As many units as make a step's sums longer than one piece of a product.
fn many_units<C: Cell>() {
    let case = Case::new([2, 3, 4, 800], DType::F64, &Device::Cpu);
    let layer = TimeRnn::<C>::build(case.spec(Bias::Both), &case.parameters.builder()).unwrap();
    let want = case.recorded(&layer.clone().with_way(Way::Reference), Way::Reference);
    for cpu in Cpu::available() {
        let got = dispatch::with(cpu, || case.recorded(&layer, Way::Fused));
        held(&format!("800 units on {cpu:?}"), &got, &want, 1e-11);
    }
}

#[test]
fn many_units_hold() {
    many_units::<LstmCell>();
    many_units::<GruCell>();
}

fn stacks_hold<C: Cell>() {
    for (dtype, tolerance) in TOLERANCES {
        for layers in [2, 3] {
            let case = Case::new([3, 5, 4, 7], dtype, &Device::Cpu);
            let stack =
                Stack::<TimeRnn<C>>::new(case.spec(Bias::Both), layers, &case.parameters.builder()).unwrap();
            let want = case.recorded(&stack.clone().with_way(Way::Reference), Way::Reference);
            for way in [Way::Manual, Way::Fused] {
                let got = case.recorded(&stack.clone().with_way(way), way);
                held(&format!("{layers} layers, {way}, {dtype:?}"), &got, &want, tolerance);
            }
        }
    }
}

#[test]
fn stacks() {
    stacks_hold::<RnnCell>();
    stacks_hold::<LstmCell>();
    stacks_hold::<GruCell>();
}

#[test]
fn two_unrolls_at_once_give_what_each_gives_alone() {
    let unroll = |way: Way| {
        let case = Case::new([8, 20, 40, 70], DType::F32, &Device::Cpu);
        let lstm = LstmCell::new(case.spec(Bias::Both), case.parameters.builder()).unwrap();
        case.recorded(&TimeRnn::new(lstm).with_way(way), way)
    };
    for way in [Way::Manual, Way::Fused] {
        let alone = unroll(way);
        std::thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(move || [(); 5].map(|()| unroll(way))));
            for together in both.into_iter().flat_map(|thread| thread.join().unwrap()) {
                held(&format!("{way} beside another"), &together, &alone, 0.0);
            }
        });
    }
}

#[test]
fn a_gradient_that_is_wrong_by_a_thousandth_is_seen() {
    let right = numbers::random(&[3, 4], DType::F64, "right");
    assert!(relative(&(&right * 1.001).unwrap(), &right) > 1e-4);
    assert!(relative(&(&right * f64::NAN).unwrap(), &right).is_nan());
}
