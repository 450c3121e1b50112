//! What an engine knows of a cell: constants, and its stages behind one type, so that the time loop is compiled for no cell.

use super::part::{self as parts, BackwardWindow, ForwardWindow, Part, Which};
use crate::kernels::Real;
use crate::kernels::dispatch::Cpu;
use crate::kernels::pointwise::{Between, Pointwise, Reads, Stages};
use crate::kernels::trace::{Traced, traced};
use std::any::TypeId;

/// What an engine asks of a cell's arithmetic; all [`Stages`] have it.
pub trait KernelOf<T: Real>: Send + Sync {
    /// What the engine must provide room for.
    fn traits(&self) -> Traits;
    /// A stage of step t, which is taken as number s, for some rows and units; its gate sums are there.
    fn stage(&self, cpu: Cpu, window: &ForwardWindow<'_, T>, at: (usize, usize), part: &Part, which: Which);
    /// Its backward; the gradients of what it made are there.
    fn stage_back(
        &self,
        cpu: Cpu,
        window: &BackwardWindow<'_, T>,
        at: (usize, usize),
        part: &Part,
        which: Which,
    );
}

/// The constants of a cell's [`Stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// G
    pub gates: usize,
    /// Those of the first of two stages.
    pub first: usize,
    /// R: those that the recurrent product has a part in, which come first.
    pub recurrent: usize,
    /// [`Pointwise::CARRY`]
    pub carry: bool,
    /// [`Pointwise::EXTRA`]
    pub extra: bool,
    /// [`Pointwise::TWO_SIDED`]
    pub two_sided: bool,
    /// Whether the hidden state before a step is read.
    pub reads_h: bool,
    /// Whether what is fed is read, beside the recurrent product.
    pub reads_fed: bool,
    /// What stands between two stages.
    pub between: Option<Between>,
    /// [`Pointwise::OWN`]
    pub own: usize,
}

impl Traits {
    pub(in crate::kernels) const fn of<C: Stages>() -> Self {
        let last = Self {
            gates: C::Last::GATES,
            first: 0,
            recurrent: C::Last::GATES,
            carry: C::Last::CARRY,
            extra: C::Last::EXTRA,
            two_sided: C::Last::TWO_SIDED,
            reads_h: matches!(C::Last::READS, Reads::Hidden),
            reads_fed: matches!(C::Last::READS, Reads::Fed),
            between: C::BETWEEN,
            own: C::Last::OWN,
        };
        let Some(between) = C::BETWEEN else { return last };
        let gates = C::First::GATES + last.gates;
        Self {
            gates,
            first: C::First::GATES,
            recurrent: if matches!(between, Between::Product) { gates - 1 } else { gates },
            carry: C::First::CARRY || last.carry,
            extra: C::First::EXTRA || last.extra,
            two_sided: C::First::TWO_SIDED || last.two_sided,
            reads_h: last.reads_h || matches!(C::First::READS, Reads::Hidden),
            reads_fed: last.reads_fed || matches!(C::First::READS, Reads::Fed),
            ..last
        }
    }
}

/// A cell's arithmetic for both types.
pub trait Kernel: KernelOf<f32> + KernelOf<f64> {
    /// What tells it from others.
    fn id(&self) -> TypeId;
    /// What it is called in messages.
    fn name(&self) -> &'static str;
    /// The same arithmetic as text, which the kernels of a GPU are made from; none of a cell with two stages.
    fn traced(&self) -> Option<Traced>;
}

impl<C: Stages> Kernel for C {
    fn id(&self) -> TypeId {
        TypeId::of::<C>()
    }

    fn name(&self) -> &'static str {
        std::any::type_name::<C>()
    }

    fn traced(&self) -> Option<Traced> {
        traced::<C>()
    }
}

impl<T: Real, C: Stages> KernelOf<T> for C {
    fn traits(&self) -> Traits {
        Traits::of::<C>()
    }

    fn stage(&self, cpu: Cpu, window: &ForwardWindow<'_, T>, at: (usize, usize), part: &Part, which: Which) {
        parts::stage::<T, C>(cpu, window, at, part, which);
    }

    fn stage_back(
        &self,
        cpu: Cpu,
        window: &BackwardWindow<'_, T>,
        at: (usize, usize),
        part: &Part,
        which: Which,
    ) {
        parts::stage_back::<T, C>(cpu, window, at, part, which);
    }
}
