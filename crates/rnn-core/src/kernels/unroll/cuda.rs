//! The place of the GPU kernels. There are none yet, and nothing pretends otherwise: on a CUDA device the manual way
//! runs, in candle's tensor ops.

/// Whether the fused way can run on a CUDA device.
pub(super) fn has_kernels() -> bool {
    false
}
