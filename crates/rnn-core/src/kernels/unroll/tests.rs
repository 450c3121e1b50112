//! The kernels on memory that ends where no one may read on, and a stream against a window.

use super::Keep;
use super::cpu::{self, Course, Dims, KernelOf, LayerOf, ParamGrads, Scratch, Slots, State, StateMut, Tape};
use super::part::Cut;
use super::stream::Stream;
use crate::kernels::Real;
use crate::kernels::dispatch::{self, Cpu, with};
use crate::kernels::pointwise::{
    Between, CellNormLstm, Gru, Lstm, PeepholeLstm, ResetBeforeGru, RnnRelu, RnnTanh,
};
use crate::kernels::product::{DEPTH, Mat, Rooms, Store, product};
use crate::kernels::team::{beside_busy_cores, in_company};
use crate::kernels::tests::refused;
use crate::{Direction, rng};
use region::{Allocation, Protection};

/// Numbers whose last one stands right before a page that nobody may touch.
struct Guarded<T> {
    memory: Allocation,
    start: usize,
    numbers: Vec<T>,
}

impl<T: Real> Guarded<T> {
    fn new(numbers: Vec<T>) -> Self {
        let page = region::page::size();
        let bytes = size_of_val(numbers.as_slice());
        let whole = bytes.next_multiple_of(page);
        let mut memory = region::alloc(whole + page, Protection::READ_WRITE).unwrap();
        // SAFETY: the last page of what was just allocated, of which no reference exists.
        #[allow(unsafe_code)]
        unsafe {
            region::protect(memory.as_mut_ptr::<u8>().add(whole), page, Protection::NONE).unwrap();
        }
        let mut guarded = Self { memory, start: whole - bytes, numbers };
        let copy = guarded.numbers.clone();
        guarded.slice_mut().copy_from_slice(&copy);
        guarded
    }

    fn random(len: usize, purpose: &str) -> Self {
        let mut stream = rng::Stream::new(0, purpose, len as u64);
        Self::new((0..len).map(|_| T::from_f64(stream.normal())).collect())
    }

    fn zeros(len: usize) -> Self {
        Self::new(vec![T::ZERO; len])
    }

    fn slice(&self) -> &[T] {
        // SAFETY: as many numbers as were copied there; a page begins at a multiple of what the type wants.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr::<u8>().add(self.start).cast(), self.numbers.len())
        }
    }

    fn slice_mut(&mut self) -> &mut [T] {
        let (start, len) = (self.start, self.numbers.len());
        // SAFETY: as above, and `self` is borrowed alone.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.as_mut_ptr::<u8>().add(start).cast(), len)
        }
    }
}

/// A cell that is run, and how.
#[derive(Clone, Copy)]
struct Run<T: Real> {
    kernel: &'static dyn KernelOf<T>,
    dims: Dims,
    steered: bool,
    normed: bool,
}

impl<T: Real> Run<T> {
    /// How many numbers each parameter has.
    fn sizes(&self) -> Slots<usize> {
        let Dims { input: d, hidden: h, output: p, .. } = self.dims;
        let traits = self.kernel.traits();
        let (sums, recurrent) = (traits.gates * h, traits.recurrent * h);
        let normed = |size: usize| if self.normed { size } else { 0 };
        let inside = |size: usize| if traits.between == Some(Between::Product) { size } else { 0 };
        Slots {
            weight_ih: sums * d,
            weight_hh: recurrent * p,
            bias_ih: sums,
            bias_hh: recurrent,
            weight_hr: if p == h { 0 } else { p * h },
            norm_ih: normed(sums),
            norm_hh: normed(recurrent),
            weight_hn: inside(h * h),
            bias_hn: inside(h),
            own: [traits.own * h, 0, 0],
        }
    }
}

/// Where gradients go.
fn slices_mut<T: Real>(slots: &mut Slots<Guarded<T>>) -> Slots<&mut [T]> {
    let [own, ..] = &mut slots.own;
    Slots {
        weight_ih: slots.weight_ih.slice_mut(),
        weight_hh: slots.weight_hh.slice_mut(),
        bias_ih: slots.bias_ih.slice_mut(),
        bias_hh: slots.bias_hh.slice_mut(),
        weight_hr: slots.weight_hr.slice_mut(),
        norm_ih: slots.norm_ih.slice_mut(),
        norm_hh: slots.norm_hh.slice_mut(),
        weight_hn: slots.weight_hn.slice_mut(),
        bias_hn: slots.bias_hn.slice_mut(),
        own: [own.slice_mut(), &mut [], &mut []],
    }
}

