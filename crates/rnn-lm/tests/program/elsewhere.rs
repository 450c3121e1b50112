//! Weights from elsewhere give here what they give there: PyTorch's what PyTorch computes of them, the book's what its
//! equations say.

use super::*;
use candle_core::{DType, Device, Tensor, safetensors};
use std::collections::HashMap;

const README: &str = include_str!("../../../../README.md");

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// What `make_language_model.py` wrote.
fn by_pytorch() -> Value {
    serde_json::from_slice(&bytes(&fixture("language_model.json"))).unwrap()
}

fn close(got: f64, want: f64, what: &str) {
    assert!((got / want - 1.0).abs() < 1e-5, "{what}: {got}, elsewhere {want}");
}

/// Holds a run with the weights of one of the two models against what PyTorch computed of them.
fn gives_what_pytorch_gives(folder: &Folder, run: &str, all: &Value, model: &str) {
    let of = &all[model];
    let nats: Vec<f64> = serde_json::from_value(of["nats"].clone()).unwrap();
    folder.file("text.txt", all["text"].as_str().unwrap());
    let evaluated = folder.json(&format!("evaluate {run} text.txt"));
    assert_eq!(evaluated["predictions"], nats.len(), "{run}");
    let want = (nats.iter().sum::<f64>() / nats.len() as f64).exp();
    close(evaluated["perplexity"].as_f64().unwrap(), want, run);

    let scored = folder.out(&format!("score {run} text.txt --carry"));
    let tokens: Vec<Value> = scored
        .lines()
        .flat_map(|line| serde_json::from_str::<Value>(line).unwrap()["tokens"].as_array().unwrap().clone())
        .collect();
    let ids: Vec<usize> = serde_json::from_value(all["ids"].clone()).unwrap();
    assert_eq!((tokens.len(), nats.len()), (ids.len(), ids.len() - 1), "{run}");
    for (token, &id) in tokens.iter().zip(&ids) {
        assert_eq!(token["token"], all["vocabulary"][id], "{run}");
    }
    assert!(tokens[0]["log_prob"].is_null(), "{run}: nothing is before the first");
    for (place, (token, nats)) in tokens[1..].iter().zip(&nats).enumerate() {
        let got = token["log_prob"].as_f64().unwrap();
        assert!((got + nats).abs() < 1e-5, "{run}, prediction {place}: {got}, elsewhere {}", -nats);
    }

    for (flags, want) in [(&[][..], "greedy_known"), (&["--skip", ""], "greedy")] {
        let mut command = folder.command(&format!("generate {run} -n 10 --temperature 0 --json --prompt"));
        let output = command.arg(all["prompt"].as_str().unwrap()).args(flags).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let written: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(written["ids"], of[want], "{run}, {want}");
    }
}

/// What the README shows of a folder that is written by hand, in this language.
fn shown(language: &str) -> &'static str {
    let (_, by_hand) = README.split_once("A run written by hand works").unwrap();
    by_hand.split_once(&format!("```{language}\n")).unwrap().1.split_once("```").unwrap().0
}

/// The settings that the README shows, each line of it with something else in its place.
fn shown_settings(changes: &[(&str, &str)]) -> String {
    let mut settings = shown("toml").to_string();
    for (line, other) in changes {
        assert_eq!(settings.matches(line).count(), 1, "{line} in {settings}");
        settings = settings.replace(line, other);
    }
    settings
}

