//! How far a training has come: a bar in a terminal, a plain line now and then elsewhere.

use super::Session;
use super::noun::Noun;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rnn_lm::run::Stepped;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    /// When it began, with how many tokens and what share of the work done.
    begun: Option<(Instant, usize, f64)>,
    last_line: Instant,
    noun: Noun,
}

/// Time between two plain lines.
const PAUSE: Duration = Duration::from_secs(10);
/// Positions of the bar.
const LENGTH: u64 = 1000;

impl Progress {
    pub(super) fn new(session: &Session, noun: Noun) -> Self {
        let bar = drawn(session, LENGTH, "{msg}  {wide_bar} {prefix}");
        let plain = bar.is_none() && !session.quiet;
        Self { bar, plain, begun: None, last_line: Instant::now(), noun }
    }

    /// After each window.
    pub(super) fn step(&mut self, at: &Stepped) {
        let share = (at.epoch.0 as f64 - 1.0 + at.window.0 as f64 / at.window.1 as f64) / at.epoch.1 as f64;
        let (begun, tokens, from) = *self.begun.get_or_insert((Instant::now(), at.tokens, share));
        let seconds = begun.elapsed().as_secs_f64();
        if self.bar.is_none() && !(self.plain && self.last_line.elapsed() > PAUSE) {
            return;
        }
        let speed = (at.tokens - tokens) as f64 / seconds.max(1e-9);
        let left = seconds / (share - from).max(1e-9) * (1.0 - share);
        let left = if share > from { format!("{} left", time(left)) } else { String::new() };
        let message = format!(
            "epoch {}/{}  {}  {speed:.0} {}s/s",
            at.epoch.0,
            at.epoch.1,
            self.noun.quality(at.loss),
            self.noun
        );
        match &self.bar {
            Some(bar) => {
                bar.set_message(message);
                bar.set_prefix(left);
                bar.set_position((share * LENGTH as f64) as u64);
            }
            None => {
                let _ = writeln!(std::io::stderr(), "{message}  step {}  {left}", at.step);
                self.last_line = Instant::now();
            }
        }
    }

    /// Before an evaluation, which may take as long as many windows.
    pub(super) fn measuring(&self) {
        if let Some(bar) = &self.bar {
            bar.set_prefix("measuring");
        }
    }

    /// A line that stays, above the bar where there is one.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None if self.plain => drop(writeln!(std::io::stderr(), "{line}")),
            None => {}
        }
    }

    /// Leaves the last state of the bar where it is.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.set_prefix("");
            bar.abandon();
        }
    }
}

/// How much of `length` of these is done, in a terminal.
pub(super) fn bar(session: &Session, length: usize, of: &'static str) -> ProgressBar {
    let bar = drawn(session, length as u64, "{wide_bar} {human_pos} of {human_len} {msg}, {eta} left");
    bar.unwrap_or_else(ProgressBar::hidden).with_message(of)
}

/// Work that says how many of `length` it has done, with a bar that goes when it ends, well or not.
pub(super) fn counted<R>(
    session: &Session,
    (length, of): (usize, &'static str),
    work: impl FnOnce(&mut dyn FnMut(usize)) -> R,
) -> R {
    let bar = bar(session, length, of);
    let result = work(&mut |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    result
}

/// What takes a while and cannot say how far it is: a line, which in a terminal counts the seconds and goes with it.
pub(super) fn waiting(session: &Session, what: String) -> ProgressBar {
    match drawn(session, 0, "{msg}, {elapsed}") {
        Some(bar) => {
            bar.set_message(what);
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        }
        None => {
            session.say(what);
            ProgressBar::hidden()
        }
    }
}

/// A bar of this form, where there is a terminal and something is to be said.
fn drawn(session: &Session, length: u64, form: &str) -> Option<ProgressBar> {
    if session.quiet || !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    Some(match ProgressStyle::with_template(form) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    })
}

/// Seconds as a person says them.
pub(super) fn time(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}
