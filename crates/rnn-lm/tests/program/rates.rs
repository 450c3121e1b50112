//! The rate that `lr-find` names is the one that its rule gives of the points that it shows.

use super::*;

/// What is said of a rule, done by hand: of the points after the first tenth, a third of the rate at which the loss was lowest,
/// unless that is the first of them, or the loss has not risen by a twentieth behind it.
fn third_of_the_lowest(points: &[(f64, f64)]) -> Option<f64> {
    let first = points.len() / 10;
    let mut lowest = first;
    for place in first..points.len() {
        if points[place].1 < points[lowest].1 {
            lowest = place;
        }
    }
    let rose = points[lowest..].iter().any(|(_, loss)| *loss > 1.05 * points[lowest].1);
    (first < lowest && rose).then(|| points[lowest].0 / 3.0)
}

#[test]
fn the_rate_is_a_third_of_that_at_which_the_loss_was_lowest() {
    let folder = Folder::new();
    folder.file("t.txt", text(200));
    let line = format!("lr-find t.txt {SMALL} --steps 60");
    let (risen, still, inside) = (
        "the loss rises from the first rates on: begin lower than --from 3e1",
        "the loss has hardly risen at the last rate: go further than --to 1e-2, or take more --steps",
        "a third of the rate at which the loss was lowest",
    );
    // In the last of them the very first loss, which is that of one window, is lower than all that follow.
    for (from, to, why) in [
        (1e-5f64, 100.0, inside),
        (1e-4, 10.0, inside),
        (1e-5, 0.01, still),
        // Where nothing is learnt any rate may be that of the lowest loss, by a hair.
        (1e-30, 1e-29, still),
        (1e-9, 1e-7, still),
        (30.0, 1e4, risen),
        (0.1, 1e8, inside),
    ] {
        let flags = format!("{line} --from {from} --to {to}");
        let found = folder.json(&flags);
        let points: Vec<(f64, f64)> = serde_json::from_value(found["points"].clone()).unwrap();
        let lr = found["lr"].as_f64();
        assert_eq!(lr, third_of_the_lowest(&points), "{flags}: {found}");
        // Each rate is as much above the one before as any other.
        for (step, (rate, loss)) in points.iter().enumerate() {
            let want = from * (to / from).powf(step as f64 / 59.0);
            assert!((rate / want - 1.0).abs() < 1e-9 && loss.is_finite(), "{flags}: {rate} {want}");
        }
        // It ends where the loss is twice the lowest so far, and nowhere else.
        let mut best = f64::INFINITY;
        for (step, (_, loss)) in points.iter().enumerate() {
            best = best.min(*loss);
            assert_eq!(step + 1 == points.len(), step == 59 || *loss > 2.0 * best, "{flags}: {found}");
        }
        let why = why.replace("1e-2", &format!("{to:e}"));
        let said = folder.out(&flags);
        let want = lr.map_or_else(|| why.to_string(), |lr| format!("--lr {lr:.2e}: {why}"));
        assert_eq!(said.lines().last(), Some(want.as_str()));
        assert_eq!(lr.is_some(), why == inside, "{flags}: {found}");
    }
}

#[test]
fn a_step_has_as_many_windows_as_are_accumulated() {
    let folder = Folder::new();
    folder.file("t.txt", text(200));
    let points = |flags: &str| {
        let found = folder.json(&format!("lr-find t.txt {SMALL} --steps 12 --from 1e-9 --to 2e-9 {flags}"));
        serde_json::from_value::<Vec<(f64, f64)>>(found["points"].clone()).unwrap()
    };
    let (one, four) = (points(""), points("--accumulate 4"));
    assert_eq!((one.len(), four.len()), (12, 12));
    // At such rates nothing is learnt: the first point is the mean of the first four windows, which are of one size.
    let mut losses = Vec::new();
    let mut before = 0.0;
    for (k, (_, smooth)) in (1..).zip(points("")) {
        let mean = smooth * (1.0 - 0.9f64.powi(k));
        losses.push((mean - 0.9 * before) / 0.1);
        before = mean;
    }
    let want = losses[..4].iter().sum::<f64>() / 4.0;
    assert!((four[0].1 - want).abs() < 1e-6 && (four[0].1 - one[0].1).abs() > 1e-6, "{four:?} {losses:?}");
}

#[test]
fn tokens_are_looked_for_beyond_the_beginning_of_a_text() {
    let folder = Folder::new();
    // More of them than its first 8 MiB have, and others.
    folder.file("long.txt", ["a ".repeat(4_250_000), "b c d e f ".into(), "a ".repeat(150_000)].concat());
    let line = "lr-find long.txt --tokens word --embed 2 --hidden 2 --steps 10";
    folder.json(&format!("{line} --first 4300000"));
    folder.json(&format!("{line} --tied=false --cutoffs 5"));
}
