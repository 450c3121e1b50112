//! Every setting has the effect that it claims, all the way from its name to the weights.

use super::*;
use rnn_lm::run::Stepped;
use rnn_lm::tokenizer::Tokenizer;

/// A setting, what else has to be set for it to matter, and another value. `FOLDER` is that of the texts.
type Row = (&'static str, &'static str, &'static str);

/// Settings that change what is learnt.
const LEARNT: &[Row] = &[
    ("data.corpus", "", "FOLDER/other.txt"),
    // What is measured matters where the rate depends on it; and so below.
    (
        "data.valid",
        "[data]\nvalid = \"FOLDER/valid.txt\"\n[training]\nschedule = \"plateau\"\nlr = 20\nevaluate_every = 2",
        "FOLDER/other.txt",
    ),
    ("data.holdout", "", "0.4"),
    ("data.tokens", "", "char"),
    ("data.tokenizer", "", "FOLDER/other.json"),
    ("data.max_vocab", "", "9"),
    ("data.first", "", "150"),
    ("model.cell", "", "gru"),
    ("model.embed", "", "6"),
    ("model.hidden", "", "6"),
    ("model.layers", "", "3"),
    ("model.last", "", "6"),
    ("model.bias", "", "both"),
    ("model.init", "", "pytorch"),
    ("model.init_range", "[model]\ninit = \"uniform\"", "0.2"),
    ("model.warm_start", "", "FOLDER/first"),
    ("model.tied", "", "true"),
    ("model.cutoffs", "", "5"),
    ("dropout.words", "", "0.3"),
    ("dropout.input", "", "0.3"),
    ("dropout.between", "", "0.3"),
    ("dropout.output", "", "0.3"),
    ("dropout.locked", "[dropout]\ninput = 0.3", "true"),
    ("dropout.locked", "[dropout]\nbetween = 0.3", "true"),
    ("dropout.locked", "[dropout]\noutput = 0.3", "true"),
    ("dropout.weight", "", "0.3"),
    ("dropout.recurrent", "", "0.3"),
    ("dropout.zoneout_h", "", "0.3"),
    ("dropout.zoneout_c", "", "0.3"),
    ("dropout.activation", "", "2"),
    ("dropout.temporal", "", "2"),
    ("training.batch", "", "5"),
    ("training.time", "", "7"),
    ("training.order", "", "book"),
    ("training.varied", "", "true"),
    ("training.accumulate", "", "2"),
    ("training.epochs", "", "4"),
    ("training.rule", "[training]\nlr = 0.01", "adam"),
    ("training.rule", "[training]\nlr = 0.01", "rms-prop"),
    ("training.lr", "", "0.5"),
    ("training.momentum", "", "0.9"),
    ("training.nesterov", "[training]\nmomentum = 0.9", "true"),
    ("training.beta1", "[training]\nrule = \"adam\"\nlr = 0.01", "0.5"),
    ("training.beta2", "[training]\nrule = \"adam\"\nlr = 0.01", "0.9"),
    ("training.beta2", "[training]\nrule = \"rms-prop\"\nlr = 0.01", "0.9"),
    ("training.decay", "", "0.01"),
    ("training.decoupled", "[training]\nrule = \"adam\"\nlr = 0.01\ndecay = 0.1", "true"),
    ("training.clip_norm", "", "0"),
    ("training.clip_norm", "", "0.01"),
    ("training.clip_value", "[training]\nclip_norm = 0", "0.01"),
    ("training.schedule", "[training]\nlr = 20\nevaluate_every = 2", "plateau"),
    ("training.schedule", "", "decay"),
    ("training.schedule", "", "cosine"),
    ("training.divide", "[training]\nschedule = \"decay\"", "2"),
    ("training.divide", "[training]\nschedule = \"plateau\"\nlr = 20\nevaluate_every = 2", "2"),
    ("training.after", "[training]\nschedule = \"decay\"", "2"),
    ("training.warmup", "[training]\nschedule = \"cosine\"", "9"),
    ("training.average", "", "after"),
    ("training.average", "[training]\nlr = 20\nevaluate_every = 2", "nt-asgd"),
    ("training.patience", "[training]\naverage = \"after\"", "10"),
    ("training.patience", "[training]\naverage = \"nt-asgd\"\nlr = 20\nevaluate_every = 3", "5"),
    ("training.evaluate_every", "[training]\nschedule = \"plateau\"\nlr = 20\nevaluate_every = 2", "7"),
    ("training.seed", "", "2"),
    ("training.seed", "[training]\nvaried = true\n[model]\ninit = \"uniform\"\ninit_range = 1e-9", "2"),
];

/// Settings that change nothing of what a step computes, and why that is so; below each is held to that.
const ASIDE: &[(&str, &str)] = &[
    ("data.memory", "where ids are is no part of them"),
    ("training.stop_after", "it only says when to end"),
];

/// Settings that a run may go on with others of: those above, a text at another place, and a longer training.
const FREE: [&str; 5] =
    ["data.corpus", "data.valid", "data.memory", "training.epochs", "training.stop_after"];

/// Three epochs of eleven steps.
const BASE: &str = "
    [data]
    holdout = 0.2
    [model]
    embed = 8
    hidden = 8
    layers = 2
    [training]
    batch = 4
    time = 5
    epochs = 3
    lr = 2";

/// Texts, a tokenizer with other words than those that are most frequent, and a run of other weights.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("train.txt", text(45, 1));
    bench.file("valid.txt", text(20, 2));
    bench.file("other.txt", text(45, 3));
    let words = "w3 w5 w7 w9 w11 w13\n";
    let options = Config::default().tokens().unwrap();
    bench.file("other.json", Tokenizer::train(words.as_bytes(), &options).unwrap().to_json().unwrap());
    bench.train("first", &bench.base("[training]\nseed = 2\nepochs = 1"));
    bench
}

