//! Registers of the products: the few operations that an inner loop needs, as the CPU's own instructions.
//!
//! The compiler turns the pointwise code into vector instructions by itself (`lanes.rs`), but not a tile of sums: it
//! may load and broadcast single elements instead, at a small part of the speed (docs/decisions/0004).
//!
//! A register can only be made from a token of its instructions, and a token only by who vouches that this CPU has them:
//! so all methods are safe to call.

use super::lanes::copy_few;
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
    type Elem: Copy + Default;
    /// Proof that this CPU has the instructions.
    type Token: Copy;
    /// The number of lanes.
    const WIDTH: usize;
    /// Registers side by side in a tile of sums, and rows of it: as many as the CPU has room for.
    const PANEL: usize;
    /// Rows of a tile of sums: 4, 6 or 8.
    const ROWS: usize;
    /// Terms that a tile adds between two looks at its bounds and at its end, 2 or 4: four where looking costs more than
    /// multiplying, two where the compiler would take four for a choice of orders and run out of registers.
    const TERMS: usize;

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

    /// `self + other`
    #[must_use]
    fn add(self, other: Self) -> Self;

    /// Turns a square: row k of `rows`, as many as a register has lanes, to row k of `lines`' columns; `lines` begin
    /// `stride` numbers apart.
    ///
    /// # Panics
    /// Where a row or a line is too short.
    #[inline(always)]
    fn turn(_: Self::Token, rows: &[&[Self::Elem]], lines: &mut [Self::Elem], stride: usize) {
        for (j, row) in rows[..Self::WIDTH].iter().enumerate() {
            for (k, &number) in row[..Self::WIDTH].iter().enumerate() {
                lines[k * stride + j] = number;
            }
        }
    }

    /// As many numbers as there are, zeros behind them.
    #[inline(always)]
    fn load_some(token: Self::Token, from: &[Self::Elem]) -> Self {
        if from.len() >= Self::WIDTH {
            return Self::load(token, from);
        }
        let mut lanes = [Self::Elem::default(); MAX_WIDTH];
        copy_few(&mut lanes, from);
        Self::load(token, &lanes)
    }

    /// As many numbers as there is room for.
    #[inline(always)]
    fn store_some(self, to: &mut [Self::Elem]) {
        if to.len() >= Self::WIDTH {
            return self.store(to);
        }
        let mut lanes = [Self::Elem::default(); MAX_WIDTH];
        self.store(&mut lanes);
        copy_few(to, &lanes);
    }
}

/// Lanes of the widest register.
const MAX_WIDTH: usize = 16;

/// A few numbers in an array, left to the compiler.
#[derive(Debug, Clone, Copy)]
pub struct Plain<T, const W: usize>([T; W]);

impl<T: Copy + Default + AddAssign + Mul<Output = T>, const W: usize> Register for Plain<T, W> {
    type Elem = T;
    type Token = Portable;
    const WIDTH: usize = W;
    const PANEL: usize = 2;
    const ROWS: usize = 4;
    const TERMS: usize = 4;

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

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        for (sum, term) in self.0.iter_mut().zip(other.0) {
            *sum += term;
        }
        self
    }
}

/// A register of x86-64: its name, the instructions it takes, what it holds, and the intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! register {
    ($name:ident, $token:ty, $raw:ident, [$elem:ty; $width:literal], $tile:expr, $splat:ident, $load:ident, $store:ident, $mul_add:ident, $add:ident $(, $turn:ident)?) => {
        #[doc = concat!(stringify!($width), " ", stringify!($elem), " in one register.")]
        #[derive(Debug, Clone, Copy)]
        pub struct $name(std::arch::x86_64::$raw);

        impl Register for $name {
            type Elem = $elem;
            type Token = $token;
            const WIDTH: usize = $width;
            const ROWS: usize = $tile.0;
            const PANEL: usize = $tile.1;
            const TERMS: usize = $tile.2;

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

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: a register was made, so this CPU has the instruction.
                #[allow(unsafe_code)]
                Self(unsafe { std::arch::x86_64::$add(self.0, other.0) })
            }

            $(
                #[inline(always)]
                fn turn(token: $token, rows: &[&[$elem]], lines: &mut [$elem], stride: usize) {
                    let mut square = [Self::splat(token, 0.0); $width];
                    for (register, row) in square.iter_mut().zip(&rows[..$width]) {
                        *register = Self::load(token, row);
                    }
                    for (k, register) in $turn(token, square).into_iter().enumerate() {
                        register.store(&mut lines[k * stride..]);
                    }
                }
            )?
        }
    };
}

