//! The book's layers one by one: the backward by hand against autograd, whatever the strides of what they are given.

use crate::numbers::{self, off, random};
use candle_core::{DType, Device, Tensor, Var};
use rnn_core::{
    Cell, GruCell, Layer, LayerSpec, LstmCell, Parameters, Recurrent, RnnCell, Scheme, State, TimeRnn, Way,
};
use rnn_lm::data::IGNORE;
use rnn_lm::layers::{TimeAffine, TimeEmbedding, TimeSoftmaxWithLoss, softmax_loss};

fn parameters() -> Parameters {
    Parameters::new(3, DType::F64, &Device::Cpu)
}

#[test]
fn embedding_gradients_of_repeated_ids_add_up() {
    let embedding = TimeEmbedding::new(6, 3, Scheme::Book, &parameters().builder()).unwrap();
    let ids = [4u32, 1, 4, 4, 0, 1];
    let tensor = Tensor::from_slice(&ids, (2, 3), &Device::Cpu).unwrap();
    let dys = random(&[2, 3, 3], DType::F64, "dys");
    let ys = embedding.forward(&tensor).unwrap();
    for (y, &id) in numbers::numbers(&ys).chunks(3).zip(&ids) {
        assert_eq!(y, numbers::numbers(&embedding.weight().get(id as usize).unwrap()));
    }
    let grads = (ys * &dys).unwrap().sum_all().unwrap().backward().unwrap();
    let by_hand = embedding.backward(&tensor, &dys).unwrap();
    assert!(off(&by_hand, grads.get(embedding.weight()).unwrap()) < 1e-15);

    let flat = numbers::numbers(&dys);
    let of_id = |id: u32| -> Vec<f64> {
        let rows = || flat.chunks(3).zip(ids).filter(|(_, other)| *other == id).map(|(row, _)| row);
        (0..3).map(|k| rows().map(|row| row[k]).sum()).collect()
    };
    let rows = TimeEmbedding::backward_rows(&ids, &flat, 3).unwrap();
    assert_eq!(rows.ids, [4, 1, 0], "in the order of their first appearance");
    for (id, row) in rows.ids.iter().zip(rows.values.chunks(3)) {
        for ((got, want), dense) in
            row.iter().zip(of_id(*id)).zip(numbers::numbers(&by_hand.get(*id as usize).unwrap()))
        {
            assert!((got - want).abs() < 1e-15 && (got - dense).abs() < 1e-15);
        }
    }
    for absent in [2, 3, 5] {
        assert_eq!(numbers::numbers(&by_hand.get(absent).unwrap()), [0.0; 3]);
    }
}

#[test]
fn the_affine_backward_by_hand_is_that_of_autograd() {
    let affine = TimeAffine::new(4, 7, Scheme::Pytorch, &parameters().builder()).unwrap();
    let xs = Var::from_tensor(&random(&[2, 3, 4], DType::F64, "xs")).unwrap();
    let dys = random(&[2, 3, 7], DType::F64, "dys");
    let ys = affine.forward(&xs).unwrap();
    assert_eq!(off(&ys, &affine.infer(&xs).unwrap()), 0.0);
    let grads = (ys * &dys).unwrap().sum_all().unwrap().backward().unwrap();
    let by_hand = affine.backward(&xs, &dys).unwrap();
    for (got, of) in
        [(&by_hand.dxs, xs.as_tensor()), (&by_hand.weight, affine.weight()), (&by_hand.bias, affine.bias())]
    {
        assert!(off(got, grads.get(of).unwrap()) < 1e-14);
    }
}

