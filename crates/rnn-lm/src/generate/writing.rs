//! A text as it is made, id by id.

use super::{Sampler, Sampling, last_of, widen};
use crate::Result;
use crate::model::{LanguageModel, LmStream};

/// The ids that a model writes after a prompt, drawn one by one and without an end: a program prints each as
/// it comes, and takes as many as it likes. Its buffers are made once.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::{GruCell, Way};
/// use rnn_lm::generate::{Sampling, Writing};
/// use rnn_lm::model::{LanguageModel, LmSpec, Rnnlm};
/// let model = Rnnlm::<GruCell>::new(&LmSpec::new(9, 4, 4), Way::Fused, (DType::F32, &Device::Cpu), 0)?;
/// let sampling = Sampling { top_k: 5, ..Sampling::default() };
/// let mut text = Vec::new();
/// for id in Writing::new(&model, &[1, 2], &sampling)?.take(6) {
///     text.push(id?);
/// }
/// assert_eq!(text, model.generate(&[1, 2], 6, &sampling)?);
/// # rnn_lm::Result::Ok(())
/// ```
pub struct Writing<'a> {
    stream: Box<dyn LmStream + 'a>,
    sampler: Sampler,
    /// What the model reads next.
    last: u32,
    logits: Vec<f64>,
    failed: bool,
}

impl<'a> Writing<'a> {
    /// Reads all of the prompt but its last id.
    ///
    /// A model has met a state of zeros only where an epoch began, so a prompt of a few words is read best behind the end of a
    /// line: [`Tokenizer::behind_a_line`](crate::tokenizer::Tokenizer::behind_a_line) of
    /// [`encode_part`](crate::tokenizer::Tokenizer::encode_part), as `rnn-lm generate` has it.
    ///
    /// # Errors
    /// Where the prompt is empty, an id is outside the vocabulary, or a setting is not what
    /// [`Sampling::check`] expects.
    pub fn new(model: &'a dyn LanguageModel, prompt: &[u32], sampling: &Sampling) -> Result<Self> {
        let vocabulary = model.vocabulary();
        let mut sampler = Sampler::new(sampling, vocabulary)?;
        let (last, before) = last_of("generate: prompt", prompt, vocabulary)?;
        let mut stream = model.stream(1)?;
        for &id in before {
            stream.step(&[id])?;
            sampler.see(id)?;
        }
        sampler.see(last)?;
        Ok(Self { stream, sampler, last, logits: Vec::with_capacity(vocabulary), failed: false })
    }

    fn draw(&mut self) -> Result<u32> {
        widen(self.stream.step(&[self.last])?, &mut self.logits);
        self.last = self.sampler.draw(&self.logits)?;
        self.sampler.see(self.last)?;
        Ok(self.last)
    }
}

