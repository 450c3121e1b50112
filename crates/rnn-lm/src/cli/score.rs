//! `rnn-lm score`: how likely a model takes lines to be.

use super::{Session, open, print};
use anyhow::{Context, Result, bail};
use clap::Args;
use rnn_lm::evaluate::log_probs;
use rnn_lm::tokenizer::Tokenizer;
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::PathBuf;

/// Say how likely a model takes lines to be
///
/// A line of JSON for each line of the text: `log_prob`, its natural logarithm, and `tokens`, each with its own. Each line
/// stands by itself, after the end of another; with --carry it follows the line before, and all together are what
/// `evaluate` measures (where the very first token is given, and has none).
#[derive(Debug, Args)]
pub(super) struct Score {
    /// The folder of the run
    run: PathBuf,
    /// The text, - for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Let each line follow the one before
    #[arg(long)]
    carry: bool,
    /// As it is: what it prints is JSON
    #[arg(long, hide = true)]
    json: bool,
}

impl Score {
    pub(super) fn run(self, session: &Session) -> Result<()> {
        let (run, model) = open(&self.run, &session.device)?;
        let tokenizer = &run.tokenizer;
        let (input, name): (Box<dyn Read>, _) = match self.file.to_str() {
            Some("-") => {
                if std::io::stdin().is_terminal() {
                    session.say("reading what is typed here, line by line, until Ctrl-D");
                }
                (Box::new(std::io::stdin()), "standard input".to_string())
            }
            _ => {
                let name = self.file.display().to_string();
                (Box::new(File::open(&self.file).with_context(|| name.clone())?), name)
            }
        };
        let mut lines = Lines { input: BufReader::new(input), name, number: 0 };
        if !self.carry {
            while let Some((line, mut ids)) = lines.next(tokenizer)? {
                ids.insert(0, tokenizer.begin());
                let scores: Vec<_> = log_probs(model.as_ref(), &ids)?.into_iter().map(Some).collect();
                show(lines.number, &line, (&ids[1..], &scores), tokenizer)?;
            }
            return Ok(());
        }
        let (mut all, mut ids) = (Vec::new(), Vec::new());
        while let Some((line, more)) = lines.next(tokenizer)? {
            all.push((line, more.len()));
            ids.extend(more);
        }
        let mut scores = vec![None; ids.len().min(1)];
        scores.extend(log_probs(model.as_ref(), &ids)?.into_iter().map(Some));
        let mut at = 0;
        for (number, (line, count)) in all.iter().enumerate() {
            let of = at..at + count;
            show(number + 1, line, (&ids[of.clone()], &scores[of]), tokenizer)?;
            at += count;
        }
        Ok(())
    }
}

/// Line after line, as bytes and as ids.
struct Lines {
    input: BufReader<Box<dyn Read>>,
    name: String,
    number: usize,
}

impl Lines {
    fn next(&mut self, tokenizer: &Tokenizer) -> Result<Option<(Vec<u8>, Vec<u32>)>> {
        let mut line = Vec::new();
        if self.input.read_until(b'\n', &mut line).with_context(|| self.name.clone())? == 0 {
            return Ok(None);
        }
        self.number += 1;
        // What some editors put in front of a text is none of it.
        if self.number == 1 && line.starts_with("\u{feff}".as_bytes()) {
            line.drain(..3);
        }
        let ids = tokenizer.encode(&line).with_context(|| format!("{}, line {}", self.name, self.number))?;
        Ok(Some((line, ids)))
    }
}

fn show(
    number: usize,
    line: &[u8],
    (ids, scores): (&[u32], &[Option<f64>]),
    tokenizer: &Tokenizer,
) -> Result<()> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    let of = |(&id, score): (&u32, &Option<f64>)| json!({ "token": tokenizer.token(id), "log_prob": score });
    let tokens: Vec<_> = ids.iter().zip(scores).map(of).collect();
    // The sum of none is -0.
    let sum: f64 = scores.iter().flatten().sum::<f64>() + 0.0;
    if !sum.is_finite() {
        bail!(
            "line {number}: expected a finite log-probability, got {sum}: the weights of the run are not numbers"
        );
    }
    print(json!({ "line": number, "text": text, "log_prob": sum, "tokens": tokens }))
}
