//! Byte pairs: rows of bytes that come often are tokens, as in GPT-2. The crate `tokenizers` does the work.
//!
//! It trusts its files: one that is damaged can make it panic or give other ids than it says. So a file is
//! looked at first ([`check`](super::check)), and a panic that comes all the same becomes an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{TokenizerImpl, models::ModelWrapper};

use super::json::{document, entries, text};
use super::{bytes, check, cut};
use crate::error::{Error, Result};

/// The vocabulary where no other size is asked for.
const SIZE: usize = 8000;

/// Text is encoded in pieces of about this many bytes: the crate needs many times the memory of its text.
const PIECE: usize = 1 << 16;
/// Bytes without white space, or of nothing else, that pairs are learnt from in one: what it takes grows with the square of
/// that. Longer than any word, so that a text of words gives the pairs that it would without it.
const LONGEST: usize = 1 << 10;
/// Pieces that are encoded side by side, by as many threads as there are.
const TOGETHER: usize = 32;

pub(super) struct Bpe {
    inner: tokenizers::Tokenizer,
    /// The bytes of each token.
    tokens: Vec<Vec<u8>>,
    /// The added tokens, where text may be cut into pieces at all.
    cut_around: Option<Vec<String>>,
    /// Not used, and written again: it says how texts are made into a model's input.
    post_processor: Value,
    line_end: Option<u32>,
    /// A checksum of the pairs that are joined, in their order.
    merges: u32,
    /// What is done to a text before it is cut into pairs, where that is not what is done here.
    before: Option<String>,
}

impl Bpe {
    pub(super) fn train(text: &str, max: Option<usize>) -> Result<Self> {
        let (op, size) = ("Tokenizer::train", max.unwrap_or(SIZE));
        if text.is_empty() {
            return Err(super::empty());
        }
        if size < bytes::ALL.len() {
            return Err(Error::invalid(format!("{op}: max"), "at least 256", size)
                .hint("every byte is a token of its own, so that there is no unknown text"));
        }
        // There are no more pairs to be joined than that.
        let size = size.min(bytes::ALL.len() + text.len());
        let mut trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(size)
            .min_frequency(2)
            .initial_alphabet(bytes::ALPHABET.iter().copied().collect())
            .build();
        let mut learner: TokenizerImpl<BPE, NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel> =
            TokenizerImpl::new(BPE::default());
        learner.with_pre_tokenizer(Some(ByteLevel::new(false, false, true)));
        let pieces = cut::pieces_to_learn(text, PIECE, LONGEST);
        guard(op, "a text to learn byte pairs from", || learner.train(&mut trainer, pieces).map(|_| ()))?;
        let model = serde_json::to_value(learner.get_model())
            .map_err(|error| Error::invalid(op, "what JSON can hold", error))?;
        Self::read(op, &document(Value::Null, bytes::byte_level(true), bytes::byte_level(true), model))
    }

    pub(super) fn read(name: &str, file: &Value) -> Result<Self> {
        let entries = entries(name, file)?;
        check::model(name, &file["model"], &entries)?;
        check::parts(name, file)?;
        let cut_around = check::cut_around(name, file)?;
        let mut ours = file.clone();
        for part in ["truncation", "padding", "post_processor"] {
            ours[part] = Value::Null;
        }
        if let Some(added) = ours["added_tokens"].as_array_mut() {
            // They get the next ids in the order of the file, whatever it says.
            added.sort_by_key(|token| token["id"].as_u64());
        }
        let usable = "a file that the crate tokenizers can use";
        let json = text(&ours)?;
        let inner = guard(name, usable, || json.parse::<tokenizers::Tokenizer>())?;
        if !matches!(inner.get_model(), ModelWrapper::BPE(_)) {
            return Err(Error::invalid(name, usable, "a model that is no BPE"));
        }
        for (id, token) in (0u32..).zip(&entries.tokens) {
            if inner.token_to_id(token) != Some(id) {
                let got = format!("{:?} from the crate tokenizers", inner.token_to_id(token));
                return Err(Error::invalid(name, format!("{token:?} with the id {id}"), got));
            }
        }
        let tokens = entries.tokens.iter().enumerate().map(|(id, token)| {
            // The text of an added token is text, not bytes in the alphabet of files.
            let piece = if id < entries.model { bytes::of_piece(token) } else { None };
            piece.unwrap_or_else(|| token.clone().into_bytes())
        });
        let tokens: Vec<_> = tokens.collect();
        let line_end = (0..).zip(&tokens).find(|(_, token)| **token == *b"\n").map(|(id, _)| id);
        let merges = check::merges(&file["model"]);
        let before = check::before(&inner)?;
        let post_processor = file["post_processor"].clone();
        Ok(Self { inner, tokens, cut_around, post_processor, line_end, merges, before })
    }

    /// What it does beside its tokens.
    pub(super) fn fingerprint(&self, sum: &mut crc32fast::Hasher) {
        sum.update(&self.merges.to_le_bytes());
        sum.update(self.before.as_deref().unwrap_or_default().as_bytes());
    }

