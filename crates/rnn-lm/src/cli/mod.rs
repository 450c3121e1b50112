//! The command line: what there is to say, and how it ends. A command is a file (`resume` stands in `train`); the others are what
//! they share.

mod completions;
mod config;
mod evaluate;
mod generate;
mod import;
mod info;
mod lines;
mod lr_find;
mod minutes;
mod named;
mod noun;
mod number;
mod plot;
mod progress;
mod score;
mod settings;
mod stop;
mod train;
mod trial;
mod verdict;

use anyhow::{Context, Result, anyhow, bail};
use candle_core::Device;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use rnn_core::kernels::dispatch;
use rnn_lm::run::Run;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Trains recurrent language models, measures them, and writes with them.
///
/// A model lives in a folder, its run: settings, tokenizer, weights, what was measured, and checkpoints from which training
/// goes on as if it had never stopped. `rnn-lm train CORPUS` makes one of any text; the other commands take it.
#[derive(Debug, Parser)]
#[command(name = "rnn-lm", version, max_term_width = 100, after_long_help = CODES)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// How it ends.
const CODES: &str = "\
Exit codes:
  0    success
  1    an error: a file, a setting's value, a run in use; the message says what to do
  2    the command line could not be understood: an unknown flag, a missing argument, no number
  3    training diverged; the last checkpoint, where there was one, stands as it was
  130  interrupted (Ctrl-C); where the run was made, `rnn-lm resume RUN` goes on with the same bits

`rnn-lm help COMMAND` says more about one. NO_COLOR, RAYON_NUM_THREADS and CANDLE_RNN_INSTRUCTIONS (portable, avx2, avx512) \
are honoured; results do not depend on the number of threads. \"The book\" is Saito Koki's Deep Learning from Scratch 2.";

/// Over flags that every command has.
const HOW: &str = "Every command";

#[derive(Debug, Args)]
struct Common {
    /// Say nothing but the result
    #[arg(long, short, global = true, help_heading = HOW)]
    quiet: bool,
    /// Where to compute: auto (the first GPU where this build has CUDA and the machine one, else the CPU), cpu, or cuda:N
    #[arg(long, global = true, default_value = "auto", hide_default_value = true, help_heading = HOW)]
    device: String,
    /// Threads to compute with [default: all]
    #[arg(long, global = true, value_name = "N", help_heading = HOW)]
    threads: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::Train),
    Resume(train::Resume),
    Evaluate(evaluate::Evaluate),
    Score(score::Score),
    Generate(generate::Generate),
    LrFind(lr_find::LrFind),
    Config(config::Show),
    Info(info::Info),
    Plot(plot::Plot),
    Import(import::Import),
    Completions(completions::Completions),
}

/// What every command has at hand.
struct Session {
    quiet: bool,
    device: Device,
}

/// The exit code of a training that diverged, and that of one that was interrupted.
const DIVERGED: u8 = 3;
const INTERRUPTED: u8 = 130;

pub(crate) fn main() -> ExitCode {
    let command = settings::added_to(Cli::command()).map(number::in_our_words);
    let (cli, matches) = match command.map(clap::Command::try_get_matches) {
        Ok(Ok(matches)) => match Cli::from_arg_matches(&matches) {
            Ok(cli) => (cli, matches),
            Err(error) => return told(&error),
        },
        Ok(Err(error)) => return told(&error),
        Err(error) => return failed(&error),
    };
    cli.run(&matches).unwrap_or_else(|error| failed(&error))
}

/// Help, the version, or what is wrong with a command line.
fn told(what: &clap::Error) -> ExitCode {
    match what.print().context("standard output") {
        Err(error) if !what.use_stderr() => failed(&error),
        // What is wrong is wrong, whether somebody reads it or not.
        _ => u8::try_from(what.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // Whoever reads no further is no failure.
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(std::io::stderr(), "rnn-lm: {error:#}");
    let diverged = error
        .chain()
        .any(|cause| matches!(cause.downcast_ref::<rnn_lm::Error>(), Some(rnn_lm::Error::Diverged { .. })));
    if diverged { ExitCode::from(DIVERGED) } else { ExitCode::FAILURE }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let cause = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    };
    error.chain().any(cause)
}

impl Cli {
    fn run(self, matches: &ArgMatches) -> Result<ExitCode> {
        let session = self.common.session()?;
        let (name, matches) = matches.subcommand().unwrap_or(("", matches));
        let code = match self.command {
            Command::Train(train) => train.run(&session, matches),
            Command::Resume(resume) => resume.run(&session),
            Command::Evaluate(evaluate) => done(evaluate.run(&session, matches)),
            Command::Score(score) => done(score.run(&session)),
            Command::Generate(generate) => done(generate.run(&session)),
            Command::LrFind(find) => done(find.run(&session, matches)),
            Command::Config(show) => done(show.run(matches)),
            Command::Info(info) => done(info.run()),
            Command::Plot(plot) => done(plot.run()),
            Command::Import(import) => done(import.run(&session, matches)),
            Command::Completions(completions) => done(completions.run()),
        };
        code.map_err(|error| match settings::added_to(Cli::command()) {
            Ok(all) => named::under_flags(error, all.find_subcommand(name).unwrap_or(&all), matches),
            Err(_) => error,
        })
    }
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

impl Common {
    fn session(&self) -> Result<Session> {
        /// More than any machine is likely to have.
        const MOST: usize = 512;
        /// What rayon reads where nobody says `--threads`.
        const THREADS: &str = "RAYON_NUM_THREADS";
        let mut pool = rayon::ThreadPoolBuilder::new();
        if let Some(threads) = self.threads {
            if !(1..=MOST).contains(&threads) {
                bail!("--threads: expected at least 1 and at most {MOST}, got {threads}");
            }
            pool = pool.num_threads(threads);
        } else if let Ok(asked) = std::env::var(THREADS)
            && asked.trim().parse::<usize>().is_ok_and(|threads| threads > MOST)
        {
            bail!("{THREADS}: expected at most {MOST}, got {asked}");
        }
        // Here and not where they are first used, which would be no place for an error.
        if let Err(error) = pool.build_global() {
            bail!("threads: expected as many as are asked for, got {error} (--threads N asks for fewer)");
        }
        dispatch::asked_for()?;
        // What is wrong is said of `device`, which is the flag's name as well.
        let device = rnn_core::device(&self.device).map_err(|error| anyhow!("--{error}"))?;
        let session = Session { quiet: self.quiet, device };
        if cfg!(feature = "cuda")
            && session.device.is_cpu()
            && self.device == "auto"
            && let Err(why) = rnn_core::device("cuda:0")
        {
            session.say(format_args!("note     on the CPU: {why}"));
        }
        Ok(session)
    }
}

/// A line for a person who reads along: on standard error, unless nothing is to be said.
impl Session {
    fn say(&self, line: impl std::fmt::Display) {
        if !self.quiet {
            // Nobody may be reading: that is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

/// A line of the result.
fn print(line: impl std::fmt::Display) -> Result<()> {
    write(&format!("{line}\n"))
}

/// A part of it, which is there when this comes back.
fn write(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")
}

/// The run of a folder and its model.
fn open(folder: &std::path::Path, device: &Device) -> Result<(Run, Box<dyn rnn_lm::LanguageModel>)> {
    let run = Run::open(folder)?;
    let model = run.model(rnn_core::Way::Fused, device)?;
    Ok((run, model))
}
