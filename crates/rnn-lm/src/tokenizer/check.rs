//! Whether a file of byte pairs is what it must be: all tokens are known, and so is the way to cut text.

use std::collections::HashSet;

use serde_json::Value;

use super::bytes::{self, ALPHABET};
use super::json::{Entries, added, kind_of};
use crate::error::{Error, Result};

/// A way to cut text that may stand before ByteLevel.
const BEFORE: [&str; 2] = ["Split", "Digits"];

/// The model: every byte is a token, and pairs are made of tokens.
pub(super) fn model(name: &str, model: &Value, entries: &Entries) -> Result<()> {
    let tokens: HashSet<&str> = entries.tokens[..entries.model].iter().map(String::as_str).collect();
    // The crate counts added tokens from the end of the model's.
    if let Some(token) = tokens.iter().find(|token| !model["vocab"].get(**token).is_some_and(Value::is_u64)) {
        let got = format!("{token:?} among the model's");
        return Err(Error::invalid(format!("{name}: added_tokens"), "ids after those of the model", got));
    }
    if let Some(missing) = ALPHABET.iter().find(|c| !tokens.contains(c.to_string().as_str())) {
        let got = format!("none for {missing:?}");
        return Err(Error::invalid(format!("{name}: model.vocab"), "a token for every byte", got)
            .hint("only byte-level models, such as GPT-2, can be used"));
    }
    for (key, off) in [
        ("dropout", &[Value::Null][..]),
        ("continuing_subword_prefix", &[Value::Null, Value::from("")]),
        ("end_of_word_suffix", &[Value::Null, Value::from("")]),
        ("byte_fallback", &[Value::Null, Value::Bool(false)]),
    ] {
        let got = &model[key];
        if !off.contains(got) {
            return Err(Error::invalid(format!("{name}: model.{key}"), "null", got)
                .hint("only byte-level models, such as GPT-2, can be used"));
        }
    }
    let merges = model["merges"].as_array();
    let merges = merges.ok_or_else(|| Error::invalid(format!("{name}: model.merges"), "a list", "none"))?;
    for (index, merge) in merges.iter().enumerate() {
        let known = pair(merge)
            .is_some_and(|(a, b)| [a, b, &format!("{a}{b}")].iter().all(|token| tokens.contains(*token)));
        if !known {
            let expected = "two tokens that are one together";
            return Err(Error::invalid(format!("{name}: model.merges[{index}]"), expected, merge));
        }
    }
    Ok(())
}

/// A pair as it is written today, or with a space between the two as it was before.
fn pair(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(text) => text.split_once(' '),
        Value::Array(two) => match two.as_slice() {
            [a, b] => Some((a.as_str()?, b.as_str()?)),
            _ => None,
        },
        _ => None,
    }
}

/// A checksum of the pairs that are joined, however they are written, and of whether a word that is a token is not made of pairs.
pub(super) fn merges(model: &Value) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for (a, b) in model["merges"].as_array().into_iter().flatten().filter_map(pair) {
        for part in [a, " ", b, "\n"] {
            sum.update(part.as_bytes());
        }
    }
    if model["ignore_merges"] == true {
        sum.update(b"ignore_merges");
    }
    sum.finalize()
}

/// What the crate does to a text before it makes pairs, as JSON that does not depend on how the file was written; none where it is
/// what a tokenizer that was trained here does.
pub(super) fn before(tokenizer: &tokenizers::Tokenizer) -> Result<Option<String>> {
    let json = |part: serde_json::Result<Value>| {
        part.map_err(|error| Error::invalid("tokenizer", "what JSON can hold", error))
    };
    let normalizer = json(serde_json::to_value(tokenizer.get_normalizer()))?;
    let mut cuts = json(serde_json::to_value(tokenizer.get_pre_tokenizer()))?;
    let ours = bytes::byte_level(true);
    if kind_of(&cuts) == "ByteLevel" {
        // Where a token ends in the text is not asked for here.
        cuts["trim_offsets"] = ours["trim_offsets"].clone();
    }
    let mut added: Vec<_> = tokenizer.get_added_tokens_decoder().into_iter().collect();
    added.sort_unstable_by_key(|&(id, _)| id);
    let added: Vec<_> = added.into_iter().map(|(_, token)| token).collect();
    let added = json(serde_json::to_value(added))?;
    let plain = normalizer.is_null() && cuts == ours && added.as_array().is_none_or(Vec::is_empty);
    Ok((!plain).then(|| Value::from([normalizer, cuts, added]).to_string()))
}

