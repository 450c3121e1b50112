//! What users get wrong: the real program says what is wrong, with its value, and the way out; it never panics. All that it
//! says stands in `snapshots/`, as one text to read; `INSTA_UPDATE=always cargo test --test mistakes` writes it anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test expects")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with what the mistakes are made on.
struct Bench {
    folder: tempfile::TempDir,
    said: String,
    count: usize,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap(), said: String::new(), count: 0 };
        let words = "the cat sat on the mat and the dog sat on the cat\n";
        bench.file("text.txt", words.repeat(60).as_bytes());
        bench.file("other.txt", "a quite different text of other words\n".repeat(60).as_bytes());
        bench.file("short.txt", b"only a few words\nand a few more\n");
        bench.file("line.txt", b"cat\n");
        bench.file("letter.txt", b"c");
        bench.file("empty.txt", b"");
        bench.file("blank.txt", &b" \n".repeat(3000));
        bench.file("latin.txt", &b"caf\xe9 au lait, s'il vous pla\xeet\n".repeat(90));
        bench.file("not-a-model.safetensors", b"nothing of that kind");
        std::fs::create_dir(bench.path("folder")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rnn-lm"));
        command.current_dir(self.folder.path()).args(line.split_whitespace());
        for name in ["RAYON_NUM_THREADS", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        // Whoever has it on for programs of their own.
        command.env("RUST_BACKTRACE", "1");
        command
    }

    /// What has to work, so that a mistake can be made with it.
    fn works(&self, line: &str) {
        let output = self.command(line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn mistake(&mut self, line: &str) {
        let output = self.command(line).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{line}: it was taken");
        assert!(!stderr.contains("panicked") && !stderr.contains("stack backtrace"), "{line}: {stderr}");
        let code = output.status.code().unwrap();
        let folder = self.folder.path().display().to_string();
        let real = self.folder.path().canonicalize().unwrap().display().to_string();
        let stderr = stderr.replace(&real, "[folder]").replace(&folder, "[folder]");
        // Of a line of usage only what is wrong.
        let stderr: Vec<&str> = stderr.trim().lines().take_while(|line| !line.starts_with("Usage")).collect();
        let stderr = stderr.join("\n");
        writeln!(self.said, "$ rnn-lm {line}\n{}\n[exit code {code}]\n", stderr.trim()).unwrap();
        self.count += 1;
    }
}

/// A small training that ends soon.
const QUICK: &str = "--quiet --tokens word --embed 4 --hidden 4 --dropout 0 --batch 2 --time 8 --epochs 1";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(|_| ()).unwrap()
        }
    }
}