#[cfg(target_arch = "x86_64")]
register!(
    F32x8,
    Avx2,
    __m256,
    [f32; 8],
    (6, 2, 4),
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    turn_f32x8
);
#[cfg(target_arch = "x86_64")]
register!(
    F64x4,
    Avx2,
    __m256d,
    [f64; 4],
    (6, 2, 4),
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_fmadd_pd,
    _mm256_add_pd
);
#[cfg(target_arch = "x86_64")]
register!(
    F32x16,
    Avx512,
    __m512,
    [f32; 16],
    (8, 3, 2),
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    turn_f32x16
);
#[cfg(target_arch = "x86_64")]
register!(
    F64x8,
    Avx512,
    __m512d,
    [f64; 8],
    (8, 3, 2),
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_fmadd_pd,
    _mm512_add_pd
);

/// The transpose of a square: neighbours of each row are paired, then pairs, then halves.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turn_f32x8(_: Avx2, rows: [F32x8; 8]) -> [F32x8; 8] {
    use std::arch::x86_64::{
        _mm256_permute2f128_ps as halves, _mm256_shuffle_ps as pick, _mm256_unpackhi_ps as high,
        _mm256_unpacklo_ps as low,
    };
    let mut turned = rows;
    // SAFETY: the token says that this CPU has the instructions.
    #[allow(unsafe_code)]
    unsafe {
        let mut pairs = [rows[0].0; 8];
        for i in 0..4 {
            pairs[2 * i] = low(rows[2 * i].0, rows[2 * i + 1].0);
            pairs[2 * i + 1] = high(rows[2 * i].0, rows[2 * i + 1].0);
        }
        let mut fours = pairs;
        for (i, base) in [(0, 0), (4, 4)] {
            fours[i] = pick::<0x44>(pairs[base], pairs[base + 2]);
            fours[i + 1] = pick::<0xee>(pairs[base], pairs[base + 2]);
            fours[i + 2] = pick::<0x44>(pairs[base + 1], pairs[base + 3]);
            fours[i + 3] = pick::<0xee>(pairs[base + 1], pairs[base + 3]);
        }
        for i in 0..4 {
            turned[i] = F32x8(halves::<0x20>(fours[i], fours[i + 4]));
            turned[i + 4] = F32x8(halves::<0x31>(fours[i], fours[i + 4]));
        }
    }
    turned
}

/// The same with quarters of a register for halves, in two steps.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turn_f32x16(_: Avx512, rows: [F32x16; 16]) -> [F32x16; 16] {
    use std::arch::x86_64::{
        _mm512_shuffle_f32x4 as quarters, _mm512_shuffle_ps as pick, _mm512_unpackhi_ps as high,
        _mm512_unpacklo_ps as low,
    };
    let mut turned = rows;
    // SAFETY: the token says that this CPU has the instructions.
    #[allow(unsafe_code)]
    unsafe {
        let mut pairs = [rows[0].0; 16];
        for i in 0..8 {
            pairs[2 * i] = low(rows[2 * i].0, rows[2 * i + 1].0);
            pairs[2 * i + 1] = high(rows[2 * i].0, rows[2 * i + 1].0);
        }
        // Register 4b + c holds column c of each quarter, rows 4b to 4b + 3.
        let mut fours = pairs;
        for b in [0, 4, 8, 12] {
            fours[b] = pick::<0x44>(pairs[b], pairs[b + 2]);
            fours[b + 1] = pick::<0xee>(pairs[b], pairs[b + 2]);
            fours[b + 2] = pick::<0x44>(pairs[b + 1], pairs[b + 3]);
            fours[b + 3] = pick::<0xee>(pairs[b + 1], pairs[b + 3]);
        }
        for c in 0..4 {
            let even = quarters::<0x88>(fours[c], fours[c + 4]);
            let odd = quarters::<0xdd>(fours[c], fours[c + 4]);
            let even_below = quarters::<0x88>(fours[c + 8], fours[c + 12]);
            let odd_below = quarters::<0xdd>(fours[c + 8], fours[c + 12]);
            turned[c] = F32x16(quarters::<0x88>(even, even_below));
            turned[c + 8] = F32x16(quarters::<0xdd>(even, even_below));
            turned[c + 4] = F32x16(quarters::<0x88>(odd, odd_below));
            turned[c + 12] = F32x16(quarters::<0xdd>(odd, odd_below));
        }
    }
    turned
}

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