impl Iterator for Writing<'_> {
    type Item = Result<u32>;

    /// The next id; nothing more after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let drawn = self.draw();
        self.failed = drawn.is_err();
        Some(drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::most_probable;
    use crate::model::{CellKind, LmSpec, build};
    use candle_core::{DType, Device};
    use rnn_core::Way;
    use rnn_core::kernels::Typed;
    use rnn_core::rng::Stream;

    fn model(way: Way, dtype: DType) -> Box<dyn LanguageModel> {
        build(CellKind::Lstm, &LmSpec::new(11, 6, 8), way, (dtype, &Device::Cpu), 5).unwrap()
    }

    /// How the first version drew, which knew a temperature and ids to skip and nothing else.
    fn first_version(
        model: &dyn LanguageModel,
        prompt: &[u32],
        count: usize,
        sampling: &Sampling,
    ) -> Vec<u32> {
        let mut random = Stream::new(sampling.seed, "generate", 0);
        let (mut stream, mut text) = (model.stream(1).unwrap(), prompt.to_vec());
        for at in 0..prompt.len() + count - 1 {
            let logits: Vec<f64> = match stream.step(&[text[at]]).unwrap() {
                Typed::F32(numbers) => numbers.iter().map(|&logit| f64::from(logit)).collect(),
                Typed::F64(numbers) => numbers.to_vec(),
            };
            if at + 1 < prompt.len() {
                continue;
            }
            let ids = (0..logits.len()).filter(|&id| !sampling.skip.contains(&(id as u32)));
            let largest = ids.clone().map(|id| logits[id]).fold(f64::NEG_INFINITY, f64::max);
            let weight = |id: usize| ((logits[id] - largest) / sampling.temperature).exp();
            let mut rest = random.uniform(0.0, ids.clone().map(weight).sum());
            let reaches = |id: &usize| {
                rest -= weight(*id);
                rest < 0.0
            };
            text.push(ids.clone().find(reaches).or(ids.clone().next_back()).unwrap() as u32);
        }
        text.split_off(prompt.len())
    }

    #[test]
    fn texts_are_those_that_the_first_version_wrote() {
        for (way, dtype) in [(Way::Fused, DType::F32), (Way::Fused, DType::F64), (Way::Manual, DType::F32)] {
            let model = model(way, dtype);
            for seed in 0..4 {
                for temperature in [0.5, 1.0, 1.7] {
                    let skip = vec![0, seed as u32];
                    let sampling = Sampling { temperature, skip, seed, ..Sampling::default() };
                    let want = first_version(&*model, &[3, 1, 4], 40, &sampling);
                    assert_eq!(model.generate(&[3, 1, 4], 40, &sampling).unwrap(), want, "{sampling:?}");
                }
            }
        }
    }

    #[test]
    fn the_same_seed_writes_the_same_and_another_something_else() {
        let model = model(Way::Fused, DType::F32);
        let text = |seed, top_p| {
            let sampling = Sampling { seed, top_p, repetition: 1.1, ..Sampling::default() };
            model.generate(&[2], 50, &sampling).unwrap()
        };
        for top_p in [0.7, 1.0] {
            assert_eq!(text(1, top_p), text(1, top_p));
            assert_ne!(text(1, top_p), text(2, top_p));
        }
    }

    #[test]
    fn a_temperature_of_0_writes_the_most_probable_id_each_time() {
        let model = model(Way::Fused, DType::F32);
        let text = model.generate(&[2], 30, &Sampling { temperature: 0.0, ..Sampling::default() }).unwrap();
        let (mut stream, mut last) = (model.stream(1).unwrap(), 2);
        for id in text {
            let Typed::F32(logits) = stream.step(&[last]).unwrap() else { panic!("not f32") };
            last = most_probable(logits, 11).unwrap()[0];
            assert_eq!(id, last);
        }
    }

    #[test]
    fn all_that_came_before_is_a_repetition() {
        let model = model(Way::Fused, DType::F64);
        let sampling = Sampling { temperature: 0.0, repetition: 1.5, ..Sampling::default() };
        let mut text = vec![7, 3];
        text.extend(model.generate(&text, 9, &sampling).unwrap());
        let mut stream = model.stream(1).unwrap();
        for at in 1..text.len() {
            let Typed::F64(logits) = stream.step(&[text[at - 1]]).unwrap() else { panic!("not f64") };
            let held_against = |(id, &logit): (u32, &f64)| match text[..at].contains(&id) {
                true if logit > 0.0 => logit / 1.5,
                true => logit * 1.5,
                false => logit,
            };
            let logits: Vec<f64> = (0..).zip(logits).map(held_against).collect();
            assert!(at < 2 || text[at] == most_probable(&logits, 11).unwrap()[0], "{at} of {text:?}");
        }
        assert_ne!(text[2..], model.generate(&[7, 3], 9, &Sampling { repetition: 1.0, ..sampling }).unwrap());
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused_and_an_error_ends_the_text() {
        let model = model(Way::Fused, DType::F32);
        let refused = |prompt: &[u32], sampling: &Sampling| {
            Writing::new(&*model, prompt, sampling).map(drop).unwrap_err().to_string()
        };
        let plain = Sampling::default();
        assert_eq!(
            refused(&[], &plain),
            "generate: prompt: expected at least one id to begin with, got none"
        );
        assert!(refused(&[0, 11], &plain).contains("generate: prompt: expected ids below 11"));
        let negative = Sampling { temperature: -1.0, ..Sampling::default() };
        assert!(refused(&[0], &negative).contains("generate: temperature"));
        let nothing = Sampling { skip: (0..11).collect(), ..Sampling::default() };
        let mut writing = Writing::new(&*model, &[0], &nothing).unwrap();
        assert!(writing.next().unwrap().unwrap_err().to_string().contains("all ids skipped"));
        assert!(writing.next().is_none());
    }
}
