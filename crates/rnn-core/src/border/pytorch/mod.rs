//! PyTorch's files: a state_dict in safetensors, or in what `torch.save` writes (`.pt`, `.pth`).
//!
//! Both are read into memory and looked at before anything is believed: a file that is cut short, damaged, of another
//! kind, or that names code to run is an [`Error`] that says so. Nothing of it is run.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use rnn_core::border::pytorch::StateDict;
//! use rnn_core::{Bidirectional, LstmCell, Recurrent};
//! let file = StateDict::read("tests/fixtures/pytorch/lstm.pt")?;
//! let network = file.network(&file.spec("encoder.rnn.")?, "encoder.rnn.")?;
//! let lstm = network.stack::<Bidirectional<LstmCell>>()?;
//! let xs = Tensor::ones((1, 2, 3), DType::F32, &Device::Cpu)?;
//! let (hs, _) = lstm.infer(&xs, &lstm.zero_state(1)?)?;
//! assert_eq!(hs.dims(), [1, 2, 4]);
//! # rnn_core::Result::Ok(())
//! ```

mod archive;
mod guess;
mod pickle;

use super::packed::named_once;
use super::{Network, NetworkSpec, Packed, Wanted, compare, file};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, Var};
use indexmap::IndexMap;
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The dtypes that can be read, as storages of a pickle are called and as safetensors calls them.
const DTYPES: [(&str, safetensors::Dtype, DType); 8] = [
    ("Float", safetensors::Dtype::F32, DType::F32),
    ("Double", safetensors::Dtype::F64, DType::F64),
    ("Half", safetensors::Dtype::F16, DType::F16),
    ("BFloat16", safetensors::Dtype::BF16, DType::BF16),
    ("Byte", safetensors::Dtype::U8, DType::U8),
    ("Short", safetensors::Dtype::I16, DType::I16),
    ("Int", safetensors::Dtype::I32, DType::I32),
    ("Long", safetensors::Dtype::I64, DType::I64),
];

fn dtype_of(class: &str) -> Option<DType> {
    DTYPES.into_iter().find(|(name, ..)| *name == class).map(|(.., dtype)| dtype)
}

fn class_of(dtype: DType) -> &'static str {
    DTYPES.into_iter().find(|(.., known)| *known == dtype).map_or("", |(class, ..)| class)
}

/// What a file holds under a name.
#[derive(Debug)]
enum Entry {
    Tensor {
        /// What the file calls the dtype.
        called: Arc<str>,
        dtype: Option<DType>,
        numbers: Numbers,
    },
    Other,
}

/// Where a tensor's numbers are; whether they are there is checked when they are read.
#[derive(Debug)]
struct Numbers {
    /// The bytes of the file that they are among.
    range: Range<usize>,
    dims: Vec<usize>,
    /// Counted in numbers, as is the offset.
    strides: Vec<usize>,
    offset: usize,
}

/// How many numbers of a network there may be for each byte of its file.
const SHARED: usize = 8;

/// The two formats, told by a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Safetensors,
    Archive,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("pt" | "pth") => Ok(Self::Archive),
            other => {
                let got = other.map_or("none".into(), |other| format!(".{other}"));
                let want = "a name that ends in .safetensors, .pt or .pth";
                Err(Error::invalid(path.display(), want, got)
                    .hint("by that it is known what is in the file: rename it if it is one of these"))
            }
        }
    }
}

/// The tensors of a file by name. Their numbers are looked at one tensor at a time.
///
/// A dict within a dict has its names joined by dots: what `torch.save({"model": module.state_dict()}, file)` saved has
/// names that begin with `model.`.
///
/// ```
/// use rnn_core::border::pytorch::StateDict;
/// use rnn_core::border::{Kind, NetworkSpec};
/// let file = StateDict::read("tests/fixtures/pytorch/gru.safetensors")?;
/// let weight = file.shapes().find(|(name, _)| *name == "rnn.weight_ih_l0");
/// assert_eq!(weight, Some(("rnn.weight_ih_l0", [12, 3].as_slice())));
/// assert_eq!(file.spec("rnn.")?, NetworkSpec::new(Kind::Gru, 3, 4));
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct StateDict {
    /// The file's name, for errors.
    source: String,
    bytes: Vec<u8>,
    entries: IndexMap<String, Entry>,
    dtype: Option<DType>,
}

