//! A file in which PyTorch wrote down what it computes for a stack of recurrent layers, and how far off a way is.

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use rnn_core::{
    Bias, Cell, GruCell, LayerSpec, LstmCell, Parameters, Recurrent, RnnCell, Stack, StackState, State,
    TimeRnn, Way,
};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::Path;

/// Tensors by name, as the file calls them.
type Named = BTreeMap<String, Tensor>;

/// How a cell is made.
type Make<C> = fn(LayerSpec, VarBuilder) -> rnn_core::Result<C>;

/// What one file asks for.
pub struct Fixture {
    cell: String,
    spec: LayerSpec,
    layers: usize,
    dtype: DType,
    device: Device,
    tensors: Named,
}

/// The tensor that is furthest off.
#[derive(Debug)]
pub struct Found {
    pub max_rel_err: f64,
    pub worst: String,
}

impl Fixture {
    /// Reads a file and sees to it that it has all that it needs, in the shapes it needs, and nothing else.
    pub fn read(path: &Path, device: &Device) -> Result<Self> {
        let bytes = std::fs::read(path).context("cannot be read")?;
        let (_, header) = SafeTensors::read_metadata(&bytes).context("is not a safetensors file")?;
        let metadata =
            header.metadata().as_ref().context("has no metadata: expected cell, hidden_size, ...")?;
        let get = |key: &str| metadata.get(key).with_context(|| format!("metadata.{key} is missing"));
        let size = |key: &str| -> Result<usize> {
            let text = get(key)?;
            text.parse().with_context(|| format!("metadata.{key}: expected a size, got {text:?}"))
        };
        let flag = |key: &str| -> Result<bool> {
            let text = get(key)?;
            text.parse().with_context(|| format!("metadata.{key}: expected true or false, got {text:?}"))
        };
        let dtype = match get("dtype")?.as_str() {
            "f32" => DType::F32,
            "f64" => DType::F64,
            other => bail!("metadata.dtype: expected f32 or f64, got {other:?}"),
        };
        if flag("bidirectional")? {
            bail!("not supported: bidirectional (two directions)");
        }
        if size("proj_size")? != 0 {
            bail!("not supported: proj_size {} (an LSTM with a projection)", size("proj_size")?);
        }
        let bias = if flag("bias")? { Bias::Both } else { Bias::None };
        let spec = LayerSpec::new(size("input_size")?, size("hidden_size")?).bias(bias);
        let (cell, layers) = (get("cell")?.clone(), size("num_layers")?);
        let tensors = candle_core::safetensors::load_buffer(&bytes, device).context("cannot be loaded")?;
        // In a fixed order, so that of two that are equally far off the same one is named each time.
        let tensors: Named = tensors.into_iter().collect();
        if tensors.contains_key("lengths") {
            bail!("not supported: lengths (rows of different lengths)");
        }
        let fixture = Self { cell, spec, layers, dtype, device: device.clone(), tensors };
        fixture.check_names_and_shapes()?;
        Ok(fixture)
    }

    fn check_names_and_shapes(&self) -> Result<()> {
        let LayerSpec { input, hidden, .. } = self.spec;
        for (name, size) in [("input_size", input), ("hidden_size", hidden), ("num_layers", self.layers)] {
            ensure!(size > 0, "metadata.{name}: expected at least 1, got 0");
        }
        let gates = match self.cell.as_str() {
            "rnn_tanh" | "rnn_relu" => RnnCell::GATES,
            "lstm" => LstmCell::GATES,
            "gru" => GruCell::GATES,
            other => bail!("metadata.cell: expected rnn_tanh, rnn_relu, lstm or gru, got {other:?}"),
        };
        let x = self.tensor("x")?.dims();
        let &[batch, time, _] = x else { bail!("x: expected [N, T, {input}], got {x:?}") };
        let state = vec![self.layers, batch, hidden];
        let given = self.tensors.contains_key("h0");
        let mut want = BTreeMap::from([("out".to_string(), vec![batch, time, hidden])]);
        let mut differentiated = BTreeMap::from([("x".to_string(), vec![batch, time, input])]);
        for part in self.parts() {
            want.insert(format!("{part}_n"), state.clone());
            if given {
                differentiated.insert(format!("{part}0"), state.clone());
            }
        }
        let upstream: Vec<_> = want.iter().map(|(name, dims)| (format!("g.{name}"), dims.clone())).collect();
        for layer in 0..self.layers {
            let width = if layer == 0 { input } else { hidden };
            let rows = gates * hidden;
            differentiated.insert(format!("weight_ih_l{layer}"), vec![rows, width]);
            differentiated.insert(format!("weight_hh_l{layer}"), vec![rows, hidden]);
            if self.spec.bias == Bias::Both {
                differentiated.insert(format!("bias_ih_l{layer}"), vec![rows]);
                differentiated.insert(format!("bias_hh_l{layer}"), vec![rows]);
            }
        }
        let gradients = differentiated.iter().map(|(name, dims)| (format!("grad.{name}"), dims.clone()));
        want.extend(upstream.into_iter().chain(gradients.collect::<Vec<_>>()));
        want.extend(differentiated);
        for (name, dims) in &want {
            let tensor = self.tensor(name)?;
            ensure!(tensor.dims() == dims, "{name}: expected shape {dims:?}, got {:?}", tensor.dims());
            ensure!(
                tensor.dtype() == self.dtype,
                "{name}: expected {:?}, got {:?}",
                self.dtype,
                tensor.dtype()
            );
        }
        let extra: Vec<_> = self.tensors.keys().filter(|&name| !want.contains_key(name)).collect();
        ensure!(extra.is_empty(), "not supported: tensors {extra:?}, which {} does not have", self.cell);
        Ok(())
    }

