//! The kernels on memory that ends where no one may read on, and a stream against a window.

use super::Keep;
use super::cpu::{self, Course, Dims, KernelOf, LayerOf, ParamGrads, Params, Scratch, State, StateMut, Tape};
use super::part::Cut;
use super::stream::Stream;
use crate::kernels::Real;
use crate::kernels::dispatch::{self, Cpu, with};
use crate::kernels::pointwise::{Gru, Lstm, RnnRelu, RnnTanh};
use crate::kernels::product::{Into, Mat, Rooms, product};
use crate::kernels::team::beside_busy_cores;
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

/// A window there and back, everything that the kernels are given at the end of its page; gives all that they made.
fn window<T: Real>(kernel: &'static dyn KernelOf<T>, dims: Dims, steered: bool) -> Vec<Vec<T>> {
    let Dims { batch: n, time: t, input: d, hidden: h, output: p } = dims;
    let sums = kernel.traits().gates * h;
    let carried = if kernel.traits().carry { n * h } else { 0 };
    let random = Guarded::<T>::random;
    let (weight_ih, weight_hh) = (random(sums * d, "ih"), random(sums * p, "hh"));
    let (bias_ih, bias_hh) = (random(sums, "bih"), random(sums, "bhh"));
    let projected = if p == h { 0 } else { p * h };
    let weight_hr = random(projected, "hr");
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
    let params = Params {
        weight_ih: weight_ih.slice(),
        weight_hh: weight_hh.slice(),
        bias_ih: Some(bias_ih.slice()),
        bias_hh: Some(bias_hh.slice()),
        weight_hr: (projected > 0).then(|| weight_hr.slice()),
    };
    let layer = LayerOf { kernel, params, course };
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
    let (mut dw_ih, mut dw_hh, mut db_ih, mut db_hh) =
        (zeros(sums * d), zeros(sums * p), zeros(sums), zeros(sums));
    let mut dw_hr = zeros(projected);
    let mut dxs = zeros(n * t * d);
    for keep in [Keep::Tape, Keep::Nothing] {
        cpu::backward(
            &layer,
            (xs.slice(), hs.slice(), dhs.slice()),
            &mut StateMut { h: next_h.slice_mut(), c: next_c.slice_mut() },
            &mut ParamGrads {
                weight_ih: dw_ih.slice_mut(),
                weight_hh: dw_hh.slice_mut(),
                bias_ih: Some(db_ih.slice_mut()),
                bias_hh: Some(db_hh.slice_mut()),
                weight_hr: (projected > 0).then(|| dw_hr.slice_mut()),
                add: false,
            },
            Some(dxs.slice_mut()),
            keep,
            (&mut tape, &mut scratch),
        );
    }
    let all = [hs, dxs, dw_ih, dw_hh, db_ih, db_hh, dw_hr, next_h, next_c].map(|made| made.slice().to_vec());
    assert!(all.iter().flatten().all(|x| x.to_f64().is_finite()));
    all.into()
}

#[test]
fn nothing_is_touched_behind_the_end_of_a_buffer() {
    for cpu in Cpu::available() {
        for (batch, time, input, hidden) in
            [(1, 1, 1, 1), (3, 2, 5, 7), (2, 5, 17, 33), (9, 3, 47, 50), (20, 2, 49, 130)]
        {
            let dims = Dims { batch, time, input, hidden, output: hidden };
            let projected = Dims { output: hidden.div_ceil(2), ..dims };
            with(cpu, || {
                for steered in [false, true] {
                    for kernel in cells::<f32>() {
                        window(kernel, dims, steered);
                    }
                    window::<f64>(&Lstm, dims, steered);
                    window::<f64>(&Gru, dims, steered);
                    window::<f32>(&Lstm, projected, steered);
                    window::<f64>(&Lstm, projected, steered);
                }
            });
        }
    }
}

/// What `f` gives from a team of as many threads.
fn on<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let cpu = dispatch::cpu();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| with(cpu, f))
}

