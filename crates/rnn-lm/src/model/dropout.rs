//! What is dropped at the ends of a model while it is trained, and between its layers; the seed and the number of the
//! window fix what.

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use rnn_core::mask::{kept, mask};
use rnn_core::rng::{Stream, bernoulli};
use rnn_core::{Penalty, Regularisers, check_rate};

/// Everything that keeps a model from learning its text by heart. Every rate is the probability that something is dropped,
/// from 0, which is never, to below 1; what stays is divided by `1 - rate`. An evaluation drops nothing. Zoneout's are the
/// probability that a unit keeps the value it had; nothing is divided there, and an evaluation takes the expectation.
///
/// ```
/// use rnn_lm::model::Dropout;
/// let zaremba = Dropout::everywhere(0.5); // of what passes between layers, not in time
/// assert_eq!((zaremba.input, zaremba.between, zaremba.output, zaremba.words), (0.5, 0.5, 0.5, 0.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Dropout {
    /// Whole words of the embedding, the same ones in a whole window (Gal & Ghahramani 2016).
    pub words: f64,
    /// Numbers of what the first layer takes.
    pub input: f64,
    /// Numbers of what each layer takes of the one below.
    pub between: f64,
    /// Numbers of what the affine layer takes.
    pub output: f64,
    /// Whether the last three drop the same units at all steps of a window.
    pub locked: bool,
    /// What acts inside of the recurrent layers: the rates of `recurrent`, `weight` and zoneout.
    pub recurrent: Regularisers,
    /// What is added to the loss for the last layer's outputs: for large ones after dropout, for hasty changes before it.
    pub penalty: Penalty,
}

impl Dropout {
    /// The same rate at the input, between layers and at the output, other numbers at each step (Zaremba et al. 2014).
    pub fn everywhere(rate: f64) -> Self {
        Self { input: rate, between: rate, output: rate, ..Self::default() }
    }

    /// Whether there is any: that nothing is dropped is the same whether units were to be locked or not.
    pub fn any(&self) -> bool {
        Self { locked: false, ..*self } != Self::default()
    }

    /// The penalty of what dropout has left of the outputs, and that of the outputs themselves (Merity et al. 2017: AR looks at
    /// the former, TAR at the latter).
    pub(super) fn penalties(&self) -> [Penalty; 2] {
        let Penalty { activation, temporal } = self.penalty;
        [Penalty { activation, temporal: 0.0 }, Penalty { activation: 0.0, temporal }]
    }

    /// # Errors
    /// Where a rate is none, or something is asked for in two places.
    pub(super) fn check(&self) -> Result<()> {
        let rates = [
            ("words", self.words),
            ("input", self.input),
            ("between", self.between),
            ("output", self.output),
        ];
        for (name, rate) in rates {
            check_rate(&format!("Dropout: {name}"), rate)?;
        }
        let Regularisers { input, output, .. } = self.recurrent;
        if input != 0.0 || output != 0.0 {
            let want = "0 for input and output, which have rates of their own";
            return Err(Error::invalid("Dropout: recurrent", want, format!("{input} and {output}")));
        }
        for (name, factor) in [("activation", self.penalty.activation), ("temporal", self.penalty.temporal)] {
            if !(factor.is_finite() && factor >= 0.0) {
                return Err(Error::invalid(format!("Dropout: penalty {name}"), "at least 0", factor));
            }
        }
        Ok(())
    }

    /// What acts in layer `k` of `layers`: locked dropout between them is the lower one's output.
    pub(super) fn of_layer(&self, k: usize, layers: usize) -> Regularisers {
        let between = if self.locked && k + 1 < layers { self.between } else { 0.0 };
        Regularisers { output: between, ..self.recurrent }
    }

    /// What the stack drops between its layers.
    pub(super) fn of_stack(&self) -> f64 {
        if self.locked { 0.0 } else { self.between }
    }
}

/// Which window of which run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    pub(super) seed: u64,
    pub(super) window: u64,
}

/// The masks of one window at the ends of the model; none where nothing is dropped.
#[derive(Debug)]
pub(super) struct Masks {
    /// `[N, T, 1]`
    words: Option<Tensor>,
    /// `[N, T, D]`, or `[N, 1, D]` where they are locked.
    input: Option<Tensor>,
    /// `[N, T, H]`, or `[N, 1, H]`.
    output: Option<Tensor>,
}

impl Masks {
    /// Those of `ids [N, T]`, of a vocabulary of V, an input of D and an output of H.
    pub(super) fn new(
        dropout: &Dropout,
        Draw { seed, window }: Draw,
        (ids, batch): (&[u32], usize),
        [vocabulary, input, output]: [usize; 3],
        (dtype, device): (DType, &Device),
    ) -> Result<Self> {
        let time = ids.len() / batch;
        let stream = |what: &str| Stream::new(seed, &format!("mask/{what}"), window);
        let of_units = |what: &str, rate: f64, size: usize| {
            let steps = if dropout.locked { 1 } else { time };
            let drawn = || mask(&mut stream(what), kept(rate), (batch, steps, size), (dtype, device));
            (rate > 0.0).then(drawn).transpose()
        };
        let words = (dropout.words > 0.0).then(|| -> Result<Tensor> {
            let (rate, one) = kept(dropout.words);
            let of_all = bernoulli(&mut stream("words"), vocabulary, rate, one);
            let of_window: Vec<f64> = ids.iter().map(|&id| of_all[id as usize]).collect();
            Ok(Tensor::from_vec(of_window, (batch, time, 1), device)?.to_dtype(dtype)?)
        });
        Ok(Self {
            words: words.transpose()?,
            input: of_units("input", dropout.input, input)?,
            output: of_units("output", dropout.output, output)?,
        })
    }

    /// Of what is embedded. Linear, so it is its own backward; so is the next.
    pub(super) fn input(&self, xs: &Tensor) -> Result<Tensor> {
        apply(&apply(xs, self.words.as_ref())?, self.input.as_ref())
    }

    /// Of what the last layer gives.
    pub(super) fn output(&self, hs: &Tensor) -> Result<Tensor> {
        apply(hs, self.output.as_ref())
    }
}

fn apply(x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    match mask {
        Some(mask) if mask.dims() == x.dims() => Ok((x * mask)?),
        Some(mask) => Ok(x.broadcast_mul(mask)?),
        None => Ok(x.clone()),
    }
}
