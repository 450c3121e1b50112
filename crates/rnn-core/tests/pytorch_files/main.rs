//! PyTorch's files: what is written is read again bit for bit, what PyTorch wrote gives PyTorch's numbers, and files that
//! are wrong, damaged or hostile are errors that say so.

// Clippy's leave for tests does not reach the functions that they share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod damaged;

use candle_core::{DType, Device, Tensor};
use rnn_core::border::pytorch::StateDict;
use rnn_core::border::{Kind, Known, Network, NetworkSpec};
use rnn_core::{
    Bias, Bidirectional, Direction, GruCell, Layer, LayerSpec, LstmCell, Parameters, Recurrent, Regularisers,
    RnnCell, Stack, TimeRnn,
};
use std::fmt::Display;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch").join(name)
}

fn says<T>(result: Result<T, impl Display>, parts: &[&str]) {
    let Err(error) = result else { panic!("no error where one that says {parts:?} was expected") };
    let error = error.to_string();
    for part in parts {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

/// Numbers that are all different, among them some that a conversion would change.
fn network(spec: NetworkSpec, dtype: DType) -> Network {
    let mut next = 0;
    let tensors = spec.shapes().into_iter().map(|(name, shape)| {
        let count: usize = shape.iter().product();
        let values: Vec<u64> = (next..next + count as u64).collect();
        next += count as u64;
        let tensor = match dtype {
            DType::F32 => {
                let odd = [f32::from_bits(0x7fc0_1234), -0.0, f32::from_bits(1), f32::INFINITY];
                let value = |i: u64| odd.get(i as usize).copied().unwrap_or(1.0 / i as f32);
                Tensor::from_iter(values.into_iter().map(value), &Device::Cpu)
            }
            _ => {
                let odd = [f64::from_bits(0x7ff8_0000_0000_1234), -0.0, f64::from_bits(1), f64::INFINITY];
                let value = |i: u64| odd.get(i as usize).copied().unwrap_or(1.0 / i as f64);
                Tensor::from_iter(values.into_iter().map(value), &Device::Cpu)
            }
        };
        (name, tensor.unwrap().reshape(shape).unwrap())
    });
    Network::new(spec, tensors.collect::<Vec<_>>()).unwrap()
}

/// A shape, and every number's bits.
type Bits = (Vec<usize>, Vec<u64>);

fn bits(tensor: &Tensor) -> Bits {
    let flat = tensor.flatten_all().unwrap();
    let bits = match tensor.dtype() {
        DType::F32 => flat.to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits().into()).collect(),
        DType::F64 => flat.to_vec1::<f64>().unwrap().iter().map(|v| v.to_bits()).collect(),
        other => panic!("{other:?}"),
    };
    (tensor.dims().to_vec(), bits)
}

fn all_bits(network: &Network) -> Vec<(String, Bits)> {
    network.tensors().map(|(name, tensor)| (name.to_string(), bits(tensor))).collect()
}

fn specs() -> Vec<NetworkSpec> {
    let mut specs = Vec::new();
    for kind in Kind::ALL {
        for (layers, bidirectional, bias) in [
            (1, false, true),
            (1, true, false),
            (2, false, false),
            (2, true, true),
            (3, true, true),
            (11, false, true),
        ] {
            let projections: &[Option<usize>] = if kind == Kind::Lstm { &[None, Some(2)] } else { &[None] };
            for &projection in projections {
                let base = NetworkSpec::new(kind, 2, 3);
                specs.push(NetworkSpec { layers, bidirectional, bias, projection, ..base });
            }
        }
    }
    specs
}

#[test]
fn what_is_written_is_read_again_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    for spec in specs() {
        for (dtype, files) in [
            (DType::F32, [("a.safetensors", ""), ("b.pt", "rnn.")]),
            (DType::F64, [("c.safetensors", "x.y."), ("d.pth", "")]),
        ] {
            let network = network(spec, dtype);
            for (name, prefix) in files {
                let path = folder.path().join(name);
                network.write(&path, prefix).unwrap();
                let again = Network::read(&path, &spec, prefix).unwrap();
                assert_eq!(all_bits(&network), all_bits(&again), "{spec:?} {name}");
                let guessed = StateDict::read(&path).unwrap().spec(prefix).unwrap();
                // A file does not say which activation there is.
                let kind = if spec.kind == Kind::RnnRelu { Kind::RnnTanh } else { spec.kind };
                assert_eq!(guessed, NetworkSpec { kind, ..spec });
                let bytes = std::fs::read(&path).unwrap();
                again.write(&path, prefix).unwrap();
                assert!(bytes == std::fs::read(&path).unwrap(), "{spec:?} {name}: other bytes");
            }
        }
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 4, "nothing else is left behind");
}

