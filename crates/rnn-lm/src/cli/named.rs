//! Errors of the library under the names that a command line has: `generate: top_p` is `--top-p`, `model.hidden`, where a flag
//! said it, `--hidden`.

use super::settings;
use clap::{ArgMatches, Command};

/// What the library calls otherwise than the command line does.
const OTHERWISE: [(&str, &str); 6] = [
    ("Beam: width", "beam"),
    ("Beam: length", "tokens"),
    ("Beam: penalty", "length-penalty"),
    ("generate: repetition", "repetition-penalty"),
    ("Stops: stops", "stop"),
    // Of `resume`, which has no other setting.
    ("training.epochs", "epochs"),
];

/// What a person knows under another name, and has no one flag for.
const KNOWN_AS: [(&str, &str); 6] = [
    ("Streams::new: ids", "the text"),
    ("BookBatches::new: ids", "the text"),
    ("evaluate: ids", "the text"),
    ("Dynamic: ids", "the text"),
    ("NeuralCache: ids", "the text"),
    ("LmSpec", "the model"),
];

/// An error of a command that these flags were given.
pub(super) fn under_flags(mut error: anyhow::Error, command: &Command, flags: &ArgMatches) -> anyhow::Error {
    if let Some(rnn_lm::Error::Core(rnn_core::Error::Invalid { op, .. })) = error.downcast_mut() {
        if let Some((_, known)) = KNOWN_AS.iter().find(|(name, _)| name == op) {
            *op = (*known).into();
        } else if let Some(flag) = flag(op, command, flags) {
            *op = format!("--{flag}");
        }
    }
    error
}

fn flag(op: &str, command: &Command, flags: &ArgMatches) -> Option<String> {
    if let Some((_, flag)) = OTHERWISE.iter().find(|(name, _)| *name == op) {
        return Some((*flag).into());
    }
    if let Some(flag) = settings::flag_of(op, flags) {
        return Some(flag);
    }
    // What the command has a flag for: whoever did not give it can. What is not of an operation is a file.
    let (_, name) = op.rsplit_once(": ")?;
    let name = name.replace('_', "-");
    command.get_arguments().any(|arg| arg.get_long() == Some(&name)).then_some(name)
}
