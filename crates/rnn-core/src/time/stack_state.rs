//! The state of a stack, layer by layer, and as PyTorch has it.

use crate::cell::State;
use crate::convention::REVERSE;
use crate::{Error, Result};
use candle_core::Tensor;
use indexmap::IndexMap;

/// One state for each layer of a stack, never none.
///
/// It is what PyTorch has as `h_n` and `c_n`, layer by layer ([`Self::stacked`] gives these): `h_n[-1]` is `state.last().h`; of two
/// directions `h_n[-2]` and `h_n[-1]` are `state.last().forward.h` and `state.last().reverse.h`, each `[N, P]`:
///
/// ```
/// use candle_core::{D, DType, Device, Tensor};
/// use rnn_core::{Bidirectional, GruCell, LayerSpec, Parameters, Plan, Recurrent, Stack};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// let stack = Stack::<Bidirectional<GruCell>>::new(LayerSpec::new(3, 4), 2, &parameters.builder())?;
/// let xs = Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?;
/// let (_, state) = stack.forward_with(&xs, &stack.zero_state(2)?, &Plan::new().lengths(&[5, 3]))?;
/// let last = Tensor::cat(&[&state.last().forward.h, &state.last().reverse.h], D::Minus1)?;
/// assert_eq!(last.dims(), [2, 8]); // what a classifier takes
/// # rnn_core::Result::Ok(())
/// ```
#[doc(alias = "h_n")]
#[doc(alias = "c_n")]
#[derive(Debug, Clone)]
pub struct StackState<S> {
    pub(super) layers: Vec<S>,
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

    /// The state of the last layer, which the output is of.
    pub fn last(&self) -> &S {
        &self.layers[self.layers.len() - 1]
    }

    /// Each part of the state as one tensor over all layers and directions, `[L * directions, N, size]` as PyTorch has it: `h` is
    /// its `h_n`, `c` its `c_n`. Differentiable.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use rnn_core::{Bidirectional, LayerSpec, LstmCell, Parameters, Recurrent, Stack};
    /// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
    /// let stack = Stack::<Bidirectional<LstmCell>>::new(LayerSpec::new(3, 4), 2, &parameters.builder())?;
    /// let zero = stack.zero_state(5)?;
    /// let stacked = zero.stacked()?;
    /// assert_eq!((stacked[0].0.as_str(), stacked[0].1.dims()), ("h", [4, 5, 4].as_slice()));
    /// // And back, with the c of another place.
    /// let c = (&stacked[1].1 + 1.0)?;
    /// let state = zero.with_stacked(&[("c", &c)])?;
    /// assert_eq!(state.last().reverse.c.to_vec2::<f32>()?[4], [1.0; 4]);
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where the layers are of different sizes.
    pub fn stacked(&self) -> Result<Vec<(String, Tensor)>> {
        let mut all: IndexMap<String, Vec<&Tensor>> = IndexMap::new();
        for (name, part) in self.stacked_names().into_iter().zip(self.parts()) {
            all.entry(name).or_default().push(part);
        }
        let stack = |(name, parts): (String, Vec<&Tensor>)| {
            let other = parts.iter().find(|part| part.dims() != parts[0].dims());
            match other {
                None => Ok((name, Tensor::stack(&parts, 0)?)),
                Some(other) => {
                    let (want, got) =
                        (format!("{:?} in all layers", parts[0].dims()), format!("{:?}", other.dims()));
                    Err(Error::invalid(format!("StackState::stacked: {name}"), want, got))
                }
            }
        };
        all.into_iter().map(stack).collect()
    }