fn ours<R: Layer>(network: &Network, xs: &Tensor) -> Tensor
where
    R::Cell: Known,
{
    let stack = network.stack::<R>().unwrap();
    let state = stack.zero_state(xs.dim(0).unwrap()).unwrap();
    // Into variables and out again, on the way.
    let parameters = Parameters::new(1, xs.dtype(), &Device::Cpu);
    let spec = network.spec();
    let vb = parameters.builder().pp("net");
    let trainable =
        Stack::<R>::make(spec.layer(), spec.layers, |layer| R::Cell::of_kind(spec.kind, layer, vb.clone()));
    let trainable = trainable.unwrap();
    parameters.load(network, "net.").unwrap();
    assert_eq!(all_bits(&Network::of(&trainable).unwrap()), all_bits(network));
    let (hs, _) = stack.infer(xs, &state).unwrap();
    let (again, _) = trainable.infer(xs, &state).unwrap();
    assert_eq!(bits(&hs), bits(&again));
    hs
}

#[test]
fn what_pytorch_wrote_gives_pytorchs_numbers() {
    type Run = fn(&Network, &Tensor) -> Tensor;
    let relu = NetworkSpec { bias: false, ..NetworkSpec::new(Kind::RnnRelu, 2, 3) };
    let lstm = NetworkSpec {
        projection: Some(2),
        layers: 2,
        bidirectional: true,
        ..NetworkSpec::new(Kind::Lstm, 3, 4)
    };
    let tanh = NetworkSpec { bidirectional: true, ..NetworkSpec::new(Kind::RnnTanh, 3, 2) };
    let cases: [(&str, &str, &str, NetworkSpec, Run); 4] = [
        ("lstm.pt", "encoder.rnn.", "", lstm, ours::<Bidirectional<LstmCell>>),
        ("gru.safetensors", "rnn.", "", NetworkSpec::new(Kind::Gru, 3, 4), ours::<TimeRnn<GruCell>>),
        ("shared.pt", "rnn.", "", tanh, ours::<Bidirectional<RnnCell>>),
        ("rnn_relu.pth", "model.", "run.", relu, ours::<TimeRnn<RnnCell>>),
    ];
    for (name, prefix, run, spec, ours) in cases {
        let file = StateDict::read(fixture(name)).unwrap();
        let guessed = file.spec(prefix).unwrap();
        assert_eq!(guessed.hidden, spec.hidden);
        let network = file.network(&spec, prefix).unwrap();
        let tensor = |name: &str| file.tensor(&format!("{run}{name}")).unwrap();
        let (xs, want) = (tensor("x"), tensor("hs"));
        let errors = (ours(&network, &xs) - want).unwrap().abs().unwrap().flatten_all().unwrap();
        let errors = errors.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        let most = if xs.dtype() == DType::F64 { 1e-14 } else { 1e-6 };
        assert!(errors.iter().all(|&error| error <= most), "{name}: {errors:?}");
    }
}

#[test]
fn a_half_is_converted_where_that_is_asked_for() {
    let file = StateDict::read(fixture("half.pt")).unwrap();
    let spec = file.spec("").unwrap();
    says(file.network(&spec, ""), &["half.pt: weight_ih_l0: expected f32 or f64, got f16", "with_dtype"]);
    let network = file.with_dtype(DType::F32).network(&spec, "").unwrap();
    assert!(network.tensors().all(|(_, tensor)| tensor.dtype() == DType::F32));
    let whole = StateDict::read(fixture("half.pt")).unwrap().with_dtype(DType::U8);
    says(whole.network(&spec, ""), &["StateDict::with_dtype: dtype: expected a type of floats, got u8"]);
}

