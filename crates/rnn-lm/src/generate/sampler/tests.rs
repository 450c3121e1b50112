//! What is drawn is held against the definition of each setting, written down once more.

use super::*;
use crate::generate::most_probable;
use proptest::prelude::*;

const LOGITS: [f64; 8] = [1.5, -0.4, 0.0, 2.1, 1.5, -2.0, 0.7, -0.9];

/// The probability of each id, from the definitions: who is kept is asked of each id by itself.
fn reference(logits: &[f64], sampling: &Sampling, seen: &[u32]) -> Vec<f64> {
    let ids = 0..logits.len();
    let logit = |id: usize| match seen.contains(&(id as u32)) {
        true if logits[id] > 0.0 => logits[id] / sampling.repetition,
        true => logits[id] * sampling.repetition,
        false => logits[id],
    };
    let normal = |of: Vec<f64>| -> Vec<f64> {
        let total: f64 = of.iter().sum();
        of.iter().map(|x| x / total).collect()
    };
    let skipped = |id: usize| sampling.skip.contains(&(id as u32));
    let power = |id: usize| if skipped(id) { 0.0 } else { (logit(id) / sampling.temperature).exp() };
    let all = normal(ids.clone().map(power).collect());
    // Those that come before an id: the more probable ones, and of its equals the smaller ones.
    let before = |p: &[f64], id: usize| -> Vec<usize> {
        ids.clone().filter(|&other| p[other] > p[id] || (p[other] == p[id] && other < id)).collect()
    };
    let few = |id: usize| sampling.top_k == 0 || before(&all, id).len() < sampling.top_k;
    let top = normal(ids.clone().map(|id| if few(id) { all[id] } else { 0.0 }).collect());
    let short = |id: usize| before(&top, id).iter().map(|&other| top[other]).sum::<f64>() < sampling.top_p;
    let nucleus = normal(ids.clone().map(|id| if short(id) { top[id] } else { 0.0 }).collect());
    let most = nucleus.iter().copied().fold(0.0, f64::max);
    normal(nucleus.iter().map(|&p| if p >= sampling.min_p * most { p } else { 0.0 }).collect())
}

/// The sum of (observed - expected)^2 / expected, and what it is above once in 10,000 times (Wilson &
/// Hilferty 1931).
fn chi_squared(counts: &[u64], want: &[f64]) -> (f64, f64) {
    let draws = counts.iter().sum::<u64>() as f64;
    let term = |(&count, &p): (&u64, &f64)| (count as f64 - draws * p).powi(2) / (draws * p);
    let terms: Vec<f64> = counts.iter().zip(want).filter(|&(_, &p)| p > 0.0).map(term).collect();
    let freedom = (terms.len() - 1) as f64;
    let spread = 2.0 / (9.0 * freedom);
    (terms.iter().sum(), freedom * (1.0 - spread + 3.719_016 * spread.sqrt()).powi(3))
}

/// A million draws: they fit the reference, and one whose probabilities are off by 1% they do not.
fn fits(sampling: &Sampling, seen: &[u32], kept: usize) {
    let mut sampler = Sampler::new(sampling, LOGITS.len()).unwrap();
    seen.iter().for_each(|&id| sampler.see(id).unwrap());
    let want = reference(&LOGITS, sampling, seen);
    let distribution = sampler.distribution(&LOGITS).unwrap();
    assert_eq!((distribution.len(), want.iter().filter(|&&p| p > 0.0).count()), (kept, kept), "{want:?}");
    assert!(distribution.iter().all(|&(id, p)| (p - want[id as usize]).abs() < 1e-14), "{distribution:?}");
    let mut counts = [0; LOGITS.len()];
    for _ in 0..1_000_000 {
        counts[sampler.draw(&LOGITS).unwrap() as usize] += 1;
    }
    assert!(counts.iter().zip(&want).all(|(&count, &p)| p > 0.0 || count == 0), "{counts:?} of {want:?}");
    let (sum, most) = chi_squared(&counts, &want);
    assert!(sum < most, "{sum} is not below {most}: {counts:?} of {want:?}");
    let mut sign = -0.01;
    let mut off: Vec<f64> = want.clone();
    for p in off.iter_mut().filter(|p| **p > 0.0) {
        sign = -sign;
        *p *= 1.0 + sign;
    }
    let total: f64 = off.iter().sum();
    off.iter_mut().for_each(|p| *p /= total);
    let (sum, most) = chi_squared(&counts, &off);
    assert!(sum > most, "off by 1%, and {sum} is not above {most}");
}

fn plain(seed: u64) -> Sampling {
    Sampling { seed, ..Sampling::default() }
}

#[test]
fn draws_fit_the_softmax() {
    fits(&plain(1), &[3], 8);
}

