//! A window segment by segment, as [`Segments`] says.

use super::{Guides, Home, Keep, TimeGrads, Way};
use crate::autograd::Flat;
use crate::cell::{Cell, LayerParams, State, with_parts};
use crate::kernels::Real;
use crate::kernels::lend::read;
use crate::{Direction, Error, Result};
use candle_core::{CpuStorage, DType, Device, Shape, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// How a layer cuts its windows: for long sequences in little memory (Chen et al. 2016), at the price of a second
/// forward.
///
/// The forward keeps the state at the beginning of each segment and no tape. The backward goes through the segments
/// from the last to the first, makes each one's tape anew and uses it up. With about sqrt(T) steps a segment, what is
/// kept beside inputs, outputs and their gradients grows with sqrt(T). With zoneout its masks are there as well, `[N, T, H]` for each
/// part of the state that has it.
///
/// Weight gradients are summed segment by segment, the last one first: other bits than those of one sum over the window,
/// the same whether tapes are kept or made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    pub(super) steps: usize,
    pub(super) tapes: Keep,
}

impl Segments {
    /// Of so many steps, each one's tape made anew for its backward.
    pub fn recomputed(steps: usize) -> Self {
        Self { steps, tapes: Keep::Nothing }
    }

    /// Of so many steps, with all tapes kept: nothing is saved but the same sums are made, to compare with.
    pub fn kept(steps: usize) -> Self {
        Self { steps, tapes: Keep::Tape }
    }

    /// Segments that need the least memory for a window of `time` steps: as many as each has steps.
    ///
    /// ```
    /// use rnn_core::Segments;
    /// assert_eq!(Segments::for_window(20_000), Segments::recomputed(142));
    /// ```
    pub fn for_window(time: usize) -> Self {
        Self::recomputed(time.isqrt() + usize::from(time.isqrt().pow(2) < time))
    }

    /// # Errors
    /// Where a segment has no step.
    pub(crate) fn check(self) -> Result<()> {
        match self.steps {
            0 => Err(Error::invalid("Segments: steps", "at least 1", 0)),
            _ => Ok(()),
        }
    }

    /// The segments of a window in the order of its steps; the one that is shorter comes last in time.
    fn of(self, direction: Direction, time: usize) -> Vec<Range<usize>> {
        let mut all: Vec<_> =
            (0..time).step_by(self.steps).map(|from| from..time.min(from + self.steps)).collect();
        direction.turn(&mut all);
        all
    }
}

/// What the forward leaves.
#[derive(Debug)]
pub struct Tape {
    way: Way,
    xs: Tensor,
    guides: Guides,
    segments: Vec<Segment>,
}

#[derive(Debug)]
struct Segment {
    steps: Range<usize>,
    /// The parts of the state that it begins with.
    start: Vec<Tensor>,
    tape: Option<super::Tape>,
}

impl Tape {
    /// N and T of the window.
    pub(super) fn window(&self) -> (usize, usize) {
        (self.xs.dims()[0], self.xs.dims()[1])
    }
}

fn piece(tensor: &Tensor, steps: &Range<usize>) -> Result<Tensor> {
    Ok(tensor.narrow(1, steps.start, steps.len())?.contiguous()?)
}

/// Outputs of a window in one buffer, and the tape if it is asked for.
pub(crate) fn forward<C: Cell>(
    (way, segments): (Way, Segments),
    (cell, home): (&C, &Arc<Home>),
    (xs, state, guides): (&Tensor, &C::State, &Guides),
    keep: Keep,
) -> Result<(Flat, Option<super::Tape>)> {
    let xs = xs.detach();
    let (batch, time, _) = xs.dims3()?;
    let output = cell.spec().output();
    let mut all = Joined::new((batch, time, output), &state.parts(), &xs)?;
    let mut state = state.detach();
    let mut taped = Vec::new();
    for steps in segments.of(guides.direction, time) {
        let of_segment = guides.segment((steps.start, steps.end), time)?;
        let start = state.parts().into_iter().cloned().collect();
        let keep = if keep == Keep::Tape { segments.tapes } else { Keep::Nothing };
        let window = (&piece(&xs, &steps)?, &state, &of_segment);
        let (flat, tape) = super::forward(way, (cell, home), window, keep)?;
        let mut shapes = vec![Shape::from((batch, steps.len(), output))];
        shapes.extend(state.parts().iter().map(|part| part.shape().clone()));
        let outputs = flat.detached(&shapes, &xs)?;
        all.place(&outputs[0], &steps)?;
        state = with_parts(&state, outputs.into_iter().skip(1))?;
        taped.push(Segment { steps, start, tape });
    }
    let tape = Tape { way, xs: xs.clone(), guides: guides.clone(), segments: taped };
    let tape = (keep == Keep::Tape).then(|| super::Tape::Segments(Box::new(tape)));
    Ok((all.finish(&state.parts())?, tape))
}

