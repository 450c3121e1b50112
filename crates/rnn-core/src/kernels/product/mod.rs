//! Matrix products whose bits do not depend on who computes them.
//!
//! Every element is a sum over k in ascending order, of pieces of at most 768 terms: the same
//! for any number of threads, and for a row whatever rows stand beside it, so that a window may be cut anywhere.
//! Work is cut by rows or by columns of the result. Each member of the team packs what it needs of `b` into panels
//! (`panels.rs`) and runs rows of `a` past them (`tile.rs`).

mod columns;
mod panels;
mod sums;
mod tile;

pub(super) use columns::{Columns, Packing};
pub(super) use panels::pack;
pub(super) use sums::Sums;
pub use sums::column_sums;
pub(super) use tile::{Block, Left, Lines};

use super::Real;
use super::dispatch::{Cpu, Instructions, Task, run};
use super::share::{Shared, prefetch};
use super::simd::Register;
use super::team::{self, Member, together};
use crate::convention::Direction;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// What a result meets where it is written.
#[derive(Debug, Clone, Copy)]
pub enum Store<'a, T> {
    /// `out = a b`
    Set,
    /// `out += a b`
    Add,
    /// `out = row + a b`, for each row of the result.
    Row(&'a [T]),
}

impl<T> Store<'_, T> {
    /// For the piece of that number of a product that is added up piece by piece: only the first is written as the whole.
    #[inline(always)]
    pub(in crate::kernels) fn of_piece(self, i: usize) -> Self {
        if i == 0 { self } else { Self::Add }
    }
}

/// A matrix in a slice, or its transpose.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    /// Where the first row begins, and how far behind it the next one does.
    start: usize,
    stride: usize,
    delay: Option<Delay<'a, T>>,
    turned: bool,
}

/// Rows that are those of a window one step earlier, in the order in which its steps were taken.
#[derive(Debug, Clone, Copy)]
struct Delay<'a, T> {
    /// What stands before the first step of each row of the batch.
    first: &'a [T],
    time: usize,
    direction: Direction,
}

impl<'a, T> Mat<'a, T> {
    /// A dense matrix, row by row.
    ///
    /// # Panics
    /// Where `data` does not have `rows * columns` elements.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(columns), "a matrix of {rows} x {columns}");
        Self { data, rows, columns, start: 0, stride: columns, delay: None, turned: false }
    }

    /// Some of its columns.
    ///
    /// # Panics
    /// Where it does not have them, or is a transpose.
    #[must_use]
    pub fn columns(self, range: Range<usize>) -> Self {
        let columns = self.columns;
        assert!(!self.turned && range.start <= range.end && range.end <= columns, "{range:?} of {columns}");
        Self { start: self.start + range.start, columns: range.len(), ..self }
    }

    /// `[N*T, H]` whose row (n, t) is that of `(n, t - 1)` in `data`, and row n of `first [N, H]` where t is 0: the
    /// states before each step, out of those after it. In reverse it is that of `(n, t + 1)`, and `first` at the end.
    ///
    /// # Panics
    /// Where the sizes do not fit.
    pub fn before(
        first: &'a [T],
        data: &'a [T],
        columns: usize,
        (time, direction): (usize, Direction),
    ) -> Self {
        assert_eq!(data.len(), first.len() * time, "a first row for each {time} others");
        let rows = data.len() / columns;
        Self { delay: Some(Delay { first, time, direction }), ..Self::new(data, rows, columns) }
    }

    /// The transpose.
    #[must_use]
    pub fn t(self) -> Self {
        Self { turned: !self.turned, ..self }
    }

    /// Rows and columns.
    pub(in crate::kernels) fn shape(&self) -> (usize, usize) {
        if self.turned { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    /// What stands together in memory: a row, or of a transpose a column.
    #[inline(always)]
    fn line(&self, i: usize) -> &'a [T] {
        let (data, i) = match self.delay {
            None => (self.data, i),
            Some(Delay { first, time, direction }) => {
                let (edge, before) = match direction {
                    Direction::Forward => (0, i.wrapping_sub(1)),
                    Direction::Reverse => (time - 1, i + 1),
                };
                if i % time == edge { (first, i / time) } else { (self.data, before) }
            }
        };
        let start = self.start + i * self.stride;
        &data[start..start + self.columns]
    }

    /// Has some numbers of a line fetched, of the next ones too where it ends; the short pieces that packing reads are far
    /// apart, where no CPU would look for the next by itself.
    #[inline(always)]
    fn prefetch(&self, i: usize, numbers: Range<usize>) {
        let start = self.start + i * self.stride;
        prefetch(self.data, start + numbers.start..start + numbers.end);
    }
}

