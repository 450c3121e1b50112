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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CellKind, Dropout, LmSpec, build};
    use candle_core::{DType, Device};
    use rnn_core::{Bias, Scheme, Way};

    #[test]
    fn the_papers_recipes() {
        let medium = Config::preset("zaremba-medium").unwrap();
        let spec = medium.spec(10_000).unwrap();
        assert_eq!((spec.embed, spec.hidden, spec.layers, spec.tied), (650, 650, 2, false));
        assert_eq!((spec.init, spec.dropout), (Scheme::Uniform(0.05), Dropout::everywhere(0.5)));
        assert_eq!(spec.bias, Bias::Both);
        // A rate of 1 and a norm of 5 for a loss that is summed over 35 steps.
        let mut trainer = medium.trainer(39 * 1328).unwrap();
        let small = LmSpec::new(2, 1, 1);
        let mut model = build(CellKind::Rnn, &small, Way::Fused, (DType::F32, &Device::Cpu), 1).unwrap();
        let mut epoch = || (trainer.lr(), trainer.epoch_ends(model.as_mut()).unwrap()).0 / 35.0;
        let rates: Vec<f64> = (0..8).map(|_| epoch()).collect();
        assert_eq!(rates[..6], [1.0; 6]);
        assert!((rates[6] - 1.0 / 1.2).abs() < 1e-12 && (rates[7] - 1.0 / 1.44).abs() < 1e-12);
        assert!((medium.training.clip_norm * 35.0 - 5.0).abs() < 1e-12);
        let better = Config::preset("book-better").unwrap().spec(10_000).unwrap();
        assert_eq!((better.tied, better.bias, better.init), (true, Bias::Single, Scheme::Book));
        assert_eq!(Config::preset("book-lstm").unwrap().spec(9).unwrap().dropout, Dropout::default());
    }

    /// As their papers count them, in millions.
    #[test]
    fn models_have_as_many_parameters_as_the_papers_say() {
        for (name, want) in [
            ("book-better", 13.3),
            ("zaremba-small", 4.65),
            ("zaremba-medium", 19.8),
            ("zaremba-large", 66.0),
            ("awd-lstm", 24.2),
        ] {
            let spec = Config::preset(name).unwrap().spec(10_000).unwrap();
            let mut count = spec.vocabulary * (spec.embed + 1);
            if !spec.tied {
                count += spec.vocabulary * spec.output();
            }
            let biases = if spec.bias == Bias::Both { 2 } else { 1 };
            let mut input = spec.embed;
            for k in 0..spec.layers {
                let hidden = if k + 1 == spec.layers { spec.output() } else { spec.hidden };
                count += 4 * hidden * (input + hidden + biases);
                input = hidden;
            }
            let millions = count as f64 / 1e6;
            assert!((millions / want - 1.0).abs() < 2e-3, "{name}: {millions}, the paper's {want}");
        }
    }

    #[test]
    fn parameters_begin_as_the_recipe_has_them() {
        let begun = |name: &str| {
            let mut config = Config::preset(name).unwrap();
            (config.model.hidden, config.model.embed) = (64, 48);
            config.model.last = config.model.last.min(48);
            if config.model.tied && config.model.last == 0 {
                config.model.embed = 64;
            }
            let spec = config.spec(900).unwrap();
            let cpu = (DType::F64, &Device::Cpu);
            let model = build(config.cell().unwrap(), &spec, Way::Fused, cpu, 3).unwrap();
            move |of: &str| -> (f64, f64) {
                let parameters = model.parameters();
                let (_, var) = parameters.iter().find(|(name, _)| name == of).unwrap();
                let numbers = var.as_tensor().flatten_all().unwrap().to_vec1::<f64>().unwrap();
                let squares: f64 = numbers.iter().map(|x| x * x).sum();
                let largest = numbers.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
                ((squares / numbers.len() as f64).sqrt(), largest)
            }
        };
        // Of U(-r, r): the deviation r / sqrt(3), and nothing beyond r.
        let uniform = |(deviation, largest): (f64, f64), r: f64| {
            (deviation * 3f64.sqrt() / r - 1.0).abs() < 0.1 && largest <= r
        };
        let awd = begun("awd-lstm");
        assert!(uniform(awd("embedding.weight"), 0.1), "{:?}", awd("embedding.weight"));
        assert!(
            uniform(awd("rnn.weight_hh_l0"), 1.0 / 8.0) && uniform(awd("rnn.weight_hh_l2"), 48f64.powf(-0.5))
        );
        assert_eq!(awd("affine.bias"), (0.0, 0.0));
        let book = begun("book-better");
        assert!((book("embedding.weight").0 / 0.01 - 1.0).abs() < 0.1, "{:?}", book("embedding.weight"));
        assert!((book("rnn.weight_ih_l0").0 * 8.0 - 1.0).abs() < 0.1);
        assert_eq!(book("rnn.bias_ih_l0"), (0.0, 0.0));
        let medium = begun("zaremba-medium");
        for name in ["embedding.weight", "rnn.weight_ih_l1", "rnn.bias_hh_l1", "affine.weight", "affine.bias"]
        {
            assert!(uniform(medium(name), 0.05), "{name}: {:?}", medium(name));
        }
    }
}
