//! Registers of the products: the few operations that an inner loop needs, as the CPU's own instructions.
//!
//! The compiler turns the pointwise code into vector instructions by itself (`lanes.rs`), but not a tile of sums: it
//! may load and broadcast single elements instead, at a small part of the speed (docs/decisions/0004).
//!
//! A register can only be made from a token of its instructions, and a token only by who vouches that this CPU has them:
//! so all methods are safe to call.

use std::ops::{AddAssign, Mul};

/// Proof of what every CPU has.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

/// Proof of AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

/// Proof of AVX-512 (F, VL, BW, DQ) and FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// The proof.
    ///
    /// # Safety
    /// This CPU has AVX2 and FMA.
    #[allow(unsafe_code)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// The proof.
    ///
    /// # Safety
    /// This CPU has AVX-512 (F, VL, BW, DQ) and FMA.
    #[allow(unsafe_code)]
    pub unsafe fn new() -> Self {
        Self(())
    }
}

/// As many numbers as a register holds.
pub trait Register: Copy {
    /// What a lane holds.
    type Elem: Copy;
    /// Proof that this CPU has the instructions.
    type Token: Copy;
    /// The number of lanes.
    const WIDTH: usize;

    /// The same number in every lane.
    fn splat(token: Self::Token, x: Self::Elem) -> Self;

    /// The first [`Self::WIDTH`] numbers.
    ///
    /// # Panics
    /// Where there are fewer.
    fn load(token: Self::Token, from: &[Self::Elem]) -> Self;

    /// To the first [`Self::WIDTH`] numbers.
    ///
    /// # Panics
    /// Where there are fewer.
    fn store(self, to: &mut [Self::Elem]);

    /// `self * factor + sum`; rounded once, but for portable registers.
    #[must_use]
    fn mul_add(self, factor: Self, sum: Self) -> Self;
}

/// A few numbers in an array, left to the compiler.
#[derive(Debug, Clone, Copy)]
pub struct Plain<T, const W: usize>([T; W]);

impl<T: Copy + AddAssign + Mul<Output = T>, const W: usize> Register for Plain<T, W> {
    type Elem = T;
    type Token = Portable;
    const WIDTH: usize = W;

    #[inline(always)]
    fn splat(_: Portable, x: T) -> Self {
        Self([x; W])
    }

    #[inline(always)]
    fn load(_: Portable, from: &[T]) -> Self {
        Self(std::array::from_fn(|lane| from[lane]))
    }

    #[inline(always)]
    fn store(self, to: &mut [T]) {
        to[..W].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, mut sum: Self) -> Self {
        for ((sum, a), b) in sum.0.iter_mut().zip(self.0).zip(factor.0) {
            *sum += a * b;
        }
        sum
    }
}

/// A register of x86-64: its name, the instructions it takes, what it holds, and the intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! register {
    ($name:ident, $token:ty, $raw:ident, [$elem:ty; $width:literal], $splat:ident, $load:ident, $store:ident, $mul_add:ident) => {
        #[doc = concat!(stringify!($width), " ", stringify!($elem), " in one register.")]
        #[derive(Debug, Clone, Copy)]
        pub struct $name(std::arch::x86_64::$raw);

        impl Register for $name {
            type Elem = $elem;
            type Token = $token;
            const WIDTH: usize = $width;

            #[inline(always)]
            fn splat(_: $token, x: $elem) -> Self {
                // SAFETY: the token says that this CPU has the instruction.
                #[allow(unsafe_code)]
                Self(unsafe { std::arch::x86_64::$splat(x) })
            }

            #[inline(always)]
            fn load(_: $token, from: &[$elem]) -> Self {
                let from = &from[..$width];
                // SAFETY: the token says that this CPU has the instruction; it reads the numbers of the line above.
                #[allow(unsafe_code)]
                Self(unsafe { std::arch::x86_64::$load(from.as_ptr()) })
            }

            #[inline(always)]
            fn store(self, to: &mut [$elem]) {
                let to = &mut to[..$width];
                // SAFETY: a register was made, so this CPU has the instruction; it writes the numbers of the line above.
                #[allow(unsafe_code)]
                unsafe {
                    std::arch::x86_64::$store(to.as_mut_ptr(), self.0);
                }
            }

            #[inline(always)]
            fn mul_add(self, factor: Self, sum: Self) -> Self {
                // SAFETY: a register was made, so this CPU has the instruction.
                #[allow(unsafe_code)]
                Self(unsafe { std::arch::x86_64::$mul_add(self.0, factor.0, sum.0) })
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
register!(F32x8, Avx2, __m256, [f32; 8], _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps);
#[cfg(target_arch = "x86_64")]
register!(F64x4, Avx2, __m256d, [f64; 4], _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_fmadd_pd);
#[cfg(target_arch = "x86_64")]
register!(
    F32x16,
    Avx512,
    __m512,
    [f32; 16],
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps
);
#[cfg(target_arch = "x86_64")]
register!(
    F64x8,
    Avx512,
    __m512d,
    [f64; 8],
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_fmadd_pd
);

/// The registers that hold a type, one for each kind of instructions.
pub trait Registers: Sized {
    /// For [`Portable`]
    type Portable: Register<Elem = Self, Token = Portable>;
    /// For [`Avx2`]
    #[cfg(target_arch = "x86_64")]
    type Avx2: Register<Elem = Self, Token = Avx2>;
    /// For [`Avx512`]
    #[cfg(target_arch = "x86_64")]
    type Avx512: Register<Elem = Self, Token = Avx512>;
}

impl Registers for f32 {
    type Portable = Plain<f32, 4>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = F32x8;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = F32x16;
}

impl Registers for f64 {
    type Portable = Plain<f64, 2>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = F64x4;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = F64x8;
}