impl Bench {
    fn base(&self, with: &str) -> Config {
        let base = self.config("train.txt", BASE, &Config::default());
        let with = with.replace("FOLDER", &self.path("").display().to_string());
        self.config("train.txt", &with, &base)
    }

    /// With the other value of a setting.
    fn changed(&self, base: &Config, setting: &str, value: &str) -> Config {
        let (section, name) = setting.split_once('.').unwrap();
        base.with(section, name, &value.replace("FOLDER", &self.path("").display().to_string())).unwrap()
    }
}

#[test]
fn every_setting_is_held_to_what_it_claims() {
    let settings = Config::settings().unwrap();
    let all: Vec<String> = settings.iter().map(|of| format!("{}.{}", of.section, of.name)).collect();
    let learnt = |name: &str| LEARNT.iter().any(|(setting, ..)| *setting == name);
    let aside = |name: &str| ASIDE.iter().any(|(setting, _)| *setting == name);
    for name in &all {
        assert!(learnt(name) != aside(name), "{name} is in one of both lists");
    }
    let named = LEARNT.iter().map(|(setting, ..)| setting).chain(ASIDE.iter().map(|(setting, _)| setting));
    for name in named.chain(&FREE) {
        assert!(all.iter().any(|setting| setting == name), "{name} is a setting");
    }
}

/// Of each row of these sections two runs, whose weights have to be others: of other shapes, or by more than rounding.
fn changes_what_is_learnt(sections: &[&str]) {
    let bench = bench();
    let mut bases: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for (number, (setting, with, value)) in LEARNT.iter().enumerate() {
        if !sections.contains(&setting.split('.').next().unwrap()) {
            continue;
        }
        let base = bench.base(with);
        let config = bench.changed(&base, setting, value);
        let differences = base.differences(&config).unwrap();
        assert!(matches!(&differences[..], [(name, ..)] if name == setting), "{differences:?}");
        let plain =
            bases.entry(with).or_insert_with(|| bench.train(&format!("{number}.base"), &base)).clone();
        let other = bench.train(&format!("{number}.changed"), &config);
        let by = apart(&weights(&plain), &weights(&other));
        assert!(
            by.is_none_or(|by| by > 1e-4),
            "{setting} = {value} with {with:?}: the weights are {by:?} apart"
        );
    }
}

#[test]
fn of_the_text() {
    changes_what_is_learnt(&["data"]);
}

#[test]
fn of_the_model() {
    changes_what_is_learnt(&["model"]);
}

