//! A network that begins as PyTorch's do, from a seed.

use super::{Network, NetworkSpec};
use crate::convention::{BIAS_HH, BIAS_IH};
use crate::{Parameters, Result, Scheme};
use candle_core::{DType, Device};

impl Network {
    /// A network on the CPU whose parameters are drawn from `seed`: those that layers of the same sizes get from the
    /// builder of [`Parameters`].
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use rnn_core::border::{Kind, Network, NetworkSpec};
    /// use rnn_core::{Cell, LayerSpec, LstmCell, Parameters};
    /// let network = Network::seeded(NetworkSpec::new(Kind::Lstm, 3, 4), 7, DType::F32)?;
    /// let lstm = LstmCell::new(LayerSpec::new(3, 4), Parameters::new(7, DType::F32, &Device::Cpu).builder())?;
    /// let (ours, layers) = (network.get("bias_hh", 0).map(|bias| bias.to_vec1::<f32>()), &lstm.params().bias_hh);
    /// assert_eq!(ours.transpose()?, layers.as_ref().map(|bias| bias.to_vec1::<f32>()).transpose()?);
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where a size of `spec` is zero, or its projection is one that the kind cannot have.
    pub fn seeded(spec: NetworkSpec, seed: u64, dtype: DType) -> Result<Self> {
        spec.check()?;
        let builder = Parameters::new(seed, dtype, &Device::Cpu).builder();
        let draw = |(name, shape): (String, Vec<usize>)| {
            let is_bias = name.starts_with(BIAS_IH) || name.starts_with(BIAS_HH);
            let hint = match shape.as_slice() {
                [_, fan_in] if !is_bias => Scheme::Pytorch.weight(*fan_in, spec.hidden),
                _ => Scheme::Pytorch.bias(spec.hidden),
            };
            let tensor = builder.get_with_hints(shape, &name, hint)?;
            Ok((name, tensor.detach()))
        };
        Self::new(spec, spec.shapes().into_iter().map(draw).collect::<Result<Vec<_>>>()?)
    }
}
