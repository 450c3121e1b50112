//! The arithmetic of a cell, written down: run once over terms in place of numbers, it lists what it does. So the kernels of
//! a GPU are made from the same lines as those of the CPU: a cell of one stage that has the one has the other.

use super::Vector;
use super::pointwise::{Backward, Forward, Inputs, Pointwise, Stages, Tape as Saved};
use super::unroll::cpu::Traits;
use std::cell::RefCell;
use std::fmt;
use std::ops::{Add, Mul, Sub};

/// The number of a line in the list that this thread writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term(usize);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// What a line does.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Takes what comes from outside under this name.
    Given(String),
    /// Is this number.
    Number(f64),
    /// a + b
    Add(Term, Term),
    /// a - b
    Sub(Term, Term),
    /// a b
    Mul(Term, Term),
    /// As [`Vector::larger`].
    Larger(Term, Term),
    /// As [`Vector::exp`].
    Exp(Term),
    /// As [`Vector::tanh`].
    Tanh(Term),
    /// As [`Vector::sigmoid`].
    Sigmoid(Term),
    /// As [`Vector::relu`].
    Relu(Term),
    /// As [`Vector::above_zero`].
    AboveZero(Term),
}

/// A line in C, in which line i is called `ti` and functions are called as the methods of [`Vector`].
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(name) => f.write_str(name),
            Self::Number(number) => write!(f, "(real){number:?}"),
            Self::Add(a, b) => write!(f, "{a} + {b}"),
            Self::Sub(a, b) => write!(f, "{a} - {b}"),
            Self::Mul(a, b) => write!(f, "{a} * {b}"),
            Self::Larger(a, b) => write!(f, "larger({a}, {b})"),
            Self::Exp(x) => write!(f, "exp({x})"),
            Self::Tanh(x) => write!(f, "tanh({x})"),
            Self::Sigmoid(x) => write!(f, "sigmoid({x})"),
            Self::Relu(x) => write!(f, "relu({x})"),
            Self::AboveZero(x) => write!(f, "above_zero({x})"),
        }
    }
}

thread_local! {
    static LINES: RefCell<Vec<Op>> = const { RefCell::new(Vec::new()) };
}

impl Term {
    fn new(op: Op) -> Self {
        LINES.with_borrow_mut(|lines| {
            lines.push(op);
            Self(lines.len() - 1)
        })
    }

    fn given(name: impl Into<String>) -> Self {
        Self::new(Op::Given(name.into()))
    }
}

impl Add for Term {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::new(Op::Add(self, other))
    }
}

impl Sub for Term {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::new(Op::Sub(self, other))
    }
}

impl Mul for Term {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self::new(Op::Mul(self, other))
    }
}

/// One lane that holds no number: there is nothing to load or to store.
impl Vector for Term {
    type Elem = f64;
    const WIDTH: usize = 1;

    fn splat(x: f64) -> Self {
        Self::new(Op::Number(x))
    }

    fn load(from: &[f64]) -> Self {
        Self::splat(from.first().copied().unwrap_or(0.0))
    }

    fn store(self, _: &mut [f64]) {}

    fn exp(self) -> Self {
        Self::new(Op::Exp(self))
    }

    fn tanh(self) -> Self {
        Self::new(Op::Tanh(self))
    }

    fn sigmoid(self) -> Self {
        Self::new(Op::Sigmoid(self))
    }

    fn relu(self) -> Self {
        Self::new(Op::Relu(self))
    }

    fn above_zero(self) -> Self {
        Self::new(Op::AboveZero(self))
    }

    fn larger(self, other: Self) -> Self {
        Self::new(Op::Larger(self, other))
    }
}

/// Lines, and what becomes of some of them, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// In their order: each uses earlier ones alone.
    pub lines: Vec<Op>,
    /// Name and line of each result.
    pub results: Vec<(String, Term)>,
}

impl Listing {
    fn of(f: impl FnOnce() -> Vec<(String, Term)>) -> Self {
        LINES.take();
        let results = f();
        Self { lines: LINES.take(), results }
    }
}

/// A cell of one stage, traced.
#[derive(Debug, Clone, PartialEq)]
pub struct Traced {
    /// From `input0`.. , `recurrent0`.. , `read`, `c` and `own0`.. to `gate0`.. , `kept`, `made` and `next_c`.
    pub forward: Listing,
    /// From `gate0`.. , `kept`, `read`, `c`, `own0`.. , `dmade` and `dnext_c` to `dinput0`.. , `drecurrent0`.. , `dread`, `dc`
    /// and `down0`..
    pub backward: Listing,
    /// What belongs to it.
    pub traits: Traits,
}

/// None of a cell with two stages.
pub(super) fn traced<C: Stages>() -> Option<Traced> {
    C::BETWEEN.is_none().then(|| Traced {
        forward: forward::<C::Last>(),
        backward: backward::<C::Last>(),
        traits: const { Traits::of::<C>() },
    })
}

fn forward<P: Pointwise>() -> Listing {
    Listing::of(|| {
        let Forward { gates, extra, made, c } = P::forward(Inputs {
            input: several("input", P::GATES),
            recurrent: several("recurrent", P::GATES),
            read: Term::given("read"),
            c: Term::given("c"),
            own: several("own", P::OWN),
        });
        let one = [("kept", extra), ("made", made), ("next_c", c)];
        named("gate", &gates[..P::GATES]).chain(one.map(|(name, term)| (name.to_string(), term))).collect()
    })
}

