//! Weights of others, whole and wrong.

use super::*;
use crate::model::{CellKind, LmSpec, build};
use rnn_core::{Bias, Way};
use std::collections::HashMap;

fn tensors(cell: CellKind, spec: &LmSpec) -> HashMap<String, Tensor> {
    let model = build(cell, spec, Way::Fused, (DType::F32, &Device::Cpu), 7).unwrap();
    model.parameters().into_iter().map(|(name, var)| (name, var.as_tensor().copy().unwrap())).collect()
}

fn equal(got: Vec<(String, Tensor)>, want: &HashMap<String, Tensor>) {
    assert_eq!(got.len(), want.len());
    for (name, tensor) in got {
        let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(numbers(&tensor) == numbers(&want[&name]), "{name}");
    }
}

#[test]
fn the_books_weights_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.safetensors");
    for (cell, kind, prefix) in [(CellKind::Lstm, Kind::Lstm, "lstm"), (CellKind::Rnn, Kind::RnnTanh, "rnn")]
    {
        let want = tensors(cell, &LmSpec::new(11, 4, 6).bias(Bias::Single));
        let spec = NetworkSpec { bias: true, ..NetworkSpec::new(kind, 4, 6) };
        let mut of_layer: Vec<(String, Tensor)> = want
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix("rnn.")?.to_string(), tensor.clone())))
            .collect();
        let zero = want["rnn.bias_ih_l0"].zeros_like().unwrap();
        of_layer.push(("bias_hh_l0".into(), zero));
        let layer = Network::new(spec, of_layer).unwrap().to_book().unwrap().remove(0);
        let file = HashMap::from([
            ("embed_W".to_string(), want["embedding.weight"].clone()),
            (format!("{prefix}_Wx"), layer.wx),
            (format!("{prefix}_Wh"), layer.wh),
            (format!("{prefix}_b"), layer.b),
            ("affine_W".into(), want["affine.weight"].t().unwrap().contiguous().unwrap()),
            ("affine_b".into(), want["affine.bias"].clone()),
        ]);
        candle_core::safetensors::save(&file, &path).unwrap();
        let got = Imported::read(&path, Layout::Book).unwrap();
        assert_eq!((got.vocabulary, got.model.embed, got.model.hidden), (11, 4, 6));
        assert_eq!((got.model.cell.as_str(), got.model.bias.as_str()), (prefix, "single"));
        equal(got.tensors, &want);
    }
    let error = Imported::read(&path, Layout::Pytorch).unwrap_err().to_string();
    assert!(error.contains("whose names end in weight_ih_l0"), "{error}");
}

#[test]
fn what_is_too_much_or_no_number_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let (plain, device) = (tensors(CellKind::Gru, &LmSpec::new(11, 4, 6)), Device::Cpu);
    let refused = |name: &str, tensor: Tensor, layout| {
        let mut file = plain.clone();
        file.insert(name.into(), tensor);
        candle_core::safetensors::save(&file, &path).unwrap();
        Imported::read(&path, layout).unwrap_err().to_string()
    };
    for value in [f32::NAN, f32::INFINITY] {
        let bias = Tensor::full(value, 11, &device).unwrap();
        let error = refused("affine.bias", bias, Layout::Pytorch);
        assert!(
            error.contains("expected numbers, got infinite ones or NaN in what is affine.bias"),
            "{error}"
        );
    }
    let error = refused("extra", Tensor::new(1f32, &device).unwrap(), Layout::Pytorch);
    assert!(error.contains("expected matrices and vectors, got extra []"), "{error}");
    let tensor = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &device).unwrap();
    let of_book = [("embed_W", [11, 4]), ("rnn_Wx", [4, 6]), ("rnn_Wh", [6, 6]), ("affine_W", [6, 11])];
    let mut file: HashMap<String, Tensor> =
        of_book.iter().map(|(name, dims)| (name.to_string(), tensor(dims))).collect();
    file.insert("rnn_b".into(), tensor(&[6]));
    file.insert("affine_b".into(), tensor(&[11]));
    candle_core::safetensors::save(&file, &path).unwrap();
    Imported::read(&path, Layout::Book).unwrap();
    file.insert("lstm_Wh".into(), tensor(&[6, 6]));
    candle_core::safetensors::save(&file, &path).unwrap();
    let error = Imported::read(&path, Layout::Book).unwrap_err().to_string();
    assert!(error.ends_with("affine_b and no more, got lstm_Wh"), "{error}");
}

