//! A training: step after step with a rate that changes, the mean of the weights where it is wanted, an end before the
//! weights are spoilt, and a place from which it goes on with the same bits.

use super::{Average, Checkpoint, Grad, MeanGrad, NonMonotone, Optimizer, Rate, Values};
use crate::data::Window;
use crate::error;
use crate::{Error, LanguageModel, Result};
use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

/// When the mean of the weights begins, which is what is then evaluated and kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Averaging {
    /// Never.
    #[default]
    Never,
    /// After so many steps: the next one is the first that counts.
    After(u64),
    /// Once evaluations get no better: NT-ASGD (Merity, Keskar & Socher 2018).
    NonMonotone(NonMonotone),
}

/// Trains a model window by window.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::Way;
/// use rnn_lm::data::{Batches, Streams};
/// use rnn_lm::model::{CellKind, LmSpec, build};
/// use rnn_lm::train::{Adam, Optimizer, Trainer};
/// let ids: Vec<u32> = (0..60).map(|i| i % 5).collect();
/// let mut model = build(CellKind::Gru, &LmSpec::new(5, 4, 8), Way::Fused, (DType::F32, &Device::Cpu), 1)?;
/// let mut trainer = Trainer::new(Optimizer::new(Adam::default(), 0.02));
/// for epoch in 0..9 {
///     for window in Streams::new(&ids, 2, 7)?.epoch(epoch) {
///         trainer.step(model.as_mut(), &window?)?;
///     }
///     trainer.epoch_ends(model.as_mut())?;
/// }
/// assert!(model.evaluate(&ids, 16)?.perplexity() < 2.0);
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Trainer {
    optimizer: Optimizer,
    rate: Rate,
    averaging: Averaging,
    average: Average,
    /// Whether each step's weights are taken into the mean.
    averages: bool,
    /// Windows whose gradients make a step, and the mean of those taken in since the last one.
    every: usize,
    mean: MeanGrad,
    /// The sum of those windows' shares of the rate.
    shares: f64,
    steps: u64,
    epochs: usize,
    /// Windows read of the epoch that goes on.
    read: usize,
}

/// What a checkpoint has beside its tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Numbers {
    steps: u64,
    epochs: usize,
    read: usize,
    windows: u64,
    optimizer: u64,
    rate: Rate,
    averages: bool,
    averaged: u64,
    /// None for one that is not finite, which JSON has no word for.
    losses: Vec<Option<f64>>,
    accumulated: (f64, usize),
    shares: f64,
}

impl Trainer {
    /// A training that has done nothing yet, at the optimiser's rate.
    pub fn new(optimizer: Optimizer) -> Self {
        let rate = Rate::constant(optimizer.lr);
        let (averaging, average) = (Averaging::Never, Average::default());
        let (every, mean) = (1, MeanGrad::default());
        Self {
            optimizer,
            rate,
            averaging,
            average,
            averages: false,
            every,
            mean,
            shares: 0.0,
            steps: 0,
            epochs: 0,
            read: 0,
        }
    }

