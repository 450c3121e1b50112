//! How a window is to be run, beside its input and its state.

use crate::convention::Direction;
use crate::{Error, Result};
use candle_core::Tensor;

/// What is said of a window: how long its rows are, where sequences begin, and from which draw its masks are.
///
/// A plan is the same for every layer of a stack and for both directions. It acts between the steps, so that no cell
/// knows of it. At each step t of a row, in the order in which the steps are taken:
///
/// ```text
/// start = begins ? 0 : state                     a sequence begins at t, or in reverse at t + 1
/// state = t < length ? cell(x, start) : state    behind its end a row keeps the state
/// out   = t < length ? state.h : 0
/// ```
///
/// What masks and zoneout add to this stands at [`Regularisers`](super::Regularisers).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use rnn_core::{Cell, GruCell, LayerSpec, Parameters, Plan, Recurrent, TimeRnn};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// let gru = TimeRnn::new(GruCell::new(LayerSpec::new(3, 4), parameters.builder())?);
/// let xs = Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?;
/// let (hs, next) = gru.forward_with(&xs, &gru.zero_state(2)?, &Plan::new().lengths(&[5, 2]))?;
/// let second = hs.to_vec3::<f32>()?.remove(1);
/// assert_eq!(second[2], [0.0; 4]); // behind its end
/// assert_eq!(next.h.to_vec2::<f32>()?[1], second[1]); // at its end
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub(super) lengths: Option<Vec<usize>>,
    pub(super) resets: Option<Vec<bool>>,
    pub(super) draw: Option<Draw>,
}

/// Which of all possible masks: the same seed and step give the same ones, whatever was drawn before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Of the run.
    pub seed: u64,
    /// Of the window: a number that no other window of the run has.
    pub step: u64,
}

impl Plan {
    /// A whole window in which nothing begins anew, and no masks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Row n has `lengths[n]` steps, the others are padding: as if PyTorch had packed it. Outputs behind an end are
    /// zero, the last state is that at the end, and the reversed direction starts at the end.
    #[doc(alias = "pack_padded_sequence")]
    #[must_use]
    pub fn lengths(self, lengths: &[usize]) -> Self {
        Self { lengths: Some(lengths.to_vec()), ..self }
    }

    /// Of `[N, T]`, row by row: a new sequence begins at this step, so that neither state nor gradient passes between it
    /// and the step before it, in either direction.
    #[must_use]
    pub fn resets(self, resets: &[bool]) -> Self {
        Self { resets: Some(resets.to_vec()), ..self }
    }

    /// Masks of regularisers are drawn from `seed` for the window `step`.
    ///
    /// They depend on these two and on the place of the layer in its stack, not on the names of its parameters: two networks of
    /// one model, such as an encoder and a decoder, drop the same units unless each has a seed of its own.
    #[must_use]
    pub fn draw(self, seed: u64, step: u64) -> Self {
        Self { draw: Some(Draw { seed, step }), ..self }
    }

    /// # Errors
    /// Where something does not fit a window of N rows and T steps.
    pub(super) fn check(&self, (batch, time): (usize, usize)) -> Result<()> {
        if let Some(lengths) = &self.lengths {
            check_lengths("Plan", lengths, (batch, time))?;
        }
        match &self.resets {
            Some(resets) if resets.len() != batch * time => {
                let want = format!("{}, one for each of {batch} x {time} steps", batch * time);
                Err(Error::invalid("Plan: resets", want, resets.len()))
            }
            _ => Ok(()),
        }
    }

    /// `[N, T]`: where the state is zero when a step begins that is taken in this direction.
    pub(super) fn fresh(&self, direction: Direction, time: usize) -> Option<Vec<bool>> {
        let resets = self.resets.as_ref()?;
        let end = |n: usize| self.lengths.as_ref().map_or(time, |lengths| lengths[n]);
        let at = |n: usize, t: usize| match direction {
            Direction::Forward => t < end(n) && resets[n * time + t],
            // The step that is taken before it is the next one in time.
            Direction::Reverse => t + 1 < end(n) && resets[n * time + t + 1],
        };
        Some((0..resets.len()).map(|i| at(i / time, i % time)).collect())
    }
}

/// # Errors
/// Where there is not one length a row, or one is beyond the window.
pub(super) fn check_lengths(op: &str, lengths: &[usize], (batch, time): (usize, usize)) -> Result<()> {
    if lengths.len() != batch {
        return Err(Error::invalid(format!("{op}: lengths"), format!("{batch}, one a row"), lengths.len()));
    }
    match lengths.iter().enumerate().find(|&(_, &length)| length > time) {
        Some((n, length)) => {
            let op = format!("{op}: length of row {n}");
            Err(Error::invalid(op, format!("at most {time}, the steps of the window"), length))
        }
        None => Ok(()),
    }
}

/// `xs [N, T, D]` with zeros behind each row's end, whatever stands there.
pub(super) fn without_padding(xs: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let (batch, time, _) = xs.dims3()?;
    if lengths.iter().all(|&length| length >= time) {
        return Ok(xs.clone());
    }
    let active: Vec<u8> = (0..batch * time).map(|i| u8::from(i % time < lengths[i / time])).collect();
    let active = Tensor::from_vec(active, (batch, time, 1), xs.device())?.broadcast_as(xs.shape())?;
    Ok(active.where_cond(xs, &xs.zeros_like()?)?)
}