#[test]
fn everything_that_is_wrong_in_a_file_is_named() {
    let file = StateDict::read(fixture("lstm.pt")).unwrap();
    let good = file.spec("encoder.rnn.").unwrap();
    let more = NetworkSpec { layers: 3, hidden: 5, ..good };
    says(
        file.network(&more, "encoder.rnn."),
        &[
            "lstm.pt: encoder.rnn.weight_ih_l0: expected [20, 3], got [16, 3]",
            "encoder.rnn.weight_hr_l1_reverse: expected [2, 5], got [2, 4]",
            "encoder.rnn.bias_hh_l2: expected a tensor [20], got none",
        ],
    );
    let fewer = NetworkSpec { bias: false, ..good };
    says(file.network(&fewer, "encoder.rnn."), &["bias_hh_l1_reverse: expected no such tensor, got one"]);
    says(file.network(&good, "encoder."), &["encoder.weight_ih_l0: expected a tensor [16, 3], got none"]);
    says(file.network(&NetworkSpec { layers: 0, ..good }, ""), &["layers: expected at least 1, got 0"]);
    says(file.spec("rnn."), &["rnn.weight_ih_l0", "[G*H, D], got none", "under the prefix \"encoder.rnn.\""]);
    says(file.spec("norm."), &["norm.weight_ih_l0"]);
    says(file.tensor("nothing"), &["nothing: expected a tensor, got none"]);
    assert_eq!(file.tensor("norm.num_batches_tracked").unwrap().dtype(), DType::I64);
    let shapes: [(&str, &[usize]); 2] = [("weight_ih_l0", &[8, 3]), ("weight_hh_l0", &[8, 4])];
    says(NetworkSpec::guess(shapes, ""), &["weight_ih_l0: expected 1, 3 or 4 times 4 rows, got 8"]);
    for name in ["model.bin", "model", "model.PT.gz"] {
        says(StateDict::read(name), &[name, "ends in .safetensors, .pt or .pth"]);
    }
    says(StateDict::read("no/such/file.pt"), &["no/such/file.pt: expected a file that can be read"]);
}

#[test]
fn loading_sets_all_variables_or_none() {
    let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
    let spec = NetworkSpec { layers: 2, ..NetworkSpec::new(Kind::Lstm, 2, 3) };
    Stack::<TimeRnn<LstmCell>>::new(spec.layer(), 2, &parameters.builder().pp("rnn")).unwrap();
    let values = || parameters.vars().iter().map(|var| bits(var.as_tensor())).collect::<Vec<_>>();
    let before = values();
    let load = |spec: NetworkSpec, dtype, prefix: &str| parameters.load(&network(spec, dtype), prefix);
    says(
        load(NetworkSpec { layers: 3, ..spec }, DType::F32, "rnn."),
        &["Parameters::load: rnn.bias_hh_l2: expected no such tensor, got one", "rnn.weight_ih_l2"],
    );
    says(
        load(NetworkSpec { layers: 1, ..spec }, DType::F32, "rnn."),
        &["Parameters::load: rnn.weight_ih_l1: expected a tensor [12, 3], got none", "rnn.bias_hh_l1"],
    );
    says(
        load(NetworkSpec { input: 4, ..spec }, DType::F32, "rnn."),
        &["weight_ih_l0: expected [12, 2], got [12, 4]"],
    );
    says(load(spec, DType::F64, "rnn."), &["rnn.weight_ih_l0: expected f32, got f64", "rnn.bias_hh_l1"]);
    says(
        load(spec, DType::F32, "gru."),
        &["Parameters::load: expected parameters whose names begin with \"gru.\""],
    );
    assert_eq!(values(), before);
    load(spec, DType::F32, "rnn.").unwrap();
    let want: Vec<_> = all_bits(&network(spec, DType::F32)).into_iter().map(|(_, bits)| bits).collect();
    assert_eq!(values(), want);
}

