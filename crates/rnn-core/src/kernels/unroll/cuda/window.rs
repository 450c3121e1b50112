//! The contract on a GPU: tensors in and out, buffers between, the loop over the steps and its backward directly below.

use super::super::{Guides, Keep, TimeGrads, Way, ran};
use super::held::{Held, Params, address, tensor_of};
use super::launch::{Module, Numbers, OnGpu, Rows, Weight, Which, Window, int};
use crate::cell::step::Factors;
use crate::cell::{Cell, CellState, LayerParams, Own, Saved, State as _, Sums, with_parts};
use crate::kernels::unroll::cpu::Traits;
use crate::sums::column_sums;
use crate::{Direction, Error, Result};
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{DType, Tensor};

/// What the forward leaves.
#[derive(Debug)]
pub struct Tape {
    xs: Tensor,
    direction: Direction,
    /// The hidden state before the window, `[N, H]`.
    h: Tensor,
    /// `[N, T, H]`
    hs: Tensor,
    /// Activations, `[N, T, G*H]`.
    gates: Tensor,
    /// `[N, T, H]`
    kept: Option<Tensor>,
    /// `[N, T, H]`
    c_before: Option<Tensor>,
}

impl Tape {
    /// N and T of the window.
    pub(in super::super) fn window(&self) -> (usize, usize) {
        (self.xs.dims()[0], self.xs.dims()[1])
    }
}

/// Outputs and next state in one tensor, and the tape.
pub(in super::super) fn forward<C: Cell>(
    cell: &C,
    window: (&Tensor, &C::State, &Guides),
    keep: Keep,
) -> Result<(Tensor, Option<Tape>)> {
    match window.0.dtype() {
        DType::F64 => typed_forward::<f64, C>(cell, window, keep),
        _ => typed_forward::<f32, C>(cell, window, keep),
    }
}

/// The gradients, from those of `hs` and of the next state.
pub(in super::super) fn backward<C: Cell>(
    cell: &C,
    tape: &Tape,
    dhs: &Tensor,
    dnext: &C::State,
    wants_dxs: bool,
) -> Result<TimeGrads<C::State>> {
    match tape.xs.dtype() {
        DType::F64 => typed_backward::<f64, C>(cell, tape, dhs, dnext, wants_dxs),
        _ => typed_backward::<f32, C>(cell, tape, dhs, dnext, wants_dxs),
    }
}

fn typed_forward<T: OnGpu, C: Cell>(
    cell: &C,
    (xs, state, guides): (&Tensor, &C::State, &Guides),
    keep: Keep,
) -> Result<(Tensor, Option<Tape>)> {
    ran(Way::Fused);
    let module = module::<T, C>(cell, xs)?;
    let Traits { gates, carry, extra, two_sided, .. } = module.traced.traits;
    let (batch, time, input) = xs.dims3()?;
    let (hidden, steps) = (cell.spec().hidden, batch * time);
    let (sums, of_state) = (gates * hidden, batch * hidden);
    let params = Params::new::<T>(&module, cell.params(), (input, hidden))?;
    let xs = Held::new::<T>(&module, xs, steps * input)?;
    let start = State::new::<T, C>(&module, state, of_state)?;
    let kept = keep == Keep::Tape;

    // Outputs, and behind them each part of the next state.
    let next_h = steps * hidden;
    let next_c = next_h + of_state;
    let mut made = module.room::<T>(if carry { next_c + of_state } else { next_c })?;
    let activations = module.room::<T>(steps * sums)?;
    let product = module.some_room::<T>(two_sided, batch * sums)?;
    let extra = module.some_room::<T>(kept && extra, steps * hidden)?;
    let c_before = module.some_room::<T>(kept && carry, steps * hidden)?;
    if let Some(c) = &start.c {
        c.copy_to::<T>(&module, &mut made.slice_mut(next_c..))?;
    }

    let (of_window, of_step) = (Numbers::of(&activations), if_any(product.as_ref()));
    let (hs, before_all) = (Numbers::of(&made), start.h.numbers);
    let weight_ih =
        Weight { numbers: params.weight_ih.numbers, blocks: 1, inner: input, outer: sums, transposed: true };
    let weight_hh =
        Weight { numbers: params.weight_hh.numbers, blocks: 1, inner: hidden, outer: sums, transposed: true };
    let all = Window {
        gates: of_window.address,
        product: of_step.address,
        h: before_all.address,
        hs: hs.address,
        c: if carry { hs.skip(next_c).address } else { 0 },
        kept: if_any(extra.as_ref()).address,
        c_before: if_any(c_before.as_ref()).address,
        ..params.window((batch, time, hidden))?
    };
    // SAFETY: each buffer was made above with the size that `source.rs` gives it, and nobody else has it yet; what is read
    // is held until the end of this function, and the device does one thing after the other.
    #[allow(unsafe_code)]
    unsafe {
        // The input product needs no state: one product for all steps.
        let (taken, every_row) =
            (Rows { numbers: xs.numbers, stride: input }, Rows { numbers: of_window, stride: sums });
        module.product::<T>(weight_ih, taken, every_row, steps, false)?;
        let mut before = None;
        for (s, step) in guides.direction.steps(time).enumerate() {
            let fed = match before {
                Some(before) => Rows { numbers: hs.skip(before * hidden), stride: time * hidden },
                None => Rows { numbers: before_all, stride: hidden },
            };
            let to = match two_sided {
                true => Rows { numbers: of_step, stride: sums },
                false => Rows { numbers: of_window.skip(step * sums), stride: time * sums },
            };
            module.product::<T>(weight_hh, fed, to, batch, !two_sided)?;
            let next_h = if s + 1 == time { hs.skip(next_h).address } else { 0 };
            module.launch(Which::Forward, &Window { next_h, ..all }.at(step, before)?)?;
            before = Some(step);
        }
    }

    let flat = tensor_of(&module, made)?;
    if !kept {
        return Ok((flat, None));
    }
    let tensor =
        |numbers: Option<CudaSlice<T>>| numbers.map(|numbers| tensor_of(&module, numbers)).transpose();
    let tape = Tape {
        xs: xs.tensor,
        direction: guides.direction,
        h: start.h.tensor,
        hs: flat.narrow(0, 0, steps * hidden)?.reshape((batch, time, hidden))?,
        gates: tensor_of(&module, activations)?,
        kept: tensor(extra)?,
        c_before: tensor(c_before)?,
    };
    Ok((flat, Some(tape)))
}

