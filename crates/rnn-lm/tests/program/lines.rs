//! The lines of a text, scored one behind the other, are the text that is evaluated.

use super::*;

#[test]
fn lines_one_behind_the_other_are_the_text_whatever_a_token_is() {
    let folder = Folder::new();
    // Pieces of white space go over the ends of lines, where a token can.
    let code =
        "def f(x):\n    return x\n\n\n\nclass A:\n    \n    def g(self):  \n\n        return 1\r\n\r\n";
    folder.file("t.txt", code.repeat(12));
    folder.file("test.txt", code.repeat(2) + "  last");
    for tokens in ["word", "char", "byte", "bpe --max-vocab 300"] {
        folder.out(&format!(
            "train t.txt --tokens {tokens} --embed 8 --hidden 12 --batch 4 --time 6 --epochs 1 --quiet --out r"
        ));
        let evaluated = folder.json("evaluate r test.txt");
        let nats =
            evaluated["perplexity"].as_f64().unwrap().ln() * evaluated["predictions"].as_f64().unwrap();
        let out = folder.out("score r test.txt --carry");
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 23, "{tokens}");
        let sum: f64 = lines.iter().map(|line| line["log_prob"].as_f64().unwrap()).sum();
        assert!((sum / nats + 1.0).abs() < 1e-6, "{tokens}: {sum} beside {nats} nats");
        let count: usize = lines.iter().map(|line| line["tokens"].as_array().unwrap().len()).sum();
        assert_eq!(count as u64, evaluated["tokens"].as_u64().unwrap(), "{tokens}");
        // And each by itself, as they are scored without that.
        let evaluated = folder.json("evaluate r test.txt --lines");
        let nats =
            evaluated["perplexity"].as_f64().unwrap().ln() * evaluated["predictions"].as_f64().unwrap();
        let out = folder.out("score r test.txt");
        let sum: f64 = out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["log_prob"].as_f64().unwrap())
            .sum();
        assert!((sum / nats + 1.0).abs() < 1e-6, "{tokens}: {sum} beside {nats} nats, line by line");
        std::fs::remove_dir_all(folder.path("r")).unwrap();
    }
}

#[test]
fn of_two_byte_order_marks_one_is_text_to_all() {
    let folder = Folder::new();
    folder.file("t.txt", "\u{feff}\u{feff}a b c\n".repeat(60));
    folder.out(
        "train t.txt --tokens char --holdout 0 --embed 4 --hidden 4 --batch 2 --time 4 --epochs 1 --quiet --out r",
    );
    folder.file("test.txt", "\u{feff}\u{feff}a b\nc\n");
    let tokens = |out: String| -> usize {
        let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["tokens"].as_array().unwrap().len()).sum()
    };
    assert_eq!(tokens(folder.out("score r test.txt")), 7);
    assert_eq!(tokens(folder.out("score r test.txt --carry")), 7);
    for lines in ["", "--lines"] {
        assert_eq!(folder.json(&format!("evaluate r test.txt {lines}"))["tokens"], 7, "{lines}");
    }
}
