//! How far training has come: a bar in a terminal, a plain line now and then elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

pub struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    started: Instant,
    last_line: Instant,
    done: usize,
    total: usize,
    epochs: usize,
}

/// Seconds between two plain lines.
const PAUSE: Duration = Duration::from_secs(10);

impl Progress {
    pub fn new(per_epoch: usize, epochs: usize, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let total = per_epoch * epochs;
        let bar = (terminal && !quiet).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}, {eta} left") {
                bar.set_style(style);
            }
            bar
        });
        let now = Instant::now();
        Self { bar, plain: !terminal && !quiet, started: now, last_line: now, done: 0, total, epochs }
    }

    /// After each step: the epoch's mean loss so far, and all tokens so far.
    pub fn step(&mut self, epoch: usize, loss: f64, tokens: usize) {
        self.done += 1;
        let seconds = self.started.elapsed().as_secs_f64();
        let message = || {
            let speed = tokens as f64 / seconds;
            let epochs = self.epochs;
            format!(
                "epoch {}/{epochs}  loss {loss:.3}  perplexity {:.1}  {speed:.0} tokens/s",
                epoch + 1,
                loss.exp()
            )
        };
        if let Some(bar) = &self.bar {
            bar.set_message(message());
            bar.set_position(self.done as u64);
        } else if self.plain && (self.last_line.elapsed() > PAUSE || self.done == self.total) {
            let left = seconds / self.done as f64 * (self.total - self.done) as f64;
            // Nobody may be reading: that is no reason to stop.
            let _ = writeln!(
                std::io::stderr(),
                "{}  step {}/{}  {left:.0} s left",
                message(),
                self.done,
                self.total
            );
            self.last_line = Instant::now();
        }
    }

    /// Leaves the last state of the bar where it is.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
