//! Trainings that are ended from outside, that meet others, or whose files go: nothing is lost that need not be.

use super::*;
use std::process::Child;

/// Sends a signal.
#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// As Ctrl-C does; where whoever runs the tests has that ignored, as a kill does, which ends it in the same way.
#[cfg(unix)]
pub(super) fn interrupt(child: &Child) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0").trim();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    signal(child, if ignored & 2 == 0 { "-INT" } else { "-TERM" });
}

/// Until it is so.
pub(super) fn wait_for(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "a minute without {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_training_that_is_killed_goes_on_with_the_bits_it_would_have_had() {
    let folder = Folder::new();
    folder.file("t.txt", text(600));
    let line = format!("train t.txt {SMALL} --varied --epochs 6 --average nt-asgd --seed 5 --quiet");
    folder.out(&format!("{line} --out whole"));
    let mut child = folder.command(&format!("{line} --out killed")).stdout(Stdio::null()).spawn().unwrap();
    let metrics = folder.path("killed/metrics.jsonl");
    wait_for("evaluations", || std::fs::read_to_string(&metrics).unwrap_or_default().lines().count() >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let measured = std::fs::read_to_string(&metrics).unwrap().lines().count();
    assert!(measured < 6, "it was done before it was killed");
    folder.out("resume killed --quiet");
    let [whole, killed] = ["whole", "killed"].map(|run| bytes(&folder.path(run).join("model.safetensors")));
    assert!(whole == killed);
    let lines = |run: &str| -> Vec<(Value, Value)> {
        let text = std::fs::read_to_string(folder.path(run).join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| (line["step"].clone(), line["valid_loss"].clone())).collect()
    };
    assert_eq!(lines("whole"), lines("killed"));
    // It is done: going on does nothing, unless to more epochs.
    folder.out("resume killed --quiet");
    folder.out("resume killed --epochs 7 --quiet");
    assert_eq!(lines("killed").len(), 7);
}

#[cfg(unix)]
#[test]
fn an_interrupt_writes_a_checkpoint_and_says_how_to_go_on() {
    let folder = Folder::new();
    folder.file("t.txt", text(3000));
    let line = format!("train t.txt {SMALL} --epochs 1000 --out r");
    let child = folder.command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("settings", || folder.path("r/config.toml").exists());
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("`rnn-lm resume r` goes on"), "{stderr}");
    assert!(folder.path("r/checkpoints/latest.safetensors").exists());
}

#[cfg(unix)]
#[test]
fn a_hang_up_that_was_ignored_stays_so_and_another_ends_it() {
    let folder = Folder::new();
    folder.file("t.txt", text(3000));
    let train = |out: &str| format!("train t.txt {SMALL} --epochs 1000 --quiet --out {out}");
    let mut plain = folder.command(&train("plain")).stdout(Stdio::null()).spawn().unwrap();
    // As `nohup` begins it.
    let line = format!("trap '' HUP; exec \"$PROGRAM\" {}", train("kept"));
    let mut shell = Command::new("sh");
    shell.current_dir(folder.path("")).args(["-c", &line]).env("PROGRAM", env!("CARGO_BIN_EXE_rnn-lm"));
    let mut kept = shell.stdout(Stdio::null()).spawn().unwrap();
    for run in ["plain", "kept"] {
        wait_for(run, || folder.path(run).join("metrics.jsonl").exists());
    }
    signal(&kept, "-HUP");
    // Whoever has these tests run under `nohup` passes that on to all of them.
    let passed_on = Command::new("sh").args(["-c", "kill -HUP $$"]).status().unwrap().success();
    signal(&plain, if passed_on { "-TERM" } else { "-HUP" });
    assert_eq!(plain.wait().unwrap().code(), Some(130));
    assert!(kept.try_wait().unwrap().is_none(), "it goes on");
    signal(&kept, "-TERM");
    assert_eq!(kept.wait().unwrap().code(), Some(130));
}

