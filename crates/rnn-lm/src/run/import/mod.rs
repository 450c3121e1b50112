//! Weights from elsewhere as those of a run: what the model is, seen from names and shapes, and its parameters under the
//! names that they have here.

use super::weights::same;
use crate::config::{Model, bias_name};
use crate::model::CellKind;
use crate::model::names::{AFFINE_BIAS, AFFINE_WEIGHT, EMBEDDING_WEIGHT, RNN};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use rnn_core::Bias;
use rnn_core::border::pytorch::StateDict;
use rnn_core::border::{BookLayer, Kind, Network, NetworkSpec};
use rnn_core::convention::{self, BIAS_HH, WEIGHT_IH};
use std::path::Path;

/// How weights are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// *Deep Learning from Scratch 2*, chapters 5 and 6: `embed_W`, `lstm_Wx` (or `rnn_`), `lstm_Wh`, `lstm_b`, `affine_W`,
    /// `affine_b`, where y = x W + b.
    Book,
    /// A PyTorch module of an embedding, a recurrent network and a linear layer, whatever they are called.
    Pytorch,
}

/// A model from elsewhere.
#[derive(Debug)]
pub struct Imported {
    /// Its sizes.
    pub model: Model,
    /// V
    pub vocabulary: usize,
    /// Its parameters, by the names that they have here.
    pub tensors: Vec<(String, Tensor)>,
}

impl Imported {
    /// Reads a file of weights, `.safetensors` or `.pt`.
    ///
    /// # Errors
    /// Where it cannot be read, or is not of this layout.
    pub fn read(path: impl AsRef<Path>, layout: Layout) -> Result<Self> {
        let path = path.as_ref();
        // Of a file that is not there: what may have been meant.
        path.metadata().map_err(Error::io(path))?;
        let file = StateDict::read(path)?.with_dtype(DType::F32);
        let imported = match layout {
            Layout::Book => book(&file, path),
            Layout::Pytorch => pytorch(&file, path),
        }?;
        for (name, tensor) in &imported.tensors {
            // A sum has what is no number among its numbers, or comes to one.
            if !tensor.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?.is_finite() {
                let got = format!("infinite ones or NaN in what is {name} here");
                return Err(Error::invalid(path.display(), "numbers", got)
                    .hint("its training diverged: take weights from before that"));
            }
        }
        Ok(imported)
    }
}

fn book(file: &StateDict, path: &Path) -> Result<Imported> {
    let names: Vec<&str> = file.shapes().map(|(name, _)| name).collect();
    let cells = [("lstm", Kind::Lstm), ("rnn", Kind::RnnTanh)];
    let found = cells.into_iter().find(|(cell, _)| names.contains(&format!("{cell}_Wx").as_str()));
    let (cell, kind) = found.ok_or_else(|| {
        Error::invalid(path.display(), "embed_W, lstm_Wx or rnn_Wx, and so on", names.join(", "))
            .hint("`--layout pytorch` is for embedding.weight, rnn.weight_ih_l0, ...")
    })?;
    let known = format!("embed_W, {cell}_Wx, {cell}_Wh, {cell}_b, affine_W, affine_b");
    let others: Vec<&str> =
        names.iter().copied().filter(|name| !known.split(", ").any(|one| one == *name)).collect();
    if !others.is_empty() {
        return Err(Error::invalid(path.display(), format!("{known} and no more"), others.join(", ")));
    }
    let [wx, wh, b] = ["Wx", "Wh", "b"].map(|name| file.tensor(&format!("{cell}_{name}")));
    let layer = BookLayer { wx: wx?, wh: wh?, b: b? };
    let spec = NetworkSpec::new(kind, matrix(&layer.wx, "Wx")?.0, matrix(&layer.wh, "Wh")?.0);
    let network = Network::from_book(spec, &[layer])?;
    let (embedding, weight, bias) =
        (file.tensor("embed_W")?, file.tensor("affine_W")?, file.tensor("affine_b")?);
    let parts = Parts { embedding, weight: weight.t()?.contiguous()?, bias };
    // The second bias is what the border adds, and zero.
    assembled(parts, &network, Bias::Single, path)
}

/// The tensors that are not of the recurrent network.
struct Parts {
    embedding: Tensor,
    weight: Tensor,
    bias: Tensor,
}

