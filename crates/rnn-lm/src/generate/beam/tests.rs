//! The search is held against all texts there are, and against one that is written down without a thought for
//! time.

use super::*;
use crate::generate::Sampling;
use crate::model::{CellKind, LmSpec, build};
use candle_core::{DType, Device};
use rnn_core::Way;

/// A model that has an opinion: four times the weights that it would begin with.
fn model(vocabulary: usize, way: Way, seed: u64) -> Box<dyn LanguageModel> {
    let spec = LmSpec::new(vocabulary, 3, 4);
    let model = build(CellKind::Gru, &spec, way, (DType::F64, &Device::Cpu), seed).unwrap();
    for (_, var) in model.parameters() {
        var.set(&(var.as_tensor() * 4.0).unwrap().detach()).unwrap();
    }
    model
}

/// What the model expects after `prompt` and `ids`.
fn expected(model: &dyn LanguageModel, prompt: &[u32], ids: &[u32]) -> Vec<f64> {
    model.probabilities(&[prompt, ids].concat()).unwrap().pop().unwrap()
}

/// All texts that are over, in any order: their ids and log p.
fn all(
    model: &dyn LanguageModel,
    prompt: &[u32],
    beam: &Beam,
    (ids, log_prob): (&[u32], f64),
) -> Vec<(Vec<u32>, f64)> {
    if ids.len() == beam.length || ids.last().is_some_and(|last| beam.ends.contains(last)) {
        return vec![(ids.to_vec(), log_prob)];
    }
    let next = expected(model, prompt, ids);
    let allowed = (0..next.len() as u32).filter(|id| !beam.skip.contains(id));
    let longer = |id: u32| {
        let log_prob = log_prob + next[id as usize].ln();
        all(model, prompt, beam, (&[ids, &[id]].concat(), log_prob))
    };
    allowed.flat_map(longer).collect()
}

/// The best first.
fn sorted(beam: &Beam, mut texts: Vec<(Vec<u32>, f64)>) -> Vec<(Vec<u32>, f64)> {
    let score = |(ids, log_prob): &(Vec<u32>, f64)| log_prob / (ids.len() as f64).powf(beam.penalty);
    texts.sort_by(|a, b| score(b).total_cmp(&score(a)));
    texts
}

/// The same beam without stopping before the length.
fn patient(model: &dyn LanguageModel, prompt: &[u32], beam: &Beam) -> Vec<(Vec<u32>, f64)> {
    let (mut live, mut over) = (vec![(vec![], 0.0)], vec![]);
    for len in 1..=beam.length {
        let longer = live.iter().flat_map(|(ids, log_prob): &(Vec<u32>, f64)| {
            let next = expected(model, prompt, ids).into_iter().enumerate();
            next.map(|(id, p)| ([&ids[..], &[id as u32]].concat(), log_prob + p.ln())).collect::<Vec<_>>()
        });
        let is_over = |(ids, _): &(Vec<u32>, f64)| len == beam.length || beam.ends.contains(&ids[len - 1]);
        let (ended, mut longer): (Vec<_>, Vec<_>) =
            longer.filter(|(ids, _)| !beam.skip.contains(&ids[len - 1])).partition(is_over);
        over.extend(ended);
        longer.sort_by(|a, b| b.1.total_cmp(&a.1));
        longer.truncate(beam.width);
        live = longer;
    }
    let mut over = sorted(beam, over);
    over.truncate(beam.width);
    over
}

fn same(got: &[Hypothesis], want: &[(Vec<u32>, f64)], beam: &Beam) {
    assert_eq!(got.len(), want.len(), "{beam:?}");
    for (got, (ids, log_prob)) in got.iter().zip(want) {
        assert_eq!(&got.ids, ids, "{beam:?}");
        assert!((got.log_prob - log_prob).abs() < 1e-11, "{got:?} {log_prob}");
        assert!((got.score - log_prob / (ids.len() as f64).powf(beam.penalty)).abs() < 1e-11, "{got:?}");
        assert_eq!(got.ended, beam.ends.contains(&ids[ids.len() - 1]), "{got:?} {beam:?}");
    }
}

#[test]
fn a_beam_as_wide_as_all_texts_finds_what_there_is_in_order() {
    for (vocabulary, length) in [(3, 4), (4, 3), (5, 3)] {
        for seed in 0..3 {
            let model = model(vocabulary, Way::Fused, seed);
            let width = vocabulary.pow(length as u32);
            for (ends, skip) in
                [(vec![], vec![]), (vec![1], vec![]), (vec![2, 0], vec![]), (vec![0], vec![1])]
            {
                let mut texts = None;
                for penalty in [0.0, 0.7, 1.0, 3.0] {
                    let beam = Beam { width, length, penalty, ends: ends.clone(), skip: skip.clone() };
                    let texts = texts.get_or_insert_with(|| all(&*model, &[1, 2], &beam, (&[], 0.0)));
                    let want = sorted(&beam, texts.clone());
                    same(&beam.search(&*model, &[1, 2]).unwrap(), &want, &beam);
                }
            }
        }
    }
}

