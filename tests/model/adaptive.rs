//! A model with the adaptive softmax: the same loss and gradients in all ways, with dropout or without, and a distribution.

use crate::numbers::off;
use candle_core::{DType, Device};
use rnn_core::Way;
use rnn_lm::data::{Batches, Streams};
use rnn_lm::generate::Sampling;
use rnn_lm::layers::Cutoffs;
use rnn_lm::model::{CellKind, Dropout, LanguageModel, LmSpec, build};
use rnn_lm::train::{Adam, Optimizer, Trainer};

const V: usize = 40;

fn ids() -> Vec<u32> {
    // Small ids are frequent.
    (0..400u32).map(|i| (i * i % 23).min(i * 7 % V as u32)).collect()
}

fn model(way: Way, dropout: Dropout) -> Box<dyn LanguageModel> {
    let cutoffs = Cutoffs::new(&[5, 15]).unwrap();
    let spec = LmSpec::new(V, 6, 16).layers(2).adaptive(cutoffs).dropout(dropout);
    build(CellKind::Lstm, &spec, way, (DType::F64, &Device::Cpu), 3).unwrap()
}

#[test]
fn all_ways_have_its_loss_and_its_gradients() {
    let window = Streams::new(&ids(), 4, 9).unwrap().window(0, 2).unwrap();
    for dropout in [Dropout::default(), Dropout::everywhere(0.3)] {
        let run = |way| {
            let mut model = model(way, dropout);
            let loss = model.forward(&window).unwrap();
            model.backward().unwrap();
            (loss, model.gradients().unwrap(), model.way())
        };
        let (want, want_grads, _) = run(Way::Reference);
        for way in [Way::Manual, Way::Fused] {
            let (loss, grads, ran) = run(way);
            assert_eq!(ran, way);
            assert!((loss - want).abs() < 1e-12, "{way:?}: {loss} {want}");
            assert_eq!(grads.len(), want_grads.len());
            for ((name, got), (_, want)) in grads.iter().zip(&want_grads) {
                let off = off(got, want);
                assert!(off < 1e-12, "{way:?} {name}: {off}");
            }
        }
    }
}

#[test]
fn it_learns_measures_and_writes() {
    let ids = ids();
    let mut model = model(Way::Fused, Dropout::default());
    let names: Vec<String> = model.parameters().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"affine.tail.1.0.weight".to_string()), "{names:?}");
    let before = model.evaluate(&ids, 16).unwrap();
    let mut trainer = Trainer::new(Optimizer::new(Adam::default(), 0.02));
    for window in Streams::new(&ids, 4, 9).unwrap().endless().take(60) {
        trainer.step(model.as_mut(), &window.unwrap()).unwrap();
    }
    let after = model.evaluate(&ids, 16).unwrap();
    assert!(after.perplexity() < 0.7 * before.perplexity(), "{} {}", before.perplexity(), after.perplexity());
    // What is measured is the logarithm of what is expected.
    let expected = model.probabilities(&ids[..20]).unwrap();
    let nats: f64 = expected.iter().zip(&ids[1..21]).map(|(row, &id)| -row[id as usize].ln()).sum();
    let measured = model.evaluate(&ids[..21], 7).unwrap().nats;
    assert!((nats / measured - 1.0).abs() < 1e-10, "{nats} {measured}");
    let drawn = model.generate(&[0], 30, &Sampling::default()).unwrap();
    assert!(drawn.iter().all(|&id| (id as usize) < V));
}