/// Memory in which the members of a team pack; it grows to what is needed and is used again.
#[derive(Debug, Default)]
pub struct Rooms<T>(Vec<Mutex<Room<T>>>);

/// One member's.
#[derive(Debug, Default)]
pub struct Room<T> {
    pub(super) panels: Vec<T>,
    /// Those of other matrices that a window uses.
    pub(super) projection: Vec<T>,
    pub(super) between: Vec<T>,
    pub(super) slivers: Vec<T>,
}

impl<T: Real> Rooms<T> {
    /// Room for `count` members.
    pub(super) fn for_members(&mut self, count: usize) -> &[Mutex<Room<T>>] {
        if self.0.len() < count {
            self.0.resize_with(count, Mutex::default);
        }
        &self.0
    }
}

/// `len` numbers of a buffer that grows, from the beginning of a cache line on: a register is then read from one line.
/// What they are is of no importance, but they are never uninitialised.
///
/// ```
/// let mut buffer = Vec::new();
/// let numbers: &mut [f32] = rnn_core::kernels::product::grown(&mut buffer, 100);
/// assert_eq!((numbers.len(), numbers.as_ptr() as usize % 64), (100, 0));
/// ```
pub fn grown<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    let needed = len + LINE / size_of::<T>();
    if buffer.len() < needed {
        buffer.resize(needed, T::ZERO);
    }
    let start = line_start(buffer);
    &mut buffer[start..start + len]
}

/// What [`grown`] gave, to read.
pub(super) fn grown_before<T: Real>(buffer: &[T], len: usize) -> &[T] {
    let start = line_start(buffer);
    &buffer[start..start + len]
}

/// Bytes of a cache line.
const LINE: usize = 64;

fn line_start<T>(buffer: &[T]) -> usize {
    buffer.as_ptr().align_offset(LINE).min(LINE / size_of::<T>())
}

/// Terms of a sum between two roundings to memory; their panel stays in a core's own cache.
pub(in crate::kernels) const DEPTH: usize = 768;

/// The depth of a product cut into even pieces of at most [`DEPTH`].
pub(super) fn depths(depth: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let pieces = depth.div_ceil(DEPTH).max(1);
    (0..pieces).map(move |i| depth * i / pieces..depth * (i + 1) / pieces)
}

/// Numbers of `b` that a member packs at a time: they stay in the cache that the cores share.
const PACKED: usize = 1 << 19;

/// At most so many rows of `a` pass a panel while it is in a core's own cache, where they have room beside it: whole tiles, 22
/// of six rows or 16 of eight.
const ROWS: usize = 132;

/// Multiplications for each thread at least, so that it gives more than it costs.
pub(super) const WORTH_A_MEMBER: usize = 1 << 17;

