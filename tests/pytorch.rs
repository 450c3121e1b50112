//! PyTorch's outputs and gradients, in the files of tests/fixtures, against every way; and that a wrong one is seen.

#[path = "../examples/check_pytorch/fixture.rs"]
mod fixture;
#[path = "common/program.rs"]
mod program;

use candle_core::{Device, Tensor};
use fixture::Fixture;
use rnn_core::Way;
use rnn_core::kernels::dispatch::{self, Cpu};
use safetensors::SafeTensors;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

fn fixtures() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(program::path("tests/fixtures")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    files
}

#[test]
fn every_way_computes_what_pytorch_does() {
    let files = fixtures();
    assert_eq!(files.len(), 22, "make_fixtures.py writes 22 files");
    for file in files {
        let fixture = Fixture::read(&file, &Device::Cpu).unwrap();
        let held = |what: &str, way: Way| {
            assert_eq!(fixture.cannot(way), None);
            let found = fixture.hold(way).unwrap();
            assert!(
                found.max_rel_err <= fixture.tolerance(),
                "{} in {what}: {} is off by {:e}",
                file.display(),
                found.worst,
                found.max_rel_err
            );
        };
        held("reference", Way::Reference);
        held("manual", Way::Manual);
        for cpu in Cpu::available() {
            dispatch::with(cpu, || held(&format!("fused on {cpu:?}"), Way::Fused));
        }
    }
}

/// A copy of a fixture with one change to its tensors or its metadata.
fn changed(
    file: &str,
    change: impl FnOnce(&mut BTreeMap<String, Tensor>, &mut HashMap<String, String>),
) -> tempfile::TempPath {
    let bytes = std::fs::read(program::path("tests/fixtures").join(file)).unwrap();
    let mut metadata = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap();
    let mut tensors =
        candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap().into_iter().collect();
    change(&mut tensors, &mut metadata);
    let copy = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap().into_temp_path();
    let tensors: Vec<_> = tensors.iter().collect();
    safetensors::serialize_to_file(
        tensors.iter().map(|(name, tensor)| (name, *tensor)),
        Some(metadata),
        &copy,
    )
    .unwrap();
    copy
}

fn hold(file: &Path) -> Vec<(f64, String)> {
    let fixture = Fixture::read(file, &Device::Cpu).unwrap();
    let ways = [Way::Reference, Way::Manual, Way::Fused].map(|way| fixture.hold(way).unwrap());
    ways.into_iter().map(|found| (found.max_rel_err, found.worst)).collect()
}

#[test]
fn one_number_that_is_wrong_in_any_result_or_gradient_is_seen_in_every_way() {
    let names =
        Fixture::read(&program::path("tests/fixtures/lstm.safetensors"), &Device::Cpu).unwrap().compared();
    assert_eq!(names.len(), 3 + 3 + 4, "out, h_n, c_n; x, h0, c0; two weights and two biases: {names:?}");
    for name in names {
        for wrong in [1e-6, f64::NAN] {
            let file = changed("lstm.safetensors", |tensors, _| {
                let right = &tensors[&name];
                let mut numbers = right.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                let last = numbers.len() - 1;
                numbers[last] += wrong;
                let tensor = Tensor::from_vec(numbers, right.dims(), &Device::Cpu).unwrap();
                tensors.insert(name.clone(), tensor);
            });
            for (off, worst) in hold(&file) {
                assert!(off > 1e-8, "{name} was changed by {wrong}, and the largest error found is {off:e}");
                assert!(worst.ends_with(name.as_str()), "{name} was changed, and {worst} named");
            }
        }
    }
}

/// The error of reading `lstm.safetensors` after a change.
fn refusal(change: impl FnOnce(&mut BTreeMap<String, Tensor>, &mut HashMap<String, String>)) -> String {
    let file = changed("lstm.safetensors", change);
    format!("{:#}", Fixture::read(&file, &Device::Cpu).err().expect("a file that is refused"))
}

#[test]
fn what_is_not_supported_or_does_not_fit_is_named() {
    let meta = |key: &'static str, value: &'static str| {
        refusal(move |_, metadata| {
            metadata.insert(key.into(), value.into());
        })
    };
    let zeros = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F64, &Device::Cpu).unwrap();
    let cases = [
        (meta("bidirectional", "true"), "tensor bias_hh_l0_reverse is missing"),
        (meta("proj_size", "3"), "g.h_n: expected shape [1, 3, 3], got [1, 3, 6]"),
        (
            meta("proj_size", "6"),
            "NetworkSpec: projection: expected none, or of an lstm one of 1 to 5, got 6 of lstm",
        ),
        (meta("cell", "mgu"), "cell: expected rnn_tanh, rnn_relu, lstm or gru, got \"mgu\""),
        (meta("dtype", "bf16"), "metadata.dtype: expected f32 or f64, got \"bf16\""),
        (meta("dtype", "f32"), "expected F32, got F64"),
        (meta("hidden_size", "-1"), "metadata.hidden_size: expected a size, got \"-1\""),
        (meta("num_layers", "0"), "NetworkSpec: layers: expected at least 1, got 0"),
        (meta("num_layers", "2"), "tensor bias_hh_l1 is missing"),
        (meta("cell", "gru"), "bias_hh_l0: expected shape [18], got [24]"),
        (
            refusal(|tensors, _| drop(tensors.insert("lengths".into(), zeros(&[4])))),
            "lengths: expected 3, one a row of x, got 4",
        ),
        (
            refusal(|tensors, _| drop(tensors.insert("weight_hr_l0".into(), zeros(&[3])))),
            "not supported: tensors [\"weight_hr_l0\"]",
        ),
        (refusal(|tensors, _| drop(tensors.remove("grad.c0"))), "tensor grad.c0 is missing"),
        (
            refusal(|tensors, _| drop(tensors.insert("x".into(), zeros(&[3, 5])))),
            "x: expected [N, T, 5], got [3, 5]",
        ),
        (refusal(|_, metadata| drop(metadata.remove("bias"))), "metadata.bias is missing"),
    ];
    for (got, want) in cases {
        assert!(got.contains(want), "{got:?} does not say {want:?}");
    }
}

#[test]
fn the_program_prints_a_line_for_each_way_and_fails_where_one_is_wrong() {
    let good = program::path("tests/fixtures/gru.safetensors");
    let output = program::example("check_pytorch").arg(&good).output().unwrap();
    let (stdout, stderr) = program::text(&output);
    assert!(output.status.success(), "{stderr}");
    let lines: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ways: Vec<&str> = lines.iter().map(|line| line["way"].as_str().unwrap()).collect();
    assert_eq!(ways, ["reference", "manual", "fused"]);
    for line in lines {
        assert!(line["max_rel_err"].as_f64().unwrap() < 1e-10, "{line}");
        assert!(
            line["file"].as_str().unwrap().ends_with("gru.safetensors") && line["worst"].is_string(),
            "{line}"
        );
    }

    let wrong = changed("gru.safetensors", |tensors, _| {
        let twice = (&tensors["grad.h0"] * 2.0).unwrap();
        tensors.insert("grad.h0".into(), twice);
    });
    let output = program::example("check_pytorch").arg(&*wrong).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(program::text(&output).0.contains("grad.h0"));

    // A file that is refused does not keep the next one from being checked.
    let text = program::path("README.md");
    let output = program::example("check_pytorch").args([&text, &good]).output().unwrap();
    let (stdout, stderr) = program::text(&output);
    assert_eq!((output.status.code(), stdout.lines().count()), (Some(1), 3), "{stderr}");
    assert!(stderr.contains("README.md: is not a safetensors file"), "{stderr}");
}
