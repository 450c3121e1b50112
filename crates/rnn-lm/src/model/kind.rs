//! The cells that a language model can have, by name: a new one is a line here.

use super::{LanguageModel, LmSpec, Rnnlm};
use crate::{Error, Result};
use candle_core::{DType, Device};
use rnn_core::{GruCell, LstmCell, RnnCell, Way};
use std::fmt;
use std::str::FromStr;

macro_rules! cells {
    ($($kind:ident $name:literal $cell:ty, $about:literal;)*) => {
        /// Which cell.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum CellKind {
            $(#[doc = $about] $kind,)*
        }

        impl CellKind {
            /// All there are.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];
        }

        impl fmt::Display for CellKind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$kind => $name,)*
                })
            }
        }

        /// A model of that cell, its parameters drawn from `seed`. The fused way takes f32 and f64; for another dtype
        /// the manual way takes its place.
        ///
        /// # Errors
        /// Where [`LmSpec::check`] refuses the spec, a rate of `dropout.recurrent` is out of its range, `zoneout_c`
        /// is set for a cell without c, a cutoff is not below V, or there would be more than 10^10 parameters; see
        /// [`Rnnlm::new`].
        pub fn build(
            cell: CellKind,
            spec: &LmSpec,
            way: Way,
            (dtype, device): (DType, &Device),
            seed: u64,
        ) -> Result<Box<dyn LanguageModel>> {
            Ok(match cell {
                $(CellKind::$kind => Box::new(Rnnlm::<$cell>::new(spec, way, (dtype, device), seed)?),)*
            })
        }
    };
}

cells! {
    Rnn "rnn" RnnCell, "[`RnnCell`] with tanh.";
    Lstm "lstm" LstmCell, "[`LstmCell`]";
    Gru "gru" GruCell, "[`GruCell`]";
}

impl FromStr for CellKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let named = |cell: &Self| cell.to_string() == name;
        Self::ALL.into_iter().find(named).ok_or_else(|| {
            let all = Self::ALL.map(|cell| cell.to_string()).join(", ");
            Error::invalid("cell", all, format!("{name:?}"))
        })
    }
}
