//! The most probable word: the one with the largest logit.

use crate::layers::{largest, whole_rows};
use crate::{Error, Result};
use rnn_core::kernels::dispatch::{Instructions, Task, cpu, run};
use rnn_core::kernels::{Real, team};

/// The id of the largest logit in each row of `logits [N, V]`, of equal ones the first.
///
/// ```
/// let logits = [0.5f32, 2.0, -1.0, 3.0, 3.0, 0.0];
/// assert_eq!(rnn_lm::generate::most_probable(&logits, 3)?, [1, 0]);
/// # rnn_lm::Result::Ok(())
/// ```
///
/// # Errors
/// Where `logits` are not whole rows, or a row has no largest: a NaN is neither larger nor smaller than anything.
pub fn most_probable<T: Real>(logits: &[T], vocabulary: usize) -> Result<Vec<u32>> {
    /// Numbers that are worth another thread.
    const WORTH: usize = 1 << 12;
    let rows = whole_rows("most_probable: logits", logits, vocabulary)?;
    // Those who made the logits look at them: each has its columns in its own cache.
    let cuts = team::size().min(logits.len() / WORTH).div_ceil(rows.max(1)).max(1);
    let size = vocabulary.div_ceil(cuts);
    let pieces = logits.chunks_exact(vocabulary).flat_map(|row| row.chunks(size));
    let mut pieces: Vec<_> = pieces.map(|logits| Piece { logits, most: None }).collect();
    let cpu = cpu();
    team::pieces(&mut pieces, 1, &|_, pieces| pieces.iter_mut().for_each(|piece| run(cpu, piece)));
    pieces
        .chunks(vocabulary.div_ceil(size))
        .enumerate()
        .map(|(row, pieces)| first(row, pieces, size))
        .collect()
}

/// The first of the largest of a row's pieces.
fn first<T: Real>(row: usize, pieces: &[Piece<'_, T>], size: usize) -> Result<u32> {
    let mut best: Option<(T, usize)> = None;
    for (i, piece) in pieces.iter().enumerate() {
        let Some((most, place)) = piece.most else {
            return Err(Error::invalid("most_probable: logits", "numbers", format!("a NaN in row {row}"))
                .hint("the model's weights are no numbers any more; was its learning rate too high?"));
        };
        if best.is_none_or(|(best, _)| most > best) {
            best = Some((most, i * size + place));
        }
    }
    Ok(best.map_or(0, |(_, place)| place as u32))
}

/// Some of a row's logits.
struct Piece<'a, T> {
    logits: &'a [T],
    /// The largest and where it stands first; none where there is a NaN.
    most: Option<(T, usize)>,
}

impl<T: Real> Task for &mut Piece<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        /// Numbers whose largest is found before anyone asks where it stands.
        const BLOCK: usize = 512;
        let (mut most, mut start, mut any_nan) = (self.logits[0], 0, false);
        for (i, block) in self.logits.chunks(BLOCK).enumerate() {
            let largest = largest::<I::Lanes<T>>(block);
            any_nan |= block.iter().fold(false, |any, &logit| any | is_nan(logit));
            if largest > most {
                (most, start) = (largest, i * BLOCK);
            }
        }
        let inside = self.logits[start..].iter().position(|&logit| logit == most);
        self.most = inside.filter(|_| !any_nan).map(|inside| (most, start + inside));
    }
}

/// In vector code too, unlike a comparison that says how two numbers stand.
#[inline(always)]
#[allow(clippy::eq_op)] // A NaN is what does not equal itself.
fn is_nan<T: Real>(x: T) -> bool {
    x != x
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rnn_core::kernels::dispatch::{Cpu, with};

    proptest! {
        #[test]
        fn it_is_where_the_definition_finds_it(logits in prop::collection::vec(-3i8..3, 1..300), rows in 1usize..4) {
            let vocabulary = logits.len().div_ceil(rows);
            let logits: Vec<f32> = logits.iter().cycle().take(rows * vocabulary).map(|&x| x.into()).collect();
            let first = |row: &[f32]| (0..row.len()).find(|&i| row.iter().all(|&x| x <= row[i])).unwrap() as u32;
            let want: Vec<u32> = logits.chunks(vocabulary).map(first).collect();
            for cpu in Cpu::available() {
                prop_assert_eq!(&with(cpu, || most_probable(&logits, vocabulary)).unwrap(), &want);
            }
        }

        #[test]
        fn a_large_row_is_cut_and_has_one_answer(place in 0usize..20_000, later in 0usize..20_000) {
            let mut logits = vec![-1f32; 20_000];
            logits[place] = 2.0;
            logits[later] = 2.0;
            let want = vec![place.min(later) as u32];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            prop_assert_eq!(pool.install(|| most_probable(&logits, 20_000)).unwrap(), want);
        }

        #[test]
        fn a_nan_anywhere_is_an_error_that_names_the_row(at in 0usize..200) {
            let mut logits = [0.5f64; 200];
            logits[at] = f64::NAN;
            let error = most_probable(&logits, 100).unwrap_err().to_string();
            prop_assert!(error.contains(&format!("a NaN in row {}", at / 100)), "{}", error);
        }
    }
}