impl StateDict {
    /// What is in a file whose name ends in `.safetensors`, `.pt` or `.pth`.
    ///
    /// # Errors
    /// Where it cannot be read, or is not a state_dict.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Format::of(path)?;
        Self::from_bytes(path, file::read(path)?)
    }

    /// What is in the bytes of a file of that name, wherever they come from.
    ///
    /// # Errors
    /// Where the name ends otherwise, or they are not a state_dict.
    pub fn from_bytes(name: impl AsRef<Path>, bytes: Vec<u8>) -> Result<Self> {
        let (format, source) = (Format::of(name.as_ref())?, name.as_ref().display().to_string());
        let entries = match format {
            Format::Safetensors => of_safetensors(&source, &bytes)?,
            Format::Archive => archive::read(&source, &bytes)?,
        };
        Ok(Self { source, bytes, entries, dtype: None })
    }

    /// The same with floats converted to `dtype` as they are read; where that is no type of floats, reading one is an error.
    #[must_use]
    pub fn with_dtype(self, dtype: DType) -> Self {
        Self { dtype: Some(dtype), ..self }
    }

    /// Name and shape of every tensor, in the file's order.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.entries.iter().filter_map(|(name, entry)| match entry {
            Entry::Tensor { numbers, .. } => Some((name.as_str(), numbers.dims.as_slice())),
            Entry::Other => None,
        })
    }

    /// What network stands under `prefix`, as [`NetworkSpec::guess`] tells.
    ///
    /// # Errors
    /// Where there is none.
    pub fn spec(&self, prefix: &str) -> Result<NetworkSpec> {
        NetworkSpec::guess(self.shapes(), prefix)
    }

    /// The network under `prefix`, such as `"rnn."` or `""`. All that stands there has to be of it; the rest of the file
    /// is not looked at.
    ///
    /// ```
    /// use rnn_core::border::pytorch::StateDict;
    /// let file = StateDict::read("tests/fixtures/pytorch/gru.safetensors")?;
    /// let error = file.network(&file.spec("rnn.")?, "").unwrap_err().to_string();
    /// assert!(error.contains("weight_ih_l0: expected a tensor [12, 3], got none"), "{error}");
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where a parameter is missing, misshapen or too many, or not of the first one's dtype: all that are wrong are named.
    /// And where they are neither f32 nor f64 and [`Self::with_dtype`] was not asked to convert them.
    pub fn network(&self, spec: &NetworkSpec, prefix: &str) -> Result<Network> {
        spec.check()?;
        let wanted = spec.wanted(prefix);
        self.hold_against(&wanted, prefix)?;
        let tensors = wanted.iter().map(|Wanted { name, .. }| {
            let tensor = self.tensor(name)?;
            match tensor.dtype() {
                DType::F32 | DType::F64 => Ok((name[prefix.len()..].to_string(), tensor)),
                other => {
                    Err(Error::invalid(format!("{}: {name}", self.source), "f32 or f64", other.as_str())
                        .hint("StateDict::with_dtype converts floats"))
                }
            }
        });
        Network::new(*spec, tensors.collect::<Result<Vec<_>>>()?)
    }

    /// Holds all that stands under `prefix`, as it is read, against what is wanted there, no more and no fewer.
    ///
    /// # Errors
    /// One error that names every one that is wrong.
    pub(super) fn hold_against(&self, wanted: &[Wanted], prefix: &str) -> Result<()> {
        let inside = self.entries.iter().filter(|(name, _)| name.starts_with(prefix));
        let given = inside.map(|(name, entry)| match entry {
            Entry::Other => (name.as_str(), [].as_slice(), "no tensor"),
            Entry::Tensor { called, dtype, numbers } => {
                let read = dtype.map(|dtype| self.dtype.filter(|_| dtype.is_float()).unwrap_or(dtype));
                (name.as_str(), numbers.dims.as_slice(), read.map_or(&**called, |dtype| dtype.as_str()))
            }
        });
        compare(&self.source, wanted, given)?;
        self.check_amount(wanted)
    }

    /// Tensors may share their numbers, and a small file could so ask for more memory than there is.
    fn check_amount(&self, wanted: &[Wanted]) -> Result<()> {
        let count = |dims: &Vec<usize>| dims.iter().fold(1usize, |all, &dim| all.saturating_mul(dim));
        let all = wanted.iter().fold(0usize, |all, wanted| all.saturating_add(count(&wanted.shape)));
        let most = self.bytes.len().saturating_mul(SHARED);
        if all > most {
            let want = format!("at most {most} numbers, {SHARED} for each byte");
            return Err(Error::invalid(&self.source, want, all));
        }
        Ok(())
    }

    /// A tensor by its whole name.
    ///
    /// # Errors
    /// Where there is none of that name, it is of a dtype that candle does not have, or its numbers are not all in the
    /// file, each in one place.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let wrong = |want: &str, got: String| Error::invalid(format!("{}: {name}", self.source), want, got);
        let (called, dtype, numbers) = match self.entries.get(name) {
            Some(Entry::Tensor { called, dtype, numbers }) => (called, dtype, numbers),
            Some(Entry::Other) => return Err(wrong("a tensor", "something else".into())),
            None => return Err(wrong("a tensor", "none".into())),
        };
        let dtype = dtype.ok_or_else(|| wrong("floats or whole numbers", called.to_string()))?;
        let bytes = numbers.gather(&self.bytes, dtype.size_in_bytes()).ok_or_else(|| {
            let Numbers { dims, strides, offset, .. } = numbers;
            wrong("numbers that are there", format!("{dims:?} of strides {strides:?} from {offset} on"))
                .hint("an expanded tensor has to be made contiguous before it is saved")
        })?;
        let tensor = Tensor::from_raw_buffer(&bytes, dtype, &numbers.dims, &Device::Cpu)?;
        match self.dtype.filter(|_| dtype.is_float()) {
            Some(wanted) if !wanted.is_float() => {
                let got = wanted.as_str();
                Err(Error::invalid("StateDict::with_dtype: dtype", "a type of floats", got))
            }
            Some(wanted) => Ok(tensor.to_dtype(wanted)?),
            None => Ok(tensor),
        }
    }
}

