//! Networks as ONNX models: what ONNX Runtime computed for them, what is in the files, and how these are written.
//!
//! `fixtures/onnx/make_fixtures.py` makes the fixtures; `ONNX_FIXTURES` names another folder of such files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test expects")]

#[path = "common/network.rs"]
mod network;

use candle_core::{DType, Device, Tensor};
use network::{numbers, off, run};
use rnn_core::Way;
use rnn_core::border::onnx::messages::{GraphProto, Message, ModelProto, NodeProto, Size, ValueInfoProto};
use rnn_core::border::onnx::{IR_VERSION, OPSET};
use rnn_core::border::{Kind, Network, NetworkSpec};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::str::FromStr;

fn folder() -> PathBuf {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    std::env::var_os("ONNX_FIXTURES").map_or(committed, PathBuf::from)
}

/// Holds our layers against one file; the largest difference.
fn hold(path: &Path) -> f64 {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    fn parse<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }
    let spec = NetworkSpec {
        layers: parse(&metadata["layers"]),
        bidirectional: parse(&metadata["bidirectional"]),
        bias: parse(&metadata["bias"]),
        ..NetworkSpec::new(parse(&metadata["cell"]), parse(&metadata["input"]), parse(&metadata["hidden"]))
    };
    let network = Network::seeded(spec, parse(&metadata["seed"]), DType::F32).unwrap();
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
    let parts: &[&str] = if spec.kind == Kind::Lstm { &["h", "c"] } else { &["h"] };
    let mut worst = 0.0f64;
    for window in 0..2 {
        let get = |name: String| tensors[&format!("{name}.{window}")].clone();
        let starts: Vec<Tensor> = parts.iter().map(|part| get(format!("{part}0"))).collect();
        for way in [Way::Reference, Way::Manual, Way::Fused] {
            let got = run(&network, way, &get("x".into()), &starts);
            let names =
                std::iter::once("out".to_string()).chain(parts.iter().map(|part| format!("{part}_n")));
            for (name, got) in names.zip(&got) {
                let off = off(got, &get(name.clone()));
                assert!(off < 1e-5, "{}: {name} of window {window}, {way}: {off:e}", path.display());
                worst = worst.max(off);
            }
        }
    }
    worst
}

#[test]
fn onnx_runtime_computes_the_same_from_our_models() {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    assert!(files.len() >= 8, "{} fixtures in {}", files.len(), folder().display());
    let worst = files.iter().map(|path| hold(path)).fold(0.0, f64::max);
    println!("{} files, at most {worst:e} off", files.len());
}

fn graph_of(spec: NetworkSpec, dtype: DType) -> (Network, GraphProto) {
    let network = Network::seeded(spec, 3, dtype).unwrap();
    let model = ModelProto::decode(network.to_onnx().unwrap().as_slice()).unwrap();
    assert_eq!(model, network.to_onnx_model().unwrap());
    assert_eq!((model.ir_version, model.opset_import[0].version), (IR_VERSION, OPSET));
    (network, model.graph.unwrap())
}

/// Name and shape as text: `x [N, T, 3]`.
fn shown(value: &ValueInfoProto, elements: i32) -> String {
    let tensor = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
    assert_eq!(tensor.elem_type, elements);
    let dims = tensor.shape.as_ref().unwrap().dim.iter().map(|dim| match dim.value.as_ref().unwrap() {
        Size::DimValue(size) => size.to_string(),
        Size::DimParam(name) => name.clone(),
    });
    format!("{} [{}]", value.name, dims.collect::<Vec<_>>().join(", "))
}

