//! The nodes of a network and the constants they take.

use super::messages::{
    AttributeProto, DOUBLE, Dimension, FLOAT, GraphProto, INT64, ModelProto, NodeProto, OperatorSetIdProto,
    Size, TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto,
};
use super::{IR_VERSION, OPSET};
use crate::border::gates::{onnx, ours, reorder};
use crate::border::packed::bytes_of;
use crate::border::{Kind, Network};
use crate::convention::{BIAS_HH, BIAS_IH, WEIGHT_HH, WEIGHT_IH};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

/// # Errors
/// Where the network is one that ONNX cannot express.
pub(super) fn model(network: &Network) -> Result<ModelProto> {
    let opset = OperatorSetIdProto { domain: String::new(), version: OPSET };
    Ok(ModelProto {
        ir_version: IR_VERSION,
        producer_name: "candle-rnn".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(Export::new(network)?.graph()?),
        opset_import: vec![opset],
    })
}

/// A graph that is being made.
struct Export<'a> {
    network: &'a Network,
    /// The type of all numbers.
    element: i32,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl<'a> Export<'a> {
    fn new(network: &'a Network) -> Result<Self> {
        if let Some(size) = network.spec.projection {
            let error = Error::invalid(
                "Network::to_onnx",
                "a network without a projection",
                format!("one to {size}"),
            );
            return Err(
                error.hint("ONNX's LSTM feeds back its whole output, and has no weight for another one")
            );
        }
        let dtype = network.tensors.first().map(|(_, tensor)| tensor.dtype());
        let element = match dtype {
            Some(DType::F32) => FLOAT,
            Some(DType::F64) => DOUBLE,
            other => {
                let got = other.map_or("none", |dtype| dtype.as_str());
                return Err(Error::invalid("Network::to_onnx: dtype", "f32 or f64", got)
                    .hint("convert the parameters first"));
            }
        };
        Ok(Self { network, element, nodes: Vec::new(), constants: Vec::new() })
    }

    fn graph(mut self) -> Result<GraphProto> {
        let spec = self.network.spec;
        let (layers, directions) = (spec.layers, spec.directions().len());
        let parts: &[&str] = if spec.kind == Kind::Lstm { &["h", "c"] } else { &["h"] };

        self.transpose("x", &[1, 0, 2], "l0.x");
        for part in parts {
            self.split(&format!("{part}0"));
        }
        self.constant_sizes("merged", &[0, 0, (directions * spec.hidden) as i64]);
        for k in 0..layers {
            self.layer(k, parts)?;
            // [T, dirs, N, H], to be taken by the next layer or given out, batch first.
            let (merge, result) = if k + 1 < layers {
                ([0, 2, 1, 3], format!("l{}.x", k + 1))
            } else {
                ([2, 0, 1, 3], "out".to_string())
            };
            self.transpose(&format!("l{k}.y"), &merge, &format!("l{k}.sides"));
            self.node("Reshape", &[&format!("l{k}.sides"), "merged"], &[&result], Vec::new());
        }
        for part in parts {
            self.join(&format!("{part}_n"));
        }

        let state = [Size::from(layers * directions), "N".into(), spec.hidden.into()];
        let x = self.value("x", ["N".into(), "T".into(), spec.input.into()]);
        let out = self.value("out", ["N".into(), "T".into(), (directions * spec.hidden).into()]);
        let of_state = |suffix| parts.iter().map(move |part| format!("{part}{suffix}"));
        let starts: Vec<_> = of_state("0").map(|name| self.value(&name, state.clone())).collect();
        let ends: Vec<_> = of_state("_n").map(|name| self.value(&name, state.clone())).collect();
        Ok(GraphProto {
            node: self.nodes,
            name: spec.kind.to_string(),
            initializer: self.constants,
            input: [vec![x], starts].concat(),
            output: [vec![out], ends].concat(),
        })
    }

    /// Layer `k`: from `l{k}.x [T, N, D]` and the layer's part of the initial state to `l{k}.y [T, dirs, N, H]` and its
    /// part of the last one.
    fn layer(&mut self, k: usize, parts: &[&str]) -> Result<()> {
        let spec = self.network.spec;
        let own = |name: &str| format!("l{k}.{name}");
        self.weights(own("W"), k, &[WEIGHT_IH])?;
        self.weights(own("R"), k, &[WEIGHT_HH])?;
        if spec.bias {
            self.weights(own("B"), k, &[BIAS_IH, BIAS_HH])?;
        }
        let bias = if spec.bias { own("B") } else { String::new() };
        // The fifth input would be the lengths of the rows.
        let mut inputs = vec![own("x"), own("W"), own("R"), bias, String::new()];
        inputs.extend(parts.iter().map(|part| self.of_layer(&format!("{part}0"), k)));
        let mut outputs = vec![own("y")];
        outputs.extend(parts.iter().map(|part| self.of_layer(&format!("{part}_n"), k)));

        let direction = if spec.bidirectional { "bidirectional" } else { "forward" };
        let mut attributes = vec![int("hidden_size", spec.hidden as i64), string("direction", direction)];
        let op = match spec.kind {
            Kind::RnnTanh | Kind::RnnRelu => {
                let activation = if spec.kind == Kind::RnnTanh { "Tanh" } else { "Relu" };
                attributes.push(strings("activations", &vec![activation; spec.directions().len()]));
                "RNN"
            }
            Kind::Lstm => "LSTM",
            Kind::Gru => {
                // The reset gate after the product, and so with a bias of its own.
                attributes.push(int("linear_before_reset", 1));
                "GRU"
            }
        };
        self.node(op, &borrowed(&inputs), &borrowed(&outputs), attributes);
        Ok(())
    }

    /// The constant of these parameters of layer `k`: one behind the other, `[dirs, ...]`, gates in ONNX's order.
    fn weights(&mut self, name: String, k: usize, parameters: &[&str]) -> Result<()> {
        let spec = self.network.spec;
        let mut sides = Vec::new();
        for &direction in spec.directions() {
            let rows = parameters.iter().map(|parameter| {
                let found = self.network.get(parameter, (k, direction));
                let tensor = found.ok_or_else(|| Error::invalid("Network::to_onnx", *parameter, "none"))?;
                reorder(&tensor.to_device(&Device::Cpu)?, ours(spec.kind), onnx(spec.kind))
            });
            sides.push(Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?);
        }
        let tensor = Tensor::stack(&sides, 0)?;
        let raw_data = bytes_of("Network::to_onnx", &tensor)?;
        let dims = tensor.dims().iter().map(|&dim| dim as i64).collect();
        self.constants.push(TensorProto { dims, data_type: self.element, name, raw_data });
        Ok(())
    }

    /// A constant of whole numbers, `[sizes.len()]`.
    fn constant_sizes(&mut self, name: &str, sizes: &[i64]) {
        let raw_data = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
        let dims = vec![sizes.len() as i64];
        self.constants.push(TensorProto { dims, data_type: INT64, name: name.into(), raw_data });
    }

    /// What layer `k` has of the state `whole [L*dirs, N, H]`: all of it where there is but one layer.
    fn of_layer(&self, whole: &str, k: usize) -> String {
        if self.network.spec.layers == 1 { whole.into() } else { format!("l{k}.{whole}") }
    }

    fn of_layers(&self, whole: &str) -> Vec<String> {
        (0..self.network.spec.layers).map(|k| self.of_layer(whole, k)).collect()
    }

    /// The initial state, cut into those of the layers.
    fn split(&mut self, whole: &str) {
        let spec = self.network.spec;
        if spec.layers > 1 {
            let sizes = format!("{whole}.sizes");
            self.constant_sizes(&sizes, &vec![spec.directions().len() as i64; spec.layers]);
            let layers = self.of_layers(whole);
            self.node("Split", &[whole, &sizes], &borrowed(&layers), vec![int("axis", 0)]);
        }
    }

    /// The last states of the layers, one behind the other.
    fn join(&mut self, whole: &str) {
        if self.network.spec.layers > 1 {
            let layers = self.of_layers(whole);
            self.node("Concat", &borrowed(&layers), &[whole], vec![int("axis", 0)]);
        }
    }

    fn transpose(&mut self, from: &str, order: &[i64], to: &str) {
        let order =
            AttributeProto { name: "perm".into(), ints: order.to_vec(), r#type: 7, ..Default::default() };
        self.node("Transpose", &[from], &[to], vec![order]);
    }

    /// A node, named after what it makes.
    fn node(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let name = outputs.first().map_or_else(String::new, |output| format!("{output}.{op}"));
        let (input, output) = (owned(inputs), owned(outputs));
        self.nodes.push(NodeProto { input, output, name, op_type: op.into(), attribute });
    }

    fn value(&self, name: &str, dims: [Size; 3]) -> ValueInfoProto {
        let dim = dims.into_iter().map(|size| Dimension { value: Some(size) }).collect();
        let shape = Some(TensorShapeProto { dim });
        let tensor_type = Some(TensorType { elem_type: self.element, shape });
        ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
    }
}

impl From<usize> for Size {
    fn from(size: usize) -> Self {
        Self::DimValue(size as i64)
    }
}

impl From<&str> for Size {
    fn from(name: &str) -> Self {
        Self::DimParam(name.into())
    }
}

fn borrowed(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: Some(i), r#type: 2, ..Default::default() }
}

fn string(name: &str, text: &str) -> AttributeProto {
    AttributeProto { name: name.into(), s: Some(text.into()), r#type: 3, ..Default::default() }
}

fn strings(name: &str, texts: &[&str]) -> AttributeProto {
    let strings = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    AttributeProto { name: name.into(), strings, r#type: 8, ..Default::default() }
}
