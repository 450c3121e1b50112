//! Ctrl-C, or what else asks a process to end.

use super::INTERRUPTED;
use anyhow::{Context, Result};
use rnn_lm::run::abandon;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody asked it to.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    asked: Arc<AtomicBool>,
    /// Whether there is something that would be lost by not waiting.
    training: Arc<AtomicBool>,
}

impl Stop {
    /// From now on.
    pub(super) fn new() -> Result<Self> {
        let stop = Self::default();
        let of_handler = stop.clone();
        on_signals(move || of_handler.ask()).context("Ctrl-C")?;
        Ok(stop)
    }

    /// Who asks twice, or before or after the training, does not want to wait.
    fn ask(&self) {
        if !self.training.load(Ordering::Relaxed) || self.asked.swap(true, Ordering::Relaxed) {
            abandon();
            std::process::exit(INTERRUPTED.into());
        }
    }

    /// While `work` looks for itself, whenever it can stop, whether it was asked to.
    pub(super) fn while_training<R>(&self, work: impl FnOnce() -> R) -> R {
        self.training.store(true, Ordering::Relaxed);
        let result = work();
        self.training.store(false, Ordering::Relaxed);
        result
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// What was ignored when this process began stays so: `nohup` is for trainings that go on behind a hang-up.
#[cfg(unix)]
fn on_signals(asked: impl Fn() + Send + 'static) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let ignored = ignored();
    let heard = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = signal_hook::iterator::Signals::new(heard)?;
    std::thread::Builder::new().spawn(move || signals.forever().for_each(|_| asked()))?;
    Ok(())
}

/// The signals that this process ignores, a bit each from signal 1 on; none where the system does not say so in a file.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(not(unix))]
fn on_signals(asked: impl Fn() + Send + 'static) -> Result<()> {
    Ok(ctrlc::set_handler(asked)?)
}
