//! The n-grams of a text and their counts, as a trie in sorted arrays: no hashing, so nothing depends on chance.
//!
//! Level k holds the n-grams of k + 1 ids in lexicographic order; those that extend one n-gram stand side by side,
//! and a child is found by bisection. Probabilities are not made here.

use std::ops::Range;

use crate::error::{Error, Result};

/// The n-grams of one length.
#[derive(Debug, Clone, Default)]
struct Level {
    /// The last id of each n-gram.
    words: Vec<u32>,
    /// The count of each n-gram.
    counts: Vec<u32>,
    /// Where the extensions of each n-gram begin on the next level, and one entry more for where the last ones end.
    starts: Vec<u32>,
}

/// All n-grams of 1 to `order` ids.
///
/// A context is given by its depth, the number of its ids, and its index among the n-grams of that length; the empty
/// context is index 0 of depth 0.
#[derive(Debug, Clone)]
pub(super) struct Ngrams {
    levels: Vec<Level>,
}

impl Ngrams {
    /// Counts `ids` the Kneser-Ney way: n-grams of `order` ids by how often they occur, shorter ones by how many
    /// different ids stand before them. The begin of the text counts as one such id.
    ///
    /// # Errors
    /// More ids than the 32-bit counts hold.
    pub(super) fn new(ids: &[u32], order: usize) -> Result<Self> {
        if u32::try_from(ids.len()).is_err() {
            return Err(Error::invalid(
                "KneserNey::new: ids",
                format!("at most {} ids", u32::MAX),
                ids.len(),
            ));
        }
        let mut ngrams = Self::occurrences(ids, order);
        ngrams.count_continuations(ids);
        Ok(ngrams)
    }

    fn occurrences(ids: &[u32], order: usize) -> Self {
        let tail = |at: u32| &ids[at as usize..ids.len().min(at as usize + order)];
        let mut positions: Vec<u32> = (0..ids.len() as u32).collect();
        positions.sort_unstable_by(|&a, &b| tail(a).cmp(tail(b)));

        let mut levels = vec![Level::default(); order];
        let mut previous: &[u32] = &[];
        for current in positions.into_iter().map(tail) {
            let shared = previous.iter().zip(current).take_while(|(a, b)| a == b).count();
            for depth in shared..current.len() {
                // Taken before the extensions of this n-gram are pushed, so it is where they begin.
                if let Some(start) = levels.get(depth + 1).map(|next| next.words.len() as u32) {
                    levels[depth].starts.push(start);
                }
                levels[depth].words.push(current[depth]);
                levels[depth].counts.push(0);
            }
            for level in &mut levels[..current.len()] {
                if let Some(count) = level.counts.last_mut() {
                    *count += 1;
                }
            }
            previous = current;
        }
        for depth in 1..order {
            let end = levels[depth].words.len() as u32;
            levels[depth - 1].starts.push(end);
        }
        Self { levels }
    }

    /// Replaces the counts of all but the longest n-grams.
    fn count_continuations(&mut self, ids: &[u32]) {
        // For each n-gram of the level at hand the same n-gram without its first id.
        let mut shorter: Vec<u32> = vec![0; self.levels[0].words.len()];
        for depth in 1..self.order() {
            let mut next = Vec::with_capacity(self.levels[depth].words.len());
            let mut counts = vec![0; self.levels[depth - 1].words.len()];
            for (parent, &without_first) in shorter.iter().enumerate() {
                for child in self.children(depth, parent) {
                    let word = self.levels[depth].words[child];
                    // Always found: what ends an n-gram of the text is in the text.
                    if let Some(suffix) = self.child(depth - 1, without_first as usize, word) {
                        counts[suffix] += 1;
                        next.push(suffix as u32);
                    }
                }
            }
            // The n-gram at the very begin of the text has no id before it there.
            if let Some(begin) = ids.get(..depth).and_then(|begin| self.find(begin)) {
                counts[begin] += 1;
            }
            self.levels[depth - 1].counts = counts;
            shorter = next;
        }
    }

    /// The length of the longest n-grams.
    pub(super) fn order(&self) -> usize {
        self.levels.len()
    }

    /// How many contexts of `depth` ids there are, with or without an id after them.
    pub(super) fn contexts(&self, depth: usize) -> usize {
        if depth == 0 { 1 } else { self.levels[depth - 1].words.len() }
    }

    /// The n-grams, of `depth + 1` ids, that extend a context.
    pub(super) fn children(&self, depth: usize, context: usize) -> Range<usize> {
        match depth {
            0 => 0..self.levels[0].words.len(),
            _ => {
                let starts = &self.levels[depth - 1].starts;
                starts[context] as usize..starts[context + 1] as usize
            }
        }
    }

    /// The n-gram, of `depth + 1` ids, that extends a context by `word`.
    pub(super) fn child(&self, depth: usize, context: usize, word: u32) -> Option<usize> {
        let range = self.children(depth, context);
        let found = self.levels[depth].words[range.clone()].binary_search(&word).ok()?;
        Some(range.start + found)
    }

    /// The context `words`, at most `order` of them.
    pub(super) fn find(&self, words: &[u32]) -> Option<usize> {
        words.iter().enumerate().try_fold(0, |context, (depth, &word)| self.child(depth, context, word))
    }

    /// The counts of the n-grams of `depth + 1` ids.
    pub(super) fn counts(&self, depth: usize) -> &[u32] {
        &self.levels[depth].counts
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn counts_are_those_of_a_plain_search() {
        // 7 does not divide the period of the squares, so that some n-grams repeat and some do not.
        let ids: Vec<u32> = (0..60u32).map(|i| i * i % 11 % 4 + i % 7 / 5).collect();
        for order in 1..=4 {
            let ngrams = Ngrams::new(&ids, order).expect("n-grams");
            for length in 1..=order {
                let mut occurrences: HashMap<&[u32], u32> = HashMap::new();
                let mut before: HashMap<&[u32], HashSet<Option<u32>>> = HashMap::new();
                for (at, gram) in ids.windows(length).enumerate() {
                    *occurrences.entry(gram).or_default() += 1;
                    before.entry(gram).or_default().insert(at.checked_sub(1).map(|left| ids[left]));
                }
                assert_eq!(ngrams.contexts(length), occurrences.len());
                for (gram, &count) in &occurrences {
                    let expected = if length == order { count } else { before[gram].len() as u32 };
                    let index = ngrams.find(gram).expect("an n-gram of the text");
                    assert_eq!(ngrams.counts(length - 1)[index], expected, "order {order}, {gram:?}");
                }
            }
            assert_eq!(ngrams.find(&[9]), None);
        }
    }

    #[test]
    fn an_order_beyond_the_text_leaves_levels_empty() {
        let ngrams = Ngrams::new(&[4, 4], 3).expect("n-grams");
        assert_eq!((ngrams.contexts(1), ngrams.contexts(2), ngrams.contexts(3)), (1, 1, 0));
        assert!(ngrams.children(2, 0).is_empty());
    }
}
