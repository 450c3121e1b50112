//! One step at a time with weights that were packed once: for input as it comes, and for text as it is made.
//!
//! A window packs its weights anew, since training changes them; for a single step that would cost more than the step.
//! Here every member of the team has its columns of every matrix packed, and reads each number once a step: what bounds
//! the speed of one row is how fast memory can be read. The results have the bits of a window's.

mod packed;

use super::cpu::{Dims, KernelOf, LayerOf, Traits, check};
use super::part::{Cut, ForwardWindow, Norm, Part, Rows, Which};
use super::slots::{Params, Slots};
use crate::convention::Direction;
use crate::kernels::Real;
use crate::kernels::dispatch::{Cpu, cpu};
use crate::kernels::product::{Lines, Mat, Store};
use crate::kernels::share::Shared;
use crate::kernels::team::{self, together};
pub(in crate::kernels) use packed::Pack;
use packed::{Packed, Product};

/// Layers, and maybe an affine layer behind them, with the state that they carry.
pub struct Stream<T: Real> {
    cpu: Cpu,
    rows: usize,
    layers: Vec<Layer<T>>,
    head: Option<Head<T>>,
    /// Where a state is put together that rows of another are selected for.
    spare: Vec<T>,
}

/// The affine layer.
struct Head<T> {
    weight: Packed<T>,
    bias: Vec<T>,
    out: Vec<T>,
    /// Whether the next step reads the weight from its end. Read in the same order each time, what is larger than a
    /// core's cache would be gone from it whenever its turn comes; this way what was read last is still there.
    backwards: bool,
}

impl<T: Real> Head<T> {
    fn new(cpu: Cpu, rows: usize, (weight, bias): (&[T], &[T])) -> Self {
        let hidden = weight.len() / bias.len().max(1);
        let matrix = Mat::new(weight, bias.len(), hidden).t();
        let weight = Packed::new(cpu, (parts(weight.len()), rows), matrix);
        Self { weight, bias: bias.to_vec(), out: vec![T::ZERO; rows * bias.len()], backwards: false }
    }

    fn step(&mut self, cpu: Cpu, rows: usize, hs: &[T]) {
        let ends = (
            Lines::new(hs, 0, hs.len() / rows),
            Rows::dense(Shared::new(&mut self.out), self.bias.len()),
            Store::Row(&self.bias),
        );
        let product = Product { backwards: self.backwards, ..Product::of(cpu, rows, &self.weight, ends) };
        self.backwards = !self.backwards;
        together(self.weight.parts.len(), &|member| product.share(member));
    }
}

/// A layer to be packed: its kernel and parameters, and its sizes, of which N and T are not read.
pub type LayerToPack<'a, T> = (LayerOf<'a, T>, Dims);

impl<T: Real> Stream<T> {
    /// For `rows` inputs side by side: layers from the first to the last, then maybe `weight [V, P]` and `bias [V]`. The
    /// state is zero.
    ///
    /// # Panics
    /// Where a slice does not have the size that belongs to it, or there is no row or no layer.
    pub fn new(rows: usize, layers: &[LayerToPack<'_, T>], head: Option<(&[T], &[T])>) -> Self {
        assert!(rows > 0 && !layers.is_empty(), "{rows} rows through {} layers", layers.len());
        if let (Some((weight, bias)), Some((_, Dims { output, .. }))) = (head, layers.last()) {
            assert_eq!(
                Some(weight.len()),
                bias.len().checked_mul(*output),
                "weight [{}, {output}]",
                bias.len()
            );
        }
        let cpu = cpu();
        Self {
            cpu,
            rows,
            layers: layers.iter().map(|layer| Layer::new(cpu, rows, layer)).collect(),
            head: head.map(|head| Head::new(cpu, rows, head)),
            spare: Vec::new(),
        }
    }

    /// One step: `xs [N, D]` give `[N, V]`, or the last layer's `[N, P]` where nothing stands behind it. Allocates nothing.
    ///
    /// # Panics
    /// Where `xs` has another size.
    pub fn step(&mut self, xs: &[T]) -> &[T] {
        let Self { cpu, rows, layers, head, .. } = self;
        let mut below = xs;
        for layer in layers {
            layer.step(*cpu, *rows, below);
            below = &layer.h;
        }
        if let Some(head) = head {
            head.step(*cpu, *rows, below);
        }
        match (&self.head, self.layers.last()) {
            (Some(head), _) => &head.out,
            (None, Some(last)) => &last.h,
            (None, None) => &[],
        }
    }

    /// The parts of the state, of each layer h and then c where it has one, `[N, size]` each.
    pub fn state(&self) -> impl Iterator<Item = &[T]> {
        let parts = |layer: &'_ Layer<T>| layer.traits().carry;
        self.layers
            .iter()
            .flat_map(move |layer| [Some(&*layer.h), parts(layer).then_some(&*layer.c)].into_iter().flatten())
    }

    /// The same parts, to be written.
    pub fn state_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.layers.iter_mut().flat_map(|layer| {
            let carry = layer.traits().carry;
            [Some(&mut *layer.h), carry.then_some(&mut *layer.c)].into_iter().flatten()
        })
    }

