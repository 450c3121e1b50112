//! What a training came to, beside what counting achieves on the same text.

use super::Session;
use super::noun::{Noun, bits};
use super::progress::{counted, waiting};
use anyhow::Result;
use rnn_lm::evaluate::{Order, TIME};
use rnn_lm::run::{CONFIG, End, Fit, quoted};
use rnn_lm::yardstick::{KneserNey, Unigram, perplexity};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// The figures.
pub(super) struct Verdict {
    run: PathBuf,
    noun: Noun,
    /// Of the model, in nats a token: on the text to measure on, as one stream.
    model: Option<f64>,
    /// Name and perplexity of each yardstick.
    yardsticks: Vec<(String, f64)>,
    /// Why there are none.
    silent: Option<String>,
    tokens: usize,
    steps: u64,
    epochs: usize,
    end: End,
}

/// Tokens that counting has room for.
const MOST: usize = 20_000_000;

/// The order of a yardstick of letters and bytes: words of some length are in it.
const OF_LETTERS: usize = 8;

impl Verdict {
    pub(super) fn new(fit: &Fit, end: End, session: &Session) -> Result<Self> {
        let run = fit.run();
        let noun = Noun::of(&run.tokenizer);
        let mut verdict = Self {
            run: run.folder().into(),
            noun,
            model: None,
            yardsticks: Vec::new(),
            silent: None,
            tokens: 0,
            steps: fit.steps(),
            epochs: run.config.training.epochs,
            end,
        };
        let Some(valid) = fit.valid() else {
            verdict.silent = Some("there was no text to measure on (--valid names one)".into());
            return Ok(verdict);
        };
        let valid = valid.some()?;
        session.say("measuring the best weights");
        let model = run.model(rnn_core::Way::Fused, &session.device)?;
        let measured = counted(session, (valid.len(), "tokens"), |progress| {
            Order::Whole.evaluate(model.as_ref(), &valid, TIME, Some(progress))
        })?;
        verdict.model = Some(measured.loss());
        verdict.tokens = valid.len();
        let train = fit.train().source();
        if train.len() > MOST {
            verdict.silent =
                Some(format!("{} {noun}s are learnt from, and at most {MOST} counted", train.len()));
            return Ok(verdict);
        }
        let train = &train.first(MOST)?;
        let counting = waiting(session, "counting phrases for comparison".into());
        let vocabulary = run.tokenizer.len();
        let order = if noun.is_large() { KneserNey::ORDER } else { OF_LETTERS }.min(train.len());
        let unigram = perplexity(&Unigram::new(train, vocabulary)?, &valid)?;
        let phrases = perplexity(&KneserNey::new(train, vocabulary, order)?, &valid)?;
        counting.finish_and_clear();
        verdict.yardsticks = vec![
            ("nothing known but the vocabulary".into(), vocabulary as f64),
            ("how often each comes (unigram)".into(), unigram),
            (format!("phrases counted (Kneser-Ney, order {order})"), phrases),
        ];
        Ok(verdict)
    }

    /// Whether the model has learnt more than counting knows.
    fn wins(&self) -> Option<bool> {
        let best = self.yardsticks.iter().map(|(_, perplexity)| *perplexity).reduce(f64::min)?;
        Some(self.model? < best.ln())
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let Some(model) = self.model else {
            let why = self.silent.as_deref().unwrap_or("nothing was measured");
            return format!("trained {} steps; no comparison: {why}", self.steps);
        };
        let _ = writeln!(text, "on the {} {}s to measure on:", self.tokens, self.noun);
        let yardsticks = self.yardsticks.iter().map(|(name, perplexity)| (name.as_str(), perplexity.ln()));
        for (name, loss) in yardsticks.chain([("this model", model)]) {
            let _ = writeln!(text, "  {name:<42}{}", self.noun.quality(loss));
        }
        let longer = match self.end {
            End::Early => {
                let config = self.run.join(CONFIG);
                format!("wait longer for something better (stop_after in {}, then resume)", config.display())
            }
            _ => format!(
                "let it learn longer (`rnn-lm resume {} --epochs {}`)",
                quoted(&self.run),
                2 * self.epochs
            ),
        };
        match (self.wins(), self.silent.as_deref()) {
            (Some(true), _) => text.push_str("It has learnt more than counting knows."),
            (Some(false), _) => {
                let _ = write!(
                    text,
                    "Counting still wins: {longer}, make it larger (--hidden), or,\nif the loss while learning is far \
                     below this, drop more (--dropout 0.5) or find more text."
                );
            }
            (None, why) => {
                let _ = write!(text, "No comparison: {}.", why.unwrap_or("nothing was counted"));
            }
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let yardsticks: serde_json::Map<String, Value> = ["uniform", "unigram", "kneser_ney"]
            .iter()
            .zip(&self.yardsticks)
            .map(|(name, (_, perplexity))| ((*name).to_string(), json!(perplexity)))
            .collect();
        json!({
            "run": self.run.display().to_string(), "steps": self.steps, "token": self.noun.to_string(), "tokens": self.tokens,
            "perplexity": self.model.map(f64::exp),
            "bits_per_token": self.model.map(bits),
            "yardsticks": yardsticks, "beats_counting": self.wins(),
        })
    }
}
