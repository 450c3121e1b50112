//! The `tokenizer.json` of words and characters, whose model type is WordLevel.
//!
//! The crate `tokenizers` reads the same ids out of what is written here, with one exception: where the last line of a text of
//! words has no line feed, the `<eos>` at its end is ours alone.
//!
//! A file of others is read as a list of words, whatever stands around it: a word is what is between white space, an added token
//! inside of one is none, and where `<eos>` is in the list each line ends with it, also if the file has no normalizer that says so.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::json::{document, entries, kind_of, text};
use super::listed::Listed;
use crate::data::{EOS, Tokens, UNK, Vocabulary};
use crate::error::{Error, Result};

/// Ways to write "any one character" in a pre-tokenizer that splits. The first is ours: the crate and its Python package have
/// engines that do not read each other's switches.
const ANY_CHARACTER: [&str; 6] = [r"[\s\S]", "(?s).", "(?s:.)", "(?m).", r"(?:.|\n)", ""];

pub(super) fn to_json(listed: &Listed) -> Result<String> {
    let tokens = listed.tokens();
    let (pre_tokenizer, decoder) = match tokens {
        Tokens::Word => (
            json!({"type": "WhitespaceSplit"}),
            // A space before each word, then a line feed for each `<eos>`; no space begins a line.
            json!({"type": "Sequence", "decoders": [
                replace("Regex", &format!("^(?!{EOS}$)"), " "),
                replace("Regex", &format!("^{EOS}$"), "\n"),
                {"type": "Fuse"},
                replace("Regex", r"(?<=\n) ", ""),
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ]}),
        ),
        Tokens::Char => (
            json!({
                "type": "Split", "pattern": {"Regex": ANY_CHARACTER[0]},
                "behavior": "Isolated", "invert": false
            }),
            json!({"type": "Fuse"}),
        ),
    };
    let vocab: Map<_, _> =
        listed.vocabulary().tokens().map(str::to_owned).zip((0..).map(|id: u32| id.into())).collect();
    // The format wants a name even where no token has it; both sides then refuse what they do not know.
    let unknown = listed.unknown().and_then(|id| listed.vocabulary().token(id)).unwrap_or(UNK);
    let model = json!({"type": "WordLevel", "vocab": vocab, "unk_token": unknown});
    // White space is the pre-tokenizer's.
    let normalizer = if listed.lines_are_one() { Value::Null } else { line_ends(tokens) };
    text(&document(normalizer, pre_tokenizer, decoder, model))
}

/// Reads a file, of this crate or another one.
pub(super) fn read(name: &str, file: &Value) -> Result<Listed> {
    let tokens = match kind_of(&file["pre_tokenizer"]) {
        "null" | "WhitespaceSplit" => Tokens::Word,
        "Split" if splits_characters(&file["pre_tokenizer"]) => Tokens::Char,
        other => {
            let expected = "none, WhitespaceSplit, or a Split into single characters";
            return Err(Error::invalid(format!("{name}: pre_tokenizer"), expected, other).hint(
                "words are what stands between white space here: put spaces around marks in the text, and take WhitespaceSplit",
            ));
        }
    };
    let normalizer = &file["normalizer"];
    if !normalizer.is_null() && *normalizer != line_ends(tokens) {
        let expected = "none, or the Replace of line ends that this crate writes";
        return Err(Error::invalid(format!("{name}: normalizer"), expected, kind_of(normalizer)).hint(
            "a text is taken as it is here: normalize it first, and take the normalizer out of the file",
        ));
    }
    let vocabulary = Vocabulary::from_tokens(entries(name, file)?.tokens)?;
    let unknown = match &file["model"]["unk_token"] {
        Value::Null => UNK,
        Value::String(token) => token,
        other => return Err(Error::invalid(format!("{name}: model.unk_token"), "a token", other)),
    };
    let unknown = vocabulary.id(unknown);
    let listed = Listed::new(name, tokens, Arc::new(vocabulary), unknown)?;
    if !normalizer.is_null() && listed.lines_are_one() {
        let expected = format!("none, where the vocabulary has no {EOS}");
        return Err(Error::invalid(format!("{name}: normalizer"), expected, kind_of(normalizer)).hint(
            format!(
                "it makes {EOS} of each line's end: put that into the vocabulary, or take the normalizer out"
            ),
        ));
    }
    Ok(listed)
}

