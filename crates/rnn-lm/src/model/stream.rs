//! A model one word at a time: text as it comes, and text as it is made.

use super::net::Net;
use crate::layers::{TimeEmbedding, check_ids};
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use rnn_core::kernels::lend::read;
use rnn_core::kernels::{Real, Typed};
use rnn_core::{Cell, Recurrent, StackState, StackStream, State, Way};

/// What a model expects next, word by word, for some rows side by side; the state is carried.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::Way;
/// use rnn_core::kernels::Typed;
/// use rnn_lm::model::{CellKind, LmSpec, build};
/// let model = build(CellKind::Lstm, &LmSpec::new(5, 4, 8), Way::Fused, (DType::F64, &Device::Cpu), 1)?;
/// let mut stream = model.stream(1)?;
/// stream.step(&[3])?;
/// let Typed::F64(logits) = stream.step(&[1])? else { unreachable!("the model is of f64") };
/// let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
/// let want = &model.probabilities(&[3, 1])?[1];
/// assert!((logits[4].exp() / total - want[4]).abs() < 1e-12);
/// # rnn_lm::Result::Ok(())
/// ```
pub trait LmStream: Send {
    /// Reads one id a row; gives `[N, V]`, row by row, a softmax of which is the probability of each next id: logits,
    /// or with an adaptive softmax `ln p`, which its softmax leaves as it is. They have the model's dtype where the
    /// fused way runs on the CPU with one softmax and without zoneout, and else are f64.
    ///
    /// # Errors
    /// Where there is not one id a row, or one is outside the vocabulary; the state is then what it was.
    fn step(&mut self, ids: &[u32]) -> Result<Typed<'_>>;

    /// Row n goes on from what row `rows[n]` was: what a beam search does with its best rows.
    ///
    /// # Errors
    /// Where there is not one number a row, or no such row; the state is then what it was.
    fn select(&mut self, rows: &[usize]) -> Result<()>;

    /// Bytes of weights that a step reads, where that is known: what bounds the speed of a single row.
    fn bytes(&self) -> Option<usize>;
}

/// The stream that fits the net.
pub(super) fn stream<'a, C: Cell>(net: &'a Net<C>, rows: usize) -> Result<Box<dyn LmStream + 'a>> {
    if rows == 0 {
        return Err(Error::invalid("stream: rows", "at least 1", 0));
    }
    let weight = net.embedding.weight();
    let packs = weight.device().is_cpu() && !net.dropout.recurrent.zones_out() && net.head.full().is_ok();
    Ok(match (net.stack.layers()[0].way(), weight.dtype()) {
        (Way::Fused, DType::F32) if packs => Box::new(Packed::<_, f32>::new(net, rows)?),
        (Way::Fused, DType::F64) if packs => Box::new(Packed::<_, f64>::new(net, rows)?),
        _ => Box::new(InTensors { net, state: net.stack.zero_state(rows)?, rows, logits: Vec::new() }),
    })
}

/// In kernels, with all weights packed once.
struct Packed<'a, S, T: Real> {
    embedding: &'a Tensor,
    rows: usize,
    stream: StackStream<S, T>,
    /// Embedded ids `[N, D]`.
    xs: Vec<T>,
}

impl<'a, S: State, T: Real> Packed<'a, S, T> {
    fn new<C: Cell<State = S>>(net: &'a Net<C>, rows: usize) -> Result<Self> {
        let embedding = net.embedding.weight();
        let affine = net.head.full()?;
        let stream = net.stack.stream_into(rows, Some((affine.weight(), affine.bias())))?;
        Ok(Self { embedding, rows, stream, xs: vec![T::ZERO; rows * embedding.dim(1)?] })
    }
}

impl<S: State, T: Real> LmStream for Packed<'_, S, T> {
    fn step(&mut self, ids: &[u32]) -> Result<Typed<'_>> {
        let (vocabulary, size) = self.embedding.dims2()?;
        check(ids, self.rows, vocabulary)?;
        TimeEmbedding::forward_rows(read(self.embedding)?.slice(), ids, &mut self.xs, size);
        Ok(T::typed(self.stream.step(&self.xs)?))
    }

    fn select(&mut self, rows: &[usize]) -> Result<()> {
        Ok(self.stream.select(rows)?)
    }

    fn bytes(&self) -> Option<usize> {
        Some(self.stream.bytes())
    }
}

/// In tensor ops, on any device.
struct InTensors<'a, C: Cell> {
    net: &'a Net<C>,
    state: StackState<C::State>,
    rows: usize,
    logits: Vec<f64>,
}

impl<C: Cell> LmStream for InTensors<'_, C> {
    fn step(&mut self, ids: &[u32]) -> Result<Typed<'_>> {
        let Net { embedding, stack, head, .. } = self.net;
        check(ids, self.rows, embedding.weight().dim(0)?)?;
        let (hs, next) = stack.infer(&embedding.look_up(ids, self.rows)?, &self.state)?;
        self.logits = head.infer(&hs)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
        self.state = next;
        Ok(Typed::F64(&self.logits))
    }

    fn select(&mut self, rows: &[usize]) -> Result<()> {
        if rows.len() != self.rows || rows.iter().any(|&row| row >= self.rows) {
            let want = format!("{0} rows below {0}", self.rows);
            return Err(Error::invalid("stream: select", want, format!("{rows:?}")));
        }
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        self.state = self.state.select(&rows)?;
        Ok(())
    }

    fn bytes(&self) -> Option<usize> {
        None
    }
}

fn check(ids: &[u32], rows: usize, vocabulary: usize) -> Result<()> {
    if ids.len() != rows {
        return Err(Error::invalid("stream: ids", format!("{rows}, one a row"), ids.len()));
    }
    check_ids("stream: ids", ids, vocabulary)
}

#[cfg(test)]
mod tests {
    use crate::model::{CellKind, LmSpec, build};
    use candle_core::{DType, Device};
    use rnn_core::Way;
    use rnn_core::kernels::Typed;

    #[test]
    fn what_a_row_generates_after_a_selection_is_what_the_chosen_one_would() {
        let spec = LmSpec::new(5, 3, 4).layers(2);
        for cell in CellKind::ALL {
            for way in Way::ALL {
                let model = build(cell, &spec, way, (DType::F64, &Device::Cpu), 3).unwrap();
                let mut stream = model.stream(3).unwrap();
                stream.step(&[0, 1, 2]).unwrap();
                for wrong in [&[0, 1][..], &[0, 1, 3]] {
                    let error = stream.select(wrong).unwrap_err().to_string();
                    assert!(error.contains("select: expected 3 rows below 3, got [0, 1"), "{error}");
                }
                stream.select(&[2, 0, 2]).unwrap();
                let Typed::F64(logits) = stream.step(&[4, 3, 1]).unwrap() else { panic!("not f64") };
                for (ids, logits) in [[2, 4], [0, 3], [2, 1]].iter().zip(logits.chunks(5)) {
                    let want = &model.probabilities(ids).unwrap()[1];
                    let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
                    for (logit, want) in logits.iter().zip(want) {
                        assert!((logit.exp() / total - want).abs() < 1e-12, "{cell} {way:?} {ids:?}");
                    }
                }
            }
        }
    }
}
