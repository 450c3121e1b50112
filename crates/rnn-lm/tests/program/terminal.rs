//! What a person sees in a terminal, and that nobody sees anything who asks for quiet.

use super::*;

/// What appears in a terminal while a shell runs this, with `rnn-lm` for the program; none where nothing here makes a
/// terminal.
#[cfg(target_os = "linux")]
fn in_terminal(folder: &Folder, line: &str, no_color: bool) -> Option<String> {
    let version = Command::new("script").arg("--version").output().ok();
    if !version.is_some_and(|output| String::from_utf8_lossy(&output.stdout).contains("util-linux")) {
        println!("skipped: there is no `script` of util-linux that would make a terminal");
        return None;
    }
    let mut command = Command::new("script");
    command.current_dir(folder.path("")).stdin(Stdio::null());
    command.args(["-qec", &line.replace("rnn-lm", "\"$PROGRAM\""), "/dev/null"]);
    command.env("PROGRAM", env!("CARGO_BIN_EXE_rnn-lm")).env("SHELL", "/bin/sh").env("TERM", "xterm");
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    if no_color {
        command.env("NO_COLOR", "1");
    }
    Some(String::from_utf8(command.output().unwrap().stdout).unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn a_bar_says_how_fast_it_goes_and_what_is_left() {
    let folder = Folder::new();
    // One epoch of a second on a fast machine: the bar is drawn twenty times in it, at most.
    folder.file("t.txt", text(6000));
    let line = format!("rnn-lm train t.txt {SMALL} --epochs 1 --out r");
    let Some(shown) = in_terminal(&folder, &line, false) else { return };
    // Each state of the bar is written over the one before.
    let states: Vec<&str> = shown.split(['\r', '\n']).filter(|state| state.contains(" words/s ")).collect();
    let rate =
        |state: &str| -> Option<u64> { state.split(" words/s").next()?.rsplit(' ').next()?.parse().ok() };
    let full = |state: &&str| {
        state.contains("/1  perplexity ")
            && rate(state).is_some_and(|rate| rate > 0)
            && state.contains('█')
            && state.trim_end().ends_with(" s left")
    };
    assert!(states.iter().any(full), "{states:?}");
    // What stays is above it.
    assert!(shown.contains("epoch 1, step ") && shown.contains(" measured"), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn help_and_errors_have_colours_in_a_terminal_unless_there_shall_be_none() {
    let folder = Folder::new();
    for (line, part) in [
        ("rnn-lm --help", "Usage:"),
        ("rnn-lm evaluate --help", "--mode"),
        ("rnn-lm evaluate --moed", "unexpected argument"),
    ] {
        let Some(with) = in_terminal(&folder, line, false) else { return };
        let without = in_terminal(&folder, line, true).unwrap();
        assert!(with.contains("\u{1b}[") && with.contains(part), "{with:?}");
        assert!(!without.contains('\u{1b}') && without.contains(part), "{without:?}");
        // Where there is no terminal there are none either.
        let output =
            folder.command(line.strip_prefix("rnn-lm ").unwrap()).env_remove("CLICOLOR_FORCE").output();
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(!said.is_empty() && !said.contains(&0x1b), "{}", String::from_utf8_lossy(&said));
    }
}

/// Commands, and whether they say something beside their result: without a terminal, and in one. Each makes or changes
/// only what no other needs.
fn commands() -> [(&'static str, bool, bool); 6] {
    [
        ("evaluate r t.txt", false, true),
        // Where the prompt has a word that is none of the vocabulary.
        ("generate r -n 5 --prompt wolf", true, true),
        ("score r t.txt", false, false),
        (
            "import r/model.safetensors --layout pytorch --corpus t.txt --tokens word --holdout 0 --out i",
            true,
            true,
        ),
        ("lr-find t.txt --tokens word --embed 4 --hidden 6 --batch 4 --steps 60", false, true),
        ("resume r --epochs 2", true, true),
    ]
}

fn run_of_all() -> Folder {
    let folder = Folder::new();
    folder.file("t.txt", text(300));
    folder
        .out("train t.txt --tokens word --embed 4 --hidden 6 --batch 4 --time 6 --epochs 1 --quiet --out r");
    folder
}

#[test]
fn quiet_leaves_the_result_of_every_command_and_nothing_else() {
    let (loud, quiet) = (run_of_all(), run_of_all());
    for (line, speaks, _) in commands() {
        let heard = loud.run(line);
        let unheard = quiet.run(&format!("{line} --quiet"));
        assert!(heard.status.success() && unheard.status.success(), "{line}: {heard:?}");
        assert_eq!(!heard.stderr.is_empty(), speaks, "{line}: {heard:?}");
        assert!(unheard.stderr.is_empty(), "{line}: {unheard:?}");
        assert!(heard.stdout == unheard.stdout, "{line}: {heard:?} {unheard:?}");
    }
    // What is wrong is said all the same.
    let refused = quiet.run("evaluate none t.txt --quiet");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("none"));
}

#[cfg(target_os = "linux")]
#[test]
fn quiet_draws_nothing_in_a_terminal() {
    let (loud, quiet) = (run_of_all(), run_of_all());
    for (line, _, speaks) in commands() {
        let Some(heard) = in_terminal(&loud, &format!("rnn-lm {line} > out"), false) else { return };
        let unheard = in_terminal(&quiet, &format!("rnn-lm {line} --quiet > out"), false).unwrap();
        assert_eq!(!heard.is_empty(), speaks, "{line}: {heard:?}");
        assert_eq!(unheard, "", "{line}");
        assert!(bytes(&loud.path("out")) == bytes(&quiet.path("out")), "{line}");
    }
}

#[test]
fn threads_of_the_environment_are_bounded_as_those_of_the_flag_are() {
    let folder = Folder::new();
    for (threads, works) in [("2", true), ("100000", false)] {
        let output = folder.command("config --list").env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert_eq!(output.status.success(), works, "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.contains("RAYON_NUM_THREADS: expected at most 512, got 100000"), !works, "{said}");
    }
}
