//! The numbers of every recipe, as they stand in `snapshots/`: none changes unseen. `INSTA_UPDATE=always cargo test --test
//! runs presets` writes them anew.

use super::*;
use rnn_lm::config::PRESETS;

#[test]
fn no_number_of_a_recipe_changes_unseen() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs/snapshots");
    for (name, _) in PRESETS {
        let text = Config::preset(name).unwrap().to_toml().unwrap();
        // What comments say of a setting is not the recipe.
        let settings = text.lines().map(|line| line.split('#').next().unwrap().trim_end());
        insta::assert_snapshot!(name, settings.collect::<Vec<_>>().join("\n"));
    }
    // Of a preset that is gone nothing stays behind.
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let mut files: Vec<String> = files.map(|name| name.into_string().unwrap()).collect();
    files.sort_unstable();
    let mut want = PRESETS.map(|(name, _)| format!("runs__presets__{name}.snap"));
    want.sort_unstable();
    assert_eq!(files, want);
}

#[test]
fn every_recipe_trains_where_its_model_is_made_small() {
    let bench = Bench::new();
    bench.file("learn.txt", text(200, 1));
    let valid = bench.file("valid.txt", text(40, 2));
    for (name, _) in PRESETS {
        let mut config = bench.config("learn.txt", "", &Config::preset(name).unwrap());
        config.data.valid.clone_from(&valid);
        // All of the text, where the recipe has a part of one.
        config.data.first = config.data.first.min(1200);
        config.model.hidden = 32;
        config.model.embed = if config.model.tied && config.model.last == 0 { 32 } else { 24 };
        config.model.last = config.model.last.min(24);
        // A rate that so small a model can take; all else is the recipe's, what is dropped among it.
        config.training.lr = config.training.lr.min(4.0);
        (config.training.batch, config.training.time) = (4, config.training.time.min(20));
        config.training.epochs = 2;
        let losses = losses(&bench.train(name, &config));
        // Of 22 words, or of 14 characters, by their frequencies at least.
        let uniform = if config.data.tokens == "word" { 22f64.ln() } else { 14f64.ln() };
        assert!(losses.len() == 2 && losses[1] < uniform - 0.1, "{name}: {losses:?}, {uniform}");
    }
}