    /// Row n of the state becomes what row `rows[n]` was: what a beam search does with its best rows. Allocates nothing
    /// after the first time.
    ///
    /// # Panics
    /// Where there is not one number a row, or no such row.
    pub fn select(&mut self, rows: &[usize]) {
        assert_eq!(rows.len(), self.rows, "a row for each row");
        let mut spare = std::mem::take(&mut self.spare);
        let count = self.rows;
        for part in self.state_mut() {
            let size = part.len() / count;
            spare.clear();
            spare.extend_from_slice(part);
            for (row, &from) in part.chunks_exact_mut(size).zip(rows) {
                row.copy_from_slice(&spare[from * size..(from + 1) * size]);
            }
        }
        self.spare = spare;
    }

    /// The state becomes zero.
    pub fn reset(&mut self) {
        for layer in &mut self.layers {
            layer.h.fill(T::ZERO);
            layer.c.fill(T::ZERO);
        }
    }

    /// How many members each layer, and what stands behind them, has parts for.
    #[cfg(test)]
    pub(super) fn parts(&self) -> impl Iterator<Item = usize> {
        let head = self.head.as_ref().map(|head| &head.weight);
        self.layers.iter().map(|layer| &layer.input).chain(head).map(|packed| packed.parts.len())
    }

    /// Bytes of weights that a step reads.
    pub fn bytes(&self) -> usize {
        let of_layers = self.layers.iter().flat_map(|layer| {
            let others = [&layer.projection, &layer.between].into_iter().flatten();
            [&layer.input, &layer.recurrent].into_iter().chain(others)
        });
        let head = self.head.as_ref().map(|head| &head.weight);
        of_layers.chain(head).map(|packed| size_of::<T>() * packed.len()).sum()
    }
}

/// One layer, packed, with its state.
struct Layer<T: Real> {
    kernel: &'static dyn KernelOf<T>,
    dims: Dims,
    input: Packed<T>,
    recurrent: Packed<T>,
    projection: Option<Packed<T>>,
    /// Of the product between two stages.
    between: Option<Packed<T>>,
    /// Whatever is not a packed matrix.
    params: Slots<Vec<T>>,
    /// The two halves of the gate sums `[N, G*H]` and `[N, R*H]`.
    gates: Vec<T>,
    sums: Vec<T>,
    /// What stands between two stages `[N, H]`; empty where there is one.
    middle: Vec<T>,
    /// What is projected `[N, H]`; empty where nothing is.
    hidden: Vec<T>,
    /// `[N, P]`: the state, and where the next one is written.
    h: Vec<T>,
    next: Vec<T>,
    c: Vec<T>,
}

impl<T: Real> Layer<T> {
    fn new(cpu: Cpu, rows: usize, &(LayerOf { kernel, params, course }, dims): &LayerToPack<'_, T>) -> Self {
        let traits = kernel.traits();
        assert!(
            course.is_plain() && course.direction == Direction::Forward,
            "a stream goes forward, and nothing steers it"
        );
        check(&params, &dims, &traits);
        let dims @ Dims { input, hidden, output, .. } = Dims { batch: rows, time: 1, ..dims };
        let (sums, recurrent) = (traits.gates * hidden, traits.recurrent * hidden);
        assert_eq!(params.weight_ih.len(), sums * input, "weight_ih [{sums}, {input}]");
        assert_eq!(params.weight_hh.len(), recurrent * output, "weight_hh [{recurrent}, {output}]");
        let count = parts(params.weight_ih.len() + params.weight_hh.len());
        let pack = |matrix: Mat<'_, T>| Packed::new(cpu, (count, rows), matrix.t());
        let optional = |weight: &[T], size: (usize, usize)| {
            (!weight.is_empty()).then(|| pack(Mat::new(weight, size.0, size.1)))
        };
        let none: &[T] = &[];
        let (weight_ih, weight_hh, weight_hr, weight_hn) = (none, none, none, none);
        let others = Params { weight_ih, weight_hh, weight_hr, weight_hn, ..params };
        let room = |wanted: bool, size: usize| vec![T::ZERO; if wanted { rows * size } else { 0 }];
        Self {
            kernel,
            dims,
            input: pack(Mat::new(params.weight_ih, sums, input)),
            recurrent: pack(Mat::new(params.weight_hh, recurrent, output)),
            projection: optional(params.weight_hr, (output, hidden)),
            between: optional(params.weight_hn, (hidden, hidden)),
            params: others.each(|numbers| numbers.to_vec()),
            gates: room(true, sums),
            sums: room(traits.two_sided || !params.norm_hh.is_empty(), recurrent),
            middle: room(traits.between.is_some(), hidden),
            hidden: room(!params.weight_hr.is_empty(), hidden),
            h: room(true, output),
            next: room(true, output),
            c: room(traits.carry, hidden),
        }
    }