#[test]
fn the_loss_is_the_mean_over_targets_that_are_not_ignored() {
    let logits = Var::from_tensor(&random(&[2, 3, 5], DType::F64, "logits")).unwrap();
    let targets = [1, IGNORE, 4, 0, IGNORE, 2];
    let loss = TimeSoftmaxWithLoss.forward(&logits, &targets).unwrap();
    let mut want = 0.0;
    for (row, &target) in numbers::numbers(&logits).chunks(5).zip(&targets) {
        if target != IGNORE {
            want -= row[target as usize] - row.iter().map(|x| x.exp()).sum::<f64>().ln();
        }
    }
    assert!((loss.to_scalar::<f64>().unwrap() - want / 4.0).abs() < 1e-14);

    let reference = TimeSoftmaxWithLoss.reference(&logits, &targets).unwrap();
    let [got, want] = [&loss, &reference].map(|loss| loss.backward().unwrap().get(&logits).unwrap().clone());
    assert!(off(&got, &want) < 1e-15);
    let (_, taped) = TimeSoftmaxWithLoss.forward_taped(&logits, &targets).unwrap();
    assert_eq!(off(&got, &taped), 0.0);
    for ignored in [1, 4] {
        assert_eq!(numbers::numbers(&got)[ignored * 5..][..5], [0.0; 5]);
    }
}

#[test]
fn logits_of_ten_thousand_either_way_and_in_f32() {
    // Odd sizes: rows that do not fill a register, and more columns than one.
    for vocabulary in [1, 2, 15, 16, 17, 100] {
        let mut logits: Vec<f32> = (0..3 * vocabulary).map(|i| if i % 2 == 0 { 1e4 } else { -1e4 }).collect();
        let loss = softmax_loss(&mut logits, &[0, 0, vocabulary as u32 - 1], vocabulary).unwrap();
        assert!(loss.is_finite() && loss >= 0.0, "V = {vocabulary}: {loss}");
        for row in logits.chunks(vocabulary) {
            assert!(
                row.iter().all(|x| x.is_finite()) && row.iter().sum::<f32>().abs() < 1e-6,
                "V = {vocabulary}"
            );
        }
    }
    let mut logits = [0.0f32; 6];
    for vocabulary in [0, 4] {
        assert!(softmax_loss(&mut logits, &[0, 0], vocabulary).is_err(), "V = {vocabulary}");
    }
    assert_eq!(logits, [0.0; 6]);
    let mut broken = [0.0f32, f32::NAN];
    assert!(softmax_loss(&mut broken, &[0], 2).unwrap().is_nan(), "a NaN is not swallowed");
}

/// The same numbers, laid out another way: time first, and every other row of something larger.
fn strided(tensor: &Tensor) -> [Tensor; 2] {
    let time_first = tensor.transpose(0, 1).unwrap().contiguous().unwrap().transpose(0, 1).unwrap();
    let doubled = Tensor::stack(&[tensor, &tensor.zeros_like().unwrap()], 2).unwrap();
    let view = doubled.narrow(2, 0, 1).unwrap().squeeze(2).unwrap();
    assert!(!time_first.is_contiguous() && !view.is_contiguous());
    [time_first, view]
}

fn strides_do_not_matter<C: Cell>() {
    let layer = TimeRnn::new(C::new(LayerSpec::new(4, 5), parameters().builder()).unwrap());
    let (xs, dhs) = (random(&[2, 3, 4], DType::F64, "xs"), random(&[2, 3, 5], DType::F64, "dhs"));
    let state = layer.zero_state(2).unwrap();
    for way in [Way::Manual, Way::Fused] {
        let layer = layer.clone().with_way(way);
        let run = |xs: &Tensor, dhs: &Tensor| {
            let (hs, next, tape) = layer.forward_taped(xs, &state).unwrap();
            let grads = layer.backward(tape, dhs, &next.zeros_like().unwrap()).unwrap();
            let params = &grads.params[0];
            [hs, grads.dxs, params.weight_ih.clone(), params.weight_hh.clone()]
        };
        let want = run(&xs, &dhs);
        for (xs, dhs) in strided(&xs).iter().zip(&strided(&dhs)) {
            for (got, want) in run(xs, dhs).iter().zip(&want) {
                assert_eq!(off(got, want), 0.0, "{way}");
            }
        }
    }
}

#[test]
fn inputs_of_any_strides_give_the_same_bits() {
    strides_do_not_matter::<RnnCell>();
    strides_do_not_matter::<LstmCell>();
    strides_do_not_matter::<GruCell>();
}
