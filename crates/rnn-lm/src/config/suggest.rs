//! Settings for a text that nobody has looked at: by its size and by its kind.

use super::{Config, Data, Model, Rates, Training};
use crate::Result;
use crate::data::TextFile;
use crate::tokenizer::Unit;
use std::ops::RangeInclusive;

impl Config {
    /// What to begin with for this text: a model, and the fewest epochs of [`Self::suggest_epochs`]. Where nobody says what a
    /// token is, it is a word if the text was prepared for that (one in a thousand is `<unk>`), a byte if it is not UTF-8, and
    /// else a character.
    ///
    /// # Errors
    /// Where the text cannot be read.
    pub fn suggest(text: &TextFile, unit: Option<Unit>) -> Result<Self> {
        let unit = unit.map_or_else(|| look(text), Ok)?;
        let data = Data { tokens: unit.to_string(), ..Data::default() };
        let mut config = match unit {
            Unit::Word => words(data),
            Unit::Bpe => words(Data { max_vocab: 4000, ..data }),
            Unit::Char | Unit::Byte => letters(data, text.len()),
        };
        config.training.epochs = *config.suggest_epochs(text)?.start();
        let (learnt, held_out) = text.split(config.data.holdout)?;
        if learnt.is_empty() || held_out.len() < LEAST {
            config.data.holdout = 0.0;
        }
        config.suggest_windows(text)?;
        config.suggest_warmup(text)?;
        Ok(config)
    }

    /// How often to read this text: from as many epochs as two slow cores read in about ten minutes to the most that are worth
    /// it.
    ///
    /// # Errors
    /// Where tokens are none of those that there are.
    pub fn suggest_epochs(&self, text: &TextFile) -> Result<RangeInclusive<usize>> {
        let (unit, first) = (self.tokens()?.unit, self.data.first as u64);
        let bytes = match first {
            0 => text.len(),
            first => text.len().min(first.saturating_mul(bytes_of(unit, text)? as u64)),
        };
        Ok(Pace::of(unit).epochs(bytes))
    }

    /// A rate that goes with the rule where somebody chose that: one of Adam's teaches SGD nothing.
    pub fn suggest_rate(&mut self) {
        if self.training.rule == "sgd" {
            // Without gates gradients are large.
            let plain = self.model.cell == "rnn";
            self.training.lr = if plain { 1.0 } else { Training::default().lr };
        }
    }

    /// Windows that are not too long for what of this text is learnt from, which may be less than was thought before.
    ///
    /// # Errors
    /// Where tokens are none of those that there are, or the text cannot be read.
    pub fn suggest_windows(&mut self, text: &TextFile) -> Result<()> {
        let tokens = self.learnt(text)?;
        shorten(&mut self.training, tokens);
        Ok(())
    }

    /// Tokens to learn from, rather too few than too many.
    fn learnt(&self, text: &TextFile) -> Result<usize> {
        let options = self.tokens()?;
        let bytes = text.len() as f64 * (1.0 - self.data.holdout);
        Ok((bytes as usize / bytes_of(options.unit, text)?).min(options.at_most()))
    }