/// A window there and back, everything that the kernels are given at the end of its page; gives all that they made.
fn window<T: Real>(run: Run<T>) -> Vec<Vec<T>> {
    let Run { kernel, dims, steered, .. } = run;
    let Dims { batch: n, time: t, input: d, hidden: h, output: p } = dims;
    let carried = if kernel.traits().carry { n * h } else { 0 };
    let random = Guarded::<T>::random;
    let (mut number, sizes) = (0, run.sizes());
    let params = sizes.each(|&size| {
        number += 1;
        random(size, &format!("parameter {number}"))
    });
    let (xs, dhs, h0, c0) =
        (random(n * t * d, "xs"), random(n * t * p, "dhs"), random(n * p, "h"), random(carried, "c"));
    let when = |size: usize| if steered { size } else { 0 };
    let (mask, keep_h, keep_c) =
        (random(when(n * p), "mask"), random(when(n * t * p), "zh"), random(when(n * t * h), "zc"));
    let lengths: Vec<usize> = (0..n).map(|i| (i * 2 + 1) % (t + 1)).collect();
    let fresh: Vec<bool> = (0..n * t).map(|i| i % 3 == 1 && i % t < lengths[i / t]).collect();
    let course = Course {
        direction: if steered { Direction::Reverse } else { Direction::Forward },
        lengths: steered.then_some(&*lengths),
        fresh: steered.then_some(&*fresh),
        mask: mask.slice(),
        keep_h: keep_h.slice(),
        keep_c: keep_c.slice(),
    };
    let layer = LayerOf { kernel, params: params.each(Guarded::slice), course };
    let zeros = Guarded::<T>::zeros;
    let (mut hs, mut next_h, mut next_c) = (zeros(n * t * p), zeros(n * p), zeros(carried));
    let (mut tape, mut scratch) = (Tape::default(), Scratch::default());
    cpu::forward(
        &layer,
        dims,
        (xs.slice(), State { h: h0.slice(), c: c0.slice() }),
        (hs.slice_mut(), StateMut { h: next_h.slice_mut(), c: next_c.slice_mut() }),
        Keep::Tape,
        (&mut tape, &mut scratch),
    );
    let mut grads = sizes.each(|&size| zeros(size));
    let mut dxs = zeros(n * t * d);
    for keep in [Keep::Tape, Keep::Nothing] {
        cpu::backward(
            &layer,
            (xs.slice(), hs.slice(), dhs.slice()),
            &mut StateMut { h: next_h.slice_mut(), c: next_c.slice_mut() },
            &mut ParamGrads { slots: slices_mut(&mut grads), add: false },
            Some(dxs.slice_mut()),
            keep,
            (&mut tape, &mut scratch),
        );
    }
    let mut all: Vec<_> = [hs, dxs, next_h, next_c].map(|made| made.slice().to_vec()).into();
    grads.each(|grad| all.push(grad.slice().to_vec()));
    assert!(all.iter().flatten().all(|x| x.to_f64().is_finite()));
    all
}

#[test]
fn nothing_is_touched_behind_the_end_of_a_buffer() {
    for cpu in Cpu::available() {
        for (batch, time, input, hidden) in
            [(1, 1, 1, 1), (3, 2, 5, 7), (2, 5, 17, 33), (9, 3, 47, 50), (20, 2, 49, 130)]
        {
            let dims = Dims { batch, time, input, hidden, output: hidden };
            with(cpu, || {
                runs::<f32>(dims).into_iter().for_each(|run| drop(window(run)));
                runs::<f64>(dims).into_iter().for_each(|run| drop(window(run)));
            });
        }
    }
}

/// What `f` gives from a team of as many threads, or alone where another has it.
fn in_pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let cpu = dispatch::cpu();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| with(cpu, f))
}

/// What `f` gives from a team of as many threads, all of which take part.
fn on<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let (made, members) = in_pool(threads, || in_company(f));
    assert_eq!(members, threads);
    made
}

/// Windows that are cut by rows, and such as are cut by units; every cell in each.
const CUT: [(Cut, Dims); 2] = [
    (Cut::Rows, Dims { batch: 23, time: 9, input: 6, hidden: 70, output: 70 }),
    (Cut::Units, Dims { batch: 3, time: 5, input: 6, hidden: 130, output: 130 }),
];

