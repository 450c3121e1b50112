//! A buffer that several threads write to at once, each in places of its own.

use std::marker::PhantomData;
use std::ops::Range;

/// Numbers lent to a team. Where a member may read and write between two meetings is up to the one who cuts the work;
/// nothing here checks it but the bounds, hence `unsafe`.
#[derive(Debug)]
pub(super) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    lent: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: a `Shared` is a mutable borrow that has been cut up; its methods' contracts keep the pieces apart, and what
// is sent with it are the numbers themselves.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Send for Shared<'_, T> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Nobody else sees `numbers` while it is shared.
    pub(super) fn new(numbers: &'a mut [T]) -> Self {
        Self { start: numbers.as_mut_ptr(), len: numbers.len(), lent: PhantomData }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The numbers from `start` on.
    ///
    /// # Panics
    /// Where the buffer is shorter.
    #[inline(always)]
    pub(super) fn from(&self, start: usize) -> Self {
        self.check(&(start..self.len));
        Self { start: self.start.wrapping_add(start), len: self.len - start, lent: PhantomData }
    }

    /// The numbers in `range`, to read.
    ///
    /// # Panics
    /// Where the buffer is shorter.
    ///
    /// # Safety
    /// Nobody writes to the range while the slice is in use.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) unsafe fn read(&self, range: Range<usize>) -> &'a [T] {
        self.check(&range);
        // SAFETY: the range is inside the borrowed buffer; nobody writes to it, as the caller promises.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.end - range.start) }
    }

    /// The numbers in `range`, to write.
    ///
    /// # Panics
    /// Where the buffer is shorter.
    ///
    /// # Safety
    /// Nobody else reads or writes in the range while the slice is in use.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) unsafe fn write(&self, range: Range<usize>) -> &'a mut [T] {
        self.check(&range);
        // SAFETY: the range is inside the borrowed buffer; nobody else uses it, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }

    /// As the function of this name.
    #[inline(always)]
    pub(super) fn prefetch(&self, range: Range<usize>) {
        prefetch_from(self.start, self.len, range);
    }

    #[inline(always)]
    fn check(&self, range: &Range<usize>) {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {} shared numbers",
            self.len
        );
    }
}

/// Has the numbers in `range`, as far as there are any, fetched into the nearest cache while other things are done; only
/// a hint.
#[inline(always)]
pub(super) fn prefetch<T>(numbers: &[T], range: Range<usize>) {
    prefetch_from(numbers.as_ptr(), numbers.len(), range);
}

#[inline(always)]
fn prefetch_from<T>(start: *const T, len: usize, range: Range<usize>) {
    #[cfg(target_arch = "x86_64")]
    for i in (range.start..range.end.min(len)).step_by((64 / size_of::<T>()).max(1)) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 CPU has the instruction; it changes nothing that a program could see.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(i).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, len, range);
}