#[test]
fn each_is_named_with_its_value_and_the_way_out() {
    let mut bench = Bench::new();
    // The command line.
    for line in [
        "",
        "trian text.txt",
        "train",
        "train text.txt --hiden 20",
        "train text.txt --layers",
        "completions bosh",
        "generate run --beam 4 --temperature 0.5",
        "evaluate run text.txt --lr 0.1",
        "evaluate run text.txt --mode cache --time 5",
        "evaluate run text.txt --mode dynamic --batch 5",
        "evaluate run text.txt --mode cache --lines",
        "evaluate run text.txt --lines --batch 5",
    ] {
        bench.mistake(line);
    }
    // Texts.
    for line in [
        "train missing.txt",
        "train texd.txt",
        "train nowhere/text.txt",
        "train folder",
        "train empty.txt",
        "train blank.txt --tokens word",
        "train latin.txt --tokens word",
        "train latin.txt --tokens char",
        "train /dev/null",
        "train text.txt --first 1152921504606846976",
        "train short.txt --batch 20 --out run",
        "train letter.txt --tokens word --holdout 0.5",
        "train text.txt --valid missing.txt",
        "train text.txt --valid empty.txt",
        "train text.txt --tokens char --unknown-flag 3",
        "train text.txt --valid letter.txt --tokens char",
        "train text.txt --first 20 --valid other.txt --tokens word",
        "lr-find empty.txt",
    ] {
        bench.mistake(line);
    }
    // Settings.
    for settings in [
        "--preset zaremba-smal",
        "--hidden many",
        "--hidden 0",
        "--hidden -3",
        "--lr 0",
        "--lr fast",
        "--dropout 1.5",
        "--dropout-weight 1",
        "--cell lstmm",
        "--tokens words",
        "--max-vocab 1",
        "--max-vocab 100 --tokens bpe",
        "--epochs 0",
        "--minutes 0",
        "--minutes soon",
        "--minutes 5 --epochs 3",
        "--accumulate 0",
        "--accumulate 100000 --tokens word",
        "--cutoffs 9,3",
        "--cutoffs 99999999999999999999",
        "--cutoffs 5 --tied --tokens word",
        "--cutoffs 5 --tokens bpe",
        "--cutoffs 5000 --tokens word --tied=false",
        "--layers 100000",
        "--seed 18446744073709551615",
        "--tokenizer missing.json",
        "--holdout 1",
        "--schedule step",
        "--rule sdg",
        "--schedule plateau --divide 0.5",
        "--schedule decay --after 0",
        "--clip-norm 1 --clip-value 1",
        "--tokens word --tied --embed 8 --hidden 16 --last 0",
        "--order book --varied",
        "--batch 100000",
        "--hidden 1000000",
        "--last 1000000000",
        "--device cuda:0",
        "--device gpu",
        "--threads 0",
        "--config missing.toml",
        "--config folder",
    ] {
        bench.mistake(&format!("train text.txt {settings}"));
    }
    for (name, text) in [
        ("key.toml", "[model]\nhiden = 20\n"),
        ("section.toml", "[modle]\nhidden = 20\n"),
        ("elsewhere.toml", "[model]\nlr = 20\n"),
        ("value.toml", "[model]\ncell = \"lstmm\"\n"),
        ("range.toml", "[model]\nhidden = 8\n\n[data]\nholdout = 1.5\n"),
        ("type.toml", "[model]\nhidden = \"large\"\n"),
        ("number.toml", "model = 3\n"),
        ("cutoffs.toml", "[model]\ncutoffs = [10, 5]\n"),
        ("tied.toml", "[model]\nembed = 8\nhidden = 16\ntied = true\n"),
        ("broken.toml", "[model\nhidden = 20\n"),
        ("large.toml", "[training]\nlr = 99999999999999999999999\n"),
        ("overflow.toml", "[training]\nlr = 1e400\n"),
    ] {
        bench.file(name, text.as_bytes());
        bench.mistake(&format!("train text.txt --config {name}"));
    }
    // Folders of runs.
    bench.works(&format!("train text.txt {QUICK} --out run"));
    bench.works(&format!("train other.txt {QUICK} --out other"));
    bench.works(&format!("train other.txt {QUICK} --max-vocab 5 --out few"));
    bench.mistake("train text.txt --out run");
    bench.mistake("train text.txt --out text.txt");
    bench.mistake("train text.txt --out text.txt/run");
    bench.file("folder/notes", b"mine");
    bench.mistake("train text.txt --out folder");
    bench.mistake(&format!(
        "train text.txt {QUICK} --out diverged --rule sgd --schedule constant --lr 1e39 --clip-norm 0"
    ));
    bench.mistake("train text.txt --out new --tokens char --tokenizer run/tokenizer.json");
    bench.mistake("train text.txt --out new --warm-start nowhere");
    bench.mistake("train text.txt --out new --warm-start run --hidden 5");
    bench.mistake("train text.txt --out new --warm-start run --tokens char");
    bench.mistake("train other.txt --out new --warm-start run --tokenizer=");
    bench.mistake("resume nowhere");
    bench.mistake("resume folder");
    bench.mistake("resume text.txt");
    bench.mistake("info folder");
    {
        let lock = std::fs::File::create(bench.path("run/lock")).unwrap();
        lock.lock().unwrap();
        bench.mistake("resume run");
        bench.mistake("train text.txt --out run");
    }
    bench.works("resume run --epochs 2 --quiet");
    bench.mistake("resume run --epochs 1");
    bench.mistake("resume run --epochs 0");
    bench.mistake("resume run --epochs 18446744073709551615");
    copy(&bench.path("run"), &bench.path("changed"));
    let config = std::fs::read_to_string(bench.path("run/config.toml")).unwrap();
    let config = config.replace("batch = 2 ", "batch = 3 ").replace("rule = \"adam\"", "rule = \"sgd\"");
    bench.file("changed/config.toml", config.as_bytes());
    bench.mistake("resume changed --epochs 3");
    std::fs::remove_dir_all(bench.path("changed/checkpoints")).unwrap();
    bench.mistake("resume changed --epochs 3");
    copy(&bench.path("run"), &bench.path("damaged"));
    bench.file("damaged/checkpoints/latest.safetensors", b"nothing of that kind");
    bench.mistake("resume damaged");
    bench.file("damaged/config.toml", config.replace("embed =", "embedd =").as_bytes());
    bench.mistake("evaluate damaged text.txt");
    bench.works(&format!("train text.txt {QUICK} --memory 0 --out large"));
    bench.file("large/cache/train.ids", b"nothing of that kind");
    bench.mistake("resume large --epochs 2");
    let text = std::fs::read(bench.path("text.txt")).unwrap();
    bench.file("text.txt", &text[..text.len() - 50]);
    bench.mistake("resume run --epochs 3");
    std::fs::remove_file(bench.path("text.txt")).unwrap();
    bench.mistake("resume run --epochs 3");
    bench.file("text.txt", &text);
    // Weights.
    bench.mistake("evaluate nowhere text.txt");
    bench.mistake("evaluate run missing.txt");
    bench.mistake("evaluate run empty.txt");
    bench.mistake("evaluate run empty.txt --lines");
    bench.mistake("evaluate run text.txt --batch 0");
    bench.mistake("evaluate run text.txt --batch 10000");
    bench.mistake("evaluate run text.txt --time 0");
    bench.mistake("evaluate run text.txt --mode cache --lambda 1");
    bench.mistake("evaluate run text.txt --mode faster");
    bench.mistake("evaluate run text.txt --mode dynamic --lr 1e9");
    bench.mistake("evaluate run text.txt --mode dynamic --lr -1");
    bench.mistake("evaluate run text.txt --mode dynamic --lr 1e300");
    copy(&bench.path("run"), &bench.path("mixed"));
    std::fs::copy(bench.path("other/tokenizer.json"), bench.path("mixed/tokenizer.json")).unwrap();
    bench.mistake("evaluate mixed text.txt");
    std::fs::remove_file(bench.path("mixed/model.safetensors")).unwrap();
    bench.mistake("evaluate mixed text.txt");
    bench.file("mixed/model.safetensors", b"nothing of that kind");
    bench.mistake("generate mixed");
    bench.file("mixed/tokenizer.json", b"{\"model\": 3");
    bench.mistake("generate mixed");
    std::fs::remove_file(bench.path("mixed/tokenizer.json")).unwrap();
    bench.mistake("score mixed text.txt");
    // Use.
    copy(&bench.path("run"), &bench.path("bare"));
    let bare: String = config
        .lines()
        .filter(|line| !line.starts_with("corpus"))
        .fold(String::new(), |all, line| all + line + "\n");
    bench.file("bare/config.toml", bare.as_bytes());
    bench.mistake("evaluate bare text.txt --mode dynamic --rms");
    bench.mistake("resume bare --epochs 3");
    bench.mistake("score run missing.txt");
    bench.mistake("score run latin.txt");
    bench.mistake("score run folder");
    for flags in [
        "--temperature -1",
        "--top-p 0",
        "--top-p 2",
        "--min-p 1.5",
        "--repetition-penalty 0",
        "--repetition-penalty 1e-320",
        "--beam 0",
        "--beam 2 --length-penalty -3",
        "--skip nosuchword",
        "--samples 0",
    ] {
        bench.mistake(&format!("generate run {flags}"));
    }
    bench.mistake("lr-find text.txt --from 1 --to 0.1");
    bench.mistake("lr-find text.txt --steps -1");
    bench.mistake("lr-find missing.txt");
    bench.mistake("plot run --out picture.png");
    // Weights from elsewhere.
    bench.mistake("import missing.safetensors --layout book --corpus text.txt --out new");
    bench.mistake("import not-a-model.safetensors --layout book --corpus text.txt --out new");
    bench.mistake("import text.txt --layout pytorch --corpus text.txt --out new");
    bench.mistake("import run/model.safetensors --layout book --corpus text.txt --out new");
    bench.mistake("import run/model.safetensors --layout pytorch --corpus short.txt --tokens word --out new");
    bench.mistake("import run/model.safetensors --layout pytorch --corpus text.txt --tokens word --tokenizer few/tokenizer.json --out new");
    bench.mistake("import run/model.safetensors --layout pytorch --corpus empty.txt --out new");
    bench.mistake("import run/model.safetensors --layout pytorch --corpus text.txt --out run");
    bench.works("import run/model.safetensors --layout pytorch --corpus text.txt --tokens word --out imported --quiet");
    bench.mistake(
        "import run/model.safetensors --layout pytorch --corpus text.txt --tokens word --out imported",
    );
    bench.mistake("resume imported");
    assert!(!bench.path("new").exists(), "what could not be imported left something behind");
    assert!(bench.count >= 40, "{} mistakes", bench.count);
    insta::assert_snapshot!("mistakes", bench.said);
}
