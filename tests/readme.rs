//! The README's example is the code below, line for line; its test command is the one that `.ci/run` runs.

const README: &str = include_str!("../README.md");

fn example() -> anyhow::Result<()> {
    // README: begin
    use candle_core::{DType, Tensor};
    use candle_nn::{Optimizer, SGD};
    use rnn_core::{Cell, LayerSpec, LstmCell, Parameters, Recurrent, State, TimeRnn};
    let device = rnn_core::device("auto")?;
    let parameters = Parameters::new(1, DType::F32, &device); // seeded, in order
    let lstm = TimeRnn::new(LstmCell::new(LayerSpec::new(3, 8), parameters.builder().pp("rnn"))?);
    let mut sgd = SGD::new(parameters.vars(), 0.1)?;
    let mut state = lstm.zero_state(2)?; // N = 2
    for _window in 0..3 {
        let xs = Tensor::ones((2, 5, 3), DType::F32, &device)?; // [N, T, D]
        let (hs, next) = lstm.forward(&xs, &state)?; // hs [N, T, H]
        sgd.backward_step(&(hs - 0.5)?.sqr()?.mean_all()?)?; // through time, by hand
        state = next.detach(); // truncated BPTT
    }
    // README: end
    Ok(())
}

/// What stands between two lines, these not included.
fn between<'a>(text: &'a str, first: &str, last: &str) -> Vec<&'a str> {
    text.lines()
        .skip_while(|line| line.trim() != first)
        .skip(1)
        .take_while(|line| line.trim() != last)
        .collect()
}

#[test]
fn the_example_runs() {
    example().unwrap();
}

#[test]
fn the_example_is_the_code_of_this_file() {
    let shown = between(README, "```rust", "```");
    let here = between(include_str!("readme.rs"), "// README: begin", "// README: end");
    let here: Vec<&str> = here.into_iter().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    assert!(shown.len() >= 10, "an example of {} lines", shown.len());
    assert_eq!(shown, here);
}

#[test]
fn the_commands_are_those_that_are_checked() {
    let shown = between(README, "```sh", "```");
    let commands: Vec<&str> = shown.iter().filter_map(|line| line.split('#').next()).map(str::trim).collect();
    assert_eq!(commands, ["cargo run --release --example train", "cargo test --workspace"]);
    assert!(include_str!("../.ci/run").contains("\ncargo test --workspace 2>&1"));
}

#[test]
fn the_files_it_links_to_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let mut count = 0;
    for link in links.filter(|link| !link.starts_with("http")) {
        assert!(root.join(link).is_file(), "{link} does not exist");
        count += 1;
    }
    assert!(count >= 5, "{count} links");
}
