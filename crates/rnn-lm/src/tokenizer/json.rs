//! What all kinds ask of a `tokenizer.json` before anything is made of it.

use crate::{Error, Result};
use serde_json::Value;

/// A file that has been read.
#[derive(Debug)]
pub(super) struct Json<'a> {
    name: &'a str,
    pub(super) value: Value,
}

impl<'a> Json<'a> {
    pub(super) fn read(name: &'a str, text: &str) -> Result<Self> {
        let value = serde_json::from_str(text)
            .map_err(|error| Error::invalid(name, "the JSON of a tokenizer", error))?;
        Ok(Self { name, value })
    }

    /// The type of its model. Files from before there was a type have none.
    pub(super) fn kind(&self) -> Result<&str> {
        let model = &self.value["model"];
        match model["type"].as_str() {
            Some(kind) => Ok(kind),
            None if model["merges"].is_array() => Ok("BPE"),
            None => Err(self.wrong("a model with a type", "none")),
        }
    }

    pub(super) fn wrong(&self, want: &str, got: impl std::fmt::Display) -> Error {
        Error::invalid(self.name, want, got)
    }
}

pub(super) fn text(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Error::invalid("tokenizer", "what JSON has", error))
}

/// The tokens in the order of their ids, those that were added among them.
pub(super) fn vocabulary<'a>(file: &'a Json<'_>) -> Result<Vec<&'a str>> {
    let vocab = file.value["model"]["vocab"].as_object();
    let vocab = vocab.ok_or_else(|| file.wrong("model.vocab, of tokens and their ids", "none"))?;
    let added = file.value["added_tokens"].as_array().into_iter().flatten();
    let added = added.filter_map(|token| Some((token["content"].as_str()?, &token["id"])));
    let all = vocab.iter().map(|(token, id)| (token.as_str(), id)).chain(added);
    let mut tokens: Vec<Option<&str>> = Vec::new();
    for (token, id) in all {
        let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
        // So large a file there is none, but so large an id may stand in one.
        let id = id.filter(|&id| id < 1 << 26).ok_or_else(|| file.wrong("whole numbers as ids", format!("that of {token:?}")))?;
        if id >= tokens.len() {
            tokens.resize(id + 1, None);
        }
        match tokens[id] {
            Some(other) if other != token => {
                let got = format!("{id} for {other:?} and for {token:?}");
                return Err(file.wrong("each id once", got));
            }
            _ => tokens[id] = Some(token),
        }
    }
    let gap = tokens.iter().position(Option::is_none);
    match gap {
        Some(id) => Err(file.wrong(&format!("ids from 0 to {}", tokens.len() - 1), format!("none of {id}"))),
        None if tokens.is_empty() => Err(file.wrong("at least one token", "none")),
        None => Ok(tokens.into_iter().flatten().collect()),
    }
}
