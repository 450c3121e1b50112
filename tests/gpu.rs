//! What runs on a GPU gives the numbers of the CPU. A build without CUDA has nothing to test here, which every test says; one with
//! it fails where no GPU answers, so that nobody takes for tested what was not.

#[path = "common/case.rs"]
mod case;
#[path = "common/numbers.rs"]
mod numbers;

use candle_core::{DType, Device, Tensor};
use case::{Case, Named, held};
use rnn_core::{
    Bias, Bidirectional, Cell, GruCell, LayerSpec, LstmCell, Parameters, PeepholeLstmCell, Penalty, Plan,
    Recurrent, Regularisers, ResetBeforeGruCell, Result, RnnCell, Stack, State, TimeRnn, Way, last_ran,
    reset_last_ran,
};
use rnn_lm::data::{Batches, IGNORE, Streams};
use rnn_lm::evaluate::Order;
use rnn_lm::generate::Sampling;
use rnn_lm::layers::{Cutoffs, TimeSoftmaxWithLoss};
use rnn_lm::model::{CellKind, Dropout, LmSpec, build};
use rnn_lm::train::{Adam, Clip, Optimizer, Sgd};
use std::io::Write;

type Make<C> = fn(LayerSpec, candle_nn::VarBuilder) -> Result<C>;

/// N, T, D, H: ones, sizes that are no multiple of any block's, and more units than a block has threads.
const SIZES: [[usize; 4]; 5] = [[1, 1, 1, 1], [3, 4, 3, 5], [2, 3, 20, 17], [7, 2, 5, 33], [20, 9, 70, 150]];

const BIASES: [Bias; 3] = [Bias::None, Bias::Single, Bias::Both];

const TOLERANCES: [(DType, f64); 2] = [(DType::F64, 1e-11), (DType::F32, 1e-4)];

/// Runs `test` on the first GPU.
fn on_gpu(test: impl FnOnce(&Device)) {
    match rnn_core::device("cuda:0") {
        Ok(gpu) => test(&gpu),
        Err(reason) if cfg!(feature = "cuda") => panic!("no GPU to test on: {reason}"),
        Err(reason) => {
            // Not through `eprintln!`, which a test that passes keeps to itself.
            let mut stderr = std::io::stderr();
            writeln!(stderr, "skipped: a test on a GPU ({reason})").unwrap();
        }
    }
}

fn cell_holds<C: Cell>(gpu: &Device, make: Make<C>, ways: &[Way]) {
    for ((dtype, tolerance), bias) in TOLERANCES.into_iter().flat_map(|of| BIASES.map(|bias| (of, bias))) {
        for sizes in SIZES {
            let layer = |device: &Device, way: Way| {
                let case = Case::new(sizes, dtype, device);
                let layer = TimeRnn::new(make(case.spec(bias), case.parameters.builder()).unwrap());
                (case, layer.with_way(way))
            };
            let (case, reference) = layer(&Device::Cpu, Way::Reference);
            let want = case.recorded(&reference, Way::Reference);
            for &way in ways {
                let what = format!("{way} on a GPU {dtype:?} {bias:?} {sizes:?}");
                let (case, layer) = layer(gpu, way);
                let got = case.recorded(&layer, way);
                held(&what, &got, &want, tolerance);
                if way == Way::Reference {
                    continue;
                }
                held(&format!("{what}: without autograd the same bits"), &case.by_hand(&layer), &got, 0.0);
                reset_last_ran();
                let (hs, next) = layer.infer(&case.xs(), &case.start(&layer)).unwrap();
                assert_eq!(last_ran(), Some(way));
                let mut inferred: Named = vec![("hs".into(), hs)];
                let parts = next.names().into_iter().zip(next.parts());
                inferred.extend(parts.map(|(name, part)| (format!("next {name}"), part.clone())));
                held(&format!("{what}: infer"), &inferred, &got[..inferred.len()].to_vec(), 0.0);
            }
        }
    }
}

#[test]
fn cells() {
    on_gpu(|gpu| {
        cell_holds(gpu, RnnCell::new, &Way::ALL);
        cell_holds(gpu, RnnCell::relu, &Way::ALL);
        cell_holds(gpu, LstmCell::new, &Way::ALL);
        cell_holds(gpu, GruCell::new, &Way::ALL);
        cell_holds(gpu, PeepholeLstmCell::new, &Way::ALL);
    });
}

#[test]
fn a_cell_without_kernels_and_a_steered_window_run_the_manual_way() {
    on_gpu(|gpu| {
        cell_holds(gpu, ResetBeforeGruCell::new, &[Way::Manual]);
        let plan = Plan::new().lengths(&[4, 2, 1]);
        let run = |device: &Device, asked: Way, ran: Way| {
            let case = Case::new([3, 4, 3, 5], DType::F64, device).with_plan(plan.clone());
            let cell = LstmCell::new(case.spec(Bias::Both), case.parameters.builder()).unwrap();
            case.recorded(&TimeRnn::new(cell).with_way(asked), ran)
        };
        let want = run(&Device::Cpu, Way::Reference, Way::Reference);
        held("lengths on a GPU", &run(gpu, Way::Fused, Way::Manual), &want, 1e-11);
    });
}

