//! Recurrent language models: an embedding, a stack of recurrent layers, an affine layer and the loss, or an adaptive softmax
//! for these two.
//!
//! [`Rnnlm`] is the model; [`LanguageModel`] what a trainer asks of it, whatever its cell; [`build`] makes one by name.
//! How forward and backward run is an engine's affair: `chain` (fused kernels, buffers allocated once), `manual` (layer
//! after layer through tensors, with dropout) and `graph` (candle's autograd, the reference).

mod chain;
mod dropout;
mod ends;
mod graph;
mod head;
mod infer;
mod kind;
mod manual;
pub(crate) mod names;
mod net;
mod read;
mod rnnlm;
mod stream;

pub use crate::evaluate::Evaluation;
pub use dropout::Dropout;
pub use kind::{CellKind, build};
pub use net::LmSpec;
pub use read::Reading;
pub use rnnlm::{Rnnlm, SimpleRnnlm};
pub use stream::LmStream;

use crate::Result;
use crate::data::Window;
use crate::generate::Sampling;
use crate::train::{Grad, MeanGrad, Optimizer};
use candle_core::{Tensor, Var};
use rnn_core::Way;

/// What training and use ask of a language model.
pub trait LanguageModel: Send {
    /// The mean loss in nats per target of a window, plus the penalties of [`Self::dropout`]; keeps what
    /// [`Self::backward`] needs, and carries the state on.
    ///
    /// # Errors
    /// Where an id is outside the vocabulary, no target counts, or sizes do not fit; the state is then what it was,
    /// or zero where [`Window::first`] is set.
    fn forward(&mut self, window: &Window) -> Result<f64>;

    /// What of the last forward's loss was penalties; the rest is the mean loss in nats per target.
    fn penalty(&self) -> f64;

    /// The gradient of every parameter, of the last forward's loss.
    ///
    /// # Errors
    /// Where there was no forward.
    fn backward(&mut self) -> Result<()>;

    /// One step of `optimizer` with the last backward's gradients; gives their norm before clipping.
    ///
    /// # Errors
    /// Where there was no backward, or the norm is not finite: no weight has been touched then.
    fn update(&mut self, optimizer: &mut Optimizer) -> Result<f64>;

    /// Adds the last backward's gradients to a mean, with this weight.
    ///
    /// # Errors
    /// Where there was no backward.
    fn add_gradients(&self, mean: &mut MeanGrad, weight: f64) -> Result<()>;

    /// The next window begins with a state of zeros.
    fn reset_state(&mut self);

    /// Name and tensor of each part of the state that the next window begins with, such as `h_l0` and `c_l0`:
    /// `[N, H]`, and of the last layer `[N, last]` where the [`LmSpec`] has a `last`. Empty where the state is zero.
    ///
    /// # Errors
    /// Those of candle.
    fn state(&self) -> Result<Vec<(String, Tensor)>>;

    /// Goes on from a state that [`Self::state`] gave.
    ///
    /// # Errors
    /// Where a part is missing, or has another shape or type; the state is then what it was.
    fn set_state(&mut self, state: &[(String, Tensor)]) -> Result<()>;

    /// How many windows went forward: what is dropped in the next one depends on it, and on the seed.
    fn windows(&self) -> u64;

    /// As if so many windows had gone forward.
    fn seek(&mut self, windows: u64);

    /// Name and variable of each parameter, in order: `embedding.weight`, `rnn.*`, `affine.weight` where it
    /// is not tied to the first, `affine.bias`; of an adaptive softmax `affine.head.weight` and `affine.tail.*` instead of
    /// these two.
    fn parameters(&self) -> Vec<(String, Var)>;

    /// Name and gradient of each parameter in the same order, after a backward. Copies; for looking, not for training.
    ///
    /// # Errors
    /// Where there was no backward.
    fn gradients(&self) -> Result<Vec<(String, Tensor)>>;

    /// The loss of `ids` as one stream with a state that begins at zero: every prediction `(ids[i], ids[i + 1])`
    /// once, in windows of `time` steps, which change nothing but the memory it takes. Nothing is dropped, and no
    /// penalty added.
    ///
    /// # Errors
    /// Where there are fewer than two ids, one is outside the vocabulary, or `time` is 0.
    fn evaluate(&self, ids: &[u32], time: usize) -> Result<Evaluation>;

    /// Reads window after window and tells `each` what it made of it: what every measure of a text is made from,
    /// see [`crate::evaluate`]. The state is carried from one to the next, from zero where a window is a first one;
    /// that of [`Self::forward`] is another and stays what it is. Nothing is dropped.
    ///
    /// # Errors
    /// Where an id is outside the vocabulary, or sizes do not fit; and those of `each`.
    fn read(
        &self,
        windows: &mut dyn Iterator<Item = Result<Window>>,
        each: &mut dyn FnMut(&Reading<'_>) -> Result<()>,
    ) -> Result<()>;

    /// What is expected after each of `ids`, read as one stream from a state of zeros: V probabilities a position.
    ///
    /// # Errors
    /// Where there is no id, or one is outside the vocabulary.
    fn probabilities(&self, ids: &[u32]) -> Result<Vec<Vec<f64>>>;

    /// `count` ids drawn one after the other, after those of `prompt`; [`crate::generate::Writing`] gives them as they come.
    ///
    /// # Errors
    /// Where the prompt is empty, an id is outside the vocabulary, a setting is not what [`Sampling::check`] expects, or
    /// there is nothing to draw from.
    fn generate(&self, prompt: &[u32], count: usize, sampling: &Sampling) -> Result<Vec<u32>>;

    /// The model one word at a time, for `rows` texts side by side, from a state of zeros.
    ///
    /// # Errors
    /// Where `rows` is 0.
    fn stream(&self, rows: usize) -> Result<Box<dyn LmStream + '_>>;

    /// The size of the vocabulary, V.
    fn vocabulary(&self) -> usize;

    /// What [`Self::forward`] drops, and adds to the loss.
    fn dropout(&self) -> Dropout;

    /// The way that runs.
    fn way(&self) -> Way;
}

/// One window's forward and backward, in one way. The window has been checked, against the carried state too.
trait Engine: Send {
    fn forward(&mut self, window: &Window, draw: dropout::Draw) -> Result<f64>;
    /// Of the last forward.
    fn penalty(&self) -> f64 {
        0.0
    }
    fn backward(&mut self) -> Result<()>;
    fn reset_state(&mut self);
    /// The parts of the state, layer after layer, as the cells name them; `None` where it is zero.
    fn state(&self) -> Result<Option<Vec<Tensor>>>;
    /// The same parts, of the right shapes.
    fn set_state(&mut self, parts: Vec<Tensor>) -> Result<()>;
    /// In the order of the parameters; `None` before a backward.
    fn grads(&self) -> Option<Vec<Grad<'_>>>;
}
