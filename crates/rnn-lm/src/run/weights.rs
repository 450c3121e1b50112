//! A model's weights in a file of safetensors, under PyTorch's names: a `state_dict`, there and back.

use super::{MODEL, Run, there};
use crate::checksum::checksum;
use crate::model::names::{AFFINE_WEIGHT, EMBEDDING_WEIGHT};
use crate::tokenizer::Tokenizer;
use crate::{Error, LanguageModel, Result};
use candle_core::{DType, Tensor};
use indexmap::IndexMap;
use rnn_core::border::pytorch::StateDict;
use rnn_core::border::{Packed, file};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// The key in the file's metadata of what a run knows its weights by. Files from elsewhere have none. One key, for several would
/// have no order, and the same weights are the same file.
const RUN: &str = "run";

/// What stands there.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// What tells the run's tokenizer from others.
    tokens: String,
    /// A file can be damaged and still be read.
    crc32: String,
}

/// Whether two tables are one.
pub(super) fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    let (a, b) = (a.to_dtype(DType::F32)?, b.to_dtype(DType::F32)?);
    Ok(a.dims() == b.dims() && (a - b)?.abs()?.sum_all()?.to_scalar::<f32>()? == 0.0)
}

/// Writes them; a file of that name stays as it is until the new one is whole.
pub(super) fn save(
    tensors: impl IntoIterator<Item = (String, Tensor)>,
    path: &Path,
    tokenizer: &Tokenizer,
) -> Result<()> {
    let pack =
        |(name, tensor): (String, Tensor)| Ok(Packed::new("Run::save", name, &tensor.to_dtype(DType::F32)?)?);
    let all = tensors.into_iter().map(pack).collect::<Result<Vec<_>>>()?;
    let crc32 = checksum([], all.iter().map(|packed| (packed.name.as_str(), packed.bytes.as_slice())));
    let written = serde_json::to_string(&Written { tokens: tokenizer.fingerprint(), crc32 })
        .map_err(|error| Error::invalid("Run::save", "what JSON has", error))?;
    let bytes = Packed::safetensors(&all, HashMap::from([(RUN.to_string(), written)]))?;
    Ok(file::write(path, &bytes)?)
}

impl Run {
    /// How many parameters it has; none where it has no weights yet.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn parameters(&self) -> Result<Option<usize>> {
        if !self.has(MODEL)? {
            return Ok(None);
        }
        let weights = StateDict::read(self.path(MODEL))?;
        let shapes: IndexMap<_, _> = weights.shapes().collect();
        let twice = self.config.model.tied && shapes.contains_key(EMBEDDING_WEIGHT);
        let counted = shapes.iter().filter(|(name, _)| !(twice && **name == AFFINE_WEIGHT));
        Ok(Some(counted.map(|(_, dims)| dims.iter().product::<usize>()).sum()))
    }
}

/// Reads those of a run into a model: all, or none where one is missing, misshapen or too many.
pub(super) fn load(model: &dyn LanguageModel, run: &Run) -> Result<()> {
    let tensors = of_model(model, run)?;
    for ((_, var), tensor) in model.parameters().iter().zip(&tensors) {
        var.set(tensor)?;
    }
    Ok(())
}

/// Whether a model could be given those of a run.
pub(super) fn check(model: &dyn LanguageModel, run: &Run) -> Result<()> {
    of_model(model, run).map(drop)
}

/// Those of a run, one for each parameter of the model.
fn of_model(model: &dyn LanguageModel, run: &Run) -> Result<Vec<Tensor>> {
    let path = &run.path(MODEL);
    if !there(path)? {
        return Err(Error::invalid(path.display(), "the weights of a run", "no such file")
            .hint("was its training stopped before the first evaluation? `rnn-lm resume` goes on"));
    }
    let bytes = file::read(path)?;
    let written = written(&bytes);
    if let Some(written) = &written
        && crc32_of(&bytes).is_some_and(|crc32| crc32 != written.crc32)
    {
        let got = "a file that is damaged: its checksum is another";
        return Err(Error::invalid(path.display(), "the weights that a run has written", got)
            .hint("put back a copy of it; one without metadata, as from elsewhere, is not checked"));
    }
    let weights = StateDict::from_bytes(path, bytes)?;
    let parameters = model.parameters();
    let (tied, has) = (run.config.model.tied, |name: &str| weights.shapes().any(|(other, _)| other == name));
    // A tied model of PyTorch has its one table under two names; files have one of them or both.
    let name_there =
        |name| if tied && name == EMBEDDING_WEIGHT && !has(EMBEDDING_WEIGHT) { AFFINE_WEIGHT } else { name };
    let again = tied
        && has(AFFINE_WEIGHT)
        && (!has(EMBEDDING_WEIGHT)
            || same(&weights.tensor(EMBEDDING_WEIGHT)?, &weights.tensor(AFFINE_WEIGHT)?)?);
    let mut wrong = Vec::new();
    for (name, var) in &parameters {
        match weights.shapes().find(|(other, _)| *other == name_there(name)) {
            None => wrong.push(format!("{name} is missing")),
            Some((_, dims)) if dims != var.dims() => {
                wrong.push(format!("{name} is {dims:?}, not {:?}", var.dims()));
            }
            Some(_) => {}
        }
    }
    for (name, _) in weights.shapes() {
        if parameters.iter().all(|(other, _)| other != name) && !(again && name == AFFINE_WEIGHT) {
            wrong.push(format!("{name} is one too many"));
        }
    }
    if !wrong.is_empty() {
        let model = &run.config.model;
        let want = format!(
            "the weights of the model in config.toml ({}, embed {}, bias {}, tied {})",
            model.sizes(),
            model.embed,
            model.bias,
            model.tied
        );
        return Err(Error::invalid(path.display(), want, wrong.join("; "))
            .hint("are config.toml and tokenizer.json those that belong to it?"));
    }
    if written.is_some_and(|written| written.tokens != run.tokenizer.fingerprint()) {
        let got = "that of another run: its ids mean other tokens";
        return Err(Error::invalid(
            run.path(super::TOKENIZER).display(),
            "the tokenizer of these weights",
            got,
        )
        .hint("put back the tokenizer.json that was made with model.safetensors"));
    }
    let tensors = parameters.iter().map(|(name, var)| {
        let tensor = weights.tensor(name_there(name))?.to_dtype(var.dtype())?.to_device(var.device())?;
        Ok(tensor.contiguous()?)
    });
    tensors.collect()
}

/// What a run has written into a file of weights; what is damaged there counts as from elsewhere.
fn written(file: &[u8]) -> Option<Written> {
    let (_, header) = SafeTensors::read_metadata(file).ok()?;
    serde_json::from_str(header.metadata().as_ref()?.get(RUN)?).ok()
}

/// The checksum of its tensors; none of what is no such file, which whoever reads it says.
fn crc32_of(file: &[u8]) -> Option<String> {
    let file = SafeTensors::deserialize(file).ok()?;
    let tensors = file.tensors();
    Some(checksum([], tensors.iter().map(|(name, view)| (name.as_str(), view.data()))))
}