#[test]
fn a_whole_model_there_and_back_or_not_at_all() {
    let model = |seed, dtype, classes| {
        let parameters = Parameters::new(seed, dtype, &Device::Cpu);
        candle_nn::embedding(7, 2, parameters.builder().pp("embedding")).unwrap();
        let spec = LayerSpec::new(2, 3).bias(Bias::Single);
        Stack::<Bidirectional<GruCell>>::new(spec, 1, &parameters.builder().pp("rnn")).unwrap();
        candle_nn::linear(6, classes, parameters.builder().pp("head")).unwrap();
        parameters
    };
    let values = |of: &Parameters| of.vars().iter().map(|var| bits(var.as_tensor())).collect::<Vec<_>>();
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "model.pt"] {
        let path = folder.path().join(name);
        for dtype in [DType::F32, DType::F64] {
            let (trained, other) = (model(1, dtype, 2), model(2, dtype, 2));
            trained.save(&path).unwrap();
            let file = StateDict::read(&path).unwrap();
            assert_eq!(file.spec("rnn.").unwrap().kind, Kind::Gru, "what has one bias is known as well");
            other.load_state_dict(&file, "").unwrap();
            assert_eq!(values(&other), values(&trained));
            // Not the file's memory: training goes on in the variable alone.
            other.vars()[0].set(&other.vars()[0].zeros_like().unwrap()).unwrap();
            assert_ne!(values(&other), values(&trained));
        }
        // What is there now is of f64.
        let (file, other) = (StateDict::read(&path).unwrap(), model(2, DType::F32, 3));
        let before = values(&other);
        says(
            other.load_state_dict(&file, ""),
            &[name, "embedding.weight: expected f32, got f64", "head.bias: expected [3], got [2]"],
        );
        let file = file.with_dtype(DType::F32);
        says(other.load_state_dict(&file, ""), &[name, "head.weight: expected [3, 6], got [2, 6]"]);
        says(other.load_state_dict(&file, "model."), &["model.head.bias: expected a tensor [3], got none"]);
        assert_eq!(values(&other), before);
        model(2, DType::F32, 2).load_state_dict(&file, "").unwrap();
        // A part, under its own prefix, of variables that are in no registry any more.
        let head = [("weight".to_string(), other.vars()[5].clone())];
        says(file.assign(&head, "head."), &["head.bias: expected no such tensor, got one"]);
    }
    let empty = Parameters::new(1, DType::F32, &Device::Cpu);
    says(empty.save("model.pt"), &["Parameters::save: expected parameters, got none"]);
    says(model(1, DType::F32, 2).save("model.bin"), &["model.bin", "ends in .safetensors, .pt or .pth"]);
}

#[test]
fn parameters_of_two_types_there_and_back_or_not_at_all() {
    let model = |seed| {
        let parameters = Parameters::new(seed, DType::F32, &Device::Cpu);
        candle_nn::linear(2, 3, parameters.builder().pp("narrow")).unwrap();
        candle_nn::linear(3, 2, parameters.builder().to_dtype(DType::F64).pp("wide")).unwrap();
        parameters
    };
    let values = |of: &Parameters| of.vars().iter().map(|var| bits(var.as_tensor())).collect::<Vec<_>>();
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("model.safetensors");
    let (trained, other) = (model(1), model(2));
    trained.save(&path).unwrap();
    let before = values(&other);
    let narrow = StateDict::read(&path).unwrap().with_dtype(DType::F32);
    let wide = ["wide.weight: expected f64, got f32", "wide.bias: expected f64, got f32"];
    says(other.load_state_dict(&narrow, ""), &wide);
    assert_eq!(values(&other), before);
    other.load_state_dict(&StateDict::read(&path).unwrap(), "").unwrap();
    assert_eq!(values(&other), values(&trained));
}

#[test]
fn two_of_one_name_are_refused_and_no_file_is_touched() {
    let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
    Stack::<TimeRnn<GruCell>>::new(LayerSpec::new(2, 3), 1, &parameters.builder()).unwrap();
    let twice = [parameters.named(), parameters.named()].concat();
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "model.pt"] {
        let path = folder.path().join(name);
        parameters.save(&path).unwrap();
        let want =
            "weight_ih_l0: expected one of that name, got two (a part of a model has a prefix of its own";
        says(rnn_core::border::pytorch::save(&path, &twice), &[want]);
        let file = StateDict::read(&path).unwrap();
        says(file.assign(&twice, ""), &["weight_ih_l0: expected to be wanted once, got twice"]);
        file.assign(&parameters.named(), "").unwrap();
    }
    let spec = NetworkSpec { bias: false, ..NetworkSpec::new(Kind::Gru, 2, 3) };
    let network = network(spec, DType::F32);
    let tensors: Vec<_> = network.tensors().map(|(name, of)| (name.to_string(), of.clone())).collect();
    let want = "weight_ih_l0: expected one of that name, got two (weight_hh_l0: expected one of that name";
    says(Network::new(spec, [tensors.clone(), tensors].concat()), &[want]);
}

