//! The two element types of the fused kernels.

use super::activation;
use super::compiled::Compiled;
use super::simd::Registers;
use super::unroll::cpu::{Kernel, KernelOf};
use candle_core::WithDType;

/// A slice of f32 or f64, tagged with its type.
#[derive(Debug, Clone, Copy)]
pub enum Typed<'a> {
    /// f32
    F32(&'a [f32]),
    /// f64
    F64(&'a [f64]),
}

/// f32 or f64, with activations for a fixed number of lanes.
pub trait Real: WithDType + Default + Registers {
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;

    /// The numbers under the name of their type.
    fn typed(numbers: &[Self]) -> Typed<'_>;

    /// The kernel for this type.
    fn kernel(kernel: &'static dyn Kernel) -> &'static dyn KernelOf<Self>;

    /// What is compiled for this type.
    fn compiled() -> &'static Compiled<Self>;

    /// The square root.
    #[must_use]
    fn sqrt(self) -> Self;

    /// e to the power of each lane.
    fn exp<const W: usize, const FMA: bool>(x: [Self; W]) -> [Self; W];

    /// The hyperbolic tangent of each lane.
    fn tanh<const W: usize, const FMA: bool>(x: [Self; W]) -> [Self; W];

    /// `1 / (1 + exp(-x))` of each lane.
    fn sigmoid<const W: usize, const FMA: bool>(x: [Self; W]) -> [Self; W];
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn typed(numbers: &[Self]) -> Typed<'_> {
        Typed::F32(numbers)
    }

    fn kernel(kernel: &'static dyn Kernel) -> &'static dyn KernelOf<Self> {
        kernel
    }

    fn compiled() -> &'static Compiled<Self> {
        static COMPILED: Compiled<f32> = Compiled::new();
        &COMPILED
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }

    #[inline(always)]
    fn exp<const W: usize, const FMA: bool>(x: [Self; W]) -> [Self; W] {
        each(x, activation::exp::<FMA>)
    }

    #[inline(always)]
    fn tanh<const W: usize, const FMA: bool>(x: [Self; W]) -> [Self; W] {
        each(x, activation::tanh::<FMA>)
    }

    #[inline(always)]
    fn sigmoid<const W: usize, const FMA: bool>(x: [Self; W]) -> [Self; W] {
        each(x, activation::sigmoid::<FMA>)
    }
}

/// The standard library's functions: f64 is for checks, and these are what it is checked with.
impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn typed(numbers: &[Self]) -> Typed<'_> {
        Typed::F64(numbers)
    }

    fn kernel(kernel: &'static dyn Kernel) -> &'static dyn KernelOf<Self> {
        kernel
    }

    fn compiled() -> &'static Compiled<Self> {
        static COMPILED: Compiled<f64> = Compiled::new();
        &COMPILED
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }

    #[inline(always)]
    fn exp<const W: usize, const FMA: bool>(x: [Self; W]) -> [Self; W] {
        each(x, f64::exp)
    }

    #[inline(always)]
    fn tanh<const W: usize, const FMA: bool>(x: [Self; W]) -> [Self; W] {
        each(x, f64::tanh)
    }

    #[inline(always)]
    fn sigmoid<const W: usize, const FMA: bool>(x: [Self; W]) -> [Self; W] {
        each(x, |x| 1.0 / (1.0 + (-x).exp()))
    }
}

/// `f` of each lane, as the loop over an array that compilers turn into vector code most reliably.
#[inline(always)]
pub(super) fn each<T: Copy, const W: usize>(mut lanes: [T; W], f: impl Fn(T) -> T) -> [T; W] {
    for lane in &mut lanes {
        *lane = f(*lane);
    }
    lanes
}
