//! One step of a rule over the numbers of a parameter, in kernels: weights, gradients and what is kept, in place.

use super::Grad;
use super::optimizer::Decay;
use super::rule::{MAX_KEPT, Rule};
use crate::Result;
use candle_core::{Tensor, Var};
use rnn_core::kernels::dispatch::{self, Instructions, Task};
use rnn_core::kernels::{Real, lend, team};
use std::fmt::Debug;

/// Numbers that a member of the team takes at a time.
pub(super) const BLOCK: usize = 1 << 15;

/// What holds for all numbers of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) lr: f64,
    pub(super) step: u64,
    /// Times each gradient, and then no further from zero than so much.
    pub(super) scale: f64,
    pub(super) most: f64,
    pub(super) decay: Decay,
}

/// A [`Rule`] of any type.
pub(super) trait AnyRule: Debug + Send + Sync {
    fn check(&self) -> Result<()>;
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
    fn check(&self) -> Result<()> {
        Rule::check(self)
    }

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
    if size == 0 {
        return Ok(());
    }
    Ok(lend::write(param, |weights: &mut [T]| {
        with_kept(kept, &mut |kept| match grad {
            Grad::Dense(_) => in_order(rule, at, weights, &mut values.chunks(BLOCK), kept),
            Grad::Rows { ids, .. } if rule.rests() && kept[0].is_empty() && at.decay == Decay::None => {
                for (&id, values) in ids.iter().zip(values.chunks_exact(size)) {
                    let start = id as usize * size;
                    let weights = &mut weights[start..start + size];
                    let piece = Piece { weights, values, kept: [&mut [], &mut []] };
                    dispatch::run(dispatch::cpu(), Update { rule, at, piece });
                }
            }
            Grad::Rows { ids, .. } => {
                let zeros = vec![T::ZERO; BLOCK.min(weights.len())];
                let all = with_zeros((ids, values), size, weights.len(), &zeros);
                in_order(rule, at, weights, &mut all.into_iter(), kept);
            }
        })
    })??)
}

/// Rows in their order, and `zeros`, or a part of them, where there is none: pieces that are as long as the table together.
fn with_zeros<'a, T>(
    (ids, values): (&[u32], &'a [T]),
    size: usize,
    len: usize,
    zeros: &'a [T],
) -> Vec<&'a [T]> {
    let mut rows: Vec<_> = ids.iter().zip(values.chunks_exact(size)).collect();
    rows.sort_unstable_by_key(|&(id, _)| id);
    let (mut pieces, mut at) = (Vec::with_capacity(2 * rows.len() + len / BLOCK + 1), 0);
    let fill = |pieces: &mut Vec<&'a [T]>, mut gap: usize| {
        while gap > 0 {
            let piece = &zeros[..gap.min(zeros.len())];
            gap -= piece.len();
            pieces.push(piece);
        }
    };
    for (&id, row) in rows {
        let start = id as usize * size;
        fill(&mut pieces, start - at);
        pieces.push(row);
        at = start + size;
    }
    fill(&mut pieces, len - at);
    pieces
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

/// Piece by piece, the gradients of all weights in their order.
fn in_order<T: Real, R: Rule>(
    rule: &R,
    at: At,
    mut weights: &mut [T],
    values: &mut dyn Iterator<Item = &[T]>,
    [mut a, mut b]: [&mut [T]; MAX_KEPT],
) {
    let mut pieces = Vec::with_capacity(values.size_hint().0);
    for values in values {
        let weights = take(&mut weights, values.len());
        let kept = [take(&mut a, values.len()), take(&mut b, values.len())];
        pieces.push(Piece { weights, values, kept });
    }
    let cpu = dispatch::cpu();
    team::pieces(&mut in_blocks(&mut pieces), 1, &|_, blocks| {
        for Piece { weights, values, kept: [a, b] } in blocks.iter_mut().flat_map(|block| block.iter_mut()) {
            dispatch::run(cpu, Update { rule, at, piece: Piece { weights, values, kept: [a, b] } });
        }
    });
}

/// As many pieces together as make a block, or one that is larger: the team shares by number, and pieces may be single rows.
fn in_blocks<'a, 'b, T>(mut pieces: &'b mut [Piece<'a, T>]) -> Vec<&'b mut [Piece<'a, T>]> {
    let mut blocks = Vec::new();
    while !pieces.is_empty() {
        let mut size = 0;
        let mut fits = |piece: &Piece<'_, T>| {
            size += piece.weights.len();
            size <= BLOCK
        };
        let count = pieces.iter().take_while(|piece| fits(piece)).count().max(1);
        let (block, rest) = pieces.split_at_mut(count);
        blocks.push(block);
        pieces = rest;
    }
    blocks
}

/// The first `len`, and the others stay; none where nothing is kept.
fn take<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (here, behind) = std::mem::take(rest).split_at_mut_checked(len).unwrap_or_default();
    *rest = behind;
    here
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
