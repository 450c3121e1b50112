//! One step of a rule over all parameters, in place: clipping, decay, what is kept between steps, and rows.
//!
//! A gradient of rows is one of zeros elsewhere, whatever the rule: a row without a gradient still loses by decay and moves
//! with its momentum. Where neither is, it is left alone, which is the same.

use super::rule::{MAX_KEPT, Rule};
use super::update::{AnyRule, At, BLOCK};
use super::{Clip, Grad, Values};
use crate::error::{self, at_least_zero};
use crate::{Error, Result};
use candle_core::{DType, Tensor, Var};
use rnn_core::device_name;
use rnn_core::kernels::profile::part;
use rnn_core::kernels::{Real, lend, team};

/// How weights shrink by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Decay {
    /// They do not.
    #[default]
    None,
    /// `l`: the gradient becomes `g + l w`, which is that of the loss with `l/2 |w|^2` added.
    Coupled(f64),
    /// `l`: the weight becomes `w (1 - lr l)` before the rule (Loshchilov & Hutter 2019, AdamW).
    Decoupled(f64),
}

/// A rule with its settings, and what it keeps between steps.
///
/// ```
/// use candle_core::{Device, Var};
/// use rnn_lm::train::{Grad, Optimizer, Sgd, Values};
/// let weight = Var::new(&[1f64, 2.0], &Device::Cpu)?;
/// let mut sgd = Optimizer::new(Sgd { momentum: 0.9, nesterov: false }, 0.1);
/// let grads = [Grad::Dense(Values::F64(&[1.0, 0.0]))];
/// for _ in 0..2 {
///     sgd.step(std::slice::from_ref(&weight), &grads)?;
/// }
/// assert_eq!(weight.to_vec1::<f64>()?, [1.0 - 0.1 - 0.19, 2.0]);
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Optimizer {
    /// The learning rate.
    pub lr: f64,
    clip: Clip,
    decay: Decay,
    rule: Box<dyn AnyRule>,
    /// What is kept, of each parameter; none before the first step.
    kept: Vec<Vec<Var>>,
    steps: u64,
}

impl Optimizer {
    /// Without clipping and decay.
    pub fn new(rule: impl Rule, lr: f64) -> Self {
        let (clip, decay) = (Clip::None, Decay::None);
        Self { lr, clip, decay, rule: Box::new(rule), kept: Vec::new(), steps: 0 }
    }

    /// With gradients clipped.
    #[must_use]
    pub fn clip(self, clip: Clip) -> Self {
        Self { clip, ..self }
    }

