use super::*;
use proptest::prelude::*;
use std::str::FromStr;

const TEXTS: [&str; 4] = [
    "the cat sat on the mat\nand the dog sat on the cat\n",
    "吾輩は猫 である\n\nПривет мир\né\n",
    "a\r\n\r\nb  c\td\n",
    " spaces  and\n\n\n blank lines\n",
];

fn made(unit: Unit, text: &str) -> Tokenizer {
    Tokenizer::train(text.as_bytes(), &Options { max: (unit == Unit::Bpe).then_some(300), ..Options::new(unit) }).unwrap()
}

#[test]
fn the_crate_tokenizers_makes_the_same_ids_of_our_files() {
    for unit in Unit::ALL {
        for text in TEXTS {
            let ours = made(unit, &TEXTS.concat());
            let theirs = tokenizers::Tokenizer::from_str(&ours.to_json().unwrap()).unwrap();
            let ids = ours.encode(text.as_bytes()).unwrap();
            assert_eq!(theirs.encode(text, false).unwrap().get_ids(), ids, "{unit}: {text:?}");
            assert_eq!(theirs.get_vocab_size(true), ours.len());
            if unit != Unit::Word {
                assert_eq!(theirs.decode(&ids, false).unwrap(), ours.decode(&ids).unwrap(), "{unit}: {text:?}");
            }
        }
    }
}

#[test]
fn a_file_read_back_is_the_same_tokenizer() {
    for unit in Unit::ALL {
        let tokenizer = made(unit, &TEXTS.concat());
        let again = Tokenizer::from_json("f", &tokenizer.to_json().unwrap()).unwrap();
        assert_eq!((again.unit(), again.len()), (unit, tokenizer.len()));
        assert_eq!(again.to_json().unwrap(), tokenizer.to_json().unwrap());
        assert_eq!((again.begin(), again.unknown()), (tokenizer.begin(), tokenizer.unknown()));
    }
}

#[test]
fn bpe_learns_the_same_pieces_each_time_and_they_are_longer_than_bytes() {
    let text = TEXTS.concat().repeat(50);
    let json = || made(Unit::Bpe, &text).to_json().unwrap();
    let first = json();
    for _ in 0..4 {
        assert!(json() == first);
    }
    let tokenizer = made(Unit::Bpe, &text);
    assert!(tokenizer.encode(text.as_bytes()).unwrap().len() < text.len() / 2);
    assert_eq!(tokenizer.token(tokenizer.id(" cat").unwrap()).unwrap(), " cat");
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back(text in "[a-dé世 \n\t]{0,60}", cut in 0usize..60) {
        let tokenizers = Unit::ALL.map(|unit| made(unit, "abcd é世\n\t the a b c d"));
        for tokenizer in &tokenizers {
            let ids = tokenizer.encode(text.as_bytes()).unwrap();
            // One by one, what is shown is the same text.
            let mut pieces = tokenizer.pieces_after(&ids[..cut.min(ids.len())]).unwrap();
            let mut shown = String::new();
            for &id in &ids[cut.min(ids.len())..] {
                shown.push_str(&pieces.push(id).unwrap());
            }
            shown.push_str(&pieces.finish());
            let all = tokenizer.decode(&ids).unwrap();
            if matches!(tokenizer.unit(), Unit::Byte | Unit::Bpe) {
                prop_assert_eq!(&all, &text);
            }
            if tokenizer.unit() == Unit::Char {
                prop_assert!(all.ends_with(&shown));
            }
            // Where a text is cut between lines changes nothing.
            let parts = text.split_inclusive('\n').map(|line| tokenizer.encode(line.as_bytes()).unwrap());
            prop_assert_eq!(parts.flatten().collect::<Vec<_>>(), ids);
        }
    }

    #[test]
    fn bytes_are_any(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
        let tokenizer = made(Unit::Byte, "");
        let ids = tokenizer.encode(&bytes).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_prompt_has_no_end_of_line_that_is_not_there() {
    let tokenizer = made(Unit::Word, "a b\n");
    assert_eq!(tokenizer.encode_part(b"a b").unwrap(), [0, 1]);
    assert_eq!(tokenizer.encode_part(b"a b\n").unwrap(), [0, 1, 2]);
    assert_eq!(tokenizer.encode_part(b"").unwrap(), [0u32; 0]);
    assert_eq!(tokenizer.begin(), 2);
}

#[test]
fn the_most_frequent_may_come_first() {
    let options = Options { by_frequency: true, max: Some(4), ..Options::new(Unit::Word) };
    let tokenizer = Tokenizer::train(b"a b b c c c d e\n", &options).unwrap();
    let tokens: Vec<_> = (0..4).map(|id| tokenizer.token(id).unwrap()).collect();
    assert_eq!(tokens, ["<unk>", "c", "b", "<eos>"]);
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let word = |vocab: &str| format!("{{\"model\": {{\"type\": \"WordLevel\", \"vocab\": {vocab}, \"unk_token\": \"<unk>\"}}}}");
    let mut bpe: serde_json::Value = serde_json::from_str(&made(Unit::Bpe, &TEXTS[0].repeat(9)).to_json().unwrap()).unwrap();
    bpe["model"]["merges"][0] = serde_json::json!(["q", "nothing"]);
    let mut no_bytes = bpe.clone();
    no_bytes["model"]["vocab"] = serde_json::json!({ "a": 0 });
    let mut unigram = bpe.clone();
    unigram["model"]["type"] = serde_json::json!("Unigram");
    for (text, want) in [
        ("{", "f: expected the JSON of a tokenizer, got EOF".to_string()),
        ("{}", "f: expected a model with a type, got none".into()),
        (&word("{}"), "f: expected at least one token, got none".into()),
        (&word("{\"a\": 1}"), "f: expected ids from 0 to 1, got none of 0".into()),
        (&word("{\"a\": 0, \"b\": 0}"), "f: expected each id once, got 0 for \"a\" and for \"b\"".into()),
        (&word("{\"a\": -1}"), "f: expected whole numbers as ids, got that of \"a\"".into()),
        (&word("{\"a\": 99999999999}"), "f: expected whole numbers as ids, got that of \"a\"".into()),
        (&word("3"), "f: expected model.vocab, of tokens and their ids, got none".into()),
        (
            &word("{\"a\": 0}").replacen('{', "{\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, ", 1),
            "f: expected a pre_tokenizer WhitespaceSplit for words, or Split on \"(?s).\" for characters, got Bert".into(),
        ),
        (
            &word("{\"[UNK]\": 0}").replace("<unk>", "[UNK]"),
            "f: expected <unk> for what is not in the vocabulary, got [UNK] (rename [UNK] in the file".into(),
        ),
        (&bpe.to_string(), "f: expected merges of two pieces into a third, got [\"q\",\"nothing\"]".into()),
        (&no_bytes.to_string(), "f: expected a piece for each byte, got none for 0x00".into()),
        (&unigram.to_string(), "f: expected a model of type WordLevel or BPE, got Unigram".into()),
    ] {
        let error = Tokenizer::from_json("f", text).unwrap_err().to_string();
        assert!(error.starts_with(&want), "{error}");
    }
    let error = Tokenizer::train(b"caf\xe9", &Options::new(Unit::Char)).unwrap_err();
    assert!(matches!(error, Error::BadText { offset: 3 }), "{error}");
    let few = Options { max: Some(100), ..Options::new(Unit::Bpe) };
    assert!(Tokenizer::train(b"a", &few).unwrap_err().to_string().contains("at least 256"));
    assert!(made(Unit::Byte, "").decode(&[256]).unwrap_err().to_string().contains("below the vocabulary's 256"));
}
