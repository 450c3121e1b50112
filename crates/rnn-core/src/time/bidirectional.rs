//! Two layers over the same window, one in each direction.

use super::plan::Plan;
use super::{Layer, LayerGrads, Recurrent, TimeRnn, TimeTape};
use crate::cell::{Cell, LayerSpec, State};
use crate::convention::{Direction, REVERSE};
use crate::{Error, Result};
use candle_core::{D, Tensor};

/// A recurrent layer that reads its window from both ends; the outputs of both directions stand side by side, as
/// PyTorch joins them: `hs [N, T, 2P]`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use rnn_core::{Bidirectional, Layer, LayerSpec, LstmCell, Parameters, Recurrent};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// let both = Bidirectional::<LstmCell>::build(LayerSpec::new(3, 4), &parameters.builder())?;
/// let (hs, last) = both.forward(&Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?, &both.zero_state(2)?)?;
/// assert_eq!(hs.dims(), [2, 5, 8]);
/// // The forward direction ends with the last step, the reversed one with the first.
/// assert_eq!(hs.get(0)?.get(0)?.to_vec1::<f32>()?[4..], last.reverse.h.to_vec2::<f32>()?[0]);
/// assert_eq!(parameters.named()[4].0, "weight_ih_l0_reverse");
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Bidirectional<C> {
    forward: TimeRnn<C>,
    reverse: TimeRnn<C>,
}

impl<C: Cell> Bidirectional<C> {
    /// Both directions, which have the same sizes.
    ///
    /// # Errors
    /// Where the sizes differ, or one goes in the direction that the other one should.
    pub fn new(forward: TimeRnn<C>, reverse: TimeRnn<C>) -> Result<Self> {
        let (a, b) = (forward.cell().spec(), reverse.cell().spec());
        let sizes = |spec: &LayerSpec| format!("{} -> {}", spec.input, spec.output());
        if (a.input, a.output()) != (b.input, b.output()) {
            return Err(Error::invalid("Bidirectional: reverse", sizes(a), sizes(b)));
        }
        for (layer, want) in [(a, Direction::Forward), (b, Direction::Reverse)] {
            if layer.place.direction != want {
                let got = format!("{:?}", layer.place.direction);
                return Err(Error::invalid("Bidirectional: direction", format!("{want:?}"), got)
                    .hint("LayerSpec::direction says it"));
            }
        }
        Ok(Self { forward, reverse })
    }

    fn join(hs: [Tensor; 2]) -> Result<Tensor> {
        Ok(Tensor::cat(&hs, D::Minus1)?)
    }

    fn each<R>(
        &self,
        state: &BothStates<C::State>,
        mut run: impl FnMut(&TimeRnn<C>, &C::State) -> Result<R>,
    ) -> Result<[R; 2]> {
        Ok([run(&self.forward, &state.forward)?, run(&self.reverse, &state.reverse)?])
    }
}

impl<C: Cell> Recurrent for Bidirectional<C> {
    type State = BothStates<C::State>;

    fn forward_with(&self, xs: &Tensor, state: &Self::State, plan: &Plan) -> Result<(Tensor, Self::State)> {
        let [(a, forward), (b, reverse)] =
            self.each(state, |layer, state| layer.forward_with(xs, state, plan))?;
        Ok((Self::join([a, b])?, BothStates { forward, reverse }))
    }

    fn infer_with(&self, xs: &Tensor, state: &Self::State, plan: &Plan) -> Result<(Tensor, Self::State)> {
        let [(a, forward), (b, reverse)] =
            self.each(state, |layer, state| layer.infer_with(xs, state, plan))?;
        Ok((Self::join([a, b])?, BothStates { forward, reverse }))
    }

    fn zero_state(&self, batch: usize) -> Result<Self::State> {
        Ok(BothStates { forward: self.forward.zero_state(batch)?, reverse: self.reverse.zero_state(batch)? })
    }

    fn input_size(&self) -> usize {
        self.forward.input_size()
    }

    fn output_size(&self) -> usize {
        2 * self.forward.output_size()
    }

    fn goes_forward(&self) -> bool {
        false
    }

    fn draws(&self) -> bool {
        self.forward.draws() || self.reverse.draws()
    }
}

impl<C: Cell> Layer for Bidirectional<C> {
    type Cell = C;
    type Tape = [TimeTape; 2];

    fn make(spec: LayerSpec, mut cell: impl FnMut(LayerSpec) -> Result<C>) -> Result<Self> {
        let [forward, reverse] = Direction::BOTH.map(|direction| cell(spec.direction(direction)));
        Self::new(TimeRnn::new(forward?), TimeRnn::new(reverse?))
    }

    fn map(self, f: &mut dyn FnMut(TimeRnn<C>) -> Result<TimeRnn<C>>) -> Result<Self> {
        Self::new(f(self.forward)?, f(self.reverse)?)
    }

    fn directions(&self) -> Vec<&TimeRnn<C>> {
        vec![&self.forward, &self.reverse]
    }

    fn forward_taped_with(
        &self,
        xs: &Tensor,
        state: &Self::State,
        plan: &Plan,
    ) -> Result<(Tensor, Self::State, [TimeTape; 2])> {
        let [(a, forward, there), (b, reverse, back)] =
            self.each(state, |layer, state| layer.forward_taped_with(xs, state, plan))?;
        Ok((Self::join([a, b])?, BothStates { forward, reverse }, [there, back]))
    }

    fn backward(
        &self,
        [there, back]: [TimeTape; 2],
        dhs: &Tensor,
        dnext: &Self::State,
    ) -> Result<LayerGrads<Self::State>> {
        let width = self.output_size();
        if dhs.dims().last() != Some(&width) {
            let want = format!("[N, T, {width}]");
            return Err(Error::invalid("Bidirectional::backward: dhs", want, format!("{:?}", dhs.dims())));
        }
        let size = self.forward.output_size();
        let a = self.forward.backward(there, &dhs.narrow(2, 0, size)?, &dnext.forward)?;
        let b = self.reverse.backward(back, &dhs.narrow(2, size, size)?, &dnext.reverse)?;
        let dstate = BothStates { forward: a.dstate, reverse: b.dstate };
        Ok(LayerGrads { dxs: (a.dxs + b.dxs)?, dstate, params: [a.params, b.params].concat() })
    }
}

/// A state for each direction.
#[derive(Debug, Clone)]
pub struct BothStates<S> {
    /// Of the direction that begins with the first step.
    pub forward: S,
    /// Of the one that begins with the last.
    pub reverse: S,
}

impl<S: State> State for BothStates<S> {
    fn parts(&self) -> Vec<&Tensor> {
        [&self.forward, &self.reverse].into_iter().flat_map(State::parts).collect()
    }

    fn names(&self) -> Vec<String> {
        let reverse = self.reverse.names().into_iter().map(|name| name + REVERSE);
        self.forward.names().into_iter().chain(reverse).collect()
    }

    fn try_map(&self, f: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { forward: self.forward.try_map(f)?, reverse: self.reverse.try_map(f)? })
    }
}
