//! Weights in and out: PyTorch's files, and other layouts, each in a file of its own.
//!
//! What crosses the border is a [`Network`]: what kind it is, its sizes, and its parameters under PyTorch's names. Every
//! border reads one from its own format or writes one to it, and none knows of another. Whole models, whose variables are more
//! than that, go to PyTorch's files and come from them by their names (`variables.rs`).

pub mod file;
mod gates;
mod layers;
mod layouts;
pub mod onnx;
mod packed;
pub mod pytorch;
mod seeded;
mod variables;

pub use layers::Known;
pub use layouts::{BookLayer, KerasLayer};
pub use packed::Packed;

use crate::cell::{countable, stackable};
use crate::convention::{self, BIAS_HH, BIAS_IH, Direction, Place, WEIGHT_HH, WEIGHT_HR, WEIGHT_IH};
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use indexmap::IndexMap;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

/// The recurrent networks that others know too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A plain one with tanh.
    RnnTanh,
    /// A plain one with max(0, .).
    RnnRelu,
    /// Long short-term memory.
    Lstm,
    /// The gated recurrent unit, reset applied after the product.
    Gru,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::RnnTanh, Self::RnnRelu, Self::Lstm, Self::Gru];

    /// G, the number of gates.
    pub fn gates(self) -> usize {
        gates::ours(self).len()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RnnTanh => "rnn_tanh",
            Self::RnnRelu => "rnn_relu",
            Self::Lstm => "lstm",
            Self::Gru => "gru",
        })
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let named = Self::ALL.into_iter().find(|kind| kind.to_string() == name);
        named.ok_or_else(|| Error::invalid("cell", "rnn_tanh, rnn_relu, lstm or gru", format!("{name:?}")))
    }
}

/// What kind a network is, and its sizes.
///
/// ```
/// use rnn_core::border::{Kind, NetworkSpec};
/// let spec = NetworkSpec { layers: 2, ..NetworkSpec::new(Kind::Lstm, 3, 5) };
/// assert_eq!(spec.shapes()[4], ("weight_ih_l1".to_string(), vec![20, 5]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Which.
    pub kind: Kind,
    /// D
    pub input: usize,
    /// H
    pub hidden: usize,
    /// P of an LSTM with a projection.
    pub projection: Option<usize>,
    /// L
    pub layers: usize,
    /// Whether there are two directions.
    pub bidirectional: bool,
    /// Whether there are biases: both of them.
    pub bias: bool,
}

impl NetworkSpec {
    /// One layer in one direction, with biases and no projection.
    pub fn new(kind: Kind, input: usize, hidden: usize) -> Self {
        Self { kind, input, hidden, projection: None, layers: 1, bidirectional: false, bias: true }
    }

    /// The directions there are.
    pub fn directions(&self) -> &'static [Direction] {
        if self.bidirectional { &Direction::BOTH } else { &Direction::BOTH[..1] }
    }

    /// The size of a direction's output: P, or H without a projection.
    pub fn output(&self) -> usize {
        self.projection.unwrap_or(self.hidden)
    }

    /// The size of the input of layer `k`.
    pub fn input_of(&self, k: usize) -> usize {
        if k == 0 { self.input } else { self.output() * self.directions().len() }
    }

    /// The places of all layers, in PyTorch's order.
    pub fn places(&self) -> Vec<Place> {
        let of_layer = |layer| self.directions().iter().map(move |&direction| Place { layer, direction });
        (0..self.layers).flat_map(of_layer).collect()
    }

    /// Name and shape of every parameter, in PyTorch's order.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let rows = self.kind.gates() * self.hidden;
        let mut shapes = Vec::new();
        for place in self.places() {
            let mut parameter = |name, shape| shapes.push((convention::name(name, place), shape));
            parameter(WEIGHT_IH, vec![rows, self.input_of(place.layer)]);
            parameter(WEIGHT_HH, vec![rows, self.output()]);
            if self.bias {
                parameter(BIAS_IH, vec![rows]);
                parameter(BIAS_HH, vec![rows]);
            }
            if let Some(size) = self.projection {
                parameter(WEIGHT_HR, vec![size, self.hidden]);
            }
        }
        shapes
    }

    /// Every parameter, its name behind `prefix`, and all of one dtype, whichever that is.
    fn wanted(&self, prefix: &str) -> Vec<Wanted> {
        let wanted = |(name, shape)| Wanted { name: format!("{prefix}{name}"), shape, dtype: None };
        self.shapes().into_iter().map(wanted).collect()
    }

    /// Whether there can be such a network.
    ///
    /// # Errors
    /// Where a size is zero or larger than any memory, there are more layers than in any network, or there is a projection that the kind cannot have or that is not
    /// smaller than H.
    pub fn check(&self) -> Result<()> {
        for (name, size) in [("input", self.input), ("hidden", self.hidden)] {
            if size == 0 {
                return Err(Error::invalid(format!("NetworkSpec: {name}"), "at least 1", 0));
            }
        }
        stackable("NetworkSpec", self.layers)?;
        countable("NetworkSpec", self.kind.gates(), (self.input, self.hidden))?;
        match self.projection {
            Some(size) if self.kind != Kind::Lstm || size == 0 || size >= self.hidden => {
                let want = format!("none, or of an lstm one of 1 to {}", self.hidden - 1);
                Err(Error::invalid("NetworkSpec: projection", want, format!("{size} of {}", self.kind)))
            }
            _ => Ok(()),
        }
    }
}

