//! How far long work has come: a bar in a terminal, a plain line now and then elsewhere.

use super::Session;
use super::noun::Noun;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use rnn_lm::run::Stepped;
use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    marks: Marks,
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
        Self { bar, plain, marks: Marks::default(), last_line: Instant::now(), noun }
    }

    /// After each window.
    pub(super) fn step(&mut self, at: &Stepped) {
        let since = self.marks.since(Instant::now(), at);
        if self.bar.is_none() && !(self.plain && self.last_line.elapsed() > PAUSE) {
            return;
        }
        match &self.bar {
            Some(bar) => {
                bar.set_message(message(at, &since, self.noun));
                bar.set_prefix(left(at, &since));
                bar.set_position((share(at) * LENGTH as f64) as u64);
            }
            None => {
                let _ = writeln!(std::io::stderr(), "{}", line(at, &since, self.noun));
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

/// Places of the last while, and what was done at each: how fast it goes now, whatever it did when the machine slept or had other
/// work. The first step of a process says nothing of the others, so counting begins behind it.
#[derive(Default)]
struct Marks(VecDeque<(Instant, usize, f64)>);

impl Marks {
    /// How far back the speed is measured: long enough for an evaluation or two.
    const WHILE: Duration = Duration::from_secs(600);
    /// Time between two marks.
    const BETWEEN: Duration = Duration::from_secs(5);

    /// What was done since the oldest of them, of which this place may become one.
    fn since(&mut self, now: Instant, at: &Stepped) -> Since {
        let Self(marks) = self;
        if marks.back().is_none_or(|(last, ..)| now - *last >= Self::BETWEEN) {
            marks.push_back((now, at.tokens, share(at)));
        }
        // One that is as old stays, so that the while is never shorter.
        while marks.get(1).is_some_and(|(second, ..)| now - *second >= Self::WHILE) {
            marks.pop_front();
        }
        let (then, tokens, from) = marks.front().copied().unwrap_or((now, at.tokens, share(at)));
        Since { seconds: (now - then).as_secs_f64(), tokens: at.tokens - tokens, from }
    }
}

/// What was done since a mark.
struct Since {
    seconds: f64,
    tokens: usize,
    /// The share of the work that was done then.
    from: f64,
}

/// The share of all work that is done.
fn share(at: &Stepped) -> f64 {
    (at.epoch.0 as f64 - 1.0 + at.window.0 as f64 / at.window.1 as f64) / at.epoch.1 as f64
}

/// Where it stands and how fast it goes.
fn message(at: &Stepped, since: &Since, noun: Noun) -> String {
    let ((epoch, epochs), quality) = (at.epoch, noun.quality(at.loss));
    let speed = match since.tokens {
        0 => String::new(),
        tokens => format!("  {:.0} {noun}s/s", tokens as f64 / since.seconds.max(1e-9)),
    };
    format!("epoch {epoch}/{epochs}  {quality}{speed}")
}

/// What is left where it goes on as fast; nothing where that is not known yet.
fn left(at: &Stepped, since: &Since) -> String {
    let (share, from) = (share(at), since.from);
    let left = since.seconds / (share - from).max(1e-9) * (1.0 - share);
    if share > from { format!("{} left", time(left)) } else { String::new() }
}

/// All of it, where there is no bar.
fn line(at: &Stepped, since: &Since, noun: Noun) -> String {
    format!("{}  step {}  {}", message(at, since, noun), at.step, left(at, since))
}

/// Work that says how many of `length` it has done: a bar in a terminal, which goes when the work ends, well or not, and a plain
/// line now and then elsewhere.
pub(super) fn counted<R>(
    session: &Session,
    (length, of): (usize, &'static str),
    work: impl FnOnce(&mut dyn FnMut(usize)) -> R,
) -> R {
    let bar =
        drawn(session, length as u64, "{wide_bar} {human_pos} of {human_len} {msg}, {speed}, {eta} left");
    let Some(bar) = bar.map(|bar| bar.with_message(of)) else {
        let begun = Instant::now();
        let mut last_line = begun;
        return work(&mut |done| {
            if last_line.elapsed() > PAUSE {
                session.say(counted_line((done, length, of), begun.elapsed()));
                last_line = Instant::now();
            }
        });
    };
    let result = work(&mut |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    result
}

/// What the bar would say.
fn counted_line((done, length, of): (usize, usize, &str), spent: Duration) -> String {
    let speed = done as f64 / spent.as_secs_f64().max(1e-9);
    let left = (length.saturating_sub(done)) as f64 / speed.max(1e-9);
    format!(
        "{} of {} {of}, {speed:.0}/s, {} left",
        HumanCount(done as u64),
        HumanCount(length as u64),
        time(left)
    )
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
    // Without the decimals that indicatif gives it.
    let speed = |state: &ProgressState, to: &mut dyn std::fmt::Write| {
        let _ = write!(to, "{:.0}/s", state.per_sec());
    };
    Some(match ProgressStyle::with_template(form) {
        Ok(style) => bar.with_style(style.with_key("speed", speed)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use rnn_lm::tokenizer::{Options, Tokenizer, Unit};

    fn noun(unit: Unit) -> Noun {
        Noun::of(&Tokenizer::train(b"a b a b\n", &Options::new(unit)).unwrap())
    }

    fn at(epoch: (usize, usize), window: (usize, usize)) -> Stepped {
        Stepped { epoch, window, step: 77, loss: 100f64.ln(), tokens: 0, lr: 0.1 }
    }

    #[test]
    fn a_plain_line_has_a_rate_and_the_time_that_is_left() {
        // 6000 words in 30 seconds. A quarter of the work was done in them, from 1/8 to 3/8, and 5/8 are left.
        let since = Since { seconds: 30.0, tokens: 6000, from: 0.125 };
        let said = line(&at((2, 4), (50, 100)), &since, noun(Unit::Word));
        assert_eq!(said, "epoch 2/4  perplexity 100.0  200 words/s  step 77  1 min 15 s left");
        let said = line(&at((2, 4), (50, 100)), &since, noun(Unit::Byte));
        assert_eq!(said, "epoch 2/4  6.644 bits a byte  200 bytes/s  step 77  1 min 15 s left");
    }

    #[test]
    fn what_was_done_before_this_process_began_says_nothing_of_what_is_left() {
        // Of the last tenth of the work half was done in 100 seconds.
        let since = Since { seconds: 100.0, tokens: 50, from: 0.9 };
        assert_eq!(left(&at((10, 10), (5, 10)), &since), "1 min 40 s left");
        assert_eq!(left(&at((10, 10), (10, 10)), &since), "0 s left");
    }

    #[test]
    fn what_a_machine_did_long_ago_says_nothing_of_what_it_does_now() {
        let begun = Instant::now();
        let mut marks = Marks::default();
        // A window a second, of 10 tokens each; the machine sleeps for an hour behind the hundredth.
        let mut said = Vec::new();
        for window in 0..=1000 {
            let slept = if window > 100 { 3600 } else { 0 };
            let now = begun + Duration::from_secs(window as u64 + slept);
            let since = marks.since(now, &Stepped { tokens: 10 * window, ..at((1, 1), (window, 10_000)) });
            said.push((
                since.tokens as f64 / since.seconds.max(1e-9),
                left(&at((1, 1), (window, 10_000)), &since),
            ));
        }
        assert_eq!(
            (said[100].0, said[100].1.as_str()),
            (10.0, "2 h 45 min left"),
            "all of it counts while it is short"
        );
        assert!(said[101].0 < 1.0, "{}", said[101].0);
        assert_eq!((said[1000].0, said[1000].1.as_str()), (10.0, "2 h 30 min left"));
        // What is kept does not grow.
        assert!(marks.0.len() < 130, "{}", marks.0.len());
    }

    #[test]
    fn after_one_step_nobody_knows_how_fast_it_goes_and_what_is_left() {
        let since = Since { seconds: 0.0, tokens: 0, from: 0.25 };
        assert_eq!(message(&at((2, 4), (0, 100)), &since, noun(Unit::Word)), "epoch 2/4  perplexity 100.0");
        assert_eq!(left(&at((2, 4), (0, 100)), &since), "");
    }

    #[test]
    fn counted_work_has_a_line_of_how_much_is_done_how_fast_and_what_is_left() {
        let line = counted_line((30_000, 1_200_000, "tokens"), Duration::from_secs(15));
        assert_eq!(line, "30,000 of 1,200,000 tokens, 2000/s, 9 min 45 s left");
    }

    #[test]
    fn a_time_has_the_two_largest_parts_that_it_has() {
        for (seconds, said) in [
            (0.4, "0 s"),
            (59.4, "59 s"),
            (59.6, "1 min 00 s"),
            (61.0, "1 min 01 s"),
            (3599.4, "59 min 59 s"),
            (3599.6, "1 h 00 min"),
            (7325.0, "2 h 02 min"),
            (360_000.0, "100 h 00 min"),
        ] {
            assert_eq!(time(seconds), said, "{seconds}");
        }
    }
}
