//! The vocabulary: which token has which id. Ids are 0, 1, 2, ...: of a text in order of first appearance,
//! the book's order, or, for an adaptive softmax, the most frequent first; of a list in its own.
//!
//! It knows nothing of how a text is cut into tokens; that is [`super::Tokens`].

use std::cmp::Reverse;

use indexmap::{IndexMap, IndexSet};

use crate::error::{Error, Result};

/// The token that stands for every token outside the vocabulary.
pub const UNK: &str = "<unk>";

/// The token that ends a line of a word-level text.
pub const EOS: &str = "<eos>";

/// What becomes of `<unk>` when the training text does not contain it.
///
/// It matters for held-out text: a token that is not in the vocabulary maps to `<unk>`, or is an error where the
/// vocabulary has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// `<unk>` gets the last id, one more than the training text uses.
    #[default]
    Add,
    /// The vocabulary holds the tokens of the training text and nothing else; an unknown token is an error.
    Error,
}

/// How a vocabulary is made from a training text; by default every token of the text, and `<unk>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VocabularyOptions {
    /// The largest number of entries, `<unk>` and `<eos>` among them; `None` keeps every token.
    pub max: Option<usize>,
    /// Whether `<unk>` is added to a vocabulary that keeps every token.
    pub unknown: Unknown,
}

/// An ordered map between tokens and ids.
///
/// ```
/// use rnn_lm::data::{Unknown, Vocabulary, VocabularyOptions};
///
/// let options = VocabularyOptions { max: None, unknown: Unknown::Error };
/// let vocabulary = Vocabulary::from_text("you say goodbye and i say hello .".split(' '), options)?;
/// assert_eq!(vocabulary.len(), 7);
/// assert_eq!(vocabulary.encode(["i", "say"])?, [4, 1]);
/// # Ok::<(), rnn_lm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Vocabulary {
    tokens: IndexSet<String>,
}

