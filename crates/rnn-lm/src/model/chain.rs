//! The chain of fused kernels: what training runs on where nothing is dropped. No graph, no tensors in between, every
//! buffer allocated once.

use super::Engine;
use super::dropout::Draw;
use super::ends::no_forward;
use super::net::Net;
use crate::data::Window;
use crate::layers::{AffineLoss, AffineParams, RowGrad, TimeEmbedding};
use crate::train::{Grad, Values};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use rnn_core::kernels::lend::read;
use rnn_core::kernels::profile::part;
use rnn_core::kernels::unroll::cpu::{
    self, Course, Dims, KernelOf, LayerOf, ParamGrads, Scratch, StateMut, Tape, resize,
};
use rnn_core::kernels::unroll::{Keep, LentParams};
use rnn_core::kernels::{Kernel, Real};
use rnn_core::{Cell, LayerParams};

pub(super) struct Chain<T: Real> {
    embedding: Tensor,
    layers: Vec<Layer<T>>,
    affine: (Tensor, Tensor),
    tied: bool,
    scratch: Scratch<T>,
    /// Embedded inputs `[N, T, D]`.
    embedded: Vec<T>,
    output: AffineLoss<T>,
    /// The gradient of a layer's output and of its input; the latter is that of the layer below, `[N, T, H]`.
    dhs: Vec<T>,
    dxs: Vec<T>,
    rows: RowGrad<T>,
    ids: Vec<u32>,
    stage: Stage,
}

/// What may come next.
#[derive(PartialEq)]
enum Stage {
    Empty,
    Forward,
    Backward,
}

/// One recurrent layer: its parameters, where it keeps its state, and its gradients.
struct Layer<T: Real> {
    kernel: &'static dyn KernelOf<T>,
    carry: bool,
    params: LayerParams,
    input: usize,
    hidden: usize,
    tape: Tape<T>,
    hs: Vec<T>,
    state: [Vec<T>; 2],
    next: [Vec<T>; 2],
    grads: Vec<Vec<T>>,
}

impl<T: Real> Chain<T> {
    pub(super) fn new<C: Cell>(net: &Net<C>) -> Result<Self> {
        let mut layers = Vec::new();
        for layer in net.stack.layers() {
            let cell = layer.cell();
            let kernel: &'static dyn Kernel =
                cell.kernel().ok_or_else(|| Error::invalid("fused model", "a cell with a kernel", "none"))?;
            let kernel = T::kernel(kernel);
            let params = cell.params().clone();
            let sizes = params.tensors().into_iter().map(Tensor::elem_count);
            layers.push(Layer {
                kernel,
                carry: kernel.traits().carry,
                input: cell.spec().input,
                hidden: cell.spec().hidden,
                tape: Tape::default(),
                hs: Vec::new(),
                state: Default::default(),
                next: Default::default(),
                grads: sizes.map(|size| vec![T::ZERO; size]).collect(),
                params,
            });
        }
        let affine = net.head.full()?;
        let (weight, bias) = (affine.weight().clone(), affine.bias().clone());
        Ok(Self {
            embedding: net.embedding.weight().clone(),
            layers,
            scratch: Scratch::default(),
            embedded: Vec::new(),
            output: AffineLoss::default(),
            dhs: Vec::new(),
            dxs: Vec::new(),
            rows: RowGrad::default(),
            affine: (weight, bias),
            tied: net.tied,
            ids: Vec::new(),
            stage: Stage::Empty,
        })
    }
}

impl<T: Real> Engine for Chain<T> {
    fn forward(&mut self, window: &Window, _: Draw) -> Result<f64> {
        self.stage = Stage::Empty;
        let (batch, time) = (window.batch, window.time);
        let size = self.embedding.dim(1)?;
        resize(&mut self.embedded, batch * time * size);
        let table = read(&self.embedding)?;
        part("embedding", 0, || {
            TimeEmbedding::forward_rows(table.slice(), &window.xs, &mut self.embedded, size);
        });
        let mut xs = self.embedded.as_slice();
        for layer in &mut self.layers {
            layer.forward(xs, batch, time, &mut self.scratch)?;
            xs = &layer.hs;
        }
        let (weight, bias) = (read::<T>(&self.affine.0)?, read::<T>(&self.affine.1)?);
        let params = AffineParams { weight: weight.slice(), bias: bias.slice() };
        let loss = self.output.forward(xs, &window.ts, params, &mut self.scratch.rooms)?;
        // Nothing can fail from here: the state goes on only with a window that went through.
        for layer in &mut self.layers {
            std::mem::swap(&mut layer.state, &mut layer.next);
        }
        self.ids.clone_from(&window.xs);
        self.stage = Stage::Forward;
        Ok(loss)
    }

