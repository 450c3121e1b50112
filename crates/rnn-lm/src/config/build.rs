//! What the settings make: a model's spec, a trainer, a vocabulary's options. Every word and number is looked at here.

use super::text::{line_of, meant};
use super::{Config, Training};
use crate::data::Unknown;
use crate::error::{self, at_least_zero, positive};
use crate::layers::Cutoffs;
use crate::model::{CellKind, Dropout, LmSpec, build};
use crate::tokenizer::{self, Unit};
use crate::train::{
    Adam, Averaging, Clip, Decay, NonMonotone, Optimizer, Rate, RmsProp, Schedule, Sgd, Trainer,
};
use crate::{Error, LanguageModel, Result};
use candle_core::{DType, Device};
use rnn_core::{Bias, Penalty, Regularisers, Scheme, Way, check_rate};
use std::fmt::Display;
use std::num::NonZeroUsize;

/// Which biases recurrent layers have, as settings call them.
const BIASES: [(&str, Bias); 3] = [("none", Bias::None), ("single", Bias::Single), ("both", Bias::Both)];

/// The same, there and back.
pub(crate) fn bias_name(bias: Bias) -> &'static str {
    BIASES.iter().find(|(_, one)| *one == bias).map_or("none", |(name, _)| name)
}

/// The rules of a step, as settings call them.
const RULES: [(&str, RuleName); 4] = [
    ("sgd", RuleName::Sgd),
    ("adam", RuleName::Adam),
    ("adamw", RuleName::AdamW),
    ("rms-prop", RuleName::RmsProp),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum RuleName {
    Sgd,
    Adam,
    /// Adam with its decay beside it.
    AdamW,
    RmsProp,
}

/// In which order the windows of a training are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WindowOrder {
    /// [`crate::data::Streams`], or [`crate::data::Varied`] ones.
    Streams,
    /// [`crate::data::BookBatches`].
    Book,
}

impl Config {
    /// Looks at every setting, whatever is made of it.
    ///
    /// # Errors
    /// Where one is a word that is none of its, or a number out of its range.
    pub fn check(&self) -> Result<()> {
        let (unit, of_text) = (self.tokens()?.unit, self.data.tokenizer.is_empty());
        self.cell()?;
        let spec = self.spec(2)?;
        self.trainer(1)?;
        let Training { batch, time, epochs, .. } = self.training;
        for (setting, value) in [
            ("model.embed", self.model.embed),
            ("model.hidden", self.model.hidden),
            ("model.layers", self.model.layers),
            ("training.batch", batch),
            ("training.time", time),
            ("training.epochs", epochs),
        ] {
            if value == 0 {
                return Err(Error::invalid(setting, "at least 1", 0));
            }
        }
        if i64::try_from(epochs).is_err() {
            return Err(Error::invalid("training.epochs", format!("at most {}", i64::MAX), epochs));
        }
        spec.check().map_err(as_setting)?;
        if self.data.max_vocab == 1 {
            return Err(Error::invalid("data.max_vocab", "0, or at least 2: <unk> and a word", 1));
        }
        if of_text && unit == Unit::Bpe && (1..256).contains(&self.data.max_vocab) {
            return Err(Error::invalid("data.max_vocab", "0, or at least 256 of bpe", self.data.max_vocab)
                .hint("every byte is a token of its own, so that there is no unknown text"));
        }
        error::share("data.holdout", self.data.holdout)?;
        // The run of a warm start had its cutoffs from its own text; that its tokenizer is taken is seen to there.
        let counted = of_text || !self.model.warm_start.is_empty();
        let listed = matches!(unit, Unit::Word | Unit::Char) && counted;
        if !self.model.cutoffs.is_empty() && !listed {
            let got = if of_text { unit.to_string() } else { "a tokenizer.json".into() };
            return Err(Error::invalid("model.cutoffs", "none but where words are counted in the text", got)
                .hint("they cut a vocabulary whose first words are the most frequent ones"));
        }
        let order = self.order()?;
        if self.training.varied && order == WindowOrder::Book {
            return Err(Error::invalid("training.varied", "false with order book", true)
                .hint("the book's windows are all of one length"));
        }
        Ok(())
    }