/// The loop yields the gate gradients alone: the products that make the parameters' gradients of them stand outside of it.
fn typed_backward<T: OnGpu, C: Cell>(
    cell: &C,
    tape: &Tape,
    dhs: &Tensor,
    dnext: &C::State,
    wants_dxs: bool,
) -> Result<TimeGrads<C::State>> {
    ran(Way::Fused);
    let cell = cell.with_params(cell.params().detach());
    let module = module::<T, C>(&cell, &tape.xs)?;
    let Traits { gates, carry, extra, two_sided, own, .. } = module.traced.traits;
    let (batch, time, input) = tape.xs.dims3()?;
    let (hidden, steps) = (cell.spec().hidden, batch * time);
    let (sums, of_state, of_window) = (gates * hidden, batch * hidden, steps * hidden);
    let params = Params::new::<T>(&module, cell.params(), (input, hidden))?;
    let held = |tensor: &Tensor, count: usize| Held::new::<T>(&module, tensor, count);
    let (dhs, h, hs) = (held(dhs, of_window)?, held(&tape.h, of_state)?, held(&tape.hs, of_window)?);
    let activations = held(&tape.gates, steps * sums)?;
    let kept = Held::some::<T>(&module, tape.kept.as_ref(), (extra, of_window))?;
    let c_before = Held::some::<T>(&module, tape.c_before.as_ref(), (carry, of_window))?;
    let upstream = State::new::<T, C>(&module, dnext, of_state)?;

    let dinput = module.room::<T>(steps * sums)?;
    let drecurrent = module.some_room::<T>(two_sided, steps * sums)?;
    let terms = module.some_room::<T>(own > 0, steps * own * hidden)?;
    // What passed by the product, and through it by each gate: a product for each, where a single one has few columns for
    // a GPU and long sums.
    let mut dh = module.device.alloc_zeros::<T>((1 + gates) * of_state)?;
    upstream.h.copy_to::<T>(&module, &mut dh.slice_mut(..of_state))?;
    let mut dc = module.some_room::<T>(carry, of_state)?;
    if let (Some(dc), Some(c)) = (&mut dc, &upstream.c) {
        c.copy_to::<T>(&module, &mut dc.slice_mut(..))?;
    }
    let weight_hh = Weight {
        numbers: params.weight_hh.numbers,
        blocks: gates,
        inner: hidden,
        outer: hidden,
        transposed: false,
    };
    let through = Rows { numbers: Numbers::of(&dh).skip(of_state), stride: hidden };
    let dproduct = Numbers::of(drecurrent.as_ref().unwrap_or(&dinput));
    let all = Window {
        gates: activations.numbers.address,
        h: h.numbers.address,
        hs: hs.numbers.address,
        kept: address(kept.as_ref()),
        c_before: address(c_before.as_ref()),
        dhs: dhs.numbers.address,
        dinput: Numbers::of(&dinput).address,
        drecurrent: if_any(drecurrent.as_ref()).address,
        dh: Numbers::of(&dh).address,
        dc: if_any(dc.as_ref()).address,
        terms: if_any(terms.as_ref()).address,
        ..params.window((batch, time, hidden))?
    };
    for (s, step) in tape.direction.steps(time).enumerate().rev() {
        let before = s.checked_sub(1).map(|s| tape.direction.step(s, time));
        let from = Rows { numbers: dproduct.skip(step * sums), stride: time * sums };
        // SAFETY: each buffer was made above, or by the forward, with the size that `source.rs` gives it; those that are
        // written are this function's own, and what is read is held until its end.
        #[allow(unsafe_code)]
        unsafe {
            module.launch(Which::Backward, &all.at(step, before)?)?;
            module.product::<T>(weight_hh, from, through, batch, false)?;
        }
    }

    let rows = |numbers: CudaSlice<T>| Ok::<_, Error>(tensor_of(&module, numbers)?.reshape((steps, ()))?);
    let of_input = rows(dinput)?;
    let recurrent = drecurrent.map_or_else(|| Ok(of_input.clone()), rows)?;
    let own = terms.map_or_else(|| Ok(Own::new()), |terms| own_of(cell.params(), &rows(terms)?))?;
    let fed = fed(&tape.h, &tape.hs, tape.direction)?.reshape((steps, hidden))?;
    let of_gates = Sums { input: of_input, recurrent: recurrent.clone() };
    let factors = Factors { gates: &of_gates, product: &recurrent, fed: &fed, projection: None, own };
    let taken = tape.xs.reshape((steps, input))?;
    let (dxs, params) = factors.gradients(&cell, (&taken, &Saved(Vec::new())))?;
    let dxs = wants_dxs.then(|| dxs.reshape((batch, time, input))).transpose()?;
    let mut parts = vec![tensor_of(&module, dh)?.reshape((1 + gates, batch, hidden))?.sum(0)?];
    parts.extend(dc.map(|dc| Ok::<_, Error>(tensor_of(&module, dc)?.reshape((batch, hidden))?)).transpose()?);
    let dstate = with_parts(dnext, parts)?;
    Ok(TimeGrads { dxs, dstate, params })
}

