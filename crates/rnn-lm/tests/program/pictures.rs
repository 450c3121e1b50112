//! `plot`: how runs learnt, as a picture.

use super::{Folder, SMALL, text};
use serde_json::Value;

/// The points of the lines of an SVG that a colour has, from left to right.
fn lines(svg: &str, colour: &str) -> Vec<Vec<(f64, f64)>> {
    let of_colour = svg.lines().filter(|line| line.starts_with("<polyline") && line.contains(colour));
    let points = |line: &str| {
        let points = line.split_once("points=\"").unwrap().1.split_once('"').unwrap().0;
        let point = |point: &str| {
            let (x, y) = point.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        points.split_whitespace().map(point).collect()
    };
    of_colour.map(points).collect()
}

#[test]
fn a_picture_has_what_was_measured_of_each_run() {
    let folder = Folder::new();
    folder.file("t.txt", text(120));
    for (name, more) in [("four", "--epochs 4"), ("three", "--epochs 3 --seed 2")] {
        folder.out(&format!("train t.txt {SMALL} {more} --quiet --out {name}"));
    }
    folder.file("p.svg", "an older picture");
    assert_eq!(folder.out("plot four three --out p.svg"), "p.svg\n");
    let svg = std::fs::read_to_string(folder.path("p.svg")).unwrap();
    for (name, colour, epochs) in [("four", "#0072B2", 4), ("three", "#D55E00", 3)] {
        let best = folder.json(&format!("info {name}"))["best"]["valid_loss"].as_f64().unwrap();
        assert!(svg.contains(&format!("{name}: {:.1}", best.exp())), "{svg}");
        // What it was while learning, what was measured, and the bit of line beside the name.
        let lines = lines(&svg, colour);
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [epochs, epochs, 2], "{svg}");
        // An epoch is as long as the other; what is better stands lower, where y is greater.
        let steps = lines[1].windows(2).map(|pair| (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1));
        for (along, down) in steps {
            assert!((along - lines[1][0].0 + 80.0).abs() <= 2.0 && down > 0.0, "{lines:?}");
        }
    }
    for name in ["perplexity (thin: while learning)", "words learnt from"] {
        assert!(svg.contains(name), "{name}");
    }
}

#[test]
fn what_broke_down_while_learning_hides_nothing_else() {
    let folder = Folder::new();
    folder.file("t.txt", text(120));
    folder.out(&format!("train t.txt {SMALL} --epochs 3 --quiet --out r"));
    let whole = folder.out("plot r --out -");
    let metrics = std::fs::read_to_string(folder.path("r/metrics.jsonl")).unwrap();
    let mut all: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    all[1]["train_loss"] = 690.0.into();
    folder.file("r/metrics.jsonl", all.iter().map(|line| format!("{line}\n")).collect::<String>());
    let svg = folder.out("plot r --out -");
    let [learning, measured, _] = lines(&svg, "#0072B2").try_into().unwrap();
    assert_eq!((learning.len(), &measured), (2, &lines(&whole, "#0072B2")[1]));
}

#[test]
fn what_cannot_be_drawn_is_said_and_no_picture_is_touched() {
    let folder = Folder::new();
    folder.file("t.txt", text(120));
    folder.out(&format!("train t.txt {SMALL} --epochs 2 --quiet --out words"));
    folder.out("train t.txt --tokens char --hidden 8 --epochs 2 --quiet --out letters");
    folder.out(&format!("train t.txt {SMALL} --epochs 1 --quiet --out one"));
    folder.out(&format!("train t.txt {SMALL} --epochs 1 --quiet --out never"));
    std::fs::remove_file(folder.path("never/metrics.jsonl")).unwrap();
    folder.file("plot.svg", "an older picture");
    std::fs::create_dir(folder.path("never.svg")).unwrap();
    for (line, why) in [
        (
            "plot never",
            "never: expected a run that was measured while it was trained, got one without metrics.jsonl, or with an empty one (`rnn-lm evaluate` measures any)",
        ),
        ("plot words --out never.svg", "--out: never.svg: "),
        (
            "plot words --out p.png",
            "--out: expected a name that ends in .svg, or - for standard output, got p.png",
        ),
        ("plot words letters", "letters: expected a run of words, as those before it, got one of characters"),
        (
            "plot one",
            "one: expected two evaluations at least, to draw a line between, got 1 (`rnn-lm resume one",
        ),
        ("plot words nowhere", "nowhere: expected the folder of a run, got nothing of that name"),
        ("plot words --out nowhere/p.svg", "--out: nowhere/p.svg: "),
        ("plot", "required arguments were not provided"),
    ] {
        let output = folder.run(line);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(why), "{line}: {said}");
    }
    assert!(folder.out("plot words --out -").starts_with("<svg"));
    assert_eq!(std::fs::read_to_string(folder.path("plot.svg")).unwrap(), "an older picture");
    assert!(folder.out("plot letters").contains("plot.svg"));
    assert!(std::fs::read_to_string(folder.path("plot.svg")).unwrap().contains("bits a character"));
}
