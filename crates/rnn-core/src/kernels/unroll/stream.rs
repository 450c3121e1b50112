//! One step at a time with weights that were packed once: for input as it comes, and for text as it is made.
//!
//! A window packs its weights anew, since training changes them; for a single step that would cost more than the step.
//! Here every member of the team has its columns of every matrix packed, and reads each number once a step: what bounds
//! the speed of one row is how fast memory can be read. The results have the bits of a window's.

use super::cpu::{Dims, KernelOf, Params};
use super::part::{Cut, ForwardWindow, StepProduct, pack_all};
use crate::kernels::Real;
use crate::kernels::dispatch::{Cpu, Instructions, Task, cpu, run};
use crate::kernels::product::{Columns, Into, Lines, Mat, grown, grown_before};
use crate::kernels::share::Shared;
use crate::kernels::simd::Register;
use crate::kernels::team::{self, Member, together};

/// Layers, and an affine layer behind them, with the state that they carry.
pub struct Stream<T: Real> {
    cpu: Cpu,
    rows: usize,
    layers: Vec<Layer<T>>,
    head: Packed<T>,
    /// Whether the next step reads the head from its end. Read in the same order each time, what is larger than a
    /// core's cache would be gone from it whenever its turn comes; this way what was read last is still there.
    backwards: bool,
    bias: Vec<T>,
    out: Vec<T>,
}

/// A layer to be packed: its kernel, its sizes and its parameters.
pub type LayerOf<'a, T> = (&'static dyn KernelOf<T>, usize, usize, Params<'a, T>);

impl<T: Real> Stream<T> {
    /// For `rows` inputs side by side: layers from the first to the last, each with its input and hidden size, then
    /// `weight [V, H]` and `bias [V]`. The state is zero.
    ///
    /// # Panics
    /// Where a slice does not have the size that belongs to it.
    pub fn new(rows: usize, layers: &[LayerOf<'_, T>], (weight, bias): (&[T], &[T])) -> Self {
        let cpu = cpu();
        let hidden = weight.len() / bias.len().max(1);
        Self {
            cpu,
            rows,
            layers: layers.iter().map(|layer| Layer::new(cpu, rows, layer)).collect(),
            head: Packed::new(cpu, (parts(weight.len()), rows), Mat::new(weight, bias.len(), hidden).t()),
            backwards: false,
            bias: bias.to_vec(),
            out: vec![T::ZERO; rows * bias.len()],
        }
    }

    /// One step: `xs [N, D]` give `[N, V]`. Allocates nothing.
    ///
    /// # Panics
    /// Where `xs` has another size.
    pub fn step(&mut self, xs: &[T]) -> &[T] {
        let Self { cpu, rows, layers, head, backwards, bias, out } = self;
        let mut xs = xs;
        for layer in layers {
            layer.step(*cpu, *rows, xs);
            xs = &layer.h;
        }
        let stride = bias.len();
        let product = Product {
            cpu: *cpu,
            packed: head,
            left: Lines::new(xs, 0, xs.len() / *rows),
            rows: *rows,
            out: Shared::new(out),
            stride,
            into: Into::Row(bias),
            backwards: *backwards,
        };
        *backwards = !*backwards;
        together(head.parts.len(), &|member| run(product.cpu, (&product, member)));
        &self.out
    }

    /// The state becomes zero.
    pub fn reset(&mut self) {
        for layer in &mut self.layers {
            layer.h.fill(T::ZERO);
            layer.c.fill(T::ZERO);
        }
    }

    /// Bytes of weights that a step reads.
    pub fn bytes(&self) -> usize {
        let of_layers = self.layers.iter().flat_map(|layer| [&layer.input, &layer.recurrent]);
        of_layers.chain([&self.head]).map(|packed| size_of::<T>() * packed.len()).sum()
    }
}

/// One layer, packed, with its state.
struct Layer<T: Real> {
    kernel: &'static dyn KernelOf<T>,
    dims: Dims,
    input: Packed<T>,
    recurrent: Packed<T>,
    bias_ih: Option<Vec<T>>,
    bias_hh: Option<Vec<T>>,
    /// The two halves of the gate sums `[N, G*H]`.
    gates: Vec<T>,
    sums: Vec<T>,
    /// `[N, H]`: the state, and where the next one is written.
    h: Vec<T>,
    next: Vec<T>,
    c: Vec<T>,
}

impl<T: Real> Layer<T> {
    fn new(cpu: Cpu, rows: usize, &(kernel, input, hidden, params): &LayerOf<'_, T>) -> Self {
        let traits = kernel.traits();
        let sums = traits.gates * hidden;
        assert_eq!(params.weight_ih.len(), sums * input, "weight_ih [{sums}, {input}]");
        assert_eq!(params.weight_hh.len(), sums * hidden, "weight_hh [{sums}, {hidden}]");
        // Both matrices are cut alike, so that a member adds the second product where it wrote the first.
        let count = parts(params.weight_ih.len() + params.weight_hh.len());
        Self {
            kernel,
            dims: Dims { batch: rows, time: 1, input, hidden },
            input: Packed::new(cpu, (count, rows), Mat::new(params.weight_ih, sums, input).t()),
            recurrent: Packed::new(cpu, (count, rows), Mat::new(params.weight_hh, sums, hidden).t()),
            bias_ih: params.bias_ih.map(<[T]>::to_vec),
            bias_hh: params.bias_hh.map(<[T]>::to_vec),
            gates: vec![T::ZERO; rows * sums],
            sums: vec![T::ZERO; if traits.two_sided { rows * sums } else { 0 }],
            h: vec![T::ZERO; rows * hidden],
            next: vec![T::ZERO; rows * hidden],
            c: vec![T::ZERO; if traits.carry { rows * hidden } else { 0 }],
        }
    }

