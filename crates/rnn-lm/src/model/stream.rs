//! A model one word at a time: text as it comes, and text as it is made.

use super::net::Net;
use crate::layers::{TimeEmbedding, check_ids, ids_tensor};
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use rnn_core::kernels::lend::read;
use rnn_core::kernels::{Real, Typed};
use rnn_core::{Cell, Recurrent, StackState, StackStream, State, Way};

/// What a model expects next, word by word, for some rows side by side; the state is carried.
pub trait LmStream {
    /// Reads one id a row; gives the logits `[N, V]` of what comes after them.
    ///
    /// # Errors
    /// Where there is not one id a row, or one is outside the vocabulary; the state is then what it was.
    fn step(&mut self, ids: &[u32]) -> Result<Typed<'_>>;

    /// Bytes of weights that a step reads, where that is known: what bounds the speed of a single row.
    fn bytes(&self) -> Option<usize>;
}

/// The stream that fits the net.
pub(super) fn stream<'a, C: Cell>(net: &'a Net<C>, rows: usize) -> Result<Box<dyn LmStream + 'a>> {
    if rows == 0 {
        return Err(Error::invalid("stream: rows", "at least 1", 0));
    }
    let weight = net.embedding.weight();
    let packs = !net.dropout.recurrent.zones_out() && net.head.full().is_ok();
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
        let ids = ids_tensor(ids, self.rows, 1, embedding.weight().device())?;
        let (hs, next) = stack.infer(&embedding.forward(&ids)?.detach(), &self.state)?;
        self.logits = head.infer(&hs)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
        self.state = next;
        Ok(Typed::F64(&self.logits))
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