/// What stands around the model.
pub(super) fn parts(name: &str, file: &Value) -> Result<()> {
    let refuse = |part: &str, expected: &str| {
        Err(Error::invalid(format!("{name}: {part}"), expected, kind_of(&file[part]))
            .hint("only byte-level models, such as GPT-2, can be used"))
    };
    let cuts = &file["pre_tokenizer"];
    let known = match kind_of(cuts) {
        "ByteLevel" => true,
        "Sequence" => {
            cuts["pretokenizers"].as_array().and_then(|all| all.split_last()).is_some_and(|(last, before)| {
                kind_of(last) == "ByteLevel" && before.iter().all(|part| BEFORE.contains(&kind_of(part)))
            })
        }
        _ => false,
    };
    if !known {
        return refuse("pre_tokenizer", "ByteLevel, alone or after Split and Digits");
    }
    if kind_of(&file["decoder"]) != "ByteLevel" {
        return refuse("decoder", "ByteLevel");
    }
    if !matches!(kind_of(&file["normalizer"]), "null" | "NFC") {
        return refuse("normalizer", "none or NFC");
    }
    Ok(())
}

/// The added tokens, where a text may be cut around them as [`super::cut`] does; none where it must stay
/// whole.
pub(super) fn cut_around(name: &str, file: &Value) -> Result<Option<Vec<String>>> {
    let cuts = &file["pre_tokenizer"];
    let plain = file["normalizer"].is_null()
        && kind_of(cuts) == "ByteLevel"
        && cuts["add_prefix_space"] == Value::Bool(false)
        && matches!(cuts["use_regex"], Value::Null | Value::Bool(true));
    let mut around = Vec::new();
    for token in added(name, file)? {
        let content = token["content"].as_str().unwrap_or_default();
        let strips =
            [&token["lstrip"], &token["rstrip"]].into_iter().any(|strip| *strip != Value::Bool(false));
        if strips || content.contains(char::is_whitespace) {
            return Ok(None);
        }
        around.push(content.to_owned());
    }
    Ok(plain.then_some(around))
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Tokenizer, Unit, bytes};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::LazyLock;

    static GOOD: LazyLock<Value> = LazyLock::new(|| {
        let options = Options { max: Some(262), ..Options::new(Unit::Bpe) };
        let tokenizer = Tokenizer::train(&b"hello hello\n\n".repeat(2), &options).expect("tokenizer");
        let mut file: Value = serde_json::from_str(&tokenizer.to_json().expect("json")).expect("json");
        file["added_tokens"] = json!([{
            "id": file["model"]["vocab"].as_object().expect("vocab").len(), "content": "<s>",
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true
        }]);
        file
    });

    fn load(file: &Value) -> Result<Tokenizer> {
        Tokenizer::from_json("t.json", &file.to_string())
    }

    /// The good file with another value at a place.
    fn with(place: &str, value: Value) -> Value {
        let mut file = GOOD.clone();
        *file.pointer_mut(place).expect("place") = value;
        file
    }

    #[test]
    fn damaged_files_are_refused_by_place() {
        let level = || bytes::byte_level(true);
        let cases = [
            ("/model/merges", json!(null), "t.json: model.merges: expected a list"),
            (
                "/model/merges/0",
                json!(["h", "x"]),
                "t.json: model.merges[0]: expected two tokens that are one",
            ),
            ("/model/merges/1", json!("h"), "t.json: model.merges[1]"),
            ("/model/merges/0", json!(["h", 1]), "t.json: model.merges[0]"),
            ("/model/merges/0", json!("h e"), "t.json: "),
            ("/model/dropout", json!(0.5), "t.json: model.dropout: expected null, got 0.5"),
            ("/model/end_of_word_suffix", json!("</w>"), "t.json: model.end_of_word_suffix"),
            ("/model/continuing_subword_prefix", json!("##"), "t.json: model.continuing_subword_prefix"),
            ("/model/byte_fallback", json!(true), "t.json: model.byte_fallback"),
            ("/model/vocab", json!({"a": 0}), "t.json: model.vocab: expected ids from 0 on without a gap"),
            (
                "/pre_tokenizer",
                json!({"type": "Metaspace"}),
                "t.json: pre_tokenizer: expected ByteLevel, alone",
            ),
            (
                "/pre_tokenizer",
                json!({"type": "Sequence", "pretokenizers": [level(), {"type": "Digits"}]}),
                "got Sequence",
            ),
            ("/decoder", json!(null), "t.json: decoder: expected ByteLevel, got null ("),
            ("/normalizer", json!({"type": "NFKC"}), "t.json: normalizer: expected none or NFC, got NFKC"),
            (
                "/added_tokens/0",
                json!({"id": 5, "content": "<s>"}),
                "t.json: model.vocab: expected an id for each",
            ),
            ("/added_tokens/0/lstrip", json!(3), "t.json: expected a file that the crate tokenizers can use"),
            ("/version", json!("9"), "t.json: expected a file that the crate tokenizers can use"),
        ];
        for (place, value, expected) in cases {
            let error = load(&with(place, value)).expect_err(place).to_string();
            assert!(error.contains(expected), "{place}: {error}");
        }
        let small = |vocab: Value, added: Value| {
            let file = json!({"model": {"type": "BPE", "vocab": vocab}, "added_tokens": added});
            load(&file).expect_err("small").to_string()
        };
        let error = small(json!({"a": 0}), json!([]));
        assert!(
            error.contains("t.json: model.vocab: expected a token for every byte, got none for 'Ā'"),
            "{error}"
        );
        let error = small(json!({"a": 0, "b": 2}), json!([{"id": 1, "content": "<s>"}]));
        assert!(
            error.contains("t.json: added_tokens: expected ids after those of the model, got \"<s>\""),
            "{error}"
        );
    }

    #[test]
    fn other_ways_to_cut_text_are_taken_whole() {
        let before =
            json!({"type": "Split", "pattern": {"Regex": "l"}, "behavior": "Isolated", "invert": false});
        let parts = [
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
            json!({"type": "Sequence", "pretokenizers": [before, bytes::byte_level(false)]}),
            bytes::byte_level(false),
        ];
        for part in parts {
            let file = with("/pre_tokenizer", part);
            assert_eq!(cut_around("t.json", &file).expect("cut"), None);
            let tokenizer = load(&file).expect("tokenizer");
            let ids = tokenizer.encode(b"hello hello\n").expect("ids");
            assert_eq!(tokenizer.decode(&ids).expect("text").trim_start(), "hello hello\n");
        }
        assert_eq!(cut_around("t.json", &GOOD).expect("cut"), Some(vec!["<s>".to_string()]));
        let file = with("/added_tokens/0/rstrip", json!(true));
        assert_eq!(cut_around("t.json", &file).expect("cut"), None);
    }

    /// A value of a file by a number: going down one step at a time.
    fn place(value: &mut Value, mut way: u64) -> &mut Value {
        let count = match value {
            Value::Array(items) => items.len(),
            Value::Object(items) => items.len(),
            _ => 0,
        } as u64;
        if count == 0 || way == 0 {
            return value;
        }
        let at = (way % count) as usize;
        way /= count;
        match value {
            Value::Array(items) => place(&mut items[at], way),
            Value::Object(items) => place(items.values_mut().nth(at).expect("value"), way),
            _ => unreachable!(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn no_file_makes_the_crate_panic(
            way in any::<u64>(), other in 0..9usize, text in "[helo <s>\n]{0,20}",
        ) {
            let values = [
                json!(null), json!(0), json!(-1), json!(u32::MAX), json!(""), json!("h"), json!([]), json!({}),
                json!(true),
            ];
            let mut file = GOOD.clone();
            *place(&mut file, way >> 8) = values[other].clone();
            match load(&file) {
                Ok(tokenizer) => match tokenizer.encode(text.as_bytes()) {
                    Ok(ids) => { tokenizer.decode(&ids).expect("ids in range"); }
                    Err(error) => prop_assert!(!error.to_string().contains("panic"), "{}", error),
                },
                Err(error) => prop_assert!(!error.to_string().contains("panic"), "{}", error),
            }
        }
    }
}
