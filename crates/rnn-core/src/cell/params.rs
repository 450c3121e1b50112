//! The parameters of one recurrent layer: which there are, their names and shapes, and the products they take part in.

use super::Sums;
use crate::{Error, Result, Scheme, convention};
use candle_core::Tensor;
use candle_nn::VarBuilder;

/// Which biases a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bias {
    /// None.
    None,
    /// `bias_ih` alone, as in the book.
    Single,
    /// `bias_ih` and `bias_hh`, as in PyTorch: both get the gradient, so the sum of them learns twice as fast.
    #[default]
    Both,
}

/// The sizes of a recurrent layer, its place in a stack, its biases and how it begins.
///
/// ```
/// use rnn_core::{Bias, LayerSpec, Scheme};
/// let spec = LayerSpec::new(100, 200).layer(1).bias(Bias::Single).init(Scheme::Book);
/// assert_eq!((spec.input, spec.hidden, spec.layer), (100, 200, 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpec {
    /// D, the size of the input.
    pub input: usize,
    /// H, the size of the hidden state.
    pub hidden: usize,
    /// The layer's number in its stack, from 0; part of the parameters' names.
    pub layer: usize,
    /// Which biases there are.
    pub bias: Bias,
    /// How the parameters begin.
    pub init: Scheme,
}

impl LayerSpec {
    /// Layer 0 with both biases and PyTorch's initialisation.
    pub fn new(input: usize, hidden: usize) -> Self {
        Self { input, hidden, layer: 0, bias: Bias::default(), init: Scheme::default() }
    }

    /// With another place in the stack.
    #[must_use]
    pub fn layer(self, layer: usize) -> Self {
        Self { layer, ..self }
    }

    /// With other biases.
    #[must_use]
    pub fn bias(self, bias: Bias) -> Self {
        Self { bias, ..self }
    }

    /// With another initialisation.
    #[must_use]
    pub fn init(self, init: Scheme) -> Self {
        Self { init, ..self }
    }
}

/// The parameters of a layer, or one gradient for each.
#[derive(Debug, Clone)]
pub struct LayerParams {
    /// `[G*H, D]`
    pub weight_ih: Tensor,
    /// `[G*H, H]`
    pub weight_hh: Tensor,
    /// `[G*H]`
    pub bias_ih: Option<Tensor>,
    /// `[G*H]`
    pub bias_hh: Option<Tensor>,
}

impl LayerParams {
    /// The parameters of a layer of `gates` gates from `vb`.
    ///
    /// # Errors
    /// Where a size of `spec` is zero, or `vb` does not have a tensor of that name and shape.
    pub fn new(spec: &LayerSpec, gates: usize, vb: &VarBuilder) -> Result<Self> {
        for (name, size) in [("input", spec.input), ("hidden", spec.hidden)] {
            if size == 0 {
                return Err(Error::invalid(format!("LayerSpec: {name}"), "a size of at least 1", size));
            }
        }
        let rows = gates * spec.hidden;
        let weight_ih = vb.get_with_hints(
            (rows, spec.input),
            &convention::weight_ih(spec.layer),
            spec.init.weight(spec.input, spec.hidden),
        )?;
        let weight_hh = vb.get_with_hints(
            (rows, spec.hidden),
            &convention::weight_hh(spec.layer),
            spec.init.weight(spec.hidden, spec.hidden),
        )?;
        let bias = |wanted: bool, name: String| {
            wanted.then(|| vb.get_with_hints(rows, &name, spec.init.bias(spec.hidden))).transpose()
        };
        let bias_ih = bias(spec.bias != Bias::None, convention::bias_ih(spec.layer))?;
        let bias_hh = bias(spec.bias == Bias::Both, convention::bias_hh(spec.layer))?;
        Ok(Self { weight_ih, weight_hh, bias_ih, bias_hh })
    }

    /// Name and tensor of each parameter there is, in PyTorch's order.
    pub fn named(&self, layer: usize) -> Vec<(String, &Tensor)> {
        let mut named = vec![
            (convention::weight_ih(layer), &self.weight_ih),
            (convention::weight_hh(layer), &self.weight_hh),
        ];
        named.extend(self.bias_ih.as_ref().map(|bias| (convention::bias_ih(layer), bias)));
        named.extend(self.bias_hh.as_ref().map(|bias| (convention::bias_hh(layer), bias)));
        named
    }

    /// The tensors there are, in the order of [`Self::named`].
    pub fn tensors(&self) -> Vec<&Tensor> {
        self.named(0).into_iter().map(|(_, tensor)| tensor).collect()
    }

    /// The same storage, seen as constants.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self {
            weight_ih: self.weight_ih.detach(),
            weight_hh: self.weight_hh.detach(),
            bias_ih: self.bias_ih.as_ref().map(Tensor::detach),
            bias_hh: self.bias_hh.as_ref().map(Tensor::detach),
        }
    }

    /// Zeros `[rows, columns]` where the parameters are and of their dtype.
    pub(crate) fn zeros(&self, rows: usize, columns: usize) -> Result<Tensor> {
        Ok(Tensor::zeros((rows, columns), self.weight_ih.dtype(), self.weight_ih.device())?)
    }

    /// `x W_ih^T + b_ih` for `x [rows, D]`.
    pub(crate) fn input_sums(&self, x: &Tensor) -> Result<Tensor> {
        affine(x, &self.weight_ih, self.bias_ih.as_ref())
    }

    /// `h W_hh^T + b_hh` for `h [rows, H]`.
    pub(crate) fn recurrent_sums(&self, h: &Tensor) -> Result<Tensor> {
        affine(h, &self.weight_hh, self.bias_hh.as_ref())
    }

    /// The gradient of every parameter there is, from the gate gradients `[rows, G*H]` of any number of steps and the
    /// `x [rows, D]` and `h [rows, H]` that went into them.
    pub(crate) fn grads(&self, gates: &Sums, x: &Tensor, h: &Tensor) -> Result<Self> {
        Ok(Self {
            weight_ih: gates.input.t()?.matmul(x)?,
            weight_hh: gates.recurrent.t()?.matmul(h)?,
            bias_ih: self.bias_ih.as_ref().map(|_| gates.input.sum(0)).transpose()?,
            bias_hh: self.bias_hh.as_ref().map(|_| gates.recurrent.sum(0)).transpose()?,
        })
    }
}

fn affine(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let product = x.matmul(&weight.t()?)?;
    Ok(match bias {
        Some(bias) => product.broadcast_add(bias)?,
        None => product,
    })
}