    /// With decay.
    #[must_use]
    pub fn decay(self, decay: Decay) -> Self {
        Self { decay, ..self }
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One step in place; gives the norm of all gradients before clipping.
    ///
    /// # Errors
    /// [`Error::Diverged`] where the norm is not finite; and where there is not one gradient a parameter, or it has another shape
    /// or is on another device; where a parameter is neither f32 nor f64, or they are not those of the steps before; and where the
    /// rate, or a number of the rule, of clipping or of decay, is out of its range. No weight has been touched then.
    pub fn step(&mut self, params: &[Var], grads: &[Grad<'_>]) -> Result<f64> {
        if params.len() != grads.len() {
            let want = format!("{}, one a parameter", params.len());
            return Err(Error::invalid("Optimizer: gradients", want, grads.len()));
        }
        params.iter().zip(grads).try_for_each(|(param, grad)| check("Optimizer", param, grad))?;
        self.check()?;
        self.check_kept(params)?;
        let norm = part("norm", 0, || super::global_norm(grads))?;
        if !norm.is_finite() {
            let step = usize::try_from(self.steps + 1).unwrap_or(usize::MAX);
            return Err(Error::Diverged { step, what: "gradient norm", value: norm });
        }
        if self.kept.is_empty() {
            self.kept = params.iter().map(|param| self.begin(param)).collect::<Result<_>>()?;
        }
        let at = At {
            lr: self.lr,
            step: self.steps + 1,
            scale: self.clip.scale(norm),
            most: self.clip.most(),
            decay: self.decay,
        };
        let copies = apart(params, grads)?;
        let grads = grads.iter().zip(&copies).map(|(grad, copy)| match copy {
            Some(copy) => grad.with(Values::Tensor(copy)),
            None => *grad,
        });
        part("update", 0, || {
            let mut all = params.iter().zip(grads).zip(&self.kept);
            all.try_for_each(|((param, grad), kept)| self.update(at, param, &grad, kept))
        })?;
        self.steps += 1;
        Ok(norm)
    }

    /// A backward through candle's graph, and one step with its gradients: clipping, decay and every rule for models of a
    /// user's own. A parameter that the loss does not depend on has a gradient of zeros. Gives the norm of all gradients before
    /// clipping.
    ///
    /// ```
    /// use candle_core::{Device, Var};
    /// use rnn_lm::train::{Clip, Optimizer, Sgd};
    /// let weight = Var::new(&[3f64, 4.0], &Device::Cpu)?;
    /// let mut sgd = Optimizer::new(Sgd::default(), 0.5).clip(Clip::Norm(1.0));
    /// let loss = (weight.sqr()?.sum_all()? * 0.5)?;
    /// let norm = sgd.backward_step(std::slice::from_ref(&weight), &loss)?;
    /// assert_eq!(norm, 5.0); // and the step is half a unit towards 0
    /// assert!((weight.to_vec1::<f64>()?[1] - (4.0 - 0.5 * 0.8)).abs() < 1e-5);
    /// # rnn_lm::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Self::step`], and those of candle.
    #[doc(alias = "clip_grad_norm")]
    pub fn backward_step(&mut self, params: &[Var], loss: &Tensor) -> Result<f64> {
        let store = loss.backward()?;
        let of = |param: &Var| match store.get(param) {
            Some(grad) => Ok(grad.clone()),
            None => param.zeros_like(),
        };
        let all = params.iter().map(of).collect::<candle_core::Result<Vec<_>>>()?;
        let grads: Vec<_> = all.iter().map(|grad| Grad::Dense(Values::Tensor(grad))).collect();
        self.step(params, &grads)
    }

    /// Whether the settings are in their ranges.
    fn check(&self) -> Result<()> {
        if !self.lr.is_finite() {
            return Err(Error::invalid("Optimizer: lr", "a number", self.lr));
        }
        self.clip.check()?;
        match self.decay {
            Decay::None => {}
            Decay::Coupled(by) => drop(at_least_zero("Decay::Coupled", by)?),
            Decay::Decoupled(by) => drop(at_least_zero("Decay::Decoupled", by)?),
        }
        if self.rule.kept().len() > MAX_KEPT {
            let want = format!("at most {MAX_KEPT} names");
            return Err(Error::invalid("Rule::kept", want, self.rule.kept().len()));
        }
        self.rule.check()
    }

    /// Whether what is kept is of these parameters.
    fn check_kept(&self, params: &[Var]) -> Result<()> {
        let (kept, hint) = (self.kept.len(), "each model has an optimizer of its own");
        if kept > 0 && kept != params.len() {
            let want = format!("{kept}, as many as in the steps before");
            return Err(Error::invalid("Optimizer: parameters", want, params.len()).hint(hint));
        }
        // All that is kept of a parameter is of its shape; of none where the rule keeps nothing.
        let before = || self.kept.iter().filter_map(|kept| kept.first()).map(|var| var.dims());
        let now = || params.iter().map(|var| var.dims());
        if before().next().is_none() || before().eq(now()) {
            return Ok(());
        }
        let want = format!("{:?}, those of the steps before", before().collect::<Vec<_>>());
        let got = format!("{:?}", now().collect::<Vec<_>>());
        Err(Error::invalid("Optimizer: parameters", want, got).hint(hint))
    }

    /// The names of what is kept of parameters with these `names`.
    pub(super) fn names<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        names.flat_map(|name| self.rule.kept().iter().map(move |what| format!("{what}.{name}"))).collect()
    }

    fn begin(&self, param: &Var) -> Result<Vec<Var>> {
        self.rule.kept().iter().map(|_| Ok(Var::from_tensor(&param.zeros_like()?.detach())?)).collect()
    }

    fn update(&self, at: At, param: &Var, grad: &Grad<'_>, kept: &[Var]) -> Result<()> {
        if !param.device().is_cpu() {
            return self.in_ops(at, param, grad, kept);
        }
        match (grad.values(), param.dtype()) {
            (Values::F32(values), _) => self.rule.f32(at, param, (grad, values), kept),
            (Values::F64(values), _) => self.rule.f64(at, param, (grad, values), kept),
            (Values::Tensor(tensor), DType::F64) => {
                self.rule.f64(at, param, (grad, lend::read(&tensor.contiguous()?)?.slice()), kept)
            }
            (Values::Tensor(tensor), _) => {
                self.rule.f32(at, param, (grad, lend::read(&tensor.contiguous()?)?.slice()), kept)
            }
        }
    }

    /// The same in tensor ops, on any device.
    fn in_ops(&self, at: At, param: &Var, grad: &Grad<'_>, kept: &[Var]) -> Result<()> {
        let mut weight = param.as_tensor().detach();
        let mut grad = grad.dense(param)?;
        if at.scale != 1.0 {
            grad = (grad * at.scale)?;
        }
        if at.most.is_finite() {
            grad = grad.clamp(-at.most, at.most)?;
        }
        match at.decay {
            Decay::None => {}
            Decay::Coupled(by) => grad = (grad + (&weight * by)?)?,
            Decay::Decoupled(by) => weight = (weight * (1.0 - at.lr * by))?,
        }
        let before: Vec<Tensor> = kept.iter().map(|kept| kept.as_tensor().detach()).collect();
        let (next, after) = self.rule.in_ops((at.lr, at.step), &weight, &grad, &before)?;
        param.set(&next)?;
        for (kept, after) in kept.iter().zip(&after) {
            kept.set(after)?;
        }
        Ok(())
    }

    /// What is kept, for the parameters with these `names`, each under its own and the parameter's: `square.affine.bias`.
    /// Copies. Nothing before the first step, or where the rule keeps nothing.
    ///
    /// # Errors
    /// Those of candle.
    pub fn state(&self, names: &[String]) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::new();
        for (name, kept) in names.iter().zip(&self.kept) {
            for (what, var) in self.rule.kept().iter().zip(kept) {
                state.push((format!("{what}.{name}"), var.as_tensor().copy()?));
            }
        }
        Ok(state)
    }

