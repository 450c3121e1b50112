//! What is dropped while a language model is trained: the same in every way, gone in an evaluation, and each part of it on.

use crate::numbers::off;
use candle_core::{DType, Device, Tensor};
use rnn_core::{
    LayerSpec, LstmCell, Parameters, Penalty, Regularisers, Scheme, Stack, TimeRnn, Way, last_ran,
};
use rnn_lm::config::Config;
use rnn_lm::data::{Batches, IGNORE, Streams, Window};
use rnn_lm::model::{CellKind, Dropout, LanguageModel, LmSpec, Rnnlm, build};
use rnn_lm::train::Trainer;

const V: usize = 30;

fn corpus() -> Vec<u32> {
    (0..401u32).map(|i| (i * i + i / 7) % V as u32).collect()
}

fn window(number: usize) -> Window {
    Streams::new(&corpus(), 4, 7).unwrap().endless().nth(number).unwrap().unwrap()
}

/// Everything that AWD-LSTM has, and zoneout.
fn awd() -> Dropout {
    Dropout {
        words: 0.2,
        input: 0.3,
        between: 0.25,
        output: 0.4,
        locked: true,
        recurrent: Regularisers { weight: 0.5, recurrent: 0.1, zoneout_h: 0.1, ..Regularisers::default() },
        penalty: Penalty { activation: 2.0, temporal: 1.0 },
    }
}

/// 3 layers, of 12, 12 and 8, tied to an embedding of 8.
fn spec(dropout: Dropout) -> LmSpec {
    LmSpec::new(V, 8, 12).layers(3).last(8).tied(true).init(Scheme::Pytorch).dropout(dropout)
}

fn model(cell: CellKind, dropout: Dropout, way: Way, dtype: DType) -> Box<dyn LanguageModel> {
    build(cell, &spec(dropout), way, (dtype, &Device::Cpu), 5).unwrap()
}

