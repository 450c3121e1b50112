//! Windows whose lengths are drawn, so that no place in the text is always the first of its window (Merity, Keskar & Socher
//! 2018, section 3.1).

use super::batches::there;
use super::{Batches, Streams, Window};
use crate::Result;
use rnn_core::rng::Stream;
use std::sync::{Arc, Mutex, PoisonError};

/// [`Streams`] cut at other places in each epoch.
///
/// A window's length is normal with deviation 5 about T, or about T/2 once in twenty times, at least 5, and at most twice the
/// greater of T and 5. Its share of the learning rate ([`Window::share`]) is its length over T, so that a T below 5, which no
/// window is as short as, makes rates greater than the one that is set. Every prediction of an epoch is seen once.
///
/// ```
/// use rnn_lm::data::{Batches, Streams, Varied};
/// let ids = vec![0; 2001];
/// let varied = Varied::new(Streams::new(&ids, 2, 70)?, 1);
/// let lengths = varied.epoch(0).map(|window| Ok(window?.time)).collect::<rnn_lm::Result<Vec<_>>>()?;
/// assert_eq!(lengths.iter().sum::<usize>(), 1000);
/// assert!(lengths[..10].iter().any(|&time| time != 70));
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Varied<'a> {
    streams: Streams<'a>,
    seed: u64,
    /// The epoch that was asked for last, and where its windows begin.
    cuts: Mutex<Option<(usize, Arc<[usize]>)>>,
}

impl<'a> Varied<'a> {
    /// Of these streams, whose T is the usual length.
    pub fn new(streams: Streams<'a>, seed: u64) -> Self {
        Self { streams, seed, cuts: Mutex::new(None) }
    }

    /// Where the windows of an epoch begin, and where the last one ends.
    fn cuts(&self, epoch: usize) -> Arc<[usize]> {
        let mut kept = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, cuts)) if *of == epoch => cuts.clone(),
            _ => {
                let cuts: Arc<[usize]> = self.draw(epoch).into();
                *kept = Some((epoch, cuts.clone()));
                cuts
            }
        }
    }

    fn draw(&self, epoch: usize) -> Vec<usize> {
        const FEWEST: f64 = 5.0;
        let mut random = Stream::new(self.seed, "window lengths", epoch as u64);
        let (usual, end) = (self.streams.time() as f64, self.streams.steps());
        let mut cuts = vec![0];
        let mut at = 0;
        while at < end {
            let about = if random.uniform(0.0, 1.0) < 0.95 { usual } else { usual / 2.0 };
            // Truncated, as the paper's code has it.
            let length = (about + 5.0 * random.normal()).max(FEWEST).min(2.0 * usual.max(FEWEST));
            at = end.min(at + length as usize);
            cuts.push(at);
        }
        cuts
    }
}

impl Batches for Varied<'_> {
    fn windows(&self, epoch: usize) -> usize {
        self.cuts(epoch).len() - 1
    }

    fn window(&self, epoch: usize, number: usize) -> Result<Window> {
        there(self, epoch, number)?;
        let cuts = self.cuts(epoch);
        let window = self.streams.cut(cuts[number], cuts[number + 1] - cuts[number])?;
        let share = window.time as f64 / self.streams.time() as f64;
        Ok(Window { share, ..window })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_cut_in_their_own_ways_and_the_same_ones_each_time() {
        let ids: Vec<u32> = (0..4003).collect();
        let varied = || Varied::new(Streams::new(&ids, 3, 40).unwrap(), 7);
        let windows = |of: &Varied<'_>, epoch| of.epoch(epoch).map(Result::unwrap).collect::<Vec<_>>();
        let (a, b) = (varied(), varied());
        let lengths = |windows: &[Window]| windows.iter().map(|window| window.time).collect::<Vec<_>>();
        assert_ne!(lengths(&windows(&a, 0)), lengths(&windows(&a, 1)));
        // Whichever was asked for before.
        assert_eq!(windows(&a, 0), windows(&b, 0));
        assert_eq!(b.window(1, 3).unwrap(), windows(&a, 1)[3]);
    }

    #[test]
    fn lengths_are_what_the_paper_says_and_nothing_is_left_out() {
        let ids: Vec<u32> = (0..400_001).collect();
        let varied = Varied::new(Streams::new(&ids, 1, 70).unwrap(), 1);
        let windows: Vec<_> = varied.epoch(0).map(Result::unwrap).collect();
        let read: Vec<u32> = windows.iter().flat_map(|window| window.ts.iter().copied()).collect();
        assert!(read.iter().copied().eq(1..400_001));
        let half = windows.iter().filter(|window| window.time < 50).count() as f64 / windows.len() as f64;
        assert!((0.03..0.07).contains(&half), "{half}");
        let mean = 400_000.0 / windows.len() as f64;
        assert!((67.0..69.0).contains(&mean), "0.95 x 69.5 + 0.05 x 34.5 = 67.8, got {mean}");
        assert!(windows.iter().all(|window| window.share == window.time as f64 / 70.0));
        assert!(windows[0].first && !windows[1].first);
    }
}
