//! All that a training needs to go on as if it had not stopped, in one file.

use super::Rate;
use crate::checksum::checksum;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use rnn_core::border::{Packed, file};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// Where a training stands, as one file of safetensors.
///
/// | tensors | what |
/// |---|---|
/// | `model.*` | the parameters |
/// | `optimizer.*` | what the rule keeps, such as `optimizer.mean.affine.bias` |
/// | `average.*` | the mean of the weights, once there is one |
/// | `gradient.*` | the mean of those of windows that wait for a step |
/// | `state.*` | the state that is carried into the next window |
///
/// What is no tensor stands in the file's metadata, as JSON under `training`: its numbers, what else a run wants to know again,
/// and a checksum. One key, for several would have no order, and the same training is the same file.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    tensors: Vec<(String, Tensor)>,
    numbers: String,
    notes: String,
}

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Position {
    /// Steps done in all.
    pub steps: u64,
    /// Epochs done.
    pub epochs: usize,
    /// Windows read of the next one.
    pub read: usize,
    /// The rate, which knows what was measured.
    pub rate: Rate,
}

/// The metadata's key.
const HEADER: &str = "training";

/// What stands there.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// The trainer's, as JSON.
    numbers: String,
    /// What others than the trainer want to know again, as JSON.
    notes: String,
    /// A file can be damaged and still be read.
    crc32: String,
}

impl Checkpoint {
    /// Of numbers that are no tensors.
    ///
    /// # Errors
    /// Where they cannot be written as JSON.
    pub fn new(numbers: &impl Serialize) -> Result<Self> {
        Ok(Self { tensors: Vec::new(), numbers: json(numbers)?, notes: "null".into() })
    }

    /// With notes of whoever keeps it.
    ///
    /// # Errors
    /// Where they cannot be written as JSON.
    pub fn with_notes(self, notes: &impl Serialize) -> Result<Self> {
        Ok(Self { notes: json(notes)?, ..self })
    }

    /// Those notes.
    ///
    /// # Errors
    /// Where they are others than `N` has.
    pub fn notes<N: DeserializeOwned>(&self) -> Result<N> {
        serde_json::from_str(&self.notes)
            .map_err(|error| Error::invalid("Checkpoint", "the notes of a run", error))
    }

    /// Those numbers.
    ///
    /// # Errors
    /// Where they are others than `N` has.
    pub fn numbers<N: DeserializeOwned>(&self) -> Result<N> {
        serde_json::from_str(&self.numbers)
            .map_err(|error| Error::invalid("Checkpoint", "the numbers of a training", error))
    }

    /// How far the training is.
    ///
    /// # Errors
    /// Where it has no such numbers.
    pub fn position(&self) -> Result<Position> {
        self.numbers()
    }

    /// Puts tensors in, each under `prefix.name`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn put<'a>(
        &mut self,
        prefix: &str,
        tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    ) -> Result<()> {
        for (name, tensor) in tensors {
            self.tensors.push((format!("{prefix}.{name}"), tensor.copy()?));
        }
        Ok(())
    }

    /// The tensor of this full name.
    ///
    /// # Errors
    /// Where there is none.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let found = self.tensors.iter().find(|(other, _)| other == name);
        let found = found.map(|(_, tensor)| tensor.clone());
        found.ok_or_else(|| Error::invalid("Checkpoint", name, "no tensor of that name"))
    }

    /// Names and tensors under `prefix`, without it.
    pub fn under(&self, prefix: &str) -> Vec<(String, Tensor)> {
        let short = |name: &str| Some(name.strip_prefix(prefix)?.strip_prefix('.')?.to_string());
        self.tensors.iter().filter_map(|(name, tensor)| Some((short(name)?, tensor.clone()))).collect()
    }

    /// Writes it; a file of that name stays as it is until the new one is whole.
    ///
    /// # Errors
    /// Where a tensor is neither f32 nor f64, or the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let pack = |(name, tensor): &(String, Tensor)| Packed::new("Checkpoint", name.clone(), tensor);
        let all = self.tensors.iter().map(pack).collect::<rnn_core::Result<Vec<_>>>()?;
        let named = all.iter().map(|packed| (packed.name.as_str(), packed.bytes.as_slice()));
        let crc32 = checksum([&*self.numbers, &*self.notes], named);
        let header = Header { numbers: self.numbers.clone(), notes: self.notes.clone(), crc32 };
        let bytes = Packed::safetensors(&all, HashMap::from([(HEADER.to_string(), json(&header)?)]))?;
        Ok(file::write(path.as_ref(), &bytes)?)
    }

    /// Reads one back.
    ///
    /// # Errors
    /// Where the file cannot be read, is no checkpoint, or is damaged.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |got: String| Error::invalid(path.display(), "a checkpoint of a training", got);
        let bytes = file::read(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| wrong(error.to_string()))?;
        let metadata = header.metadata().as_ref();
        let header = metadata.and_then(|metadata| serde_json::from_str(metadata.get(HEADER)?).ok());
        let Some(Header { numbers, notes, crc32 }) = header else {
            let early = metadata.is_some_and(|metadata| metadata.contains_key("crc32"));
            let got = if early { "one of an earlier version" } else { "a file of safetensors that is none" };
            return Err(wrong(got.into()));
        };
        let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
        let mut tensors = Vec::new();
        for name in file.names() {
            let view = file.tensor(name).map_err(|error| wrong(error.to_string()))?;
            let dtype = match view.dtype() {
                Dtype::F32 => DType::F32,
                Dtype::F64 => DType::F64,
                other => return Err(wrong(format!("{name} of type {other:?}"))),
            };
            let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
            tensors.push((name.to_string(), tensor, view.data()));
        }
        tensors.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let named = tensors.iter().map(|(name, _, data)| (name.as_str(), *data));
        if checksum([&*numbers, &*notes], named) != crc32 {
            return Err(wrong("one that is damaged: its checksum is another".into()));
        }
        let tensors = tensors.into_iter().map(|(name, tensor, _)| (name, tensor)).collect();
        Ok(Self { tensors, numbers, notes })
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::invalid("Checkpoint", "what JSON has", error))
}
