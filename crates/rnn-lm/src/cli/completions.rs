//! `rnn-lm completions`: what a shell wants to know.

use super::{Cli, settings, write};
use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print a script that completes commands and flags
///
/// For example: `rnn-lm completions bash > ~/.local/share/bash-completion/completions/rnn-lm`
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// For which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<()> {
        let mut command = settings::added_to(Cli::command())?;
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "rnn-lm", &mut script);
        let mut script = String::from_utf8(script)?;
        if self.shell == Shell::Bash {
            // Of a name with a hyphen, clap_complete writes the two halves of each label differently.
            script = script.replace("rnn__subcmd__lm", "rnn__lm");
        }
        write(&script)
    }
}
