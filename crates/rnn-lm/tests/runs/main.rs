//! From settings to what a run becomes: what each one does, what is kept, and that a run that stops and goes on is the one
//! that did not stop.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test expects")]

mod by_hand;
mod kept;
mod lost;
mod presets;
mod resume;
mod settings;

use candle_core::Device;
use rnn_lm::config::Config;
use rnn_lm::run::{CHECKPOINT, CONFIG, End, Fit, METRICS, MODEL, Watch};
use rnn_lm::train::Checkpoint;
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A folder with texts and runs.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    /// Settings of a run: `base`, and what else is said in TOML.
    fn config(&self, corpus: &str, toml: &str, base: &Config) -> Config {
        let mut config = Config::parse("test", toml, base).unwrap();
        config.data.corpus = self.path(corpus).display().to_string();
        config
    }

    fn begin(&self, name: &str, config: &Config) -> Fit {
        Fit::begin(self.path(name), config, &Device::Cpu).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Trains a run to its end.
    fn train(&self, name: &str, config: &Config) -> PathBuf {
        assert_eq!(self.begin(name, config).train_on(&mut Nobody).unwrap(), End::Done, "{name}");
        self.path(name)
    }
}

/// Looks on.
struct Nobody;

impl Watch for Nobody {}

/// Lines of five words of twenty, most of them decided by the one before. Another seed gives other lines.
fn text(lines: usize, seed: u64) -> String {
    let mut random = seed;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut word = 0;
    let mut text = String::new();
    for _ in 0..lines {
        for place in 0..5 {
            word = if draw(3) == 0 { draw(20) } else { (3 * word + 1) % 20 };
            text += &format!("{}w{word}", if place == 0 { "" } else { " " });
        }
        text.push('\n');
    }
    text
}

/// The tensors of a file, each as its bytes.
fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, tensor)| (name.to_string(), tensor.data().to_vec())).collect()
}

/// The weights that a run has kept.
fn weights(run: &Path) -> BTreeMap<String, Vec<u8>> {
    tensors(&run.join(MODEL))
}

/// The tensors of a run's checkpoint whose names begin so, by the rest of their names.
fn checkpoint(run: &Path, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let of = |(name, data): (String, Vec<u8>)| Some((name.strip_prefix(prefix)?.to_string(), data));
    tensors(&run.join(CHECKPOINT)).into_iter().filter_map(of).collect()
}

/// What a run's checkpoint has beside tensors: the trainer's numbers, and the notes of the run.
fn numbers(run: &Path) -> [Value; 2] {
    let checkpoint = Checkpoint::read(run.join(CHECKPOINT)).unwrap();
    [checkpoint.numbers().unwrap(), checkpoint.notes().unwrap()]
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    assert!(rest.is_empty());
    numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()
}

/// The largest difference of weights of the same shapes; none where shapes or names are others.
fn apart(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) -> Option<f32> {
    let shapes = |all: &BTreeMap<String, Vec<u8>>| {
        all.iter().map(|(name, data)| (name.clone(), data.len())).collect::<Vec<_>>()
    };
    let both = a.values().zip(b.values()).flat_map(|(a, b)| floats(a).into_iter().zip(floats(b)));
    (shapes(a) == shapes(b)).then(|| both.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
}

/// What was measured, but for the time that it took.
fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join(METRICS)).unwrap();
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        assert!(line.as_object_mut().unwrap().remove("seconds").is_some(), "{line}");
        line
    };
    text.lines().map(line).collect()
}

/// What was measured on the text to measure on.
fn losses(run: &Path) -> Vec<f64> {
    metrics(run).iter().map(|line| line["valid_loss"].as_f64().unwrap()).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
