//! `rnn-lm info`: what a run is and how far it came.

use super::noun::Noun;
use super::print;
use super::progress::time;
use anyhow::Result;
use clap::Args;
use rnn_core::border::pytorch::StateDict;
use rnn_lm::run::{METRICS, MODEL, Run};
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
        let weights = run.path(MODEL);
        let parameters = weights.exists().then(|| -> Result<usize> {
            let weights = StateDict::read(&weights)?;
            Ok(weights.shapes().map(|(_, dims)| dims.iter().product::<usize>()).sum())
        });
        let parameters = parameters.transpose()?;
        let metrics = std::fs::read_to_string(run.path(METRICS)).unwrap_or_default();
        let lines: Vec<Value> = metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let loss = |line: &Value| line["valid_loss"].as_f64().or_else(|| line["train_loss"].as_f64());
        let best = lines.iter().rfind(|line| line["best"] == true);
        if self.json {
            return print(json!({
                "config": serde_json::to_value(&run.config)?, "vocabulary": run.tokenizer.len(),
                "parameters": parameters, "measured": lines.len(), "best": best, "last": lines.last(),
            }));
        }
        let noun = Noun::of(&run.tokenizer);
        print(format_args!("run         {}", run.folder().display()))?;
        print(format_args!("tokens      {noun}s, {} different ones", run.tokenizer.len()))?;
        let tied = if model.tied { ", tied" } else { "" };
        let count =
            parameters.map_or_else(|| "not trained yet".into(), |count| format!("{count} parameters"));
        print(format_args!(
            "model       {} x {} of {}, embedding {}{tied}; {count}",
            model.layers, model.cell, model.hidden, model.embed
        ))?;
        if !run.config.data.corpus.is_empty() {
            print(format_args!("corpus      {}", run.config.data.corpus))?;
        }
        if let Some(last) = lines.last() {
            let seconds = last["seconds"].as_f64().unwrap_or(0.0);
            print(format_args!(
                "trained     {} steps, epoch {} of {}, {}",
                last["step"],
                last["epoch"],
                training.epochs,
                time(seconds)
            ))?;
        }
        for (name, line) in [("best", best), ("last", lines.last())] {
            if let Some((line, loss)) = line.and_then(|line| Some((line, loss(line)?))) {
                print(format_args!("{name:<12}{}, after step {}", noun.quality(loss), line["step"]))?;
            }
        }
        Ok(())
    }
}
