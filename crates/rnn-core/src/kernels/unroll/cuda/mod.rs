//! The fused way on a GPU: the input product of all steps is one product, each step a product and one kernel, which is the
//! cell's arithmetic as it stands in `pointwise/`. Plain windows of cells with one stage, neither projected nor with
//! products that are normalised; where masks or lengths act between the steps, and for other cells, the manual way runs.

#[cfg(not(feature = "cuda"))]
mod absent;
#[cfg(feature = "cuda")]
mod held;
#[cfg(feature = "cuda")]
mod launch;
#[cfg(any(feature = "cuda", test))]
mod source;
#[cfg(feature = "cuda")]
mod window;

#[cfg(not(feature = "cuda"))]
use absent as window;

pub(super) use window::{Tape, backward, forward};

use super::kernel::{Kernel, KernelOf};
use super::slots::Slots;
use crate::cell::{Cell, LayerParams};

/// Whether the fused way can run this cell on a GPU, in this build.
pub(super) fn has_kernels<C: Cell>(cell: &C) -> bool {
    let one_stage = |kernel: &dyn Kernel| KernelOf::<f32>::traits(kernel).between.is_none();
    cfg!(feature = "cuda") && cell.kernel().is_some_and(one_stage) && plain(cell.params())
}

/// Whether a step is one product, and what a cell has beside it is for single units.
fn plain(params: &LayerParams) -> bool {
    let there = params.tensors().into_iter().map(Some);
    Slots::in_order(params, there)
        .is_ok_and(|slots| slots.weight_hr.is_none() && slots.norm_ih.is_none() && slots.norm_hh.is_none())
}

#[cfg(test)]
mod tests {
    use super::source::source;
    use crate::kernels::Kernel;
    use crate::kernels::pointwise::{Gru, Lstm, PeepholeLstm, RnnTanh};
    use candle_core::DType;

    fn text(kernel: &dyn Kernel, dtype: DType) -> String {
        source(&kernel.traced().unwrap(), dtype)
    }

    #[test]
    fn lines_are_c() {
        let rnn = text(&RnnTanh, DType::F32);
        for line in ["    const real t0 = input0;\n", " = tanh(t", "    const real made = t"] {
            assert!(rnn.contains(line), "{line:?} in {rnn}");
        }
    }

    #[test]
    fn kernels_touch_what_their_cell_has_and_no_more() {
        let (rnn, lstm) = (text(&RnnTanh, DType::F32), text(&Lstm, DType::F64));
        assert!(rnn.starts_with("typedef float real;") && lstm.starts_with("typedef double real;"));
        for (touched, by) in [("w.c[i] = ", &lstm), ("w.dc[i] = ", &lstm), ("w.c_before[", &lstm)] {
            assert!(by.contains(touched) && !rnn.contains(touched), "{touched}");
        }
        let (gru, peephole) = (text(&Gru, DType::F32), text(&PeepholeLstm, DType::F32));
        for (touched, by) in [("w.drecurrent[sums", &gru), ("read = w.before", &gru), ("w.terms[", &peephole)]
        {
            assert!(by.contains(touched) && !lstm.contains(touched), "{touched}");
        }
    }
}
