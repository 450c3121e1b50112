//! A file in which PyTorch wrote down what it computes for a stack of recurrent layers, and how far off a way is.

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor, Var};
use rnn_core::border::{Kind, Known, NetworkSpec};
use rnn_core::{
    Bidirectional, GruCell, Layer, LstmCell, Parameters, Plan, Recurrent, RnnCell, Stack, StackState, State,
    TimeRnn, Way,
};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::Path;

/// Tensors by name, as the file calls them.
type Named = BTreeMap<String, Tensor>;

/// What one file asks for.
pub struct Fixture {
    spec: NetworkSpec,
    plan: Plan,
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
        let kind = get("cell")?;
        let kind: Kind = kind.parse().with_context(|| format!("metadata.cell {kind:?}"))?;
        let projection = size("proj_size")?;
        let spec = NetworkSpec {
            kind,
            input: size("input_size")?,
            hidden: size("hidden_size")?,
            projection: (projection > 0).then_some(projection),
            layers: size("num_layers")?,
            bidirectional: flag("bidirectional")?,
            bias: flag("bias")?,
        };
        spec.check()?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, device).context("cannot be loaded")?;
        // In a fixed order, so that of two that are equally far off the same one is named each time.
        let mut tensors: Named = tensors.into_iter().collect();
        let rows = tensors.get("x").and_then(|x| x.dims().first().copied()).unwrap_or(0);
        let plan = match tensors.remove("lengths") {
            Some(lengths) => {
                let lengths = lengths.to_dtype(DType::I64)?.to_vec1::<i64>()?;
                let lengths: Vec<usize> =
                    lengths.into_iter().map(usize::try_from).collect::<Result<_, _>>().context("lengths")?;
                let got = lengths.len();
                ensure!(got == rows, "lengths: expected {rows}, one a row of x, got {got}");
                Plan::new().lengths(&lengths)
            }
            None => Plan::new(),
        };
        let fixture = Self { spec, plan, dtype, device: device.clone(), tensors };
        fixture.check_names_and_shapes()?;
        Ok(fixture)
    }

    fn check_names_and_shapes(&self) -> Result<()> {
        let NetworkSpec { kind, input, .. } = self.spec;
        let x = self.tensor("x")?.dims();
        let &[batch, time, _] = x else { bail!("x: expected [N, T, {input}], got {x:?}") };
        let width = self.spec.output() * self.spec.directions().len();
        let given = self.tensors.contains_key("h0");
        let mut want = BTreeMap::from([("out".to_string(), vec![batch, time, width])]);
        let mut differentiated = BTreeMap::from([("x".to_string(), vec![batch, time, input])]);
        for (part, size) in self.parts() {
            let state = vec![self.spec.places().len(), batch, size];
            want.insert(format!("{part}_n"), state.clone());
            if given {
                differentiated.insert(format!("{part}0"), state);
            }
        }
        let upstream: Vec<_> = want.iter().map(|(name, dims)| (format!("g.{name}"), dims.clone())).collect();
        differentiated.extend(self.spec.shapes());
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
        ensure!(extra.is_empty(), "not supported: tensors {extra:?}, which {kind} does not have");
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
            Way::Fused
                if !self.device.is_cpu() && (self.spec.projection.is_some() || self.plan != Plan::new()) =>
            {
                Some("on a GPU it takes neither lengths nor projections".into())
            }
            _ => None,
        }
    }

    /// Runs the stack in `way` and compares everything.
    pub fn hold(&self, way: Way) -> Result<Found> {
        match self.spec.kind {
            Kind::RnnTanh | Kind::RnnRelu => self.of_cell::<RnnCell>(way),
            Kind::Lstm => self.of_cell::<LstmCell>(way),
            Kind::Gru => self.of_cell::<GruCell>(way),
        }
    }

    fn of_cell<C: Known>(&self, way: Way) -> Result<Found> {
        match self.spec.bidirectional {
            false => self.of_layer::<TimeRnn<C>>(way),
            true => self.of_layer::<Bidirectional<C>>(way),
        }
    }

    fn of_layer<R: Layer>(&self, way: Way) -> Result<Found>
    where
        R::Cell: Known,
    {
        let parameters = Parameters::new(0, self.dtype, &self.device);
        let cell = |layer| R::Cell::of_kind(self.spec.kind, layer, parameters.builder());
        let stack = Stack::<R>::make(self.spec.layer(), self.spec.layers, cell)?.with_way(way);
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
    fn recorded<R: Layer>(&self, stack: &Stack<R>, parameters: &Parameters, way: Way) -> Result<Named> {
        let x = Var::from_tensor(self.tensor("x")?)?;
        let starts = self.given(|name| format!("{name}0"));
        let starts: Vec<(&str, Var)> = starts
            .into_iter()
            .map(|(name, start)| Ok((name, Var::from_tensor(start)?)))
            .collect::<Result<_>>()?;
        let of_starts: Vec<_> = starts.iter().map(|(name, var)| (*name, var.as_tensor())).collect();
        let state = self.zero(stack)?.with_stacked(&of_starts)?;
        rnn_core::reset_last_ran();
        let (out, next) = stack.forward_with(&x, &state, &self.plan)?;
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
        for (name, start) in &starts {
            named.insert(format!("grad.{name}0"), grad("the state", start)?);
        }
        Ok(named)
    }

    /// Layer by layer there, and layer by layer back.
    fn by_hand<R: Layer>(&self, stack: &Stack<R>) -> Result<Named> {
        let state = self.zero(stack)?.with_stacked(&self.given(|name| format!("{name}0")))?;
        let (out, next, tape) = stack.forward_taped_with(self.tensor("x")?, &state, &self.plan)?;
        let mut named = self.last(&next)?;
        named.insert("out".into(), out);

        let dnext = next.with_stacked(&self.given(|name| format!("g.{name}_n")))?;
        let grads = stack.backward(tape, self.tensor("g.out")?, &dnext)?;
        for (place, params) in self.spec.places().into_iter().zip(&grads.params) {
            for (name, grad) in params.named(place) {
                named.insert(format!("grad.{name}"), grad.clone());
            }
        }
        named.insert("grad.x".into(), grads.dxs);
        for (name, grad) in grads.dstate.stacked()? {
            if self.tensors.contains_key(&format!("{name}0")) {
                named.insert(format!("grad.{name}0"), grad);
            }
        }
        Ok(named)
    }

    fn zero<R: Layer>(&self, stack: &Stack<R>) -> Result<StackState<R::State>> {
        Ok(stack.zero_state(self.tensor("x")?.dim(0)?)?)
    }

    /// The parts of a state that the file has under the names that `called` gives, each `[L * directions, N, size]`.
    fn given(&self, called: impl Fn(&str) -> String) -> Vec<(&'static str, &Tensor)> {
        let parts = self.parts().into_iter();
        parts.filter_map(|(name, _)| Some((name, self.tensors.get(&called(name))?))).collect()
    }

    /// Name and size of the state's parts.
    fn parts(&self) -> Vec<(&'static str, usize)> {
        let mut parts = vec![("h", self.spec.output())];
        parts.extend((self.spec.kind == Kind::Lstm).then_some(("c", self.spec.hidden)));
        parts
    }

    /// `h_n` and, where there is one, `c_n`.
    fn last<S: State>(&self, next: &StackState<S>) -> Result<Named> {
        Ok(next.stacked()?.into_iter().map(|(name, last)| (format!("{name}_n"), last)).collect())
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
