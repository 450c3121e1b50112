//! Where a text ends: at a string, however the pieces that it comes in are cut.

use crate::{Error, Result};

/// Looks for stop strings in a text that comes piece by piece, and holds back what may be the beginning of
/// one.
///
/// The text ends before the stop string that is complete first, of several that end at once the longest. So
/// what is shown does not depend on how the text is cut.
///
/// ```
/// use rnn_lm::generate::Stops;
/// let mut stops = Stops::new(&["\n\n".to_string()])?;
/// assert_eq!(stops.push("one\ntwo\n").text, "one\ntwo");
/// let shown = stops.push("\nthree");
/// assert!(shown.stopped && shown.text.is_empty());
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Stops {
    stops: Vec<String>,
    /// The end of the text so far, which is the beginning of some stop string.
    held: String,
    stopped: bool,
}

/// What can be printed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// It follows what was shown before.
    pub text: String,
    /// Whether the text has ended: nothing more will be shown.
    pub stopped: bool,
}

impl Stops {
    /// Looks for these strings; for none of them where there are none.
    ///
    /// # Errors
    /// Where one is empty, which would end every text before it begins.
    pub fn new(stops: &[String]) -> Result<Self> {
        if let Some(place) = stops.iter().position(String::is_empty) {
            return Err(Error::invalid("Stops: stops", "strings that are not empty", "an empty one")
                .hint(format!("at position {place}")));
        }
        Ok(Self { stops: stops.to_vec(), held: String::new(), stopped: false })
    }

    /// Takes in the next piece; gives what can be printed by now.
    pub fn push(&mut self, piece: &str) -> Shown {
        if self.stopped {
            return Shown { text: String::new(), stopped: true };
        }
        self.held.push_str(piece);
        // Where it ends and where it begins: the first of each string is the one that ends first.
        let found = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        let shown = match found.min() {
            Some((_, start)) => {
                self.stopped = true;
                start
            }
            None => self.begins(),
        };
        let rest = self.held.split_off(shown);
        let text = std::mem::replace(&mut self.held, rest);
        if self.stopped {
            self.held.clear();
        }
        Shown { text, stopped: self.stopped }
    }

    /// The text has ended by itself: what was still held back.
    pub fn finish(self) -> String {
        self.held
    }

    /// The first place in what is held from which on it is the beginning of a stop string.
    fn begins(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = (self.held.len() + 1).saturating_sub(longest);
        let places = (from..self.held.len()).filter(|&place| self.held.is_char_boundary(place));
        let mut begin =
            places.filter(|&place| self.stops.iter().any(|stop| stop.starts_with(&self.held[place..])));
        begin.next().unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stops(strings: &[&str]) -> Stops {
        Stops::new(&strings.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    /// All that is shown of a text in pieces, and whether it was stopped.
    fn shown(mut stops: Stops, pieces: &[String]) -> (String, bool) {
        let mut text = String::new();
        let mut stopped = false;
        for piece in pieces {
            let shown = stops.push(piece);
            assert!(!stopped || (shown.stopped && shown.text.is_empty()));
            stopped = shown.stopped;
            text.push_str(&shown.text);
        }
        (text + &stops.finish(), stopped)
    }

    /// The definition: the shortest beginning of the text that ends with a stop string, without the longest
    /// such.
    fn definition(text: &str, stops: &[String]) -> (String, bool) {
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            let ends = stops.iter().filter(|stop| text[..end].ends_with(stop.as_str()));
            if let Some(longest) = ends.map(String::len).max() {
                return (text[..end - longest].to_string(), true);
            }
        }
        (text.to_string(), false)
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_is_shown(
            pieces in prop::collection::vec("[abé∞]{0,4}", 0..9), strings in prop::collection::vec("[abé∞]{1,4}", 0..4),
        ) {
            let text = pieces.concat();
            let want = definition(&text, &strings);
            let stops = Stops::new(&strings).unwrap();
            prop_assert_eq!(&shown(stops.clone(), &pieces), &want);
            let single: Vec<String> = text.chars().map(String::from).collect();
            prop_assert_eq!(&shown(stops.clone(), &single), &want);
            prop_assert_eq!(&shown(stops, &[text]), &want);
        }

        #[test]
        fn no_more_is_held_back_than_may_be_a_beginning(text in "[ab]{0,9}", stop in "[ab]{1,4}") {
            let mut stops = stops(&[&stop]);
            let first = stops.push(&text);
            let held = &text[first.text.len()..];
            prop_assert!(first.stopped || stop.starts_with(held));
            if !first.stopped {
                // Longer ends of the text begin no stop string.
                prop_assert!((0..first.text.len()).all(|place| !stop.starts_with(&text[place..])));
            }
        }
    }

    #[test]
    fn what_only_looked_like_a_beginning_is_shown_later() {
        let mut stops = stops(&["<end>", "∞∞"]);
        let held = |text: &str| Shown { text: text.to_string(), stopped: false };
        assert_eq!(stops.push("a<en"), held("a"));
        assert_eq!(stops.push("<e"), held("<en"));
        assert_eq!(stops.push("é∞"), held("<eé"));
        assert_eq!(stops.push("b∞"), held("∞b"));
        assert_eq!(stops.clone().finish(), "∞");
        assert_eq!(stops.push("∞<end>"), Shown { text: String::new(), stopped: true });
        assert_eq!(stops.push("more"), Shown { text: String::new(), stopped: true });
        assert_eq!(stops.finish(), "");
    }

    #[test]
    fn without_stop_strings_all_is_shown_at_once_and_an_empty_one_is_refused() {
        assert_eq!(stops(&[]).push("aé"), Shown { text: "aé".to_string(), stopped: false });
        let error = Stops::new(&["a".to_string(), String::new()]).unwrap_err().to_string();
        assert_eq!(
            error,
            "Stops: stops: expected strings that are not empty, got an empty one (at position 1)"
        );
    }
}
