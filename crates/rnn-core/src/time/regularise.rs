//! Regularisers of a recurrent layer, and their masks, which a seed fixes.

use super::plan::Draw;
use crate::cell::{Cell, LayerParams, State};
use crate::kernels::unroll::Guides;
use crate::mask::{kept, mask};
use crate::rng::Stream;
use crate::{Error, LayerSpec, Place, Result};
use candle_core::{DType, Device, Tensor};

/// What is dropped or kept at random while a layer is trained. Every rate is the probability of it, from 0, which is
/// none, to below 1. What is dropped becomes zero and the rest is divided by `1 - rate`, so that inference uses all of it
/// as it is; zoneout's inference takes the expectation.
///
/// ```text
/// fed   = m_recurrent * h                        what the recurrent product takes in the place of h
/// next  = cell(m_input * x, fed, state)          with the weight m_weight * weight_hh
/// state = keep * state + (1 - keep) * next       zoneout, of h and of c
/// out   = m_output * state.h
/// ```
///
/// An m is 0 with the probability of its rate, else 1 / (1 - rate): m_input `[N, D]`, m_recurrent and m_output
/// `[N, P]`, m_weight as the weight. keep `[N, T, size]` is 1 with the probability of its rate, else 0; in inference
/// it is the rate itself, and every m is 1. No cell knows of any of it.
///
/// A GRU whose weights are zero makes h / 2 of h. Half of that and half of h is what zoneout expects:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use rnn_core::{Cell, GruCell, GruState, LayerSpec, Recurrent, Regularisers, TimeRnn};
/// let gru = GruCell::new(LayerSpec::new(1, 1), VarBuilder::zeros(DType::F64, &Device::Cpu))?;
/// let half = Regularisers { zoneout_h: 0.5, ..Regularisers::default() };
/// let gru = TimeRnn::new(gru).with_regularisers(half)?;
/// let start = GruState { h: Tensor::ones((1, 1), DType::F64, &Device::Cpu)? };
/// let (hs, _) = gru.infer(&Tensor::ones((1, 2, 1), DType::F64, &Device::Cpu)?, &start)?;
/// assert_eq!(hs.flatten_all()?.to_vec1::<f64>()?, [0.75, 0.5625]);
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Regularisers {
    /// Units of the input, the same ones at all steps of a row: locked or variational dropout (Gal & Ghahramani 2016).
    pub input: f64,
    /// Units of the output, likewise. What is fed back stays whole.
    pub output: f64,
    /// Units of the hidden state that the recurrent product takes, likewise.
    pub recurrent: f64,
    /// Single weights of `weight_hh`, and of a `weight_hn` where a cell has one, the same ones at all steps and rows (Merity et
    /// al. 2018).
    pub weight: f64,
    /// Units of the hidden state that keep their value at a step, others at each step (Krueger et al. 2017).
    pub zoneout_h: f64,
    /// Units of an LSTM's cell state, likewise; of other cells it has to be 0.
    pub zoneout_c: f64,
}

