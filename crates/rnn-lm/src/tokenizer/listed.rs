//! Words and characters: tokens that stand in a list.

use super::Unit;
use super::json::{Json, vocabulary};
use crate::data::{EOS, Tokens, UNK, Vocabulary};
use crate::{Error, Result};
use indexmap::IndexMap;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) tokens: Tokens,
    pub(super) vocabulary: Arc<Vocabulary>,
}

/// Cuts text into single characters, the line feed among them.
const EACH: &str = "(?s).";

impl Listed {
    pub(super) fn new(tokens: Tokens, vocabulary: Arc<Vocabulary>) -> Self {
        Self { tokens, vocabulary }
    }

    pub(super) fn unit(&self) -> Unit {
        match self.tokens {
            Tokens::Word => Unit::Word,
            Tokens::Char => Unit::Char,
        }
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.vocabulary.encode(self.tokens.split(text))
    }

    /// What makes the same ids of a text elsewhere, if each of its lines has an end.
    pub(super) fn to_json(&self) -> Value {
        let (normalizer, pre_tokenizer, decoder) = match self.tokens {
            Tokens::Word => {
                (replace("\n", &format!(" {EOS} ")), json!({ "type": "WhitespaceSplit" }), Value::Null)
            }
            Tokens::Char => {
                let split = json!({
                    "type": "Split", "pattern": { "Regex": EACH }, "behavior": "Isolated", "invert": false
                });
                (replace("\r\n", "\n"), split, json!({ "type": "Fuse" }))
            }
        };
        let vocab: serde_json::Map<String, Value> =
            self.vocabulary.tokens().enumerate().map(|(id, token)| (token.to_string(), json!(id))).collect();
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null,
            "decoder": decoder,
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": UNK },
        })
    }

    /// Of characters where it is cut into these, else of words.
    pub(super) fn from_json(file: &Json<'_>) -> Result<Self> {
        let split = &file.value["pre_tokenizer"];
        let tokens = match split["type"].as_str() {
            Some("Split") if split["pattern"]["Regex"] == EACH => Tokens::Char,
            None | Some("WhitespaceSplit" | "Whitespace") => Tokens::Word,
            Some(other) => {
                let want = "a pre_tokenizer WhitespaceSplit for words, or Split on \"(?s).\" for characters";
                return Err(file.wrong(want, other));
            }
        };
        let vocabulary = vocabulary(file)?;
        if let Some(unk) = file.value["model"]["unk_token"].as_str()
            && unk != UNK
            && vocabulary.contains(&unk)
        {
            let error = file.wrong(&format!("{UNK} for what is not in the vocabulary"), unk);
            return Err(error.hint(format!("rename {unk} in the file: its id stays")));
        }
        Ok(Self::new(tokens, Arc::new(Vocabulary::from_tokens(vocabulary)?)))
    }
}

fn replace(pattern: &str, content: &str) -> Value {
    json!({ "type": "Replace", "pattern": { "String": pattern }, "content": content })
}

/// The same tokens in the order of frequency; of those that are equally frequent, in the order that they had.
pub(super) fn by_frequency<'a>(
    vocabulary: &Vocabulary,
    text: impl Iterator<Item = &'a str>,
) -> Result<Vocabulary> {
    let mut counts: IndexMap<&str, usize> = vocabulary.tokens().map(|token| (token, 0)).collect();
    for token in text {
        let token = if counts.contains_key(token) { token } else { UNK };
        if let Some(count) = counts.get_mut(token) {
            *count += 1;
        }
    }
    // The sort is stable.
    counts.sort_by(|_, a, _, b| b.cmp(a));
    Vocabulary::from_tokens(counts.into_keys()).map_err(|error: Error| error)
}
