//! candle-nn's own LSTM and GRU, stacked: its `seq_init` and a stack of the hidden states.

use crate::graph::Layers;
use anyhow::{Result, bail};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use candle_nn::rnn::{GRU, GRUConfig, GRUState, LSTM, LSTMConfig, LSTMState, RNN, gru, lstm};
use rnn_lm::model::CellKind;

/// A stack of one kind.
pub(crate) enum CandleNn {
    Lstm(Vec<LSTM>),
    Gru(Vec<GRU>),
}

/// The states of the layers of one kind.
pub(crate) enum CandleNnState {
    Lstm(Vec<LSTMState>),
    Gru(Vec<GRUState>),
}

impl CandleNn {
    /// Layers of (input, hidden, number of layers) under PyTorch's names.
    pub(crate) fn new(
        kind: CellKind,
        (input, hidden, layers): (usize, usize, usize),
        vb: &VarBuilder<'static>,
    ) -> Result<Self> {
        let width = |k: usize| if k == 0 { input } else { hidden };
        match kind {
            CellKind::Rnn => bail!("candle-nn has no plain RNN"),
            CellKind::Lstm => {
                let layer = |k| {
                    let config = LSTMConfig { layer_idx: k, ..LSTMConfig::default() };
                    Ok(lstm(width(k), hidden, config, vb.clone())?)
                };
                Ok(Self::Lstm((0..layers).map(layer).collect::<Result<_>>()?))
            }
            CellKind::Gru => {
                // candle-nn's GRU knows layer 0 only.
                let layer = |k: usize| {
                    // The whole name comes in, and the builder behind this one puts its prefix before it again.
                    let renamed = vb.clone().rename_f(move |name: &str| {
                        let last = name.rsplit('.').next().unwrap_or(name);
                        last.replace("_l0", &format!("_l{k}"))
                    });
                    Ok(gru(width(k), hidden, GRUConfig::default(), renamed)?)
                };
                Ok(Self::Gru((0..layers).map(layer).collect::<Result<_>>()?))
            }
        }
    }
}

fn through<R: RNN>(
    layers: &[R],
    xs: &Tensor,
    states: &[R::State],
    h: impl Fn(&R::State) -> Tensor,
) -> Result<(Tensor, Vec<R::State>)> {
    let (mut xs, mut next) = (xs.clone(), Vec::with_capacity(layers.len()));
    for (layer, state) in layers.iter().zip(states) {
        let steps = layer.seq_init(&xs, state)?;
        // Not `states_to_tensor`: the GRU's joins the steps side by side in one dimension.
        xs = Tensor::stack(&steps.iter().map(&h).collect::<Vec<_>>(), 1)?;
        next.extend(steps.last().cloned());
    }
    Ok((xs, next))
}

impl Layers for CandleNn {
    type State = CandleNnState;

    fn zero_state(&self, batch: usize) -> Result<CandleNnState> {
        Ok(match self {
            Self::Lstm(layers) => {
                CandleNnState::Lstm(layers.iter().map(|l| l.zero_state(batch)).collect::<Result<_, _>>()?)
            }
            Self::Gru(layers) => {
                CandleNnState::Gru(layers.iter().map(|l| l.zero_state(batch)).collect::<Result<_, _>>()?)
            }
        })
    }

    fn forward(&self, xs: &Tensor, state: &CandleNnState) -> Result<(Tensor, CandleNnState)> {
        match (self, state) {
            (Self::Lstm(layers), CandleNnState::Lstm(states)) => {
                let (hs, next) = through(layers, xs, states, |s| s.h.clone())?;
                Ok((hs, CandleNnState::Lstm(next)))
            }
            (Self::Gru(layers), CandleNnState::Gru(states)) => {
                let (hs, next) = through(layers, xs, states, |s| s.h.clone())?;
                Ok((hs, CandleNnState::Gru(next)))
            }
            _ => bail!("a state of another kind of layer"),
        }
    }

    fn infer(&self, xs: &Tensor, state: &CandleNnState) -> Result<(Tensor, CandleNnState)> {
        let (hs, next) = self.forward(xs, state)?;
        Ok((hs.detach(), Self::detach(next)))
    }

    fn detach(state: CandleNnState) -> CandleNnState {
        match state {
            CandleNnState::Lstm(states) => CandleNnState::Lstm(
                states.into_iter().map(|s| LSTMState::new(s.h.detach(), s.c.detach())).collect(),
            ),
            CandleNnState::Gru(states) => {
                CandleNnState::Gru(states.into_iter().map(|s| GRUState { h: s.h.detach() }).collect())
            }
        }
    }
}
