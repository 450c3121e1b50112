//! A stack one step at a time: for input as it comes.

use super::{Recurrent, Stack, StackState, TimeRnn};
use crate::cell::{Cell, LayerSpec, State, with_parts};
use crate::kernels::unroll::cpu::{Course, Dims, LayerOf};
use crate::kernels::unroll::stream::Stream;
use crate::kernels::unroll::{LentParams, Way};
use crate::kernels::{Kernel, Real, lend};
use crate::{Direction, Error, Result};
use candle_core::{Device, Tensor};

/// A stack whose weights are packed once, with the state that it carries. A step allocates nothing, and its results
/// are bit-identical to those of a window on the fused way, whatever way the stack is set to.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::{LayerSpec, LstmCell, Parameters, Stack, TimeRnn};
/// let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
/// let stack = Stack::<TimeRnn<LstmCell>>::new(LayerSpec::new(2, 3), 2, &parameters.builder())?;
/// let mut stream = stack.stream::<f32>(1)?;
/// let first = stream.step(&[0.5, -1.0])?.to_vec();
/// let snapshot = stream.state()?;
/// let second = stream.step(&[1.0, 0.0])?.to_vec();
/// assert_ne!(first, second);
/// stream.set_state(&snapshot)?;
/// assert_eq!(stream.step(&[1.0, 0.0])?, second);
/// # rnn_core::Result::Ok(())
/// ```
pub struct StackStream<S, T: Real> {
    stream: Stream<T>,
    input: usize,
    rows: usize,
    like: StackState<S>,
}

impl<C: Cell> Stack<TimeRnn<C>> {
    /// The stack one step at a time, for `rows` inputs side by side, from a state of zeros. Weights that change later are
    /// not seen.
    ///
    /// # Errors
    /// Where `rows` is zero, the weights are not of type `T` on the CPU, a cell has no kernel in lanes, or a layer goes in
    /// reverse or has zoneout, whose expectation a step would have to take.
    pub fn stream<T: Real>(&self, rows: usize) -> Result<StackStream<C::State, T>> {
        self.stream_into(rows, None)
    }

    /// The same with an affine layer behind the last one, `weight [V, P]` and `bias [V]`: a step gives `[N, V]`.
    ///
    /// # Errors
    /// Those of [`Self::stream`], and where the affine layer does not fit.
    pub fn stream_into<T: Real>(
        &self,
        rows: usize,
        affine: Option<(&Tensor, &Tensor)>,
    ) -> Result<StackStream<C::State, T>> {
        self.layers().iter().try_for_each(TimeRnn::check_params)?;
        let like = self.zero_state(rows)?;
        if let Some(elsewhere) = like.parts().first().filter(|part| !part.device().is_cpu()) {
            let got = crate::device_name(elsewhere.device());
            return Err(Error::invalid("Stack::stream", "weights on the CPU", got)
                .hint("on a GPU infer takes windows of one step"));
        }
        let params = self.layers().iter().map(|layer| {
            let params = layer.cell().params();
            params.try_map(|tensor| Ok(tensor.detach().contiguous()?))
        });
        let params = params.collect::<Result<Vec<_>>>()?;
        let lent = params.iter().map(LentParams::<T>::new).collect::<Result<Vec<_>>>()?;
        let mut layers = Vec::with_capacity(lent.len());
        for (layer, lent) in self.layers().iter().zip(&lent) {
            let cell = layer.cell();
            let spec @ &LayerSpec { input, hidden, .. } = cell.spec();
            let kernel: Option<&'static dyn Kernel> = cell.kernel();
            let kernel = kernel.filter(|_| layer.clone().with_way(Way::Fused).way() == Way::Fused);
            let kernel = kernel
                .ok_or_else(|| Error::invalid("Stack::stream", "cells with a kernel in lanes", "none"))?;
            if spec.place.direction == Direction::Reverse {
                return Err(Error::invalid("Stack::stream", "layers that go forward", "one in reverse")
                    .hint("a step cannot wait for the last one"));
            }
            if layer.regularisers().zones_out() {
                return Err(Error::invalid("Stack::stream", "layers without zoneout", "one with it")
                    .hint("infer takes windows of one step too"));
            }
            let layer =
                LayerOf { kernel: T::kernel(kernel), params: lent.slices(), course: Course::default() };
            layers.push((layer, Dims { batch: rows, time: 1, input, hidden, output: spec.output() }));
        }
        let affine = affine.map(|(weight, bias)| {
            let (got, size) = (weight.dims2()?, bias.dims1()?);
            if got != (size, self.output_size()) {
                let want = format!("[{size}, {}]", self.output_size());
                return Err(Error::invalid("Stack::stream: weight", want, format!("{got:?}")));
            }
            Ok((weight.detach().contiguous()?, bias.detach().contiguous()?))
        });
        let affine: Option<(Tensor, Tensor)> = affine.transpose()?;
        let affine = match &affine {
            Some((weight, bias)) => Some((lend::read::<T>(weight)?, lend::read::<T>(bias)?)),
            None => None,
        };
        let affine = affine.as_ref().map(|(weight, bias)| (weight.slice(), bias.slice()));
        Ok(StackStream { stream: Stream::new(rows, &layers, affine), input: self.input_size(), rows, like })
    }
}