    fn step(&mut self, cpu: Cpu, rows: usize, xs: &[T]) {
        let Dims { input, hidden, .. } = self.dims;
        assert_eq!(xs.len(), rows * input, "xs [{rows}, {input}]");
        let window = ForwardWindow {
            dims: self.dims,
            cut: Cut::Units,
            weight_hh: &[],
            bias_hh: self.bias_hh.as_deref(),
            h: &self.h,
            c: Shared::new(&mut self.c),
            gates: Shared::new(&mut self.gates),
            extra: Shared::new(&mut []),
            c_before: Shared::new(&mut []),
            recurrent: Shared::new(&mut self.sums),
            hs: Shared::new(&mut self.next),
        };
        let traits = self.kernel.traits();
        let (out, stride, into) = window.sums(0, (traits.gates, traits.two_sided));
        let of_input = Product {
            cpu,
            packed: &self.input,
            left: Lines::new(xs, 0, input),
            rows,
            out: window.gates,
            stride,
            into: self.bias_ih.as_deref().map_or(Into::Set, Into::Row),
            backwards: false,
        };
        let of_state = Product {
            cpu,
            packed: &self.recurrent,
            left: Lines::new(&self.h, 0, hidden),
            rows,
            out,
            stride,
            into,
            backwards: false,
        };
        together(self.input.parts.len(), &|member| {
            run(cpu, (&of_input, member));
            run(cpu, (&of_state, member));
            // Sums are cut evenly, whatever units they are of.
            member.meet();
            let units = member.share(hidden, UNITS);
            if !units.is_empty() {
                self.kernel.step(cpu, &window, units);
            }
        });
        std::mem::swap(&mut self.h, &mut self.next);
    }
}

/// Units that a member takes at a time: a cache line of f32.
const UNITS: usize = 16;

/// Members worth their waiting for so many weights.
fn parts(weights: usize) -> usize {
    const WORTH: usize = 1 << 14;
    team::size().min(weights / WORTH).max(1)
}

/// A matrix's transpose, packed in parts, one for each member that there may be.
struct Packed<T> {
    parts: Vec<Part<T>>,
    depth: usize,
}

/// Some columns of it.
struct Part<T> {
    columns: Columns,
    /// Kept by [`grown`].
    panels: Vec<T>,
    len: usize,
}

impl<T: Real> Packed<T> {
    /// A matrix for so many `rows`, its columns in `count` parts as even as registers allow.
    fn new(cpu: Cpu, (count, rows): (usize, usize), matrix: Mat<'_, T>) -> Self {
        let mut parts = Vec::new();
        parts.resize_with(count, || Part { columns: (0..0).into(), panels: Vec::new(), len: 0 });
        team::pieces(&mut parts, 1, &|index, part| {
            run(cpu, Pack { part: &mut part[0], matrix, rows, index, count });
        });
        Self { parts, depth: matrix.shape().0 }
    }

    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum()
    }
}

struct Pack<'a, T> {
    part: &'a mut Part<T>,
    matrix: Mat<'a, T>,
    rows: usize,
    index: usize,
    count: usize,
}

impl<T: Real> Task for Pack<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, instructions: I) {
        let Self { part, matrix, rows, index, count } = self;
        let (depth, columns) = matrix.shape();
        let share = |member: Member<'_>| member.share(columns, I::Register::<T>::WIDTH);
        part.columns = team::as_member(index, count, share).into();
        part.len = part.columns.packed_len::<I::Register<T>>(depth);
        pack_all::<I, T>(instructions, grown(&mut part.panels, part.len), matrix, rows, &part.columns);
    }
}

/// Rows times a packed matrix.
struct Product<'a, T> {
    cpu: Cpu,
    packed: &'a Packed<T>,
    left: Lines<'a, T>,
    rows: usize,
    out: Shared<'a, T>,
    stride: usize,
    into: Into<'a, T>,
    /// As in a block.
    backwards: bool,
}

impl<T: Real> Task for (&Product<'_, T>, Member<'_>) {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let (product, member) = self;
        for part in member.share(product.packed.parts.len(), 1) {
            let part = &product.packed.parts[part];
            let step = StepProduct {
                left: product.left,
                rows: 0..product.rows,
                depth: product.packed.depth,
                packed: grown_before(&part.panels, part.len),
                out: product.out,
                stride: product.stride,
                columns: &part.columns,
                backwards: product.backwards,
            };
            step.run::<I>(product.cpu, product.into);
        }
    }
}