#[test]
fn every_way_drops_the_same() {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
        for cell in CellKind::ALL {
            for dropout in [awd(), Dropout::everywhere(0.5)] {
                let run = |way| {
                    let mut model = model(cell, dropout, way, dtype);
                    let mut losses = Vec::new();
                    for number in 0..3 {
                        losses.push(model.forward(&window(number)).unwrap());
                        model.backward().unwrap();
                    }
                    assert_eq!((model.way(), last_ran()), (way, Some(way)));
                    (losses, model.gradients().unwrap())
                };
                let (want, want_gradients) = run(Way::Reference);
                for way in [Way::Manual, Way::Fused] {
                    let (losses, gradients) = run(way);
                    for (got, want) in losses.iter().zip(&want) {
                        assert!(
                            (got - want).abs() < tolerance * want,
                            "{way} {cell} {dtype:?}: {got} {want}"
                        );
                    }
                    for ((name, got), (_, want)) in gradients.iter().zip(&want_gradients) {
                        let off = off(got, want);
                        assert!(off < tolerance, "{way} {cell} {dtype:?} {name}: {off:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_loss_through_autograd_drops_the_same() {
    let mut model = Rnnlm::<LstmCell>::new(&spec(awd()), Way::Fused, (DType::F64, &Device::Cpu), 5).unwrap();
    let window = window(0);
    let ids = Tensor::from_slice(&window.xs, (4, 7), &Device::Cpu).unwrap();
    let (loss, _) = model.loss(&ids, &window.ts, &model.zero_state(4).unwrap()).unwrap();
    let want = model.forward(&window).unwrap();
    assert!((loss.to_scalar::<f64>().unwrap() - want).abs() < 1e-12);
    model.backward().unwrap();
    let store = loss.backward().unwrap();
    for ((name, var), (_, want)) in model.parameters().iter().zip(model.gradients().unwrap()) {
        assert!(off(store.get(var).unwrap(), &want) < 1e-12, "{name}");
    }
}

#[test]
fn an_evaluation_drops_nothing() {
    let none = model(CellKind::Gru, Dropout::default(), Way::Fused, DType::F64);
    let mut some = Dropout { recurrent: Regularisers::default(), ..awd() };
    some.recurrent.weight = 0.5;
    let some = model(CellKind::Gru, some, Way::Fused, DType::F64);
    let of = |model: &dyn LanguageModel| model.evaluate(&corpus(), 16).unwrap().nats;
    assert_eq!(of(none.as_ref()), of(some.as_ref()));
    let streamed = |model: &dyn LanguageModel| model.probabilities(&corpus()[..9]).unwrap();
    assert_eq!(streamed(none.as_ref()), streamed(some.as_ref()));
}

#[test]
fn each_part_of_it_changes_the_loss_of_a_window() {
    let loss = |dropout| model(CellKind::Lstm, dropout, Way::Fused, DType::F64).forward(&window(0)).unwrap();
    let none = Dropout::default();
    let recurrent = |recurrent| Dropout { recurrent, ..none };
    let zeros = Regularisers::default();
    let parts = [
        ("nothing", none),
        ("words", Dropout { words: 0.3, ..none }),
        ("input", Dropout { input: 0.3, ..none }),
        ("between", Dropout { between: 0.3, ..none }),
        ("output", Dropout { output: 0.3, ..none }),
        ("locked input", Dropout { input: 0.3, locked: true, ..none }),
        ("locked between", Dropout { between: 0.3, locked: true, ..none }),
        ("locked output", Dropout { output: 0.3, locked: true, ..none }),
        ("weight", recurrent(Regularisers { weight: 0.5, ..zeros })),
        ("recurrent", recurrent(Regularisers { recurrent: 0.5, ..zeros })),
        ("zoneout of h", recurrent(Regularisers { zoneout_h: 0.5, ..zeros })),
        ("zoneout of c", recurrent(Regularisers { zoneout_c: 0.5, ..zeros })),
        ("AR", Dropout { penalty: Penalty { activation: 2.0, temporal: 0.0 }, ..none }),
        ("TAR", Dropout { penalty: Penalty { activation: 0.0, temporal: 1.0 }, ..none }),
    ];
    let losses: Vec<f64> = parts.iter().map(|&(_, dropout)| loss(dropout)).collect();
    for (i, (name, _)) in parts.iter().enumerate() {
        let same = losses[..i].iter().position(|&loss| (loss - losses[i]).abs() < 1e-9);
        assert_eq!(same.map(|j| parts[j].0), None, "{name}");
    }
}

#[test]
fn what_stands_behind_a_rows_end_changes_nothing() {
    // The rows have 3, 2 and no steps; ids that the text does not have stand behind their ends.
    let window = |padding: u32| {
        let ids = |numbers: [u32; 9]| numbers.map(|id| if id == 0 { padding } else { id }).to_vec();
        let targets = vec![2, 3, 4, 5, 6, IGNORE, IGNORE, IGNORE, IGNORE];
        Window::new(ids([1, 2, 3, 4, 5, 0, 0, 0, 0]), targets, (3, 3), true).unwrap()
    };
    let penalty = Penalty { activation: 2.0, temporal: 1.0 };
    let spec = LmSpec::new(V, 8, 12).dropout(Dropout { output: 0.4, penalty, ..Dropout::default() });
    let run = |way, padding| {
        let mut model = build(CellKind::Lstm, &spec, way, (DType::F64, &Device::Cpu), 5).unwrap();
        let loss = model.forward(&window(padding)).unwrap();
        model.backward().unwrap();
        (loss, model.penalty(), model.gradients().unwrap())
    };
    let (_, of_reference, reference) = run(Way::Reference, 20);
    for way in [Way::Reference, Way::Manual, Way::Fused] {
        let (loss, penalty, gradients) = run(way, 20);
        let (other_loss, other_penalty, others) = run(way, 21);
        assert_eq!((loss, penalty), (other_loss, other_penalty), "{way:?}");
        assert!((penalty - of_reference).abs() < 1e-14 && penalty > 1e-3, "{way:?}: {penalty}");
        for (((name, gradient), (_, other)), (_, want)) in gradients.iter().zip(&others).zip(&reference) {
            assert_eq!(off(gradient, other), 0.0, "{way:?}: {name}");
            assert!(off(gradient, want) < 1e-13, "{way:?}: {name}");
        }
        let of_padding = gradients[0].1.narrow(0, 20, 2).unwrap();
        assert_eq!(off(&of_padding, &of_padding.zeros_like().unwrap()), 0.0, "{way:?}");
    }
}

#[test]
fn the_number_of_the_window_fixes_what_is_dropped() {
    let mut model = model(CellKind::Lstm, awd(), Way::Fused, DType::F32);
    let first = window(0);
    let losses: Vec<f64> = (0..3).map(|_| model.forward(&first).unwrap()).collect();
    assert!(losses[0] != losses[1] && losses[1] != losses[2]);
    assert_eq!(model.windows(), 3);
    model.seek(1);
    assert_eq!(model.forward(&first).unwrap(), losses[1]);
    // A window that is refused counts for nothing.
    let bad = Window { xs: vec![V as u32; 28], ..first.clone() };
    assert!(model.forward(&bad).is_err());
    assert_eq!(model.forward(&first).unwrap(), losses[2]);
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |dropout, spec: fn(Dropout) -> LmSpec| {
        let built = build(CellKind::Lstm, &spec(dropout), Way::Fused, (DType::F32, &Device::Cpu), 5);
        built.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let none = Dropout::default();
    let error = refused(Dropout { words: 1.0, ..none }, spec);
    assert_eq!(error, "Dropout: words: expected a rate of at least 0 and below 1, got 1");
    let error = refused(Dropout { recurrent: Regularisers { input: 0.1, ..none.recurrent }, ..none }, spec);
    assert!(error.contains("0 for input and output"), "{error}");
    let error = refused(none, |dropout| spec(dropout).last(9));
    assert!(error.contains("expected 9, the size of the last layer, of tied weights, got 8"), "{error}");
}

#[test]
fn a_stream_refuses_zoneout_and_a_model_goes_around_it() {
    let zoneout = Dropout { recurrent: Regularisers { zoneout_h: 0.3, ..Regularisers::default() }, ..awd() };
    let model = model(CellKind::Lstm, zoneout, Way::Fused, DType::F64);
    let ids = &corpus()[..6];
    let want = model.probabilities(ids).unwrap();
    let nats: f64 = ids[1..].iter().zip(&want).map(|(&id, row)| -row[id as usize].ln()).sum();
    assert!((model.evaluate(ids, 4).unwrap().nats - nats).abs() < 1e-12);

    let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
    let stack = Stack::<TimeRnn<LstmCell>>::new(LayerSpec::new(2, 3), 1, &parameters.builder()).unwrap();
    let stack = stack.map(|layer| layer.with_regularisers(zoneout.recurrent)).unwrap();
    let error = stack.stream::<f32>(1).err().unwrap().to_string();
    assert!(error.contains("expected layers without zoneout, got one with it"), "{error}");
}

/// The loss and the gradients of the first window, of the model that these settings make, with numbers as large as they
/// are when something has been learnt: a table that begins near zero predicts all words alike, whatever is dropped.
fn first_window(config: &Config) -> (f64, Vec<(String, Tensor)>) {
    let spec = config.spec(V).unwrap().init(Scheme::Uniform(0.5));
    let mut model = build(CellKind::Lstm, &spec, Way::Fused, (DType::F64, &Device::Cpu), 5).unwrap();
    let loss = model.forward(&window(1)).unwrap();
    model.backward().unwrap();
    (loss, model.gradients().unwrap())
}

/// Each of these parts of what is dropped changes the loss.
fn each_is_on(config: &Config, parts: &[&str]) {
    let (all, _) = first_window(config);
    for part in parts {
        let (without, _) = first_window(&config.with("dropout", part, "0").unwrap());
        assert!((without - all).abs() > 1e-6, "{part}: {without} {all}");
    }
}

#[test]
fn the_preset_book_better_drops_at_three_places_ties_its_tables_and_divides_by_four() {
    let mut config = Config::preset("book-better").unwrap();
    (config.model.embed, config.model.hidden) = (12, 12);
    each_is_on(&config, &["input", "between", "output"]);
    // One table, whose gradient has both ends' part: rows of words that are not read have one too.
    let (_, gradients) = first_window(&config);
    assert!(gradients.iter().all(|(name, _)| name != "affine.weight"), "{gradients:?}");
    let (_, of_table) = gradients.iter().find(|(name, _)| name == "embedding.weight").unwrap();
    let rows = of_table.sqr().unwrap().sum(1).unwrap().to_vec1::<f64>().unwrap();
    assert!(rows.len() == V && rows.iter().all(|&row| row > 0.0), "{rows:?}");
    let mut trainer = config.trainer(10).unwrap();
    let rates: Vec<f64> =
        [5.0, 5.1, 4.0, 4.0].into_iter().map(|loss| (trainer.observe(loss), trainer.lr()).1).collect();
    assert_eq!(rates, [20.0, 5.0, 5.0, 1.25]);
}

#[test]
fn the_preset_awd_lstm_has_all_of_it_on() {
    let mut config = Config::preset("awd-lstm").unwrap();
    (config.model.embed, config.model.hidden, config.model.last) = (8, 12, 8);
    each_is_on(&config, &["words", "input", "between", "output", "weight", "activation", "temporal"]);
    let (_, gradients) = first_window(&config);
    // The weight that is dropped from gets the gradient, where it was not dropped: of about half of its numbers.
    for layer in 0..3 {
        let name = format!("rnn.weight_hh_l{layer}");
        let (_, gradient) = gradients.iter().find(|(other, _)| *other == name).unwrap();
        let numbers = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let zero = numbers.iter().filter(|x| **x == 0.0).count() as f64 / numbers.len() as f64;
        assert!((0.4..0.6).contains(&zero), "{name}: {zero}");
    }
    // Windows of several lengths, and the mean of the weights once nothing gets better.
    assert!(config.training.varied && config.training.decay > 0.0);
    let mut trainer = config.trainer(10).unwrap();
    let mut model =
        build(CellKind::Lstm, &config.spec(V).unwrap(), Way::Fused, (DType::F64, &Device::Cpu), 5).unwrap();
    let before = |trainer: &Trainer, model: &mut dyn LanguageModel| {
        let weights = |model: &dyn LanguageModel| model.parameters()[0].1.flatten_all()?.to_vec1::<f64>();
        let own = weights(model).unwrap();
        trainer.with_average(model, |model| Ok(weights(model)? != own)).unwrap()
    };
    for loss in [5.0, 4.0, 4.5, 4.5, 4.5, 4.5, 4.5, 4.5] {
        trainer.step(model.as_mut(), &window(2)).unwrap();
        trainer.step(model.as_mut(), &window(3)).unwrap();
        assert!(!before(&trainer, model.as_mut()), "a mean before its time");
        trainer.observe(loss);
    }
    for number in 4..7 {
        trainer.step(model.as_mut(), &window(number)).unwrap();
    }
    assert!(before(&trainer, model.as_mut()), "no mean after five evaluations without a better one");
}