/// What the recurrent product took at each step, `[N, T, H]`.
fn fed(h: &Tensor, hs: &Tensor, direction: Direction) -> Result<Tensor> {
    let (h, time) = (h.unsqueeze(1)?, hs.dim(1)?);
    Ok(match direction {
        _ if time == 1 => h,
        Direction::Forward => Tensor::cat(&[&h, &hs.narrow(1, 0, time - 1)?], 1)?,
        Direction::Reverse => Tensor::cat(&[&hs.narrow(1, 1, time - 1)?, &h], 1)?,
    })
}

/// The gradients of a cell's own parameters, from the terms `[rows, own*H]`.
fn own_of(params: &LayerParams, terms: &Tensor) -> Result<Own> {
    let sums = column_sums(terms)?;
    let mut first = 0;
    let each = params.own.iter().map(|(name, tensor)| {
        let count = tensor.elem_count();
        let grad = sums.narrow(0, first, count)?.reshape(tensor.shape())?;
        first += count;
        Ok((*name, grad))
    });
    each.collect()
}

impl Window {
    fn at(self, step: usize, before: Option<usize>) -> Result<Self> {
        Ok(Self { step: int(step)?, before: before.map_or(Ok(-1), int)?, ..self })
    }
}

fn module<T: OnGpu, C: Cell>(cell: &C, xs: &Tensor) -> Result<Module> {
    let kernel =
        cell.kernel().ok_or_else(|| Error::invalid("TimeRnn: fused", "a cell with a kernel", "none"))?;
    Module::new(xs.device().as_cuda_device()?, kernel, T::DTYPE)
}

/// Those of a buffer, or none where there is none.
fn if_any<T: OnGpu>(numbers: Option<&CudaSlice<T>>) -> Numbers {
    numbers.map_or_else(Numbers::default, Numbers::of)
}

/// A state, or the gradient of one: h, and c where the cell has it, `[N, H]` each.
struct State {
    h: Held,
    c: Option<Held>,
}

impl State {
    fn new<T: OnGpu, C: Cell>(module: &Module, state: &C::State, count: usize) -> Result<Self> {
        let parts = state.parts();
        let carry = module.traced.traits.carry;
        if parts.len() > 2 {
            return Err(Error::invalid(
                "TimeRnn: a state on a GPU",
                "h, or h and c",
                format!("{:?}", state.names()),
            ));
        }
        let h = Held::new::<T>(module, state.h(), count)?;
        Ok(Self { h, c: Held::some::<T>(module, parts.get(1).copied(), (carry, count))? })
    }
}
