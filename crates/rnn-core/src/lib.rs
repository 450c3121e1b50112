//! Recurrent layers for candle whose backpropagation through time is written by hand.
//!
//! A [`Cell`] is one step; [`TimeRnn`] is T steps as one layer; [`Stack`] is L of them; [`Stateful`] keeps the state.
//! Each runs in three ways that give the same numbers: `reference` (plain ops and candle's autograd, the oracle),
//! `manual` (the backward by hand, in tensor ops, on any device) and `fused` (the same by hand in kernels, of the CPU
//! and of GPUs). [`Way`] says which; `fused` is the default. Names, shapes and gate orders are PyTorch's:
//! [`convention`].

pub mod autograd;
pub mod border;
pub mod cell;
pub mod convention;
mod device;
mod error;
mod init;
pub mod kernels;
pub mod mask;
mod params;
pub mod rng;
pub mod sums;
mod time;

pub use cell::{
    Bias, Cell, CellNormLstmCell, CellState, GruCell, GruState, LayerNormLstmCell, LayerParams, LayerSpec,
    LstmCell, LstmState, Normed, PeepholeLstmCell, ResetBeforeGruCell, RnnCell, RnnState, State,
};
pub use convention::{Direction, Place};
pub use device::{device, device_name};
pub use error::{Error, Result};
pub use init::Scheme;
pub use kernels::unroll::{Segments, Way, last_ran, reset_last_ran};
pub use params::Parameters;
pub use time::{
    Bidirectional, BothStates, Draw, Layer, LayerGrads, Penalty, Plan, Recurrent, Regularisers, Sliding,
    Stack, StackState, StackStream, StackTape, Stateful, TimeRnn, TimeTape, check_rate,
};
