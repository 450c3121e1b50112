//! What a text suggests gives way to what is said, and what is said in vain is named.

use super::*;

#[test]
fn tied_weights_that_were_only_suggested_give_way_to_an_adaptive_softmax() {
    let folder = Folder::new();
    folder.file("t.txt", text(80));
    let line = "train t.txt --tokens word --embed 16 --hidden 16 --batch 4 --time 6 --epochs 1 --quiet --cutoffs 5 --out";
    folder.out(&format!("{line} r"));
    assert!(folder.out("config --config r/config.toml").contains("tied = false"));
    let refused = folder.run(&format!("{line} s --tied"));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("--cutoffs: expected none with tied weights") && said.contains("tied = false"),
        "{said}"
    );
    // What a file says goes before what is suggested, as what a flag says.
    folder.file("u.txt", "the <unk> cat\n".repeat(200));
    folder.file("size.toml", "[model]\nhidden = 12\n");
    for settings in ["--hidden 12", "--config size.toml"] {
        let config = folder.out(&format!("config u.txt {settings}"));
        assert!(config.contains("hidden = 12") && config.contains("tied = false"), "{settings}: {config}");
    }
    folder.file("tied.toml", "[model]\nhidden = 12\ntied = true\n");
    let refused = folder.run("config u.txt --config tied.toml");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("of tied weights"), "{refused:?}");
}

#[test]
fn a_suggested_rate_and_clipping_go_with_the_rule_that_is_said() {
    let folder = Folder::new();
    folder.file("t.txt", text(80));
    for (settings, want) in [
        (
            "--tokens char",
            &["rule = \"adam\"", "lr = 0.007", "clip_norm = 1.0", "activation = 1.0", "temporal = 0.5"][..],
        ),
        ("--tokens char --rule rms-prop", &["lr = 0.007"]),
        ("--tokens char --rule sgd", &["lr = 10.0", "clip_norm = 1.0"]),
        ("--tokens char --rule sgd --cell rnn", &["lr = 1.0"]),
        ("--tokens char --rule sgd --lr 3", &["lr = 3.0"]),
        ("--tokens char --clip-value 5", &["clip_norm = 0.0", "clip_value = 5.0"]),
    ] {
        let config = folder.out(&format!("config t.txt {settings}"));
        for want in want {
            assert!(config.lines().any(|line| line.starts_with(want)), "{settings}: no {want} in {config}");
        }
    }
}

#[test]
fn suggested_windows_and_epochs_are_for_what_is_learnt_from() {
    let folder = Folder::new();
    folder.file("t.txt", text(40_000));
    let number = |config: &str, name: &str| -> usize {
        let line = config.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    let whole = folder.out("config t.txt --tokens word");
    let first = folder.out("config t.txt --tokens word --first 300");
    assert!(number(&whole, "batch") * number(&whole, "time") > 300);
    assert!(number(&first, "batch") * number(&first, "time") < 300, "{first}");
    assert!(number(&first, "epochs") > number(&whole, "epochs"), "{first}");
    folder.out("train t.txt --tokens word --first 300 --embed 4 --hidden 4 --epochs 1 --quiet --out r");
    // What was said stays.
    assert_eq!(number(&folder.out("config t.txt --tokens word --first 300 --batch 7"), "batch"), 7);
}

#[test]
fn a_presets_rate_with_another_rule_is_said() {
    let folder = Folder::new();
    folder.file("t.txt", text(80));
    let line = "train t.txt --preset char-small --embed 4 --hidden 4 --last 0 --layers 1 --batch 4 --time 6 --epochs 1";
    for (out, flags, want) in
        [("a", "--rule sgd", true), ("b", "--rule sgd --lr 2", false), ("c", "--rule adam", false)]
    {
        let output = folder.run(&format!("{line} {flags} --out {out}"));
        assert!(output.status.success(), "{flags}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let note = "note     the rate 0.002 is that of char-small for adam, and the rule is sgd: --lr says another\n";
        assert_eq!(said.contains(note), want, "{flags}: {said}");
        assert_eq!(said.contains("the rate"), want, "{flags}: {said}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let folder = Folder::new();
    folder.file("t.txt", text(80));
    let line = "train t.txt --tokens word --embed 4 --hidden 4 --batch 4 --time 6 --epochs 1";
    let said = |flags: &str, out: &str| {
        let output = folder.run(&format!("{line} {flags} --out {out}"));
        assert!(output.status.success(), "{flags}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        said.lines().filter(|line| line.contains("no effect")).map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        said("--momentum 0.9 --beta1 0.8 --dropout 0.2", "a"),
        ["note     --momentum has no effect here: it is for rule sgd"]
    );
    assert_eq!(said("--rule sgd --momentum 0.9 --nesterov --warmup 3", "b"), [""; 0]);
    assert_eq!(
        said("--dropout-between 0.5 --holdout 0.2 --valid t.txt", "c"),
        [
            "note     --holdout has no effect here: it is for measuring without --valid and --first",
            "note     --dropout-between has no effect here: it is for more layers than one",
        ]
    );
    assert_eq!(
        said("--last 5", "d"),
        [
            "note     --hidden has no effect here: it is for layers below the last, which has a size of its own"
        ]
    );
    // Under the names that other programs have.
    assert_eq!(said("--optimizer sgd --weight-decay 0.1 --learning-rate 0.5", "e"), [""; 0]);
    let config = std::fs::read_to_string(folder.path("e/config.toml")).unwrap();
    assert!(config.contains("\ndecay = 0.1 ") && config.contains("\nlr = 0.5 "), "{config}");
}

#[test]
fn a_text_is_one_of_words_where_it_was_prepared_and_that_is_said() {
    let folder = Folder::new();
    folder.file("prepared.txt", "the <unk> sat\n".repeat(300));
    folder.file("about.txt", format!("{}it says <unk> there\n", "the cat sat on the mat\n".repeat(300)));
    let said = |name: &str| {
        let line = format!("train {name} --embed 4 --hidden 4 --epochs 1 --tied=false --out {name}-run");
        let output = folder.run(&line);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let prepared = said("prepared.txt");
    assert!(
        prepared.contains("note     prepared.txt: it has <unk>") && prepared.contains("words, "),
        "{prepared}"
    );
    let about = said("about.txt");
    assert!(!about.contains("note  ") && about.contains("characters, "), "{about}");
    // Another run's tokens are no choice.
    let line =
        "train about.txt --warm-start prepared.txt-run --tokenizer= --tied=false --epochs 1 --out more";
    let more = String::from_utf8(folder.run(line).stderr).unwrap();
    assert!(!more.contains("it has <unk>"), "{more}");
}
