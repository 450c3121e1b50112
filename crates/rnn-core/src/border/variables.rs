//! Variables in and out: they take the values of a network or of a whole file, and are written as one.

use super::pytorch::{self, StateDict};
use super::{Network, Wanted, compare};
use crate::convention::{BIAS_HH, BIAS_IH};
use crate::{Error, Parameters, Result};
use candle_core::{DType, Tensor, Var};
use std::collections::HashMap;
use std::path::Path;

impl StateDict {
    /// Gives variables the values of a file: of `name` those of `prefix` + `name`. Names, shapes and dtypes of all that stands
    /// under `prefix` are checked before the first one is set. For variables that are in no [`Parameters`], such as those of a
    /// language model.
    ///
    /// # Errors
    /// Where a variable or a tensor has no counterpart, or one of another shape or dtype ([`Self::with_dtype`] converts
    /// floats): all that are wrong are named, and nothing is set.
    pub fn assign(&self, variables: &[(String, Var)], prefix: &str) -> Result<()> {
        let wanted: Vec<Wanted> =
            variables.iter().map(|(name, var)| of_variable(format!("{prefix}{name}"), var)).collect();
        self.hold_against(&wanted, prefix)?;
        let values = wanted.iter().zip(variables).map(|(want, (_, var))| Ok((var, self.tensor(&want.name)?)));
        set(values.collect::<Result<_>>()?)
    }
}

impl Parameters {
    /// Writes all parameters as a state_dict, in the format that the file's name says: `.safetensors`, `.pt` or `.pth`. The
    /// same parameters give the same bytes. A file of that name stays as it is until the new one is whole.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use rnn_core::border::pytorch::StateDict;
    /// use rnn_core::{GruCell, LayerSpec, Parameters, Stack, TimeRnn};
    /// let model = |seed| {
    ///     let parameters = Parameters::new(seed, DType::F32, &Device::Cpu);
    ///     candle_nn::embedding(7, 3, parameters.builder().pp("embedding"))?;
    ///     Stack::<TimeRnn<GruCell>>::new(LayerSpec::new(3, 4), 2, &parameters.builder().pp("rnn"))?;
    ///     candle_nn::linear(4, 2, parameters.builder().pp("head"))?;
    ///     rnn_core::Result::Ok(parameters)
    /// };
    /// let (trained, other) = (model(1)?, model(2)?);
    /// let file = std::env::temp_dir().join("rnn-core-parameters.pt");
    /// trained.save(&file)?;
    /// other.load_state_dict(&StateDict::read(&file)?, "")?;
    /// let table = |of: &Parameters| of.vars()[0].to_vec2::<f32>();
    /// assert_eq!((table(&trained)?, other.named().len()), (table(&other)?, 11));
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where there are none, the name says neither, they are neither f32 nor f64, or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        pytorch::save(path, &self.all("Parameters::save")?)
    }

    /// Gives all parameters the values of a file: of `name` those of `prefix` + `name`. For a part of a file, or a recurrent
    /// network of another form, see [`Self::load`].
    ///
    /// # Errors
    /// Where there are no parameters yet, and those of [`StateDict::assign`].
    pub fn load_state_dict(&self, file: &StateDict, prefix: &str) -> Result<()> {
        file.assign(&self.all("Parameters::load_state_dict")?, prefix)
    }

    /// # Errors
    /// Where there is none: nobody means that.
    fn all(&self, op: &str) -> Result<Vec<(String, Var)>> {
        let named = self.named();
        match named.is_empty() {
            true => {
                Err(Error::invalid(op, "parameters", "none").hint("they exist once a layer asked for them"))
            }
            false => Ok(named),
        }
    }

    /// Gives the variables under `prefix` the values of a network: those of a stack that was made with
    /// `builder().pp("rnn")` stand under `"rnn."`. Names, shapes and dtypes of all are checked before the first one is set.
    /// Where the registry has a single bias, the network's `bias_hh` has to be zero.
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use rnn_core::border::pytorch::StateDict;
    /// use rnn_core::{GruCell, Parameters, Stack, TimeRnn};
    /// let file = StateDict::read("tests/fixtures/pytorch/gru.safetensors")?;
    /// let network = file.network(&file.spec("rnn.")?, "rnn.")?;
    /// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
    /// let gru = Stack::<TimeRnn<GruCell>>::new(network.spec().layer(), 1, &parameters.builder().pp("gru"))?;
    /// parameters.load(&network, "gru.")?;
    /// let weight = network.get("weight_ih", 0).map(|weight| weight.to_vec2::<f32>()).transpose()?;
    /// assert_eq!(Some(parameters.vars()[0].to_vec2::<f32>()?), weight);
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where a variable or a parameter has no counterpart, or one of another shape or dtype: all that are wrong are named,
    /// and nothing is set.
    pub fn load(&self, network: &Network, prefix: &str) -> Result<()> {
        const OP: &str = "Parameters::load";
        let vars: Vec<(String, Var)> =
            self.named().into_iter().filter(|(name, _)| name.starts_with(prefix)).collect();
        if vars.is_empty() {
            let want = format!("parameters whose names begin with {prefix:?}");
            return Err(Error::invalid(OP, want, "none").hint("they exist once a layer asked for them"));
        }
        let has = |name: &str| vars.iter().any(|(var, _)| var.strip_prefix(prefix) == Some(name));
        let mut given: HashMap<String, &Tensor> = HashMap::new();
        for (name, tensor) in network.tensors() {
            let single = name.starts_with(BIAS_HH) && !has(name) && has(&name.replace(BIAS_HH, BIAS_IH));
            if !(single && is_zero(tensor)?) {
                given.insert(format!("{prefix}{name}"), tensor);
            }
        }
        let wanted: Vec<Wanted> = vars.iter().map(|(name, var)| of_variable(name.clone(), var)).collect();
        let mut found: Vec<_> = given
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor.dims(), tensor.dtype().as_str()))
            .collect();
        found.sort_unstable();
        compare(OP, &wanted, found)?;
        let values = vars.iter().map(|(name, var)| {
            let tensor = given.get(name).ok_or_else(|| Error::invalid(OP, name, "none"))?;
            Ok((var, (*tensor).clone()))
        });
        set(values.collect::<Result<_>>()?)
    }
}

/// What a variable takes: candle converts nothing where it sets one.
fn of_variable(name: String, var: &Var) -> Wanted {
    Wanted { name, shape: var.dims().to_vec(), dtype: Some(var.dtype()) }
}

/// Sets each, when all are ready.
fn set(values: Vec<(&Var, Tensor)>) -> Result<()> {
    // Copies, for a tensor may have the variable's own storage.
    let ready = values
        .into_iter()
        .map(|(var, tensor)| Ok((var, tensor.to_device(var.device())?.force_contiguous()?)));
    for (var, tensor) in ready.collect::<Result<Vec<_>>>()? {
        var.set(&tensor)?;
    }
    Ok(())
}

fn is_zero(tensor: &Tensor) -> Result<bool> {
    Ok(tensor.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()? == 0.0)
}
