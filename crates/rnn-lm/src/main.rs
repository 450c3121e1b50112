//! The program `rnn-lm`: trains, measures and uses recurrent language models.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