    /// The largest error that is accepted.
    pub fn tolerance(&self) -> f64 {
        if self.dtype == DType::F64 { 1e-10 } else { 1e-4 }
    }

    /// Why a way cannot run this.
    pub fn cannot(&self, way: Way) -> Option<String> {
        let time = self.tensors.get("x").map_or(0, |x| x.dims()[1]);
        let most = rnn_core::kernels::unroll::REFERENCE_MAX_STEPS;
        match way {
            Way::Reference if time > most => Some(format!("{time} steps; it takes at most {most}")),
            Way::Fused if !self.device.is_cpu() => Some("there is no kernel for this device yet".into()),
            _ => None,
        }
    }

    /// Runs the stack in `way` and compares everything.
    pub fn hold(&self, way: Way) -> Result<Found> {
        match self.cell.as_str() {
            "rnn_tanh" => self.of_cell::<RnnCell>(RnnCell::new, way),
            "rnn_relu" => self.of_cell::<RnnCell>(RnnCell::relu, way),
            "lstm" => self.of_cell::<LstmCell>(LstmCell::new, way),
            _ => self.of_cell::<GruCell>(GruCell::new, way),
        }
    }

    fn of_cell<C: Cell>(&self, make: Make<C>, way: Way) -> Result<Found> {
        let parameters = Parameters::new(0, self.dtype, &self.device);
        let layer = |k: usize| {
            let input = if k == 0 { self.spec.input } else { self.spec.hidden };
            make(LayerSpec { input, ..self.spec }.layer(k), parameters.builder()).map(TimeRnn::new)
        };
        let stack = Stack::from_layers((0..self.layers).map(layer).collect::<Result<_, _>>()?)?.with_way(way);
        for (name, var) in parameters.named() {
            var.set(self.tensor(&name)?)?;
        }
        let mut found = self.compare(&self.recorded(&stack, &parameters, way)?, "")?;
        if way != Way::Reference {
            let by_hand = self.compare(&self.by_hand(&stack)?, "without autograd: ")?;
            if by_hand.max_rel_err > found.max_rel_err {
                found = by_hand;
            }
        }
        Ok(found)
    }

    /// Through candle's graph.
    fn recorded<C: Cell>(
        &self,
        stack: &Stack<TimeRnn<C>>,
        parameters: &Parameters,
        way: Way,
    ) -> Result<Named> {
        let x = Var::from_tensor(self.tensor("x")?)?;
        let mut starts = Vec::new();
        let state = self.state(stack, |part| {
            let var = Var::from_tensor(part)?;
            starts.push(var.clone());
            Ok(var.as_tensor().clone())
        })?;
        rnn_core::reset_last_ran();
        let (out, next) = stack.forward(&x, &state)?;
        let mut loss = (&out * self.tensor("g.out")?)?.sum_all()?;
        let last = self.last(&next)?;
        for (name, last) in &last {
            loss = (loss + (last * self.tensor(&format!("g.{name}"))?)?.sum_all()?)?;
        }
        let grads = loss.backward()?;
        let ran = rnn_core::last_ran();
        ensure!(ran == Some(way), "the {way} way was asked for, and {ran:?} ran");

        let grad = |name: &str, var: &Tensor| {
            grads.get(var).cloned().with_context(|| format!("{name} got no gradient"))
        };
        let mut named = last;
        named.insert("out".into(), out);
        named.insert("grad.x".into(), grad("x", &x)?);
        for (name, var) in parameters.named() {
            named.insert(format!("grad.{name}"), grad(&name, &var)?);
        }
        if self.tensors.contains_key("h0") {
            let starts: Vec<Tensor> =
                starts.iter().map(|var| grad("the state", var)).collect::<Result<_>>()?;
            self.insert_dstate(&mut named, &starts)?;
        }
        Ok(named)
    }