fn cells<T: Real>() -> [&'static dyn KernelOf<T>; 7] {
    [&RnnTanh, &RnnRelu, &Lstm, &Gru, &ResetBeforeGru, &PeepholeLstm, &CellNormLstm]
}

/// Every cell, plain and normalised, steered and not; and those that can be are projected.
fn runs<T: Real>(dims: Dims) -> Vec<Run<T>> {
    let mut all = Vec::new();
    for kernel in cells::<T>() {
        for (steered, normed) in [(false, false), (true, false), (false, true), (true, true)] {
            let run = Run { kernel, dims, steered, normed };
            all.push(run);
            let output = dims.hidden.div_ceil(2);
            if kernel.traits().carry && output < dims.hidden {
                all.push(Run { dims: Dims { output, ..dims }, ..run });
            }
        }
    }
    all
}

#[test]
fn cut_by_rows_or_by_units_a_window_has_the_same_bits() {
    for cpu in Cpu::available() {
        with(cpu, || {
            for (how, dims) in CUT {
                for (i, run) in runs::<f32>(dims).into_iter().enumerate() {
                    let one = on(1, || window(run));
                    for threads in [2, 3] {
                        let gates = run.kernel.traits().gates;
                        assert_eq!(in_pool(threads, || cpu::cut::<f32>(&run.dims, gates)), (how, threads));
                        assert!(on(threads, || window(run)) == one, "run {i}, {threads} threads, {how:?}");
                    }
                }
            }
        });
    }
}

#[test]
fn two_unrolls_at_the_same_time_and_busy_cores_change_no_bit() {
    let (_, dims) = CUT[1];
    let run = Run::<f32> { kernel: &Lstm, dims, steered: true, normed: true };
    let one = on(1, || window(run));
    beside_busy_cores(|| {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..5).for_each(|_| assert!(in_pool(2, || window(run)) == one)));
            }
        });
    });
}