/// `out (+)= a b` by the team; `out` is dense, row by row.
///
/// ```
/// use rnn_core::kernels::product::{Mat, Rooms, Store, product};
/// let (a, b, mut out) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0], [1.0; 2]);
/// product(&mut out, Mat::new(&a, 2, 2), Mat::new(&b, 2, 1), Store::Add, &mut Rooms::default());
/// assert_eq!(out, [18.0, 40.0]);
/// ```
///
/// # Panics
/// Where the sizes do not fit.
pub fn product<T: Real>(
    out: &mut [T],
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    store: Store<'_, T>,
    rooms: &mut Rooms<T>,
) {
    let ((m, k), (inner, n)) = (a.shape(), b.shape());
    assert_eq!(inner, k, "the inner sizes of a product");
    assert_eq!(Some(out.len()), m.checked_mul(n), "a product of {m} x {n}");
    assert!(a.turned || a.delay.is_none(), "the rows of a product's left side stand evenly");
    if let Store::Row(row) = store {
        assert_eq!(row.len(), n, "a row of a product of {m} x {n}");
    }
    by_team(Shared::new(out), a, b, store, None, rooms);
}

/// The gradients of `y = x W^T + b` from those of y: `weight [M, N] (+)= dy^T x` and `bias [M] (+)=` the sum of the rows
/// of `dy [rows, M]`, which are read once for both; `x [rows, N]`.
///
/// ```
/// use rnn_core::kernels::product::{Mat, Rooms, gradients};
/// let (dy, x, mut weight, mut bias) = ([1.0, 2.0], [3.0, 4.0], [0.0], [0.0]);
/// gradients((&mut weight, Some(&mut bias)), Mat::new(&dy, 2, 1), Mat::new(&x, 2, 1), false, &mut Rooms::default());
/// assert_eq!((weight, bias), ([11.0], [3.0]));
/// ```
///
/// # Panics
/// Where the sizes do not fit.
pub fn gradients<T: Real>(
    (weight, bias): (&mut [T], Option<&mut [T]>),
    dy: Mat<'_, T>,
    x: Mat<'_, T>,
    add: bool,
    rooms: &mut Rooms<T>,
) {
    assert!(!dy.turned && !x.turned && dy.rows == x.rows, "as many rows of dy as of x");
    let size = dy.columns.checked_mul(x.columns);
    assert_eq!(Some(weight.len()), size, "weight [{}, {}]", dy.columns, x.columns);
    let store = if add { Store::Add } else { Store::Set };
    let Some(bias) = bias else { return product(weight, dy.t(), x, store, rooms) };
    assert_eq!(bias.len(), dy.columns, "bias [{}]", dy.columns);
    if x.columns == 0 {
        // There is no product on whose way the rows of dy would be added up.
        return column_sums(bias, dy, None, add);
    }
    if !add {
        bias.fill(T::ZERO);
    }
    by_team(Shared::new(weight), dy.t(), x, store, Some(Shared::new(bias)), rooms);
}

/// A product of matrices that fit, and in `sums` those of the rows of `a`.
fn by_team<T: Real>(
    out: Shared<'_, T>,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    store: Store<'_, T>,
    sums: Option<Shared<'_, T>>,
    rooms: &mut Rooms<T>,
) {
    let ((m, k), (_, n)) = (a.shape(), b.shape());
    if m == 0 || n == 0 {
        return;
    }
    let cpu = super::dispatch::cpu();
    let multiplications = (m * n).saturating_mul(k);
    let count = team::size().min(multiplications.div_ceil(WORTH_A_MEMBER)).max(1);
    let rooms = rooms.for_members(count);
    together(count, &|member| {
        let mut room = rooms[member.index()].lock().unwrap_or_else(PoisonError::into_inner);
        (T::compiled().product)(cpu, Part { cpu, out, a, b, store, sums, member, room: &mut room });
    });
}

/// A member's part of a product.
pub(super) struct Part<'a, T> {
    cpu: Cpu,
    out: Shared<'a, T>,
    a: Mat<'a, T>,
    b: Mat<'a, T>,
    store: Store<'a, T>,
    /// `[M]`, to which the rows of `a` are added where that stands column by column.
    sums: Option<Shared<'a, T>>,
    member: Member<'a>,
    room: &'a mut Room<T>,
}

