//! Language models and their training: the same losses, gradients and bits in every way, with whatever is dropped, stopped
//! and gone on with.

mod adaptive;
mod dropout;
mod memory;
mod resume;
mod training;
