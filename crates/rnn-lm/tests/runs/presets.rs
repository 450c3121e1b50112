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
