//! What some editors put in front of a text, and is none of it: the byte order mark.

use std::io::{BufRead, Cursor, Read, Result};

/// The mark.
pub(super) const MARK: &str = "\u{feff}";

/// What is behind the mark, where a text begins with one.
pub(super) fn unmarked(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK.as_bytes()).unwrap_or(text)
}

/// A text that is read as it comes, without the mark.
///
/// # Errors
/// Where it cannot be read.
pub fn behind_mark(mut input: impl BufRead) -> Result<impl BufRead> {
    // No more than a line: who waits for an answer to that writes no other.
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    let mark = line.len() - unmarked(&line).len();
    Ok(Cursor::new(line.split_off(mark)).chain(input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_taken_off_and_no_more() {
        for (text, want) in [
            ("", ""),
            ("\u{feff}", ""),
            ("\u{feff}a\n\u{feff}b\n", "a\n\u{feff}b\n"),
            ("\u{feff}\u{feff}a", "\u{feff}a"),
            ("a\u{feff}\nb", "a\u{feff}\nb"),
        ] {
            let mut got = String::new();
            behind_mark(text.as_bytes()).expect("a reader").read_to_string(&mut got).expect("text");
            assert_eq!(got, want, "{text:?}");
        }
    }
}
