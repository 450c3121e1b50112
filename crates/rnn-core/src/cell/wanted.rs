//! Whether a cell's parameters are those that it would ask for: kernels take slices, and a slice of another length is a panic there.

use super::Cell;
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

/// Looks at names, shapes, dtypes and devices; `op` is who takes them, for errors.
///
/// # Errors
/// Where a parameter is missing, too many, of another shape, or not of the dtype or on the device of the first one.
pub(crate) fn check_params<C: Cell>(op: &str, cell: &C) -> Result<()> {
    let (given, first) = (cell.params(), &cell.params().weight_ih);
    let like = C::new(*cell.spec(), VarBuilder::from_backend(Box::new(Shapes), first.dtype(), Device::Cpu))?;
    let (wanted, hint) = (like.params(), "Cell::with_params takes parameters of the same names and shapes");
    if given.names() != wanted.names() {
        let (want, got) = (wanted.names().join(", "), given.names().join(", "));
        return Err(Error::invalid(format!("{op}: parameters"), want, got).hint(hint));
    }
    for (name, (wanted, given)) in
        wanted.names().into_iter().zip(wanted.tensors().into_iter().zip(given.tensors()))
    {
        let wrong = |want: String, got: String| Error::invalid(format!("{op}: {name}"), want, got).hint(hint);
        if wanted.dims() != given.dims() {
            return Err(wrong(format!("{:?}", wanted.dims()), format!("{:?}", given.dims())));
        }
        if given.dtype() != first.dtype() {
            return Err(wrong(first.dtype().as_str().into(), given.dtype().as_str().into()));
        }
        if !given.device().same_device(first.device()) {
            let [want, got] = [first, given].map(|tensor| crate::device_name(tensor.device()));
            return Err(wrong(want, got));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cell::{Bias, LayerParams};
    use crate::{Cell, GruCell, LayerSpec, LstmCell, Normed, Parameters, Recurrent, Stack, TimeRnn, Way};
    use candle_core::{DType, Device, Tensor};

    /// A layer with other parameters than its cell asks for, on every way, and one step at a time.
    fn refused<C: Cell>(spec: LayerSpec, spoil: impl Fn(&mut LayerParams), want: &str) {
        let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
        let cell = C::new(spec, parameters.builder()).unwrap();
        let mut params = cell.params().clone();
        spoil(&mut params);
        let layer = TimeRnn::new(cell.with_params(params));
        let xs = Tensor::ones((2, 3, 4), DType::F32, &Device::Cpu).unwrap();
        let state = layer.zero_state(2).unwrap();
        for way in [Way::Reference, Way::Manual, Way::Fused] {
            let layer = layer.clone().with_way(way);
            for error in [layer.forward(&xs, &state).unwrap_err(), layer.infer(&xs, &state).unwrap_err()] {
                assert!(error.to_string().contains(want), "{way:?}: {error}");
            }
        }
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
