//! What an engine knows of a cell: constants, and its stages behind one type, so that the time loop is compiled for no cell.

use super::part::{self as parts, BackwardWindow, ForwardWindow, Part, Which};
use crate::kernels::Real;
use crate::kernels::dispatch::Cpu;
use crate::kernels::pointwise::{Between, MAX_GATES, MAX_OWN, Pointwise, Reads, Stages};
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
    /// # Panics
    /// Where the stages are not as [`Stages`] says: in a constant, as kernels have it, such do not compile.
    pub(in crate::kernels) const fn of<C: Stages>() -> Self {
        assert!(C::Last::OWN <= MAX_OWN, "more numbers of a cell's own than MAX_OWN");
        assert!(C::Last::GATES > 0 && C::First::GATES > 0, "a stage without gates");
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
        let Some(between) = C::BETWEEN else {
            assert!(last.gates <= MAX_GATES, "more gates than MAX_GATES");
            assert!(
                !matches!(C::Last::READS, Reads::Between),
                "the only stage reads what stands between two"
            );
            return last;
        };
        let gates = C::First::GATES + last.gates;
        assert!(gates <= MAX_GATES, "more gates than MAX_GATES");
        assert!(C::First::OWN == 0, "the first of two stages has numbers of its own");
        assert!(!(C::First::EXTRA && last.extra), "two stages with an extra");
        assert!(!(C::First::CARRY && last.carry), "two stages that make the next c");
        assert!(C::First::TWO_SIDED == last.two_sided, "one of two stages is two-sided");
        assert!(
            !(last.two_sided && matches!(between, Between::Product)),
            "two-sided stages beside a product"
        );
        assert!(!matches!(C::First::READS, Reads::Between), "the first stage reads what it makes");
        assert!(!matches!(C::First::READS, Reads::Hidden), "the first of two stages reads the hidden state");
        assert!(
            !(matches!(C::First::READS, Reads::Fed) && last.reads_fed),
            "two stages that read what is fed"
        );
        assert!(
            matches!(between, Between::Norm) == matches!(C::Last::READS, Reads::Between),
            "the last stage reads what is normalised before it, and no product"
        );
        Self {
            gates,
            first: C::First::GATES,
            recurrent: if matches!(between, Between::Product) { gates - 1 } else { gates },
            carry: C::First::CARRY || last.carry,
            extra: C::First::EXTRA || last.extra,
            two_sided: C::First::TWO_SIDED || last.two_sided,
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
        const { Traits::of::<C>() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::pointwise::{Backward, CellNormLstm, Forward, Gru, Inputs, ResetBeforeGru, Tape};
    use crate::kernels::{Vector, tests};
    use std::marker::PhantomData;

    /// `KIND`: 0 for a plain one, 1 for one with an extra, 2 with a c, 3 for one that reads what stands between, 4 the hidden
    /// state, 5 what is fed.
    struct Stage<const GATES: usize, const OWN: usize, const KIND: usize, const TWO_SIDED: bool>;

    struct Both<First, Last, const PRODUCT: bool>(PhantomData<fn() -> (First, Last)>);

    fn forward<V: Vector>() -> Forward<V> {
        Forward { gates: [V::zero(); MAX_GATES], extra: V::zero(), made: V::zero(), c: V::zero() }
    }

    impl<const G: usize, const O: usize, const K: usize, const S: bool> Pointwise for Stage<G, O, K, S> {
        const GATES: usize = G;
        const CARRY: bool = K == 2;
        const READS: Reads = match K {
            3 => Reads::Between,
            4 => Reads::Hidden,
            5 => Reads::Fed,
            _ => Reads::Nothing,
        };
        const EXTRA: bool = K == 1;
        const TWO_SIDED: bool = S;
        const OWN: usize = O;

        fn forward<V: Vector>(_: Inputs<V>) -> Forward<V> {
            forward()
        }

        fn backward<V: Vector>(_: &Tape<V>, _: V, _: V) -> Backward<V> {
            Backward::one_sided([V::zero(); MAX_GATES])
        }
    }

    impl<First: Pointwise, Last: Pointwise, const PRODUCT: bool> Stages for Both<First, Last, PRODUCT> {
        type First = First;
        type Last = Last;
        const BETWEEN: Option<Between> = Some(if PRODUCT { Between::Product } else { Between::Norm });
    }

    fn refused<C: Stages>(want: &str) {
        assert_eq!(tests::refused(|| _ = Traits::of::<C>()), want);
    }

    #[test]
    fn stages_that_members_would_race_in_are_refused() {
        type Plain = Stage<1, 0, 0, false>;
        type Reader = Stage<1, 0, 3, false>;
        refused::<Both<Stage<1, 1, 0, false>, Stage<1, 2, 0, false>, false>>(
            "the first of two stages has numbers of its own",
        );
        refused::<Both<Plain, Stage<1, 4, 0, false>, false>>("more numbers of a cell's own than MAX_OWN");
        refused::<Both<Stage<3, 0, 0, false>, Stage<2, 0, 0, false>, false>>("more gates than MAX_GATES");
        refused::<Stage<5, 0, 0, false>>("more gates than MAX_GATES");
        refused::<Stage<0, 0, 0, false>>("a stage without gates");
        refused::<Both<Stage<0, 0, 0, false>, Reader, false>>("a stage without gates");
        refused::<Both<Plain, Stage<0, 0, 3, false>, false>>("a stage without gates");
        refused::<Both<Stage<1, 0, 1, false>, Stage<1, 0, 1, false>, false>>("two stages with an extra");
        refused::<Both<Stage<1, 0, 2, false>, Stage<1, 0, 2, false>, false>>(
            "two stages that make the next c",
        );
        refused::<Both<Plain, Stage<1, 0, 0, true>, false>>("one of two stages is two-sided");
        refused::<Both<Stage<1, 0, 0, true>, Stage<1, 0, 0, true>, true>>(
            "two-sided stages beside a product",
        );
        refused::<Both<Reader, Plain, false>>("the first stage reads what it makes");
        refused::<Reader>("the only stage reads what stands between two");
        refused::<Both<Stage<1, 0, 4, false>, Reader, false>>(
            "the first of two stages reads the hidden state",
        );
        refused::<Both<Stage<1, 0, 5, false>, Stage<1, 0, 5, false>, true>>(
            "two stages that read what is fed",
        );
        let unread = "the last stage reads what is normalised before it, and no product";
        refused::<Both<Plain, Reader, true>>(unread);
        refused::<Both<Plain, Plain, false>>(unread);
        for traits in [Traits::of::<Gru>(), Traits::of::<ResetBeforeGru>(), Traits::of::<CellNormLstm>()] {
            assert!(traits.gates <= MAX_GATES);
        }
        assert_eq!(Traits::of::<Both<Plain, Reader, false>>().gates, 2);
    }
}
