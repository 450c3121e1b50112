//! `rnn-lm generate`: text out of a model.

use super::noun::Noun;
use super::{Session, open, print};
use anyhow::{Context, Result, bail};
use clap::Args;
use rnn_lm::LanguageModel;
use rnn_lm::generate::{Beam, Sampling, Stops, Writing};
use rnn_lm::tokenizer::{Tokenizer, Unit};
use serde_json::json;
use std::path::PathBuf;

/// Write with a model
///
/// The text appears as it is made. The same seed gives the same text. With --beam it is not drawn: a beam search looks for
/// the most probable continuations.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnn-lm generate runs/book --prompt \"once upon a\" --temperature 0.8 --top-p 0.95
  rnn-lm generate runs/ptb --prompt \"the meaning of life is\" --skip \"<unk>,N,$\"
  rnn-lm generate runs/book --prompt \"the king\" --beam 8 --length-penalty 0.7 --tokens 20")]
pub(super) struct Generate {
    /// The folder of the run
    run: PathBuf,
    /// What it goes on with [default: nothing; it then goes on with the run's context.txt, which is not shown]
    #[arg(long, short, default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    prompt: String,
    /// Tokens to write [default: 100 words or pieces, 500 characters or bytes]
    #[arg(long, allow_negative_numbers = true, short = 'n', value_name = "N")]
    tokens: Option<usize>,
    /// Below 1 more predictable, above 1 wilder; 0 always takes the most probable
    #[arg(long, short, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw from the N most probable tokens only; 0: from all
    #[arg(long, allow_negative_numbers = true, value_name = "N", default_value_t = 0)]
    top_k: usize,
    /// Draw from the fewest tokens whose probabilities add up to P (nucleus sampling)
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// Draw from the tokens that are at least P times as probable as the most probable one
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f64,
    /// Above 1: what was written already becomes less likely
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f64,
    /// End where this text appears; may be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Tokens that are never written, with commas between, or several times; <unk> is one unless this is given
    #[arg(long, value_name = "TOKENS")]
    skip: Vec<String>,
    /// Where random numbers come from
    #[arg(long, allow_negative_numbers = true, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many texts, each of a seed of its own
    #[arg(long, allow_negative_numbers = true, value_name = "N", default_value_t = 1)]
    samples: usize,
    /// Search instead of drawing, with so many texts side by side: shows the best with their scores, each up to the end of
    /// its line
    #[arg(long, allow_negative_numbers = true, value_name = "N", conflicts_with_all = ["temperature", "top_k", "top_p", "min_p", "repetition_penalty", "stop", "samples", "seed"])]
    beam: Option<usize>,
    /// Beam search: log-probabilities are divided by the length to this power; at 0 short lines win, 0.6 to 1 is usual
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, requires = "beam")]
    length_penalty: f64,
    /// Print JSON, one object a text
    #[arg(long)]
    json: bool,
}