/// Of a module, or of what a training keeps of one beside an optimizer's state and the like: the dict that the module is in.
fn pytorch(file: &StateDict, path: &Path) -> Result<Imported> {
    let shapes: Vec<_> = file.shapes().collect();
    let wrong = |want: &str| Error::invalid(path.display(), want, list(&shapes));
    let first = convention::name(WEIGHT_IH, 0);
    let prefixes: Vec<&str> = shapes.iter().filter_map(|(name, _)| name.strip_suffix(&first)).collect();
    let [prefix] = prefixes[..] else {
        return Err(wrong("one recurrent network, whose names end in weight_ih_l0 and so on"));
    };
    of_module(file, &shapes, prefix, path).or_else(|error| {
        let dict = prefix.split_inclusive('.').next().unwrap_or_default();
        let inside: Vec<_> = shapes.iter().copied().filter(|(name, _)| name.starts_with(dict)).collect();
        // An encoder alone, with its embedding, is no language model whose tables are tied: there are two parts at least.
        let parts = inside.iter().filter(|(name, _)| !name.starts_with(prefix)).count();
        if parts >= 2 && inside.len() < shapes.len() {
            return of_module(file, &inside, prefix, path);
        }
        Err(error)
    })
}

fn list(shapes: &[(&str, &[usize])]) -> String {
    shapes.iter().map(|(name, dims)| format!("{name} {dims:?}")).collect::<Vec<_>>().join(", ")
}

/// Of tensors that are all of one module.
fn of_module(file: &StateDict, shapes: &[(&str, &[usize])], prefix: &str, path: &Path) -> Result<Imported> {
    let wrong = |want: &str, got: String| Error::invalid(path.display(), want, got);
    let list = || list(shapes);
    let of_file = |error: rnn_core::Error| Error::from(error).at(path.display());
    let spec = file.spec(prefix).map_err(of_file)?;
    let single = spec.bias
        && shapes.iter().all(|(name, _)| *name != format!("{prefix}{}", convention::name(BIAS_HH, 0)));
    let network = if single {
        with_one_bias(file, spec, prefix, path)?
    } else {
        // What is wrong with a tensor says the file already.
        spec.check().map_err(of_file)?;
        file.network(&spec, prefix)?
    };
    if spec.bidirectional || spec.projection.is_some() {
        let got = if spec.bidirectional { "two" } else { "one, with a projection" };
        return Err(wrong("one direction, without projection", got.into()));
    }
    let others = || shapes.iter().filter(|(name, _)| !name.starts_with(prefix));
    if let Some((name, dims)) = others().find(|(_, dims)| !(1..=2).contains(&dims.len())) {
        return Err(wrong("matrices and vectors", format!("{name} {dims:?}")));
    }
    let tables: Vec<&str> = others().filter(|(_, dims)| dims.len() == 2).map(|(name, _)| *name).collect();
    let vectors: Vec<&str> = others().filter(|(_, dims)| dims.len() == 1).map(|(name, _)| *name).collect();
    let home = |name: &str| name.rsplit_once('.').map_or("", |(home, _)| home).to_string();
    let (bias, of_bias) = match vectors[..] {
        [bias] => (Some(file.tensor(bias)?), Some(home(bias))),
        [] => (None, None),
        _ => return Err(wrong("one bias beside the recurrent network's", vectors.join(", "))),
    };
    let (embedding, weight) = match tables[..] {
        [table] => (table, table),
        [a, b] => {
            let columns = |name: &str| Ok::<_, Error>(matrix(&file.tensor(name)?, name)?.1);
            let sizes = [columns(a)?, columns(b)?];
            // The output's is the one that has a bias; or what sizes say, or else names. Of one table twice either is.
            let with_bias = |name: &str| of_bias.as_deref() == Some(&home(name));
            let found = told_apart(with_bias(b), with_bias(a))
                .or_else(|| {
                    told_apart(sizes == [spec.input, spec.hidden], sizes == [spec.hidden, spec.input])
                })
                .or_else(|| {
                    let named = |first, last| is_named(first, FIRST) || is_named(last, LAST);
                    told_apart(named(a, b), named(b, a))
                });
            match found {
                Some(true) => (a, b),
                Some(false) => (b, a),
                None if same(&file.tensor(a)?, &file.tensor(b)?)? => (a, b),
                None => {
                    let want = "an embedding and a linear layer that a bias, sizes or names tell apart";
                    let hint = "call them embedding.weight and affine.weight in the file";
                    return Err(wrong(want, list()).hint(hint));
                }
            }
        }
        _ => return Err(wrong("an embedding and a linear layer beside the recurrent network", list())),
    };
    let (embedding, weight) = (file.tensor(embedding)?, file.tensor(weight)?);
    let bias = match bias {
        Some(bias) => bias,
        None => Tensor::zeros(matrix(&weight, "weight")?.0, DType::F32, &Device::Cpu)?,
    };
    let biases = match (spec.bias, single) {
        (false, _) => Bias::None,
        (true, false) => Bias::Both,
        (true, true) => Bias::Single,
    };
    assembled(Parts { embedding, weight, bias }, &network, biases, path)
}

