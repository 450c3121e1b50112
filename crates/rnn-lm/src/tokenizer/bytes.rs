//! Bytes: each is its own id. In a file it is a BPE of bytes that are never joined, in the alphabet of GPT-2, which has a
//! printable character for each byte.

use super::json::Json;
use serde_json::{Value, json};

/// The character of a byte: its own where that is printable, else one of those from U+0100 on, in order.
pub(super) fn character(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !printable(byte)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte of a character of that alphabet.
pub(super) fn byte(character: char) -> Option<u8> {
    (0..=u8::MAX).find(|&byte| self::character(byte) == character)
}

pub(super) fn to_json() -> Value {
    let vocab: serde_json::Map<String, Value> =
        (0..=u8::MAX).map(|byte| (character(byte).to_string(), json!(byte))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": by_byte(false), "post_processor": null, "decoder": by_byte(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [],
        },
    })
}

fn by_byte(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex })
}

/// Whether a file is that one.
pub(super) fn is(file: &Json<'_>) -> bool {
    file.value["model"]["vocab"] == to_json()["model"]["vocab"] && file.value["model"]["merges"] == json!([])
}
