//! From a network to layers and back: a stack that runs it, and the network that a stack is.

use super::{Kind, Network, NetworkSpec};
use crate::cell::{Bias, Cell, GruCell, LayerSpec, LstmCell, RnnCell};
use crate::convention::{BIAS_HH, Direction, Place, name};
use crate::time::{Layer, Stack};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use std::collections::HashMap;

/// A cell that others have too.
pub trait Known: Cell {
    /// What others call it.
    fn kind(&self) -> Kind;

    /// A cell of `kind` with the parameters of `spec` from `vb`.
    ///
    /// # Errors
    /// Those of [`Cell::new`], and where this is not a cell of that kind.
    fn of_kind(kind: Kind, spec: LayerSpec, vb: VarBuilder) -> Result<Self>;
}

fn other<C>(want: &str, kind: Kind) -> Result<C> {
    Err(Error::invalid("Network: cell", want, kind)
        .hint("the network is of another kind than the stack's cell"))
}

impl Known for RnnCell {
    fn kind(&self) -> Kind {
        if self.is_relu() { Kind::RnnRelu } else { Kind::RnnTanh }
    }

    fn of_kind(kind: Kind, spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        match kind {
            Kind::RnnTanh => Self::new(spec, vb),
            Kind::RnnRelu => Self::relu(spec, vb),
            _ => other("rnn_tanh or rnn_relu", kind),
        }
    }
}

impl Known for LstmCell {
    fn kind(&self) -> Kind {
        Kind::Lstm
    }

    fn of_kind(kind: Kind, spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        if kind == Kind::Lstm { Self::new(spec, vb) } else { other("lstm", kind) }
    }
}

impl Known for GruCell {
    fn kind(&self) -> Kind {
        Kind::Gru
    }

    fn of_kind(kind: Kind, spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        if kind == Kind::Gru { Self::new(spec, vb) } else { other("gru", kind) }
    }
}

impl NetworkSpec {
    /// What the first layer of a [`Stack`] of this network is made by.
    pub fn layer(&self) -> LayerSpec {
        let bias = if self.bias { Bias::Both } else { Bias::None };
        LayerSpec { projection: self.projection, ..LayerSpec::new(self.input, self.hidden).bias(bias) }
    }
}

impl Network {
    /// The network that a stack is, its parameters copied: training that goes on does not change them. A single bias is
    /// `bias_ih`, beside a `bias_hh` of zeros.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use rnn_core::border::{Kind, Network};
    /// use rnn_core::{LayerSpec, LstmCell, Parameters, Stack, TimeRnn};
    /// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
    /// let stack = Stack::<TimeRnn<LstmCell>>::new(LayerSpec::new(3, 4), 2, &parameters.builder())?;
    /// let network = Network::of(&stack)?;
    /// assert_eq!((network.spec().kind, network.tensors().count()), (Kind::Lstm, 8));
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where its layers differ in more than the size of the input, a cell has parameters of its own, a layer has zoneout, which acts
    /// without dropout too (by its expectation), or one of one direction reads from the end; none of it has a name elsewhere.
    pub fn of<R: Layer>(stack: &Stack<R>) -> Result<Self>
    where
        R::Cell: Known,
    {
        let mut tensors = Vec::new();
        let mut spec: Option<NetworkSpec> = None;
        for (layer, made) in stack.layers().iter().enumerate() {
            for (direction, way) in Direction::BOTH.into_iter().zip(made.directions()) {
                let (cell, place) = (way.cell(), Place { layer, direction });
                if cell.spec().place.direction != direction {
                    let op = format!("Network::of: layer {layer}");
                    return Err(Error::invalid(
                        op,
                        "a layer that reads forward, or both ways",
                        "one that reads from the end",
                    )
                    .hint("reverse its input and its outputs outside, or make the stack of Bidirectional"));
                }
                if way.regularisers().zones_out() {
                    let op = format!("Network::of: layer {place}");
                    return Err(Error::invalid(op, "a layer without zoneout", "one with it")
                        .hint("other libraries have none, and would give other numbers"));
                }
                let of_cell = NetworkSpec {
                    projection: cell.spec().projection,
                    layers: stack.layers().len(),
                    bidirectional: made.directions().len() > 1,
                    bias: cell.spec().bias != Bias::None,
                    ..NetworkSpec::new(cell.kind(), cell.spec().input, cell.spec().hidden)
                };
                let first = *spec.get_or_insert(of_cell);
                if of_cell != (NetworkSpec { input: of_cell.input, ..first }) {
                    let op = format!("Network::of: layer {place}");
                    let want = format!("what the first one is, {first:?}");
                    return Err(Error::invalid(op, want, format!("{of_cell:?}")));
                }
                for (name, tensor) in cell.params().named(place) {
                    tensors.push((name, tensor.detach().force_contiguous()?));
                }
                if let (Bias::Single, Some(bias)) = (cell.spec().bias, &cell.params().bias_ih) {
                    tensors.push((name(BIAS_HH, place), bias.detach().zeros_like()?));
                }
            }
        }
        let spec = spec.ok_or_else(|| Error::invalid("Network::of", "a layer", "none"))?;
        Self::new(spec, tensors)
    }

    /// A stack that runs the network. Its parameters are constants; [`Parameters::load`](crate::Parameters::load) is for training on.
    ///
    /// ```
    /// use rnn_core::border::Network;
    /// use rnn_core::border::pytorch::StateDict;
    /// use rnn_core::{GruCell, Recurrent, RnnCell, TimeRnn};
    /// let file = StateDict::read("tests/fixtures/pytorch/gru.safetensors")?;
    /// let network = file.network(&file.spec("rnn.")?, "rnn.")?;
    /// assert_eq!(network.stack::<TimeRnn<GruCell>>()?.output_size(), 4);
    /// assert!(network.stack::<TimeRnn<RnnCell>>().is_err());
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where `R` is of another cell, or of one direction where the network has two or the other way round.
    pub fn stack<R: Layer>(&self) -> Result<Stack<R>>
    where
        R::Cell: Known,
    {
        let spec = self.spec();
        let (dtype, device) = self
            .tensors()
            .next()
            .map_or((DType::F32, Device::Cpu), |(_, tensor)| (tensor.dtype(), tensor.device().clone()));
        let tensors: HashMap<String, Tensor> =
            self.tensors().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
        let vb = VarBuilder::from_tensors(tensors, dtype, &device);
        let directions = |got: usize| {
            Error::invalid("Network: directions", spec.directions().len(), got)
                .hint("TimeRnn is a layer of one direction, Bidirectional of two")
        };
        let stack = Stack::<R>::make(spec.layer(), spec.layers, |layer| {
            if layer.place.direction == Direction::Reverse && !spec.bidirectional {
                return Err(directions(2));
            }
            R::Cell::of_kind(spec.kind, layer, vb.clone())
        })?;
        match stack.layers()[0].directions().len() {
            got if got == spec.directions().len() => Ok(stack),
            got => Err(directions(got)),
        }
    }

    /// The same network with its parameters on `device`.
    ///
    /// # Errors
    /// Where the device has no memory left.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let tensors = self.tensors().map(|(name, tensor)| Ok((name.to_string(), tensor.to_device(device)?)));
        Self::new(*self.spec(), tensors.collect::<Result<Vec<_>>>()?)
    }
}