impl Numbers {
    /// The bytes of the numbers in the order of their places in the tensor; `None` where one is outside, or there are
    /// more of them than the file has.
    fn gather(&self, file: &[u8], size: usize) -> Option<Vec<u8>> {
        let storage = file.get(self.range.clone())?;
        // Sizes beside a zero too: what reads them multiplies them in any order.
        let count = self.dims.iter().try_fold(1usize, |all, &dim| all.checked_mul(dim.max(1)))?;
        if self.dims.contains(&0) {
            return Some(Vec::new());
        }
        let held = storage.len() / size;
        let reach = self.dims.iter().zip(&self.strides).try_fold(self.offset, |last, (&dim, &stride)| {
            (dim - 1).checked_mul(stride).and_then(|steps| last.checked_add(steps))
        })?;
        if reach >= held || count > held {
            return None;
        }
        if contiguous(&self.dims) == self.strides {
            return storage.get(self.offset * size..(self.offset + count) * size).map(<[u8]>::to_vec);
        }
        let (mut bytes, mut index, mut at) =
            (Vec::with_capacity(count * size), vec![0; self.dims.len()], self.offset);
        for _ in 0..count {
            bytes.extend_from_slice(storage.get(at * size..(at + 1) * size)?);
            for (k, (&dim, &stride)) in self.dims.iter().zip(&self.strides).enumerate().rev() {
                if index[k] + 1 < dim {
                    index[k] += 1;
                    at += stride;
                    break;
                }
                at -= index[k] * stride;
                index[k] = 0;
            }
        }
        Some(bytes)
    }
}