    /// At a rate that changes, which takes the place of the optimizer's from the first step on.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        Self { rate, ..self }
    }

    /// With a mean of the weights.
    #[must_use]
    pub fn averaging(self, averaging: Averaging) -> Self {
        Self { averaging, ..self }
    }

    /// With so many windows a step: the mean of their gradients is that of one window with all their targets. The last step of
    /// an epoch has those that are left.
    ///
    /// # Errors
    /// Where there is none.
    pub fn accumulate(self, windows: usize) -> Result<Self> {
        match windows {
            0 => Err(Error::invalid("Trainer::accumulate: windows", "at least 1", 0)),
            every => Ok(Self { every, ..self }),
        }
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Windows read of the epoch that goes on: the number of the one that is next.
    pub fn read(&self) -> usize {
        self.read
    }

    /// Epochs that have ended.
    pub fn epochs(&self) -> usize {
        self.epochs
    }

    /// The rate of the next step, before the factor of its windows' lengths ([`Window::share`]).
    pub fn lr(&self) -> f64 {
        self.rate.at(self.epochs, self.steps)
    }

    /// Takes in a window, and makes a step where that is due; gives the window's mean loss before it.
    ///
    /// # Errors
    /// [`Error::Diverged`] where the loss or the gradients' norm is not finite, before any weight has been touched;
    /// and those of the model.
    pub fn step(&mut self, model: &mut dyn LanguageModel, window: &Window) -> Result<f64> {
        let loss = model.forward(window)?;
        if !loss.is_finite() {
            return Err(Error::Diverged { step: self.next_step(), what: "loss", value: loss });
        }
        model.backward()?;
        let together = self.every > 1;
        if together {
            model.add_gradients(&mut self.mean, window.targets as f64)?;
        }
        self.read += 1;
        self.shares += window.share;
        if !together || self.mean.windows() >= self.every {
            self.update(model)?;
        }
        Ok(loss)
    }

    /// An epoch is over: windows that wait for others make a step without them, and schedules that count epochs go on.
    ///
    /// # Errors
    /// Those of a [`Self::step`].
    pub fn epoch_ends(&mut self, model: &mut dyn LanguageModel) -> Result<()> {
        if self.mean.windows() > 0 {
            self.update(model)?;
        }
        self.epochs += 1;
        self.read = 0;
        Ok(())
    }

    /// The number of the next step, counted from 1.
    fn next_step(&self) -> usize {
        usize::try_from(self.steps).unwrap_or(usize::MAX).saturating_add(1)
    }

    /// Makes a step of the windows that were taken in since the last one.
    fn update(&mut self, model: &mut dyn LanguageModel) -> Result<()> {
        let gathered = self.mean.windows();
        self.optimizer.lr = self.lr() * std::mem::take(&mut self.shares) / gathered.max(1) as f64;
        let updated = if gathered > 0 {
            let grads = self.mean.grads().iter().map(|mean| Grad::Dense(Values::Tensor(mean)));
            self.optimizer.step(&vars(model), &grads.collect::<Vec<_>>())
        } else {
            model.update(&mut self.optimizer)
        };
        self.mean.clear();
        updated.map_err(|error| match error {
            Error::Diverged { what, value, .. } => Error::Diverged { step: self.next_step(), what, value },
            other => other,
        })?;
        self.averages |= matches!(self.averaging, Averaging::After(steps) if self.steps >= steps);
        if self.averages {
            self.average.add(&vars(model))?;
        }
        self.steps += 1;
        Ok(())
    }

    /// Does `f` with a model that has the mean of the weights, where there is one, and gives it its own back.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn with_average<R>(
        &self,
        model: &mut dyn LanguageModel,
        f: impl FnOnce(&mut dyn LanguageModel) -> Result<R>,
    ) -> Result<R> {
        if self.average.count() == 0 {
            return f(model);
        }
        let weights = vars(model);
        self.average.exchange(&weights)?;
        let result = f(model);
        self.average.exchange(&weights)?;
        result
    }

    /// Takes in the loss of an evaluation, on which the rate and the mean may depend; says whether it is the best so far.
    pub fn observe(&mut self, loss: f64) -> bool {
        if let Averaging::NonMonotone(rule) = &mut self.averaging {
            self.averages |= rule.begins(loss);
        }
        self.rate.observe(loss)
    }

    /// The best loss taken in, if any was.
    pub fn best(&self) -> Option<f64> {
        self.rate.best()
    }

    /// Evaluations since the best one.
    pub fn since_best(&self) -> usize {
        self.rate.since_best()
    }

    /// Where it stands: of the model its weights, its state and its number of windows too.
    ///
    /// # Errors
    /// Those of candle.
    pub fn checkpoint(&self, model: &dyn LanguageModel) -> Result<Checkpoint> {
        let losses = match &self.averaging {
            Averaging::NonMonotone(rule) => rule.losses(),
            _ => &[],
        };
        let losses = losses.iter().map(|&loss| Some(loss).filter(|loss| loss.is_finite())).collect();
        let mut checkpoint = Checkpoint::new(&Numbers {
            steps: self.steps,
            epochs: self.epochs,
            read: self.read,
            windows: model.windows(),
            optimizer: self.optimizer.steps(),
            rate: self.rate,
            averages: self.averages,
            averaged: self.average.count(),
            losses,
            accumulated: (self.mean.weight(), self.mean.windows()),
            shares: self.shares,
        })?;
        let parameters = model.parameters();
        let names: Vec<String> = parameters.iter().map(|(name, _)| name.clone()).collect();
        checkpoint.put("model", parameters.iter().map(|(name, var)| (name.as_str(), var.as_tensor())))?;
        checkpoint.put("optimizer", borrowed(&self.optimizer.state(&names)?))?;
        let means = self.average.means().iter().map(|mean| mean.as_tensor());
        checkpoint.put("average", names.iter().map(String::as_str).zip(means))?;
        if self.mean.windows() > 0 {
            let means = self.mean.grads().iter().map(|mean| mean.as_tensor());
            checkpoint.put("gradient", names.iter().map(String::as_str).zip(means))?;
        }
        checkpoint.put("state", borrowed(&model.state()?))?;
        Ok(checkpoint)
    }

    /// Goes on from there, with the bits that it would have had; trainer and model are made as they were then.
    ///
    /// # Errors
    /// Where something is missing, too much, or does not fit; nothing has been changed then.
    pub fn resume(&mut self, model: &mut dyn LanguageModel, checkpoint: &Checkpoint) -> Result<()> {
        let numbers: Numbers = checkpoint.numbers()?;
        let parameters = model.parameters();
        self.check_none_too_many(&parameters, checkpoint, &numbers)?;
        let found = |prefix: &str| -> Result<Vec<Tensor>> {
            let of = |(name, var): &(String, Var)| fitting(checkpoint, &format!("{prefix}.{name}"), var);
            parameters.iter().map(of).collect()
        };
        let weights = found("model")?;
        let means = if numbers.averaged > 0 { found("average")? } else { Vec::new() };
        let (weight, windows) = numbers.accumulated;
        let gradients = if windows > 0 { found("gradient")? } else { Vec::new() };
        let before = model.state()?;
        model.set_state(&checkpoint.under("state"))?;
        let kept = |name: &str| checkpoint.get(&format!("optimizer.{name}"));
        if let Err(error) = self.optimizer.resume(numbers.optimizer, &parameters, kept) {
            model.set_state(&before)?;
            return Err(error);
        }
        for ((_, var), weight) in parameters.iter().zip(&weights) {
            var.set(weight)?;
        }
        let vars =
            |tensors: &[Tensor]| tensors.iter().map(Var::from_tensor).collect::<candle_core::Result<_>>();
        self.average = Average::resume(&means, numbers.averaged)?;
        self.mean = MeanGrad::resume(vars(&gradients)?, weight, windows);
        self.shares = numbers.shares;
        if let Averaging::NonMonotone(rule) = &mut self.averaging {
            // Neither infinity nor what is not a number is ever the best of them.
            rule.resume(numbers.losses.into_iter().map(|loss| loss.unwrap_or(f64::INFINITY)).collect());
        }
        model.seek(numbers.windows);
        (self.rate, self.averages) = (self.rate.resume(numbers.rate), numbers.averages);
        (self.steps, self.epochs, self.read) = (numbers.steps, numbers.epochs, numbers.read);
        Ok(())
    }

    /// Whether all that a checkpoint has is wanted: nothing is of another model, another rule, a mean that is not taken, or a
    /// step of more windows.
    fn check_none_too_many(
        &self,
        parameters: &[(String, Var)],
        checkpoint: &Checkpoint,
        numbers: &Numbers,
    ) -> Result<()> {
        let names = || parameters.iter().map(|(name, _)| name.as_str());
        for (prefix, known) in
            [("model", names().map(str::to_string).collect()), ("optimizer", self.optimizer.names(names()))]
        {
            let odd = checkpoint.under(prefix).into_iter().map(|(name, _)| name);
            let odd: Vec<String> = odd.filter(|name| !known.contains(name)).collect();
            if !odd.is_empty() {
                let want = format!("the {} tensors that there are of the {prefix}", known.len());
                return Err(Error::invalid("Trainer::resume", want, format!("{} too", odd.join(", "))));
            }
        }
        let averaging = numbers.averages || numbers.averaged > 0 || !numbers.losses.is_empty();
        if averaging && matches!(self.averaging, Averaging::Never) {
            let want = "no mean of the weights, which is never taken";
            return Err(Error::invalid("Trainer::resume", want, "one"));
        }
        let (_, windows) = numbers.accumulated;
        if windows > 0 && windows >= self.every {
            let want = format!("fewer windows waiting for a step than the {} that make one", self.every);
            return Err(Error::invalid("Trainer::resume", want, windows));
        }
        Ok(())
    }
}

fn vars(model: &dyn LanguageModel) -> Vec<Var> {
    model.parameters().into_iter().map(|(_, var)| var).collect()
}

fn borrowed(tensors: &[(String, Tensor)]) -> impl Iterator<Item = (&str, &Tensor)> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
}

/// The tensor of this name, where the parameter is and like it.
fn fitting(checkpoint: &Checkpoint, name: &str, like: &Var) -> Result<Tensor> {
    error::like(format!("Trainer::resume: {name}"), Some(&checkpoint.get(name)?), like)
}
