//! What the tests of kernels share.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a kernel says of sizes or a cell that do not fit, before it does anything.
pub(in crate::kernels) fn refused(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("refused");
    let said = panic.downcast_ref::<String>().cloned();
    said.or(panic.downcast_ref::<&str>().map(ToString::to_string)).expect("words")
}