#[test]
fn of_what_a_training_kept_it_is_the_module() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let want = tensors(CellKind::Lstm, &LmSpec::new(11, 4, 6));
    let mut file = HashMap::new();
    for (i, (name, tensor)) in want.iter().enumerate() {
        file.insert(format!("model.{name}"), tensor.clone());
        file.insert(format!("optimizer.state.{i}.exp_avg"), tensor.zeros_like().unwrap());
        let step = Tensor::new(7f32, &Device::Cpu).unwrap();
        file.insert(format!("optimizer.state.{i}.step"), step);
    }
    candle_core::safetensors::save(&file, &path).unwrap();
    equal(Imported::read(&path, Layout::Pytorch).unwrap().tensors, &want);
    // What is wrong in the module itself is said of that.
    let table = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
    file.insert("model.other".into(), table.clone());
    candle_core::safetensors::save(&file, &path).unwrap();
    let error = Imported::read(&path, Layout::Pytorch).unwrap_err().to_string();
    assert!(error.contains("expected an embedding and a linear layer"), "{error}");
    assert!(error.contains("model.other [2, 2]") && !error.contains("optimizer"), "{error}");
    // An encoder with its embedding is not taken for a whole model.
    let renamed = |(name, tensor): (&String, &Tensor)| match name.strip_prefix("affine.") {
        Some(name) => (format!("decoder.{name}"), tensor.clone()),
        None => (format!("encoder.{name}"), tensor.clone()),
    };
    let mut file: HashMap<String, Tensor> = want.iter().map(renamed).collect();
    candle_core::safetensors::save(&file, &path).unwrap();
    equal(Imported::read(&path, Layout::Pytorch).unwrap().tensors, &want);
    file.insert("other".into(), table);
    candle_core::safetensors::save(&file, &path).unwrap();
    let error = Imported::read(&path, Layout::Pytorch).unwrap_err().to_string();
    assert!(error.contains("decoder.weight [11, 6]") && error.contains("other [2, 2]"), "{error}");
}

#[test]
fn each_tensor_that_is_too_many_is_named_with_one_bias_and_with_two() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let extra = Tensor::zeros(18, DType::F32, &Device::Cpu).unwrap();
    for bias in [Bias::Single, Bias::Both] {
        let mut file = tensors(CellKind::Gru, &LmSpec::new(11, 4, 6).layers(2).bias(bias));
        file.insert("rnn.junk".into(), extra.clone());
        file.insert("rnn.more".into(), extra.clone());
        file.insert("rnn.bias_hh_l1".into(), extra.clone());
        candle_core::safetensors::save(&file, &path).unwrap();
        let error = Imported::read(&path, Layout::Pytorch).unwrap_err().to_string();
        assert!(error.contains("rnn.junk") && error.contains("rnn.more"), "{error}");
        assert_eq!(error.contains("rnn.bias_hh_l1"), bias == Bias::Single, "{error}");
        assert_eq!(error.matches("w.safetensors").count(), 1, "{error}");
    }
}

#[test]
fn a_module_of_pytorch_whatever_its_parts_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module.safetensors");
    let plain = LmSpec::new(11, 6, 6).layers(2);
    let single = plain.bias(Bias::Single);
    for (spec, tied, bias) in
        [(single, false, "single"), (plain, false, "both"), (plain.tied(true), true, "both")]
    {
        let want = tensors(CellKind::Gru, &spec);
        let mut file: HashMap<String, Tensor> = want
            .iter()
            .map(|(name, tensor)| {
                let renamed = name.replace("embedding", "encoder").replace("affine", "decoder");
                (renamed.replace("rnn.", "gru."), tensor.clone())
            })
            .collect();
        // PyTorch's state_dict has a tied weight twice.
        file.entry("decoder.weight".into()).or_insert_with(|| want["embedding.weight"].clone());
        candle_core::safetensors::save(&file, &path).unwrap();
        let got = Imported::read(&path, Layout::Pytorch).unwrap();
        assert_eq!((got.model.cell.as_str(), got.model.layers, got.model.tied), ("gru", 2, tied));
        assert_eq!(got.model.bias, bias);
        equal(got.tensors, &want);
    }
    // Without a bias: by sizes, or by names, in whatever order the file has them.
    for (embed, names, told) in [
        (4, ["a", "b"], true),
        (4, ["b", "a"], true),
        (6, ["encoder", "decoder"], true),
        (6, ["z.embed", "head"], true),
        (6, ["a", "b"], false),
    ] {
        let want = tensors(CellKind::Gru, &LmSpec::new(11, embed, 6));
        let renamed = |(name, tensor): (&String, &Tensor)| {
            let name = name.replace("embedding", names[0]).replace("affine", names[1]);
            (!name.ends_with("bias") || name.starts_with("rnn")).then(|| (name, tensor.clone()))
        };
        let file: HashMap<String, Tensor> = want.iter().filter_map(renamed).collect();
        candle_core::safetensors::save(&file, &path).unwrap();
        match Imported::read(&path, Layout::Pytorch) {
            Ok(mut got) if told => {
                assert_eq!(got.tensors.pop().map(|(name, _)| name).as_deref(), Some("affine.bias"));
                let want = want.into_iter().filter(|(name, _)| name != "affine.bias").collect();
                equal(got.tensors, &want);
            }
            Err(error) if !told => {
                let error = error.to_string();
                assert!(error.contains("a.weight [11, 6]") && error.contains("b.weight [11, 6]"), "{error}");
            }
            got => panic!("{names:?}: {got:?}"),
        }
    }
    let error = Imported::read(&path, Layout::Book).unwrap_err().to_string();
    assert!(error.contains("expected embed_W, lstm_Wx or rnn_Wx"), "{error}");
}
