//! The text to learn from: a file, or the King James text out of a crate.

use crate::{Args, king_james};
use anyhow::{Context, Result, bail};
use rnn_lm::data::{Corpus, Tokens, Unknown, VocabularyOptions, read_text};

/// The corpus and what to measure on; none for the book's experiment, which has none.
pub fn load(args: &Args) -> Result<(Corpus, Option<Corpus>)> {
    let (text, origin) = match &args.corpus {
        Some(path) => (read_text(path).context("--corpus")?, format!("--corpus {}", path.display())),
        None => {
            let lines = king_james::books()?.concat();
            (lines.join("\n") + "\n", "the King James text".to_string())
        }
    };
    if args.book {
        if args.valid.is_some() || args.tokens != Tokens::Word {
            bail!("--book: measures on the words it learns from; leave out --valid and --tokens");
        }
        let options = VocabularyOptions { max: None, unknown: Unknown::Error };
        let corpus = Corpus::from_text(&text, Tokens::Word, options).context(origin.clone())?;
        let words = corpus.first(1000).with_context(|| format!("--book learns from 1000 words: {origin}"))?;
        return Ok((words, None));
    }
    let (train, valid, of_valid) = match &args.valid {
        Some(path) => (text, read_text(path).context("--valid")?, format!("--valid {}", path.display())),
        None => {
            let (train, valid) = split(&text);
            (train, valid, format!("the last tenth of {origin} (--valid FILE measures on another text)"))
        }
    };
    let max = (args.tokens == Tokens::Word).then_some(args.max_vocab);
    let options = VocabularyOptions { max, unknown: Unknown::Add };
    let train = Corpus::from_text(&train, args.tokens, options).context(origin)?;
    let valid = Corpus::with_vocabulary(&valid, args.tokens, train.vocabulary.clone()).context(of_valid)?;
    Ok((train, Some(valid)))
}

/// The first nine tenths of the lines and the others; of a text of few lines, of its words.
fn split(text: &str) -> (String, String) {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.len() >= 10 {
        let cut = lines.len() * 9 / 10;
        return (lines[..cut].concat(), lines[cut..].concat());
    }
    let goal = text.len() * 9 / 10;
    let cut =
        text.char_indices().find(|&(i, c)| i >= goal && c.is_whitespace()).map_or(text.len(), |(i, _)| i);
    (text[..cut].into(), text[cut..].into())
}
