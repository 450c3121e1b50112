//! A layer's parameters as the slices that kernels take.

use super::cpu::Params;
use crate::Result;
use crate::cell::LayerParams;
use crate::kernels::Real;
use crate::kernels::lend::{Reading, read};

/// The parameters of a layer, held for reading.
pub struct LentParams<'a, T> {
    weight_ih: Reading<'a, T>,
    weight_hh: Reading<'a, T>,
    bias_ih: Option<Reading<'a, T>>,
    bias_hh: Option<Reading<'a, T>>,
}

impl<'a, T: Real> LentParams<'a, T> {
    /// Holds them.
    ///
    /// # Errors
    /// Where one is not contiguous, not on the CPU or not of type `T`.
    pub fn new(params: &'a LayerParams) -> Result<Self> {
        Ok(Self {
            weight_ih: read(&params.weight_ih)?,
            weight_hh: read(&params.weight_hh)?,
            bias_ih: params.bias_ih.as_ref().map(read).transpose()?,
            bias_hh: params.bias_hh.as_ref().map(read).transpose()?,
        })
    }

    /// The numbers.
    pub fn slices(&self) -> Params<'_, T> {
        Params {
            weight_ih: self.weight_ih.slice(),
            weight_hh: self.weight_hh.slice(),
            bias_ih: self.bias_ih.as_ref().map(Reading::slice),
            bias_hh: self.bias_hh.as_ref().map(Reading::slice),
        }
    }
}