    /// A warm-up that is a tenth of the training at most: a rate that only ever rises teaches a short text little.
    ///
    /// # Errors
    /// Where tokens are none of those that there are.
    pub fn suggest_warmup(&mut self, text: &TextFile) -> Result<()> {
        let most = Pace::of(self.tokens()?.unit).warmup;
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
fn bytes_of(unit: Unit, text: &TextFile) -> Result<usize> {
    Ok(match unit {
        Unit::Word => 8.max(bytes_of_words(text)?),
        // Of a short text a piece may be a whole word.
        Unit::Bpe => 6.max(bytes_of_words(text)?),
        // Of the letters of many scripts.
        Unit::Char => 3,
        Unit::Byte => 1,
    })
}

/// Bytes of a word with the blank before it, by the beginning of a text: some scripts have none between words.
fn bytes_of_words(text: &TextFile) -> Result<usize> {
    const SAMPLE: u64 = 1 << 16;
    let sample = text.first(SAMPLE)?.read()?;
    let words = sample.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
    Ok(sample.len().div_ceil(words.max(1)))
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
    let Ok(sample) = std::str::from_utf8(&sample) else { return Ok(Unit::Byte) };
    let (mut words, mut unknown) = (0, 0);
    for word in sample.split_whitespace() {
        words += 1;
        unknown += usize::from(word == "<unk>");
    }
    // One that only talks of it is not prepared.
    Ok(if unknown > 0 && unknown * 1000 >= words { Unit::Word } else { Unit::Char })
}

/// How long to learn from tokens of a kind.
struct Pace {
    /// Bytes that two slow cores read in less than ten minutes (docs/records/language_models.md).
    ten_minutes: u64,
    /// Epochs that teach something new even where they are of a short text, and where they are of any.
    short: usize,
    any: usize,
    /// Steps of the warm-up at most.
    warmup: u64,
}

impl Pace {
    fn of(unit: Unit) -> Self {
        match unit {
            Unit::Word | Unit::Bpe => Self { ten_minutes: 10_000_000, short: 20, any: 5, warmup: 200 },
            Unit::Char | Unit::Byte => Self { ten_minutes: 7_500_000, short: 20, any: 12, warmup: 100 },
        }
    }

    /// How often a text of so many bytes is read, at least and at most.
    fn epochs(&self, bytes: u64) -> RangeInclusive<usize> {
        let least = ((self.ten_minutes / bytes.max(1)) as usize).clamp(1, self.short);
        least..=least.max(self.any)
    }
}

fn words(data: Data) -> Config {
    Config {
        data,
        model: Model { embed: 160, hidden: 160, init: "pytorch".into(), tied: true, ..Model::default() },
        dropout: Rates { input: 0.2, between: 0.2, output: 0.2, ..Rates::default() },
        training: adam(Training { lr: 0.004, ..Training::default() }),
    }
}

/// With Adam along a cosine.
fn adam(training: Training) -> Training {
    Training { rule: "adam".into(), clip_norm: 1.0, schedule: "cosine".into(), ..training }
}

fn letters(data: Data, bytes: u64) -> Config {
    // What is read often is learnt by heart, unless more of it is dropped.
    let (output, weight) = if bytes < 500_000 { (0.5, 0.2) } else { (0.3, 0.1) };
    Config {
        data: Data { max_vocab: 0, ..data },
        model: Model { embed: 64, hidden: 384, init: "pytorch".into(), ..Model::default() },
        // Small and steady states are learnt faster too, and bear the higher rate (docs/records/language_models.md).
        dropout: Rates { output, weight, activation: 1.0, temporal: 0.5, ..Rates::default() },
        training: adam(Training { batch: 16, time: 64, lr: 0.007, ..Training::default() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_blanks_has_fewer_words_than_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        for (line, want) in [("you say goodbye and i say hello\n", 5), (&*("世".repeat(40) + "\n"), 121)] {
            std::fs::write(&path, line.repeat(100)).unwrap();
            let text = TextFile::open(&path).unwrap();
            assert_eq!(bytes_of_words(&text).unwrap(), want);
            let config = Config::suggest(&text, Some(Unit::Word)).unwrap();
            let words = line.split_whitespace().count() * 90;
            assert!(config.training.batch * config.training.time < words, "{line}");
        }
    }

    #[test]
    fn a_short_text_has_windows_too() {
        let mut training = letters(Data::default(), 0).training;
        shorten(&mut training, 4096);
        assert_eq!((training.batch, training.time), (16, 64), "as it is");
        for (tokens, want) in [(2047, (15, 64)), (200, (2, 50)), (40, (2, 10)), (3, (1, 1)), (0, (1, 1))] {
            let mut training = letters(Data::default(), 0).training;
            shorten(&mut training, tokens);
            assert_eq!((training.batch, training.time), want, "{tokens}");
        }
    }

    #[test]
    fn a_long_text_is_read_less_often_and_a_short_one_not_without_end() {
        for (bytes, letters, words) in [
            (0, 20..=20, 20..=20),
            (500_000, 15..=15, 20..=20),
            (1_000_000, 7..=12, 10..=10),
            (4_600_000, 1..=12, 2..=5),
            (u64::MAX, 1..=12, 1..=5),
        ] {
            assert_eq!(Pace::of(Unit::Char).epochs(bytes), letters, "{bytes}");
            assert_eq!(Pace::of(Unit::Word).epochs(bytes), words, "{bytes}");
        }
    }

    #[test]
    fn a_short_training_warms_up_for_a_tenth_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        for (bytes, want) in [(14_000, 6), (4_000_000, 128)] {
            std::fs::write(&path, "a <unk> of words\n".repeat(bytes / 17)).unwrap();
            let mut config = Config::suggest(&TextFile::open(&path).unwrap(), None).unwrap();
            assert_eq!(config.training.warmup, want, "{bytes}");
            config.training.epochs = 1;
            config.suggest_warmup(&TextFile::open(&path).unwrap()).unwrap();
            assert_eq!(config.training.warmup, if bytes < 1 << 20 { 0 } else { 64 }, "{bytes}");
            (config.training.epochs, config.data.first) = (50, 700);
            config.suggest_warmup(&TextFile::open(&path).unwrap()).unwrap();
            assert_eq!(config.training.warmup, 5, "a window an epoch");
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
