//! The threads of the kernels: one team for the process, whose members meet at a spinning barrier.
//!
//! A recurrent step takes microseconds, so its threads cannot be woken for each: they spin until the others come. On
//! a busy machine that would waste whole time slices, so a wait soon yields, and idle members sleep. There is one team.
//! Whoever finds it taken, a second unroll at the same time or a call from inside a member, works alone; the results
//! have the same bits, since work is cut by rows and columns only and no sum is shared out.
//!
//! How many threads there are is rayon's number: `RAYON_NUM_THREADS`, or the pool one is called in.

use super::share::Shared;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::thread::Thread;

/// One of those who do a piece of work together.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    index: usize,
    count: usize,
    barrier: &'a Barrier,
}

impl Member<'_> {
    /// Which one: below [`Self::count`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Waits until all have come. What any of them wrote before is seen by all after.
    ///
    /// # Panics
    /// Where another member has panicked and will not come.
    pub fn meet(&self) {
        self.barrier.meet(self.count);
    }

    /// This member's part of `0..total`, cut at multiples of `grain`: as even as that allows.
    ///
    /// # Panics
    /// Where `grain` is 0.
    pub fn share(&self, total: usize, grain: usize) -> Range<usize> {
        let grains = total.div_ceil(grain);
        let cut = |i: usize| (grains * i / self.count * grain).min(total);
        cut(self.index)..cut(self.index + 1)
    }
}

/// How many members there may be: the size of the current rayon pool.
pub fn size() -> usize {
    rayon::current_num_threads()
}

/// Calls `work` once for each of `count` members at the same time, on this thread and those of the team; or, where
/// the team is taken, for one member alone.
///
/// ```
/// use rnn_core::kernels::team::together;
/// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
/// let sum = AtomicUsize::new(0);
/// together(2, &|member| {
///     sum.fetch_add(member.share(10, 1).sum(), Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 45);
/// ```
///
/// # Panics
/// Where `work` does, after all members have ended.
pub fn together(count: usize, work: &(dyn Fn(Member<'_>) + Sync)) {
    static TEAM: Mutex<Vec<Arc<Seat>>> = Mutex::new(Vec::new());
    let alone = || as_member(0, 1, work);
    if count <= 1 {
        return alone();
    }
    let team = TEAM.try_lock();
    #[cfg(test)]
    let team = match team {
        Err(TryLockError::WouldBlock) if MOST.get().is_some() => TEAM.lock().map_err(TryLockError::Poisoned),
        team => team,
    };
    let mut team = match team {
        Ok(team) => team,
        // A work that panicked leaves the seats as they should be.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return alone(),
    };
    while team.len() < count - 1 {
        // Where no more threads can be had, those that there are do the work.
        let Some(seat) = Seat::start(team.len() + 1) else { break };
        team.push(seat);
    }
    let seats = &team[..team.len().min(count - 1)];
    let count = seats.len() + 1;
    #[cfg(test)]
    MOST.set(MOST.get().map(|most| most.max(count)));
    let call = Call { work, barrier: Barrier::default(), count, running: AtomicUsize::new(count - 1) };
    for seat in seats {
        seat.call(&call);
    }
    let outcome = call.attend(0);
    wait(|| call.running.load(Ordering::Acquire) == 0);
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
    assert!(!call.barrier.broken.load(Ordering::Acquire), "a member of the team panicked");
}

/// What `f` makes of being one member of `count`, for plans: there is nobody to meet.
pub(super) fn as_member<R>(index: usize, count: usize, f: impl FnOnce(Member<'_>) -> R) -> R {
    f(Member { index, count, barrier: &Barrier::default() })
}

/// A piece of work, on the stack of the one who asked for it.
struct Call<'a> {
    work: &'a (dyn Fn(Member<'_>) + Sync),
    barrier: Barrier,
    count: usize,
    /// Members besides the asker that have not ended.
    running: AtomicUsize,
}