    /// Goes on after `steps` steps with what was kept then; `find` gives each tensor by the name it has in [`Self::state`].
    ///
    /// # Errors
    /// That of `find`, and where a tensor does not fit its parameter; nothing has been changed then.
    pub fn resume(
        &mut self,
        steps: u64,
        params: &[(String, Var)],
        mut find: impl FnMut(&str) -> Result<Tensor>,
    ) -> Result<()> {
        // Before the first step nothing is kept.
        let kept = if steps > 0 { self.rule.kept() } else { &[] };
        let mut all = Vec::new();
        for (name, param) in params {
            let mut of_parameter = Vec::new();
            for what in kept {
                let name = format!("{what}.{name}");
                let tensor = error::like(format!("Optimizer: {name}"), Some(&find(&name)?), param)?;
                of_parameter.push(Var::from_tensor(&tensor.copy()?)?);
            }
            all.push(of_parameter);
        }
        self.kept = if steps > 0 { all } else { Vec::new() };
        self.steps = steps;
        Ok(())
    }
}

/// Copies of the gradients that are in a parameter's memory: who reads that cannot write it, and a parameter's step would change the
/// gradient of another.
fn apart(params: &[Var], grads: &[Grad<'_>]) -> Result<Vec<Option<Tensor>>> {
    let copy = |grad: &Grad<'_>| match grad.values() {
        Values::Tensor(tensor) if params.iter().any(|param| lend::shared(tensor, param)) => {
            Ok(Some(tensor.copy()?))
        }
        _ => Ok(None),
    };
    grads.iter().map(copy).collect()
}

