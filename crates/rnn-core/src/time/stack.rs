//! L layers of a cell, each layer's output the next one's input.

use super::{Recurrent, TimeRnn};
use crate::cell::{Cell, LayerSpec, State};
use crate::kernels::unroll::Way;
use crate::{Error, Result};
use candle_core::Tensor;
use candle_nn::VarBuilder;

/// A stack of recurrent layers.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use rnn_core::{GruCell, LayerSpec, Parameters, Recurrent, Stack};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// let stack = Stack::<GruCell>::new(LayerSpec::new(3, 4), 2, &parameters.builder())?;
/// let xs = Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?;
/// let (hs, next) = stack.forward(&xs, &stack.zero_state(2)?)?;
/// assert_eq!((hs.dims(), next.layers().len()), ([2, 5, 4].as_slice(), 2));
/// assert_eq!(parameters.named()[4].0, "weight_ih_l1");
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Stack<C> {
    layers: Vec<TimeRnn<C>>,
}

impl<C: Cell> Stack<C> {
    /// `layers` layers like `spec`, the first one taking its input, the others H numbers.
    ///
    /// # Errors
    /// Where `layers` is zero, or a cell cannot be made.
    pub fn new(spec: LayerSpec, layers: usize, vb: &VarBuilder) -> Result<Self> {
        let layer = |k: usize| {
            let input = if k == 0 { spec.input } else { spec.hidden };
            Ok(TimeRnn::new(C::new(LayerSpec { input, ..spec }.layer(spec.layer + k), vb.clone())?))
        };
        Self::from_layers((0..layers).map(layer).collect::<Result<_>>()?)
    }

    /// A stack of layers of any sizes that fit.
    ///
    /// # Errors
    /// Where there is none, or a layer's input is not as wide as the output before it.
    pub fn from_layers(layers: Vec<TimeRnn<C>>) -> Result<Self> {
        if layers.is_empty() {
            return Err(Error::invalid("Stack: layers", "at least 1", 0));
        }
        for (k, pair) in layers.windows(2).enumerate() {
            let (before, after) = (pair[0].cell().spec().hidden, pair[1].cell().spec().input);
            if before != after {
                let op = format!("Stack: input of layer {}", k + 1);
                return Err(Error::invalid(op, format!("{before}, the hidden size of layer {k}"), after));
            }
        }
        Ok(Self { layers })
    }

    /// The same stack in another way.
    #[must_use]
    pub fn with_way(self, way: Way) -> Self {
        Self { layers: self.layers.into_iter().map(|layer| layer.with_way(way)).collect() }
    }

    /// The layers, the one that takes the input first.
    pub fn layers(&self) -> &[TimeRnn<C>] {
        &self.layers
    }

    fn through(
        &self,
        xs: &Tensor,
        state: &StackState<C::State>,
        layer: impl Fn(&TimeRnn<C>, &Tensor, &C::State) -> Result<(Tensor, C::State)>,
    ) -> Result<(Tensor, StackState<C::State>)> {
        if state.layers.len() != self.layers.len() {
            let want = format!("{} layers", self.layers.len());
            return Err(Error::invalid("Stack: state", want, state.layers.len()).hint("zero_state makes one"));
        }
        let (mut xs, mut next) = (xs.clone(), Vec::with_capacity(self.layers.len()));
        for (this, state) in self.layers.iter().zip(&state.layers) {
            let (hs, after) = layer(this, &xs, state)?;
            xs = hs;
            next.push(after);
        }
        Ok((xs, StackState { layers: next }))
    }
}

impl<C: Cell> Recurrent for Stack<C> {
    type State = StackState<C::State>;

    fn forward(&self, xs: &Tensor, state: &Self::State) -> Result<(Tensor, Self::State)> {
        self.through(xs, state, TimeRnn::forward)
    }

    fn infer(&self, xs: &Tensor, state: &Self::State) -> Result<(Tensor, Self::State)> {
        self.through(xs, state, TimeRnn::infer)
    }

    fn zero_state(&self, batch: usize) -> Result<Self::State> {
        Ok(StackState {
            layers: self.layers.iter().map(|layer| layer.zero_state(batch)).collect::<Result<_>>()?,
        })
    }
}

/// One state for each layer of a stack, never none.
#[derive(Debug, Clone)]
pub struct StackState<S> {
    layers: Vec<S>,
}

impl<S: State> StackState<S> {
    /// The state of a stack from those of its layers.
    ///
    /// # Errors
    /// Where there is none.
    pub fn new(layers: Vec<S>) -> Result<Self> {
        if layers.is_empty() {
            return Err(Error::invalid("StackState: layers", "at least 1", 0));
        }
        Ok(Self { layers })
    }

    /// The layers' states, the first layer's first.
    pub fn layers(&self) -> &[S] {
        &self.layers
    }
}

impl<S: State> State for StackState<S> {
    fn parts(&self) -> Vec<&Tensor> {
        self.layers.iter().flat_map(State::parts).collect()
    }

    fn names(&self) -> Vec<String> {
        let layer =
            |(k, state): (usize, &S)| state.names().into_iter().map(move |name| format!("{name}_l{k}"));
        self.layers.iter().enumerate().flat_map(layer).collect()
    }

    fn try_map(&self, f: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { layers: self.layers.iter().map(|state| state.try_map(f)).collect::<Result<_>>()? })
    }

    fn h(&self) -> &Tensor {
        self.layers[self.layers.len() - 1].h()
    }

    fn with_h(&self, h: Tensor) -> Self {
        let mut layers = self.layers.clone();
        if let Some(last) = layers.last_mut() {
            *last = last.with_h(h);
        }
        Self { layers }
    }
}