    /// This state with other parts, each over all layers and directions, as [`Self::stacked`] gives them: PyTorch's `h_0` is `h`,
    /// its `c_0` is `c`. A part that is not given stays. Differentiable.
    ///
    /// # Errors
    /// Where the state has no such part, it is given twice, or it is of another shape.
    pub fn with_stacked(&self, parts: &[(&str, &Tensor)]) -> Result<Self> {
        const OP: &str = "StackState::with_stacked";
        let names = self.stacked_names();
        if let Some((name, _)) = parts.iter().find(|(name, _)| !names.iter().any(|known| known == name)) {
            let mut known = names;
            known.sort();
            known.dedup();
            return Err(Error::invalid(OP, known.join(", "), name));
        }
        let twice =
            |(i, (name, _)): (usize, &(&str, &Tensor))| parts[..i].iter().any(|(other, _)| other == name);
        if let Some((i, _)) = parts.iter().enumerate().find(|&part| twice(part)) {
            return Err(Error::invalid(format!("{OP}: {}", parts[i].0), "one tensor", "two"));
        }
        let mut at = 0;
        self.try_map(&mut |part| {
            let name = &names[at];
            let before = names[..at].iter().filter(|other| *other == name).count();
            let all = names.iter().filter(|other| *other == name).count();
            at += 1;
            let Some((_, given)) = parts.iter().find(|(other, _)| other == name) else {
                return Ok(part.clone());
            };
            let want = [&[all], part.dims()].concat();
            if given.dims() != want {
                let (want, got) = (format!("{want:?}"), format!("{:?}", given.dims()));
                return Err(Error::invalid(format!("{OP}: {name}"), want, got)
                    .hint("[L * directions, N, size], also of a batch of one"));
            }
            Ok(given.get(before)?)
        })
    }

    /// The name of each part without the layer and the direction that it is of.
    fn stacked_names(&self) -> Vec<String> {
        let of_layer = |state: &S| -> Vec<String> {
            let plain =
                |name: String| name.strip_suffix(REVERSE).map_or_else(|| name.clone(), str::to_string);
            state.names().into_iter().map(plain).collect()
        };
        self.layers.iter().flat_map(of_layer).collect()
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bidirectional, GruCell, Layer, LayerSpec, LstmCell, Parameters, Recurrent, Stack, TimeRnn};
    use candle_core::{DType, Device};

    #[test]
    fn what_goes_in_comes_out_in_the_same_places() {
        let parameters = Parameters::new(0, DType::F64, &Device::Cpu);
        let spec = LayerSpec::new(3, 5).projection(2);
        let stack = Stack::<Bidirectional<LstmCell>>::new(spec, 3, &parameters.builder()).unwrap();
        let numbers = |size: usize, from: f64| {
            let numbers = Tensor::arange(from, from + (6 * 2 * size) as f64, &Device::Cpu).unwrap();
            numbers.reshape((6, 2, size)).unwrap()
        };
        let (h, c) = (numbers(2, 0.0), numbers(5, 1000.0));
        let state = stack.zero_state(2).unwrap().with_stacked(&[("c", &c), ("h", &h)]).unwrap();
        // The third layer in reverse is the last of six.
        assert_eq!(state.last().reverse.h.to_vec2::<f64>().unwrap(), [[20.0, 21.0], [22.0, 23.0]]);
        assert_eq!(state.layers()[1].forward.c.to_vec2::<f64>().unwrap()[0][0], 1020.0);
        let all = state.stacked().unwrap();
        assert_eq!(all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["h", "c"]);
        for ((_, got), want) in all.iter().zip([h, c]) {
            assert_eq!(got.to_vec3::<f64>().unwrap(), want.to_vec3::<f64>().unwrap());
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
        let layer = |input, hidden, k| {
            TimeRnn::<GruCell>::build(LayerSpec::new(input, hidden).layer(k), &parameters.builder()).unwrap()
        };
        let stack = Stack::from_layers(vec![layer(2, 3, 0), layer(3, 4, 1)]).unwrap();
        let zero = stack.zero_state(1).unwrap();
        let tensor = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        let error = zero.stacked().unwrap_err().to_string();
        assert_eq!(error, "StackState::stacked: h: expected [1, 3] in all layers, got [1, 4]");
        for (name, dims, want) in [
            ("c", [2, 1, 3], "StackState::with_stacked: expected h, got c"),
            ("h", [1, 1, 3], "StackState::with_stacked: h: expected [2, 1, 3], got [1, 1, 3]"),
            // Right for the first layer, wrong for the second.
            ("h", [2, 1, 3], "StackState::with_stacked: h: expected [2, 1, 4], got [2, 1, 3]"),
        ] {
            let error = zero.with_stacked(&[(name, &tensor(&dims))]).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
        let h = tensor(&[2, 1, 3]);
        let error = zero.with_stacked(&[("h", &h), ("h", &h)]).unwrap_err().to_string();
        assert_eq!(error, "StackState::with_stacked: h: expected one tensor, got two");
    }
}
