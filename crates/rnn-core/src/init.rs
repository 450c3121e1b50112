//! How parameters begin, as hints that a `VarBuilder` hands to whatever stores the parameters.
//!
//! Drawn from a seed when the builder is [`crate::Parameters`]'s; candle's own `VarMap` cannot be seeded on the CPU.

use candle_nn::Init;

/// A named way to begin.
///
/// ```
/// use candle_nn::Init;
/// use rnn_core::Scheme;
/// assert!(matches!(Scheme::Pytorch.weight(4, 100), Init::Uniform { lo: -0.1, up: 0.1 }));
/// assert!(matches!(Scheme::Book.weight(100, 4), Init::Randn { mean: 0.0, stdev: 0.1 }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Scheme {
    /// PyTorch's: weights and biases of recurrent layers from U(-1/sqrt(H), 1/sqrt(H)).
    #[default]
    Pytorch,
    /// The book's: weights from N(0, 1)/sqrt(fan-in), zero biases, embeddings from N(0, 1)/100.
    Book,
    /// PyTorch's, but of a language model embeddings and the output's weight from U(-0.1, 0.1) and the output's bias zero: Merity
    /// et al. 2018.
    Awd,
    /// Everything from U(-r, r), biases included: Zaremba et al. 2014.
    Uniform(f64),
}

const ZERO: Init = Init::Const(0.0);

impl Scheme {
    /// A weight of a recurrent layer with `fan_in` inputs and `hidden` units.
    pub fn weight(self, fan_in: usize, hidden: usize) -> Init {
        match self {
            Self::Pytorch | Self::Awd => symmetric(inverse_root(hidden)),
            Self::Book => Init::Randn { mean: 0.0, stdev: inverse_root(fan_in) },
            Self::Uniform(range) => symmetric(range),
        }
    }

    /// A bias of a recurrent layer of `hidden` units.
    pub fn bias(self, hidden: usize) -> Init {
        match self {
            Self::Pytorch | Self::Awd => symmetric(inverse_root(hidden)),
            Self::Book => ZERO,
            Self::Uniform(range) => symmetric(range),
        }
    }

    /// The weight of an affine layer with `fan_in` inputs.
    pub fn affine(self, fan_in: usize) -> Init {
        match self {
            Self::Awd => self.embedding(),
            Self::Pytorch | Self::Book | Self::Uniform(_) => self.weight(fan_in, fan_in),
        }
    }

    /// Its bias.
    pub fn affine_bias(self, fan_in: usize) -> Init {
        match self {
            Self::Awd => ZERO,
            Self::Pytorch | Self::Book | Self::Uniform(_) => self.bias(fan_in),
        }
    }

    /// A table of embeddings: PyTorch draws from N(0, 1), the book from N(0, 1)/100.
    pub fn embedding(self) -> Init {
        match self {
            Self::Pytorch => Init::Randn { mean: 0.0, stdev: 1.0 },
            Self::Book => Init::Randn { mean: 0.0, stdev: 0.01 },
            Self::Awd => symmetric(0.1),
            Self::Uniform(range) => symmetric(range),
        }
    }

    /// A table of embeddings of this size that is an output's weight as well. From N(0, 1) logits would be far from even; as
    /// the weight of an affine layer they are not.
    pub fn tied(self, size: usize) -> Init {
        match self {
            Self::Pytorch => self.affine(size),
            Self::Book | Self::Awd | Self::Uniform(_) => self.embedding(),
        }
    }
}

fn symmetric(range: f64) -> Init {
    Init::Uniform { lo: -range, up: range }
}

fn inverse_root(n: usize) -> f64 {
    1.0 / (n as f64).sqrt()
}