#[test]
fn draws_fit_a_low_and_a_high_temperature() {
    fits(&Sampling { temperature: 0.6, ..plain(2) }, &[], 8);
    fits(&Sampling { temperature: 3.0, ..plain(3) }, &[], 8);
}

#[test]
fn draws_fit_top_k_where_it_cuts_between_equals_too() {
    fits(&Sampling { top_k: 4, ..plain(4) }, &[], 4);
    // 0 and 4 are equally probable: the smaller one is kept.
    fits(&Sampling { top_k: 2, ..plain(5) }, &[], 2);
}

#[test]
fn draws_fit_top_p() {
    fits(&Sampling { top_p: 0.85, ..plain(6) }, &[], 4);
}

#[test]
fn draws_fit_min_p() {
    fits(&Sampling { min_p: 0.12, ..plain(7) }, &[], 5);
}

#[test]
fn draws_fit_repetition() {
    fits(&Sampling { repetition: 1.3, ..plain(8) }, &[3, 5, 2], 8);
}

#[test]
fn draws_fit_skip() {
    fits(&Sampling { skip: vec![3, 1, 3], ..plain(9) }, &[], 6);
}

#[test]
fn draws_fit_everything_together() {
    let skip = vec![0];
    let all =
        Sampling { temperature: 1.4, top_k: 6, top_p: 0.95, min_p: 0.1, repetition: 1.2, skip, seed: 10 };
    fits(&all, &[3, 7], 5);
}

proptest! {
    #[test]
    fn the_distribution_is_the_definitions(
        logits in prop::collection::vec(-3f64..3.0, 2..40), temperature in 0.3f64..3.0, top_k in 0usize..12,
        top_p in 0.1f64..1.0, min_p in 0f64..0.5, repetition in 0.8f64..1.5, seen in prop::collection::vec(0u32..40, 0..9),
    ) {
        let seen: Vec<u32> = seen.into_iter().filter(|&id| (id as usize) < logits.len()).collect();
        let skip = vec![0];
        let sampling = Sampling { temperature, top_k, top_p, min_p, repetition, skip, seed: 0 };
        let mut sampler = Sampler::new(&sampling, logits.len()).unwrap();
        seen.iter().for_each(|&id| sampler.see(id).unwrap());
        let want = reference(&logits, &sampling, &seen);
        let got = sampler.distribution(&logits).unwrap();
        prop_assert_eq!(got.len(), want.iter().filter(|&&p| p > 0.0).count());
        for (id, p) in got {
            prop_assert!((p - want[id as usize]).abs() < 1e-12);
        }
    }

    #[test]
    fn a_temperature_of_0_draws_the_most_probable_one(logits in prop::collection::vec(-3i8..3, 1..50), seed: u64) {
        let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
        let mut sampler = Sampler::new(&Sampling { temperature: 0.0, ..plain(seed) }, logits.len()).unwrap();
        let most = most_probable(&logits, logits.len()).unwrap()[0];
        prop_assert_eq!(sampler.distribution(&logits).unwrap(), [(most, 1.0)]);
        prop_assert_eq!(sampler.draw(&logits).unwrap(), most);
    }
}

#[test]
fn a_temperature_of_0_heeds_what_is_skipped_and_what_was_seen() {
    let sampling = Sampling { temperature: 0.0, skip: vec![3], repetition: 1.2, ..plain(0) };
    let mut sampler = Sampler::new(&sampling, 8).unwrap();
    for want in [0, 4, 0] {
        let id = sampler.draw(&LOGITS).unwrap();
        assert_eq!(id, want);
        sampler.see(id).unwrap();
    }
}

#[test]
fn what_cannot_be_drawn_from_is_refused() {
    let fails = |skip: Vec<u32>, logits: &[f64], temperature: f64| {
        let mut sampler = Sampler::new(&Sampling { skip, temperature, ..plain(0) }, 3).unwrap();
        let error = sampler.draw(logits).unwrap_err().to_string();
        assert_eq!(error, sampler.distribution(logits).unwrap_err().to_string());
        error
    };
    for temperature in [0.0, 1.0] {
        let nan = fails(vec![], &[1.0, f64::NAN, 0.0], temperature);
        assert!(nan.contains("generate: probabilities: expected a finite largest logit, got NaN"), "{nan}");
        let none = fails(vec![0, 1, 2], &[0.0; 3], temperature);
        assert!(none.contains("got -inf (are all ids skipped"), "{none}");
        let short = fails(vec![], &[0.0; 2], temperature);
        assert_eq!(short, "generate: logits: expected 3, one for each id, got 2");
    }
    let mut sampler = Sampler::new(&plain(0), 3).unwrap();
    assert!(sampler.see(3).unwrap_err().to_string().contains("generate: id: expected ids below 3"));
    assert!(Sampler::new(&Sampling { top_p: 2.0, ..plain(0) }, 3).is_err());
}
