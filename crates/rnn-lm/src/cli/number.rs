//! Numbers on a command line: what is none is refused in our words, whatever flag it is for.

use clap::Command;
use std::any::TypeId;
use std::str::FromStr;

/// The command line, each of whose flags for a number says what it wants.
pub(super) fn in_our_words(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let wants = arg.get_value_parser().type_id();
        if wants == TypeId::of::<usize>() {
            arg.value_parser(whole::<usize>)
        } else if wants == TypeId::of::<u64>() {
            arg.value_parser(whole::<u64>)
        } else if wants == TypeId::of::<f64>() {
            arg.value_parser(number)
        } else {
            arg
        }
    });
    command.mut_subcommands(in_our_words)
}

fn whole<N: FromStr>(text: &str) -> Result<N, &'static str> {
    text.trim().parse().map_err(|_| "expected a whole number from 0 to 18446744073709551615")
}

fn number(text: &str) -> Result<f64, &'static str> {
    text.trim().parse().map_err(|_| "expected a number")
}
