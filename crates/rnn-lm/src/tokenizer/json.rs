//! `tokenizer.json`: which tokenizer a file holds, and what all of them share.
//!
//! A file may come from anywhere, so everything in it is looked at before it is used.

use serde_json::{Value, json};

use super::bpe::Bpe;
use super::{Kind, bytes, word_level};
use crate::error::{Error, Result};

/// The tokenizer that a file holds.
pub(super) fn read(name: &str, json: &str) -> Result<Kind> {
    let file: Value = serde_json::from_str(json).map_err(|error| {
        Error::invalid(name, "a tokenizer as JSON", error).hint("it is damaged or cut off: copy it again")
    })?;
    match model_kind(&file["model"]) {
        "WordLevel" => word_level::read(name, &file).map(Kind::Listed),
        "BPE" if bytes::is(&file) => Ok(Kind::Byte),
        "BPE" => Bpe::read(name, &file).map(|bpe| Kind::Bpe(Box::new(bpe))),
        other => Err(Error::invalid(format!("{name}: model.type"), "WordLevel or BPE", other)
            .hint("train a tokenizer here, or take one of a byte-level model such as GPT-2")),
    }
}

/// The type of a model. Old files do not say it, that of GPT-2 among them; the keys tell.
fn model_kind(model: &Value) -> &str {
    let wordpiece = !model["continuing_subword_prefix"].is_null();
    match kind_of(model) {
        "none" if model["merges"].is_array() => "BPE",
        "none" if model["vocab"].is_object() && !wordpiece => "WordLevel",
        other => other,
    }
}

/// The `type` of a part: "null" where there is no part, "none" where a part has no type.
pub(super) fn kind_of(part: &Value) -> &str {
    match part {
        Value::Null => "null",
        _ => part["type"].as_str().unwrap_or("none"),
    }
}

/// A file of these parts, its keys in the order that Hugging Face writes.
pub(super) fn document(normalizer: Value, pre_tokenizer: Value, decoder: Value, model: Value) -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": decoder,
        "model": model,
    })
}

/// A file's text: a line for each token.
pub(super) fn text(file: &Value) -> Result<String> {
    serde_json::to_string_pretty(file)
        .map_err(|error| Error::invalid("Tokenizer::to_json", "what JSON can hold", error))
}

/// Tokens with their ids, of the model and those that were added to it.
#[derive(Debug, PartialEq)]
pub(super) struct Entries {
    /// Tokens in the order of their ids.
    pub(super) tokens: Vec<String>,
    /// How many of them are the model's.
    pub(super) model: usize,
}

/// All tokens of a file, whose ids must be 0 to V - 1, each once.
pub(super) fn entries(name: &str, file: &Value) -> Result<Entries> {
    let place = format!("{name}: model.vocab");
    let vocab = file["model"]["vocab"]
        .as_object()
        .filter(|vocab| !vocab.is_empty())
        .ok_or_else(|| Error::invalid(&place, "tokens with their ids", "none"))?;
    let mut listed: Vec<(u64, &str)> = Vec::with_capacity(vocab.len());
    for (token, id) in vocab {
        listed.push((id_of(&place, token, id)?, token));
    }
    for added in added(name, file)? {
        let place = format!("{name}: added_tokens");
        let content = added["content"]
            .as_str()
            .filter(|content| !content.is_empty())
            .ok_or_else(|| Error::invalid(&place, "a content for each", added))?;
        let id = id_of(&place, content, &added["id"])?;
        match vocab.get(content).and_then(Value::as_u64) {
            Some(known) if known == id => {}
            Some(known) => {
                return Err(Error::invalid(
                    &place,
                    format!("{content:?} with its id in the model, {known}"),
                    id,
                ));
            }
            None => listed.push((id, content)),
        }
    }
    // The sort is stable and ids are looked at one after the other: the first gap or double is named.
    listed.sort_by_key(|&(id, _)| id);
    for (want, &(id, token)) in (0..).zip(&listed) {
        if id < want {
            let other = listed[id as usize].1;
            return Err(Error::invalid(
                &place,
                "an id for each token",
                format!("{id} for {other:?} and {token:?}"),
            ));
        }
        if id > want {
            let got = format!("no token {want}; the next is {id}, {token:?}");
            return Err(Error::invalid(&place, "ids from 0 on without a gap", got));
        }
    }
    Ok(Entries {
        tokens: listed.into_iter().map(|(_, token)| token.to_owned()).collect(),
        model: vocab.len(),
    })
}

