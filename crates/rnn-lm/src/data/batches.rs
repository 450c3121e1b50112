//! From a row of ids to windows of truncated backpropagation through time, in two orders.
//!
//! [`Streams`] sees every prediction of an epoch once; [`BookBatches`] is the book's rule (chapter 5) to the letter.
//! Neither shuffles: the state that a model carries from window to window makes sense only in the text's order.

use super::Source;
use crate::error::{Error, Result};

/// The target that counts for nothing: no loss, no gradient.
pub const IGNORE: u32 = u32::MAX;

/// What a model sees in one training step: `batch` rows of `time` ids, and for each the id that follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Inputs `[batch, time]`, row by row; 0 where the target is [`IGNORE`].
    pub xs: Vec<u32>,
    /// Targets `[batch, time]`, row by row; [`IGNORE`] past the end of a row's text.
    pub ts: Vec<u32>,
    /// Rows, N.
    pub batch: usize,
    /// Steps, T.
    pub time: usize,
    /// Whether the state must be zero: the rows do not continue those of the window before.
    pub first: bool,
    /// How many targets are not [`IGNORE`]: the window's weight in means, of losses and of gradients.
    pub targets: usize,
    /// The factor on the learning rate for this window: T over the usual T where lengths vary ([`super::Varied`]),
    /// else 1.
    pub share: f64,
}

impl Window {
    /// `ids [N, T]` and for each the id that follows it, row by row, for a model that is fed by hand; `first` where its state
    /// must be zero.
    ///
    /// ```
    /// use rnn_lm::data::{IGNORE, Window};
    /// // The second row has one prediction.
    /// let window = Window::new(vec![1, 2, 5, 0], vec![2, 3, 6, IGNORE], (2, 2), true)?;
    /// assert_eq!((window.targets, window.lengths()), (3, Some(vec![2, 1])));
    /// assert!(Window::new(vec![1, 2, 5], vec![2, 3, 6], (2, 2), true).is_err());
    /// # Ok::<(), rnn_lm::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where there are not N x T of both.
    pub fn new(xs: Vec<u32>, ts: Vec<u32>, (batch, time): (usize, usize), first: bool) -> Result<Self> {
        let want = batch.checked_mul(time);
        for (name, ids) in [("ids", &xs), ("targets", &ts)] {
            if want != Some(ids.len()) {
                let want = format!("{batch} x {time}, one a step of each row");
                return Err(Error::invalid(format!("Window: {name}"), want, ids.len()));
            }
        }
        let targets = ts.iter().filter(|&&target| target != IGNORE).count();
        Ok(Self { xs, ts, batch, time, first, targets, share: 1.0 })
    }

    /// Steps of each row up to its last target; nothing where every row has all T.
    ///
    /// ```
    /// use rnn_lm::data::{Batches, Streams};
    /// let streams = Streams::new(&[10, 11, 12, 13, 14, 15, 16, 17], 2, 3)?; // rows of 4 and 3 predictions
    /// assert_eq!(streams.window(0, 0)?.lengths(), None);
    /// assert_eq!(streams.window(0, 1)?.lengths(), Some(vec![1, 0]));
    /// # Ok::<(), rnn_lm::Error>(())
    /// ```
    pub fn lengths(&self) -> Option<Vec<usize>> {
        lengths(&self.ts, self.time)
    }
}

/// The same of targets `[N, T]`, row by row.
pub(crate) fn lengths(ts: &[u32], time: usize) -> Option<Vec<usize>> {
    let length = |row: &[u32]| row.iter().rposition(|&target| target != IGNORE).map_or(0, |last| last + 1);
    let lengths: Vec<usize> = ts.chunks(time.max(1)).map(length).collect();
    lengths.iter().any(|&length| length < time).then_some(lengths)
}

/// Windows by number, epoch after epoch; so a training that knows where it is can go on anywhere.
pub trait Batches {
    /// The windows of an epoch; epochs are counted from 0.
    fn windows(&self, epoch: usize) -> usize;