    /// The same, of what the file `name` with this `text` says: its line is named.
    ///
    /// # Errors
    /// Those of [`Self::check`].
    pub fn check_file(&self, name: &str, text: &str) -> Result<()> {
        self.check().map_err(|error| match &error {
            Error::Core(rnn_core::Error::Invalid { op, .. }) => match line_of(text, op) {
                Some(line) => error.at(format!("{name}:{line}")),
                None => error,
            },
            _ => error,
        })
    }

    /// In which order windows are read.
    ///
    /// # Errors
    /// Where it is none that there is.
    pub(crate) fn order(&self) -> Result<WindowOrder> {
        let orders = [("streams", WindowOrder::Streams), ("book", WindowOrder::Book)];
        word("training.order", &self.training.order, &orders)
    }

    /// What a token is, and how the vocabulary is made of a text.
    ///
    /// # Errors
    /// Where tokens are none of those that there are.
    pub fn tokens(&self) -> Result<tokenizer::Options> {
        let unit = one_of("data.tokens", &self.data.tokens, &Unit::ALL)?;
        let max = Some(self.data.max_vocab).filter(|&max| max > 0);
        let by_frequency = !self.model.cutoffs.is_empty();
        let first = NonZeroUsize::new(self.data.first);
        let unknown = if first.is_some() { Unknown::Error } else { Unknown::Add };
        Ok(tokenizer::Options { unit, max, unknown, first, by_frequency })
    }

    /// Which cell.
    ///
    /// # Errors
    /// Where it is none that there is.
    pub fn cell(&self) -> Result<CellKind> {
        one_of("model.cell", &self.model.cell, &CellKind::ALL)
    }

    /// The model for a vocabulary of V.
    ///
    /// # Errors
    /// Where a setting is a word that is none of its, or a range is not above 0.
    pub fn spec(&self, vocabulary: usize) -> Result<LmSpec> {
        let (model, rates) = (&self.model, &self.dropout);
        let range = positive("model.init_range", model.init_range)?;
        let schemes = [
            ("pytorch", Scheme::Pytorch),
            ("book", Scheme::Book),
            ("awd", Scheme::Awd),
            ("uniform", Scheme::Uniform(range)),
        ];
        let recurrent = Regularisers {
            recurrent: rates.recurrent,
            weight: rates.weight,
            zoneout_h: rates.zoneout_h,
            zoneout_c: rates.zoneout_c,
            ..Regularisers::default()
        };
        for (setting, rate) in [
            ("dropout.words", rates.words),
            ("dropout.input", rates.input),
            ("dropout.between", rates.between),
            ("dropout.output", rates.output),
            ("dropout.weight", rates.weight),
            ("dropout.recurrent", rates.recurrent),
            ("dropout.zoneout_h", rates.zoneout_h),
            ("dropout.zoneout_c", rates.zoneout_c),
        ] {
            check_rate(setting, rate)?;
        }
        if rates.zoneout_c > 0.0 && self.cell()? != CellKind::Lstm {
            let want = format!("0 for {}, whose state has no c", self.model.cell);
            return Err(
                Error::invalid("dropout.zoneout_c", want, rates.zoneout_c).hint("zoneout_h keeps units of h")
            );
        }
        let penalty = Penalty {
            activation: at_least_zero("dropout.activation", rates.activation)?,
            temporal: at_least_zero("dropout.temporal", rates.temporal)?,
        };
        let dropout = Dropout {
            words: rates.words,
            input: rates.input,
            between: rates.between,
            output: rates.output,
            locked: rates.locked,
            recurrent,
            penalty,
        };
        let spec = LmSpec::new(vocabulary, model.embed, model.hidden)
            .layers(model.layers)
            .bias(word("model.bias", &model.bias, &BIASES)?)
            .init(word("model.init", &model.init, &schemes)?)
            .tied(model.tied)
            .dropout(dropout);
        let spec = if model.last == 0 { spec } else { spec.last(model.last) };
        if model.cutoffs.is_empty() {
            return Ok(spec);
        }
        let cutoffs = Cutoffs::new(&model.cutoffs).map_err(as_setting);
        Ok(spec.adaptive(cutoffs.map_err(|error| error.hint("as in cutoffs = [2000, 10000]"))?))
    }