impl Regularisers {
    fn rates(&self) -> [(&'static str, f64); 6] {
        [
            ("input", self.input),
            ("output", self.output),
            ("recurrent", self.recurrent),
            ("weight", self.weight),
            ("zoneout_h", self.zoneout_h),
            ("zoneout_c", self.zoneout_c),
        ]
    }

    /// # Errors
    /// Where one is no rate, or is of what the cell does not have.
    pub(super) fn check<C: Cell>(&self, cell: &C) -> Result<()> {
        for (name, rate) in self.rates() {
            check_rate(&format!("Regularisers: {name}"), rate)?;
        }
        if self.zoneout_c > 0.0 && cell.zero_state(1)?.parts().len() < 2 {
            let want = "0 for a cell whose state has no c";
            return Err(Error::invalid("Regularisers: zoneout_c", want, self.zoneout_c)
                .hint("zoneout_h keeps units of h"));
        }
        Ok(())
    }

    /// Whether there is zoneout, which acts in inference too.
    pub fn zones_out(&self) -> bool {
        self.zoneout_h > 0.0 || self.zoneout_c > 0.0
    }

    pub(super) fn any(&self) -> bool {
        self.rates().into_iter().any(|(_, rate)| rate > 0.0)
    }
}

/// What every rate of this project is held to.
///
/// # Errors
/// Where it is no probability below 1.
pub fn check_rate(op: &str, rate: f64) -> Result<()> {
    match rate {
        rate if (0.0..1.0).contains(&rate) => Ok(()),
        _ => Err(Error::invalid(op, "a rate of at least 0 and below 1", rate)),
    }
}

/// The masks of one window that stand outside of its steps.
#[derive(Debug, Clone, Default)]
pub(super) struct Masks {
    /// `[N, D]`
    pub(super) input: Option<Tensor>,
    /// `[N, P]`
    pub(super) output: Option<Tensor>,
    /// Of each recurrent weight, by its name.
    pub(super) weights: Vec<(&'static str, Tensor)>,
}

impl Masks {
    /// Recurrent weights, or their gradients, without what is dropped of them.
    pub(super) fn drop_weights(&self, params: &LayerParams) -> Result<LayerParams> {
        let mut params = params.clone();
        for (name, mask) in &self.weights {
            if let Some(weight) = params.recurrent_mut(name) {
                *weight = (&*weight * mask)?;
            }
        }
        Ok(params)
    }
}

impl Regularisers {
    /// Those of a window of `xs [N, T, D]`, and in `guides` those that act at its steps; without a draw what is
    /// expected of them.
    pub(super) fn masks<C: Cell>(
        &self,
        cell: &C,
        xs: &Tensor,
        draw: Option<Draw>,
        guides: &mut Guides,
    ) -> Result<Masks> {
        let (batch, time, input) = xs.dims3()?;
        let (dtype, device) = (xs.dtype(), xs.device());
        let spec: &LayerSpec = cell.spec();
        let output = spec.output();
        let source = draw.map(|draw| Source { draw, place: spec.place, dtype, device });
        // One keep for each part of the state, or none at all.
        let rates = [self.zoneout_h, self.zoneout_c];
        let zone = |part: usize| rates.get(part).copied().unwrap_or(0.0);
        let zeros = cell.zero_state(1)?;
        let sizes: Vec<usize> =
            zeros.parts().iter().map(|part| Ok(part.dims2()?.1)).collect::<Result<_>>()?;
        if (0..sizes.len()).any(|part| zone(part) > 0.0) {
            let keep = |(part, &size): (usize, &usize)| match &source {
                Some(source) if zone(part) > 0.0 => {
                    source.ones(&format!("zoneout{part}"), (zone(part), 1.0), &[batch, time, size])
                }
                _ => Ok((Tensor::ones((1, 1, size), dtype, device)? * zone(part))?),
            };
            guides.keep = sizes.iter().enumerate().map(keep).collect::<Result<_>>()?;
        }
        let Some(source) = source else { return Ok(Masks::default()) };
        guides.mask = source.dropout("recurrent", self.recurrent, &[batch, output])?;
        let mut weights = Vec::new();
        for (what, (name, weight)) in ["weight", "weight_hn"].into_iter().zip(cell.params().recurrent()) {
            weights.extend(source.dropout(what, self.weight, weight.dims())?.map(|mask| (name, mask)));
        }
        Ok(Masks {
            input: source.dropout("input", self.input, &[batch, input])?,
            output: source.dropout("output", self.output, &[batch, output])?,
            weights,
        })
    }
}

/// Where the masks of a layer's window come from.
pub(super) struct Source<'a> {
    pub(super) draw: Draw,
    pub(super) place: Place,
    pub(super) dtype: DType,
    pub(super) device: &'a Device,
}

impl Source<'_> {
    /// Zeros with probability `rate`, and factors that make up for them; none where nothing is dropped.
    pub(super) fn dropout(&self, what: &str, rate: f64, shape: &[usize]) -> Result<Option<Tensor>> {
        (rate > 0.0).then(|| self.ones(what, kept(rate), shape)).transpose()
    }

    /// Numbers that are `one` with probability `rate`, else 0.
    fn ones(&self, what: &str, (rate, one): (f64, f64), shape: &[usize]) -> Result<Tensor> {
        let purpose = format!("mask/{what}/{}", self.place);
        let mut stream = Stream::new(self.draw.seed, &purpose, self.draw.step);
        mask(&mut stream, (rate, one), shape, (self.dtype, self.device))
    }
}