impl Vocabulary {
    /// The vocabulary of a training text given as its tokens, ids in order of first appearance.
    ///
    /// Without `max` every token is kept, and [`Unknown`] says whether `<unk>` is added at the end. With `max`, a
    /// text of more different tokens keeps `<unk>`, `<eos>` if it occurs, and the most frequent of the others, of
    /// two that are equally frequent the one that appears first. `<unk>` then takes the place of the first token it
    /// replaces, so that ids are in order of first appearance in the encoded text too.
    ///
    /// # Errors
    /// `max` below 2, or more different tokens than a `u32` counts.
    pub fn from_text<'a>(
        tokens: impl IntoIterator<Item = &'a str>,
        options: VocabularyOptions,
    ) -> Result<Self> {
        if let Some(max) = options.max
            && max < 2
        {
            return Err(Error::invalid("Vocabulary::from_text: max", "at least 2", max)
                .hint("<unk> takes one place, so there is room for nothing else"));
        }
        let mut counts: IndexMap<&str, usize> = IndexMap::new();
        for token in tokens {
            *counts.entry(token).or_default() += 1;
        }
        let add_unknown = options.unknown == Unknown::Add && !counts.contains_key(UNK);
        let wanted = counts.len() + usize::from(add_unknown);
        let max = options.max.unwrap_or(usize::MAX);
        let mut kept: IndexSet<String> = IndexSet::new();
        if wanted <= max {
            kept.extend(counts.keys().map(ToString::to_string));
            if add_unknown {
                kept.insert(UNK.to_owned());
            }
        } else {
            let chosen = most_frequent(&counts, max);
            for &token in counts.keys() {
                kept.insert(if chosen.contains(token) { token } else { UNK }.to_owned());
            }
        }
        Self::checked(kept)
    }

    /// The vocabulary whose ids are the positions in `tokens`: for reading a stored vocabulary back.
    ///
    /// ```
    /// let vocabulary = rnn_lm::data::Vocabulary::from_tokens(["a", "b", "<unk>"])?;
    /// assert_eq!(vocabulary.unk(), Some(2));
    /// # Ok::<(), rnn_lm::Error>(())
    /// ```
    ///
    /// # Errors
    /// A token that comes twice, or more tokens than a `u32` counts.
    pub fn from_tokens<S: Into<String>>(tokens: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut set = IndexSet::new();
        for (id, token) in tokens.into_iter().enumerate() {
            let (first, new) = set.insert_full(token.into());
            if !new {
                return Err(Error::invalid(
                    format!("Vocabulary::from_tokens: token {id}"),
                    "a token that has no id yet",
                    format!("{:?}, which is token {first}", set[first]),
                ));
            }
        }
        Self::checked(set)
    }

    fn checked(tokens: IndexSet<String>) -> Result<Self> {
        // The largest u32 marks ignored targets, so it must not be an id.
        if u32::try_from(tokens.len()).is_err() {
            return Err(Error::invalid("Vocabulary", format!("at most {} tokens", u32::MAX), tokens.len()));
        }
        Ok(Self { tokens })
    }

    /// The id of a token, `None` where the vocabulary does not hold it; never falls back to `<unk>`.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokens.get_index_of(token).and_then(|id| u32::try_from(id).ok())
    }

    /// The token with an id, `None` where the id is not below [`Self::len`].
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get_index(usize::try_from(id).ok()?).map(String::as_str)
    }

    /// The number of tokens, V.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The id of `<unk>`.
    pub fn unk(&self) -> Option<u32> {
        self.id(UNK)
    }

    /// All tokens in the order of their ids.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tokens.iter().map(String::as_str)
    }

    /// The ids of `tokens`, with the id of `<unk>` for those outside the vocabulary.
    ///
    /// # Errors
    /// A token outside a vocabulary that has no `<unk>`; the message names the token and its index.
    pub fn encode<'a>(&self, tokens: impl IntoIterator<Item = &'a str>) -> Result<Vec<u32>> {
        self.encode_or("Vocabulary::encode", self.unk(), (0..).zip(tokens))
    }

    /// The same of tokens behind their index in the text, with `unknown` for those outside the vocabulary.
    pub(crate) fn encode_or<'a>(
        &self,
        op: &str,
        unknown: Option<u32>,
        tokens: impl IntoIterator<Item = (usize, &'a str)>,
    ) -> Result<Vec<u32>> {
        let id_of = |(index, token): (usize, &str)| {
            self.id(token).or(unknown).ok_or_else(|| {
                Error::invalid(
                    format!("{op}: token at index {index}"),
                    format!("one of the {} tokens, none of which is for unknown ones", self.len()),
                    format!("{token:?}"),
                )
                .hint("build the vocabulary with Unknown::Add or with a maximum size, or train on a text that has the token")
            })
        };
        tokens.into_iter().map(id_of).collect()
    }
}

/// The tokens that a vocabulary of `max` entries keeps besides `<unk>`.
fn most_frequent<'a>(counts: &IndexMap<&'a str, usize>, max: usize) -> IndexSet<&'a str> {
    let mut ranked: Vec<_> = counts.iter().filter(|(token, _)| **token != UNK).collect();
    // The sort is stable, so tokens of equal rank stay in order of first appearance.
    ranked.sort_by_key(|&(token, count)| Reverse((*token == EOS, *count)));
    ranked.into_iter().take(max - 1).map(|(token, _)| *token).collect()
}

/// Equal vocabularies give every token the same id.
impl PartialEq for Vocabulary {
    fn eq(&self, other: &Self) -> bool {
        // IndexSet's own equality ignores the order, which is all that ids are.
        self.tokens.iter().eq(other.tokens.iter())
    }
}