    /// Layer by layer there, and layer by layer back.
    fn by_hand<C: Cell>(&self, stack: &Stack<TimeRnn<C>>) -> Result<Named> {
        let state = self.state(stack, |part| Ok(part.clone()))?;
        let mut xs = self.tensor("x")?.clone();
        let (mut tapes, mut next) = (Vec::new(), Vec::new());
        for (layer, state) in stack.layers().iter().zip(state.layers()) {
            let (hs, after, tape) = layer.forward_taped(&xs, state)?;
            tapes.push(tape);
            next.push(after);
            xs = hs;
        }
        let mut named = self.last(&StackState::new(next.clone())?)?;
        named.insert("out".into(), xs);

        let mut dhs = self.tensor("g.out")?.clone();
        let mut starts = Vec::new();
        for (k, layer) in stack.layers().iter().enumerate().rev() {
            let mut parts = self.parts().into_iter();
            let dnext = next[k].try_map(&mut |_| {
                let name = format!("g.{}_n", parts.next().unwrap_or_default());
                Ok(self.tensors[&name].get(k)?)
            })?;
            let tape = tapes.pop().context("a tape for each layer")?;
            let grads = layer.backward(tape, &dhs, &dnext)?;
            for (name, grad) in grads.params.named(k) {
                named.insert(format!("grad.{name}"), grad.clone());
            }
            starts.splice(0..0, grads.dstate.parts().into_iter().cloned());
            dhs = grads.dxs.context("x got no gradient")?;
        }
        named.insert("grad.x".into(), dhs);
        if self.tensors.contains_key("h0") {
            self.insert_dstate(&mut named, &starts)?;
        }
        Ok(named)
    }

    /// The initial state, each part of each layer through `f`.
    fn state<C: Cell>(
        &self,
        stack: &Stack<TimeRnn<C>>,
        mut f: impl FnMut(&Tensor) -> rnn_core::Result<Tensor>,
    ) -> Result<StackState<C::State>> {
        let zero = stack.zero_state(self.tensor("x")?.dim(0)?)?;
        let names = self.parts();
        let mut place = 0;
        Ok(zero.try_map(&mut |zeros| {
            let (layer, part) = (place / names.len(), names[place % names.len()]);
            place += 1;
            match self.tensors.get(&format!("{part}0")) {
                Some(given) => f(&given.get(layer)?),
                None => f(zeros),
            }
        })?)
    }

    /// `h_n` and, where there is one, `c_n`, each `[L, N, H]`.
    fn last<S: State>(&self, next: &StackState<S>) -> Result<Named> {
        let mut named = Named::new();
        for (i, part) in self.parts().into_iter().enumerate() {
            let of_layers: Vec<&Tensor> = next.layers().iter().map(|state| state.parts()[i]).collect();
            named.insert(format!("{part}_n"), Tensor::stack(&of_layers, 0)?);
        }
        Ok(named)
    }

    /// Gradients of the state's parts, layer by layer, as `grad.h0` and `grad.c0`.
    fn insert_dstate(&self, named: &mut Named, grads: &[Tensor]) -> Result<()> {
        let parts = self.parts();
        for (i, part) in parts.iter().enumerate() {
            let of_layers: Vec<&Tensor> = grads.iter().skip(i).step_by(parts.len()).collect();
            named.insert(format!("grad.{part}0"), Tensor::stack(&of_layers, 0)?);
        }
        Ok(())
    }

    fn parts(&self) -> Vec<&'static str> {
        if self.cell == "lstm" { vec!["h", "c"] } else { vec!["h"] }
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).with_context(|| format!("tensor {name} is missing"))
    }

    /// The names of all results and gradients in the file.
    pub fn compared(&self) -> Vec<String> {
        let is_result = |name: &str| name == "out" || name.ends_with("_n") && !name.starts_with("g.");
        let names = self.tensors.keys().filter(|name| is_result(name) || name.starts_with("grad."));
        names.cloned().collect()
    }

    /// Everything the file has a result or a gradient for must be there, and is compared.
    fn compare(&self, got: &Named, label: &str) -> Result<Found> {
        let mut found = Found { max_rel_err: 0.0, worst: "out".into() };
        let names = self.compared();
        for name in &names {
            let got = got.get(name).with_context(|| format!("{label}{name} was not computed"))?;
            let off = relative_error(got, &self.tensors[name])?;
            if off > found.max_rel_err {
                found = Found { max_rel_err: off, worst: format!("{label}{name}") };
            }
        }
        ensure!(names.len() == got.len(), "{label}{} computed, {} in the file", got.len(), names.len());
        Ok(found)
    }
}

/// The largest difference relative to the largest magnitude wanted; absolute where that is zero. Where it is no number,
/// as far off as can be.
fn relative_error(got: &Tensor, want: &Tensor) -> Result<f64> {
    ensure!(got.dims() == want.dims(), "shape {:?} for {:?}", got.dims(), want.dims());
    let numbers = |t: &Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (got, want) = (numbers(got)?, numbers(want)?);
    let scale = want.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    let scale = if scale > 0.0 { scale } else { 1.0 };
    let off = got.iter().zip(&want).map(|(g, w)| (g - w).abs() / scale);
    Ok(off.fold(0.0f64, |a, b| if b.is_finite() { a.max(b) } else { f64::MAX }))
}