    fn traits(&self) -> Traits {
        self.kernel.traits()
    }

    fn step(&mut self, cpu: Cpu, rows: usize, xs: &[T]) {
        let Dims { input, hidden, output, .. } = self.dims;
        assert_eq!(xs.len(), rows * input, "xs [{rows}, {input}]");
        let traits = &self.traits();
        let params = self.params.each(Vec::as_slice);
        let window = ForwardWindow {
            dims: self.dims,
            cut: Cut::Units,
            direction: Direction::Forward,
            params,
            own: params.own_of(hidden),
            h: &self.h,
            c: Shared::new(&mut self.c),
            gates: Shared::new(&mut self.gates),
            extra: Shared::new(&mut []),
            c_before: Shared::new(&mut []),
            recurrent: Shared::new(&mut self.sums),
            between: Shared::new(&mut self.middle),
            normed: Shared::new(&mut []),
            scale: Shared::new(&mut []),
            scale_between: Shared::new(&mut []),
            hidden: Shared::new(&mut self.hidden),
            hs: Shared::new(&mut self.next),
            guided: None,
        };
        let sums = Rows::dense(window.gates, traits.gates * hidden);
        let normed = params.normed();
        let of_input =
            Product::of(cpu, rows, &self.input, (Lines::new(xs, 0, input), sums, params.input_store()));
        let (to, store) = window.product(0, traits);
        let of_state = Product::of(cpu, rows, &self.recurrent, (Lines::new(&self.h, 0, output), to, store));
        // Matrices of as many columns are cut alike, and a member adds the second product where it wrote the first.
        // Others are not, and it adds where another member wrote.
        let adds_elsewhere = traits.recurrent != traits.gates && matches!(store, Store::Add);
        // SAFETY: all members have met since these were written.
        #[allow(unsafe_code)]
        let (between, hidden_rows) =
            unsafe { (Lines::shared(window.between, 0, hidden), Lines::shared(window.hidden, 0, hidden)) };
        let of_between = self
            .between
            .as_ref()
            .map(|packed| Product::of(cpu, rows, packed, (between, window.last_gate(0, traits), Store::Add)));
        let of_hidden = self.projection.as_ref().map(|packed| {
            Product::of(cpu, rows, packed, (hidden_rows, Rows::dense(window.hs, output), Store::Set))
        });
        together(self.input.parts.len(), &|member| {
            of_input.share(member);
            if adds_elsewhere {
                member.meet();
            }
            of_state.share(member);
            // Sums are cut evenly, whatever units they are of.
            member.meet();
            let whole_rows = member.share(rows, 1);
            if normed {
                let none = (Shared::new(&mut []), Shared::new(&mut []));
                let input = Norm::of_input(window.gates, traits.gates * hidden, &params, none);
                (T::compiled().norm)(cpu, Norm { rows: whole_rows.clone(), ..input });
                (T::compiled().norm)(cpu, window.norm(0, whole_rows.clone(), traits));
                member.meet();
            }
            let units = member.share(hidden, UNITS);
            let part = Part { rows: 0..rows, outputs: units.clone(), units };
            let stage = |which: Which| {
                if !part.units.is_empty() {
                    self.kernel.stage(cpu, &window, (0, 0), &part, which);
                }
            };
            if traits.between.is_some() {
                stage(Which::First);
                member.meet();
                match &of_between {
                    Some(product) => product.share(member),
                    None => (T::compiled().norm)(cpu, window.norm_between(0, whole_rows)),
                }
                member.meet();
            }
            stage(Which::Last);
            if let Some(of_hidden) = &of_hidden {
                member.meet();
                of_hidden.share(member);
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
