//! The hand-written gradients against f64 finite differences, and a control: gradients that are wrong must be caught.

use crate::numbers;
use candle_core::{DType, Device, Tensor};
use rnn_core::{
    Cell, CellNormLstmCell, GruCell, Layer, LayerNormLstmCell, LayerSpec, LstmCell, Normed, Parameters,
    PeepholeLstmCell, Recurrent, ResetBeforeGruCell, Result, RnnCell, State, TimeRnn, Way,
};

const SIZES: [usize; 4] = [2, 4, 3, 5];

fn random(shape: &[usize], purpose: &str) -> Tensor {
    numbers::random(shape, DType::F64, purpose)
}

type Make<C> = fn(LayerSpec, candle_nn::VarBuilder) -> Result<C>;

/// A layer, its input and its state; the loss is a weighted sum of all outputs.
struct Case<C: Cell> {
    layer: TimeRnn<C>,
    parameters: Parameters,
}

impl<C: Cell> Case<C> {
    fn new(make: Make<C>, way: Way) -> Self {
        let parameters = Parameters::new(6, DType::F64, &Device::Cpu);
        let cell = make(LayerSpec::new(SIZES[2], SIZES[3]), parameters.builder()).unwrap();
        Self { layer: TimeRnn::new(cell).with_way(way), parameters }
    }

    /// Input first, then the parts of the state.
    fn inputs(&self) -> Vec<Tensor> {
        let [n, t, d, h] = SIZES;
        let mut inputs = vec![random(&[n, t, d], "xs")];
        let parts = self.layer.zero_state(n).unwrap().parts().len();
        inputs.extend((0..parts).map(|i| random(&[n, h], &format!("part {i}"))));
        inputs
    }

    fn state(&self, inputs: &[Tensor]) -> C::State {
        let mut parts = inputs[1..].iter().cloned();
        self.layer.zero_state(SIZES[0]).unwrap().try_map(&mut |_| Ok(parts.next().unwrap())).unwrap()
    }

    fn loss(&self, inputs: &[Tensor]) -> f64 {
        let (hs, next) = self.layer.infer(&inputs[0], &self.state(inputs)).unwrap();
        let weighted = |x: &Tensor, name: &str| (x * random(x.dims(), name)).unwrap().sum_all().unwrap();
        let mut loss = weighted(&hs, "dhs").to_scalar::<f64>().unwrap();
        for (i, part) in next.parts().into_iter().enumerate() {
            loss += weighted(part, &format!("dpart {i}")).to_scalar::<f64>().unwrap();
        }
        loss
    }

    /// Of the inputs, then of the parameters.
    fn gradients(&self) -> Vec<Tensor> {
        let inputs = self.inputs();
        let (hs, next, tape) = self.layer.forward_taped(&inputs[0], &self.state(&inputs)).unwrap();
        let mut i = 0..;
        let dnext =
            next.try_map(&mut |p| Ok(random(p.dims(), &format!("dpart {}", i.next().unwrap())))).unwrap();
        let grads = self.layer.backward(tape, &random(hs.dims(), "dhs"), &dnext).unwrap();
        let mut all = vec![grads.dxs];
        all.extend(grads.dstate.parts().into_iter().cloned());
        all.extend(grads.params[0].tensors().into_iter().cloned());
        all
    }

    /// The largest difference between `gradients` and central differences, over every number of every tensor.
    fn off(&self, gradients: &[Tensor]) -> f64 {
        const STEP: f64 = 1e-4;
        let mut worst = 0.0f64;
        let mut compare = |analytic: &Tensor, loss_at: &mut dyn FnMut(usize, f64) -> f64| {
            for (i, analytic) in
                analytic.flatten_all().unwrap().to_vec1::<f64>().unwrap().into_iter().enumerate()
            {
                // Of the fourth order: a norm of few numbers bends too much for less.
                let near = loss_at(i, STEP) - loss_at(i, -STEP);
                let far = loss_at(i, 2.0 * STEP) - loss_at(i, -2.0 * STEP);
                let numeric = (8.0 * near - far) / (12.0 * STEP);
                worst = numbers::larger(worst, (analytic - numeric).abs());
            }
        };
        let inputs = self.inputs();
        for (k, input) in inputs.iter().enumerate() {
            compare(&gradients[k], &mut |i, by| {
                let mut moved = inputs.clone();
                moved[k] = shifted(input, i, by);
                self.loss(&moved)
            });
        }
        for (k, var) in self.parameters.vars().iter().enumerate() {
            let original = var.as_tensor().copy().unwrap();
            compare(&gradients[inputs.len() + k], &mut |i, by| {
                var.set(&shifted(&original, i, by)).unwrap();
                self.loss(&inputs)
            });
            var.set(&original).unwrap();
        }
        worst
    }
}

fn shifted(tensor: &Tensor, i: usize, by: f64) -> Tensor {
    let mut numbers = tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    numbers[i] += by;
    Tensor::from_vec(numbers, tensor.dims(), &Device::Cpu).unwrap()
}

fn holds<C: Cell>(make: Make<C>) {
    for way in [Way::Manual, Way::Fused] {
        let case = Case::new(make, way);
        assert_eq!(case.layer.way(), way);
        let right = case.gradients();
        let off = case.off(&right);
        assert!(off < 1e-8, "{way}: off by {off:e}");
        // The control: one tensor wrong by a thousandth, each in turn.
        for i in 0..right.len() {
            let mut wrong = right.clone();
            wrong[i] = (&wrong[i] * 1.001).unwrap();
            assert!(case.off(&wrong) > 1e-6, "{way}: an error in gradient {i} was not seen");
        }
    }
}

#[test]
fn rnn_tanh() {
    holds::<RnnCell>(RnnCell::new);
}

#[test]
fn rnn_relu() {
    holds::<RnnCell>(RnnCell::relu);
}

#[test]
fn lstm() {
    holds::<LstmCell>(LstmCell::new);
}

#[test]
fn gru() {
    holds::<GruCell>(GruCell::new);
}

#[test]
fn lstm_with_peepholes() {
    holds::<PeepholeLstmCell>(PeepholeLstmCell::new);
}

#[test]
fn normalised_lstm_and_gru() {
    holds::<LayerNormLstmCell>(LayerNormLstmCell::new);
    holds::<CellNormLstmCell>(CellNormLstmCell::new);
    holds::<Normed<GruCell>>(Normed::new);
}

#[test]
fn gru_with_the_reset_before_the_product() {
    holds::<ResetBeforeGruCell>(ResetBeforeGruCell::new);
}