fn backward<P: Pointwise>() -> Listing {
    Listing::of(|| {
        let saved = Saved {
            gates: several("gate", P::GATES),
            extra: Term::given("kept"),
            read: Term::given("read"),
            c_before: Term::given("c"),
            own: several("own", P::OWN),
        };
        let Backward { input, recurrent, read, dc, own } =
            P::backward(&saved, Term::given("dmade"), Term::given("dnext_c"));
        let one = [("dread", read), ("dc", dc)];
        named("dinput", &input[..P::GATES])
            .chain(named("drecurrent", &recurrent[..P::GATES]))
            .chain(one.map(|(name, term)| (name.to_string(), term)))
            .chain(named("down", &own[..P::OWN]))
            .collect()
    })
}

/// As many as there are, and zeros behind them.
fn several<const MOST: usize>(name: &str, count: usize) -> [Term; MOST] {
    std::array::from_fn(|i| if i < count { Term::given(format!("{name}{i}")) } else { Term::zero() })
}

fn named(name: &str, terms: &[Term]) -> impl Iterator<Item = (String, Term)> {
    terms.iter().enumerate().map(move |(i, &term)| (format!("{name}{i}"), term))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Lanes;
    use crate::kernels::pointwise::{
        CellNormLstm, Gru, Lstm, PeepholeLstm, ResetBeforeGru, RnnRelu, RnnTanh,
    };
    use std::collections::HashMap;

    type One = Lanes<f64, 1, false>;

    /// What the lines make of numbers.
    fn run(listing: &Listing, given: &HashMap<String, f64>) -> HashMap<String, f64> {
        let mut values: Vec<One> = Vec::new();
        for op in &listing.lines {
            let at = |&Term(i): &Term| values[i];
            values.push(match op {
                Op::Given(name) => One::splat(given[name]),
                Op::Number(x) => One::splat(*x),
                Op::Add(a, b) => at(a) + at(b),
                Op::Sub(a, b) => at(a) - at(b),
                Op::Mul(a, b) => at(a) * at(b),
                Op::Larger(a, b) => at(a).larger(at(b)),
                Op::Exp(x) => at(x).exp(),
                Op::Tanh(x) => at(x).tanh(),
                Op::Sigmoid(x) => at(x).sigmoid(),
                Op::Relu(x) => at(x).relu(),
                Op::AboveZero(x) => at(x).above_zero(),
            });
        }
        listing.results.iter().map(|(name, Term(i))| (name.clone(), values[*i].0[0])).collect()
    }

    /// Numbers for every name that a cell may ask for, and the same in arrays.
    fn numbers<P: Pointwise>(round: usize) -> (HashMap<String, f64>, Inputs<One>, Saved<One>, [One; 2]) {
        let number = |k: usize| (((round * 37 + k * 11) % 23) as f64 - 11.0) / 7.0;
        let mut given = HashMap::new();
        let mut give = |name: String, k: usize| {
            given.insert(name, number(k));
            One::splat(number(k))
        };
        let mut several = |name: &str, first: usize, count: usize| -> Vec<One> {
            (0..4)
                .map(|i| if i < count { give(format!("{name}{i}"), first + i) } else { One::zero() })
                .collect()
        };
        let four = |all: Vec<One>| [all[0], all[1], all[2], all[3]];
        let three = |all: Vec<One>| [all[0], all[1], all[2]];
        let (input, recurrent) = (several("input", 0, P::GATES), several("recurrent", 4, P::GATES));
        let (gates, own) = (several("gate", 8, P::GATES), several("own", 12, P::OWN));
        let [read, c, kept, dmade, dnext_c] =
            [("read", 16), ("c", 17), ("kept", 18), ("dmade", 19), ("dnext_c", 20)]
                .map(|(name, k)| give(name.to_string(), k));
        let own = three(own);
        let inputs = Inputs { input: four(input), recurrent: four(recurrent), read, c, own };
        let saved = Saved { gates: four(gates), extra: kept, read, c_before: c, own };
        (given, inputs, saved, [dmade, dnext_c])
    }

    fn holds<P: Pointwise + Send>() {
        let Traced { forward, backward, .. } = traced::<P>().unwrap();
        for round in 0..40 {
            let (given, inputs, saved, [dmade, dnext_c]) = numbers::<P>(round);
            let (got, want) = (run(&forward, &given), P::forward(inputs));
            let mut pairs = vec![
                (got["kept"], want.extra.0[0]),
                (got["made"], want.made.0[0]),
                (got["next_c"], want.c.0[0]),
            ];
            pairs.extend((0..P::GATES).map(|g| (got[&format!("gate{g}")], want.gates[g].0[0])));
            let (got, want) = (run(&backward, &given), P::backward(&saved, dmade, dnext_c));
            pairs.extend([(got["dread"], want.read.0[0]), (got["dc"], want.dc.0[0])]);
            for g in 0..P::GATES {
                pairs.push((got[&format!("dinput{g}")], want.input[g].0[0]));
                pairs.push((got[&format!("drecurrent{g}")], want.recurrent[g].0[0]));
            }
            pairs.extend((0..P::OWN).map(|k| (got[&format!("down{k}")], want.own[k].0[0])));
            for (got, want) in pairs {
                assert_eq!(got.to_bits(), want.to_bits(), "{} in round {round}", std::any::type_name::<P>());
            }
        }
    }

    #[test]
    fn what_is_written_down_is_what_is_done() {
        holds::<RnnTanh>();
        holds::<RnnRelu>();
        holds::<Gru>();
        holds::<Lstm>();
        holds::<PeepholeLstm>();
    }

    #[test]
    fn a_cell_of_two_stages_is_none_for_it() {
        assert_eq!(traced::<ResetBeforeGru>(), None);
        assert_eq!(traced::<CellNormLstm>(), None);
    }
}
