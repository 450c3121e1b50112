//! `rnn-lm score`: how likely a model takes lines to be.

use super::lines::each;
use super::{Session, open, print};
use anyhow::{Context, Result, bail};
use clap::Args;
use rnn_lm::LanguageModel;
use rnn_lm::data::{behind_mark, open_text};
use rnn_lm::evaluate::log_probs;
use rnn_lm::tokenizer::Tokenizer;
use serde_json::json;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::PathBuf;

/// Say how likely a model takes lines to be
///
/// A line of JSON for each line of the text: `log_prob`, its natural logarithm, and `tokens`, each with its own. Each line
/// stands by itself, after the end of another, and all together are what `evaluate --lines` measures. With --carry each
/// follows the line before, and all together are what `evaluate` measures (where the very first token is given, and has none).
/// Pieces of BPE that go over a line's end are then of the line in which they begin.
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
                (Box::new(open_text(&self.file)?), name)
            }
        };
        let input = behind_mark(BufReader::new(input)).with_context(|| name.clone())?;
        match self.carry {
            true => carried(input, &name, tokenizer, model.as_ref()),
            false => one_by_one(input, &name, tokenizer, model.as_ref()),
        }
    }
}

/// Each line after the end of another.
fn one_by_one(
    input: impl BufRead,
    name: &str,
    tokenizer: &Tokenizer,
    model: &dyn LanguageModel,
) -> Result<()> {
    each(input, name, tokenizer, |number, line, ids| {
        let scores = log_probs(model, &tokenizer.behind_a_line(&ids))?;
        let scores: Vec<_> = scores.into_iter().map(Some).collect();
        show(number, line, (&ids, &scores), tokenizer)
    })
}

/// All lines as one text.
fn carried(mut input: impl Read, name: &str, tokenizer: &Tokenizer, model: &dyn LanguageModel) -> Result<()> {
    let mut text = Vec::new();
    input.read_to_end(&mut text).with_context(|| name.to_string())?;
    let ids = tokenizer.encode_lines(&text).with_context(|| name.to_string())?;
    let all = ids.concat();
    let mut scores = vec![None; all.len().min(1)];
    scores.extend(log_probs(model, &all)?.into_iter().map(Some));
    let (lines, mut at) = (text.split_inclusive(|&byte| byte == b'\n'), 0);
    for ((number, line), ids) in (1..).zip(lines).zip(&ids) {
        show(number, line, (ids, &scores[at..at + ids.len()]), tokenizer)?;
        at += ids.len();
    }
    Ok(())
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