    /// Window `number` of an epoch, counted from 0.
    ///
    /// # Errors
    /// Where the ids cannot be read (of a row in memory they can), or the epoch has no such window.
    fn window(&self, epoch: usize, number: usize) -> Result<Window>;

    /// All windows of an epoch.
    fn epoch(&self, epoch: usize) -> impl Iterator<Item = Result<Window>>
    where
        Self: Sized,
    {
        (0..self.windows(epoch)).map(move |number| self.window(epoch, number))
    }

    /// Epoch after epoch, without an end.
    fn endless(&self) -> impl Iterator<Item = Result<Window>>
    where
        Self: Sized,
    {
        (0..).flat_map(|epoch| self.epoch(epoch))
    }
}

/// A corpus of L ids, cut into N streams that are read side by side, T steps at a time.
///
/// The L - 1 predictions `(ids[i], ids[i + 1])` are dealt out in order: each stream gets a run of them, the runs
/// differ in length by one at most, and none is left out. Row n of a window continues row n of the window before;
/// each epoch begins at the start, with a zero state. The last window of an epoch is as short as what is left, and
/// where N does not divide L - 1 the later rows of its last step are padding.
///
/// ```
/// use rnn_lm::data::{Batches, IGNORE, Streams};
///
/// let streams = Streams::new(&[10, 11, 12, 13, 14, 15, 16, 17], 2, 3)?; // 7 predictions: rows of 4 and 3
/// let windows = streams.epoch(0).collect::<rnn_lm::Result<Vec<_>>>()?;
/// assert_eq!(windows.len(), 2);
/// assert_eq!(windows[0].xs, [10, 11, 12, /* row 1 */ 14, 15, 16]);
/// assert_eq!(windows[0].ts, [11, 12, 13, /* row 1 */ 15, 16, 17]);
/// assert_eq!(windows[1].xs, [13, /* row 1 */ 0]);
/// assert_eq!(windows[1].ts, [14, /* row 1 */ IGNORE]);
/// # Ok::<(), rnn_lm::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Streams<'a> {
    ids: Source<'a>,
    batch: usize,
    time: usize,
}

impl<'a> Streams<'a> {
    /// Cuts `ids` into `batch` streams and these into windows of `time` steps.
    ///
    /// # Errors
    /// A `batch` or `time` of 0, fewer predictions than one window holds, or an id that means [`IGNORE`].
    pub fn new(ids: impl Into<Source<'a>>, batch: usize, time: usize) -> Result<Self> {
        let ids = ids.into();
        check("Streams::new", ids, batch, time)?;
        Ok(Self { ids, batch, time })
    }

    /// The predictions of one epoch, L - 1: the sum of [`Window::targets`].
    pub fn predictions(&self) -> usize {
        self.ids.len() - 1
    }

    /// The predictions of stream `row`: from which one on, and how many.
    fn run(&self, row: usize) -> (usize, usize) {
        let (even, rest) = (self.predictions() / self.batch, self.predictions() % self.batch);
        (row * even + row.min(rest), even + usize::from(row < rest))
    }

    /// T, the steps of a window.
    pub(super) fn time(&self) -> usize {
        self.time
    }

    /// The length of the longest stream, which is the first.
    pub(super) fn steps(&self) -> usize {
        self.predictions().div_ceil(self.batch)
    }

    /// What all streams have from step `begin` on, as far as `time` steps and the streams go.
    pub(super) fn cut(&self, begin: usize, time: usize) -> Result<Window> {
        let time = time.min(self.steps() - begin);
        let mut window = Window::empty(self.batch, time, begin == 0);
        let mut ids = vec![0; time + 1];
        for row in 0..self.batch {
            let (offset, length) = self.run(row);
            let there = time.min(length - begin.min(length));
            self.ids.copy(offset + begin, &mut ids[..there + usize::from(there > 0)])?;
            for step in 0..time {
                window.push((step < there).then(|| (ids[step], ids[step + 1])));
            }
        }
        Ok(window)
    }
}

