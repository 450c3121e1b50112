//! Which instructions the kernels are compiled for: chosen once per process by what the CPU has, and logged.
//!
//! A [`Task`] is safe code that is generic over [`Instructions`]; [`run`] compiles it once for each kind and calls
//! the one asked for. `CANDLE_RNN_INSTRUCTIONS=portable|avx2|avx512` overrides the choice for a process,
//! [`with`] for a closure.

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Register};
use super::{Lanes, Real, Vector};
use crate::{Error, Result};
use std::cell::Cell;
use std::sync::OnceLock;

/// Kinds of instructions, from the least to the most able.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cpu {
    /// What every CPU of the target has; products and sums rounded one by one.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 (F, VL, BW, DQ) and FMA.
    Avx512,
}

impl Cpu {
    /// All kinds that this machine can run.
    pub fn available() -> Vec<Self> {
        [Self::Portable, Self::Avx2, Self::Avx512].into_iter().filter(|cpu| cpu.is_available()).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        match self {
            Self::Portable => true,
            Self::Avx2 => avx2(),
            Self::Avx512 => {
                avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Self::Portable
    }

    /// Its name in `CANDLE_RNN_INSTRUCTIONS`.
    fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

thread_local! {
    static FORCED: Cell<Option<Cpu>> = const { Cell::new(None) };
}

/// The kind that `CANDLE_RNN_INSTRUCTIONS` asks for, or else the best there is.
///
/// # Errors
/// Where it asks for one that this CPU has not.
pub fn asked_for() -> Result<Cpu> {
    let Some(name) = std::env::var_os("CANDLE_RNN_INSTRUCTIONS") else { return Ok(best()) };
    let available = Cpu::available();
    available.iter().copied().find(|cpu| cpu.name() == name).ok_or_else(|| {
        let names: Vec<&str> = available.iter().map(|cpu| cpu.name()).collect();
        let want = format!("{}, which this CPU has", names.join(" or "));
        Error::invalid("CANDLE_RNN_INSTRUCTIONS", want, format!("{name:?}"))
    })
}

fn best() -> Cpu {
    Cpu::available().into_iter().max().unwrap_or(Cpu::Portable)
}

/// The kind in use on this thread.
///
/// A value of `CANDLE_RNN_INSTRUCTIONS` that this CPU cannot follow is logged as a warning and the best set is used;
/// a program that wants an error calls [`asked_for`] first.
pub fn cpu() -> Cpu {
    static CHOSEN: OnceLock<Cpu> = OnceLock::new();
    FORCED.get().unwrap_or_else(|| {
        *CHOSEN.get_or_init(|| {
            let chosen = asked_for().unwrap_or_else(|error| {
                log::warn!("{error}");
                best()
            });
            log::info!("kernels use {} instructions", chosen.name());
            chosen
        })
    })
}

/// Runs `f` with the kernels that this thread starts bound to `cpu`, or to the best there is below it.
pub fn with<R>(cpu: Cpu, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Cpu>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let best = Cpu::available().into_iter().filter(|&there| there <= cpu).max();
    let _restore = Restore(FORCED.replace(best));
    f()
}

/// A kind of instructions as a type, whose values are proof that this CPU has them.
pub trait Instructions: Copy {
    /// Lanes for pointwise work.
    type Lanes<T: Real>: Vector<Elem = T>;
    /// Registers for products.
    type Register<T: Real>: Register<Elem = T, Token = Self>;
}

impl Instructions for Portable {
    type Lanes<T: Real> = Lanes<T, 16, false>;
    type Register<T: Real> = T::Portable;
}

#[cfg(target_arch = "x86_64")]
impl Instructions for Avx2 {
    type Lanes<T: Real> = Lanes<T, 16, true>;
    type Register<T: Real> = T::Avx2;
}

#[cfg(target_arch = "x86_64")]
impl Instructions for Avx512 {
    type Lanes<T: Real> = Lanes<T, 16, true>;
    type Register<T: Real> = T::Avx512;
}

/// Work that can be compiled for each kind of instructions.
pub trait Task {
    /// Does it. Implementations are `#[inline(always)]`, as is all they call: that is how the kind reaches them.
    fn run<I: Instructions>(self, instructions: I);
}

/// Does `task` with the instructions of `cpu`.
///
/// # Panics
/// On x86-64, where this CPU lacks the instructions of `cpu`; other targets run the portable code.
pub fn run(cpu: Cpu, task: impl Task) {
    match cpu {
        Cpu::Portable => task.run(Portable),
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx2 => {
            assert!(cpu.is_available(), "no AVX2 here");
            // SAFETY: the features that `on_avx2` is compiled with were found on this CPU in the line above.
            #[allow(unsafe_code)]
            unsafe {
                task.on_avx2();
            }
        }
        #[cfg(target_arch = "x86_64")]
        Cpu::Avx512 => {
            assert!(cpu.is_available(), "no AVX-512 here");
            // SAFETY: the features that `on_avx512` is compiled with were found on this CPU in the line above.
            #[allow(unsafe_code)]
            unsafe {
                task.on_avx512();
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        _ => task.run(Portable),
    }
}

/// Tasks compiled for instructions that not every CPU has. Methods, for these are compiled where their task stands: functions
/// would be one unit of all tasks, for one core.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
trait Featured: Task {
    /// # Safety
    /// This CPU has AVX2 and FMA.
    unsafe fn on_avx2(self);
    /// # Safety
    /// This CPU has what [`Cpu::Avx512`] says.
    unsafe fn on_avx512(self);
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
impl<K: Task> Featured for K {
    #[target_feature(enable = "avx2,fma")]
    unsafe fn on_avx2(self) {
        // SAFETY: code that is compiled for these features runs where they are.
        self.run(unsafe { Avx2::new() });
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    unsafe fn on_avx512(self) {
        // SAFETY: code that is compiled for these features runs where they are.
        self.run(unsafe { Avx512::new() });
    }
}
