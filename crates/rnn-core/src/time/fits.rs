//! Whether what a layer is given fits its cell: parameters, the window and the state. Kernels take slices, and a slice of another
//! length is a panic there.

use crate::cell::{Cell, CellState, State};
use crate::kernels::unroll::cpu::{KernelOf, Slots, Traits};
use crate::{Error, Result};
use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

/// Tensors that have a shape and take no memory.
struct Shapes;

impl SimpleBackend for Shapes {
    fn get(&self, shape: Shape, _: &str, _: Init, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> CandleResult<Tensor> {
        Err(Error::invalid("Cell::new", "parameters asked for by their shapes", name).into())
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// The cell's parameters are those that it would ask for, and its state begins with h.
///
/// # Errors
/// Where the hidden state is not the first part of the state, the kernel is another cell's, or a parameter is missing, too many,
/// of another shape, or not of the dtype or on the device of the first one.
pub(super) fn params<C: Cell>(cell: &C) -> Result<()> {
    let state = cell.zero_state(1)?;
    if !state.parts().first().is_some_and(|&first| std::ptr::eq(first, state.h())) {
        let got = state.names().first().cloned().unwrap_or_else(|| "none".into());
        return Err(Error::invalid("CellState: the first part", "the hidden state", got)
            .hint("State::parts and State::names begin with what CellState::h gives"));
    }
    let (given, first) = (cell.params(), &cell.params().weight_ih);
    let like = C::new(*cell.spec(), VarBuilder::from_backend(Box::new(Shapes), first.dtype(), Device::Cpu))?;
    let wanted = like.params();
    let wrong = |what: &str, want: String, got: String| {
        Error::invalid(format!("TimeRnn: {what}"), want, got)
            .hint("Cell::with_params takes parameters of the same names and shapes")
    };
    let names = wanted.names();
    if given.names() != names {
        return Err(wrong("parameters", names.join(", "), given.names().join(", ")));
    }
    for ((name, wanted), given) in names.into_iter().zip(wanted.tensors()).zip(given.tensors()) {
        if wanted.dims() != given.dims() {
            return Err(wrong(name, format!("{:?}", wanted.dims()), format!("{:?}", given.dims())));
        }
        if let Some((_, want, got)) = other_kind(given, first) {
            return Err(wrong(name, want, got));
        }
    }
    kernel(cell, state.parts().len())
}

/// A cell's kernel computes with as many gates, parts of a state and numbers of its own as the cell has.
fn kernel<C: Cell>(cell: &C, parts: usize) -> Result<()> {
    let Some(kernel) = cell.kernel() else { return Ok(()) };
    let Traits { gates, recurrent, carry, own, .. } = KernelOf::<f32>::traits(kernel);
    let (hidden, params) = (cell.spec().hidden, cell.params());
    let sizes = params.tensors().into_iter().map(Tensor::elem_count);
    let of_cell: usize = Slots::in_order(params, sizes)?.own.iter().sum();
    let has = [C::GATES, params.weight_hh.dims().first().map_or(0, |rows| rows / hidden), parts, of_cell];
    let wants = [gates, recurrent, 1 + usize::from(carry), own * hidden];
    if has == wants {
        return Ok(());
    }
    let of = |[gates, recurrent, parts, own]: [usize; 4]| {
        format!(
            "{gates} gates ({recurrent} of them recurrent), {parts} parts of a state and {own} numbers of its own"
        )
    };
    Err(Error::invalid("Cell::kernel", format!("one for {}, which the cell has", of(has)), of(wants)))
}

/// A window `xs [N, T, D]` and a state are of the cell's sizes, of its dtype and on its device.
///
/// # Errors
/// Where one is not; the error names it.
pub(super) fn window<C: Cell>(cell: &C, xs: &Tensor, given: &C::State) -> Result<()> {
    let (input, weight) = (cell.spec().input, &cell.params().weight_ih);
    let fits = matches!(*xs.dims(), [n, t, d] if n > 0 && t > 0 && d == input);
    if !fits {
        let want = format!("[N, T, {input}] with N and T at least 1");
        return Err(Error::invalid("TimeRnn: xs", want, format!("{:?}", xs.dims())));
    }
    state("TimeRnn: state", cell, given, (xs.dim(0)?, &format!("xs {:?}", xs.dims())))?;
    if let Some((name, what, want, got)) = odd(("xs", xs), ("state", given), weight) {
        return Err(Error::invalid(format!("TimeRnn: {name}"), format!("the weights' {what} {want}"), got));
    }
    Ok(())
}

/// Every part of a state has the batch's rows and the size that the cell gives it.
///
/// # Errors
/// Where one has not; the error names it.
pub(super) fn state<C: Cell>(
    op: &str,
    cell: &C,
    state: &C::State,
    (batch, window): (usize, &str),
) -> Result<()> {
    let like = cell.zero_state(1)?;
    for ((name, part), like) in state.names().into_iter().zip(state.parts()).zip(like.parts()) {
        let want = [batch, like.dims2()?.1];
        if part.dims() != want {
            let got = format!("{:?}", part.dims());
            return Err(Error::invalid(format!("{op}.{name}"), format!("{want:?} for {window}"), got)
                .hint("a state is for one batch size; zero_state makes one"));
        }
    }
    Ok(())
}

/// What a backward is given has the cell's dtype, and is on its device.
///
/// # Errors
/// Where something is not; the error names it.
pub(super) fn gradients<C: Cell>(op: &str, cell: &C, dhs: &Tensor, dnext: &C::State) -> Result<()> {
    match odd(("dhs", dhs), ("dnext", dnext), &cell.params().weight_ih) {
        Some((name, what, want, got)) => Err(Error::invalid(format!("{op}: {what} of {name}"), want, got)),
        None => Ok(()),
    }
}

/// The first of a tensor and the parts of a state that is not as `like`: its name, and what [`other_kind`] says of it.
fn odd<S: State>(
    (name, tensor): (&str, &Tensor),
    (of, state): (&str, &S),
    like: &Tensor,
) -> Option<(String, &'static str, String, String)> {
    let parts = state.names().into_iter().map(|part| format!("{of}.{part}")).zip(state.parts());
    [(name.to_string(), tensor)].into_iter().chain(parts).find_map(|(name, tensor)| {
        let (what, want, got) = other_kind(tensor, like)?;
        Some((name, what, want, got))
    })
}

/// What is not as in `like`, dtype or device: its name, what it is there, and what it is here.
fn other_kind(tensor: &Tensor, like: &Tensor) -> Option<(&'static str, String, String)> {
    if tensor.dtype() != like.dtype() {
        let [want, got] = [like, tensor].map(|tensor| tensor.dtype().as_str().to_string());
        return Some(("dtype", want, got));
    }
    if tensor.device().same_device(like.device()) {
        return None;
    }
    let [want, got] = [like, tensor].map(|tensor| crate::device_name(tensor.device()));
    // Kernels are loaded for a device as it was opened.
    let got = if got == want { format!("{got}, opened another time") } else { got };
    Some(("device", want, got))
}

#[cfg(test)]
mod tests {
    use crate::cell::{Bias, LayerParams};
    use crate::{
        Cell, GruCell, Layer, LayerSpec, LstmCell, Normed, Parameters, Recurrent, Stack, TimeRnn, Way,
    };
    use candle_core::{DType, Device, Tensor};

    /// A layer with other parameters than its cell asks for, on every way, and one step at a time.
    fn refused<C: Cell>(spec: LayerSpec, spoil: impl Fn(&mut LayerParams), want: &str) {
        let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
        let cell = C::new(spec, parameters.builder()).unwrap();
        let mut params = cell.params().clone();
        spoil(&mut params);
        let layer = TimeRnn::new(cell.with_params(params));
        let good = TimeRnn::new(cell);
        let xs = Tensor::ones((2, 3, 4), DType::F32, &Device::Cpu).unwrap();
        let state = layer.zero_state(2).unwrap();
        for way in [Way::Reference, Way::Manual, Way::Fused] {
            let layer = layer.clone().with_way(way);
            for error in [layer.forward(&xs, &state).unwrap_err(), layer.infer(&xs, &state).unwrap_err()] {
                assert!(error.to_string().contains(want), "{way:?}: {error}");
            }
        }
        let (hs, next, tape) = good.forward_taped(&xs, &state).unwrap();
        let error = layer.backward(tape, &hs, &next).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        let stack = Stack::from_layers(vec![layer]).unwrap();
        let error = stack.stream::<f32>(2).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn parameters_of_other_shapes_are_an_error_and_no_panic() {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        let spec = LayerSpec::new(4, 5);
        refused::<LstmCell>(
            spec,
            |params| params.weight_ih = zeros(&[20, 3]),
            "weight_ih: expected [20, 4], got [20, 3]",
        );
        refused::<LstmCell>(
            spec,
            |params| params.weight_hh = zeros(&[15, 5]),
            "weight_hh: expected [20, 5], got [15, 5]",
        );
        refused::<GruCell>(
            spec,
            |params| params.bias_hh = Some(zeros(&[14])),
            "bias_hh: expected [15], got [14]",
        );
        refused::<GruCell>(
            spec,
            |params| params.bias_hh = None,
            "weight_ih, weight_hh, bias_ih, bias_hh, got weight_ih, weight_hh, bias_ih (",
        );
        refused::<LstmCell>(
            spec.bias(Bias::None).projection(2),
            |params| params.weight_hr = Some(zeros(&[3, 5])),
            "weight_hr: expected [2, 5], got [3, 5]",
        );
        refused::<Normed<GruCell>>(
            spec,
            |params| params.own[0].1 = zeros(&[5]),
            "norm_ih: expected [15], got [5]",
        );
        let wide = Tensor::zeros(20, DType::F64, &Device::Cpu).unwrap();
        refused::<LstmCell>(
            spec,
            |params| params.bias_ih = Some(wide.clone()),
            "bias_ih: expected f32, got f64",
        );
    }
}