/// The tokens that were added to the model.
pub(super) fn added<'a>(name: &str, file: &'a Value) -> Result<&'a [Value]> {
    match &file["added_tokens"] {
        Value::Null => Ok(&[]),
        Value::Array(added) => Ok(added),
        other => Err(Error::invalid(format!("{name}: added_tokens"), "a list", other)),
    }
}

fn id_of(place: &str, token: &str, id: &Value) -> Result<u64> {
    // The largest u32 marks ignored targets, so it must not be an id.
    id.as_u64()
        .filter(|&id| id < u64::from(u32::MAX))
        .ok_or_else(|| Error::invalid(place, format!("an id for {token:?} below {}", u32::MAX), id))
}

#[cfg(test)]
mod tests {
    fn refused(json: &str) -> String {
        super::super::Tokenizer::from_json("t.json", json).expect_err("refused").to_string()
    }

    #[test]
    fn what_is_no_tokenizer_is_refused() {
        let files = [
            ("{", "t.json: expected a tokenizer as JSON, got EOF"),
            ("[]", "t.json: model.type: expected WordLevel or BPE, got null"),
            (r#"{"model": {}}"#, "got none"),
            (r#"{"model": {"type": "Unigram"}}"#, "got Unigram (train a tokenizer here"),
            (
                r#"{"model": {"type": "WordLevel"}}"#,
                "t.json: model.vocab: expected tokens with their ids, got none",
            ),
        ];
        for (json, expected) in files {
            let error = refused(json);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn old_files_do_not_say_their_type() {
        let words = r#"{"model": {"vocab": {"a": 0, "<unk>": 1}, "unk_token": "<unk>"}}"#;
        let tokenizer = super::super::Tokenizer::from_json("t.json", words).expect("words");
        assert_eq!(tokenizer.encode(b"z a").expect("ids"), [1, 0]);
        let pieces = r###"{"model": {"vocab": {"a": 0}, "continuing_subword_prefix": "##"}}"###;
        assert!(refused(pieces).contains("expected WordLevel or BPE, got none"));
    }

    #[test]
    fn ids_that_are_no_row_are_refused() {
        let files = [
            (r#"{"a": 0, "b": 2}"#, "[]", "without a gap, got no token 1; the next is 2, \"b\""),
            (r#"{"a": 1}"#, "[]", "got no token 0; the next is 1, \"a\""),
            (r#"{"a": 0, "b": 1, "c": 1}"#, "[]", "got 1 for \"b\" and \"c\""),
            (r#"{"a": 0, "b": 0}"#, "[]", "got 0 for \"a\" and \"b\""),
            (r#"{"a": -1}"#, "[]", "an id for \"a\" below 4294967295, got -1"),
            (r#"{"a": 4294967295}"#, "[]", "an id for \"a\" below 4294967295, got 4294967295"),
            (r#"{"a": "0"}"#, "[]", "got \"0\""),
            (r#"{"a": 0}"#, r#"[{"id": 1, "content": "a"}]"#, "\"a\" with its id in the model, 0, got 1"),
            (r#"{"a": 0}"#, r#"[{"id": 0, "content": "b"}]"#, "got 0 for \"a\" and \"b\""),
            (r#"{"a": 0}"#, r#"[{"id": 1, "content": ""}]"#, "a content for each"),
            (r#"{"a": 0}"#, "{}", "t.json: added_tokens: expected a list"),
        ];
        for (vocab, added, expected) in files {
            let json =
                format!(r#"{{"added_tokens": {added}, "model": {{"type": "WordLevel", "vocab": {vocab}}}}}"#);
            let error = refused(&json);
            assert!(error.contains(expected), "{error}");
        }
    }
}
