//! One step of a rule over all parameters, in place: clipping, decay, what is kept between steps, and rows.
//!
//! A gradient of rows is one of zeros elsewhere, whatever the rule: a row without a gradient still loses by decay and moves
//! with its momentum. Where neither is, it is left alone, which is the same.

use super::rule::{MAX_KEPT, Rule};
use super::{Clip, Grad, Values};
use crate::{Error, Result};
use candle_core::{DType, Tensor, Var};
use rnn_core::kernels::dispatch::{self, Instructions, Task};
use rnn_core::kernels::profile::part;
use rnn_core::kernels::{Real, lend, team};
use std::fmt::Debug;

/// Numbers that a member of the team takes at a time.
const BLOCK: usize = 1 << 15;

/// How weights shrink by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Decay {
    /// They do not.
    #[default]
    None,
    /// The gradient gets so many times the weight added: the penalty of its square, halved.
    Coupled(f64),
    /// The weight loses so many times the rate of itself, beside the rule (Loshchilov & Hutter 2019).
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
    /// [`Error::Diverged`] where the norm is not finite; and where there is not one gradient a parameter, or it has another
    /// size. No weight has been touched then.
    pub fn step(&mut self, params: &[Var], grads: &[Grad<'_>]) -> Result<f64> {
        if params.len() != grads.len() {
            let want = format!("{}, one a parameter", params.len());
            return Err(Error::invalid("Optimizer: gradients", want, grads.len()));
        }
        params.iter().zip(grads).try_for_each(|(param, grad)| check(param, grad))?;
        let norm = part("norm", 0, || super::global_norm(grads))?;
        if !norm.is_finite() {
            return Err(Error::Diverged { step: 0, what: "gradient norm", value: norm });
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
        part("update", 0, || {
            let all = params.iter().zip(grads).zip(&self.kept);
            all.into_iter().try_for_each(|((param, grad), kept)| self.update(at, param, grad, kept))
        })?;
        self.steps += 1;
        Ok(norm)
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
            (Values::Tensor(tensor), DType::F32) => {
                self.rule.f32(at, param, (grad, lend::read(&tensor.contiguous()?)?.slice()), kept)
            }
            (Values::Tensor(tensor), DType::F64) => {
                self.rule.f64(at, param, (grad, lend::read(&tensor.contiguous()?)?.slice()), kept)
            }
            _ => self.in_ops(at, param, grad, kept),
        }
    }

    /// The same in tensor ops, on any device.
    fn in_ops(&self, at: At, param: &Var, grad: &Grad<'_>, kept: &[Var]) -> Result<()> {
        let mut weight = param.as_tensor().detach();
        let values = match grad.values() {
            Values::F32(numbers) => Tensor::from_slice(numbers, numbers.len(), param.device())?,
            Values::F64(numbers) => Tensor::from_slice(numbers, numbers.len(), param.device())?,
            Values::Tensor(tensor) => tensor.clone(),
        };
        let mut grad = match grad {
            Grad::Dense(_) => values.reshape(param.shape())?,
            Grad::Rows { ids, .. } => {
                let values = values.reshape((ids.len(), ()))?;
                let ids = Tensor::from_slice(ids, ids.len(), param.device())?;
                weight.zeros_like()?.index_add(&ids, &values, 0)?
            }
        };
        grad = (grad * at.scale)?;
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
        let mut all = Vec::new();
        for (name, param) in params {
            let mut of_parameter = Vec::new();
            for what in self.rule.kept().iter().take(if steps > 0 { MAX_KEPT } else { 0 }) {
                let name = format!("{what}.{name}");
                let tensor = find(&name)?;
                if (tensor.dims(), tensor.dtype()) != (param.dims(), param.dtype()) {
                    let (want, got) = (param.as_tensor(), &tensor);
                    let say = |tensor: &Tensor| format!("{:?} {}", tensor.dims(), tensor.dtype().as_str());
                    return Err(Error::invalid(format!("Optimizer: {name}"), say(want), say(got)));
                }
                of_parameter.push(Var::from_tensor(&tensor.to_device(param.device())?.copy()?)?);
            }
            all.push(of_parameter);
        }
        self.kept = if steps > 0 { all } else { Vec::new() };
        self.steps = steps;
        Ok(())
    }
}

/// `to += (from - to) * by`, in place.
pub(super) fn towards(to: &Var, from: &Var, by: f64) -> Result<()> {
    fn typed<T: Real>(to: &Var, from: &Var, by: f64) -> Result<()> {
        let from = lend::read::<T>(from)?;
        let (from, by) = (from.slice(), T::from_f64(by));
        Ok(lend::write(to, |to: &mut [T]| {
            team::pieces(to, BLOCK, &|i, to| {
                for (to, &from) in to.iter_mut().zip(&from[i * BLOCK..]) {
                    *to += (from - *to) * by;
                }
            });
        })?)
    }
    match (to.device().is_cpu(), to.dtype()) {
        (true, DType::F32) => typed::<f32>(to, from, by),
        (true, DType::F64) => typed::<f64>(to, from, by),
        _ => {
            let step = ((from.as_tensor().detach() - to.as_tensor())? * by)?;
            Ok(to.set(&(to.as_tensor().detach() + step)?)?)
        }
    }
}