/// A recurrent network as PyTorch has one: its sizes, and its parameters by name.
#[derive(Debug, Clone)]
pub struct Network {
    spec: NetworkSpec,
    tensors: IndexMap<String, Tensor>,
}

impl Network {
    /// A network of these parameters, which have to be those of `spec`, no more and no fewer.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use rnn_core::border::{Kind, Network, NetworkSpec};
    /// let spec = NetworkSpec { bias: false, ..NetworkSpec::new(Kind::Gru, 2, 1) };
    /// let weight = Tensor::zeros((3, 2), DType::F32, &Device::Cpu)?;
    /// let error = Network::new(spec, [("weight_ih_l0".to_string(), weight)]).unwrap_err().to_string();
    /// assert_eq!(error, "Network: weight_hh_l0: expected a tensor [3, 1], got none");
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where one is missing, misshapen, too many or there twice, or not of the first one's dtype: all that are wrong are named.
    pub fn new(spec: NetworkSpec, tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        spec.check()?;
        let given: Vec<(String, Tensor)> = tensors.into_iter().collect();
        let found =
            given.iter().map(|(name, tensor)| (name.as_str(), tensor.dims(), tensor.dtype().as_str()));
        compare("Network", &spec.wanted(""), found)?;
        let mut given: IndexMap<String, Tensor> = given.into_iter().collect();
        let named = spec.shapes().into_iter();
        let tensors = named.filter_map(|(name, _)| given.swap_remove_entry(&name)).collect();
        Ok(Self { spec, tensors })
    }

    /// What it is.
    pub fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    /// Name and tensor of every parameter, in PyTorch's order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// A parameter of the layer at `place`; `None` where the network has no such one.
    pub fn get(&self, parameter: &str, place: impl Into<Place>) -> Option<&Tensor> {
        self.tensors.get(&convention::name(parameter, place))
    }
}

/// A tensor that is wanted.
struct Wanted {
    name: String,
    shape: Vec<usize>,
    /// `None`: whatever the first one of these has.
    dtype: Option<DType>,
}

/// Holds name, shape and dtype of what is given against what is wanted, no more and no fewer.
///
/// # Errors
/// One error that names every one that is wrong.
fn compare<'a>(
    op: &str,
    wanted: &[Wanted],
    given: impl IntoIterator<Item = (&'a str, &'a [usize], &'a str)>,
) -> Result<()> {
    let mut wrong = Vec::new();
    let mut there: IndexMap<&str, (&[usize], &str)> = IndexMap::new();
    for (name, dims, dtype) in given {
        if there.insert(name, (dims, dtype)).is_some() {
            wrong.push((name, "one of that name".to_string(), "two".to_string()));
        }
    }
    let mut asked = HashSet::new();
    let mut of_all = None;
    for Wanted { name, shape, dtype } in wanted {
        if !asked.insert(name.as_str()) {
            wrong.push((name, "to be wanted once".to_string(), "twice".to_string()));
        }
        match there.get(name.as_str()) {
            None => wrong.push((name.as_str(), format!("a tensor {shape:?}"), "none".to_string())),
            Some((dims, _)) if dims != shape => wrong.push((name, format!("{shape:?}"), format!("{dims:?}"))),
            Some(&(_, got)) => {
                let want = dtype.map_or_else(|| *of_all.get_or_insert(got), |dtype| dtype.as_str());
                if got != want {
                    wrong.push((name, want.to_string(), got.to_string()));
                }
            }
        }
    }
    let others = there.keys().filter(|&&name| !asked.contains(name));
    wrong.extend(others.map(|&name| (name, "no such tensor".to_string(), "one".to_string())));
    let mut wrong = wrong.into_iter();
    let Some((name, want, got)) = wrong.next() else { return Ok(()) };
    let others: Vec<String> =
        wrong.map(|(name, want, got)| format!("{name}: expected {want}, got {got}")).collect();
    let error = Error::invalid(format!("{op}: {name}"), want, got);
    Err(if others.is_empty() { error } else { error.hint(others.join("; ")) })
}