/// Windows that are cut by rows, and such as are cut by units; every cell in each.
const CUT: [(Cut, Dims); 2] = [
    (Cut::Rows, Dims { batch: 23, time: 9, input: 6, hidden: 70, output: 70 }),
    (Cut::Units, Dims { batch: 3, time: 5, input: 6, hidden: 130, output: 130 }),
];

fn cells<T: Real>() -> [&'static dyn KernelOf<T>; 4] {
    [&RnnTanh, &RnnRelu, &Lstm, &Gru]
}

#[test]
fn cut_by_rows_or_by_units_a_window_has_the_same_bits() {
    for cpu in Cpu::available() {
        with(cpu, || {
            for (how, dims) in CUT {
                let projected = (&Lstm as &'static dyn KernelOf<f32>, Dims { output: 65, ..dims });
                let all = cells::<f32>().map(|kernel| (kernel, dims)).into_iter().chain([projected]);
                for (i, (kernel, dims)) in all.enumerate() {
                    for steered in [false, true] {
                        let one = on(1, || window(kernel, dims, steered));
                        for threads in [2, 3] {
                            let cut = on(threads, || cpu::cut::<f32>(&dims, kernel.traits().gates));
                            assert_eq!(cut, (how, threads), "cell {i}");
                            let many = on(threads, || window(kernel, dims, steered));
                            assert!(many == one, "cell {i}, {threads} threads, {how:?}, steered: {steered}");
                        }
                    }
                }
            }
        });
    }
}

#[test]
fn two_unrolls_at_the_same_time_and_busy_cores_change_no_bit() {
    let (_, dims) = CUT[1];
    let one = on(1, || window::<f32>(&Lstm, dims, true));
    beside_busy_cores(|| {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    (0..5).for_each(|_| assert!(on(2, || window::<f32>(&Lstm, dims, true)) == one))
                });
            }
        });
    });
}

/// Steps of a stream and a window of as many steps: the same hidden states, and so the same products of them.
fn stream_and_window<T: Real>(kernel: &'static dyn KernelOf<T>, rows: usize, threads: usize) {
    let (time, input, hidden, outputs) = (4, 33, 70, 101);
    let sums = kernel.traits().gates * hidden;
    let random = |len: usize, purpose: &str| -> Vec<T> {
        let mut stream = rng::Stream::new(1, purpose, len as u64);
        (0..len).map(|_| T::from_f64(0.3 * stream.normal())).collect()
    };
    let (weight_ih, weight_hh) = (random(sums * input, "ih"), random(sums * hidden, "hh"));
    let (bias_ih, bias_hh) = (random(sums, "bih"), random(sums, "bhh"));
    let (weight, bias) = (random(outputs * hidden, "w"), random(outputs, "b"));
    let params = Params {
        weight_ih: &weight_ih,
        weight_hh: &weight_hh,
        bias_ih: Some(bias_ih.as_slice()),
        bias_hh: Some(bias_hh.as_slice()),
        weight_hr: None,
    };
    let layer = LayerOf { kernel, params, course: Course::default() };
    let xs = random(rows * time * input, "xs");
    let carried = if kernel.traits().carry { rows * hidden } else { 0 };
    let (mut hs, mut h, mut c) =
        (vec![T::ZERO; rows * time * hidden], vec![T::ZERO; rows * hidden], vec![T::ZERO; carried]);
    let (h0, c0) = (h.clone(), c.clone());
    let dims = Dims { batch: rows, time, input, hidden, output: hidden };
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
    product(&mut logits, left, right, Into::Row(&bias), &mut Rooms::default());

    let mut stream = on(threads, || Stream::new(rows, &[(layer, dims)], Some((&weight, &bias))));
    for again in 0..2 {
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
}

#[test]
fn a_stream_gives_the_bits_of_a_window() {
    for cpu in Cpu::available() {
        with(cpu, || {
            for (rows, threads) in [(1, 1), (1, 2), (5, 2), (3, 3)] {
                stream_and_window::<f32>(&RnnTanh, rows, threads);
                stream_and_window::<f32>(&Lstm, rows, threads);
                stream_and_window::<f32>(&Gru, rows, threads);
                stream_and_window::<f64>(&Lstm, rows, threads);
            }
        });
    }
}
