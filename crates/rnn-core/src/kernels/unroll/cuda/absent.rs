//! A build without CUDA: there is no tape, so there is nothing to go back from, and no device whose window could come here.

use super::super::{Guides, Keep, TimeGrads};
use crate::cell::Cell;
use crate::{Error, Result};
use candle_core::Tensor;

/// Of which there is none.
#[derive(Debug)]
pub enum Tape {}

impl Tape {
    pub(in super::super) fn window(&self) -> (usize, usize) {
        match *self {}
    }
}

pub(in super::super) fn forward<C: Cell>(
    _: &C,
    _: (&Tensor, &C::State, &Guides),
    _: Keep,
) -> Result<(Tensor, Option<Tape>)> {
    Err(Error::invalid("TimeRnn: fused", "a build with --features cuda", "a tensor on a GPU"))
}

pub(in super::super) fn backward<C: Cell>(
    _: &C,
    tape: &Tape,
    _: &Tensor,
    _: &C::State,
    _: bool,
) -> Result<TimeGrads<C::State>> {
    match *tape {}
}