impl<T: Real> Task for Part<'_, T> {
    #[inline(always)]
    fn run<I: Instructions>(self, instructions: I) {
        let Self { cpu, out, a, b, store, sums, member, room } = self;
        let ((m, k), (_, n)) = (a.shape(), b.shape());
        let grain = (I::Register::<T>::ROWS, I::Register::<T>::WIDTH);
        let (rows, columns) = cut(&member, (m, n), grain, a.turned);
        if rows.is_empty() || columns.is_empty() {
            return;
        }
        let deepest = depths(k).map(|piece| piece.len()).max().unwrap_or(0).max(1);
        let wide = grain.1 * I::Register::<T>::PANEL;
        // Even pieces: in a short one what is packed for it serves few rows.
        let high = rows.len().div_ceil(rows.len().div_ceil(ROWS)).next_multiple_of(grain.0);
        let chunk = (PACKED / deepest / wide).max(1) * wide;
        let packing = if a.turned { Packing::Tiles } else { Packing::of(m) };
        // Of the members that have the same rows, and of the chunks of their columns, the first adds them up.
        let mut sums = sums.filter(|_| columns.start == 0);
        for from in columns.clone().step_by(chunk) {
            let sums = if from == columns.start { sums.take() } else { None };
            let columns = Columns::from(from..columns.end.min(from + chunk));
            for (i, depth) in depths(k).enumerate() {
                let panels = grown(&mut room.panels, columns.packed_len::<I::Register<T>>(depth.len()));
                pack::<I, T>(instructions, panels, b, depth.clone(), (&columns, packing));
                let store = store.of_piece(i);
                for from in rows.clone().step_by(high) {
                    let rows = from..rows.end.min(from + high);
                    let left = if a.turned {
                        let slivers =
                            grown(&mut room.slivers, rows.len().next_multiple_of(grain.0) * depth.len());
                        // SAFETY: no other member has these rows and the first columns.
                        #[allow(unsafe_code)]
                        let sums =
                            sums.map_or(&mut [] as &mut [T], |sums| unsafe { sums.write(rows.clone()) });
                        panels::pack_slivers::<I, T>(slivers, a, depth.clone(), rows.clone(), sums);
                        Left::Slivers(&*slivers)
                    } else {
                        Left::Lines(Lines::new(a.data, a.start + depth.start, a.stride))
                    };
                    let columns = columns.clone();
                    let block = Block {
                        left,
                        rows,
                        depth: depth.len(),
                        panels,
                        packing,
                        out,
                        stride: n,
                        columns,
                        backwards: false,
                        store,
                    };
                    // Not inlined: one copy of the tiles serves all products.
                    run(cpu, block);
                }
            }
        }
    }
}

/// A member's rows and columns of a result: it is cut along the side where the cut costs least. `slivers`: whether `a` is
/// packed too.
fn cut(
    member: &Member<'_>,
    (m, n): (usize, usize),
    (rows, width): (usize, usize),
    slivers: bool,
) -> (Range<usize>, Range<usize>) {
    // Cut by rows, each member packs all of b, by columns all of a: as much work as so many rows or columns are where the
    // numbers come from afar.
    const PACKING: f64 = 32.0;
    let unevenness = |size: usize, grain: usize| {
        let grains = size.div_ceil(grain);
        let most = grains.div_ceil(member.count());
        (most * member.count()) as f64 / grains as f64
    };
    let packing = |size: usize| PACKING * member.count() as f64 / size as f64;
    let by_rows = unevenness(m, rows) + packing(m);
    let by_columns = unevenness(n, width) + if slivers { packing(n) } else { 0.0 };
    if by_rows <= by_columns { (member.share(m, rows), 0..n) } else { (0..m, member.share(n, width)) }
}

#[cfg(test)]
mod tests;