#[test]
fn both_directions() {
    on_gpu(|gpu| {
        for (dtype, tolerance) in TOLERANCES {
            let run = |device: &Device, way: Way| {
                let case = Case::new([3, 6, 4, 7], dtype, device);
                let vb = case.parameters.builder();
                let layers = Stack::<Bidirectional<GruCell>>::new(case.spec(Bias::Both), 2, &vb).unwrap();
                case.recorded(&layers.with_way(way), way)
            };
            let want = run(&Device::Cpu, Way::Reference);
            held(&format!("two directions {dtype:?}"), &run(gpu, Way::Fused), &want, tolerance);
        }
    });
}

/// Losses of an epoch, whose last window has targets that are ignored, and of an evaluation behind it.
fn trained(
    device: &Device,
    dtype: DType,
    cell: CellKind,
    spec: &LmSpec,
    mut optimizer: Optimizer,
) -> Vec<f64> {
    let ids: Vec<u32> = (0..400u32).map(|i| (i * i / 7 + i % 5) % 23).collect();
    let mut model = build(cell, spec, Way::Fused, (dtype, device), 3).unwrap();
    let streams = Streams::new(&ids, 4, 9).unwrap();
    let mut losses = Vec::new();
    assert_eq!(model.way(), Way::Fused);
    for window in streams.epoch(0) {
        losses.push(model.forward(&window.unwrap()).unwrap());
        model.backward().unwrap();
        losses.push(model.update(&mut optimizer).unwrap());
    }
    losses.push(Order::Streams { batch: 3 }.evaluate(model.as_ref(), &ids, 8, None).unwrap().loss());
    losses
}

#[test]
fn a_language_model_learns_what_it_learns_on_a_cpu() {
    on_gpu(|gpu| {
        let plain = LmSpec::new(23, 12, 12).layers(2);
        let drops = plain.dropout(Dropout::everywhere(0.4)).tied(true);
        let awd = plain.dropout(Dropout {
            words: 0.2,
            locked: true,
            recurrent: Regularisers { weight: 0.5, ..Regularisers::default() },
            penalty: Penalty { activation: 2.0, temporal: 1.0 },
            ..Dropout::everywhere(0.4)
        });
        let adaptive = LmSpec::new(23, 12, 12).adaptive(Cutoffs::new(&[5, 12]).unwrap());
        let sgd = || Optimizer::new(Sgd::default(), 0.5).clip(Clip::Norm(0.3));
        let adam = || Optimizer::new(Adam::default(), 0.01).clip(Clip::Norm(0.3));
        for (dtype, tolerance) in TOLERANCES {
            for cell in [CellKind::Rnn, CellKind::Lstm, CellKind::Gru] {
                let trainings: [(&LmSpec, &dyn Fn() -> Optimizer); 5] =
                    [(&plain, &sgd), (&drops, &sgd), (&drops, &adam), (&awd, &sgd), (&adaptive, &sgd)];
                for (spec, optimizer) in trainings {
                    let run = |device: &Device| trained(device, dtype, cell, spec, optimizer());
                    let (got, want) = (run(gpu), run(&Device::Cpu));
                    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                        let off = (got - want).abs() / want.abs();
                        assert!(off <= tolerance, "{cell} {dtype:?}, number {i}: {got} and {want}");
                    }
                    assert_eq!(run(gpu), got, "{cell} {dtype:?}: a second time the same bits");
                }
            }
        }
    });
}

#[test]
fn a_softmax_of_more_logits_than_are_taken_at_once() {
    on_gpu(|gpu| {
        const V: usize = 1_500_000;
        let ignored = 4;
        let number = |i: usize| if i / V == ignored { f32::NAN } else { (i * 37 % 1009) as f32 / 100.0 };
        let logits = Tensor::from_iter((0..6 * V).map(number), &Device::Cpu).unwrap();
        let logits = logits.reshape((2, 3, V)).unwrap();
        let targets = [0, V as u32 - 1, 7, 42, IGNORE, 750_000];
        let run = |device: &Device| {
            let logits = logits.to_device(device).unwrap();
            let (loss, gradient) = TimeSoftmaxWithLoss.forward_taped(&logits, &targets).unwrap();
            let loss = Tensor::new(&[loss], &Device::Cpu).unwrap();
            vec![("loss".to_string(), loss), ("gradient".to_string(), gradient)]
        };
        held("six rows, two at a time", &run(gpu), &run(&Device::Cpu), 1e-4);
    });
}

#[test]
fn texts_are_drawn_alike_everywhere() {
    on_gpu(|gpu| {
        for cell in [CellKind::Rnn, CellKind::Lstm, CellKind::Gru] {
            let draw = |device: &Device| {
                let spec = LmSpec::new(11, 6, 8).layers(2);
                let model = build(cell, &spec, Way::Fused, (DType::F64, device), 5).unwrap();
                model.generate(&[1, 2, 3], 40, &Sampling { seed: 7, ..Sampling::default() }).unwrap()
            };
            assert_eq!(draw(gpu), draw(&Device::Cpu), "{cell}");
        }
    });
}

#[test]
fn parameters_are_drawn_alike_everywhere() {
    on_gpu(|gpu| {
        let drawn = |device: &Device| {
            let parameters = Parameters::new(1, DType::F32, device);
            LstmCell::new(LayerSpec::new(3, 5), parameters.builder()).unwrap();
            let numbers = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            parameters.vars().iter().map(numbers).collect::<Vec<_>>()
        };
        assert_eq!(drawn(gpu), drawn(&Device::Cpu));
    });
}
