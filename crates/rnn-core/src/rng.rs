//! Random numbers that depend on nothing but a seed, a purpose and a step.
//!
//! A [`Stream`] is ChaCha8 keyed by (seed, purpose) with the step as its stream number, so that drawing for one
//! purpose never moves another, and step 1,000 can be drawn without the 999 before it. Same numbers on every machine, but for
//! the last digit of normal ones: they pass through the platform's logarithm and sine.

use crate::kernels::team;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A stream of random numbers.
///
/// ```
/// use rnn_core::rng::Stream;
/// let (mut a, mut b) = (Stream::new(7, "sampling", 0), Stream::new(7, "sampling", 0));
/// assert_eq!(a.uniform(0.0, 1.0), b.uniform(0.0, 1.0));
/// assert_ne!(Stream::new(7, "sampling", 1).uniform(0.0, 1.0), Stream::new(7, "init", 1).uniform(0.0, 1.0));
/// ```
#[derive(Debug, Clone)]
pub struct Stream {
    bits: ChaCha8Rng,
    /// Box and Muller's method gives normal numbers in pairs; the second one waits here.
    spare: Option<f64>,
}

impl Stream {
    /// The stream of `seed` for `purpose` at `step`.
    pub fn new(seed: u64, purpose: &str, step: u64) -> Self {
        let mut key = [0u8; 32];
        let words = [seed, fnv1a(purpose, 0), fnv1a(purpose, 1), purpose.len() as u64];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let mut bits = ChaCha8Rng::from_seed(key);
        bits.set_stream(step);
        Self { bits, spare: None }
    }

    /// A number of [`lo`, `hi`), in steps of 2^-53 of the range.
    pub fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        let number = lo + (hi - lo) * self.unit();
        // Rounding may lead up to the end itself.
        if number < hi || lo >= hi { number } else { hi.next_down() }
    }

    /// A number of the standard normal distribution.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // 1 - u lies in (0, 1]: the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.unit()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// 53 random bits as a number of [0, 1).
    fn unit(&mut self) -> f64 {
        (self.bits.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// `count` numbers that are `one` with this probability and else zero: 32 random bits each. At most 0 is never, at least 1
/// always.
///
/// ```
/// use rnn_core::rng::{Stream, bernoulli};
/// let ones = bernoulli(&mut Stream::new(0, "mask", 0), 10_000, 0.25, 1.0).into_iter().sum::<f64>();
/// assert!((ones / 10_000.0 - 0.25).abs() < 0.02);
/// ```
pub fn bernoulli<T>(stream: &mut Stream, count: usize, probability: f64, one: T) -> Vec<T>
where
    T: Copy + Default + Send + Sync,
{
    /// Numbers that a member of the team draws at a time, and whose bits it has at hand.
    const BLOCK: usize = 1 << 14;
    const AT_HAND: usize = 256;
    // Known to 2^-32; 1 and above never fails.
    let below = (probability * 2f64.powi(32)) as u64;
    let (bits, first) = (&stream.bits, stream.bits.get_word_pos());
    // Looked up and not branched to: no processor foresees which it will be.
    let either = [T::default(), one];
    let mut drawn = vec![T::default(); count];
    team::pieces(&mut drawn, BLOCK, &|i, drawn| {
        // Each block begins where the one before it ends, whoever draws that.
        let mut bits = bits.clone();
        bits.set_word_pos(first + (i * BLOCK) as u128);
        let mut words = [[0u8; 4]; AT_HAND];
        for drawn in drawn.chunks_mut(AT_HAND) {
            let words = &mut words[..drawn.len()];
            bits.fill_bytes(words.as_flattened_mut());
            for (drawn, word) in drawn.iter_mut().zip(words) {
                *drawn = either[usize::from(u64::from(u32::from_le_bytes(*word)) < below)];
            }
        }
    });
    stream.bits.set_word_pos(first + count as u128);
    drawn
}

/// The 64-bit FNV-1a hash of a text, `variant` mixed in first: two variants give two words of the key.
fn fnv1a(text: &str, variant: u8) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in std::iter::once(variant).chain(text.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_gives_the_same_numbers_and_any_other_key_does_not() {
        let draw = |seed, purpose, step| Stream::new(seed, purpose, step).uniform(0.0, 1.0);
        assert_eq!(draw(1, "a", 0), draw(1, "a", 0));
        let all = [draw(1, "a", 0), draw(2, "a", 0), draw(1, "b", 0), draw(1, "a", 1), draw(1, "aa", 0)];
        for (i, x) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|y| x != y), "streams {all:?} are not distinct");
        }
    }

    #[test]
    fn no_number_is_the_end_of_its_range_however_narrow_that_is() {
        let (lo, hi) = (1.0, 1.0f64.next_up());
        let mut stream = Stream::new(1, "narrow", 0);
        assert!((0..100).all(|_| stream.uniform(lo, hi) == lo));
        assert_eq!(stream.uniform(hi, hi), hi);
    }

    #[test]
    fn masks_are_drawn_as_one_number_after_the_other_would_be() {
        let mut one_by_one = Stream::new(5, "mask", 2);
        let (mut at_once, count) = (one_by_one.clone(), 40_000);
        let half = 1u32 << 31;
        let want: Vec<f32> =
            (0..count).map(|_| if one_by_one.bits.next_u32() < half { 2.0 } else { 0.0 }).collect();
        assert_eq!(bernoulli(&mut at_once, count, 0.5, 2.0), want);
        assert_eq!(at_once.uniform(0.0, 1.0), one_by_one.uniform(0.0, 1.0));
    }

    #[test]
    fn the_numbers_never_change_between_versions() {
        // Recorded once: a change here would change every model trained from a seed.
        let mut stream = Stream::new(42, "golden", 3);
        let drawn = [stream.uniform(0.0, 1.0), stream.normal(), stream.normal()];
        assert_eq!(drawn, GOLDEN);
    }

    const GOLDEN: [f64; 3] = [0.225_034_755_522_904_2, 0.255_400_632_886_810_75, 0.953_213_462_511_122_6];

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_distribution() {
        let mut stream = Stream::new(0, "moments", 0);
        let n = 100_000;
        let drawn: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let moment = |k: i32| drawn.iter().map(|x| x.powi(k)).sum::<f64>() / f64::from(n);
        // Five standard errors of each moment's estimate.
        assert!(moment(1).abs() < 0.016, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.023, "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.16, "fourth moment {}", moment(4));
    }
}