impl Call<'_> {
    fn attend(&self, index: usize) -> std::thread::Result<()> {
        let member = Member { index, count: self.count, barrier: &self.barrier };
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.work)(member)));
        if outcome.is_err() {
            self.barrier.broken.store(true, Ordering::Release);
        }
        outcome
    }
}

/// A place where a member of the team waits to be called.
struct Seat {
    /// Null while there is nothing to do.
    call: AtomicPtr<()>,
    index: usize,
    thread: OnceLock<Thread>,
}

impl Seat {
    /// A new thread on a seat; `None` where the system has no more.
    fn start(index: usize) -> Option<Arc<Self>> {
        let call = AtomicPtr::new(std::ptr::null_mut());
        let seat = Arc::new(Self { call, index, thread: OnceLock::new() });
        let theirs = seat.clone();
        let thread =
            std::thread::Builder::new().name(format!("rnn-core-{index}")).spawn(move || theirs.sit());
        // The thread does not end before the process does.
        seat.thread.set(thread.ok()?.thread().clone()).ok()?;
        Some(seat)
    }

    fn call(&self, call: &Call<'_>) {
        self.call.store(std::ptr::from_ref(call).cast::<()>().cast_mut(), Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// What a member does all its life.
    fn sit(&self) -> ! {
        let mut turns = 0;
        loop {
            let call = self.call.load(Ordering::Acquire);
            if call.is_null() {
                turns += 1;
                if turns > SPINS + YIELDS {
                    std::thread::park();
                } else {
                    pause(turns);
                }
                continue;
            }
            self.call.store(std::ptr::null_mut(), Ordering::Relaxed);
            // SAFETY: `together` published a `Call` and does not leave before `running` is 0, so it is alive until the
            // subtraction below, which is the last use of it here.
            #[allow(unsafe_code)]
            let call = unsafe { &*call.cast::<Call<'_>>() };
            // A panic has been noted in the barrier; the asker passes it on.
            drop(call.attend(self.index));
            call.running.fetch_sub(1, Ordering::Release);
            turns = 0;
        }
    }
}

/// Where the members of a call meet.
#[derive(Debug, Default)]
struct Barrier {
    here: AtomicUsize,
    meetings: AtomicUsize,
    /// A member panicked: nobody need wait for it.
    broken: AtomicBool,
}

impl Barrier {
    fn meet(&self, count: usize) {
        if count == 1 {
            return;
        }
        let meeting = self.meetings.load(Ordering::Acquire);
        if self.here.fetch_add(1, Ordering::AcqRel) + 1 == count {
            self.here.store(0, Ordering::Relaxed);
            self.meetings.store(meeting + 1, Ordering::Release);
            return;
        }
        wait(|| self.meetings.load(Ordering::Acquire) != meeting || self.broken.load(Ordering::Acquire));
        assert!(self.meetings.load(Ordering::Acquire) != meeting, "a member of the team panicked");
    }
}

/// Turns of a wait that only pause, before any that yields.
const SPINS: u32 = 2000;

/// Turns after these that yield, before an idle member sleeps.
const YIELDS: u32 = 200;

fn wait(done: impl Fn() -> bool) {
    let mut turns = 0u32;
    while !done() {
        turns = turns.saturating_add(1);
        pause(turns);
    }
}

/// Spins at first, then lets others have the processor.
fn pause(turns: u32) {
    if turns < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// Calls `work` with each piece of `numbers` and its number, over the team: `size` numbers in a piece, fewer in the
/// last. Every piece is worked on once, by one member.
///
/// ```
/// let mut numbers = [1, 2, 3];
/// rnn_core::kernels::team::pieces(&mut numbers, 2, &|i, piece| piece.iter_mut().for_each(|x| *x += 10 * i));
/// assert_eq!(numbers, [1, 2, 13]);
/// ```
///
/// # Panics
/// Where `size` is 0, or `work` does.
pub fn pieces<T: Send + Sync>(numbers: &mut [T], size: usize, work: &(dyn Fn(usize, &mut [T]) + Sync)) {
    let (len, count) = (numbers.len(), numbers.len().div_ceil(size));
    let numbers = Shared::new(numbers);
    together(self::size().min(count), &|member| {
        for i in member.share(count, 1) {
            // SAFETY: the pieces do not overlap, and the members' shares of them neither.
            #[allow(unsafe_code)]
            let piece = unsafe { numbers.write(i * size..len.min((i + 1) * size)) };
            work(i, piece);
        }
    });
}

#[cfg(test)]
thread_local! {
    /// The most members that a call from this thread had, where its calls wait for the team.
    static MOST: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

/// What `work` gives where its calls wait for the team, which another test may have, and the most members of any.
/// Else a test of several members could pass with one.
#[cfg(test)]
pub(crate) fn in_company<R>(work: impl FnOnce() -> R) -> (R, usize) {
    MOST.set(Some(1));
    let made = work();
    (made, MOST.take().unwrap_or(1))
}

/// Does `work` while every core has something else to do as well; it must not take long even so.
#[cfg(test)]
pub(super) fn beside_busy_cores(work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let start = std::time::Instant::now();
    let outcome = std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut work = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    work = std::hint::black_box(work + 1);
                }
            });
        }
        // The cores become free again also where the work panics: else nobody would hear of it.
        let outcome = catch_unwind(AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;

    /// Every member writes, meets the others and reads what all wrote, many times.
    fn meetings(count: usize, times: usize) {
        let slots: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        together(count, &|member| {
            for turn in 1..=times {
                slots[member.index()].store(turn, SeqCst);
                member.meet();
                for slot in &slots[..member.count()] {
                    assert_eq!(slot.load(SeqCst), turn);
                }
                member.meet();
            }
        });
    }

    #[test]
    fn members_meet_and_see_what_the_others_wrote() {
        for count in 1..6 {
            let ((), members) = in_company(|| meetings(count, 200));
            assert_eq!(members, count);
        }
    }

    #[test]
    fn a_call_from_inside_and_one_at_the_same_time_work_alone() {
        // Another test may have the team; then there is no member to call from.
        loop {
            let (whole, most) = (AtomicBool::new(false), AtomicUsize::new(0));
            together(3, &|member| {
                if member.count() == 3 {
                    whole.store(true, SeqCst);
                    together(3, &|inner| {
                        most.fetch_max(inner.count(), SeqCst);
                    });
                }
            });
            if whole.into_inner() {
                assert_eq!(most.into_inner(), 1);
                break;
            }
            std::thread::yield_now();
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| meetings(3, 50));
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_asker_and_leaves_the_team_as_it_was() {
        for which in 0..3 {
            // Another test may have the team; then the work is done by one, and nobody panics.
            loop {
                let alone = AtomicBool::new(false);
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    together(3, &|member| {
                        alone.fetch_or(member.count() == 1, SeqCst);
                        assert_ne!((member.index(), member.count()), (which, 3), "on purpose");
                        // The others would wait here for ever.
                        member.meet();
                    });
                }));
                if !alone.into_inner() {
                    assert!(outcome.is_err(), "member {which} panicked");
                    break;
                }
            }
            meetings(3, 10);
        }
    }

    #[test]
    fn a_wait_beside_busy_cores_ends() {
        let mut members = 0;
        beside_busy_cores(|| members = in_company(|| meetings(4, 100)).1);
        assert_eq!(members, 4);
    }

    #[test]
    fn shares_cover_everything_once() {
        for (total, grain, count) in [(0, 16, 2), (1, 16, 3), (650, 16, 2), (100, 1, 7), (33, 8, 5)] {
            let mut next = 0;
            for index in 0..count {
                let share = as_member(index, count, |member| member.share(total, grain));
                assert_eq!(share.start, next, "{total} by {grain}, {count} members");
                assert!(share.end == total || share.end % grain == 0);
                next = share.end;
            }
            assert_eq!(next, total);
        }
    }
}