impl<S: State, T: Real> StackStream<S, T> {
    /// One step: `xs [N, D]` give the last layer's `[N, P]`, or what the affine layer makes of it. Allocates nothing.
    ///
    /// # Errors
    /// Where `xs` has another size; the state is then what it was.
    pub fn step(&mut self, xs: &[T]) -> Result<&[T]> {
        if xs.len() != self.rows * self.input {
            let want = format!("{} numbers, [{}, {}]", self.rows * self.input, self.rows, self.input);
            return Err(Error::invalid("StackStream: xs", want, xs.len()));
        }
        Ok(self.stream.step(xs))
    }

    /// The state as a value: a snapshot.
    ///
    /// # Errors
    /// Those of candle.
    pub fn state(&self) -> Result<StackState<S>> {
        let parts = self.stream.state().zip(self.like.parts());
        let tensor =
            |(numbers, like): (&[T], &Tensor)| Tensor::from_slice(numbers, like.dims(), &Device::Cpu);
        with_parts(&self.like, parts.map(tensor).collect::<candle_core::Result<Vec<_>>>()?)
    }

    /// Goes on from `state`, of as many rows.
    ///
    /// # Errors
    /// Where a part has another shape or type; the state is then what it was.
    pub fn set_state(&mut self, state: &StackState<S>) -> Result<()> {
        let dense = |part: &Tensor| Ok(part.detach().contiguous()?);
        let parts = state.parts().into_iter().map(dense).collect::<Result<Vec<_>>>()?;
        let lent = parts.iter().map(lend::read::<T>).collect::<Result<Vec<_>>>()?;
        let wants: Vec<_> = self.like.parts().iter().map(|part| part.dims().to_vec()).collect();
        let got: Vec<_> = parts.iter().map(|part| part.dims().to_vec()).collect();
        if wants != got {
            return Err(Error::invalid("StackStream: state", format!("{wants:?}"), format!("{got:?}")));
        }
        for (to, from) in self.stream.state_mut().zip(&lent) {
            to.copy_from_slice(from.slice());
        }
        Ok(())
    }

    /// Row n goes on from what row `rows[n]` was: what a beam search does with its best rows. Allocates nothing after the
    /// first time.
    ///
    /// # Errors
    /// Where there is not one number a row, or no such row.
    pub fn select(&mut self, rows: &[usize]) -> Result<()> {
        if rows.len() != self.rows || rows.iter().any(|&row| row >= self.rows) {
            let want = format!("{0} rows below {0}", self.rows);
            return Err(Error::invalid("StackStream::select", want, format!("{rows:?}")));
        }
        self.stream.select(rows);
        Ok(())
    }

    /// Bytes of weights that a step reads: what bounds the speed of a single row.
    pub fn bytes(&self) -> usize {
        self.stream.bytes()
    }

    /// The state becomes zero.
    pub fn reset(&mut self) {
        self.stream.reset();
    }
}