    /// The model of so many tokens, as it begins, in f32.
    ///
    /// # Errors
    /// Where [`Self::cell`] or [`Self::spec`] refuses a setting, or [`LmSpec::check`] refuses the spec; where a cutoff is not
    /// below V, or there would be more than 10^10 parameters.
    pub fn untrained(&self, vocabulary: usize, way: Way, device: &Device) -> Result<Box<dyn LanguageModel>> {
        let spec = self.spec(vocabulary)?;
        build(self.cell()?, &spec, way, (DType::F32, device), self.training.seed).map_err(as_setting)
    }

    /// The training, which is to have so many steps in all: a cosine ends there.
    ///
    /// # Errors
    /// Where a setting is a word that is none of its, or a number out of its range.
    pub fn trainer(&self, steps: u64) -> Result<Trainer> {
        let training = &self.training;
        let lr = positive("training.lr", training.lr)?;
        for (setting, share) in [
            ("training.momentum", training.momentum),
            ("training.beta1", training.beta1),
            ("training.beta2", training.beta2),
        ] {
            error::share(setting, share)?;
        }
        let &Training { momentum, nesterov, beta1, beta2, .. } = training;
        let rule = word("training.rule", &training.rule, &RULES)?;
        let optimizer = match rule {
            RuleName::Sgd => Optimizer::new(Sgd { momentum, nesterov }, lr),
            RuleName::Adam | RuleName::AdamW => Optimizer::new(Adam { beta1, beta2, ..Adam::default() }, lr),
            RuleName::RmsProp => Optimizer::new(RmsProp { alpha: beta2, ..RmsProp::default() }, lr),
        };
        let norm = at_least_zero("training.clip_norm", training.clip_norm)?;
        let value = at_least_zero("training.clip_value", training.clip_value)?;
        let clip = match (norm > 0.0, value > 0.0) {
            (false, false) => Clip::None,
            (true, false) => Clip::Norm(norm),
            (false, true) => Clip::Value(value),
            (true, true) => {
                return Err(Error::invalid("training.clip_value", "0 where clip_norm is not", value)
                    .hint("one of the two: clip_norm = 0 leaves the value alone"));
            }
        };
        let decay = at_least_zero("training.decay", training.decay)?;
        let decay = match (decay, training.decoupled || rule == RuleName::AdamW) {
            (0.0, _) => Decay::None,
            (by, false) => Decay::Coupled(by),
            (by, true) => Decay::Decoupled(by),
        };
        let &Training { after, divide, .. } = training;
        let schedules = [
            ("constant", Schedule::Constant),
            ("plateau", Schedule::Plateau { divide }),
            ("decay", Schedule::Decay { after, divide }),
            ("cosine", Schedule::Cosine { warmup: training.warmup, steps }),
        ];
        let schedule = word("training.schedule", &training.schedule, &schedules)?;
        // Also where no schedule takes it.
        Rate::new(lr, Schedule::Plateau { divide }).map_err(as_setting)?;
        let rate = Rate::new(lr, schedule).map_err(as_setting)?;
        let patience = usize::try_from(training.patience).unwrap_or(usize::MAX);
        let averages = [
            ("never", Averaging::Never),
            ("after", Averaging::After(training.patience)),
            ("nt-asgd", Averaging::NonMonotone(NonMonotone::new(patience))),
        ];
        let averaging = word("training.average", &training.average, &averages)?;
        let optimizer = optimizer.clip(clip).decay(decay);
        let trainer = Trainer::new(optimizer).rate(rate).averaging(averaging);
        trainer.accumulate(training.accumulate).map_err(as_setting)
    }
}

/// An error of a model or a training under the name of the setting that is to change.
fn as_setting(error: Error) -> Error {
    const SETTINGS: [(&str, &str); 7] = [
        ("LmSpec: embed", "model.embed"),
        ("LmSpec: cutoffs", "model.cutoffs"),
        ("Cutoffs::new: cutoffs", "model.cutoffs"),
        ("Cutoffs", "model.cutoffs"),
        ("Rate: divide", "training.divide"),
        ("Rate: after", "training.after"),
        ("Trainer::accumulate: windows", "training.accumulate"),
    ];
    error.renamed(|op| Some(SETTINGS.iter().find(|(name, _)| *name == op)?.1.into()))
}