impl Batches for Streams<'_> {
    fn windows(&self, _: usize) -> usize {
        self.steps().div_ceil(self.time)
    }

    fn window(&self, epoch: usize, number: usize) -> Result<Window> {
        there(self, epoch, number)?;
        self.cut(number * self.time, self.time)
    }
}

/// The book's batches: N readers at equal distances on a ring of L - 1 predictions.
///
/// Reader n starts at `n * ((L - 1) / N)` and goes on for ever, past the end to the beginning; an epoch is
/// `(L - 1) / (N * T)` windows, and neither the readers nor the state go back when it is over. So an epoch leaves
/// some predictions out, the next one begins where it stopped, and only the very first window has a zero state.
///
/// ```
/// use rnn_lm::data::{Batches, BookBatches};
///
/// let ids: Vec<u32> = (0..1000).collect();
/// let batches = BookBatches::new(&ids, 10, 5)?;
/// assert_eq!(batches.windows(0), 19);
/// assert_eq!(batches.window(1, 0)?.xs[..5], [95, 96, 97, 98, 99]);
/// # Ok::<(), rnn_lm::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BookBatches<'a> {
    ids: Source<'a>,
    batch: usize,
    time: usize,
}

impl<'a> BookBatches<'a> {
    /// Places `batch` readers of `time` steps each on `ids`.
    ///
    /// # Errors
    /// A `batch` or `time` of 0, fewer predictions than one window holds, or an id that means [`IGNORE`].
    pub fn new(ids: impl Into<Source<'a>>, batch: usize, time: usize) -> Result<Self> {
        let ids = ids.into();
        check("BookBatches::new", ids, batch, time)?;
        Ok(Self { ids, batch, time })
    }
}

impl Batches for BookBatches<'_> {
    fn windows(&self, _: usize) -> usize {
        (self.ids.len() - 1) / (self.batch * self.time)
    }

    fn window(&self, epoch: usize, number: usize) -> Result<Window> {
        there(self, epoch, number)?;
        let data_size = self.ids.len() - 1;
        let jump = data_size / self.batch;
        // The remainders first: they change nothing on a ring and keep the products small.
        let iteration = (epoch % data_size * self.windows(epoch) + number) % data_size;
        let time_idx = iteration * self.time;
        let mut window = Window::empty(self.batch, self.time, epoch == 0 && number == 0);
        let mut pair = [0; 2];
        for row in 0..self.batch {
            for step in 0..self.time {
                let at = (row * jump + time_idx + step) % data_size;
                self.ids.copy(at, &mut pair)?;
                window.push(Some((pair[0], pair[1])));
            }
        }
        Ok(window)
    }
}

impl Window {
    fn empty(batch: usize, time: usize, first: bool) -> Self {
        let room = || Vec::with_capacity(batch * time);
        Self { xs: room(), ts: room(), batch, time, first, targets: 0, share: 1.0 }
    }

    fn push(&mut self, prediction: Option<(u32, u32)>) {
        self.targets += usize::from(prediction.is_some());
        let (x, t) = prediction.unwrap_or((0, IGNORE));
        self.xs.push(x);
        self.ts.push(t);
    }
}

/// Whether an epoch has the window.
pub(super) fn there(batches: &impl Batches, epoch: usize, number: usize) -> Result<()> {
    let count = batches.windows(epoch);
    match number < count {
        true => Ok(()),
        false => Err(Error::invalid("window of an epoch", format!("one of {count}, from 0 on"), number)),
    }
}

