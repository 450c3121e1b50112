//! Bytes as tokens: the id is the value. Their `tokenizer.json` is byte pair encoding without a pair.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::json::{document, kind_of, text};
use crate::error::Result;

/// Every byte at its own place.
pub(super) const ALL: [u8; 256] = {
    let mut all = [0; 256];
    let mut at = 0;
    while at < all.len() {
        all[at] = at as u8;
        at += 1;
    }
    all
};

/// The character that stands for each byte in a file: itself where it is printable Latin-1, else the next one
/// from U+0100 on. That is GPT-2's rule, which keeps white space and control characters out of files.
pub(super) static ALPHABET: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = (0x100..).filter_map(char::from_u32);
    ALL.map(|byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => next.next().unwrap_or_default(),
    })
});

static VALUES: LazyLock<HashMap<char, u8>> = LazyLock::new(|| ALPHABET.iter().copied().zip(ALL).collect());

/// The bytes that a piece of a file stands for; none where it has a character outside the alphabet.
pub(super) fn of_piece(piece: &str) -> Option<Vec<u8>> {
    piece.chars().map(|c| VALUES.get(&c).copied()).collect()
}

/// The part of a file that turns text into the alphabet, and back.
pub(super) fn byte_level(use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex
    })
}

/// The content of the `tokenizer.json`.
pub(super) fn to_json() -> Result<String> {
    let vocab: Map<_, _> = ALPHABET.iter().map(char::to_string).zip(ALL.map(Value::from)).collect();
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
        "vocab": vocab, "merges": []
    });
    text(&document(Value::Null, byte_level(false), byte_level(false), model))
}

/// Whether a file is that of bytes: ids are values, there are no pairs, and text is neither changed nor cut first.
pub(super) fn is(file: &Value) -> bool {
    let model = &file["model"];
    let none = |part: &Value| part.as_array().is_none_or(Vec::is_empty);
    let vocab = model["vocab"].as_object();
    let cuts = &file["pre_tokenizer"];
    let off = |key: &str| model[key].is_null() || model[key] == "";
    [cuts, &file["decoder"]].into_iter().all(|part| kind_of(part) == "ByteLevel")
        && ["dropout", "continuing_subword_prefix", "end_of_word_suffix"].into_iter().all(off)
        && none(&model["merges"])
        && none(&file["added_tokens"])
        && file["normalizer"].is_null()
        && cuts["use_regex"] == Value::Bool(false)
        && cuts["add_prefix_space"] == Value::Bool(false)
        && vocab.is_some_and(|vocab| {
            let id = |byte: &u8| vocab.get(&ALPHABET[usize::from(*byte)].to_string()).and_then(Value::as_u64);
            vocab.len() == ALL.len() && ALL.iter().all(|byte| id(byte) == Some(u64::from(*byte)))
        })
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Tokenizer, Unit};
    use super::*;

    #[test]
    fn ids_are_values_and_files_say_so() {
        let tokenizer = Tokenizer::train(b"", &Options::new(Unit::Byte)).expect("tokenizer");
        assert_eq!(tokenizer.encode(&ALL).expect("ids"), (0..256).collect::<Vec<u32>>());
        let json = tokenizer.to_json().expect("json");
        let again = Tokenizer::from_json("t.json", &json).expect("tokenizer");
        assert_eq!((again.unit(), again.len(), again.begin(), again.unknown()), (Unit::Byte, 256, 10, None));
        assert_eq!(again.to_json().expect("json"), json);
    }

    #[test]
    fn a_file_that_changes_the_text_first_is_not_that_of_bytes() {
        let file: Value = serde_json::from_str(&to_json().expect("json")).expect("json");
        for (place, value) in
            [("/normalizer", json!({"type": "NFC"})), ("/pre_tokenizer/add_prefix_space", json!(true))]
        {
            let mut file = file.clone();
            *file.pointer_mut(place).expect("place") = value;
            let theirs: tokenizers::Tokenizer = file.to_string().parse().expect("their tokenizer");
            let ours = Tokenizer::from_json("t.json", &file.to_string()).expect("tokenizer");
            assert_eq!(ours.unit(), Unit::Bpe);
            let text = "e\u{301} a";
            let want = theirs.encode_fast(text, false).expect("encoding").get_ids().to_vec();
            assert_eq!(ours.encode(text.as_bytes()).expect("ids"), want, "{place}");
        }
    }

    #[test]
    fn a_file_that_cuts_in_a_way_of_its_own_is_refused() {
        let file: Value = serde_json::from_str(&to_json().expect("json")).expect("json");
        for (place, value, want) in [
            ("/pre_tokenizer/type", json!("Metaspace"), "t.json: pre_tokenizer: expected ByteLevel"),
            ("/decoder", json!(null), "t.json: decoder: expected ByteLevel, got null"),
            ("/model/dropout", json!(0.1), "t.json: model.dropout: expected null, got 0.1"),
        ] {
            let mut file = file.clone();
            *file.pointer_mut(place).expect("place") = value;
            let error = Tokenizer::from_json("t.json", &file.to_string()).expect_err("refused").to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn the_crate_tokenizers_gives_the_same_ids() {
        let their: tokenizers::Tokenizer = to_json().expect("json").parse().expect("their tokenizer");
        for text in ["", "a b\r\n\n", "né 🦀 \u{0}\u{7f}\u{ad}"] {
            let ids = their.encode_fast(text, false).expect("encoding").get_ids().to_vec();
            assert_eq!(ids, text.bytes().map(u32::from).collect::<Vec<_>>());
            assert_eq!(their.decode(&ids, false).expect("text"), text);
        }
    }

    #[test]
    fn the_alphabet_is_that_of_the_crate_tokenizers() {
        let theirs = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        assert!(ALPHABET.iter().all(|c| theirs.contains(c)));
        let all: String = ALPHABET.iter().collect();
        assert_eq!(of_piece(&all).expect("bytes"), ALL);
        assert_eq!(of_piece("日"), None);
    }
}