/// What people call the two tables.
const FIRST: &[&str] = &["emb", "encoder", "wte", "lookup"];
const LAST: &[&str] = &["affine", "decoder", "out", "head", "linear", "fc", "proj", "logit"];

/// Whether it is the one and not the other; `None` where that says nothing.
fn told_apart(one: bool, other: bool) -> Option<bool> {
    (one != other).then_some(one)
}

fn is_named(name: &str, as_one_of: &[&str]) -> bool {
    let name = name.to_lowercase();
    as_one_of.iter().any(|part| name.contains(part))
}

/// A network whose layers have `bias_ih` alone, as the models of this crate may: the other one is zero.
fn with_one_bias(file: &StateDict, spec: NetworkSpec, prefix: &str, path: &Path) -> Result<Network> {
    let of_file = |error: rnn_core::Error| Error::from(error).at(path.display());
    spec.check().map_err(of_file)?;
    let wanted = spec.shapes();
    let is_of_it = |name: &str| wanted.iter().any(|(other, _)| other == name) && !name.starts_with(BIAS_HH);
    let too_many: Vec<&str> = file
        .shapes()
        .map(|(name, _)| name)
        .filter(|name| name.strip_prefix(prefix).is_some_and(|name| !is_of_it(name)))
        .collect();
    if !too_many.is_empty() {
        let want = format!("a network without {prefix}{}, and no more", convention::name(BIAS_HH, 0));
        return Err(Error::invalid(path.display(), want, too_many.join(", ")).hint(
            "a network has two biases in each layer, or one in each; take out of the file what is not of it",
        ));
    }
    let tensor = |(name, dims): (String, Vec<usize>)| -> Result<(String, Tensor)> {
        let tensor = match name.starts_with(BIAS_HH) {
            true => Tensor::zeros(dims, DType::F32, &Device::Cpu)?,
            false => file.tensor(&format!("{prefix}{name}"))?,
        };
        Ok((name, tensor))
    };
    let tensors = wanted.iter().cloned().map(tensor).collect::<Result<Vec<_>>>()?;
    Network::new(spec, tensors).map_err(of_file)
}

fn assembled(parts: Parts, network: &Network, bias: Bias, path: &Path) -> Result<Imported> {
    let Parts { embedding, weight, bias: of_output } = parts;
    let spec = network.spec();
    let (vocabulary, embed) = matrix(&embedding, "embedding")?;
    let outputs = matrix(&weight, "output weight")?;
    if embed != spec.input || outputs != (vocabulary, spec.hidden) || of_output.dims() != [vocabulary] {
        let want =
            format!("an embedding [V, {}], an output weight [V, {}] and a bias [V]", spec.input, spec.hidden);
        let got = format!("{:?}, {:?} and {:?}", embedding.dims(), weight.dims(), of_output.dims());
        return Err(Error::invalid(path.display(), want, got));
    }
    let cell = match spec.kind {
        Kind::Lstm => CellKind::Lstm,
        Kind::Gru => CellKind::Gru,
        Kind::RnnTanh => CellKind::Rnn,
        // No file says so: of an RNN's shapes tanh is what is taken.
        Kind::RnnRelu => return Err(Error::invalid(path.display(), "rnn (tanh), lstm or gru", "relu")),
    };
    let tied = same(&embedding, &weight)?;
    let mut tensors = vec![(EMBEDDING_WEIGHT.to_string(), embedding)];
    for (name, tensor) in network.tensors() {
        if bias == Bias::Both || !name.starts_with(BIAS_HH) {
            tensors.push((format!("{RNN}.{name}"), tensor.clone()));
        }
    }
    if !tied {
        tensors.push((AFFINE_WEIGHT.into(), weight));
    }
    tensors.push((AFFINE_BIAS.into(), of_output));
    let model = Model {
        cell: cell.to_string(),
        embed,
        hidden: spec.hidden,
        layers: spec.layers,
        bias: bias_name(bias).into(),
        tied,
        ..Model::default()
    };
    Ok(Imported { model, vocabulary, tensors })
}

fn matrix(tensor: &Tensor, what: &str) -> Result<(usize, usize)> {
    tensor.dims2().map_err(|_| Error::invalid(what, "a matrix", format!("{:?}", tensor.dims())))
}

#[cfg(test)]
mod tests;
