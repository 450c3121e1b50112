//! What is compiled for f32 and f64 here, once: code that is generic over the type is compiled again by every crate that calls
//! it, and this is the loops of all three kinds of instructions. So generic code asks [`Real::compiled`] for them, and the
//! stages of a cell stand behind `dyn Kernel` in a static of this crate ([`crate::Cell::kernel`]).

use super::Real;
use super::dispatch::{Cpu, run};
use super::product;
use super::unroll::part;
use super::unroll::stream;

/// The tasks that generic code gives to members of the team, for one type.
pub struct Compiled<T: Real> {
    pub(super) product: fn(Cpu, product::Part<'_, T>),
    pub(super) column_sums: fn(Cpu, product::Sums<'_, T>),
    pub(super) forward: fn(Cpu, part::Forward<'_, T>),
    pub(super) backward: fn(Cpu, part::Backward<'_, T>),
    pub(super) norm: fn(Cpu, part::Norm<'_, T>),
    pub(super) norm_back: fn(Cpu, part::NormBack<'_, T>),
    pub(super) pack: fn(Cpu, stream::Pack<'_, T>),
    pub(super) step_product: fn(Cpu, part::StepProduct<'_, T>),
}

impl<T: Real> Compiled<T> {
    pub(super) const fn new() -> Self {
        Self {
            product: |cpu, task| run(cpu, task),
            column_sums: |cpu, task| run(cpu, task),
            forward: |cpu, task| run(cpu, task),
            backward: |cpu, task| run(cpu, task),
            norm: |cpu, task| run(cpu, task),
            norm_back: |cpu, task| run(cpu, task),
            pack: |cpu, task| run(cpu, task),
            step_product: |cpu, task| run(cpu, task),
        }
    }
}
