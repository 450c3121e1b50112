//! The most probable word: the one with the largest logit.

use crate::layers::{largest, whole_rows};
use crate::{Error, Result};
use rnn_core::kernels::Real;
use rnn_core::kernels::dispatch::{Instructions, Task, cpu, run};

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
    let rows = whole_rows("most_probable: logits", logits, vocabulary)?;
    let mut places = vec![None; rows];
    let cpu = cpu();
    for (row, place) in logits.chunks_exact(vocabulary).zip(&mut places) {
        run(cpu, Row { logits: row, place });
    }
    let found = |(row, place): (usize, Option<usize>)| match place {
        Some(place) => Ok(place as u32),
        None => Err(Error::invalid("most_probable: logits", "numbers", format!("a NaN in row {row}"))
            .hint("the model's weights are no numbers any more; was its learning rate too high?")),
    };
    places.into_iter().enumerate().map(found).collect()
}

/// One row.
struct Row<'a, T> {
    logits: &'a [T],
    place: &'a mut Option<usize>,
}

impl<T: Real> Task for Row<'_, T> {
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
        *self.place = inside.filter(|_| !any_nan).map(|inside| start + inside);
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
        fn a_nan_anywhere_is_an_error_that_names_the_row(at in 0usize..200) {
            let mut logits = [0.5f64; 200];
            logits[at] = f64::NAN;
            let error = most_probable(&logits, 100).unwrap_err().to_string();
            prop_assert!(error.contains(&format!("a NaN in row {}", at / 100)), "{}", error);
        }
    }
}