/// What is done with line ends before a text is cut.
fn line_ends(tokens: Tokens) -> Value {
    match tokens {
        Tokens::Word => replace("String", "\n", &format!(" {EOS} ")),
        Tokens::Char => replace("String", "\r\n", "\n"),
    }
}

/// The part of a file that replaces what it finds.
fn replace(kind: &str, pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {kind: pattern}, "content": content})
}

fn splits_characters(split: &Value) -> bool {
    let pattern = &split["pattern"];
    let any = pattern["Regex"].as_str().is_some_and(|regex| ANY_CHARACTER.contains(&regex));
    (any || pattern["String"] == "") && split["behavior"] == "Isolated" && split["invert"] != true
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Tokenizer, Unit};

    const TEXTS: [&str; 6] = [
        "you say goodbye\nand i say hello .\n",
        "吾輩は\u{3000}猫 である\nПривет,\tмир\n",
        "a\r\nb c\r\n\r\nd\r\n",
        "\n\n a  b \n\n\n",
        "naïve 🦀🦀 e\u{301}\n<unk> <eos> x<eos>y\n",
        "\r\r\n \u{85}\u{2028}\n",
    ];

    fn train(unit: Unit, text: &str, max: Option<usize>) -> Tokenizer {
        let options = Options { max, ..Options::new(unit) };
        Tokenizer::train(text.as_bytes(), &options).expect("tokenizer")
    }

    fn theirs(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
        tokenizer.to_json().expect("json").parse().expect("their tokenizer")
    }

    fn ids(their: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
        their.encode_fast(text, false).expect("encoding").get_ids().to_vec()
    }

    #[test]
    fn the_crate_tokenizers_gives_the_same_ids_and_the_same_text() {
        for unit in [Unit::Word, Unit::Char] {
            for (learned, max) in [(TEXTS.concat(), None), (TEXTS.concat(), Some(9)), (TEXTS[0].into(), None)]
            {
                let our = train(unit, &learned, max);
                let their = theirs(&our);
                for text in TEXTS {
                    let got = our.encode(text.as_bytes()).expect("ids");
                    assert_eq!(got, ids(&their, text), "{unit} {max:?} {text:?}");
                    let written = their.decode(&got, false).expect("text");
                    assert_eq!(our.decode(&got).expect("text"), written, "{unit} {max:?} {text:?}");
                }
            }
        }
    }

    #[test]
    fn only_a_last_line_without_a_line_feed_differs() {
        let our = train(Unit::Word, "a b\n", None);
        let their = theirs(&our);
        assert_eq!(our.encode(b"a\nb").expect("ids"), [0, 2, 1, 2]);
        assert_eq!(ids(&their, "a\nb"), [0, 2, 1]);
        let our = train(Unit::Char, "a b\n", None);
        assert_eq!(our.encode(b"a\nb").expect("ids"), ids(&theirs(&our), "a\nb"));
    }

    #[test]
    fn a_file_gives_the_tokenizer_back() {
        for unit in [Unit::Word, Unit::Char] {
            let our = train(unit, &TEXTS.concat(), Some(12));
            let json = our.to_json().expect("json");
            let again = Tokenizer::from_json("t.json", &json).expect("tokenizer");
            assert_eq!((again.unit(), again.len(), again.unknown()), (unit, 12, our.unknown()));
            assert_eq!(again.to_json().expect("json"), json);
            for text in TEXTS {
                assert_eq!(
                    again.encode(text.as_bytes()).expect("ids"),
                    our.encode(text.as_bytes()).expect("ids")
                );
            }
        }
    }

    #[test]
    fn what_stands_for_unknown_tokens_may_have_another_name() {
        let file = r#"{"added_tokens": [{"id": 1, "content": "[UNK]"}, {"id": 3, "content": "[PAD]"}],
            "model": {"type": "WordLevel", "vocab": {"a": 0, "<eos>": 2, "[UNK]": 1},
            "unk_token": "[UNK]"}}"#;
        let tokenizer = Tokenizer::from_json("t.json", file).expect("tokenizer");
        assert_eq!((tokenizer.unit(), tokenizer.len(), tokenizer.unknown()), (Unit::Word, 4, Some(1)));
        assert_eq!(tokenizer.encode(b"a z [PAD]\n").expect("ids"), [0, 1, 3, 2]);
        assert_eq!(tokenizer.decode(&[0, 1]).expect("text"), "a [UNK]");
        let json = tokenizer.to_json().expect("json");
        let again = Tokenizer::from_json("t.json", &json).expect("tokenizer");
        assert_eq!(again.unknown(), Some(1));
    }

    #[test]
    fn lines_of_words_without_eos_end_in_white_space() {
        let file = r#"{"pre_tokenizer": {"type": "WhitespaceSplit"},
            "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "<unk>": 2}, "unk_token": "<unk>"}}"#;
        let our = Tokenizer::from_json("t.json", file).expect("tokenizer");
        assert_eq!((our.line_end(), our.begin()), (None, 0));
        let text = "a b\n\nz a\r\nb";
        assert_eq!(our.encode(text.as_bytes()).expect("ids"), [0, 1, 2, 0, 1]);
        assert_eq!(our.encode_part(b"a b").expect("ids"), [0, 1]);
        let whole: tokenizers::Tokenizer = file.parse().expect("their tokenizer");
        for their in [whole, theirs(&our)] {
            assert_eq!(ids(&their, text), [0, 1, 2, 0, 1]);
        }
        let again = Tokenizer::from_json("t.json", &our.to_json().expect("json")).expect("tokenizer");
        assert_eq!(again.encode(text.as_bytes()).expect("ids"), [0, 1, 2, 0, 1]);
    }

    #[test]
    fn other_ways_to_cut_a_text_are_refused_by_name() {
        let file = |parts: &str| {
            let json = format!(r#"{{{parts}, "model": {{"type": "WordLevel", "vocab": {{"a": 0}}}}}}"#);
            Tokenizer::from_json("t.json", &json)
        };
        for split in ["null", r#"{"type": "WhitespaceSplit"}"#] {
            assert_eq!(file(&format!(r#""pre_tokenizer": {split}"#)).expect("words").unit(), Unit::Word);
        }
        let refused = [
            // It cuts between letters and marks, too.
            (r#""pre_tokenizer": {"type": "Whitespace"}"#, "t.json: pre_tokenizer: ", "Whitespace"),
            (
                r#""pre_tokenizer": {"type": "BertPreTokenizer"}"#,
                "t.json: pre_tokenizer: ",
                "BertPreTokenizer",
            ),
            (
                r#""pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated"}"#,
                "t.json: pre_tokenizer: ",
                "Split",
            ),
            (r#""pre_tokenizer": 7"#, "t.json: pre_tokenizer: ", "none"),
            (r#""normalizer": {"type": "Lowercase"}"#, "t.json: normalizer: ", "Lowercase"),
            // It makes a token of line ends that the vocabulary does not have.
            (
                r#""normalizer": {"type": "Replace", "pattern": {"String": "\n"}, "content": " <eos> "}"#,
                "t.json: normalizer: ",
                "Replace",
            ),
        ];
        for (parts, place, got) in refused {
            let error = file(parts).expect_err("refused").to_string();
            assert!(error.starts_with(place) && error.contains(&format!("got {got} (")), "{error}");
        }
    }
}
