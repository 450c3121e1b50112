//! The door from tensors to the kernels of [`super::cpu`]: numbers in and out, nothing computed here; and the memory
//! that a layer keeps between windows.

use super::cpu::{self, Dims, LayerOf, ParamGrads, Scratch, StateMut};
use super::lent::{LentCourse, LentParams};
use super::{Guides, Keep, TimeGrads};
use crate::cell::{Cell, LayerParams, State, with_parts};
use crate::kernels::lend::{Reading, read};
use crate::kernels::{Kernel, Real};
use crate::{Error, Result};
use candle_core::{CpuStorage, DType, Device, Tensor};
use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// What the forward leaves. Its memory goes back to the layer when it is dropped.
#[derive(Debug)]
pub struct Tape {
    xs: Tensor,
    guides: Guides,
    numbers: Numbers,
    home: Arc<Home>,
}

#[derive(Debug)]
enum Numbers {
    F32(Mutex<Memory<f32>>),
    F64(Mutex<Memory<f64>>),
}

/// All that a window needs beside its inputs and outputs.
#[derive(Debug, Default)]
struct Memory<T> {
    tape: cpu::Tape<T>,
    /// The outputs, which the backward reads.
    hs: Vec<T>,
    scratch: Scratch<T>,
}

/// Where a layer keeps memory between windows, so that each does not begin with fresh pages.
#[derive(Debug, Default)]
pub(crate) struct Home(Mutex<Vec<Box<dyn Any + Send>>>);

impl Home {
    /// More windows than this are seldom alive at once.
    const MOST: usize = 2;

    fn take<T: Real>(&self) -> Memory<T> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        memory.and_then(|memory| memory.downcast().ok()).map_or_else(Memory::default, |memory| *memory)
    }

    fn give<T: Real>(&self, memory: Memory<T>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < Self::MOST {
            kept.push(Box::new(memory));
        }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        match &mut self.numbers {
            Numbers::F32(numbers) => {
                self.home.give(std::mem::take(numbers.get_mut().unwrap_or_else(PoisonError::into_inner)));
            }
            Numbers::F64(numbers) => {
                self.home.give(std::mem::take(numbers.get_mut().unwrap_or_else(PoisonError::into_inner)));
            }
        }
    }
}

impl Tape {
    /// N and T of the window.
    pub(super) fn window(&self) -> (usize, usize) {
        (self.xs.dims()[0], self.xs.dims()[1])
    }
}

/// Outputs and next state in one buffer, and the tape.
pub(super) fn forward<C: Cell>(
    cell: &C,
    home: &Arc<Home>,
    (xs, state, guides): (&Tensor, &C::State, &Guides),
    keep: Keep,
) -> Result<(CpuStorage, Option<Tape>)> {
    let xs = xs.detach().contiguous()?;
    let (flat, numbers) = match xs.dtype() {
        DType::F32 => {
            let (flat, memory) = typed_forward::<f32, C>(cell, home, (&xs, state, guides), keep)?;
            (CpuStorage::F32(flat), Numbers::F32(Mutex::new(memory)))
        }
        DType::F64 => {
            let (flat, memory) = typed_forward::<f64, C>(cell, home, (&xs, state, guides), keep)?;
            (CpuStorage::F64(flat), Numbers::F64(Mutex::new(memory)))
        }
        other => return Err(Error::invalid("TimeRnn: fused", "f32 or f64", other.as_str())),
    };
    let tape = Tape { xs, guides: guides.clone(), numbers, home: home.clone() };
    Ok((flat, (keep == Keep::Tape).then_some(tape)))
}

/// The gradients, from those of `hs` and of the next state. A tape that is kept can be used again.
pub(super) fn backward<C: Cell>(
    cell: &C,
    tape: &Tape,
    dhs: &Tensor,
    dnext: &C::State,
    wants_dxs: bool,
    keep: Keep,
) -> Result<TimeGrads<C::State>> {
    match &tape.numbers {
        Numbers::F32(memory) => typed_backward(cell, tape, memory, (dhs, dnext, wants_dxs), keep),
        Numbers::F64(memory) => typed_backward(cell, tape, memory, (dhs, dnext, wants_dxs), keep),
    }
}