/// Attributes as text: `hidden_size=4 direction=forward`.
fn attributes(node: &NodeProto) -> String {
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    let shown = node.attribute.iter().map(|attribute| {
        let value = match attribute.r#type {
            2 => attribute.i.unwrap().to_string(),
            3 => text(attribute.s.as_ref().unwrap()),
            7 => format!("{:?}", attribute.ints),
            8 => attribute.strings.iter().map(text).collect::<Vec<_>>().join(","),
            other => panic!("type {other}"),
        };
        format!("{}={value}", attribute.name)
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_model_has_a_node_for_each_layer_and_pytorchs_shapes_outside() {
    let spec = NetworkSpec { layers: 2, bidirectional: true, ..NetworkSpec::new(Kind::Lstm, 3, 4) };
    let (_, graph) = graph_of(spec, DType::F32);
    let ops: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    let layer = ["LSTM", "Transpose", "Reshape"];
    assert_eq!(
        ops,
        [["Transpose", "Split", "Split"], layer, layer]
            .concat()
            .into_iter()
            .chain(["Concat"; 2])
            .collect::<Vec<_>>()
    );
    let inputs: Vec<String> = graph.input.iter().map(|value| shown(value, 1)).collect();
    assert_eq!(inputs, ["x [N, T, 3]", "h0 [4, N, 4]", "c0 [4, N, 4]"]);
    let outputs: Vec<String> = graph.output.iter().map(|value| shown(value, 1)).collect();
    assert_eq!(outputs, ["out [N, T, 8]", "h_n [4, N, 4]", "c_n [4, N, 4]"]);
    let lstm = &graph.node[6];
    assert_eq!(lstm.input, ["l1.x", "l1.W", "l1.R", "l1.B", "", "l1.h0", "l1.c0"]);
    assert_eq!(lstm.output, ["l1.y", "l1.h_n", "l1.c_n"]);
    let shapes: Vec<(&str, &[i64])> =
        graph.initializer.iter().map(|t| (t.name.as_str(), t.dims.as_slice())).skip(6).collect();
    assert_eq!(shapes, [("l1.W", [2, 16, 8].as_slice()), ("l1.R", &[2, 16, 4]), ("l1.B", &[2, 32])]);
}

#[test]
fn every_kind_says_what_it_is() {
    for (kind, op, bidirectional, want) in [
        (Kind::RnnTanh, "RNN", false, "hidden_size=4 direction=forward activations=Tanh"),
        (Kind::RnnRelu, "RNN", true, "hidden_size=4 direction=bidirectional activations=Relu,Relu"),
        (Kind::Lstm, "LSTM", false, "hidden_size=4 direction=forward"),
        (Kind::Gru, "GRU", true, "hidden_size=4 direction=bidirectional linear_before_reset=1"),
    ] {
        let spec = NetworkSpec { bidirectional, bias: false, ..NetworkSpec::new(kind, 3, 4) };
        let (_, graph) = graph_of(spec, DType::F64);
        assert_eq!((graph.node[1].op_type.as_str(), attributes(&graph.node[1]).as_str()), (op, want));
        assert_eq!(graph.node[1].input[3], "", "no bias");
        assert_eq!(shown(&graph.input[1], 11), format!("h0 [{}, N, 4]", 1 + usize::from(bidirectional)));
    }
}

#[test]
fn constants_have_their_gates_in_onnx_order() {
    for (kind, order) in
        [(Kind::RnnTanh, vec![0]), (Kind::Lstm, vec![0, 3, 1, 2]), (Kind::Gru, vec![1, 0, 2])]
    {
        let spec = NetworkSpec { bidirectional: true, ..NetworkSpec::new(kind, 3, 2) };
        let (network, graph) = graph_of(spec, DType::F32);
        let constant = |name: &str| -> Vec<f64> {
            let constant = graph.initializer.iter().find(|constant| constant.name == name).unwrap();
            let numbers =
                constant.raw_data.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
            numbers.map(f64::from).collect()
        };
        // Both directions, each with its parameters one behind the other, gate by gate.
        let want = |parameters: &[&str]| -> Vec<f64> {
            let mut want = Vec::new();
            for &direction in spec.directions() {
                for parameter in parameters {
                    let ours = numbers(network.get(parameter, (0, direction)).unwrap());
                    let gates: Vec<&[f64]> = ours.chunks(ours.len() / kind.gates()).collect();
                    order.iter().for_each(|&gate| want.extend(gates[gate]));
                }
            }
            want
        };
        assert_eq!(constant("l0.W"), want(&["weight_ih"]));
        assert_eq!(constant("l0.R"), want(&["weight_hh"]));
        assert_eq!(constant("l0.B"), want(&["bias_ih", "bias_hh"]));
    }
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    for kind in Kind::ALL {
        let spec = NetworkSpec { layers: 2, bidirectional: true, ..NetworkSpec::new(kind, 3, 4) };
        let bytes = |seed| Network::seeded(spec, seed, DType::F32).unwrap().to_onnx().unwrap();
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
        assert_eq!(ModelProto::decode(bytes(1).as_slice()).unwrap().encode_to_vec(), bytes(1));
    }
}

#[test]
fn a_file_is_written_whole_or_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let spec = NetworkSpec::new(Kind::Lstm, 3, 4);
    let network = Network::seeded(spec, 0, DType::F32).unwrap();
    network.save_onnx(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), network.to_onnx().unwrap());

    let projected = NetworkSpec { projection: Some(2), ..spec };
    let error = Network::seeded(projected, 0, DType::F32).unwrap().save_onnx(&path).unwrap_err().to_string();
    assert!(error.contains("expected a network without a projection, got one to 2"), "{error}");
    let error = Network::seeded(spec, 0, DType::F16).unwrap().save_onnx(&path).unwrap_err().to_string();
    assert!(error.contains("dtype: expected f32 or f64, got f16"), "{error}");
    let error = network.save_onnx(folder.path().join("none/model.onnx")).unwrap_err().to_string();
    assert!(error.contains("none/model.onnx: expected a place where a file can be written"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), network.to_onnx().unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
}