impl Eq for Vocabulary {}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(text: &str, max: Option<usize>, unknown: Unknown) -> Vec<String> {
        let vocabulary =
            Vocabulary::from_text(text.split(' '), VocabularyOptions { max, unknown }).expect("vocabulary");
        vocabulary.tokens().map(str::to_owned).collect()
    }

    #[test]
    fn ids_are_in_order_of_first_appearance() {
        assert_eq!(build("b a b c a", None, Unknown::Error), ["b", "a", "c"]);
    }

    #[test]
    fn unk_is_added_once_at_the_end() {
        assert_eq!(build("b a", None, Unknown::Add), ["b", "a", UNK]);
        assert_eq!(build("b <unk> a", None, Unknown::Add), ["b", UNK, "a"]);
    }

    #[test]
    fn max_keeps_the_most_frequent_in_order_of_first_appearance() {
        // c and b come three times and twice; of the tokens that come once, a is the first.
        let text = "a b c d c b c e";
        assert_eq!(build(text, Some(4), Unknown::Error), ["a", "b", "c", UNK]);
        // <unk> stands where the first replaced token, a, stood.
        assert_eq!(build(text, Some(3), Unknown::Error), [UNK, "b", "c"]);
    }

    #[test]
    fn max_counts_an_unk_of_the_text_and_its_replacements_as_one() {
        assert_eq!(build("a <unk> b b c c", Some(3), Unknown::Add), [UNK, "b", "c"]);
        assert_eq!(build("b b <unk> c c a", Some(3), Unknown::Add), ["b", UNK, "c"]);
    }

    #[test]
    fn max_keeps_eos_though_it_is_rare() {
        assert_eq!(build("a a b b <eos>", Some(3), Unknown::Add), ["a", UNK, EOS]);
    }

    #[test]
    fn max_that_is_just_reached_drops_nothing() {
        assert_eq!(build("a b c", Some(3), Unknown::Error), ["a", "b", "c"]);
        assert_eq!(build("a b c", Some(4), Unknown::Add), ["a", "b", "c", UNK]);
        assert_eq!(build("a b c", Some(3), Unknown::Add), ["a", "b", UNK]);
    }

    #[test]
    fn max_below_two_is_an_error() {
        let options = VocabularyOptions { max: Some(1), unknown: Unknown::Add };
        let error = Vocabulary::from_text(["a"], options).expect_err("no room").to_string();
        assert!(error.contains("max: expected at least 2, got 1"), "{error}");
    }

    #[test]
    fn unknown_tokens_map_to_unk_or_name_themselves() {
        let with = Vocabulary::from_tokens(["a", "<unk>"]).expect("vocabulary");
        assert_eq!(with.encode(["a", "z", "a"]).expect("ids"), [0, 1, 0]);
        let without = Vocabulary::from_tokens(["a", "b"]).expect("vocabulary");
        let error = without.encode(["a", "z"]).expect_err("unknown").to_string();
        assert!(
            error.contains("index 1") && error.contains("\"z\"") && error.contains("Unknown::Add"),
            "{error}"
        );
    }

    #[test]
    fn ids_and_tokens_are_inverse() {
        let vocabulary = Vocabulary::from_tokens(["a", "世", "<eos>"]).expect("vocabulary");
        for id in 0..3 {
            assert_eq!(vocabulary.token(id).and_then(|token| vocabulary.id(token)), Some(id));
        }
        assert_eq!(vocabulary.token(3), None);
        assert_eq!(vocabulary.id("b"), None);
    }

    #[test]
    fn a_token_twice_is_an_error() {
        let error = Vocabulary::from_tokens(["a", "b", "a"]).expect_err("twice").to_string();
        assert!(error.contains("token 2") && error.contains("\"a\", which is token 0"), "{error}");
    }

    #[test]
    fn equality_is_of_ids() {
        let ab = Vocabulary::from_tokens(["a", "b"]).expect("vocabulary");
        let ba = Vocabulary::from_tokens(["b", "a"]).expect("vocabulary");
        assert_ne!(ab, ba);
        assert_eq!(ab, ab.clone());
    }
}
