//! What is carried from step to step: a named struct of tensors with the batch in front.
//!
//! A state is a value. A clone of it is a snapshot, whatever happens later; [`State::select`] forks it and picks rows.

use crate::{Error, Result};
use candle_core::Tensor;

/// A recurrent state. Every part is `[N, size]`.
pub trait State: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The parts, in a fixed order that [`Self::names`] names.
    fn parts(&self) -> Vec<&Tensor>;

    /// The name of each part, such as `h` and `c`.
    fn names(&self) -> Vec<String>;

    /// The state with `f` applied to each part.
    ///
    /// # Errors
    /// That of `f`.
    fn try_map(&self, f: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Self>;

    /// The state cut from the graph that made it: `state = next.detach()` is truncated BPTT.
    #[must_use]
    fn detach(&self) -> Self {
        // Detaching cannot fail; `try_map` returns what the closure returns.
        self.try_map(&mut |part| Ok(part.detach())).unwrap_or_else(|_| self.clone())
    }

    /// A state of zeros of the same shapes.
    ///
    /// # Errors
    /// Where the device has no memory left.
    fn zeros_like(&self) -> Result<Self> {
        self.try_map(&mut |part| Ok(part.zeros_like()?))
    }

    /// The rows of the batch with these numbers, in this order and as often as each is named: a beam search keeps its best
    /// rows this way, and one row becomes several.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use rnn_core::{RnnState, State};
    /// let state = RnnState { h: Tensor::new(&[[1f32], [2.0], [3.0]], &Device::Cpu)? };
    /// assert_eq!(state.select(&[2, 0, 0])?.h.to_vec2::<f32>()?, [[3.0], [1.0], [1.0]]);
    /// let error = state.select(&[3]).unwrap_err().to_string();
    /// assert_eq!(error, "State::select: expected rows below 3, got 3");
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where there is none, or no such row.
    fn select(&self, rows: &[u32]) -> Result<Self> {
        if rows.is_empty() {
            return Err(Error::invalid("State::select", "at least one row", "none"));
        }
        self.try_map(&mut |part| {
            let batch = part.dim(0)?;
            if let Some(row) = rows.iter().find(|&&row| row as usize >= batch) {
                return Err(Error::invalid("State::select", format!("rows below {batch}"), row));
            }
            Ok(part.contiguous()?.index_select(&Tensor::new(rows, part.device())?, 0)?)
        })
    }
}

/// `state` with its parts replaced, in order.
pub(crate) fn with_parts<S: State>(state: &S, parts: impl IntoIterator<Item = Tensor>) -> Result<S> {
    let mut parts = parts.into_iter();
    state.try_map(&mut |_| {
        parts.next().ok_or_else(|| Error::invalid("State", format!("{} parts", state.parts().len()), "fewer"))
    })
}

/// The state of a cell: the first of its parts is the hidden state, which is what is given out and fed back; the second, where
/// there is one, is what [`crate::Regularisers::zoneout_c`] keeps.
pub trait CellState: State {
    /// The hidden state, `[N, P]`: the first of [`State::parts`].
    fn h(&self) -> &Tensor;

    /// The same state with another hidden state.
    #[must_use]
    fn with_h(&self, h: Tensor) -> Self;
}

/// A state struct from the names of its fields, `h` first.
macro_rules! state {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident),+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: candle_core::Tensor,)+
        }

        impl $crate::cell::State for $name {
            fn parts(&self) -> Vec<&candle_core::Tensor> {
                vec![$(&self.$field),+]
            }

            fn names(&self) -> Vec<String> {
                vec![$(stringify!($field).to_string()),+]
            }

            fn try_map(
                &self,
                f: &mut dyn FnMut(&candle_core::Tensor) -> $crate::Result<candle_core::Tensor>,
            ) -> $crate::Result<Self> {
                Ok(Self { $($field: f(&self.$field)?),+ })
            }

        }

        impl $crate::cell::CellState for $name {
            fn h(&self) -> &candle_core::Tensor {
                &self.h
            }

            fn with_h(&self, h: candle_core::Tensor) -> Self {
                let mut changed = self.clone();
                changed.h = h;
                changed
            }
        }
    };
}
pub(crate) use state;
