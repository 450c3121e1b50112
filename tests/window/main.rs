//! Layers over a window of steps: what they compute, that every way of running them gives the same numbers and gradients,
//! and what those are held against.

#[path = "../common/case.rs"]
mod case;
#[path = "../common/numbers.rs"]
mod numbers;

mod book;
mod cells;
mod errors;
mod gradcheck;
mod half;
mod invariance;
mod layers;
mod masks;
mod meaning;
mod parity;
mod small;
mod stages;
mod steering;
mod truncation;
