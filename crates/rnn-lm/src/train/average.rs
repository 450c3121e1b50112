//! The mean of the weights that a training went through (Polyak & Juditsky 1992), and when to begin with it.

use super::optimizer::exchange;
use crate::{Error, Result};
use candle_core::{Tensor, Var};

/// The mean of weights over steps.
///
/// ```
/// use candle_core::{Device, Var};
/// use rnn_lm::train::Average;
/// let weights = [Var::new(&[1.0, 2.0], &Device::Cpu)?];
/// let mut average = Average::default();
/// average.add(&weights)?;
/// weights[0].set(&candle_core::Tensor::new(&[3.0, 2.0], &Device::Cpu)?)?;
/// average.add(&weights)?;
/// average.exchange(&weights)?; // the model has the mean now
/// assert_eq!(weights[0].to_vec1::<f64>()?, [2.0, 2.0]);
/// average.exchange(&weights)?; // and its own weights again
/// assert_eq!(weights[0].to_vec1::<f64>()?, [3.0, 2.0]);
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct Average {
    means: Vec<Var>,
    count: u64,
}

impl Average {
    /// How many steps' weights it is of.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes in the weights after a step.
    ///
    /// # Errors
    /// Those of candle, and where there are other weights than before.
    pub fn add(&mut self, weights: &[Var]) -> Result<()> {
        if self.count == 0 {
            self.means = copies(weights.iter().map(Var::as_tensor))?;
            self.count = 1;
            return Ok(());
        }
        self.check(weights)?;
        self.count += 1;
        for (mean, weight) in self.means.iter().zip(weights) {
            super::optimizer::towards(mean, weight, 1.0 / self.count as f64)?;
        }
        Ok(())
    }

    /// The weights become the mean and the mean keeps them, until it is called again: for an evaluation in between.
    ///
    /// # Errors
    /// Where nothing was taken in yet, or there are other weights than before.
    pub fn exchange(&self, weights: &[Var]) -> Result<()> {
        self.check(weights)?;
        self.means.iter().zip(weights).try_for_each(|(mean, weight)| exchange(mean, weight))
    }

    /// The mean of each parameter; none before the first step that is taken in.
    pub fn means(&self) -> &[Var] {
        &self.means
    }

    /// Goes on from means over `count` steps. They are copied: a model's own weights would change with every step.
    ///
    /// # Errors
    /// Those of candle.
    pub fn resume<'a>(means: impl IntoIterator<Item = &'a Tensor>, count: u64) -> Result<Self> {
        Ok(Self { means: copies(means)?, count })
    }

    fn check(&self, weights: &[Var]) -> Result<()> {
        let shapes = |vars: &[Var]| vars.iter().map(|var| var.dims().to_vec()).collect::<Vec<_>>();
        match shapes(&self.means) == shapes(weights) {
            true => Ok(()),
            false => {
                let want = format!("the {} parameters that it is of", self.means.len());
                Err(Error::invalid("Average: weights", want, weights.len()))
            }
        }
    }
}

fn copies<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<Vec<Var>> {
    // Detached, for what is a variable already would be taken as it is.
    tensors.into_iter().map(|tensor| Ok(Var::from_tensor(&tensor.detach())?)).collect()
}

/// Begins once an evaluation is worse than the best of those before the last `patience`: the rule of NT-ASGD (Merity, Keskar &
/// Socher 2018).
///
/// ```
/// use rnn_lm::train::NonMonotone;
/// let mut rule = NonMonotone::new(2);
/// let begins: Vec<bool> = [5.0, 4.0, 4.5, 4.2, 4.1].into_iter().map(|loss| rule.begins(loss)).collect();
/// assert_eq!(begins, [false, false, false, false, true]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct NonMonotone {
    patience: usize,
    losses: Vec<f64>,
}

impl NonMonotone {
    /// With the number of evaluations that are waited for; the paper has 5.
    pub fn new(patience: usize) -> Self {
        Self { patience, losses: Vec::new() }
    }

    /// Takes in what an evaluation gave; says whether it is worse than the best of those before the last `patience`.
    pub fn begins(&mut self, loss: f64) -> bool {
        let before = self.losses.len().saturating_sub(self.patience);
        let best = self.losses[..before].iter().copied().fold(f64::INFINITY, f64::min);
        self.losses.push(loss);
        loss > best
    }

    /// Goes on from what was taken in before.
    pub fn resume(&mut self, losses: Vec<f64>) {
        self.losses = losses;
    }

    /// What was taken in so far.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_mean_that_goes_on_from_the_weights_themselves_is_none_of_them() {
        let weights = [Var::new(&[1.0, 2.0], &Device::Cpu).unwrap()];
        let mut average = Average::resume(weights.iter().map(Var::as_tensor), 1).unwrap();
        weights[0].set(&Tensor::new(&[3.0, 2.0], &Device::Cpu).unwrap()).unwrap();
        average.add(&weights).unwrap();
        assert_eq!(average.means()[0].to_vec1::<f64>().unwrap(), [2.0, 2.0]);
    }
}
