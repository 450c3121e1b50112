//! Kernels from outside the crate, of stages that no cell in it has: what [`Stages`] admits is computed, in any window.

mod late_fed;
mod mistaken;
mod norm_between;
mod only_fed;

use crate::numbers::random;
use crate::steering::{NORMED, holds_at};
use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_nn::VarBuilder;
use rnn_core::cell::{CellState, PointwiseGrads, Saved, Sums};
use rnn_core::kernels::pointwise::MAX_GATES;
use rnn_core::kernels::{Kernel, Vector};
use rnn_core::{
    Bias, Cell, Direction, Layer, LayerParams, LayerSpec, Parameters, Recurrent, Result, Stack, TimeRnn,
};
use std::fmt::Debug;
use std::marker::PhantomData;

/// What a cell computes, in tensor ops; and its kernel.
trait Arithmetic: Clone + Debug + Send + Sync + 'static {
    type State: CellState;
    const GATES: usize;
    const KERNEL: &'static dyn Kernel;

    fn parameters(spec: &LayerSpec, vb: &VarBuilder) -> Result<LayerParams> {
        LayerParams::new(spec, Self::GATES, vb)
    }

    fn zeros(zeros: Tensor) -> Self::State;

    fn forward(
        params: &LayerParams,
        sums: &Sums,
        fed: &Tensor,
        state: &Self::State,
    ) -> Result<(Self::State, Saved)>;

    fn backward(
        params: &LayerParams,
        saved: &Saved,
        dnext: &Self::State,
    ) -> Result<PointwiseGrads<Self::State>>;
}

#[derive(Debug, Clone)]
struct Toy<A> {
    spec: LayerSpec,
    params: LayerParams,
    of: PhantomData<A>,
}

impl<A: Arithmetic> Cell for Toy<A> {
    type State = A::State;
    const GATES: usize = A::GATES;

    fn new(spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        Ok(Self { spec, params: A::parameters(&spec, &vb)?, of: PhantomData })
    }

    fn spec(&self) -> &LayerSpec {
        &self.spec
    }

    fn params(&self) -> &LayerParams {
        &self.params
    }

    fn with_params(&self, params: LayerParams) -> Self {
        Self { params, ..self.clone() }
    }

    fn zero_state(&self, batch: usize) -> Result<A::State> {
        let weight = &self.params.weight_ih;
        Ok(A::zeros(Tensor::zeros((batch, self.spec.hidden), weight.dtype(), weight.device())?))
    }

    fn pointwise_forward(&self, sums: &Sums, state: &A::State) -> Result<(A::State, Saved)> {
        self.pointwise_fed(sums, state.h(), state)
    }

    fn pointwise_fed(&self, sums: &Sums, fed: &Tensor, state: &A::State) -> Result<(A::State, Saved)> {
        A::forward(&self.params, sums, fed, state)
    }

    fn pointwise_backward(&self, saved: &Saved, dnext: &A::State) -> Result<PointwiseGrads<A::State>> {
        A::backward(&self.params, saved, dnext)
    }

    fn kernel(&self) -> Option<&'static dyn Kernel> {
        Some(A::KERNEL)
    }
}

fn all_ways<A: Arithmetic>() {
    for direction in Direction::BOTH {
        for bias in [Bias::None, Bias::Single, Bias::Both] {
            holds_at(&NORMED, |case| {
                let spec = case.spec(bias).direction(direction);
                TimeRnn::<Toy<A>>::build(spec, &case.parameters.builder())
            });
        }
    }
}

/// Step by step with packed weights it has the bits of a window.
fn streams<A: Arithmetic>() {
    let [n, steps, d, h] = [2, 5, 3, 37];
    let parameters = Parameters::new(4, DType::F32, &Device::Cpu);
    let stack = Stack::<TimeRnn<Toy<A>>>::new(LayerSpec::new(d, h), 2, &parameters.builder()).unwrap();
    let xs = random(&[n, steps, d], DType::F32, "xs");
    let (hs, _) = stack.infer(&xs, &stack.zero_state(n).unwrap()).unwrap();
    let mut stream = stack.stream::<f32>(n).unwrap();
    for t in 0..steps {
        let row =
            |tensor: &Tensor| tensor.i((.., t)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(stream.step(&row(&xs)).unwrap(), row(&hs), "step {t}");
    }
}

fn first<V: Vector>(gate: V) -> [V; MAX_GATES] {
    [gate, V::zero(), V::zero(), V::zero()]
}

fn halves(sums: &Sums, gates: (usize, usize)) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
    Ok((sums.input.chunk(gates.0, D::Minus1)?, sums.recurrent.chunk(gates.1, D::Minus1)?))
}