/// What is called so.
fn one_of<W: Copy + Display>(setting: &str, got: &str, all: &[W]) -> Result<W> {
    let named: Vec<_> = all.iter().map(|one| (one.to_string(), *one)).collect();
    let named: Vec<_> = named.iter().map(|(name, one)| (name.as_str(), *one)).collect();
    word(setting, got, &named)
}

/// What a word stands for.
fn word<W: Clone>(setting: &str, got: &str, words: &[(&str, W)]) -> Result<W> {
    let found = words.iter().find(|(word, _)| *word == got).map(|(_, meant)| meant.clone());
    found.ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        meant(Error::invalid(setting, all.join(", "), format!("{got:?}")), got, &all)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PRESETS;

    #[test]
    fn adamw_is_adam_with_its_decay_beside_it() {
        let made = |text: &str| {
            let config = Config::parse("c", &format!("[training]\ndecay = 0.1\n{text}"), &Config::default());
            format!("{:?}", config.unwrap().trainer(9).unwrap())
        };
        let adamw = made("rule = \"adamw\"");
        assert_eq!(adamw, made("rule = \"adam\"\ndecoupled = true"));
        assert!(adamw.contains("Decoupled(0.1)") && !made("rule = \"adam\"").contains("Decoupled"));
    }

    #[test]
    fn every_preset_and_the_defaults_are_whole() {
        Config::default().check().unwrap();
        for (name, _) in PRESETS {
            Config::preset(name).unwrap().check().unwrap();
        }
    }

    #[test]
    fn what_is_out_of_range_names_its_setting() {
        for (text, want) in [
            ("[data]\ntokens = \"words\"", "data.tokens: expected word, char, byte, bpe, got \"words\""),
            ("[data]\nmax_vocab = 1", "data.max_vocab: expected 0, or at least 2: <unk> and a word, got 1"),
            ("[model]\ncell = \"LSTM\"", "model.cell: expected rnn, lstm, gru, got \"LSTM\""),
            ("[model]\nhidden = 0", "model.hidden: expected at least 1, got 0"),
            ("[dropout]\nwords = 1", "dropout.words: expected a rate of at least 0 and below 1, got 1"),
            ("[dropout]\ntemporal = -1", "dropout.temporal: expected a number of at least 0, got -1"),
            ("[training]\nlr = 0", "training.lr: expected a number above 0, got 0"),
            ("[training]\nlr = nan", "training.lr: expected a number above 0, got NaN"),
            (
                "[training]\nclip_value = 1",
                "training.clip_value: expected 0 where clip_norm is not, got 1 (one of",
            ),
            (
                "[training]\ndivide = 0.5",
                "training.divide: expected a number of at least 1, got 0.5 (the rate",
            ),
            ("[training]\nbeta2 = 1", "training.beta2: expected at least 0 and below 1, got 1"),
            (
                "[training]\nschedule = \"step\"",
                "training.schedule: expected constant, plateau, decay, cosine,",
            ),
            ("[training]\norder = \"any\"", "training.order: expected streams, book, got \"any\""),
            (
                "[training]\nschedule = \"decay\"\nafter = 0",
                "training.after: expected at least 1, the last epoch with the whole rate, got 0",
            ),
            ("[training]\nepochs = 0", "training.epochs: expected at least 1, got 0"),
            (
                "[model]\ncell = \"gru\"\n[dropout]\nzoneout_c = 0.1",
                "dropout.zoneout_c: expected 0 for gru, whose state has no c, got 0.1 (zoneout_h",
            ),
            (
                "[model]\ntied = true\nembed = 99",
                "model.embed: expected 100, the hidden size, of tied weights, got 99",
            ),
            (
                "[model]\ntied = true\ncutoffs = [10]",
                "model.cutoffs: expected none with tied weights, got an adaptive softmax (its words",
            ),
        ] {
            let config = Config::parse("c", text, &Config::default()).unwrap();
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(want), "{text:?}: {error}");
        }
    }
}