#[cfg(unix)]
#[test]
fn an_interrupt_before_the_training_leaves_nothing() {
    let folder = Folder::new();
    // Pieces of which it takes a while to make.
    let line = |i: usize| format!("{} {} {}\n", i * 7919, i * 104_729, i * 31);
    folder.file("t.txt", (0..60_000).map(line).collect::<String>());
    let train = "train t.txt --tokens bpe --embed 4 --hidden 4 --epochs 1 --quiet --out r";
    let child = folder.command(train).stdout(Stdio::null()).spawn().unwrap();
    wait_for("a folder", || folder.path("r/unfinished").exists());
    interrupt(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert!(!folder.path("r").exists());
}

#[cfg(unix)]
#[test]
fn an_interrupt_at_any_moment_leaves_what_is_in_nobodys_way() {
    let folder = Folder::new();
    folder.file("t.txt", text(60));
    let line = format!("train t.txt {SMALL} --epochs 1 --quiet --out r");
    let run = folder.path("r");
    let mut caught = 0;
    for round in 0..160 {
        // One that is there already cannot go with what is in it.
        if round % 3 == 0 {
            std::fs::create_dir(&run).unwrap();
        }
        let child = folder.command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while !run.join("unfinished").exists() && begun.elapsed() < Duration::from_secs(5) {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_micros(100 * (round % 30)));
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        // It may have been whole by then.
        if !run.join("checkpoints/latest.safetensors").exists() || run.join("unfinished").exists() {
            caught += 1;
            assert_eq!(output.status.code(), Some(130), "{output:?}");
            let left = || std::fs::read_dir(&run).into_iter().flatten().flatten().collect::<Vec<_>>();
            assert!(rnn_lm::run::vacant(&run).is_ok(), "round {round}: {:?}", left());
            if round % 10 == 0 {
                folder.out(&line);
            }
        }
        let _ = std::fs::remove_dir_all(&run);
    }
    assert!(caught > 0, "every run was whole before it was interrupted");
}

#[cfg(unix)]
#[test]
fn what_is_killed_while_it_is_made_is_in_nobodys_way() {
    let folder = Folder::new();
    folder.file("t.txt", text(60));
    let line = format!("train t.txt {SMALL} --epochs 1 --quiet --out r");
    for wait in 0..6 {
        let mut child = folder.command(&line).spawn().unwrap();
        wait_for("a folder", || folder.path("r").exists());
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        // A run that can go on, or nothing that is in the way.
        if !folder.run("resume r --quiet").status.success() {
            folder.out(&line);
        }
        folder.out("evaluate r t.txt");
        std::fs::remove_dir_all(folder.path("r")).unwrap();
    }
}

#[test]
fn two_that_begin_one_run_at_once_leave_that_of_one_of_them() {
    let folder = Folder::new();
    folder.file("t.txt", text(300));
    for round in 0..4 {
        let line = |hidden: usize| {
            format!("train t.txt --tokens word --embed 8 --hidden {hidden} --epochs 1 --quiet --out r{round}")
        };
        let mut both: Vec<_> = [8, 16].map(|hidden| folder.command(&line(hidden)).spawn().unwrap()).into();
        let done = both.iter_mut().filter_map(|child| child.wait().unwrap().success().then_some(())).count();
        assert_eq!(done, 1, "one of two");
        folder.out(&format!("evaluate r{round} t.txt"));
    }
}

#[test]
fn those_that_nobody_gave_a_folder_find_one_each() {
    for _round in 0..4 {
        let folder = Folder::new();
        folder.file("t.txt", text(300));
        let line = format!("train t.txt {SMALL} --epochs 1 --quiet");
        let begin = || folder.command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let all: Vec<_> = (0..3).map(|_| begin()).collect();
        // All of them, before the folder goes.
        let all: Vec<_> = all.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        for output in all {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        for run in ["t", "t-2", "t-3"] {
            folder.out(&format!("evaluate runs/{run} t.txt"));
        }
        assert_eq!(std::fs::read_dir(folder.path("runs")).unwrap().count(), 3);
    }
}

#[test]
fn the_best_weights_that_are_gone_are_those_of_the_checkpoint() {
    let folder = Folder::new();
    folder.file("t.txt", text(60));
    folder.out(&format!("train t.txt {SMALL} --epochs 1 --quiet --out r"));
    let whole = bytes(&folder.path("r/model.safetensors"));
    std::fs::remove_file(folder.path("r/model.safetensors")).unwrap();
    let refused = folder.run("evaluate r t.txt");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`rnn-lm resume` goes on"), "{refused:?}");
    let said = folder.run("resume r");
    assert!(String::from_utf8_lossy(&said.stderr).contains("was missing"), "{said:?}");
    // After one epoch the last ones are the best ones.
    assert!(bytes(&folder.path("r/model.safetensors")) == whole);
    let again = folder.run("resume r");
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() && !said.contains("missing"), "{said}");
    assert!(said.contains("note     nothing is left of 1 epochs: it is only measured (--epochs N"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_removed_is_not_made_again() {
    let folder = Folder::new();
    folder.file("t.txt", text(300));
    let line = format!("train t.txt {SMALL} --epochs 100000 --quiet --out r");
    let child = folder.command(&line).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("metrics", || folder.path("r/metrics.jsonl").exists());
    // Out of the way at once, as removing one file after the other is not.
    std::fs::rename(folder.path("r"), folder.path("gone")).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("r/"), "{said}");
    assert!(!folder.path("r").exists());
}