/// `to += (from - to) * by`, in place.
pub(super) fn towards(to: &Var, from: &Tensor, by: f64) -> Result<()> {
    match (to.device().is_cpu(), to.dtype()) {
        (true, DType::F32) => numbers_towards::<f32>(to, lend::read(from)?.slice(), by),
        (true, DType::F64) => numbers_towards::<f64>(to, lend::read(from)?.slice(), by),
        _ => {
            let step = ((from.detach() - to.as_tensor())? * by)?;
            Ok(to.set(&(to.as_tensor().detach() + step)?)?)
        }
    }
}

/// The same with numbers that are in no tensor.
pub(super) fn numbers_towards<T: Real>(to: &Var, from: &[T], by: f64) -> Result<()> {
    let by = T::from_f64(by);
    Ok(lend::write(to, |to: &mut [T]| {
        team::pieces(to, BLOCK, &|i, to| {
            for (to, &from) in to.iter_mut().zip(&from[i * BLOCK..]) {
                *to += (from - *to) * by;
            }
        });
    })?)
}

/// Each becomes what the other was.
pub(super) fn exchange(a: &Var, b: &Var) -> Result<()> {
    let was = a.as_tensor().copy()?;
    a.set(&b.as_tensor().copy()?)?;
    Ok(b.set(&was)?)
}

/// Of the parameter's shape, or the rows that are named and each of these there, of its type, which is f32 or f64, and where it is.
pub(super) fn check(op: &str, param: &Var, grad: &Grad<'_>) -> Result<()> {
    if !matches!(param.dtype(), DType::F32 | DType::F64) {
        let got = param.dtype().as_str();
        return Err(Error::invalid(format!("{op}: parameter"), "f32 or f64", got)
            .hint("half precision has no room for small steps and their squares: keep the weights in f32"));
    }
    let (got, dtype) = match grad.values() {
        Values::F32(numbers) => (numbers.len(), DType::F32),
        Values::F64(numbers) => (numbers.len(), DType::F64),
        Values::Tensor(tensor) => (tensor.elem_count(), tensor.dtype()),
    };
    if dtype != param.dtype() {
        let (want, got) = (param.dtype().as_str(), dtype.as_str());
        return Err(Error::invalid(format!("{op}: gradient"), want, got));
    }
    let (rows, size) = match grad {
        Grad::Dense(_) => (1, param.elem_count()),
        Grad::Rows { ids, .. } => {
            let rows = param.dims().first().copied().unwrap_or(0);
            if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
                return Err(Error::invalid(format!("{op}: rows"), format!("below {rows}"), id));
            }
            let mut sorted = ids.to_vec();
            sorted.sort_unstable();
            if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(Error::invalid(
                    format!("{op}: rows"),
                    "each once",
                    format!("{} twice", twice[0]),
                ));
            }
            (ids.len(), param.elem_count() / rows.max(1))
        }
    };
    if got != rows * size {
        return Err(Error::invalid(format!("{op}: gradient"), format!("{} numbers", rows * size), got));
    }
    let Values::Tensor(tensor) = grad.values() else { return Ok(()) };
    let mut want = param.dims().to_vec();
    if let (Grad::Rows { ids, .. }, Some(first)) = (grad, want.first_mut()) {
        *first = ids.len();
    }
    if tensor.dims() != want {
        let (want, got) = (format!("{want:?}"), format!("{:?}", tensor.dims()));
        return Err(Error::invalid(format!("{op}: gradient"), want, got));
    }
    // As candle's ops ask it: one GPU may have been opened twice.
    let [want, got] = [param.device(), tensor.device()].map(device_name);
    if got != want {
        return Err(Error::invalid(format!("{op}: gradient"), format!("one on {want}"), got));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
