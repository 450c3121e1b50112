//! The help says all that there is.

#[cfg(unix)]
use super::interrupted::{interrupt, wait_for};
use super::*;

/// What a help says, in lines that are wide enough and without colours, whatever the environment asks for.
fn help(folder: &Folder, line: &str) -> String {
    let output = folder.command(line).env("COLUMNS", "100").env_remove("CLICOLOR_FORCE").output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that the help names.
fn commands(folder: &Folder) -> Vec<String> {
    let help = help(folder, "--help");
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).map(|line| {
        let (name, about) = line.trim().split_once("  ").unwrap_or_else(|| panic!("{line}: no text"));
        assert!(about.trim().len() > 5, "{line}");
        name.to_string()
    });
    names.filter(|name| name != "help").collect()
}

/// Flags and arguments that a help has, each with its text: on the same line, or on the next one.
fn flags(help: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = help.lines().collect();
    let mut flags = Vec::new();
    for (line, next) in lines.iter().zip(lines.iter().skip(1).chain([&""])) {
        let shown = line.trim_start();
        let is_one =
            line.len() - shown.len() <= 6 && line.starts_with("  ") && shown.starts_with(['-', '<', '[']);
        if is_one {
            let (names, text) = shown.split_once("  ").unwrap_or((shown, *next));
            let name = names.split(", ").last().unwrap().split([' ', '=']).next().unwrap();
            flags.push((name.trim_end_matches('[').to_string(), text.trim().to_string()));
        }
    }
    flags
}

#[test]
fn every_flag_of_every_command_has_a_text() {
    let folder = Folder::new();
    let commands = commands(&folder);
    assert_eq!(commands.len(), 11, "{commands:?}");
    // Every setting is a flag of those that take settings.
    let config = folder.out("config");
    let mut section = "";
    let mut settings = Vec::new();
    for line in config.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((name, _)) = line.split_once(" = ") {
            let name = name.replace('_', "-");
            settings.push(if section == "dropout" {
                format!("--dropout-{name}")
            } else {
                format!("--{name}")
            });
        }
    }
    settings.retain(|name| !["--corpus", "--valid"].contains(&name.as_str()));
    assert!(settings.len() > 40 && settings.contains(&"--dropout-zoneout-h".to_string()), "{settings:?}");
    for command in &commands {
        for help in ["--help", "-h"].map(|flag| help(&folder, &format!("{command} {flag}"))) {
            let flags = flags(&help);
            for (name, text) in &flags {
                assert!(text.len() > 5 && !text.starts_with(['[', '-']), "{command} {name}: {text:?}");
            }
            let has = |name: &str| flags.iter().any(|(flag, _)| flag == name);
            for name in ["--help", "--quiet", "--device", "--threads"] {
                assert!(has(name), "{command}: {name}");
            }
            if ["train", "lr-find", "config"].contains(&command.as_str()) {
                assert_eq!(settings.iter().find(|name| !has(name)), None, "{command}");
            }
        }
    }
}

#[test]
fn every_exit_code_that_there_is_stands_in_the_help() {
    let folder = Folder::new();
    folder.file("t.txt", text(300));
    let help = help(&folder, "--help");
    let lines = help.lines().skip_while(|line| *line != "Exit codes:").skip(1);
    let codes: Vec<i32> = lines
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let (code, why) = line.trim().split_once(' ').unwrap();
            assert!(why.trim().len() > 5, "{line}");
            code.parse().unwrap()
        })
        .collect();
    let code = |line: &str| folder.run(line).status.code().unwrap();
    let small = "train t.txt --tokens word --embed 4 --hidden 6 --batch 4 --quiet";
    let mut got = vec![
        code("config"),
        code("evaluate none t.txt"),
        code("evaluate --none"),
        code(&format!("{small} --rule sgd --lr 1e30 --clip-norm 0 --epochs 3 --out diverged")),
    ];
    #[cfg(unix)]
    {
        let mut child = folder.command(&format!("{small} --epochs 3000 --out interrupted")).spawn().unwrap();
        wait_for("an evaluation", || folder.path("interrupted/metrics.jsonl").exists());
        interrupt(&child);
        got.push(child.wait().unwrap().code().unwrap());
    }
    #[cfg(not(unix))]
    got.push(130);
    assert_eq!(got, [0, 1, 2, 3, 130]);
    assert_eq!(got, codes);
}
