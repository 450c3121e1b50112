//! What the arithmetic of a cell is written over: a fixed number of lanes of f32 or f64.

use super::Real;
use super::real::each;
use candle_core::WithDType;
use std::ops::{Add, Mul, Sub};

/// Some lanes of numbers, all of which undergo the same operation.
pub trait Vector: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// What a lane holds.
    type Elem: Real;
    /// The number of lanes.
    const WIDTH: usize;

    /// The same number in every lane.
    fn splat(x: Self::Elem) -> Self;

    /// The first lanes from `from`, as many as it has and at most [`Self::WIDTH`]; zeros in the others.
    fn load(from: &[Self::Elem]) -> Self;

    /// The first lanes to `to`, as many as it has and at most [`Self::WIDTH`].
    fn store(self, to: &mut [Self::Elem]);

    /// e to the power of each lane.
    #[must_use]
    fn exp(self) -> Self;

    /// The hyperbolic tangent of each lane.
    #[must_use]
    fn tanh(self) -> Self;

    /// The logistic function of each lane.
    #[must_use]
    fn sigmoid(self) -> Self;

    /// Each lane, or 0 where it is negative; NaN stays NaN.
    #[must_use]
    fn relu(self) -> Self;

    /// 1 in the lanes that are above 0, 0 in the others.
    #[must_use]
    fn above_zero(self) -> Self;

    /// The other's lane where it is larger, else its own: also where one of them is NaN.
    #[must_use]
    fn larger(self, other: Self) -> Self;

    /// A number of the arithmetic itself, in every lane.
    #[inline(always)]
    fn number(x: f64) -> Self {
        Self::splat(Self::Elem::from_f64(x))
    }

    /// Zeros.
    fn zero() -> Self {
        Self::splat(Self::Elem::ZERO)
    }

    /// Ones.
    fn one() -> Self {
        Self::splat(Self::Elem::ONE)
    }
}

/// As many as any vector has.
pub(super) const MAX_LANES: usize = 16;

/// Copies as many numbers as both have, fewer than [`MAX_LANES`], a power of two at a time: the compiler would call a function for
/// a length that it does not know, at the price of the whole work on them.
#[inline(always)]
pub(super) fn copy_few<T: Copy>(to: &mut [T], from: &[T]) {
    let len = to.len().min(from.len());
    let mut at = 0;
    macro_rules! step {
        ($size:literal) => {
            if len & $size != 0 {
                if let (Some(to), Some(from)) =
                    (to[at..].first_chunk_mut::<$size>(), from[at..].first_chunk::<$size>())
                {
                    *to = *from;
                }
                at += $size;
            }
        };
    }
    step!(8);
    step!(4);
    step!(2);
    step!(1);
    debug_assert_eq!(at, len, "fewer than 16 numbers");
}

/// `W` lanes as an array: safe code that the compiler turns into vector instructions, `FMA` where the CPU has it.
#[derive(Debug, Clone, Copy)]
pub struct Lanes<T, const W: usize, const FMA: bool>(pub [T; W]);

impl<T: Real, const W: usize, const FMA: bool> Lanes<T, W, FMA> {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(T, T) -> T) -> Self {
        let mut lanes = self.0;
        for (a, b) in lanes.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        Self(lanes)
    }
}

impl<T: Real, const W: usize, const FMA: bool> Add for Lanes<T, W, FMA> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

impl<T: Real, const W: usize, const FMA: bool> Sub for Lanes<T, W, FMA> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
}

impl<T: Real, const W: usize, const FMA: bool> Mul for Lanes<T, W, FMA> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
}

impl<T: Real, const W: usize, const FMA: bool> Vector for Lanes<T, W, FMA> {
    type Elem = T;
    const WIDTH: usize = {
        assert!(W <= MAX_LANES, "more lanes than MAX_LANES");
        W
    };

    #[inline(always)]
    fn splat(x: T) -> Self {
        Self([x; W])
    }

    #[inline(always)]
    fn load(from: &[T]) -> Self {
        let mut lanes = [T::ZERO; W];
        const { assert!(W <= MAX_LANES) };
        match from.first_chunk::<W>() {
            Some(full) => lanes = *full,
            None => copy_few(&mut lanes, from),
        }
        Self(lanes)
    }

    #[inline(always)]
    fn store(self, to: &mut [T]) {
        const { assert!(W <= MAX_LANES) };
        match to.first_chunk_mut::<W>() {
            Some(full) => *full = self.0,
            None => copy_few(to, &self.0),
        }
    }

    #[inline(always)]
    fn exp(self) -> Self {
        Self(T::exp::<W, FMA>(self.0))
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        Self(T::tanh::<W, FMA>(self.0))
    }

    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self(T::sigmoid::<W, FMA>(self.0))
    }

    #[inline(always)]
    fn relu(self) -> Self {
        Self(each(self.0, |x| if x <= T::ZERO { T::ZERO } else { x }))
    }

    #[inline(always)]
    fn above_zero(self) -> Self {
        Self(each(self.0, |x| if x > T::ZERO { T::ONE } else { T::ZERO }))
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        self.zip(other, |a, b| if b > a { b } else { a })
    }
}
