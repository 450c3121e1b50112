//! A registry of parameters that is ordered and seeded, behind candle's `VarBuilder`.
//!
//! candle's `VarMap` is neither: its order differs from process to process, and so would a norm summed over it.

use crate::device_name;
use crate::rng::Stream;
use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use indexmap::IndexMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parameters in the order in which layers asked for them, each drawn from its own stream of (seed, name).
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::Parameters;
/// let draw = |seed| {
///     let parameters = Parameters::new(seed, DType::F64, &Device::Cpu);
///     let hint = candle_nn::Init::Uniform { lo: -1.0, up: 1.0 };
///     parameters.builder().pp("rnn").get_with_hints(3, "bias", hint)?.to_vec1::<f64>()
/// };
/// assert_eq!(draw(1)?, draw(1)?);
/// assert_ne!(draw(1)?, draw(2)?);
/// # candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Parameters {
    seed: u64,
    dtype: DType,
    device: Device,
    vars: Arc<Mutex<IndexMap<String, Var>>>,
}

impl Parameters {
    /// An empty registry; what is asked of its [`builder`](Self::builder) is made on `device` in `dtype`.
    pub fn new(seed: u64, dtype: DType, device: &Device) -> Self {
        Self { seed, dtype, device: device.clone(), vars: Arc::default() }
    }

    /// A `VarBuilder` over this registry. Asking twice for a name gives the same variable, however it is to begin; with another
    /// shape, dtype or device it is an error.
    pub fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), self.dtype, self.device.clone())
    }

    /// Name and variable of each parameter, in the order of creation.
    pub fn named(&self) -> Vec<(String, Var)> {
        self.lock().iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// The variables, in the order of creation.
    pub fn vars(&self) -> Vec<Var> {
        self.lock().values().cloned().collect()
    }

    /// A holder of the lock that panicked left a whole map behind: entries are only ever added complete.
    fn lock(&self) -> MutexGuard<'_, IndexMap<String, Var>> {
        self.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, name: &str, shape: &Shape, init: Init) -> Vec<f64> {
        let mut stream = Stream::new(self.seed, &format!("init/{name}"), 0);
        let mut one = move || match init {
            Init::Const(value) => value,
            Init::Uniform { lo, up } => stream.uniform(lo, up),
            Init::Randn { mean, stdev } => mean + stdev * stream.normal(),
            Init::Kaiming { dist, fan, non_linearity } => {
                let std = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
                match dist {
                    candle_nn::init::NormalOrUniform::Normal => std * stream.normal(),
                    candle_nn::init::NormalOrUniform::Uniform => {
                        let bound = 3f64.sqrt() * std;
                        stream.uniform(-bound, bound)
                    }
                }
            }
        };
        (0..shape.elem_count()).map(|_| one()).collect()
    }
}

impl SimpleBackend for Parameters {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, dev: &Device) -> CandleResult<Tensor> {
        let mut vars = self.lock();
        if let Some(var) = vars.get(name) {
            let wrong = |want: String, got: String, what: &str| {
                let error = crate::Error::invalid(format!("Parameters: {name}"), want, got);
                Err(error.hint(format!("a parameter of this name exists with another {what}")).into())
            };
            if var.shape() != &shape {
                return wrong(format!("{:?}", var.dims()), format!("{:?}", shape.dims()), "shape");
            }
            if var.dtype() != dtype {
                return wrong(var.dtype().as_str().into(), dtype.as_str().into(), "dtype");
            }
            // As candle's ops ask it: one GPU may have been opened twice.
            let [want, got] = [var.device(), dev].map(device_name);
            if got != want {
                return wrong(want, got, "device");
            }
            return Ok(var.as_tensor().clone());
        }
        let values = self.draw(name, &shape, init);
        // In one copy from the dtype the device wants: f64 does not exist on every device.
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(dev)?;
        let var = Var::from_tensor(&tensor)?;
        vars.insert(name.to_string(), var.clone());
        Ok(var.as_tensor().clone())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> CandleResult<Tensor> {
        match self.lock().get(name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => Err(crate::Error::invalid("Parameters", "a parameter that exists", name).into()),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Parameters {
        Parameters::new(3, DType::F32, &Device::Cpu)
    }

    #[test]
    fn order_is_that_of_creation_and_values_do_not_depend_on_it() {
        let (forward, backward) = (registry(), registry());
        let hint = Init::Randn { mean: 0.0, stdev: 1.0 };
        for name in ["b", "a", "c"] {
            forward.builder().get_with_hints(4, name, hint).unwrap();
        }
        for name in ["c", "a", "b"] {
            backward.builder().get_with_hints(4, name, hint).unwrap();
        }
        let names = |p: &Parameters| p.named().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&forward), ["b", "a", "c"]);
        assert_eq!(names(&backward), ["c", "a", "b"]);
        let values = |p: &Parameters, i: usize| p.vars()[i].to_vec1::<f32>().unwrap();
        assert_eq!(values(&forward, 0), values(&backward, 2));
    }

    #[test]
    fn a_name_asked_for_twice_is_one_variable_and_another_shape_or_dtype_is_an_error() {
        let parameters = registry();
        let first = parameters.builder().get_with_hints(4, "w", Init::Const(1.0)).unwrap();
        let again = parameters.builder().get_with_hints(4, "w", Init::Const(2.0)).unwrap();
        assert_eq!(first.id(), again.id());
        let error = parameters.builder().get_with_hints(5, "w", Init::Const(1.0)).unwrap_err().to_string();
        assert!(error.contains("Parameters: w: expected [4], got [5]"), "{error}");
        let other = parameters.builder().to_dtype(DType::F64).get_with_hints(4, "w", Init::Const(1.0));
        let error = other.unwrap_err().to_string();
        assert!(error.contains("Parameters: w: expected f32, got f64"), "{error}");
    }
}