#[test]
fn of_what_is_dropped() {
    changes_what_is_learnt(&["dropout"]);
}

#[test]
fn of_the_training() {
    changes_what_is_learnt(&["training"]);
}

/// Without this the runs above could be apart by chance alone.
#[test]
fn the_same_settings_give_the_same_weights_wherever_texts_and_ids_are() {
    let bench = bench();
    let mut config = bench.base("[dropout]\ninput = 0.3\n[training]\nvaried = true\naccumulate = 2");
    config.data.valid = bench.path("valid.txt").display().to_string();
    let plain = bench.train("plain", &config);
    let again = bench.train("again", &config);
    let in_file = bench.train("in a file", &bench.changed(&config, "data.memory", "0"));
    assert!(in_file.join("cache/train.ids").exists() && !plain.join("cache").exists());
    let mut moved = config.clone();
    moved.data.corpus = bench.file("moved.txt", text(45, 1));
    moved.data.valid = bench.file("moved valid.txt", text(20, 2));
    let moved = bench.train("moved", &moved);
    for run in [again, in_file, moved] {
        let what = run.file_name().unwrap().to_string_lossy().into_owned();
        assert!(weights(&run) == weights(&plain), "{what}");
        assert_eq!(metrics(&run), metrics(&plain), "{what}");
    }
}

#[test]
fn a_run_that_ends_early_is_the_beginning_of_the_one_that_does_not() {
    let bench = bench();
    let config = bench.base("[training]\nlr = 20\nepochs = 12\nevaluate_every = 3");
    let long = metrics(&bench.train("long", &config));
    let mut fit = bench.begin("short", &bench.changed(&config, "training.stop_after", "4"));
    assert_eq!(fit.train_on(&mut Nobody).unwrap(), End::Early);
    drop(fit);
    let short = metrics(&bench.path("short"));
    assert!(short.len() < long.len() && short[..] == long[..short.len()], "{} {}", short.len(), long.len());
    // The best one is four before its last, and no four without a better one come earlier.
    let bests: Vec<usize> = (0..short.len()).filter(|&line| short[line]["best"] == true).collect();
    assert_eq!(bests.last(), Some(&(short.len() - 5)));
    assert!(bests.windows(2).all(|two| two[1] - two[0] <= 4), "{bests:?}");
}

/// Stops after the seventh window.
struct Seven(usize);

impl Watch for Seven {
    fn stepped(&mut self, _: &Stepped, _: &dyn rnn_lm::LanguageModel) {
        self.0 += 1;
    }

    fn stop(&self) -> bool {
        self.0 == 7
    }
}

#[test]
fn a_run_goes_on_with_the_settings_that_it_began_with() {
    let bench = bench();
    let base = bench.base("");
    let whole = bench.train("whole", &base);
    assert_eq!(bench.begin("run", &base).train_on(&mut Seven(0)).unwrap(), End::Stopped);
    let run = bench.path("run");
    let resume = |config: &Config| {
        std::fs::write(run.join("config.toml"), config.to_toml().unwrap()).unwrap();
        Fit::resume(&run, None, &Device::Cpu)
    };
    let before = tensors(&run.join(CHECKPOINT));
    for (setting, _, value) in LEARNT.iter().filter(|(setting, ..)| !FREE.contains(setting)) {
        let error = resume(&bench.changed(&base, setting, value)).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|said| said.contains(setting)), "{setting} = {value}: {error:?}");
    }
    assert!(tensors(&run.join(CHECKPOINT)) == before, "what was refused changed nothing");
    // The others it takes, and they change nothing of the steps that it goes on with.
    let mut free = base.clone();
    free.data.corpus = bench.file("moved.txt", text(45, 1));
    (free.data.memory, free.training.stop_after, free.training.epochs) = (0, 9, 4);
    assert_eq!(base.differences(&free).unwrap().len(), 4);
    let mut fit = resume(&free).unwrap();
    assert_eq!((fit.steps(), fit.train_on(&mut Nobody).unwrap()), (7, End::Done));
    drop(fit);
    let (three, four) = (metrics(&whole), metrics(&run));
    assert_eq!((three.len(), four.len()), (3, 4));
    assert_eq!(three[..], four[..3]);
}