    pub(super) fn tokens(&self) -> &[Vec<u8>] {
        &self.tokens
    }

    pub(super) fn line_end(&self) -> Option<u32> {
        self.line_end
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_by(text, PIECE)
    }

    /// Up to where the ids of a text that goes on are known: what follows may change those behind it.
    pub(super) fn cut(&self, text: &str) -> usize {
        self.cut_around.as_ref().map_or(0, |around| cut::last(text, around))
    }

    /// The ids of a text, each behind the byte of the text at which its token begins.
    pub(super) fn encode_with_places(&self, text: &str) -> Result<Vec<(usize, u32)>> {
        let (mut begin, mut ids) = (0, Vec::new());
        for piece in self.pieces(text, PIECE) {
            let encoding = encoding(|| self.inner.encode(piece, false))?;
            let places = encoding.get_offsets().iter().map(|&(at, _)| begin + at);
            ids.extend(places.zip(encoding.get_ids().iter().copied()));
            begin += piece.len();
        }
        Ok(ids)
    }

    fn encode_by(&self, text: &str, size: usize) -> Result<Vec<u32>> {
        let (mut ids, mut pieces) = (Vec::new(), self.pieces(text, size));
        loop {
            let some: Vec<&str> = pieces.by_ref().take(TOGETHER).collect();
            if some.is_empty() {
                return Ok(ids);
            }
            for encoding in encoding(|| self.inner.encode_batch_fast(some, false))? {
                ids.extend_from_slice(encoding.get_ids());
            }
        }
    }

    fn pieces<'a>(&'a self, text: &'a str, size: usize) -> impl Iterator<Item = &'a str> {
        let (size, around) = match &self.cut_around {
            Some(around) => (size, around.as_slice()),
            None => (usize::MAX, [].as_slice()),
        };
        cut::pieces(text, size, around)
    }

    pub(super) fn to_json(&self) -> Result<String> {
        let op = "Tokenizer::to_json";
        let mut file = serde_json::to_value(&self.inner)
            .map_err(|error| Error::invalid(op, "what JSON can hold", error))?;
        file["post_processor"] = self.post_processor.clone();
        text(&file)
    }
}

/// What the crate makes of a text.
fn encoding<T>(encode: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    guard("Tokenizer::encode: text", "a text that the tokenizer can take", encode)
}

