//! Where the time of a step goes, and what this machine could do at most: both as multiplications a second.

use super::dispatch::{Instructions, Task, cpu, run};
use super::simd::Register;
use super::team;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// What a part of the work took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// The time on the thread that asked for the work.
    pub time: Duration,
    /// Multiplications, each with an addition, that its products need.
    pub multiplications: usize,
}

thread_local! {
    static PARTS: RefCell<Option<Vec<Part>>> = const { RefCell::new(None) };
}

/// What `work` gives, and what the parts of it that [`part`] names took on this thread, in the order in which they
/// first came. Where one profile is taken inside of another, the parts of the inner one are those of both.
///
/// ```
/// use rnn_core::kernels::profile::{part, parts};
/// let (sum, parts) = parts(|| part("adding", 0, || 1 + 1));
/// assert_eq!((sum, parts.len(), parts[0].name), (2, 1, "adding"));
/// ```
pub fn parts<R>(work: impl FnOnce() -> R) -> (R, Vec<Part>) {
    /// Also where the work panics.
    struct Outer(Option<Vec<Part>>);
    impl Drop for Outer {
        fn drop(&mut self) {
            PARTS.set(self.0.take());
        }
    }
    let mut outer = Outer(PARTS.replace(Some(Vec::new())));
    let result = work();
    let parts = PARTS.take().unwrap_or_default();
    if let Some(outer) = &mut outer.0 {
        parts.iter().for_each(|&part| add(outer, part));
    }
    (result, parts)
}

/// Does a part of the work; where nobody asked for a profile, that is all.
pub fn part<R>(name: &'static str, multiplications: usize, work: impl FnOnce() -> R) -> R {
    if PARTS.with_borrow(Option::is_none) {
        return work();
    }
    let start = Instant::now();
    let result = work();
    let time = start.elapsed();
    PARTS.with_borrow_mut(|parts| {
        if let Some(parts) = parts {
            add(parts, Part { name, time, multiplications });
        }
    });
    result
}

/// To the part of its name, or as a new one.
fn add(parts: &mut Vec<Part>, part: Part) {
    match parts.iter_mut().find(|other| other.name == part.name) {
        Some(other) => {
            other.time += part.time;
            other.multiplications += part.multiplications;
        }
        None => parts.push(part),
    }
}

/// Multiplications of f32, each with an addition, that the team can do in a second when nothing is read or written: the
/// best of some tries.
pub fn peak() -> f64 {
    (0..5).map(|_| peak_once()).fold(0.0, f64::max)
}

fn peak_once() -> f64 {
    const TURNS: usize = 1 << 20;
    let cpu = cpu();
    let start = Instant::now();
    let lanes = std::sync::atomic::AtomicUsize::new(0);
    team::together(team::size(), &|_| {
        let mut width = 0;
        run(cpu, Multiply { turns: TURNS, lanes: &mut width });
        lanes.fetch_add(width, std::sync::atomic::Ordering::Relaxed);
    });
    (lanes.into_inner() * TURNS) as f64 / start.elapsed().as_secs_f64()
}

/// A tile's sums with the same factors again and again.
struct Multiply<'a> {
    turns: usize,
    /// Multiplications a turn.
    lanes: &'a mut usize,
}

impl Task for Multiply<'_> {
    #[inline(always)]
    fn run<I: Instructions>(self, instructions: I) {
        const SUMS: usize = 12;
        let register = |x: f32| I::Register::<f32>::splat(instructions, std::hint::black_box(x));
        // Different numbers: equal sums would be one.
        let mut sums = [register(0.0); SUMS];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = register(i as f32);
        }
        let (factor, other) = (register(0.5), register(1.0));
        for _ in 0..self.turns {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, other);
            }
        }
        *self.lanes = SUMS * I::Register::<f32>::WIDTH;
        std::hint::black_box(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_inside_of_another_is_a_part_of_it_and_one_that_panics_ends() {
        let (inner, outer) = parts(|| {
            part("first", 1, || ());
            let ((), inner) = parts(|| part("second", 2, || ()));
            part("second", 3, || ());
            inner
        });
        let named =
            |parts: &[Part]| parts.iter().map(|part| (part.name, part.multiplications)).collect::<Vec<_>>();
        assert_eq!(named(&inner), [("second", 2)]);
        assert_eq!(named(&outer), [("first", 1), ("second", 5)]);
        assert!(std::panic::catch_unwind(|| parts(|| panic!("on purpose"))).is_err());
        assert!(PARTS.with_borrow(Option::is_none));
    }
}
