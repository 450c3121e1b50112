//! The texts of a run and its tokenizer, known again when its training goes on.

use super::{CONFIG, Ids, Run, TOKENIZER};
use crate::{Error, Result};
use std::path::Path;

/// What tells both texts from others.
pub(super) fn fingerprint(train: &Ids, valid: Option<&Ids>) -> String {
    let valid = valid.map_or_else(|| "none".to_string(), Ids::fingerprint);
    format!("{} to learn from; {valid} to measure on", train.fingerprint())
}

/// Whether the texts are those that the training began with, as [`fingerprint`] tells them.
///
/// # Errors
/// Where one of them is another; the error names it.
pub(super) fn same_texts(run: &Run, was: &str, is: &str) -> Result<()> {
    if was == is {
        return Ok(());
    }
    let data = &run.config.data;
    let halves = |of: &str| of.split_once("; ").map(|(train, valid)| (train.to_string(), valid.to_string()));
    let (name, was, is) = match (halves(was), halves(is)) {
        // Two files; else both are of one.
        (Some(was), Some(is)) if !data.valid.is_empty() => match was.0 == is.0 {
            true => (&data.valid, was.1, is.1),
            false => (&data.corpus, was.0, is.0),
        },
        _ => (&data.corpus, was.into(), is.into()),
    };
    Err(Error::invalid(name, format!("the text that the run began with ({was})"), is)
        .hint("put that text back, or begin a new run"))
}

/// Whether the tokenizer is that which the training began with, as its fingerprint tells; with another every text is another.
///
/// # Errors
/// Where it is not.
pub(super) fn same_tokenizer(run: &Run, was: &str) -> Result<()> {
    let is = run.tokenizer.fingerprint();
    if was.is_empty() || was == is {
        return Ok(());
    }
    let (want, got) =
        (format!("the tokenizer that the training began with ({was})"), format!("another ({is})"));
    Err(Error::invalid(run.path(TOKENIZER).display(), want, got)
        .hint("put it back, or begin a new run: `rnn-lm train CORPUS --tokenizer FILE`"))
}

/// Where a text of a run is no longer: it may be at another place, which the settings may say.
pub(super) fn moved(error: Error, run: &Run) -> Error {
    let Error::Io { path, .. } = &error else { return error };
    let name = if *path == Path::new(&run.config.data.valid) { "data.valid" } else { "data.corpus" };
    match error.is_not_found() {
        true => {
            Error::invalid(run.path(CONFIG).display(), format!("a text at {name}"), "nothing of that name")
                .hint(format!("put {} back, or write there where it is now", path.display()))
        }
        false => error,
    }
}
