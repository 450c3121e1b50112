//! `rnn-lm info`: what a run is and how far it came.

use super::noun::Noun;
use super::print;
use super::progress::time;
use super::train::in_vain;
use anyhow::Result;
use clap::Args;
use rnn_lm::run::{CHECKPOINT, Run};
use rnn_lm::train::{Checkpoint, Position};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Say what a run is and how far it came
#[derive(Debug, Args)]
pub(super) struct Info {
    /// The folder of the run
    run: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(super) fn run(self) -> Result<()> {
        let run = Run::open(&self.run)?;
        let (model, training) = (&run.config.model, &run.config.training);
        let lines = run.measured()?;
        let loss = |line: &Value| line["valid_loss"].as_f64().or_else(|| line["train_loss"].as_f64());
        let best = lines.iter().rfind(|line| line["best"] == true);
        // All else can be said of a run whose weights or whose checkpoint are damaged, or an earlier version's.
        let parameters = run.parameters();
        let damaged = parameters.as_ref().err().map(ToString::to_string);
        let read = || Checkpoint::read(run.path(CHECKPOINT))?.position();
        let place = run.has(CHECKPOINT)?.then(read).transpose();
        let unreadable = place.as_ref().err().map(ToString::to_string);
        let place = place.ok().flatten();
        if self.json {
            let stands = place.map(|at| json!({ "step": at.steps, "epochs": at.epochs, "window": at.read }));
            return print(json!({
                "config": serde_json::to_value(&run.config)?, "vocabulary": run.tokenizer.len(), "stands": stands,
                "unreadable": unreadable, "damaged": damaged,
                "parameters": parameters.ok().flatten(), "measured": lines.len(), "best": best, "last": lines.last(),
            }));
        }
        let noun = Noun::of(&run.tokenizer);
        print(format_args!("run         {}", run.folder().display()))?;
        print(format_args!("tokens      {noun}s, {} different ones", run.tokenizer.len()))?;
        let tied = if model.tied { ", tied" } else { "" };
        let count = match parameters {
            Ok(Some(count)) => format!("{count} parameters"),
            Ok(None) => "no weights yet".into(),
            Err(_) => "weights that cannot be read".into(),
        };
        print(format_args!("model       {}, embedding {}{tied}; {count}", model.sizes(), model.embed))?;
        if !run.config.data.corpus.is_empty() {
            print(format_args!("corpus      {}", run.config.data.corpus))?;
        }
        if let Some(Position { steps, epochs, read, rate }) = place {
            let (of, seconds) = (training.epochs, lines.last().and_then(|last| last["seconds"].as_f64()));
            let took = seconds.map_or_else(String::new, |seconds| format!(", {}", time(seconds)));
            let no_better = rate.since_best();
            let early = training.stop_after > 0 && no_better >= training.stop_after;
            print(match (epochs >= of, read) {
                (true, _) => format!("trained     {steps} steps, epoch {of} of {of}{took}"),
                _ if early => {
                    let why = in_vain(no_better);
                    format!("trained     {steps} steps, epoch {epochs} of {of}{took}: {why}")
                }
                (false, 0) => {
                    format!("trained     {steps} steps, epoch {epochs} of {of}{took}; `resume` goes on")
                }
                (false, _) => format!(
                    "trained     {steps} steps, {read} window{} into epoch {} of {of}; `resume` goes on",
                    if read == 1 { "" } else { "s" },
                    epochs + 1
                ),
            })?;
        }
        for (what, why) in [("weights", damaged), ("checkpoint", unreadable)] {
            if let Some(why) = why {
                print(format_args!("{what:<12}{why}"))?;
            }
        }
        for (name, line) in [("best", best), ("last", lines.last())] {
            if let Some((line, loss)) = line.and_then(|line| Some((line, loss(line)?))) {
                let on = match line["valid_loss"].is_null() {
                    true => "while learning".to_string(),
                    false => format!("in {} streams", training.batch),
                };
                print(format_args!("{name:<12}{} {on}, after step {}", noun.quality(loss), line["step"]))?;
            }
        }
        Ok(())
    }
}
