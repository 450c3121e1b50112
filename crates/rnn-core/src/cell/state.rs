//! What a cell carries from step to step: a named struct of `[N, H]` tensors.

use crate::Result;
use candle_core::Tensor;

/// A recurrent state. Every part has the batch in its first dimension.
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

    /// The hidden state of (the last layer of) this state, `[N, H]`.
    fn h(&self) -> &Tensor;

    /// The same state with another hidden state.
    #[must_use]
    fn with_h(&self, h: Tensor) -> Self;

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
