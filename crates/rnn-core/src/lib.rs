//! Recurrent layers for candle whose backpropagation through time is written by hand.
//!
//! A [`Cell`] is one step; [`TimeRnn`] is T steps as one layer; [`Stack`] is L of them; [`Stateful`] keeps the state.
//! Each runs in three ways that agree to rounding: `reference` (plain ops and candle's autograd, the oracle),
//! `manual` (the backward by hand, in tensor ops, on any device) and `fused` (the same by hand in kernels, of the CPU
//! and of GPUs). [`Way`] says which; `fused` is the default. Names, shapes and gate orders are PyTorch's:
//! [`convention`].
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{Optimizer, SGD, VarBuilder, VarMap};
//! use rnn_core::{GruCell, LayerSpec, Recurrent, Stack, TimeRnn};
//! let vars = VarMap::new(); // any builder of candle will do
//! let builder = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
//! let rnn = Stack::<TimeRnn<GruCell>>::new(LayerSpec::new(3, 8), 2, &builder.pp("rnn"))?;
//! let mut sgd = SGD::new(vars.all_vars(), 0.1)?;
//! let xs = Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?; // [N, T, D]
//! let mut losses = Vec::new();
//! for _ in 0..10 {
//!     let (hs, _) = rnn.forward(&xs, &rnn.zero_state(2)?)?; // [N, T, H]
//!     assert_eq!(hs.dims(), [2, 5, 8]);
//!     let loss = (hs - 0.5)?.sqr()?.mean_all()?;
//!     sgd.backward_step(&loss)?; // through time, by hand
//!     losses.push(loss.to_scalar::<f32>()?);
//! }
//! assert!(losses[9] < losses[0]);
//! # rnn_core::Result::Ok(())
//! ```
//!
//! [`Parameters`] takes the place of a `VarMap`: its `builder()` draws each parameter from a seed and the parameter's name, and it keeps
//! their order, saves and loads. [`Recurrent::infer`] records nothing for a backward. A [`Plan`] says how a window is run: lengths, resets, and the masks of dropout ([`Regularisers`]). [`border`] takes
//! weights from elsewhere, and writes them for others.

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
