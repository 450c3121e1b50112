//! A cell of one stage that reads what is fed.

use super::{Arithmetic, all_ways, first, streams};
use candle_core::Tensor;
use rnn_core::cell::{PointwiseGrads, RnnState, Saved, Sums};
use rnn_core::kernels::pointwise::{Backward, Forward, Inputs, Pointwise, Reads, Tape};
use rnn_core::kernels::{Kernel, Vector};
use rnn_core::{LayerParams, Result};

/// `t = tanh(a)`, `h' = t (1 + fed / 2)`.
#[derive(Debug, Clone)]
pub(super) struct OnlyFed;

impl Pointwise for OnlyFed {
    const GATES: usize = 1;
    const CARRY: bool = false;
    const READS: Reads = Reads::Fed;
    const EXTRA: bool = false;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, read: fed, .. }: Inputs<V>) -> Forward<V> {
        let t = (input[0] + recurrent[0]).tanh();
        let made = t * (V::one() + V::number(0.5) * fed);
        Forward { gates: first(t), extra: V::zero(), made, c: V::zero() }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, _: V) -> Backward<V> {
        let (t, half) = (tape.gates[0], V::number(0.5));
        let da = dh * (V::one() + half * tape.read) * (V::one() - t * t);
        Backward { read: dh * half * t, ..Backward::one_sided(first(da)) }
    }
}

impl Arithmetic for OnlyFed {
    type State = RnnState;
    const GATES: usize = 1;
    const KERNEL: &'static dyn Kernel = &OnlyFed;

    fn zeros(h: Tensor) -> RnnState {
        RnnState { h }
    }

    fn forward(_: &LayerParams, sums: &Sums, fed: &Tensor, _: &RnnState) -> Result<(RnnState, Saved)> {
        let t = (&sums.input + &sums.recurrent)?.tanh()?;
        let h = (&t * (1.0 + (fed * 0.5)?)?)?;
        Ok((RnnState { h }, Saved(vec![t, fed.clone()])))
    }

    fn backward(_: &LayerParams, saved: &Saved, dnext: &RnnState) -> Result<PointwiseGrads<RnnState>> {
        let [t, fed] = saved.read("OnlyFed")?;
        let da = ((&dnext.h * (1.0 + (fed * 0.5)?)?)? * (1.0 - t.sqr()?)?)?;
        let (dfed, state) = ((&dnext.h * (t * 0.5)?)?, RnnState { h: dnext.h.zeros_like()? });
        Ok(PointwiseGrads { fed: Some(dfed), ..PointwiseGrads::one_sided(da, state) })
    }
}

#[test]
fn one_that_reads_what_is_fed() {
    all_ways::<OnlyFed>();
    streams::<OnlyFed>();
}
