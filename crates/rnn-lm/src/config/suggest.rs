//! Settings for a text that nobody has looked at: by its size and by its kind.

use super::{Config, Data, Model, Rates, Training};
use crate::Result;
use crate::data::TextFile;

impl Config {
    /// What to begin with for this text: words where it was prepared for them (it has `<unk>`), bytes where it is not UTF-8,
    /// and characters else; a model, and so many epochs, that about ten minutes on two cores are enough.
    ///
    /// # Errors
    /// Where the text cannot be read.
    pub fn suggest(text: &TextFile) -> Result<Self> {
        /// Bytes that are looked at.
        const SAMPLE: u64 = 1 << 20;
        let sample = text.first(SAMPLE)?.read()?;
        Ok(match std::str::from_utf8(&sample) {
            Err(_) => letters("byte", text.len()),
            Ok(sample) if sample.split_whitespace().any(|word| word == "<unk>") => words(text.len()),
            Ok(_) => letters("char", text.len()),
        })
    }
}

fn words(bytes: u64) -> Config {
    /// Of English, and one of the blank behind it.
    const BYTES_OF_A_WORD: u64 = 5;
    let epochs = (6_000_000 * BYTES_OF_A_WORD / bytes.max(1)).clamp(1, 20) as usize;
    Config {
        model: Model { embed: 200, hidden: 200, init: "pytorch".into(), tied: true, ..Model::default() },
        dropout: Rates { input: 0.2, output: 0.3, ..Rates::default() },
        training: Training { epochs, ..Training::default() },
        ..Config::default()
    }
}

fn letters(tokens: &str, bytes: u64) -> Config {
    // About so many characters are learnt from in eight minutes.
    let epochs = (6_000_000 / bytes.max(1)).clamp(1, 40) as usize;
    Config {
        data: Data { tokens: tokens.into(), max_vocab: 0, ..Data::default() },
        model: Model { embed: 64, hidden: 512, init: "pytorch".into(), ..Model::default() },
        dropout: Rates { output: 0.5, weight: 0.2, ..Rates::default() },
        training: Training {
            batch: 16,
            time: 64,
            epochs,
            rule: "adam".into(),
            lr: 0.003,
            clip_norm: 1.0,
            schedule: "cosine".into(),
            warmup: 100,
            ..Training::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let config = Config::suggest(&TextFile::open(&path).unwrap()).unwrap();
            config.check().unwrap();
            assert_eq!(config.data.tokens, want);
        }
    }
}