/// What the crate `tokenizers` does, with its panics as errors.
fn guard<T>(op: &str, expected: &str, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    // Nothing that the work was changing is used after a panic.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Error::invalid(op, expected, error)),
        Err(_) => Err(Error::invalid(op, expected, "a panic in the crate tokenizers")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Tokenizer, Unit};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::LazyLock;

    /// Words of few syllables and all kinds of white space, from a small generator.
    fn made_text(words: usize) -> String {
        let (mut state, mut text) = (1u32, String::new());
        let mut next = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for _ in 0..words {
            for _ in 0..=next(4) {
                text += ["ba", "ab", "a", "né", "'s", "世", "12"][next(7) as usize];
            }
            text += [" ", " ", "  ", "\n", "\n\n", " \n  ", "\t", "\r\n", "."][next(9) as usize];
        }
        text
    }

    fn train(text: &str, max: usize) -> Tokenizer {
        let options = Options { max: Some(max), ..Options::new(Unit::Bpe) };
        Tokenizer::train(text.as_bytes(), &options).expect("tokenizer")
    }

    static TRAINED: LazyLock<Tokenizer> = LazyLock::new(|| train(&made_text(4000), 500));

    /// The trained one as a file of others might have it: an old one, with an added token and a template.
    fn foreign() -> Value {
        let mut file: Value = serde_json::from_str(&TRAINED.to_json().expect("json")).expect("json");
        let merges = file["model"]["merges"].as_array().expect("merges").clone();
        let old = |pair: &Value| format!("{} {}", pair[0].as_str().expect("a"), pair[1].as_str().expect("b"));
        file["model"]["merges"] = merges.iter().map(old).collect();
        file["model"].as_object_mut().expect("model").remove("type");
        file["added_tokens"] = json!([{
            "id": 500, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }]);
        file["post_processor"] = json!({
            "type": "TemplateProcessing", "pair": [], "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
            ], "special_tokens": {"<s>": {"id": "<s>", "ids": [500], "tokens": ["<s>"]}}
        });
        file["truncation"] =
            json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        file
    }

    fn load(file: &Value) -> Result<Tokenizer> {
        Tokenizer::from_json("t.json", &file.to_string())
    }

    fn whole(tokenizer: &Tokenizer, text: &str) -> (Vec<u32>, Vec<u32>) {
        let super::super::Kind::Bpe(bpe) = &*tokenizer.kind else { panic!("a bpe") };
        let theirs = bpe.inner.encode_fast(text, false).expect("encoding").get_ids().to_vec();
        (bpe.encode_by(text, 1).expect("ids"), theirs)
    }

    #[test]
    fn a_line_without_white_space_takes_no_longer_to_learn_than_another() {
        let mut state = 1u32;
        let letter = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"ACGT"[(state >> 30) as usize]
        };
        let text: Vec<u8> = (0..300_000).map(letter).collect();
        let options = Options { max: Some(1000), ..Options::new(Unit::Bpe) };
        let begun = std::time::Instant::now();
        let tokenizer = Tokenizer::train(&text, &options).expect("tokenizer");
        assert_eq!(tokenizer.len(), 1000);
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }

    #[test]
    fn training_twice_gives_the_same() {
        for (words, max) in [(300, 300), (60_000, 3000)] {
            let text = made_text(words);
            let first = train(&text, max).to_json().expect("json");
            for _ in 0..2 {
                assert!(train(&text, max).to_json().expect("json") == first);
            }
        }
    }

    #[test]
    fn sizes() {
        assert_eq!((TRAINED.unit(), TRAINED.len(), TRAINED.unknown()), (Unit::Bpe, 500, None));
        assert_eq!(TRAINED.token(TRAINED.begin()).as_deref(), Some("\\n"));
        // Where nothing comes twice, there are only bytes; their ids are not their values.
        let bytes = train("ab", 256);
        assert_eq!((bytes.unit(), bytes.len()), (Unit::Bpe, 256));
        let again = Tokenizer::from_json("t.json", &bytes.to_json().expect("json")).expect("tokenizer");
        assert_eq!(
            (again.unit(), again.encode(b"ab").expect("ids")),
            (Unit::Bpe, bytes.encode(b"ab").expect("ids"))
        );
        for (text, max, expected) in [("", None, "an empty text"), ("a", Some(255), "at least 256, got 255")]
        {
            let options = Options { max, ..Options::new(Unit::Bpe) };
            let error = Tokenizer::train(text.as_bytes(), &options).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_file_gives_the_tokenizer_back_here_and_there() {
        let json = TRAINED.to_json().expect("json");
        let again = Tokenizer::from_json("t.json", &json).expect("tokenizer");
        assert_eq!(again.to_json().expect("json"), json);
        let theirs: tokenizers::Tokenizer = json.parse().expect("their tokenizer");
        for text in [made_text(50), "ein  neuer Text\n\n\n mit 🦀\r\n".into(), String::new()] {
            let ids = again.encode(text.as_bytes()).expect("ids");
            assert_eq!(ids, theirs.encode_fast(text.as_str(), false).expect("encoding").get_ids());
            assert_eq!(theirs.decode(&ids, false).expect("text"), text);
        }
    }

    #[test]
    fn files_of_others_are_read() {
        let file = foreign();
        let tokenizer = load(&file).expect("tokenizer");
        assert_eq!((tokenizer.unit(), tokenizer.len()), (Unit::Bpe, 501));
        let ids = tokenizer.encode("ab <s>  né 12".as_bytes()).expect("ids");
        assert!(ids.len() > 4 && ids.contains(&500), "{ids:?}");
        assert_eq!(tokenizer.decode(&ids).expect("text"), "ab <s>  né 12");
        let written: Value = serde_json::from_str(&tokenizer.to_json().expect("json")).expect("json");
        assert_eq!(written["post_processor"], file["post_processor"]);
        assert_eq!(written["added_tokens"], file["added_tokens"]);
    }

    proptest! {
        #[test]
        fn decoding_gives_the_text_back(text in any::<String>(), white in "[ab\\s'.é1]{0,60}") {
            for text in [text, white] {
                let ids = TRAINED.encode(text.as_bytes()).expect("ids");
                prop_assert_eq!(TRAINED.decode(&ids).expect("text"), text.as_str());
                let mut pieces = TRAINED.piece_decoder();
                let parts: Result<Vec<_>> = ids.iter().map(|&id| pieces.push(id)).collect();
                prop_assert_eq!(parts.expect("pieces").concat() + &pieces.finish(), text);
            }
        }

        #[test]
        fn pieces_give_the_ids_of_the_whole(parts in prop::collection::vec(
            prop::sample::select(&[" ", " ", "\n", "\n", "\t", "\r", "\u{85}", "\u{a0}", "\u{2028}",
                "\u{3000}", "\u{180e}", "\u{200b}", "\u{feff}", "\u{1f}", "ab", "né", "'s", "1", ".", "世",
                "<s>", "e\u{301}"][..]),
            0..30,
        )) {
            let text = parts.concat();
            static FOREIGN: LazyLock<Tokenizer> = LazyLock::new(|| load(&foreign()).expect("tokenizer"));
            for tokenizer in [&*TRAINED, &*FOREIGN] {
                let (pieces, theirs) = whole(tokenizer, &text);
                prop_assert_eq!(&pieces, &theirs);
                // As far as the text is known when some of it has been read.
                let super::super::Kind::Bpe(bpe) = &*tokenizer.kind else { panic!("a bpe") };
                for (at, _) in text.char_indices() {
                    let (before, after) = text.split_at(bpe.cut(&text[..at]));
                    let parts = [bpe.encode(before).expect("ids"), bpe.encode(after).expect("ids")].concat();
                    prop_assert_eq!(&parts, &theirs, "{}", at);
                }
            }
        }
    }
}