/// What both orders ask of their arguments.
fn check(op: &str, ids: Source<'_>, batch: usize, time: usize) -> Result<()> {
    for (name, value) in [("batch", batch), ("time", time)] {
        if value == 0 {
            return Err(Error::invalid(format!("{op}: {name}"), "at least 1", 0));
        }
    }
    let needed = batch.checked_mul(time).and_then(|predictions| predictions.checked_add(1));
    if needed.is_none_or(|needed| ids.len() < needed) {
        let count = needed.map_or("more than the address space".to_owned(), |needed| needed.to_string());
        return Err(Error::invalid(
            format!("{op}: ids"),
            format!("at least batch x time + 1 = {batch} x {time} + 1 = {count} ids"),
            ids.len(),
        )
        .hint("lower batch or time, or take a longer text"));
    }
    ids.check(op)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What each row predicts over an epoch, in order, padding left out.
    fn rows(windows: &[Window]) -> Vec<Vec<(u32, u32)>> {
        let mut rows = vec![Vec::new(); windows[0].batch];
        for window in windows {
            for (row, (xs, ts)) in
                rows.iter_mut().zip(window.xs.chunks(window.time).zip(window.ts.chunks(window.time)))
            {
                let pairs = xs.iter().copied().zip(ts.iter().copied());
                row.extend(pairs.filter(|&(_, target)| target != IGNORE));
            }
        }
        rows
    }

    proptest! {
        #[test]
        fn streams_see_every_prediction_once_and_in_order(
            batch in 1usize..9, time in 1usize..9, extra in 0usize..60, epoch in 0usize..3,
        ) {
            let ids: Vec<u32> = (0..=u32::try_from(batch * time + extra)?).collect();
            let streams = Streams::new(&ids, batch, time).expect("streams");
            let windows: Vec<Window> = streams.epoch(epoch).collect::<Result<_>>().expect("windows");
            let rows = rows(&windows);
            // Row after row the predictions are the whole text: none twice, none missing, each row without a gap.
            let expected: Vec<_> = ids.windows(2).map(|pair| (pair[0], pair[1])).collect();
            prop_assert_eq!(rows.concat(), expected);
            let lengths = rows.iter().map(Vec::len);
            prop_assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
            // Padding stands in the very last step only, so it can not come between two windows of a row.
            for (index, window) in windows.iter().enumerate() {
                let padded = window.ts.iter().filter(|&&target| target == IGNORE).count();
                prop_assert_eq!(window.targets + padded, window.batch * window.time);
                prop_assert_eq!(window.xs.len(), window.ts.len());
                prop_assert_eq!(window.first, index == 0);
                if index + 1 < windows.len() {
                    prop_assert_eq!((window.time, padded), (time, 0));
                } else {
                    prop_assert!(padded < batch);
                }
            }
            prop_assert_eq!(windows.iter().map(|window| window.targets).sum::<usize>(), streams.predictions());
            prop_assert_eq!(windows.len(), streams.windows(epoch));
        }

        #[test]
        fn book_batches_follow_the_books_loop(
            batch in 1usize..6, time in 1usize..6, extra in 0usize..30,
        ) {
            let ids: Vec<u32> = (0..=u32::try_from(batch * time + extra)?).map(|i| i * 7 % 11).collect();
            let batches = BookBatches::new(&ids, batch, time).expect("batches");
            let (xs, ts) = (&ids[..ids.len() - 1], &ids[1..]);
            let data_size = xs.len();
            prop_assert_eq!(batches.windows(0), data_size / (batch * time));
            let jump = data_size / batch;
            let offsets: Vec<usize> = (0..batch).map(|i| i * jump).collect();
            let mut time_idx = 0;
            let per_epoch = batches.windows(0);
            for iteration in 0..3 * per_epoch {
                let (mut batch_x, mut batch_t) = (vec![0; batch * time], vec![0; batch * time]);
                for t in 0..time {
                    for (i, offset) in offsets.iter().enumerate() {
                        batch_x[i * time + t] = xs[(offset + time_idx) % data_size];
                        batch_t[i * time + t] = ts[(offset + time_idx) % data_size];
                    }
                    time_idx += 1;
                }
                let window = batches.window(iteration / per_epoch, iteration % per_epoch).expect("a window");
                prop_assert_eq!((window.xs, window.ts, window.first), (batch_x, batch_t, iteration == 0));
            }
        }
    }

    #[test]
    fn book_batches_by_hand() {
        // 8 ids, 7 predictions, readers at 0 and 3; one window of 2 x 3 is an epoch.
        let batches = BookBatches::new(&[0, 1, 2, 3, 4, 5, 6, 7], 2, 3).expect("batches");
        assert_eq!(batches.windows(0), 1);
        let epochs: Vec<Window> =
            (0..3).flat_map(|epoch| batches.epoch(epoch)).collect::<Result<_>>().expect("windows");
        assert_eq!(epochs[0].xs, [0, 1, 2, 3, 4, 5]);
        assert_eq!(epochs[0].ts, [1, 2, 3, 4, 5, 6]);
        assert_eq!(epochs[1].xs, [3, 4, 5, 6, 0, 1]);
        assert_eq!(epochs[1].ts, [4, 5, 6, 7, 1, 2]);
        assert_eq!(epochs[2].xs, [6, 0, 1, 2, 3, 4]);
        assert_eq!(epochs.iter().map(|window| window.first).collect::<Vec<_>>(), [true, false, false]);
        assert!(epochs.iter().all(|window| window.targets == 6));
    }

    #[test]
    fn streams_count_the_penn_treebank() {
        let ids = vec![1; 82_430];
        let streams = Streams::new(&ids, 10, 35).expect("streams");
        assert_eq!((streams.predictions(), streams.windows(0)), (82_429, 236));
        let last = streams.window(0, 235).expect("the last");
        assert_eq!((last.batch, last.time, last.targets), (10, 18, 179));
    }

    #[test]
    fn a_window_that_an_epoch_does_not_have_is_an_error() {
        let ids: Vec<u32> = (0..30).collect();
        let streams = Streams::new(&ids, 2, 5).expect("streams");
        fn refuses(batches: &impl Batches) {
            let count = batches.windows(0);
            assert!(batches.window(0, count - 1).is_ok());
            for number in [count, usize::MAX] {
                let error = batches.window(0, number).expect_err("beyond").to_string();
                let want = format!("window of an epoch: expected one of {count}, from 0 on, got {number}");
                assert_eq!(error, want);
            }
        }
        refuses(&streams);
        refuses(&super::super::Varied::new(streams, 1));
        refuses(&BookBatches::new(&ids, 2, 5).expect("batches"));
    }

    #[test]
    fn the_shortest_corpus_is_one_window() {
        let streams = Streams::new(&[5, 6, 7, 8, 9], 2, 2).expect("streams");
        let windows: Vec<_> = streams.epoch(0).collect::<Result<_>>().expect("windows");
        assert_eq!(windows.len(), 1);
        assert_eq!(windows[0].xs, [5, 6, 7, 8]);
    }

    #[test]
    fn arguments_that_do_not_fit_are_named() {
        type Make = fn(&[u32], usize, usize) -> Result<()>;
        let orders: [Make; 2] =
            [|i, n, t| Streams::new(i, n, t).map(drop), |i, n, t| BookBatches::new(i, n, t).map(drop)];
        for make in orders {
            let message = |ids: &[u32], n, t| make(ids, n, t).expect_err("refused").to_string();
            assert!(message(&[1, 2], 0, 1).contains("batch: expected at least 1, got 0"));
            assert!(message(&[1, 2], 1, 0).contains("time: expected at least 1, got 0"));
            let short = message(&[1, 2, 3, 4], 2, 2);
            assert!(short.contains("2 x 2 + 1 = 5 ids, got 4 (lower batch or time"), "{short}");
            assert!(message(&[1, 2], usize::MAX, 2).contains("more than the address space"));
            assert!(message(&[], 1, 1).contains("got 0"));
            assert!(message(&[1, IGNORE, 2], 1, 1).contains("index 1"));
        }
    }
}
