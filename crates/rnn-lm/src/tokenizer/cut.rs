//! Where a text may be cut so that byte pairs of its pieces are those of the whole.
//!
//! GPT-2's rule takes white space apart like this: before a character that is none, the last one of a row
//! stands alone or goes with what follows, and the others stay together. So a text may be cut before the last
//! white space of a row, and only there: after a line feed would be wrong where another one stands before it.

/// The pieces of a text: each as short as may be, of at least `size` bytes. White space that
/// stands before one of the tokens of `around` is not cut: to the crate the text ends there. These tokens
/// have no white space themselves.
pub(super) fn pieces<'a>(
    text: &'a str,
    size: usize,
    around: &[String],
) -> impl Iterator<Item = &'a str> + Send {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(end(rest, size.max(1), around));
        rest = after;
        Some(piece)
    })
}

/// The same for who learns from them: what has no place to be cut for `longest` bytes is taken apart there all the same.
pub(super) fn pieces_to_learn(text: &str, size: usize, longest: usize) -> impl Iterator<Item = &str> + Send {
    pieces(text, size, &[]).flat_map(move |piece| apart(piece, longest))
}

fn apart(piece: &str, longest: usize) -> Vec<&str> {
    let (mut parts, mut begin, mut at) = (Vec::new(), 0, 0);
    for whole in pieces(piece, 1, &[]) {
        let end = at + whole.len();
        while end - at > longest {
            let cut = (at + longest..end).find(|&cut| piece.is_char_boundary(cut)).unwrap_or(end);
            parts.push(&piece[begin..cut]);
            (begin, at) = (cut, cut);
        }
        at = end;
    }
    parts.push(&piece[begin..]);
    parts
}

/// The last place where a text that goes on may be cut; 0 where there is none. It may end within one of the tokens of `around`.
pub(super) fn last(text: &str, around: &[String]) -> usize {
    let begins = |rest: &str| around.iter().any(|token| rest.starts_with(token) || token.starts_with(rest));
    let mut after = None;
    for (at, c) in text.char_indices().rev() {
        if !c.is_whitespace() {
            after = Some(at);
        } else if let Some(next) = after.take()
            && !begins(&text[next..])
        {
            return at;
        }
    }
    0
}

fn end(text: &str, size: usize, around: &[String]) -> usize {
    let Some(first) = (size..text.len()).find(|&at| text.is_char_boundary(at)) else { return text.len() };
    let mut white = None;
    for (at, c) in text[first..].char_indices() {
        let at = first + at;
        if c.is_whitespace() {
            white = Some(at);
        } else if let Some(before) = white.take()
            && !around.iter().any(|token| text[at..].starts_with(token))
        {
            return before;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_white_space_of_a_row_begins_a_piece() {
        let got: Vec<_> = pieces("a b\n\n  c\nd \n", 1, &[]).collect();
        assert_eq!(got, ["a", " b\n\n ", " c", "\nd \n"]);
        let got: Vec<_> = pieces("né né né", 3, &[]).collect();
        assert_eq!(got, ["né", " né", " né"]);
        assert_eq!(pieces("", 1, &[]).count(), 0);
    }

    #[test]
    fn the_last_cut_is_one_of_the_cuts_and_what_follows_does_not_move_it() {
        let around = ["<s>".to_string()];
        for (text, want) in
            [("a b\n\n  c\nd \n", "a b\n\n  c"), ("a  <s> b", "a  <s>"), ("a", ""), ("\n\n", "")]
        {
            let at = last(text, &around);
            assert_eq!(&text[..at], want, "{text:?}");
            let mut end = 0;
            let ends: Vec<_> = pieces(text, 1, &around)
                .map(|piece| {
                    end += piece.len();
                    end
                })
                .collect();
            assert!(at == 0 || ends.contains(&at), "{text:?}");
        }
    }

    #[test]
    fn what_is_learnt_from_is_taken_apart_where_it_has_no_white_space() {
        for text in ["a b\n\n  c\nd \n", "abcdefghij k", "ab cdefghijklmno p", "ééééé", "          ", ""]
        {
            for size in [1, 4, 100] {
                let got: Vec<_> = pieces_to_learn(text, size, 4).collect();
                assert_eq!(got.concat(), text);
                for piece in got {
                    assert!(pieces(piece, 1, &[]).all(|part| part.len() <= 5), "{piece:?}");
                }
            }
            // What is short enough stays as it is.
            assert!(pieces_to_learn(text, 3, 100).eq(pieces(text, 3, &[])));
        }
        let got: Vec<_> = pieces_to_learn("a bcdefghij k", 100, 4).collect();
        assert_eq!(got, ["a bcd", "efgh", "ij k"]);
    }

    #[test]
    fn no_piece_ends_before_an_added_token() {
        let got: Vec<_> = pieces("a  <s> b", 1, &["<s>".to_string()]).collect();
        assert_eq!(got, ["a  <s>", " b"]);
    }
}
