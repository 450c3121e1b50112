//! Language models and their training: the same losses, gradients and bits in every way, with whatever is dropped, stopped
//! and gone on with.

#[path = "../common/numbers.rs"]
mod numbers;

mod adaptive;
mod dropout;
mod memory;
mod resume;
mod training;
