//! The README's examples are the code below, line for line; its test command is the one that `.ci/run` runs.

use rnn_lm::config::{Config, Model};

const README: &str = include_str!("../README.md");

fn first() -> anyhow::Result<()> {
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

fn layers() -> anyhow::Result<()> {
    // README: begin
    use candle_core::{DType, Device, Tensor};
    use rnn_core::{Bidirectional, LayerSpec, LstmCell, Parameters, Plan, Recurrent, Stack};
    let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
    let spec = LayerSpec::new(3, 8).projection(4);
    let stack = Stack::<Bidirectional<LstmCell>>::new(spec, 2, &parameters.builder().pp("rnn"))?;
    let stack = stack.with_dropout(0.2)?;
    let xs = Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?;
    let plan = Plan::new().lengths(&[5, 3]).draw(1, 0); // the second row has 3 steps; dropout of seed 1, window 0
    let (hs, last) = stack.forward_with(&xs, &stack.zero_state(2)?, &plan)?;
    assert_eq!(hs.dims(), [2, 5, 8]); // two directions of 4
    // README: end
    assert_eq!(last.layers().len(), 2);
    Ok(())
}

fn borders() -> anyhow::Result<()> {
    // README: begin
    use rnn_core::border::pytorch::StateDict;
    use rnn_core::{Bidirectional, LstmCell};
    let file = StateDict::read("crates/rnn-core/tests/fixtures/pytorch/lstm.pt")?; // or .safetensors
    let network = file.network(&file.spec("encoder.rnn.")?, "encoder.rnn.")?; // sizes are seen from the shapes
    let lstm = network.stack::<Bidirectional<LstmCell>>()?; // to run it
    // README: end
    assert_eq!(lstm.layers().len(), network.spec().layers);
    Ok(())
}

fn language_models() -> anyhow::Result<()> {
    // README: begin
    use candle_core::{DType, Device};
    use rnn_core::Way;
    use rnn_lm::data::{Batches, Streams};
    use rnn_lm::model::{CellKind, Dropout, LmSpec, build};
    use rnn_lm::train::{Adam, Checkpoint, Clip, Optimizer, Trainer};
    let ids: Vec<u32> = (0..600).map(|i| i % 5).collect();
    let spec = LmSpec::new(5, 16, 16).layers(2).tied(true).dropout(Dropout::everywhere(0.2));
    let mut model = build(CellKind::Lstm, &spec, Way::Fused, (DType::F32, &Device::Cpu), 1)?;
    let mut trainer = Trainer::new(Optimizer::new(Adam::default(), 0.01).clip(Clip::Norm(1.0)));
    let streams = Streams::new(&ids, 4, 10)?;
    let file = std::env::temp_dir().join("readme-checkpoint.safetensors");
    while trainer.epochs() < 3 && trainer.since_best() < 2 {
        for window in streams.epoch(trainer.epochs()) {
            trainer.step(model.as_mut(), &window?)?;
        }
        trainer.epoch_ends(model.as_mut())?; // here rates fall
        trainer.observe(model.evaluate(&ids, 10)?.loss()); // what early stopping and a plateau go by
        trainer.checkpoint(model.as_ref())?.write(&file)?;
    }
    trainer.resume(model.as_mut(), &Checkpoint::read(&file)?)?; // goes on with the bits it would have had
    assert_eq!((trainer.epochs(), trainer.steps()), (3, 45));
    // README: end
    std::fs::remove_file(file)?;
    Ok(())
}

/// What stands between two lines, these not included, every time.
fn blocks<'a>(text: &'a str, first: &str, last: &str) -> Vec<Vec<&'a str>> {
    let mut lines = text.lines();
    let mut blocks = Vec::new();
    while lines.any(|line| line.trim() == first) {
        blocks.push(lines.by_ref().take_while(|line| line.trim() != last).collect());
    }
    blocks
}

#[test]
fn the_examples_run() {
    first().unwrap();
    layers().unwrap();
    borders().unwrap();
    language_models().unwrap();
}

#[test]
fn the_examples_are_the_code_of_this_file() {
    let shown = blocks(README, "```rust", "```");
    let here = blocks(include_str!("readme.rs"), "// README: begin", "// README: end");
    assert_eq!((shown.len(), here.len()), (4, 4));
    for (shown, here) in shown.iter().zip(here) {
        let here: Vec<&str> =
            here.into_iter().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
        assert!(shown.len() >= 5, "an example of {} lines", shown.len());
        assert_eq!(*shown, here);
    }
}

#[test]
fn the_commands_are_those_that_are_checked() {
    let shown = blocks(README, "```sh", "```");
    let commands: Vec<&str> =
        shown[0].iter().filter_map(|line| line.split('#').next()).map(str::trim).collect();
    assert_eq!(commands, ["cargo run --release --example train", "cargo test --workspace"]);
    assert!(include_str!("../.ci/run").contains("\ncargo test --workspace 2>&1"));
}

#[test]
fn the_settings_it_shows_are_settings_of_a_run() {
    let shown = blocks(README, "```toml", "```").into_iter().map(|lines| lines.join("\n"));
    let shown: Vec<String> = shown.filter(|settings| settings.contains("[model]")).collect();
    assert_eq!(shown.len(), 1, "a block that is not looked at, or none: {shown:?}");
    for settings in shown {
        // A name that is none of them is an error.
        let config = Config::parse("README.md", &settings, &Config::default()).unwrap();
        config.check().unwrap();
        // They are those of the module that is named beside them.
        let Model { cell, embed, hidden, layers, bias, .. } = config.model;
        let module = format!("# nn.{}({embed}, {hidden}, num_layers={layers})", cell.to_uppercase());
        assert!(settings.contains(&module), "{module} in {settings}");
        assert_eq!((bias.as_str(), config.data.tokens.as_str()), ("both", "word"));
    }
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
