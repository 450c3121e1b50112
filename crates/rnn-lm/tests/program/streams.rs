//! Text that comes and goes through pipes.

use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};

/// A child that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const LONG: Duration = Duration::from_secs(60);

fn tiny(lines: usize) -> Folder {
    let folder = Folder::new();
    folder.file("t.txt", text(lines));
    folder
        .out("train t.txt --tokens word --embed 4 --hidden 6 --batch 4 --time 6 --epochs 1 --quiet --out r");
    folder
}

/// What comes out of a pipe, line by line.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    let lines = BufReader::new(from).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

#[test]
fn standard_input_is_scored_like_a_file() {
    let folder = tiny(40);
    for flags in ["", " --carry"] {
        let want = folder.out(&format!("score r t.txt{flags}"));
        assert_eq!(want.lines().count(), 40);
        for line in ["score r -", "score r"] {
            let mut command = folder.command(&format!("{line}{flags}"));
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let writes = std::thread::spawn(move || stdin.write_all(text(40).as_bytes()));
            let output = child.wait_with_output().unwrap();
            writes.join().unwrap().unwrap();
            assert!(output.status.success(), "{line}{flags}");
            assert!(output.stdout == want.as_bytes(), "{line}{flags}");
        }
    }
}

#[test]
fn a_line_is_scored_before_the_next_one_comes() {
    let folder = tiny(40);
    let want = folder.out("score r t.txt");
    let mut command = folder.command("score r");
    let mut child = Killed(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut stdin = child.0.stdin.take().unwrap();
    let out = lines(child.0.stdout.take().unwrap());
    for (line, want) in text(3).lines().zip(want.lines()) {
        writeln!(stdin, "{line}").unwrap();
        assert_eq!(out.recv_timeout(LONG).expect("a line while standard input is open"), want);
    }
    drop(stdin);
    assert!(child.0.wait().unwrap().success());
    assert!(out.recv_timeout(LONG).is_err(), "nothing more");
}

#[test]
fn a_text_appears_while_it_is_written() {
    let folder = tiny(40);
    // Years of it: what waits for the end shows nothing.
    let mut command = folder.command("generate r -n 1000000000000");
    let mut child = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
    let out = lines(child.0.stdout.take().unwrap());
    for _ in 0..3 {
        out.recv_timeout(LONG).expect("a line of a text without an end");
    }
    assert!(child.0.try_wait().unwrap().is_none());
}

#[cfg(unix)]
#[test]
fn whoever_reads_no_further_is_no_failure() {
    let folder = tiny(400);
    let ended = |mut child: Killed, line: &str| {
        let begun = Instant::now();
        let status = loop {
            match child.0.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(begun.elapsed() < LONG, "{line}: it goes on for nobody"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut stderr = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{line}");
    };
    // Somebody reads a little of it.
    for line in
        ["generate r -n 1000000000000", "generate r -n 5 --samples 1000000000 --json", "score r t.txt"]
    {
        let mut command = folder.command(line);
        let mut child = Killed(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let mut out = child.0.stdout.take().unwrap();
        out.read_exact(&mut [0; 5]).unwrap();
        drop(out);
        ended(child, line);
    }
    // Nobody was ever there.
    for line in [
        "generate r",
        "generate r --beam 2 -n 3",
        "score r t.txt --carry",
        "evaluate r t.txt",
        "info r",
        "info r --json",
        "config t.txt",
        "config --list",
        "completions bash",
        "lr-find t.txt --tokens word --embed 4 --hidden 6 --batch 4 --steps 12",
        "train t.txt --tokens word --embed 4 --hidden 6 --batch 4 --epochs 1 --quiet",
        "--help",
        "help evaluate",
        "--version",
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = folder.command(line);
        ended(Killed(command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap()), line);
    }
}
