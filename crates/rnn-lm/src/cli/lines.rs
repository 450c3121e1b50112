//! A text line by line, each line by itself.

use anyhow::{Context, Result};
use rnn_lm::tokenizer::Tokenizer;
use std::io::BufRead;

/// Each line of `input`, which messages call `name`, as it is read: its number from 1 on, its bytes with its end, its ids.
pub(super) fn each(
    mut input: impl BufRead,
    name: &str,
    tokenizer: &Tokenizer,
    mut of_line: impl FnMut(usize, &[u8], Vec<u32>) -> Result<()>,
) -> Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line).with_context(|| name.to_string())? == 0 {
            break;
        }
        let ids = tokenizer.encode(&line).with_context(|| format!("{name}, line {number}"))?;
        of_line(number, &line, ids)?;
    }
    Ok(())
}
