//! T steps as one layer: the contract, and who runs it.
//!
//! Every way takes `xs [N, T, D]` and a state, and gives `hs [N, T, P]`, the next state and in the end the same gradients. `manual`
//! and `fused` leave a [`Tape`] for their backward; that of `reference` is candle's autograd.

pub mod cpu;
mod cuda;
mod fused;
mod guides;
mod kernel;
mod lent;
mod manual;
mod memory;
pub(super) mod part;
mod reference;
mod segments;
mod slots;
mod step;
pub mod stream;

pub(crate) use fused::Home;
pub(crate) use guides::Guides;
pub use lent::LentParams;
pub use reference::MAX_STEPS as REFERENCE_MAX_STEPS;
pub(crate) use reference::forward as reference;
pub use segments::Segments;
pub(crate) use segments::forward as in_segments;

use crate::autograd::Flat;
use crate::cell::{Cell, LayerParams};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Who computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Way {
    /// Plain tensor ops step by step, differentiated by candle's autograd: the oracle. It records at most
    /// [`REFERENCE_MAX_STEPS`] steps, for candle walks its graph by recursion; inference has no such limit.
    Reference,
    /// The hand-written backward in tensor ops: runs on every device.
    Manual,
    /// The hand-written backward in fused kernels: the CPU and GPUs, f32 and f64.
    #[default]
    Fused,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Reference, Self::Manual, Self::Fused];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reference => "reference",
            Self::Manual => "manual",
            Self::Fused => "fused",
        })
    }
}

impl FromStr for Way {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|way| way.to_string() == name)
            .ok_or_else(|| Error::invalid("way", "fused, manual or reference", format!("{name:?}")))
    }
}

/// The way that runs where `asked` was asked for: the fused one needs a kernel of the cell in lanes, f32 or f64, and the
/// CPU, or a GPU for a cell whose step is one product and one stage; where one of these is missing the manual one takes
/// its place.
pub fn resolve<C: Cell>(asked: Way, cell: &C) -> Way {
    let weight = &cell.params().weight_ih;
    let kernels = match weight.device() {
        Device::Cpu => cell.kernel().is_some(),
        Device::Cuda(_) => cuda::has_kernels(cell),
        Device::Metal(_) => false,
    };
    let dtype = matches!(weight.dtype(), DType::F32 | DType::F64);
    if asked == Way::Fused && !(kernels && dtype) { Way::Manual } else { asked }
}

thread_local! {
    static LAST_RAN: std::cell::Cell<Option<Way>> = const { std::cell::Cell::new(None) };
}

/// The way whose forward or backward ran last on this thread: for tests that prove which one they tested.
pub fn last_ran() -> Option<Way> {
    LAST_RAN.get()
}

/// Forgets what ran.
pub fn reset_last_ran() {
    LAST_RAN.set(None);
}

/// Each engine calls this itself, from the code that does the work.
fn ran(way: Way) {
    LAST_RAN.set(Some(way));
}

/// Whether a forward leaves a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For a backward.
    Tape,
    /// For nothing: memory does not grow with what a backward would need.
    Nothing,
}

/// What a forward leaves for its backward.
#[derive(Debug)]
pub enum Tape {
    /// Of the manual way.
    Manual(manual::Tape),
    /// Of the fused way on the CPU.
    Fused(Box<fused::Tape>),
    /// Of the fused way on a GPU.
    Cuda(Box<cuda::Tape>),
    /// Of either, segment by segment.
    Segments(Box<segments::Tape>),
}

impl Tape {
    /// N and T of the window.
    pub(crate) fn window(&self) -> (usize, usize) {
        match self {
            Self::Manual(tape) => tape.window(),
            Self::Fused(tape) => tape.window(),
            Self::Cuda(tape) => tape.window(),
            Self::Segments(tape) => tape.window(),
        }
    }
}

/// The gradients that a backward hands back.
#[derive(Debug, Clone)]
pub(crate) struct TimeGrads<S> {
    /// With respect to the input, `[N, T, D]`; `None` where it was not asked for.
    pub(crate) dxs: Option<Tensor>,
    /// With respect to the initial state.
    pub(crate) dstate: S,
    /// With respect to each parameter, summed over all steps and rows.
    pub(crate) params: LayerParams,
}

/// Outputs of a window in one buffer, `hs` and then each part of the next state, and the tape if it was asked for.
pub(crate) fn forward<C: Cell>(
    way: Way,
    (cell, home): (&C, &Arc<Home>),
    (xs, state, guides): (&Tensor, &C::State, &Guides),
    keep: Keep,
) -> Result<(Flat, Option<Tape>)> {
    match way {
        // What acts between the steps is no kernel's on a GPU.
        Way::Fused if !xs.device().is_cpu() && guides.is_plain() => {
            let (flat, tape) = cuda::forward(cell, (xs, state, guides), keep)?;
            Ok((Flat::Tensor(flat), tape.map(Box::new).map(Tape::Cuda)))
        }
        Way::Fused if xs.device().is_cpu() => {
            let (flat, tape) = fused::forward(cell, home, (xs, state, guides), keep)?;
            Ok((Flat::Cpu(flat), tape.map(Box::new).map(Tape::Fused)))
        }
        _ => {
            let (flat, tape) = manual::forward(cell, xs, state, guides, keep)?;
            Ok((Flat::Tensor(flat), tape.map(Tape::Manual)))
        }
    }
}

/// The backward that belongs to [`forward`]: `dhs [N, T, P]` and the gradient of the next state come in. Only a tape
/// that is kept can be used again.
pub(crate) fn backward<C: Cell>(
    (cell, home): (&C, &Arc<Home>),
    tape: &Tape,
    dhs: &Tensor,
    dnext: &C::State,
    wants_dxs: bool,
    keep: Keep,
) -> Result<TimeGrads<C::State>> {
    match tape {
        Tape::Manual(tape) => manual::backward(cell, tape, dhs, dnext, wants_dxs),
        Tape::Fused(tape) => fused::backward(cell, tape, dhs, dnext, wants_dxs, keep),
        Tape::Cuda(tape) => cuda::backward(cell, tape, dhs, dnext, wants_dxs),
        Tape::Segments(tape) => segments::backward((cell, home), tape, dhs, dnext, wants_dxs, keep),
    }
}

#[cfg(test)]
mod tests;