impl Generate {
    pub(super) fn run(self, session: &Session) -> Result<()> {
        let (run, model) = open(&self.run, &session.device)?;
        let tokenizer = &run.tokenizer;
        let mut prompt = tokenizer.encode_part(self.prompt.as_bytes()).context("--prompt")?;
        if let Some(unknown) = tokenizer.unknown()
            && let Some(name) = tokenizer.token(unknown)
            && prompt.contains(&unknown)
            && !self.prompt.contains(&name)
        {
            session.say(format_args!(
                "note: the prompt has what the vocabulary does not; the model reads {name} for it"
            ));
        }
        if prompt.is_empty() {
            prompt = run.context()?;
        } else {
            prompt = tokenizer.behind_a_line(&prompt);
        }
        let skip = match self.skip.is_empty() {
            true => tokenizer.unknown().into_iter().collect(),
            false => skipped(tokenizer, &self.skip)?,
        };
        let count = self.tokens.unwrap_or(if Noun::of(tokenizer).is_large() { 100 } else { 500 });
        if let Some(width) = self.beam {
            // A text ends with its line.
            let ends = tokenizer.line_end().into_iter().collect();
            let beam = Beam { width, length: count, penalty: self.length_penalty, ends, skip };
            return self.search(&beam, model.as_ref(), &prompt, tokenizer);
        }
        if self.samples == 0 {
            bail!("--samples: expected at least 1, got 0");
        }
        for number in 0..self.samples {
            if number > 0 && !self.json {
                super::write("\n")?;
            }
            let seed = self.seed.wrapping_add(number as u64);
            let sampling = Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition: self.repetition_penalty,
                skip: skip.clone(),
                seed,
            };
            self.write(&sampling, count, model.as_ref(), &prompt, tokenizer)?;
        }
        Ok(())
    }

    /// Draws, and shows what is there as soon as it is.
    fn write(
        &self,
        sampling: &Sampling,
        count: usize,
        model: &dyn LanguageModel,
        prompt: &[u32],
        tokenizer: &Tokenizer,
    ) -> Result<()> {
        let show = |text: &str| if self.json { Ok(()) } else { super::write(text) };
        let mut text = String::new();
        let mut pieces = tokenizer.pieces_after(&prompt[1..])?;
        let mut stops = Stops::new(&self.stop)?;
        let (mut ids, mut stopped) = (Vec::new(), false);
        let writing = Writing::new(model, prompt, sampling)?;
        show(self.shown(tokenizer))?;
        for id in writing.take(count) {
            let id = id.or_else(|error| show("\n").and(Err(error.into())))?;
            ids.push(id);
            let shown = stops.push(&pieces.push(id)?);
            show(&shown.text)?;
            text.push_str(&shown.text);
            stopped = shown.stopped;
            if stopped {
                break;
            }
        }
        if !stopped {
            // What waits for more, of a character or of a stop string.
            let last = stops.push(&pieces.finish());
            stopped = last.stopped;
            let rest = last.text + &stops.finish();
            show(&rest)?;
            text.push_str(&rest);
        }
        if self.json {
            return print(json!({
                "prompt": self.prompt, "text": text, "ids": ids, "seed": sampling.seed, "stopped": stopped,
            }));
        }
        show("\n")
    }

    /// The prompt as it stands before what is written: a word brings the blank before it, the first one of a line has none.
    fn shown(&self, tokenizer: &Tokenizer) -> &str {
        let blank = |c: char| c.is_whitespace() && (c != '\n' || tokenizer.line_end().is_none());
        match tokenizer.unit() {
            Unit::Word => self.prompt.trim_end_matches(blank),
            Unit::Char | Unit::Byte | Unit::Bpe => &self.prompt,
        }
    }

    fn search(
        &self,
        beam: &Beam,
        model: &dyn LanguageModel,
        prompt: &[u32],
        tokenizer: &Tokenizer,
    ) -> Result<()> {
        for found in beam.search(model, prompt)? {
            let mut pieces = tokenizer.pieces_after(&prompt[1..])?;
            let mut text = String::new();
            for &id in &found.ids {
                text.push_str(&pieces.push(id)?);
            }
            text.push_str(&pieces.finish());
            if self.json {
                print(json!({
                    "prompt": self.prompt, "text": text, "ids": found.ids, "log_prob": found.log_prob,
                    "score": found.score,
                }))?;
            } else {
                let text = format!("{}{text}", self.shown(tokenizer)).replace('\n', "\\n");
                print(format_args!("{:>9.3}  {text}", found.score))?;
            }
        }
        Ok(())
    }
}

/// The ids of tokens: what is one token is that, even with a comma; else there are commas between.
fn skipped(tokenizer: &Tokenizer, all: &[String]) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for tokens in all.iter().filter(|tokens| !tokens.is_empty()) {
        if let Some(id) = id(tokenizer, tokens) {
            ids.push(id);
            continue;
        }
        for token in tokens.split(',') {
            match id(tokenizer, token) {
                Some(id) => ids.push(id),
                None => bail!(
                    "--skip: expected tokens of the vocabulary, got {token:?} (`rnn-lm score` shows them as they are)"
                ),
            }
        }
    }
    Ok(ids)
}

/// The id of a token as its text stands in a text, or as `score` shows it.
fn id(tokenizer: &Tokenizer, token: &str) -> Option<u32> {
    let shown = || (0..tokenizer.len() as u32).find(|&id| tokenizer.token(id).as_deref() == Some(token));
    tokenizer.id(token).or_else(shown)
}