/// The strides of a tensor whose numbers stand in order, as far as they can be counted.
fn contiguous(dims: &[usize]) -> Vec<usize> {
    let stride = |k: usize| dims[k + 1..].iter().fold(1usize, |all, &dim| all.saturating_mul(dim));
    (0..dims.len()).map(stride).collect()
}

fn of_safetensors(source: &str, bytes: &[u8]) -> Result<IndexMap<String, Entry>> {
    let wrong = |error: &dyn std::fmt::Display| {
        Error::invalid(source, "a file in safetensors", error)
            .hint("it is of another format, damaged or cut off: write it or copy it again")
    };
    let views = SafeTensors::deserialize(bytes).map_err(|error| wrong(&error))?;
    let mut entries = IndexMap::new();
    let mut views: Vec<_> = views.iter().collect();
    // They come out of a hash map.
    views.sort_unstable_by_key(|(name, view)| (view.data().as_ptr().addr(), *name));
    for (name, view) in views {
        let dtype = DTYPES.into_iter().find(|(_, known, _)| *known == view.dtype()).map(|(.., dtype)| dtype);
        // The view is a part of the file.
        let start = view.data().as_ptr().addr() - bytes.as_ptr().addr();
        let (range, dims) = (start..start + view.data().len(), view.shape().to_vec());
        let numbers = Numbers { range, strides: contiguous(&dims), dims, offset: 0 };
        let called = view.dtype().to_string().into();
        entries.insert(name.to_string(), Entry::Tensor { called, dtype, numbers });
    }
    Ok(entries)
}

impl Network {
    /// Reads the network under `prefix` from a file of PyTorch's; see [`StateDict::network`].
    ///
    /// ```
    /// use rnn_core::border::{Kind, Network, NetworkSpec};
    /// let spec = NetworkSpec::new(Kind::Gru, 3, 4);
    /// let network = Network::read("tests/fixtures/pytorch/gru.safetensors", &spec, "rnn.")?;
    /// assert_eq!(network.tensors().count(), 4);
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Those of [`StateDict::read`] and [`StateDict::network`].
    pub fn read(path: impl AsRef<Path>, spec: &NetworkSpec, prefix: &str) -> Result<Self> {
        StateDict::read(path)?.network(spec, prefix)
    }

    /// Writes the network as a state_dict whose names begin with `prefix`, in the format that the file's name says:
    /// `.safetensors`, `.pt` or `.pth`. The same network gives the same bytes. A file of that name stays as it is until
    /// the new one is whole.
    ///
    /// # Errors
    /// Where the name says neither, the parameters are neither f32 nor f64, or the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>, prefix: &str) -> Result<()> {
        let tensors = self.tensors().map(|(name, tensor)| {
            let packed = Packed::new("Network::write", name.to_string(), tensor)?;
            Ok(Packed { name: format!("{prefix}{name}"), ..packed })
        });
        write(path.as_ref(), tensors)
    }
}

/// Writes variables as a state_dict, in the format that the file's name says: `.safetensors`, `.pt` or `.pth`. The same ones
/// give the same bytes. A file of that name stays as it is until the new one is whole. [`StateDict::assign`] reads them back.
///
/// # Errors
/// Where the name says neither, two variables have one name, they are neither f32 nor f64, or the file cannot be written.
pub fn save(path: impl AsRef<Path>, variables: &[(String, Var)]) -> Result<()> {
    let pack = |(name, var): &(String, Var)| Packed::new("pytorch::save", name.clone(), var.as_tensor());
    write(path.as_ref(), variables.iter().map(pack))
}

fn write(path: &Path, tensors: impl Iterator<Item = Result<Packed>>) -> Result<()> {
    let format = Format::of(path)?;
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let bytes = match format {
        Format::Archive => archive::write(named_once(&tensors)?)?,
        Format::Safetensors => {
            // As PyTorch's own writer has it; some readers ask for it.
            let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
            Packed::safetensors(&tensors, metadata)?
        }
    };
    file::write(path, &bytes)
}
