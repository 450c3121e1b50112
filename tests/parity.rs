//! Every way gives the reference's numbers: outputs, next state, and the gradient of everything that has one.

#[path = "common/numbers.rs"]
mod numbers;

use candle_core::{DType, Device, Tensor, Var};
use numbers::relative;
use rnn_core::kernels::dispatch::{self, Cpu};
use rnn_core::{
    Bias, Cell, GruCell, LayerSpec, LstmCell, Parameters, Recurrent, Result, RnnCell, Stack, State, TimeRnn,
    Way, last_ran, reset_last_ran,
};
use std::io::Write;

type Make<C> = fn(LayerSpec, candle_nn::VarBuilder) -> Result<C>;
type Named = Vec<(String, Tensor)>;

/// N, T, D, H: ones, and sizes that are no multiple of any vector's width.
const SIZES: [[usize; 4]; 4] = [[1, 1, 1, 1], [3, 4, 3, 5], [2, 3, 20, 17], [7, 2, 5, 33]];

const TOLERANCES: [(DType, f64); 2] = [(DType::F64, 1e-12), (DType::F32, 2e-5)];

/// What all ways are asked for.
struct Case {
    sizes: [usize; 4],
    dtype: DType,
    device: Device,
    parameters: Parameters,
}

impl Case {
    fn new(sizes: [usize; 4], dtype: DType, device: &Device) -> Self {
        Self { sizes, dtype, device: device.clone(), parameters: Parameters::new(9, dtype, device) }
    }

    fn spec(&self, bias: Bias) -> LayerSpec {
        LayerSpec::new(self.sizes[2], self.sizes[3]).bias(bias)
    }

    fn random(&self, shape: &[usize], purpose: &str) -> Tensor {
        numbers::random(shape, self.dtype, purpose).to_device(&self.device).unwrap()
    }

    /// A state of random numbers like `zeros`, under a name for each of its parts.
    fn state<S: State>(&self, zeros: &S, purpose: &str) -> S {
        let mut names = zeros.names().into_iter();
        let mut part =
            |zeros: &Tensor| Ok(self.random(zeros.dims(), &format!("{purpose}{}", names.next().unwrap())));
        zeros.try_map(&mut part).unwrap()
    }

    /// Outputs, next state and all gradients, by name, through candle's graph.
    fn recorded<R: Recurrent>(&self, layer: &R, way: Way) -> Named {
        let [n, t, d, h] = self.sizes;
        let xs = Var::from_tensor(&self.random(&[n, t, d], "xs")).unwrap();
        let mut parts = Vec::new();
        let state = self.state(&layer.zero_state(n).unwrap(), "start ");
        let state = state.try_map(&mut |part| {
            let var = Var::from_tensor(part)?;
            parts.push(var.clone());
            Ok(var.as_tensor().clone())
        });
        reset_last_ran();
        let (hs, next) = layer.forward(&xs, &state.unwrap()).unwrap();
        let mut named = vec![("hs".to_string(), hs.detach())];
        let mut loss = (&hs * self.random(&[n, t, h], "dhs")).unwrap().sum_all().unwrap();
        let upstream = self.state(&next, "d");
        for ((name, part), upstream) in next.names().iter().zip(next.parts()).zip(upstream.parts()) {
            named.push((format!("next {name}"), part.detach()));
            loss = (loss + (part * upstream).unwrap().sum_all().unwrap()).unwrap();
        }
        let grads = loss.backward().unwrap();
        assert_eq!(last_ran(), Some(way), "another way ran than the one under test");
        let mut take = |name: String, tensor: &Tensor| named.push((name, grads.get(tensor).unwrap().clone()));
        take("dxs".into(), &xs);
        for (name, part) in next.names().iter().zip(&parts) {
            take(format!("dstate {name}"), part);
        }
        for (name, var) in self.parameters.named() {
            take(name, &var);
        }
        named
    }

    /// The same without autograd.
    fn by_hand<C: Cell>(&self, layer: &TimeRnn<C>) -> Named {
        let [n, t, d, h] = self.sizes;
        let start = self.state(&layer.zero_state(n).unwrap(), "start ");
        let (hs, next, tape) = layer.forward_taped(&self.random(&[n, t, d], "xs"), &start).unwrap();
        let grads = layer.backward(tape, &self.random(&[n, t, h], "dhs"), &self.state(&next, "d")).unwrap();
        let mut named = vec![("hs".to_string(), hs)];
        let of_state = |what: &str, state: &C::State| {
            let parts = state.names().into_iter().zip(state.parts());
            parts.map(|(name, part)| (format!("{what} {name}"), part.clone())).collect::<Vec<_>>()
        };
        named.extend(of_state("next", &next));
        named.push(("dxs".into(), grads.dxs.unwrap()));
        named.extend(of_state("dstate", &grads.dstate));
        named.extend(grads.params.named(0).into_iter().map(|(name, tensor)| (name, tensor.clone())));
        named
    }
}

fn held(what: &str, got: &Named, want: &Named, tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for ((name, got), (want_name, want)) in got.iter().zip(want) {
        assert_eq!(name, want_name);
        let off = relative(got, want);
        assert!(off <= tolerance, "{what}: {name} is off by {off:e}");
    }
}

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

fn on_gpu<C: Cell>(make: Make<C>, gpu: &Device) {
    for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 1e-4)] {
        for sizes in SIZES {
            let run = |device: &Device, way: Way| {
                let case = Case::new(sizes, dtype, device);
                let layer = TimeRnn::new(make(case.spec(Bias::Both), case.parameters.builder()).unwrap());
                case.recorded(&layer.with_way(way), way)
            };
            let want = run(&Device::Cpu, Way::Reference);
            for way in [Way::Reference, Way::Manual] {
                held(&format!("{way} on a GPU {dtype:?} {sizes:?}"), &run(gpu, way), &want, tolerance);
            }
        }
    }
}

#[test]
fn a_gpu_where_there_is_one_through_the_manual_way() {
    match rnn_core::device("cuda:0") {
        Ok(gpu) => {
            on_gpu(RnnCell::new, &gpu);
            on_gpu(RnnCell::relu, &gpu);
            on_gpu(LstmCell::new, &gpu);
            on_gpu(GruCell::new, &gpu);
        }
        // Not through `println!`, which a test that passes keeps to itself.
        Err(reason) => writeln!(std::io::stderr(), "skipped: parity on a GPU ({reason})").unwrap(),
    }
}

#[test]
fn a_gradient_that_is_wrong_by_a_thousandth_is_seen() {
    let right = numbers::random(&[3, 4], DType::F64, "right");
    assert!(relative(&(&right * 1.001).unwrap(), &right) > 1e-4);
    assert!(relative(&(&right * f64::NAN).unwrap(), &right).is_nan());
}