/// Each becomes what the other was.
pub(super) fn exchange(a: &Var, b: &Var) -> Result<()> {
    let was = a.as_tensor().copy()?;
    a.set(&b.as_tensor().copy()?)?;
    Ok(b.set(&was)?)
}

/// As many numbers as the parameter, or the rows that are named, and each of these there.
fn check(param: &Var, grad: &Grad<'_>) -> Result<()> {
    let got = match grad.values() {
        Values::F32(numbers) => numbers.len(),
        Values::F64(numbers) => numbers.len(),
        Values::Tensor(tensor) => tensor.elem_count(),
    };
    let (rows, size) = match grad {
        Grad::Dense(_) => (1, param.elem_count()),
        Grad::Rows { ids, .. } => {
            let rows = param.dims().first().copied().unwrap_or(0);
            if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
                return Err(Error::invalid("Optimizer: rows", format!("below {rows}"), id));
            }
            (ids.len(), param.elem_count() / rows.max(1))
        }
    };
    if got != rows * size {
        return Err(Error::invalid("Optimizer: gradient", format!("{} numbers", rows * size), got));
    }
    Ok(())
}

/// What holds for all numbers of a step.
#[derive(Debug, Clone, Copy)]
struct At {
    lr: f64,
    step: u64,
    /// Times each gradient, and then no further from zero than so much.
    scale: f64,
    most: f64,
    decay: Decay,
}