#[test]
fn a_folder_written_by_hand_around_weights_of_pytorch_gives_what_pytorch_gives() {
    let (folder, all) = (Folder::new(), by_pytorch());
    let words: Vec<&str> =
        all["vocabulary"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    let vocab: HashMap<&str, usize> = words.iter().copied().zip(0..).collect();
    for name in ["lstm", "gru"] {
        std::fs::create_dir(folder.path(name)).unwrap();
    }
    // Its `state_dict` as it is, and the least that a tokenizer can be.
    folder.file(
        "lstm/config.toml",
        shown_settings(&[("embed = 200", "embed = 5"), ("hidden = 200", "hidden = 7")]),
    );
    let mut tokenizer: Value = serde_json::from_str(shown("json")).unwrap();
    tokenizer["model"]["vocab"] = serde_json::json!(vocab);
    folder.file("lstm/tokenizer.json", tokenizer.to_string());
    let model = &tokenizer["model"];
    std::fs::copy(fixture("language_model_lstm.safetensors"), folder.path("lstm/model.safetensors")).unwrap();

    // A table for both ends is under both names, or under one of them, and the tokenizer one that Hugging Face's library writes.
    let changes = [
        ("\"lstm\"", "\"gru\""),
        ("embed = 200", "embed = 6\ntied = true"),
        ("hidden = 200", "hidden = 6"),
        ("layers = 2", "layers = 1"),
    ];
    folder.file("gru/config.toml", shown_settings(&changes));
    let unknown = serde_json::json!({ "id": vocab["<unk>"], "content": "<unk>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true });
    let tokenizer = serde_json::json!({ "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [unknown], "normalizer": null, "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": null, "decoder": null, "model": model });
    folder.file("gru/tokenizer.json", tokenizer.to_string());
    gives_what_pytorch_gives(&folder, "lstm", &all, "lstm");
    let mut weights = safetensors::load(fixture("language_model_gru.safetensors"), &Device::Cpu).unwrap();
    let mut try_it = |change: &dyn Fn(&mut HashMap<String, Tensor>)| {
        change(&mut weights);
        safetensors::save(&weights, folder.path("gru/model.safetensors")).unwrap();
    };
    try_it(&|weights| {
        assert!(weights.contains_key("affine.weight") && !weights.contains_key("embedding.weight"))
    });
    gives_what_pytorch_gives(&folder, "gru", &all, "gru");
    try_it(&|weights| drop(weights.insert("embedding.weight".into(), weights["affine.weight"].clone())));
    gives_what_pytorch_gives(&folder, "gru", &all, "gru");
    try_it(&|weights| drop(weights.remove("affine.weight")));
    gives_what_pytorch_gives(&folder, "gru", &all, "gru");
    // Two tables are no tied model.
    try_it(&|weights| {
        let other = (&weights["embedding.weight"] * 1.5).unwrap();
        weights.insert("affine.weight".into(), other);
    });
    folder.file("t.txt", "a text\n");
    let refused = folder.run("evaluate gru t.txt");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("affine.weight is one too many"), "{said}");
}

#[test]
fn imported_weights_of_pytorch_give_what_pytorch_gives_in_whatever_file_they_came() {
    let (folder, all) = (Folder::new(), by_pytorch());
    folder.file("corpus.txt", all["corpus"].as_str().unwrap());
    for name in ["lstm", "gru"] {
        for ending in ["safetensors", "pt"] {
            let file = format!("language_model_{name}.{ending}");
            std::fs::copy(fixture(&file), folder.path(&file)).unwrap();
            let run = format!("{name}-{ending}");
            folder.out(&format!("import {file} --layout pytorch --corpus corpus.txt --quiet --out {run}"));
            gives_what_pytorch_gives(&folder, &run, &all, name);
            let config = std::fs::read_to_string(folder.path(&format!("{run}/config.toml"))).unwrap();
            assert!(config.contains(&format!("\ntied = {} ", name == "gru")), "{config}");
        }
    }
}

#[test]
fn weights_of_more_words_than_are_taken_where_nobody_says_how_many_are_imported() {
    let folder = Folder::new();
    folder.file("t.txt", (0..10_040).map(|i| format!("w{i} w{}\n", i / 2)).collect::<String>());
    for (run, flags, words) in [("all", "--max-vocab 0", 10_042), ("usual", "", 10_000)] {
        let line = "train t.txt --tokens word --embed 2 --hidden 2 --tied=false --holdout 0 --epochs 1 --quiet --out";
        folder.out(&format!("{line} {run} {flags}"));
        let import =
            format!("import {run}/model.safetensors --layout pytorch --corpus t.txt --tokens word --quiet");
        folder.out(&format!("{import} --out of-{run}"));
        let [made, was] =
            [format!("of-{run}"), run.to_string()].map(|run| folder.json(&format!("info {run}")));
        assert_eq!((&made["vocabulary"], &was["vocabulary"]), (&words.into(), &words.into()));
        let measured = |run: &str| folder.json(&format!("evaluate {run} t.txt"))["perplexity"].clone();
        assert_eq!(measured(&format!("of-{run}")), measured(run));
        // Whoever says how many means it.
        let refused = folder.run(&format!("{import} --max-vocab 77 --out no"));
        assert!(!refused.status.success());
    }
}

/// A matrix of the book, row by row.
type Matrix = Vec<Vec<f64>>;

/// The parameters of the book's `Rnnlm`, or of its `SimpleRnnlm`.
struct Book {
    cell: &'static str,
    embed_w: Matrix,
    wx: Matrix,
    wh: Matrix,
    b: Vec<f64>,
    affine_w: Matrix,
    affine_b: Vec<f64>,
}

/// A reader's h and c.
type State = (Vec<f64>, Vec<f64>);

impl Book {
    /// Weights that are drawn, all of them multiples of 1/64 from -1 to 1: of those f16, which the book's own file has, holds
    /// each.
    fn drawn(cell: &'static str, vocabulary: usize) -> Self {
        const D: usize = 3;
        const H: usize = 5;
        let columns = if cell == "lstm" { 4 * H } else { H };
        let mut random = 1u64;
        let mut row = |length: usize| -> Vec<f64> {
            let mut number = || {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) as i64 % 65
            };
            (0..length).map(|_| number() as f64 / 64.0 * if number() % 2 == 0 { 1.0 } else { -1.0 }).collect()
        };
        let mut matrix = |rows: usize, columns: usize| (0..rows).map(|_| row(columns)).collect::<Matrix>();
        let [embed_w, wx, wh] = [(vocabulary, D), (D, columns), (H, columns)].map(|(m, n)| matrix(m, n));
        let [b, affine_b] = [columns, vocabulary].map(|columns| matrix(1, columns).remove(0));
        Self { cell, embed_w, wx, wh, b, affine_w: matrix(H, vocabulary), affine_b }
    }

    /// Writes them under the book's names.
    fn write(&self, path: &Path, dtype: DType) {
        let matrix = |rows: &Matrix| Tensor::new(rows.clone(), &Device::Cpu).unwrap();
        let vector = |numbers: &Vec<f64>| Tensor::new(numbers.as_slice(), &Device::Cpu).unwrap();
        let cell = self.cell;
        let all = [
            ("embed_W".to_string(), matrix(&self.embed_w)),
            (format!("{cell}_Wx"), matrix(&self.wx)),
            (format!("{cell}_Wh"), matrix(&self.wh)),
            (format!("{cell}_b"), vector(&self.b)),
            ("affine_W".into(), matrix(&self.affine_w)),
            ("affine_b".into(), vector(&self.affine_b)),
        ];
        let all = all.map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap()));
        safetensors::save(&HashMap::from(all), path).unwrap();
    }

    /// A state before anything is read.
    fn zeros(&self) -> State {
        (vec![0.0; self.wh.len()], vec![0.0; self.wh.len()])
    }

    /// The loss of a word behind another: -ln softmax(h W + b), by chapters 5 and 6.
    fn loss(&self, (h, c): &mut State, word: usize, target: usize) -> f64 {
        let x = &self.embed_w[word];
        let times = |x: &[f64], w: &Matrix, column: usize| -> f64 {
            x.iter().zip(w).map(|(x, row)| x * row[column]).sum()
        };
        let a: Vec<f64> = (0..self.b.len())
            .map(|column| times(x, &self.wx, column) + times(h, &self.wh, column) + self.b[column])
            .collect();
        let size = h.len();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for unit in 0..size {
            if self.cell == "rnn" {
                h[unit] = a[unit].tanh();
                continue;
            }
            // f = A[:, :H], g = A[:, H:2*H], i = A[:, 2*H:3*H], o = A[:, 3*H:]
            let (f, g) = (sigmoid(a[unit]), a[size + unit].tanh());
            let (i, o) = (sigmoid(a[2 * size + unit]), sigmoid(a[3 * size + unit]));
            c[unit] = f * c[unit] + g * i;
            h[unit] = o * c[unit].tanh();
        }
        let score = |word: usize| times(h, &self.affine_w, word) + self.affine_b[word];
        let sum: f64 = (0..self.affine_b.len()).map(|word| score(word).exp()).sum();
        sum.ln() - score(target)
    }

    /// `eval_perplexity` of the book: readers that begin `jump` apart, and as many whole windows as there are. Also how many
    /// predictions that are.
    fn perplexity(&self, corpus: &[usize], batch_size: usize, time_size: usize) -> (f64, usize) {
        let max_iters = (corpus.len() - 1) / (batch_size * time_size);
        let jump = (corpus.len() - 1) / batch_size;
        let mut states: Vec<State> = (0..batch_size).map(|_| self.zeros()).collect();
        let mut total_loss = 0.0;
        for iters in 0..max_iters {
            let time_offset = iters * time_size;
            let mut loss = 0.0;
            for (i, state) in states.iter_mut().enumerate() {
                let offset = time_offset + i * jump;
                for t in 0..time_size {
                    loss += self.loss(state, corpus[offset + t], corpus[offset + t + 1]);
                }
            }
            total_loss += loss / (batch_size * time_size) as f64;
        }
        ((total_loss / max_iters as f64).exp(), max_iters * batch_size * time_size)
    }
}

/// The book's vocabulary, ids in order of first appearance.
#[derive(Default)]
struct Words(HashMap<String, usize>);

impl Words {
    /// The ids of a text, of which new words get one.
    fn ids(&mut self, text: &str) -> Vec<usize> {
        let text = text.replace('\n', " <eos> ");
        let mut id = |word: &str| {
            let next = self.0.len();
            *self.0.entry(word.into()).or_insert(next)
        };
        text.split_whitespace().map(&mut id).collect()
    }
}

#[test]
fn imported_weights_of_the_book_give_what_its_equations_give() {
    let folder = Folder::new();
    // With <unk> a text says that it is one of words, as that of the book's weights does. Without, the vocabulary has none.
    let with = "i say hello\nyou <unk> goodbye .\n";
    let without = "you say goodbye and i say hello .\n";
    for (cell, dtype, corpus, flag) in
        [("lstm", DType::F16, with, ""), ("rnn", DType::F32, without, "--tokens word")]
    {
        folder.file("train.txt", corpus);
        let mut words = Words::default();
        words.ids(corpus);
        let size = words.0.len();
        let book = Book::drawn(cell, size);
        book.write(&folder.path("book.safetensors"), dtype);
        folder.out(&format!("import book.safetensors --layout book --corpus train.txt {flag} --out {cell}"));

        // Not in the order of the corpus, nor of a length that is even to any number of readers.
        let text = "say you i\n. hello goodbye goodbye say\n\nyou you . say i i hello\nhello say .\n"
            .repeat(4)
            + "i\n";
        folder.file("test.txt", &text);
        let ids = words.ids(&text);
        assert_eq!((ids.len(), words.0.len()), (94, size), "no word is new");
        let (whole, predictions) = book.perplexity(&ids, 1, 1);
        let evaluated = folder.json(&format!("evaluate {cell} test.txt"));
        assert_eq!((predictions, evaluated["predictions"].as_u64()), (93, Some(93)));
        close(evaluated["perplexity"].as_f64().unwrap(), whole, cell);
        // Readers begin 31, 13 and 23 predictions apart; 9, 9 and 37 of the 93 are left over.
        for (batch, time, counted) in [(3, 4, 84), (7, 6, 84), (4, 14, 56)] {
            let (want, predictions) = book.perplexity(&ids, batch, time);
            assert_eq!(predictions, counted);
            // Else it could be anything that counts as many.
            assert!((want / whole - 1.0).abs() > 1e-3, "{want} {whole}");
            let evaluated = folder.json(&format!("evaluate {cell} test.txt --batch {batch} --time {time}"));
            assert_eq!(evaluated["predictions"], counted);
            close(evaluated["perplexity"].as_f64().unwrap(), want, &format!("{cell}, {batch} x {time}"));
        }
    }
}
