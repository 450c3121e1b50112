//! How long a training is, where nobody says how many epochs.

use super::*;

/// Epochs in the settings of a run.
fn epochs(folder: &Folder, run: &str) -> usize {
    let config = std::fs::read_to_string(folder.path(run).join("config.toml")).unwrap();
    let config: toml::Table = toml::from_str(&config).unwrap();
    config["training"]["epochs"].as_integer().unwrap().try_into().unwrap()
}

fn train(folder: &Folder, line: &str) -> String {
    let output = folder.run(line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_training_has_as_many_epochs_as_its_minutes_hold() {
    let folder = Folder::new();
    folder.file("t.txt", text(200));
    let said = train(&folder, &format!("train t.txt {SMALL} --minutes 0.00001 --out short"));
    assert!(said.contains("\nepochs   1, 0 s at ") && said.contains(" words/s (--minutes"), "{said}");
    assert_eq!(epochs(&folder, "short"), 1);
    // A preset's are of no account either.
    train(&folder, &format!("train t.txt --preset book-rnn {SMALL} --minutes 0.03 --out longer"));
    assert!(epochs(&folder, "longer") > 1);
}

#[test]
fn a_fast_machine_adds_epochs_to_those_that_are_suggested_and_to_no_others() {
    let folder = Folder::new();
    // Long enough to be read a few times only, and of words that are long, so that they are few.
    folder.file("t.txt", format!("{} {}\n", "a".repeat(99), "b".repeat(99)).repeat(11_500));
    let quick = "--tokens word --embed 4 --hidden 4 --tied=false";
    let settings = folder.out(&format!("config t.txt {quick}"));
    assert!(settings.contains("\nepochs = 4 "), "{settings}");
    let said = train(&folder, &format!("train t.txt {quick} --out more"));
    assert!(said.contains("\nepochs   5, "), "{said}");
    assert_eq!(epochs(&folder, "more"), 5);
    folder.file("two.toml", "[training]\nepochs = 2\n");
    for (by, want) in [("--epochs 2", 2), ("--config two.toml", 2), ("--config more/config.toml", 5)] {
        let run = format!("run-{}", by.replace(['/', ' '], "-"));
        let said = train(&folder, &format!("train t.txt {quick} {by} --out {run}"));
        assert!(!said.contains("epochs   "), "{by}: {said}");
        assert_eq!(epochs(&folder, &run), want, "{by}");
    }
}