#[test]
fn a_narrow_beam_that_stops_early_loses_nothing() {
    let mut early = 0;
    for (seed, way) in (0..4).zip([Way::Fused, Way::Reference].into_iter().cycle()) {
        let model = model(4, way, seed);
        for width in 1..4 {
            for penalty in [0.0, 0.6, 1.0, 2.0] {
                for ends in [vec![], vec![seed as u32], vec![1, 2]] {
                    let beam = Beam { width, length: 6, penalty, ends, skip: vec![] };
                    let got = beam.search(&*model, &[3, 0]).unwrap();
                    same(&got, &patient(&*model, &[3, 0], &beam), &beam);
                    early += usize::from(got.iter().all(|text| text.ids.len() < 4));
                }
            }
        }
    }
    // Otherwise this would say little.
    assert!(early > 10, "{early}");
}

#[test]
fn the_best_text_may_come_after_others_have_ended() {
    // What is followed does not depend on the penalty: a higher one can only make a longer text the best.
    let mut longer = 0;
    for seed in 0..6 {
        let model = model(4, Way::Fused, seed);
        let best = |penalty| {
            let beam = Beam { width: 3, length: 8, penalty, ends: vec![1], skip: vec![] };
            beam.search(&*model, &[0]).unwrap().swap_remove(0).ids.len()
        };
        assert!(best(0.0) <= best(1.0) && best(1.0) <= best(3.0));
        longer += usize::from(best(0.0) < best(3.0));
    }
    assert!(longer > 0);
}

#[test]
fn equals_come_in_the_order_of_their_ids() {
    for way in Way::ALL {
        let model = model(3, way, 0);
        for (_, var) in model.parameters() {
            var.set(&var.as_tensor().zeros_like().unwrap().detach()).unwrap();
        }
        let beam = |width, ends| Beam { width, length: 2, penalty: 1.0, ends, skip: vec![] };
        let ids = |beam: Beam| -> Vec<Vec<u32>> {
            beam.search(&*model, &[0]).unwrap().into_iter().map(|text| text.ids).collect()
        };
        assert_eq!(ids(beam(4, vec![])), [[0, 0], [0, 1], [0, 2], [1, 0]]);
        // The mean is the same for each: the shorter one was found first.
        assert_eq!(ids(beam(2, vec![1])), [vec![1], vec![0, 0]]);
    }
}

#[test]
fn a_beam_of_one_text_is_greedy() {
    for seed in 0..5 {
        let model = model(5, Way::Fused, seed);
        let greedy = Sampling { temperature: 0.0, skip: vec![2], ..Sampling::default() };
        let beam = Beam { width: 1, length: 12, skip: vec![2], ..Beam::default() };
        let found = beam.search(&*model, &[4]).unwrap();
        assert_eq!(found[0].ids, model.generate(&[4], 12, &greedy).unwrap());
    }
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let model = model(4, Way::Fused, 0);
    let says = |beam: Beam, prompt: &[u32], want: &str| {
        let error = beam.search(&*model, prompt).unwrap_err().to_string();
        assert!(error.contains(want), "{error:?} does not say {want:?}");
    };
    let good = Beam::default;
    says(good(), &[], "Beam: prompt: expected at least one id to begin with, got none");
    says(good(), &[4], "Beam: prompt: expected ids below 4");
    says(Beam { width: 0, ..good() }, &[0], "Beam: width: expected at least 1, got 0");
    says(Beam { length: 0, ..good() }, &[0], "Beam: length: expected at least 1, got 0");
    for penalty in [-0.1, f64::NAN, f64::INFINITY] {
        let want = format!("Beam: penalty: expected a number of at least 0 (0 is none), got {penalty}");
        says(Beam { penalty, ..good() }, &[0], &want);
    }
    says(Beam { ends: vec![4], ..good() }, &[0], "Beam: ends: expected ids below 4");
    says(Beam { skip: vec![4], ..good() }, &[0], "Beam: skip: expected ids below 4");
    let want = format!("Beam: width: expected at most {} for 4 ids, got {}", 1 << 24, usize::MAX);
    says(Beam { width: usize::MAX, ..good() }, &[0], &want);
    says(Beam { skip: (0..4).collect(), ..good() }, &[0], "Beam: texts: expected one that can be written");
    // As many as there are need no more rows than there are texts.
    let all = Beam { width: usize::MAX, length: 2, ..good() }.search(&*model, &[0]).unwrap();
    assert_eq!(all.len(), 16);
    let (_, bias) = model.parameters().pop().unwrap();
    bias.set(&(bias.as_tensor() * f64::NAN).unwrap().detach()).unwrap();
    says(good(), &[0], "Beam: logits: expected numbers, got NaN");
}

#[test]
fn a_beam_of_any_width_ends_soon() {
    let (model, begun) = (model(60, Way::Fused, 5), std::time::Instant::now());
    let search = |width| {
        let beam = Beam { width, length: 3, ends: vec![7], ..Beam::default() };
        beam.search(model.as_ref(), &[1]).unwrap()
    };
    let all = search(99_999_999);
    assert_eq!(all.len(), 1 + 59 + 59 * 59 * 60);
    assert!(all.is_sorted_by(|a, b| a.score >= b.score));
    // Wide enough for all texts that are followed: the best of the same.
    assert!(search(4000) == all[..4000]);
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}