    fn backward(&mut self) -> Result<()> {
        if self.stage != Stage::Forward {
            return Err(no_forward());
        }
        std::mem::swap(&mut self.dhs, &mut self.output.dhs);
        for k in (0..self.layers.len()).rev() {
            let (below, this) = self.layers.split_at_mut(k);
            let xs = below.last().map_or(&self.embedded, |below| &below.hs);
            this[0].backward(xs, &self.dhs, &mut self.dxs, &mut self.scratch)?;
            std::mem::swap(&mut self.dhs, &mut self.dxs);
        }
        let size = self.embedding.dim(1)?;
        part("embedding", 0, || -> Result<()> {
            self.rows = TimeEmbedding::backward_rows(&self.ids, &self.dhs, size)?;
            if self.tied {
                self.rows.add_to(&mut self.output.weight);
            }
            Ok(())
        })?;
        self.stage = Stage::Backward;
        Ok(())
    }

    fn reset_state(&mut self) {
        for layer in &mut self.layers {
            layer.state.iter_mut().for_each(Vec::clear);
        }
    }

    fn state(&self) -> Result<Option<Vec<Tensor>>> {
        let mut parts = Vec::new();
        for layer in &self.layers {
            for part in layer.state.iter().take(layer.parts()) {
                if part.is_empty() {
                    return Ok(None);
                }
                let shape = (part.len() / layer.hidden, layer.hidden);
                parts.push(Tensor::from_slice(part, shape, &Device::Cpu)?);
            }
        }
        Ok(Some(parts))
    }

    fn set_state(&mut self, parts: Vec<Tensor>) -> Result<()> {
        let mut parts = parts.iter();
        for layer in &mut self.layers {
            let parts_of_layer = layer.parts();
            for slot in layer.state.iter_mut().take(parts_of_layer) {
                let part = parts.next().ok_or_else(|| Error::invalid("state", "a part", "none"))?;
                slot.clear();
                slot.extend_from_slice(read::<T>(part)?.slice());
            }
        }
        Ok(())
    }

    fn grads(&self) -> Option<Vec<Grad<'_>>> {
        if self.stage != Stage::Backward {
            return None;
        }
        let dense = |grad| Grad::Dense(Values::of::<T>(grad));
        let of_embedding = Grad::Rows { ids: &self.rows.ids, values: Values::of(&self.rows.values) };
        let of_layers = self.layers.iter().flat_map(|layer| &layer.grads).map(|grad| dense(grad));
        let AffineLoss { weight, bias, .. } = &self.output;
        let (first, last) =
            if self.tied { (dense(weight), None) } else { (of_embedding, Some(dense(weight))) };
        Some([first].into_iter().chain(of_layers).chain(last).chain([dense(bias)]).collect())
    }
}

impl<T: Real> Layer<T> {
    /// The parts of its state.
    fn parts(&self) -> usize {
        if self.carry { 2 } else { 1 }
    }

    fn forward(&mut self, xs: &[T], batch: usize, time: usize, scratch: &mut Scratch<T>) -> Result<()> {
        let (input, hidden) = (self.input, self.hidden);
        let dims = Dims { batch, time, input, hidden, output: hidden };
        let sizes = [batch * self.hidden, if self.carry { batch * self.hidden } else { 0 }];
        for ((state, next), size) in self.state.iter_mut().zip(&mut self.next).zip(sizes) {
            if state.is_empty() {
                state.resize(size, T::ZERO);
            }
            resize(next, size);
        }
        resize(&mut self.hs, batch * time * self.hidden);
        let params = LentParams::<T>::new(&self.params)?;
        let [h, c] = &self.state;
        let [next_h, next_c] = &mut self.next;
        let layer = LayerOf { kernel: self.kernel, params: params.slices(), course: Course::default() };
        cpu::forward(
            &layer,
            dims,
            (xs, cpu::State { h, c }),
            (&mut self.hs, StateMut { h: next_h, c: next_c }),
            Keep::Tape,
            (&mut self.tape, scratch),
        );
        Ok(())
    }

    fn backward(&mut self, xs: &[T], dhs: &[T], dxs: &mut Vec<T>, scratch: &mut Scratch<T>) -> Result<()> {
        let params = LentParams::<T>::new(&self.params)?;
        // The state before the window was swapped into `next`; it is used up, and its room takes the state's gradient.
        let [dh, dc] = &mut self.next;
        dh.fill(T::ZERO);
        dc.fill(T::ZERO);
        let layer = LayerOf { kernel: self.kernel, params: params.slices(), course: Course::default() };
        let slots = self.grads.iter_mut().map(Vec::as_mut_slice);
        let mut grads = ParamGrads::in_order(&self.params, slots, false)?;
        resize(dxs, xs.len());
        cpu::backward(
            &layer,
            (xs, &self.hs, dhs),
            &mut StateMut { h: dh, c: dc },
            &mut grads,
            Some(dxs),
            Keep::Nothing,
            (&mut self.tape, scratch),
        );
        Ok(())
    }
}
