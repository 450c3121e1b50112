//! How large each weight's gradient is on the training text.

use super::rule::{SQUARE, Squares};
use super::{drops_nothing, step, undone};
use crate::data::Window;
use crate::evaluate::Progress;
use crate::train::Optimizer;
use crate::{Error, LanguageModel, Result};
use candle_core::{DType, Tensor};

/// The root mean square of each weight's gradients over some windows, and the mean of all these roots.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::Way;
/// use rnn_lm::data::{Batches, Streams};
/// use rnn_lm::evaluate::{Dynamic, DynamicRule, GradientRms};
/// use rnn_lm::model::{CellKind, LmSpec, build};
/// let training: Vec<u32> = (0..200).map(|i| i % 9).collect();
/// let text = [3, 5, 7].repeat(10);
/// let mut model = build(CellKind::Gru, &LmSpec::new(9, 4, 8), Way::Fused, (DType::F32, &Device::Cpu), 1)?;
/// let windows = Streams::new(&training, 1, 5)?;
/// let gradients = GradientRms::collect(model.as_mut(), &mut windows.epoch(0), None)?;
/// let rule = DynamicRule::Rms { gradients, epsilon: 1e-3 };
/// let dynamic = Dynamic { time: 2, lr: 2e-3, decay: 0.01, rule };
/// let perplexity = dynamic.evaluate(model.as_mut(), &text, None)?.perplexity();
/// assert!(perplexity < model.evaluate(&text, 9)?.perplexity());
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct GradientRms {
    rms: Vec<(String, Tensor)>,
    mean: f64,
}

impl GradientRms {
    /// Over `windows`, whose gradients count alike however long they are. The paper's come from the training
    /// text in segments as long as those of the evaluation; several rows to a window are faster, and make
    /// gradients smaller. The model stays what it is.
    ///
    /// # Errors
    /// Where the model drops something or adds to the loss; where there is no window or no gradient in any;
    /// and those of the model.
    pub fn collect(
        model: &mut dyn LanguageModel,
        windows: &mut dyn Iterator<Item = Result<Window>>,
        mut progress: Progress<'_>,
    ) -> Result<Self> {
        drops_nothing("GradientRms", model)?;
        let mut squares = Optimizer::new(Squares, 0.0);
        undone(model, |model| {
            let mut done = 0;
            for window in windows {
                let window = window?;
                step("GradientRms", model, &window, &mut squares, done)?;
                done += window.targets;
                if let Some(progress) = &mut progress {
                    progress(done);
                }
            }
            Ok(())
        })?;
        let names: Vec<String> = model.parameters().into_iter().map(|(name, _)| name).collect();
        let (mut rms, mut sum, mut count) = (Vec::new(), 0.0, 0);
        for (name, square) in squares.state(&names)? {
            let name = name.strip_prefix(SQUARE).and_then(|name| name.strip_prefix('.')).unwrap_or(&name);
            let root = square.sqrt()?;
            sum += root.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
            count += root.elem_count();
            rms.push((name.to_string(), root));
        }
        let mean = sum / count as f64;
        if !(mean > 0.0 && mean.is_finite()) {
            let want = "windows with gradients that are not all zero";
            return Err(Error::invalid("GradientRms", want, format!("a mean of {mean}")));
        }
        Ok(Self { rms, mean })
    }

    /// The mean over all weights, so that what the decay is multiplied with has a mean of 1. The authors' program
    /// divides by the mean of per-parameter means, so its `decay` values do not carry over.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The root mean squares of a parameter's gradients, in its shape.
    pub fn of(&self, name: &str) -> Option<&Tensor> {
        self.rms.iter().find(|(other, _)| other == name).map(|(_, rms)| rms)
    }
}
