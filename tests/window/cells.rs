//! The cells that PyTorch does not have, against their equations written out in plain loops.

use crate::numbers::{numbers as of, random};
use candle_core::{DType, Device, Tensor};
use rnn_core::{
    Cell, CellState, GruCell, LayerNormLstmCell, LayerSpec, Normed, Parameters, PeepholeLstmCell,
    ResetBeforeGruCell, State,
};

const D: usize = 3;
const H: usize = 4;

/// A cell of random parameters, and for one row its parameters by name, x, and the parts of the state.
struct Case<C: Cell> {
    cell: C,
    parameters: Vec<(String, Vec<f64>)>,
    x: Vec<f64>,
    parts: Vec<Vec<f64>>,
}

impl<C: Cell> Case<C> {
    fn new() -> Self {
        let parameters = Parameters::new(3, DType::F64, &Device::Cpu);
        let cell = C::new(LayerSpec::new(D, H), parameters.builder()).unwrap();
        for (name, var) in parameters.named() {
            // Factors of a norm begin as ones: random ones show where they belong.
            var.set(&random(var.dims(), DType::F64, &name)).unwrap();
        }
        let named = parameters.named().iter().map(|(name, var)| (name.clone(), of(var))).collect();
        let parts = cell.zero_state(1).unwrap().parts().len();
        let parts = (0..parts).map(|i| of(&random(&[1, H], DType::F64, &format!("part {i}")))).collect();
        Self { cell, parameters: named, x: of(&random(&[1, D], DType::F64, "x")), parts }
    }

    fn parameter(&self, name: &str) -> &[f64] {
        let name = format!("{name}_l0");
        &self.parameters.iter().find(|(other, _)| *other == name).unwrap_or_else(|| panic!("{name}")).1
    }

    /// `W v`
    fn times(&self, weight: &str, v: &[f64]) -> Vec<f64> {
        let dot = |row: &[f64]| row.iter().zip(v).map(|(a, b)| a * b).sum();
        self.parameter(weight).chunks(v.len()).map(dot).collect()
    }

    fn plus(&self, v: Vec<f64>, bias: &str) -> Vec<f64> {
        v.iter().zip(self.parameter(bias)).map(|(a, b)| a + b).collect()
    }

    fn norm(&self, v: &[f64], gamma: &str) -> Vec<f64> {
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        let variance = v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len() as f64;
        let gamma = self.parameter(gamma).iter();
        v.iter().zip(gamma).map(|(x, gamma)| gamma * (x - mean) / (variance + 1e-5).sqrt()).collect()
    }

    /// The parts of the state after the step.
    fn step(&self) -> Vec<Vec<f64>> {
        let mut parts = self.parts.iter();
        let row = |part: &Vec<f64>| Tensor::from_slice(part, (1, part.len()), &Device::Cpu);
        let state = self.cell.zero_state(1).unwrap();
        let state = state.try_map(&mut |_| Ok(row(parts.next().unwrap())?)).unwrap();
        let next = self.cell.step(&row(&self.x).unwrap(), &state).unwrap();
        assert_eq!(next.h().dims(), [1, H]);
        next.parts().into_iter().map(of).collect()
    }

    fn holds(&self, want: &[Vec<f64>]) {
        for (got, want) in self.step().iter().zip(want) {
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-13), "{got:?} for {want:?}");
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn peepholes() {
    let case = Case::<PeepholeLstmCell>::new();
    let [h, c] = [&case.parts[0], &case.parts[1]];
    let x = case.plus(case.times("weight_ih", &case.x), "bias_ih");
    let r = case.plus(case.times("weight_hh", h), "bias_hh");
    let p = case.parameter("peepholes");
    let (mut next_h, mut next_c) = (Vec::new(), Vec::new());
    for u in 0..H {
        let a = |gate: usize| x[gate * H + u] + r[gate * H + u];
        let (i, f) = (sigmoid(a(0) + p[u] * c[u]), sigmoid(a(1) + p[H + u] * c[u]));
        let new = f * c[u] + i * a(2).tanh();
        next_h.push(sigmoid(a(3) + p[2 * H + u] * new) * new.tanh());
        next_c.push(new);
    }
    case.holds(&[next_h, next_c]);
}

#[test]
fn normalised_lstm() {
    let case = Case::<LayerNormLstmCell>::new();
    let [h, c] = [&case.parts[0], &case.parts[1]];
    let x = case.plus(case.norm(&case.times("weight_ih", &case.x), "norm_ih"), "bias_ih");
    let r = case.plus(case.norm(&case.times("weight_hh", h), "norm_hh"), "bias_hh");
    let a = |gate: usize, u: usize| x[gate * H + u] + r[gate * H + u];
    let next_c: Vec<f64> =
        (0..H).map(|u| sigmoid(a(1, u)) * c[u] + sigmoid(a(0, u)) * a(2, u).tanh()).collect();
    let read = case.plus(case.norm(&next_c, "norm_c"), "bias_c");
    let next_h = (0..H).map(|u| sigmoid(a(3, u)) * read[u].tanh()).collect();
    case.holds(&[next_h, next_c]);
}

#[test]
fn normalised_gru() {
    let case = Case::<Normed<GruCell>>::new();
    let h = &case.parts[0];
    let x = case.plus(case.norm(&case.times("weight_ih", &case.x), "norm_ih"), "bias_ih");
    let r = case.plus(case.norm(&case.times("weight_hh", h), "norm_hh"), "bias_hh");
    let next = (0..H).map(|u| {
        let (reset, z) = (sigmoid(x[u] + r[u]), sigmoid(x[H + u] + r[H + u]));
        (1.0 - z) * (x[2 * H + u] + reset * r[2 * H + u]).tanh() + z * h[u]
    });
    case.holds(&[next.collect()]);
}

#[test]
fn reset_before_the_product() {
    let case = Case::<ResetBeforeGruCell>::new();
    let h = &case.parts[0];
    let x = case.plus(case.times("weight_ih", &case.x), "bias_ih");
    let r = case.plus(case.times("weight_hh", h), "bias_hh");
    let reset: Vec<f64> = (0..H).map(|u| sigmoid(x[u] + r[u]) * h[u]).collect();
    let n = case.plus(case.times("weight_hn", &reset), "bias_hn");
    let next = (0..H).map(|u| {
        let z = sigmoid(x[H + u] + r[H + u]);
        (1.0 - z) * (x[2 * H + u] + n[u]).tanh() + z * h[u]
    });
    case.holds(&[next.collect()]);
}