fn typed_forward<T: Real, C: Cell>(
    cell: &C,
    home: &Home,
    (xs, state, guides): (&Tensor, &C::State, &Guides),
    keep: Keep,
) -> Result<(Vec<T>, Memory<T>)> {
    let (batch, time, input) = xs.dims3()?;
    let (hidden, output) = (cell.spec().hidden, cell.spec().output());
    let dims = Dims { batch, time, input, hidden, output };
    let params = contiguous(cell.params())?;
    let params = LentParams::<T>::new(&params)?;
    let course = LentCourse::<T>::new(guides)?;
    let layer = LayerOf { kernel: kernel(cell)?, params: params.slices(), course: course.slices() };
    let parts = state.parts().into_iter().map(Tensor::contiguous).collect::<candle_core::Result<Vec<_>>>()?;
    let parts = parts.iter().map(read::<T>).collect::<Result<Vec<_>>>()?;
    let [h, c] = [0, 1].map(|i| parts.get(i).map_or(&[] as &[T], Reading::slice));

    let mut flat = vec![T::ZERO; batch * time * output + h.len() + c.len()];
    let (hs, next) = flat.split_at_mut(batch * time * output);
    let (next_h, next_c) = next.split_at_mut(batch * output);
    let mut memory = home.take::<T>();
    cpu::forward(
        &layer,
        dims,
        (read::<T>(xs)?.slice(), cpu::State { h, c }),
        (hs, StateMut { h: next_h, c: next_c }),
        keep,
        (&mut memory.tape, &mut memory.scratch),
    );
    memory.hs.clear();
    if keep == Keep::Tape && guides.is_plain() {
        memory.hs.extend_from_slice(hs);
    }
    Ok((flat, memory))
}

fn typed_backward<T: Real, C: Cell>(
    cell: &C,
    Tape { xs, guides, .. }: &Tape,
    memory: &Mutex<Memory<T>>,
    (dhs, dnext, wants_dxs): (&Tensor, &C::State, bool),
    keep: Keep,
) -> Result<TimeGrads<C::State>> {
    let params = contiguous(cell.params())?;
    let lent = LentParams::<T>::new(&params)?;
    let course = LentCourse::<T>::new(guides)?;
    let layer = LayerOf { kernel: kernel(cell)?, params: lent.slices(), course: course.slices() };
    let mut dparts = Vec::new();
    for part in dnext.parts() {
        dparts.push(read::<T>(&part.contiguous()?)?.slice().to_vec());
    }
    let mut of_params =
        params.tensors().iter().map(|tensor| vec![T::ZERO; tensor.elem_count()]).collect::<Vec<_>>();
    let mut dxs = wants_dxs.then(|| vec![T::ZERO; xs.elem_count()]);
    {
        let dhs = dhs.detach().contiguous()?;
        let mut dstate = dparts.iter_mut();
        let mut next = || dstate.next().map_or(&mut [] as &mut [T], Vec::as_mut_slice);
        let mut dstate = StateMut { h: next(), c: next() };
        let mut grads = ParamGrads::in_order(&params, of_params.iter_mut().map(Vec::as_mut_slice), false)?;
        let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Memory { tape, hs, scratch } = &mut *memory;
        cpu::backward(
            &layer,
            (read::<T>(xs)?.slice(), hs, read::<T>(&dhs)?.slice()),
            &mut dstate,
            &mut grads,
            dxs.as_deref_mut(),
            keep,
            (tape, scratch),
        );
    }
    let like = |numbers: Vec<T>, tensor: &Tensor| Tensor::from_vec(numbers, tensor.shape(), &Device::Cpu);
    let mut of_params = of_params.into_iter();
    let grads = params.try_map(|tensor| Ok(like(of_params.next().unwrap_or_default(), tensor)?))?;
    let parts = dparts.into_iter().zip(dnext.parts());
    let parts = parts.map(|(numbers, part)| like(numbers, part)).collect::<candle_core::Result<Vec<_>>>()?;
    let dxs = dxs.map(|dxs| like(dxs, xs)).transpose()?;
    Ok(TimeGrads { dxs, dstate: with_parts(dnext, parts)?, params: grads })
}

fn kernel<T: Real, C: Cell>(cell: &C) -> Result<&'static dyn cpu::KernelOf<T>> {
    let kernel: Option<&'static dyn Kernel> = cell.kernel();
    let kernel =
        kernel.ok_or_else(|| Error::invalid("TimeRnn: fused", "a cell with a kernel in lanes", "none"))?;
    Ok(T::kernel(kernel))
}

fn contiguous(params: &LayerParams) -> Result<LayerParams> {
    params.try_map(|tensor| Ok(tensor.detach().contiguous()?))
}
