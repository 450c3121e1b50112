//! A cell with the kernel of another.

use super::late_fed::LateFed;
use super::only_fed::OnlyFed;
use super::{Arithmetic, Toy};
use crate::errors::says;
use crate::small::{N, layer, xs};
use candle_core::{DType, Tensor};
use rnn_core::cell::{PointwiseGrads, RnnState, Saved, Sums};
use rnn_core::kernels::Kernel;
use rnn_core::{LayerParams, Recurrent, Result, TimeRnn};

#[derive(Debug, Clone)]
struct Mistaken;

impl Arithmetic for Mistaken {
    type State = RnnState;
    const GATES: usize = 1;
    const KERNEL: &'static dyn Kernel = &LateFed;

    fn zeros(h: Tensor) -> RnnState {
        OnlyFed::zeros(h)
    }

    fn forward(
        params: &LayerParams,
        sums: &Sums,
        fed: &Tensor,
        state: &RnnState,
    ) -> Result<(RnnState, Saved)> {
        OnlyFed::forward(params, sums, fed, state)
    }

    fn backward(params: &LayerParams, saved: &Saved, dnext: &RnnState) -> Result<PointwiseGrads<RnnState>> {
        OnlyFed::backward(params, saved, dnext)
    }
}

#[test]
fn a_kernel_that_is_another_cell_s() {
    let layer: TimeRnn<Toy<Mistaken>> = layer(DType::F32);
    says(
        layer.forward(&xs(DType::F32), &layer.zero_state(N).unwrap()),
        &[
            "Cell::kernel: expected one for 1 gates (1 of them recurrent), 1 parts of a state and 0 numbers of its own",
            "got 3 gates (2 of them recurrent), 2 parts",
        ],
    );
}