/// Steps of a stream and a window of as many steps: the same hidden states, and so the same products of them.
fn stream_and_window<T: Real>(
    (kernel, hidden, normed): (&'static dyn KernelOf<T>, usize, bool),
    rows: usize,
    threads: usize,
) {
    let (time, input, outputs) = (4, 65, 261);
    let random = |len: usize, purpose: &str| -> Vec<T> {
        let mut stream = rng::Stream::new(1, purpose, len as u64);
        (0..len).map(|_| T::from_f64(0.3 * stream.normal())).collect()
    };
    let dims = Dims { batch: rows, time, input, hidden, output: hidden };
    let mut number = 0;
    let params = Run { kernel, dims, steered: false, normed }.sizes().each(|&size| {
        number += 1;
        random(size, &format!("parameter {number}"))
    });
    let (weight, bias) = (random(outputs * hidden, "w"), random(outputs, "b"));
    let layer = LayerOf { kernel, params: params.each(Vec::as_slice), course: Course::default() };
    let xs = random(rows * time * input, "xs");
    let carried = if kernel.traits().carry { rows * hidden } else { 0 };
    let (mut hs, mut h, mut c) =
        (vec![T::ZERO; rows * time * hidden], vec![T::ZERO; rows * hidden], vec![T::ZERO; carried]);
    let (h0, c0) = (h.clone(), c.clone());
    cpu::forward(
        &layer,
        dims,
        (&xs, State { h: &h0, c: &c0 }),
        (&mut hs, StateMut { h: &mut h, c: &mut c }),
        Keep::Nothing,
        (&mut Tape::default(), &mut Scratch::default()),
    );
    let mut logits = vec![T::ZERO; rows * time * outputs];
    let (left, right) = (Mat::new(&hs, rows * time, hidden), Mat::new(&weight, outputs, hidden).t());
    product(&mut logits, left, right, Store::Row(&bias), &mut Rooms::default());

    let mut stream = on(threads, || Stream::new(rows, &[(layer, dims)], Some((&weight, &bias))));
    assert!(stream.parts().all(|parts| parts == threads));
    let ((), members) = in_company(|| {
        for again in 0..TURNS {
            stream.reset();
            for t in 0..time {
                let at = |row: usize, size: usize| (row * time + t) * size..(row * time + t + 1) * size;
                let step: Vec<T> = (0..rows).flat_map(|row| xs[at(row, input)].to_vec()).collect();
                let got = stream.step(&step);
                for (row, got) in got.chunks(outputs).enumerate() {
                    assert!(
                        *got == logits[at(row, outputs)],
                        "{rows} rows, {threads} threads, step {t}, turn {again}"
                    );
                }
            }
        }
    });
    assert_eq!(members, threads);
}

/// Units whose weights are enough for three members.
const UNITS: usize = 199;

/// Times that a stream is run: where members do not wait for each other, it shows in some of them.
const TURNS: usize = 8;

#[test]
fn a_stream_gives_the_bits_of_a_window() {
    for cpu in Cpu::available() {
        with(cpu, || {
            for (rows, threads) in [(1, 1), (1, 2), (5, 2), (3, 3)] {
                for normed in [false, true] {
                    for kernel in cells::<f32>() {
                        stream_and_window((kernel, UNITS, normed), rows, threads);
                    }
                    stream_and_window::<f64>((&Lstm, UNITS, normed), rows, threads);
                }
            }
            // More terms a sum than one piece of a product has.
            stream_and_window::<f32>((&Lstm, DEPTH + 35, false), 1, 2);
        });
    }
}

#[test]
fn a_backward_without_the_projection_of_its_forward_is_refused() {
    let dims @ Dims { batch: n, time: t, input: d, hidden: h, output: p } =
        Dims { batch: 3, time: 2, input: 5, hidden: 8, output: 16 };
    let some = |size: usize| vec![0.5f32; size];
    let weights = Slots {
        weight_ih: some(4 * h * d),
        weight_hh: some(4 * h * p),
        weight_hr: some(p * h),
        ..Slots::default()
    };
    let projected = weights.each(Vec::as_slice);
    let of = |params| LayerOf::<f32> { kernel: &Lstm, params, course: Course::default() };
    let (xs, mut hs, dhs) = (some(n * t * d), some(n * t * p), some(n * t * p));
    let (mut next_h, mut next_c) = (some(n * p), some(n * h));
    let (mut tape, mut scratch) = (Tape::default(), Scratch::default());
    cpu::forward(
        &of(projected),
        dims,
        (&xs, State { h: &some(n * p), c: &some(n * h) }),
        (&mut hs, StateMut { h: &mut next_h, c: &mut next_c }),
        Keep::Tape,
        (&mut tape, &mut scratch),
    );
    let mut alone = projected;
    alone.weight_hr = &[];
    let said = refused(|| {
        cpu::backward(
            &of(alone),
            (&xs, &hs, &dhs),
            &mut StateMut { h: &mut next_h, c: &mut next_c },
            &mut ParamGrads { slots: Slots::default(), add: false },
            None,
            Keep::Nothing,
            (&mut tape, &mut scratch),
        );
    });
    assert!(said.contains("the projection of the tape's window"), "{said}");
}

#[test]
fn a_stream_refuses_what_is_not_of_its_sizes() {
    let dims = Dims { batch: 1, time: 1, input: 2, hidden: 3, output: 3 };
    let some = |size: usize| vec![0.5f32; size];
    let weights = Slots { weight_ih: some(24), weight_hh: some(36), bias_hh: some(3), ..Slots::default() };
    let layer =
        LayerOf::<f32> { kernel: &Lstm, params: weights.each(Vec::as_slice), course: Course::default() };
    let said = refused(|| drop(Stream::new(1, &[(layer, dims)], None)));
    assert!(said.contains("bias_hh [12], not [3]"), "{said}");
    let bias_hh = some(12);
    let mut params = weights.each(Vec::as_slice);
    params.bias_hh = &bias_hh;
    let course = Course { direction: Direction::Reverse, ..Course::default() };
    let layer = LayerOf::<f32> { kernel: &Lstm, params, course };
    let said = refused(|| drop(Stream::new(1, &[(layer, dims)], None)));
    assert!(said.contains("a stream goes forward"), "{said}");
    // More than what is computed, and nothing that projects it.
    let wide = Dims { output: 6, ..dims };
    let weight_hh = some(72);
    params.weight_hh = &weight_hh;
    let layer = LayerOf::<f32> { kernel: &Lstm, params, course: Course::default() };
    let said = refused(|| drop(Stream::new(1, &[(layer, wide)], None)));
    assert!(said.contains("a projection of"), "{said}");
}
