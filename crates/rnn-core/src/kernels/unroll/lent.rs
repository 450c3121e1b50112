//! A layer's parameters, and what steers its window, as the slices that kernels take.

use super::cpu::Course;
use super::guides::Guides;
use super::slots::{Params, Slots};
use crate::Result;
use crate::cell::LayerParams;
use crate::kernels::Real;
use crate::kernels::lend::{Reading, read};

/// The parameters of a layer, held for reading.
pub struct LentParams<'a, T>(Slots<Option<Reading<'a, T>>>);

impl<'a, T: Real> LentParams<'a, T> {
    /// Holds them.
    ///
    /// # Errors
    /// Where one is not contiguous, not on the CPU or not of type `T`.
    pub fn new(params: &'a LayerParams) -> Result<Self> {
        let readings = params.tensors().into_iter().map(|tensor| Ok(Some(read(tensor)?)));
        Ok(Self(Slots::in_order(params, readings.collect::<Result<Vec<_>>>()?)?))
    }

    /// The numbers.
    pub fn slices(&self) -> Params<'_, T> {
        self.0.each(|reading| reading.as_ref().map_or(&[] as &[T], Reading::slice))
    }
}

/// What steers a window, held for reading.
pub(super) struct LentCourse<'a, T> {
    guides: &'a Guides,
    mask: Option<Reading<'a, T>>,
    keep: Vec<Reading<'a, T>>,
}

impl<'a, T: Real> LentCourse<'a, T> {
    /// Holds it.
    ///
    /// # Errors
    /// Where a mask is not contiguous, not on the CPU or not of type `T`.
    pub(super) fn new(guides: &'a Guides) -> Result<Self> {
        let mask = guides.mask.as_ref().map(read).transpose()?;
        Ok(Self { guides, mask, keep: guides.keep.iter().map(read).collect::<Result<_>>()? })
    }

    /// The numbers.
    pub(super) fn slices(&self) -> Course<'_, T> {
        let [keep_h, keep_c] = [0, 1].map(|part| self.keep.get(part).map_or(&[] as &[T], Reading::slice));
        Course {
            direction: self.guides.direction,
            lengths: self.guides.lengths.as_deref(),
            fresh: self.guides.fresh.as_deref(),
            mask: self.mask.as_ref().map_or(&[], Reading::slice),
            keep_h,
            keep_c,
        }
    }
}