#[test]
fn a_stack_and_its_network_do_not_share_numbers() {
    let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
    let spec = LayerSpec::new(2, 3).bias(Bias::Single).layer(4);
    let stack = Stack::<Bidirectional<GruCell>>::new(spec, 2, &parameters.builder()).unwrap();
    let network = Network::of(&stack).unwrap();
    let before = all_bits(&network);
    assert_eq!(before[3].0, "bias_hh_l0");
    assert!(before[3].1.1.iter().all(|&bits| bits == 0));
    for var in parameters.vars() {
        var.set(&var.zeros_like().unwrap()).unwrap();
    }
    assert_eq!(all_bits(&network), before);
    // A bias of zeros goes back to where there is none, any other does not.
    let again = Parameters::new(2, DType::F64, &Device::Cpu);
    Stack::<Bidirectional<GruCell>>::new(spec.layer(0), 2, &again.builder().pp("a.b")).unwrap();
    again.load(&network, "a.b.").unwrap();
    assert_eq!(bits(again.vars()[0].as_tensor()), before[0].1);
    let both = NetworkSpec { layers: 2, bidirectional: true, ..NetworkSpec::new(Kind::Gru, 2, 3) };
    says(
        again.load(&self::network(both, DType::F64), "a.b."),
        &["bias_hh_l0: expected no such tensor, got one"],
    );
}

#[test]
fn a_stack_that_is_not_of_the_network() {
    let spec = NetworkSpec { bidirectional: true, ..NetworkSpec::new(Kind::RnnRelu, 2, 3) };
    let both = network(spec, DType::F32);
    assert_eq!(
        both.stack::<Bidirectional<RnnCell>>().unwrap().layers()[0].directions()[0].cell().kind(),
        spec.kind
    );
    says(both.stack::<TimeRnn<RnnCell>>(), &["Network: directions: expected 2, got 1"]);
    says(both.stack::<Bidirectional<LstmCell>>(), &["Network: cell: expected lstm, got rnn_relu"]);
    says(both.stack::<Bidirectional<GruCell>>(), &["Network: cell: expected gru, got rnn_relu"]);
    let one = network(NetworkSpec { bidirectional: false, ..spec }, DType::F32);
    says(one.stack::<Bidirectional<RnnCell>>(), &["Network: directions: expected 1, got 2"]);
    let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
    let layer = |k, bias, hidden, input| {
        let spec = LayerSpec::new(input, hidden).layer(k).bias(bias);
        TimeRnn::<GruCell>::build(spec, &parameters.builder()).unwrap()
    };
    for (bias, hidden) in [(Bias::None, 3), (Bias::Both, 4)] {
        let mixed =
            Stack::from_layers(vec![layer(0, Bias::Both, 3, 2), layer(hidden, bias, hidden, 3)]).unwrap();
        says(Network::of(&mixed), &["Network::of: layer l1: expected what the first one is"]);
    }
    // PyTorch has no name for a layer that reads from the end alone.
    let reverse = LayerSpec::new(2, 3).direction(Direction::Reverse);
    let reverse = Stack::<TimeRnn<GruCell>>::new(reverse, 1, &parameters.builder()).unwrap();
    says(Network::of(&reverse), &["Network::of: layer 0: expected a layer that reads forward, or both ways"]);
    // Zoneout acts in inference too; dropout does not.
    let of = |regularisers: Regularisers| {
        let stack =
            Stack::<TimeRnn<GruCell>>::new(LayerSpec::new(2, 3), 2, &parameters.builder().pp("rnn")).unwrap();
        Network::of(&stack.map(|layer| layer.with_regularisers(regularisers)).unwrap())
    };
    let zoneout = Regularisers { zoneout_h: 0.1, ..Regularisers::default() };
    says(of(zoneout), &["Network::of: layer l0: expected a layer without zoneout, got one with it"]);
    of(Regularisers { weight: 0.5, ..Regularisers::default() }).unwrap();
}

#[test]
fn a_file_stays_as_it_was_where_writing_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pt");
    std::fs::write(&path, "as it was").unwrap();
    let spec = NetworkSpec::new(Kind::Gru, 2, 3);
    let half = network(spec, DType::F32);
    let half = half.tensors().map(|(name, tensor)| (name.to_string(), tensor.to_dtype(DType::F16).unwrap()));
    let half = Network::new(spec, half.collect::<Vec<_>>()).unwrap();
    says(half.write(&path, ""), &["Network::write: weight_ih_l0: expected f32 or f64, got f16"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "as it was");
    says(
        network(spec, DType::F32).write(folder.path().join("no/a.pt"), ""),
        &["a place where a file can be written"],
    );
    says(
        network(spec, DType::F32).write(folder.path().join("a.onnx"), ""),
        &["ends in .safetensors, .pt or .pth"],
    );
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}