/// The gradients, from those of `hs` and of the next state.
pub(super) fn backward<C: Cell>(
    (cell, home): (&C, &Arc<Home>),
    Tape { way, xs, guides, segments }: &Tape,
    dhs: &Tensor,
    dnext: &C::State,
    wants_dxs: bool,
    keep: Keep,
) -> Result<TimeGrads<C::State>> {
    let time = xs.dim(1)?;
    let mut dstate = dnext.detach();
    let mut params: Option<LayerParams> = None;
    let mut dxs = wants_dxs.then(|| Joined::new(xs.dims3()?, &[], xs)).transpose()?;
    for Segment { steps, start, tape } in segments.iter().rev() {
        let made;
        let (tape, keep) = match tape {
            Some(tape) => (tape, keep),
            None => {
                let of_segment = guides.segment((steps.start, steps.end), time)?;
                let start = with_parts(dnext, start.iter().cloned())?;
                let window = (&piece(xs, steps)?, &start, &of_segment);
                made = super::forward(*way, (cell, home), window, Keep::Tape)?.1;
                let made =
                    made.as_ref().ok_or_else(|| Error::invalid("Segments: backward", "a tape", "none"))?;
                (made, Keep::Nothing)
            }
        };
        let grads =
            super::backward((cell, home), tape, &piece(&dhs.detach(), steps)?, &dstate, wants_dxs, keep)?;
        dstate = grads.dstate;
        if let Some((dxs, of_segment)) = dxs.as_mut().zip(grads.dxs) {
            dxs.place(&of_segment, steps)?;
        }
        params = Some(match params {
            None => grads.params,
            Some(sum) => {
                let others: Vec<Tensor> = grads.params.tensors().into_iter().cloned().collect();
                let mut others = others.iter();
                sum.try_map(|sum| others.next().map_or_else(|| Ok(sum.clone()), |other| Ok((sum + other)?)))?
            }
        });
    }
    let params = params.ok_or_else(|| Error::invalid("Segments: backward", "a segment", "none"))?;
    let flat = |dxs: Joined| {
        let outputs = dxs.finish(&[])?.detached(&[xs.shape().clone()], xs)?;
        outputs.into_iter().next().ok_or_else(|| Error::invalid("Segments: backward", "dxs", "none"))
    };
    Ok(TimeGrads { dxs: dxs.map(flat).transpose()?, dstate, params })
}

/// A tensor `[N, T, size]` and then a state, put together piece by piece in the one buffer that becomes the result.
struct Joined {
    dims: (usize, usize, usize),
    numbers: Numbers,
}

enum Numbers {
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// Pieces of what is not on the CPU, or of another type.
    Elsewhere(Vec<(usize, Tensor)>),
}

impl Joined {
    fn new(dims: (usize, usize, usize), state: &[&Tensor], like: &Tensor) -> Result<Self> {
        let count = dims.0 * dims.1 * dims.2 + state.iter().map(|part| part.elem_count()).sum::<usize>();
        let numbers = match (like.device(), like.dtype()) {
            (Device::Cpu, DType::F32) => Numbers::F32(vec![0.0; count]),
            (Device::Cpu, DType::F64) => Numbers::F64(vec![0.0; count]),
            _ => Numbers::Elsewhere(Vec::new()),
        };
        Ok(Self { dims, numbers })
    }

    fn place(&mut self, piece: &Tensor, steps: &Range<usize>) -> Result<()> {
        match &mut self.numbers {
            Numbers::F32(all) => copy(all, self.dims, piece, steps),
            Numbers::F64(all) => copy(all, self.dims, piece, steps),
            Numbers::Elsewhere(pieces) => {
                pieces.push((steps.start, piece.clone()));
                Ok(())
            }
        }
    }

    fn finish(self, state: &[&Tensor]) -> Result<Flat> {
        let from = self.dims.0 * self.dims.1 * self.dims.2;
        Ok(match self.numbers {
            Numbers::F32(mut all) => {
                append(&mut all[from..], state)?;
                Flat::Cpu(CpuStorage::F32(all))
            }
            Numbers::F64(mut all) => {
                append(&mut all[from..], state)?;
                Flat::Cpu(CpuStorage::F64(all))
            }
            Numbers::Elsewhere(mut pieces) => {
                pieces.sort_by_key(|(from, _)| *from);
                let pieces: Vec<Tensor> = pieces.into_iter().map(|(_, piece)| piece).collect();
                let mut all = vec![Tensor::cat(&pieces, 1)?.flatten_all()?];
                for part in state {
                    all.push(part.flatten_all()?);
                }
                Flat::Tensor(Tensor::cat(&all, 0)?)
            }
        })
    }
}

fn copy<T: Real>(
    all: &mut [T],
    (batch, time, size): (usize, usize, usize),
    piece: &Tensor,
    steps: &Range<usize>,
) -> Result<()> {
    let piece = piece.contiguous()?;
    let piece = read::<T>(&piece)?;
    for (row, piece) in (0..batch).zip(piece.slice().chunks_exact(steps.len() * size)) {
        let start = (row * time + steps.start) * size;
        all[start..start + piece.len()].copy_from_slice(piece);
    }
    Ok(())
}

fn append<T: Real>(mut to: &mut [T], state: &[&Tensor]) -> Result<()> {
    for part in state {
        let part = part.contiguous()?;
        let part = read::<T>(&part)?;
        let (here, rest) = to.split_at_mut(part.slice().len());
        here.copy_from_slice(part.slice());
        to = rest;
    }
    Ok(())
}
