//! Byte-level BPE, by the crate `tokenizers`: it learns pieces and cuts text into them. What a file has is looked at before
//! that crate sees it, which takes some mistakes badly, and a panic of its is an error here.

use super::bytes;
use super::json::{Json, vocabulary};
use super::Options;
use crate::{Error, Result};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

#[derive(Debug)]
pub(super) struct Bpe {
    tokenizer: Tokenizer,
    json: String,
    /// The bytes of each piece, by id.
    pieces: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
}

impl Bpe {
    /// Learns at most `max` pieces, the 256 bytes among them.
    pub(super) fn train(text: &str, max: Option<usize>) -> Result<Self> {
        let size = max.unwrap_or(Options::PIECES);
        if size < 256 {
            return Err(Error::invalid("max_vocab of bpe", "at least 256, one for each byte", size));
        }
        if text.is_empty() {
            return Err(Error::invalid("bpe", "a text to learn pieces from", "an empty one"));
        }
        let trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(size)
            .min_frequency(2)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut tokenizer = Tokenizer::new(BPE::default());
        let lines = SplitPattern::String("\n".into());
        let lines = Split::new(lines, SplitDelimiterBehavior::MergedWithPrevious, false).map_err(odd)?;
        let pieces = ByteLevel::new(false, false, true);
        tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![lines.into(), pieces.into()])));
        tokenizer.with_decoder(Some(pieces));
        let trained = guarded(|| {
            let mut trainer = TrainerWrapper::from(trainer);
            tokenizer.train(&mut trainer, text.split_inclusive('\n')).map(drop)
        });
        trained?.map_err(odd)?;
        let json = tokenizer.to_string(true).map_err(odd)?;
        Self::from_json(&Json::read("bpe", &json)?, &json)
    }

    pub(super) fn from_json(file: &Json<'_>, text: &str) -> Result<Self> {
        let all = vocabulary(file)?;
        let added: Vec<&str> = file.value["added_tokens"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|token| token["content"].as_str())
            .collect();
        let in_bytes = |token: &&str| -> Result<Vec<u8>> {
            if added.contains(token) {
                return Ok(token.as_bytes().to_vec());
            }
            let bytes: Option<Vec<u8>> = token.chars().map(bytes::byte).collect();
            bytes.ok_or_else(|| {
                file.wrong("pieces of bytes, in GPT-2's alphabet", format!("{token:?}"))
                    .hint("only byte-level BPE is read")
            })
        };
        let pieces: Vec<Vec<u8>> = all.iter().map(in_bytes).collect::<Result<_>>()?;
        let ids: HashMap<Vec<u8>, u32> =
            pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), id as u32)).collect();
        if let Some(missing) = (0..=u8::MAX).find(|&byte| !ids.contains_key(&[byte][..])) {
            return Err(file.wrong("a piece for each byte", format!("none for 0x{missing:02X}")));
        }
        merges(file, &all)?;
        let tokenizer = guarded(|| Tokenizer::from_str(text))?;
        let tokenizer = tokenizer.map_err(|error| file.wrong("a tokenizer", error))?;
        Ok(Self { tokenizer, json: text.to_string(), pieces, ids })
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn json(&self) -> &str {
        &self.json
    }

    pub(super) fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(id as usize).map(Vec::as_slice)
    }

    pub(super) fn id(&self, piece: &[u8]) -> Option<u32> {
        self.ids.get(piece).copied()
    }

    /// Line by line, so that it does not matter where a text is cut between lines.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let encoded = guarded(|| self.tokenizer.encode_batch_fast(lines, false))?.map_err(odd)?;
        Ok(encoded.iter().flat_map(|line| line.get_ids().iter().copied()).collect())
    }
}

/// Each merge of two pieces that there are, into one that there is.
fn merges(file: &Json<'_>, all: &[&str]) -> Result<()> {
    let known: std::collections::HashSet<&str> = all.iter().copied().collect();
    let merges = file.value["model"]["merges"].as_array();
    for merge in merges.ok_or_else(|| file.wrong("model.merges", "none"))? {
        let pair = match (merge.as_str(), merge.as_array().map(Vec::as_slice)) {
            (Some(line), _) => line.split_once(' '),
            (_, Some([a, b])) => a.as_str().zip(b.as_str()),
            _ => None,
        };
        let fits = pair.is_some_and(|(a, b)| {
            known.contains(a) && known.contains(b) && known.contains(format!("{a}{b}").as_str())
        });
        if !fits {
            return Err(file.wrong("merges of two pieces into a third", merge));
        }
    }
    Ok(())
}

/// A panic of that crate is an error.
fn guarded<R>(f: impl FnOnce() -> R) -> Result<R> {
    catch_unwind(AssertUnwindSafe(f))
        .map_err(|_| Error::invalid("tokenizer", "one that the crate `tokenizers` can use", "one on which it fails"))
}

fn odd(error: impl std::fmt::Display) -> Error {
    Error::invalid("tokenizer", "what the crate `tokenizers` can use", error)
}
