//! The recipes of books and papers. Where a paper sums its loss over the steps of a window, its rate stands here times T and
//! its longest gradient divided by T: the loss here is a mean.

use super::{Config, Data, Model, Rates, Training};

/// Name and origin of each preset.
pub const PRESETS: [(&str, &str); 9] = [
    ("book-rnn", "Deep Learning from Scratch 2, chapter 5: a plain RNN on 1000 words"),
    ("book-lstm", "the same, chapter 6: an LSTM of 100"),
    ("book-better", "the same: 2 x 650, tied, dropout, the rate divided by 4 on a plateau"),
    ("zaremba-small", "Zaremba et al. 2014: 2 x 200 without dropout"),
    ("zaremba-medium", "the same: 2 x 650, dropout 0.5"),
    ("zaremba-large", "the same: 2 x 1500, dropout 0.65"),
    ("awd-lstm", "Merity et al. 2018: 3 layers of 1150, 1150 and 400, all that is dropped there, NT-ASGD"),
    ("char-small", "letter by letter: an LSTM of 512 with Adam"),
    (
        "char-large",
        "letter by letter: 3 layers of 1000, locked dropout, weight drop (Merity et al. 2018 on characters)",
    ),
];

pub(super) fn preset(name: &str) -> Option<Config> {
    Some(match name {
        "book-rnn" => Config {
            data: Data { max_vocab: 0, first: 1000, ..Data::default() },
            model: Model { cell: "rnn".into(), ..Model::default() },
            training: Training {
                batch: 10,
                time: 5,
                order: "book".into(),
                epochs: 100,
                lr: 0.1,
                clip_norm: 0.0,
                ..Training::default()
            },
            ..Config::default()
        },
        "book-lstm" => {
            Config { training: Training { epochs: 4, lr: 20.0, ..Training::default() }, ..Config::default() }
        }
        "book-better" => Config {
            model: Model { embed: 650, hidden: 650, layers: 2, tied: true, ..Model::default() },
            dropout: everywhere(0.5),
            training: Training { epochs: 40, lr: 20.0, schedule: "plateau".into(), ..Training::default() },
            ..Config::default()
        },
        "zaremba-small" => {
            zaremba(200, 20, 0.1, Recipe { dropout: 0.0, clip: 5.0, epochs: 13, after: 4, divide: 2.0 })
        }
        "zaremba-medium" => {
            zaremba(650, 35, 0.05, Recipe { dropout: 0.5, clip: 5.0, epochs: 39, after: 6, divide: 1.2 })
        }
        "zaremba-large" => {
            zaremba(1500, 35, 0.04, Recipe { dropout: 0.65, clip: 10.0, epochs: 55, after: 14, divide: 1.15 })
        }
        "awd-lstm" => Config {
            model: Model {
                embed: 400,
                hidden: 1150,
                layers: 3,
                last: 400,
                bias: "both".into(),
                init: "awd".into(),
                tied: true,
                ..Model::default()
            },
            dropout: Rates {
                words: 0.1,
                input: 0.4,
                between: 0.25,
                output: 0.4,
                locked: true,
                weight: 0.5,
                activation: 2.0,
                temporal: 1.0,
                ..Rates::default()
            },
            training: Training {
                time: 70,
                varied: true,
                epochs: 500,
                lr: 30.0,
                decay: 1.2e-6,
                average: "nt-asgd".into(),
                patience: 5,
                ..Training::default()
            },
            ..Config::default()
        },
        "char-large" => Config {
            data: Data { tokens: "char".into(), max_vocab: 0, ..Data::default() },
            model: Model {
                embed: 200,
                hidden: 1000,
                layers: 3,
                last: 200,
                bias: "both".into(),
                init: "awd".into(),
                tied: true,
                ..Model::default()
            },
            dropout: Rates {
                input: 0.1,
                between: 0.25,
                output: 0.1,
                locked: true,
                weight: 0.5,
                ..Rates::default()
            },
            training: Training {
                batch: 128,
                time: 150,
                varied: true,
                epochs: 50,
                rule: "adam".into(),
                lr: 0.002,
                decay: 1.2e-6,
                schedule: "cosine".into(),
                warmup: 100,
                ..Training::default()
            },
        },
        "char-small" => Config {
            data: Data { tokens: "char".into(), max_vocab: 0, ..Data::default() },
            model: Model { embed: 64, hidden: 512, init: "pytorch".into(), ..Model::default() },
            training: Training {
                batch: 32,
                time: 64,
                epochs: 5,
                rule: "adam".into(),
                lr: 0.002,
                clip_norm: 1.0,
                ..Training::default()
            },
            ..Config::default()
        },
        _ => return None,
    })
}

fn everywhere(rate: f64) -> Rates {
    Rates { input: rate, between: rate, output: rate, ..Rates::default() }
}

/// What the paper says of a model, its rate being 1.
struct Recipe {
    dropout: f64,
    clip: f64,
    epochs: usize,
    after: usize,
    divide: f64,
}

fn zaremba(hidden: usize, time: usize, range: f64, recipe: Recipe) -> Config {
    let Recipe { dropout, clip, epochs, after, divide } = recipe;
    Config {
        model: Model {
            embed: hidden,
            hidden,
            layers: 2,
            bias: "both".into(),
            init: "uniform".into(),
            init_range: range,
            ..Model::default()
        },
        dropout: everywhere(dropout),
        training: Training {
            time,
            epochs,
            lr: time as f64,
            clip_norm: clip / time as f64,
            schedule: "decay".into(),
            divide,
            after,
            ..Training::default()
        },
        ..Config::default()
    }
}
