//! Settings for a text that nobody has looked at: by its size and by its kind.

use super::{Config, Data, Model, Rates, Training};
use crate::Result;
use crate::data::TextFile;
use crate::tokenizer::Unit;

impl Config {
    /// What to begin with for this text: a model, and so many epochs, that about ten minutes on two slow cores are enough
    /// ([`Self::most_epochs`] says what a faster machine may add). Where nobody says what a token is, it is a word if the text
    /// was prepared for that (it has `<unk>`), a byte if it is not UTF-8, and else a character.
    ///
    /// # Errors
    /// Where the text cannot be read.
    pub fn suggest(text: &TextFile, unit: Option<Unit>) -> Result<Self> {
        let unit = unit.map_or_else(|| look(text), Ok)?;
        let mut config = match unit {
            Unit::Word => words(Data { tokens: "word".into(), ..Data::default() }, text.len()),
            Unit::Bpe => words(Data { tokens: "bpe".into(), max_vocab: 4000, ..Data::default() }, text.len()),
            Unit::Char => letters("char", text.len()),
            Unit::Byte => letters("byte", text.len()),
        };
        let (learnt, held_out) = text.split(config.data.holdout)?;
        if learnt.is_empty() || held_out.len() < LEAST {
            config.data.holdout = 0.0;
        }
        let tokens = config.learnt(text)?;
        shorten(&mut config.training, tokens);
        config.suggest_warmup(text)?;
        Ok(config)
    }

    /// Epochs after which what is suggested for this text learns little more.
    ///
    /// # Errors
    /// Where tokens are none of those that there are.
    pub fn most_epochs(&self, text: &TextFile) -> Result<usize> {
        Ok(match self.tokens()?.unit {
            Unit::Word | Unit::Bpe => epochs_of_words(text.len()),
            Unit::Char | Unit::Byte => epochs_of_letters(text.len()).max(LETTERS_MOST),
        })
    }

    /// Tokens to learn from, rather too few than too many.
    fn learnt(&self, text: &TextFile) -> Result<usize> {
        let bytes = text.len() as f64 * (1.0 - self.data.holdout);
        Ok(bytes as usize / bytes_of(self.tokens()?.unit))
    }

    /// A warm-up that is a tenth of the training at most: a rate that only ever rises teaches a short text little.
    ///
    /// # Errors
    /// Where tokens are none of those that there are.
    pub fn suggest_warmup(&mut self, text: &TextFile) -> Result<()> {
        let most = match self.tokens()?.unit {
            Unit::Word | Unit::Bpe => 200,
            Unit::Char | Unit::Byte => 100,
        };
        let tokens = self.learnt(text)?;
        let training = &mut self.training;
        let window = training.batch.saturating_mul(training.time).saturating_mul(training.accumulate).max(1);
        let steps = tokens.div_ceil(window).saturating_mul(training.epochs) as u64;
        training.warmup = (steps / 10).min(most);
        Ok(())
    }
}

/// Bytes that are worth a measurement.
const LEAST: u64 = 64;

/// Bytes of a token, rather too many than too few.
fn bytes_of(unit: Unit) -> usize {
    match unit {
        Unit::Word => 8,
        Unit::Bpe => 6,
        // Of the letters of many scripts.
        Unit::Char => 3,
        Unit::Byte => 1,
    }
}

/// Windows that a short text of so many tokens has some of.
fn shorten(training: &mut Training, tokens: usize) {
    training.time = training.time.min(tokens / 4).max(1);
    training.batch = training.batch.min(tokens / (2 * training.time)).max(1);
}

/// What a token is, by the beginning of the text.
fn look(text: &TextFile) -> Result<Unit> {
    const SAMPLE: u64 = 1 << 20;
    let sample = text.first(SAMPLE)?.read()?;
    Ok(match std::str::from_utf8(&sample) {
        Err(_) => Unit::Byte,
        Ok(sample) if sample.split_whitespace().any(|word| word == "<unk>") => Unit::Word,
        Ok(_) => Unit::Char,
    })
}

fn words(data: Data, bytes: u64) -> Config {
    let epochs = epochs_of_words(bytes);
    Config {
        data,
        model: Model { embed: 160, hidden: 160, init: "pytorch".into(), tied: true, ..Model::default() },
        dropout: Rates { input: 0.2, between: 0.2, output: 0.2, ..Rates::default() },
        training: adam(Training { epochs, lr: 0.004, ..Training::default() }),
    }
}

/// With Adam along a cosine.
fn adam(training: Training) -> Training {
    Training { rule: "adam".into(), clip_norm: 1.0, schedule: "cosine".into(), ..training }
}

/// About so many bytes of words are learnt from in ten minutes.
fn epochs_of_words(bytes: u64) -> usize {
    (25_000_000 / bytes.max(1)).clamp(1, 20) as usize
}

/// Four epochs of a million characters took 9 min 49 s on two slow cores (docs/records/language_models.md).
fn epochs_of_letters(bytes: u64) -> usize {
    (4_500_000 / bytes.max(1)).clamp(1, 40) as usize
}

/// Epochs at most of a text of letters that is not short.
const LETTERS_MOST: usize = 12;

fn letters(tokens: &str, bytes: u64) -> Config {
    Config {
        data: Data { tokens: tokens.into(), max_vocab: 0, ..Data::default() },
        model: Model { embed: 64, hidden: 512, init: "pytorch".into(), ..Model::default() },
        dropout: Rates { output: 0.5, weight: 0.2, ..Rates::default() },
        training: adam(Training {
            batch: 16,
            time: 64,
            epochs: epochs_of_letters(bytes),
            lr: 0.003,
            ..Training::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_has_windows_too() {
        let mut training = letters("char", 0).training;
        shorten(&mut training, 4096);
        assert_eq!((training.batch, training.time), (16, 64), "as it is");
        for (tokens, want) in [(2047, (15, 64)), (200, (2, 50)), (40, (2, 10)), (3, (1, 1)), (0, (1, 1))] {
            let mut training = letters("char", 0).training;
            shorten(&mut training, tokens);
            assert_eq!((training.batch, training.time), want, "{tokens}");
        }
    }

    #[test]
    fn a_short_training_warms_up_for_a_tenth_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        for (bytes, want) in [(14_000, 6), (4_000_000, 200)] {
            std::fs::write(&path, "a <unk> of words\n".repeat(bytes / 17)).unwrap();
            let mut config = Config::suggest(&TextFile::open(&path).unwrap(), None).unwrap();
            assert_eq!(config.training.warmup, want, "{bytes}");
            config.training.epochs = 1;
            config.suggest_warmup(&TextFile::open(&path).unwrap()).unwrap();
            assert_eq!(config.training.warmup, if bytes < 1 << 20 { 0 } else { 64 }, "{bytes}");
        }
    }

    #[test]
    fn tokens_are_what_the_text_is_made_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        for (text, want) in [
            (&b"the <unk> sat on the mat\n"[..], "word"),
            (b"The cat sat on the mat.\n", "char"),
            (b"caf\xe9 au lait\n", "byte"),
        ] {
            std::fs::write(&path, text.repeat(1000)).unwrap();
            let config = Config::suggest(&TextFile::open(&path).unwrap(), None).unwrap();
            config.check().unwrap();
            assert_eq!(config.data.tokens, want);
        }
        for unit in Unit::ALL {
            let config = Config::suggest(&TextFile::open(&path).unwrap(), Some(unit)).unwrap();
            config.check().unwrap();
            assert_eq!(config.data.tokens, unit.to_string());
        }
    }
}
