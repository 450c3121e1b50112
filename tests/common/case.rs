//! A layer, an input and a state for it, and all that comes out of them there and back, by name.
#![allow(dead_code, reason = "each test takes what it needs")]

use super::numbers::{self, relative};
use candle_core::{DType, Device, Tensor, Var};
use rnn_core::{
    Bias, Layer, LayerParams, LayerSpec, Parameters, Plan, Recurrent, State, Way, last_ran, reset_last_ran,
};

pub type Named = Vec<(String, Tensor)>;

/// What all ways are asked for.
pub struct Case {
    /// N, T, D, H
    pub sizes: [usize; 4],
    pub dtype: DType,
    pub device: Device,
    pub parameters: Parameters,
    pub plan: Plan,
}

impl Case {
    pub fn new(sizes: [usize; 4], dtype: DType, device: &Device) -> Self {
        let parameters = Parameters::new(9, dtype, device);
        Self { sizes, dtype, device: device.clone(), parameters, plan: Plan::new() }
    }

    pub fn with_plan(self, plan: Plan) -> Self {
        Self { plan, ..self }
    }

    pub fn spec(&self, bias: Bias) -> LayerSpec {
        LayerSpec::new(self.sizes[2], self.sizes[3]).bias(bias)
    }

    pub fn random(&self, shape: &[usize], purpose: &str) -> Tensor {
        numbers::random(shape, self.dtype, purpose).to_device(&self.device).unwrap()
    }

    pub fn xs(&self) -> Tensor {
        let [n, t, d, _] = self.sizes;
        self.random(&[n, t, d], "xs")
    }

    /// A state of random numbers like `zeros`, under a name for each of its parts.
    pub fn state<S: State>(&self, zeros: &S, purpose: &str) -> S {
        let mut names = zeros.names().into_iter();
        let mut part =
            |zeros: &Tensor| Ok(self.random(zeros.dims(), &format!("{purpose}{}", names.next().unwrap())));
        zeros.try_map(&mut part).unwrap()
    }

    pub fn start<R: Recurrent>(&self, layer: &R) -> R::State {
        self.state(&layer.zero_state(self.sizes[0]).unwrap(), "start ")
    }

    fn dhs<R: Recurrent>(&self, layer: &R) -> Tensor {
        let [n, t, _, _] = self.sizes;
        self.random(&[n, t, layer.output_size()], "dhs")
    }

    /// Outputs, next state and all gradients, by name, through candle's graph.
    pub fn recorded<R: Recurrent>(&self, layer: &R, way: Way) -> Named {
        let xs = Var::from_tensor(&self.xs()).unwrap();
        let mut parts = Vec::new();
        let state = self.start(layer).try_map(&mut |part| {
            let var = Var::from_tensor(part)?;
            parts.push(var.clone());
            Ok(var.as_tensor().clone())
        });
        reset_last_ran();
        let (hs, next) = layer.forward_with(&xs, &state.unwrap(), &self.plan).unwrap();
        let mut named = vec![("hs".to_string(), hs.detach())];
        let mut loss = (&hs * self.dhs(layer)).unwrap().sum_all().unwrap();
        let upstream = self.state(&next, "d");
        for ((name, part), upstream) in next.names().iter().zip(next.parts()).zip(upstream.parts()) {
            named.push((format!("next {name}"), part.detach()));
            loss = (loss + (part * upstream).unwrap().sum_all().unwrap()).unwrap();
        }
        let grads = loss.backward().unwrap();
        assert_eq!(last_ran(), Some(way), "another way ran than the one under test");
        let mut take = |name: String, tensor: &Tensor| {
            let grad = grads.get(tensor).unwrap_or_else(|| panic!("{name} has no gradient"));
            named.push((name, grad.clone()));
        };
        take("dxs".into(), &xs);
        for (name, part) in next.names().iter().zip(&parts) {
            take(format!("dstate {name}"), part);
        }
        for (name, var) in self.parameters.named() {
            take(name, &var);
        }
        named
    }

    /// Outputs and the next state, with nothing kept for a backward.
    pub fn inferred<R: Recurrent>(&self, layer: &R) -> Named {
        let (hs, next) = layer.infer_with(&self.xs(), &self.start(layer), &self.plan).unwrap();
        let parts = next.names().into_iter().zip(next.parts());
        let parts = parts.map(|(name, part)| (format!("next {name}"), part.clone()));
        [("hs".to_string(), hs)].into_iter().chain(parts).collect()
    }

    /// What [`Self::recorded`] gives, without autograd.
    pub fn by_hand<R: Layer>(&self, layer: &R) -> Named {
        let start = self.start(layer);
        let (hs, next, tape) = layer.forward_taped_with(&self.xs(), &start, &self.plan).unwrap();
        let grads = layer.backward(tape, &self.dhs(layer), &self.state(&next, "d")).unwrap();
        let mut named = vec![("hs".to_string(), hs)];
        let of_state = |what: &str, state: &R::State| {
            let parts = state.names().into_iter().zip(state.parts());
            parts.map(|(name, part)| (format!("{what} {name}"), part.clone())).collect::<Vec<_>>()
        };
        named.extend(of_state("next", &next));
        named.push(("dxs".into(), grads.dxs));
        named.extend(of_state("dstate", &grads.dstate));
        let params = grads.params.iter().flat_map(LayerParams::tensors);
        named.extend(
            self.parameters.named().into_iter().zip(params).map(|((name, _), grad)| (name, grad.clone())),
        );
        named
    }
}

pub fn held(what: &str, got: &Named, want: &Named, tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for ((name, got), (want_name, want)) in got.iter().zip(want) {
        assert_eq!(name, want_name);
        let off = relative(got, want);
        assert!(off <= tolerance, "{what}: {name} is off by {off:e}");
    }
}