/// A [`Rule`] of any type.
trait AnyRule: Debug + Send + Sync {
    fn kept(&self) -> &'static [&'static str];
    fn f32(&self, at: At, param: &Var, grad: (&Grad<'_>, &[f32]), kept: &[Var]) -> Result<()>;
    fn f64(&self, at: At, param: &Var, grad: (&Grad<'_>, &[f64]), kept: &[Var]) -> Result<()>;
    fn in_ops(
        &self,
        at: (f64, u64),
        weight: &Tensor,
        grad: &Tensor,
        kept: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)>;
}

impl<R: Rule> AnyRule for R {
    fn kept(&self) -> &'static [&'static str] {
        Rule::kept(self)
    }

    fn f32(&self, at: At, param: &Var, grad: (&Grad<'_>, &[f32]), kept: &[Var]) -> Result<()> {
        on_cpu(self, at, param, grad, kept)
    }

    fn f64(&self, at: At, param: &Var, grad: (&Grad<'_>, &[f64]), kept: &[Var]) -> Result<()> {
        on_cpu(self, at, param, grad, kept)
    }

    fn in_ops(
        &self,
        at: (f64, u64),
        weight: &Tensor,
        grad: &Tensor,
        kept: &[Tensor],
    ) -> Result<(Tensor, Vec<Tensor>)> {
        Rule::in_ops(self, at, weight, grad, kept)
    }
}

fn on_cpu<T: Real, R: Rule>(
    rule: &R,
    at: At,
    param: &Var,
    (grad, values): (&Grad<'_>, &[T]),
    kept: &[Var],
) -> Result<()> {
    let rows = param.dims().first().copied().unwrap_or(1).max(1);
    let size = param.elem_count() / rows;
    Ok(lend::write(param, |weights: &mut [T]| {
        with_kept(kept, &mut |kept| match grad {
            Grad::Dense(_) => dense(rule, at, weights, values, kept),
            Grad::Rows { ids, .. } if kept[0].is_empty() && at.decay == Decay::None => {
                for (&id, values) in ids.iter().zip(values.chunks_exact(size)) {
                    let start = id as usize * size;
                    let weights = &mut weights[start..start + size];
                    let piece = Piece { weights, values, kept: [&mut [], &mut []] };
                    dispatch::run(dispatch::cpu(), Update { rule, at, piece });
                }
            }
            Grad::Rows { ids, .. } => {
                let mut all = vec![T::ZERO; weights.len()];
                for (&id, values) in ids.iter().zip(values.chunks_exact(size)) {
                    all[id as usize * size..][..size].copy_from_slice(values);
                }
                dense(rule, at, weights, &all, kept);
            }
        })
    })??)
}

/// Lends what is kept, all of it at once.
fn with_kept<T: Real>(
    kept: &[Var],
    f: &mut (dyn FnMut([&mut [T]; MAX_KEPT]) + Send),
) -> rnn_core::Result<()> {
    match kept {
        [] => f([&mut [], &mut []]),
        [a] => lend::write(a, |a: &mut [T]| f([a, &mut []]))?,
        [a, b, ..] => lend::write(a, |a: &mut [T]| lend::write(b, |b: &mut [T]| f([a, b])))??,
    }
    Ok(())
}

/// Weights, and what belongs to each.
struct Piece<'a, T> {
    weights: &'a mut [T],
    values: &'a [T],
    kept: [&'a mut [T]; MAX_KEPT],
}

fn dense<T: Real, R: Rule>(
    rule: &R,
    at: At,
    weights: &mut [T],
    values: &[T],
    [mut a, mut b]: [&mut [T]; MAX_KEPT],
) {
    let mut pieces = Vec::with_capacity(values.len().div_ceil(BLOCK));
    for (weights, values) in weights.chunks_mut(BLOCK).zip(values.chunks(BLOCK)) {
        let kept = [&mut a, &mut b].map(|rest| {
            let (here, behind) = std::mem::take(rest).split_at_mut_checked(weights.len()).unwrap_or_default();
            *rest = behind;
            here
        });
        pieces.push(Piece { weights, values, kept });
    }
    let cpu = dispatch::cpu();
    team::pieces(&mut pieces, 1, &|_, piece| {
        for Piece { weights, values, kept: [a, b] } in piece {
            dispatch::run(cpu, Update { rule, at, piece: Piece { weights, values, kept: [a, b] } });
        }
    });
}

struct Update<'a, T, R> {
    rule: &'a R,
    at: At,
    piece: Piece<'a, T>,
}

impl<T: Real, R: Rule> Task for Update<'_, T, R> {
    #[inline(always)]
    fn run<I: Instructions>(self, _: I) {
        let Self { rule, at: At { lr, step, scale, most, decay }, piece } = self;
        let Piece { weights, values, kept: [a, b] } = piece;
        let real = T::from_f64;
        let update = rule.update::<T>(lr, step);
        let (coupled, stays) = match decay {
            Decay::None => (T::ZERO, T::ONE),
            Decay::Coupled(by) => (real(by), T::ONE),
            Decay::Decoupled(by) => (T::ZERO, real(1.0 - lr * by)),
        };
        let (scale, least, most) = (real(scale), real(-most), real(most));
        let one = |w: &mut T, g: T, kept: [T; MAX_KEPT]| {
            let g = g * scale;
            let g = if g > most { most } else { g };
            let g = if g < least { least } else { g };
            let (next, kept) = update(*w * stays, g + coupled * *w, kept);
            *w = next;
            kept
        };
        match (a.is_empty(), b.is_empty()) {
            (true, _) => {
                for (w, &g) in weights.iter_mut().zip(values) {
                    one(w, g, [T::ZERO; MAX_KEPT]);
                }
            }
            (false, true) => {
                for ((w, &g), a) in weights.iter_mut().zip(values).zip(a) {
                    [*a, _] = one(w, g, [*a, T::ZERO]);
                }
            }
            (false, false) => {
                for (((w, &g), a), b) in weights.iter_mut().zip(values).zip(a).zip(b) {
                    [*a, *b] = one(w, g, [*a, *b]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{Adam, RmsProp, Sgd};
    use candle_core::Device;

    /// In kernels and in tensor ops, in f64, with everything on.
    fn same(rule: impl Rule) {
        let numbers =
            |k: usize, len: usize| (0..len).map(|i| ((i * 7 + k * 5) % 11) as f64 - 5.0).collect::<Vec<_>>();
        let ids = [4u32, 0];
        for decay in [Decay::None, Decay::Coupled(0.1), Decay::Decoupled(0.1)] {
            for clip in [Clip::None, Clip::Norm(2.0), Clip::Value(1.5)] {
                let weight = || Var::from_vec(numbers(0, 15), (5, 3), &Device::Cpu).unwrap();
                let mut optimizer = Optimizer::new(rule.clone(), 0.1).clip(clip).decay(decay);
                let (kernels, ops) = (weight(), weight());
                let of_ops = optimizer.begin(&ops).unwrap();
                for k in 1..4 {
                    let (dense, rows) = (numbers(k, 15), numbers(k, 6));
                    let grad = match k {
                        2 => Grad::Rows { ids: &ids, values: Values::F64(&rows) },
                        _ => Grad::Dense(Values::F64(&dense)),
                    };
                    let norm = optimizer.step(std::slice::from_ref(&kernels), &[grad]).unwrap();
                    let (scale, most) = (clip.scale(norm), clip.most());
                    let at = At { lr: 0.1, step: k as u64, scale, most, decay };
                    optimizer.in_ops(at, &ops, &grad, &of_ops).unwrap();
                    let [got, want] =
                        [&kernels, &ops].map(|var| var.flatten_all().unwrap().to_vec1::<f64>().unwrap());
                    let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(off < 1e-13, "{:?} {decay:?} {clip:?}, step {k}: {off:e}", optimizer.rule);
                }
            }
        }
    }

    #[test]
    fn kernels_do_what_tensor_ops_do() {
        same(Sgd::default());
        same(Sgd { momentum: 0.9, nesterov: false });
        same(Sgd { momentum: 0.9, nesterov: true });
        same(Adam::default());
        same(RmsProp::default());
    }
}
