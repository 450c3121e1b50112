//! What the book's chapter 5 means, where the code that was typed from it slipped: parameter gradients are the sum over
//! all steps (not the last step's), `dxs[:, t]` is the step's own dx (not the last one everywhere), and dh is handed
//! back. And a layer that keeps its state, as the book's TimeRNN does.

use crate::numbers::{self, off};
use candle_core::{DType, Device, Tensor, Var};
use rnn_core::{
    Bias, Cell, CellState, GruCell, Layer, LayerParams, LayerSpec, LstmCell, Parameters, Plan, Recurrent,
    Result, RnnCell, Scheme, State, Stateful, TimeRnn, Way,
};

const N: usize = 3;
const T: usize = 5;
const D: usize = 4;
const H: usize = 6;

fn random(shape: &[usize], purpose: &str) -> Tensor {
    numbers::random(shape, DType::F64, purpose)
}

fn cell<C: Cell>() -> C {
    let parameters = Parameters::new(4, DType::F64, &Device::Cpu);
    C::new(LayerSpec::new(D, H).bias(Bias::Single).init(Scheme::Book), parameters.builder()).unwrap()
}

fn step_of(xs: &Tensor, t: usize) -> Tensor {
    xs.narrow(1, t, 1).unwrap().squeeze(1).unwrap().contiguous().unwrap()
}

fn add(sum: Option<LayerParams>, step: &LayerParams) -> Result<LayerParams> {
    let Some(sum) = sum else { return Ok(step.clone()) };
    let mut others = step.tensors().into_iter();
    sum.try_map(|sum| Ok((sum + others.next().unwrap())?))
}

fn summed_over_all_steps<C: Cell>() -> Result<()> {
    let cell = cell::<C>();
    let (xs, dhs) = (random(&[N, T, D], "xs"), random(&[N, T, H], "dhs"));
    let h0 = cell.zero_state(N)?.try_map(&mut |_| Ok(random(&[N, H], "h0")))?;

    // The book's loops, one step at a time.
    let (mut state, mut tapes) = (h0.clone(), Vec::new());
    for t in 0..T {
        let (next, tape) = cell.step_taped(&step_of(&xs, t), &state)?;
        state = next;
        tapes.push(tape);
    }
    let mut dstate = cell.zero_state(N)?;
    let (mut dxs, mut summed, mut last_step) = (Vec::new(), None, None);
    for t in (0..T).rev() {
        let dnext = dstate.with_h((dstate.h() + step_of(&dhs, t))?);
        let grads = cell.step_backward(&tapes[t], &dnext)?;
        dstate = grads.dstate;
        dxs.insert(0, grads.dx);
        summed = Some(add(summed, &grads.params)?);
        last_step.get_or_insert(grads.params);
    }
    let (summed, last_step) = (summed.unwrap(), last_step.unwrap());

    for way in [Way::Manual, Way::Fused] {
        let layer = TimeRnn::new(cell.clone()).with_way(way);
        let (hs, next, tape) = layer.forward_taped(&xs, &h0)?;
        assert!(off(&step_of(&hs, T - 1), state.h()) < 1e-13);
        let grads = layer.backward(tape, &dhs, &next.zeros_like()?)?;
        for ((name, got), want) in grads.params[0].named(0).iter().zip(summed.tensors()) {
            assert!(off(got, want) < 1e-12, "{way}: {name} is the sum over all steps");
        }
        for ((name, got), slip) in grads.params[0].named(0).iter().zip(last_step.tensors()) {
            assert!(off(got, slip) > 1e-2, "{way}: {name} is not the last step's gradient");
        }
        let all = grads.dxs;
        for (t, dx) in dxs.iter().enumerate() {
            assert!(off(&step_of(&all, t), dx) < 1e-12, "{way}: dxs[:, {t}]");
            assert!(t == 0 || off(&step_of(&all, t), &dxs[0]) > 1e-2, "{way}: each step has its own dx");
        }
        for (got, want) in grads.dstate.parts().into_iter().zip(dstate.parts()) {
            assert!(off(got, want) < 1e-12, "{way}: dh");
        }
    }
    Ok(())
}

#[test]
fn gradients_are_summed_over_all_steps_and_dx_and_dh_handed_back() {
    summed_over_all_steps::<RnnCell>().unwrap();
    summed_over_all_steps::<LstmCell>().unwrap();
    summed_over_all_steps::<GruCell>().unwrap();
}

#[test]
fn a_step_of_the_rnn_is_the_equation() {
    let cell = cell::<RnnCell>();
    let (x, h) = (random(&[N, D], "x"), random(&[N, H], "h"));
    let got = cell.step(&x, &rnn_core::cell::RnnState { h: h.clone() }).unwrap().h.to_vec2::<f64>().unwrap();
    let [wx, wh] = [&cell.params().weight_ih, &cell.params().weight_hh].map(|w| w.to_vec2::<f64>().unwrap());
    let (x, h) = (x.to_vec2::<f64>().unwrap(), h.to_vec2::<f64>().unwrap());
    for n in 0..N {
        for j in 0..H {
            // Biases begin at zero in the book's initialisation.
            let recurrent: f64 = (0..H).map(|k| h[n][k] * wh[j][k]).sum();
            let input: f64 = (0..D).map(|k| x[n][k] * wx[j][k]).sum();
            assert!((got[n][j] - (recurrent + input).tanh()).abs() < 1e-14);
        }
    }
}

/// A layer with a state, and two windows for it.
fn stateful(stateful: bool, way: Way) -> (Stateful<TimeRnn<LstmCell>>, [Tensor; 2]) {
    let layer = TimeRnn::new(cell::<LstmCell>()).with_way(way);
    let windows = ["first", "second"].map(|window| random(&[N, T, D], window));
    (Stateful::new(layer, stateful), windows)
}

#[test]
fn a_stateful_layer_carries_on_and_another_one_begins_anew() {
    for way in Way::ALL {
        let (mut layer, [first, second]) = stateful(true, way);
        let whole = Tensor::cat(&[&first, &second], 1).unwrap();
        let zero = layer.layer().zero_state(N).unwrap();
        let (whole, _) = layer.layer().forward(&whole, &zero).unwrap();
        layer.forward(&first).unwrap();
        let carried = layer.forward(&second).unwrap();
        assert!(off(&carried, &whole.narrow(1, T, T).unwrap()) < 1e-13, "{way}: as one long window");

        layer.reset_state();
        assert!(layer.state().is_none());
        let begun = layer.forward(&second).unwrap();
        let (alone, _) = layer.layer().forward(&second, &zero).unwrap();
        assert_eq!(off(&begun, &alone), 0.0, "{way}: reset_state is zeros");

        let (mut forgetful, _) = stateful(false, way);
        forgetful.forward(&first).unwrap();
        assert_eq!(off(&forgetful.forward(&second).unwrap(), &alone), 0.0, "{way}: not stateful");
        assert_eq!(off(&forgetful.infer(&second).unwrap(), &alone), 0.0, "{way}: infer is the same");

        let plan = Plan::new().lengths(&[T, 1, 2]);
        let (padded, after) = layer.layer().infer_with(&second, &zero, &plan).unwrap();
        layer.reset_state();
        assert_eq!(off(&layer.infer_with(&second, &plan).unwrap(), &padded), 0.0, "{way}: infer by a plan");
        assert_eq!(off(layer.state().unwrap().parts()[1], after.parts()[1]), 0.0, "{way}");
        layer.reset_state();

        let given = zero.try_map(&mut |_| Ok(random(&[N, H], "given"))).unwrap();
        let (want, _) = layer.layer().forward(&second, &given).unwrap();
        layer.set_state(given.clone());
        forgetful.set_state(given);
        assert_eq!(off(&layer.forward(&second).unwrap(), &want), 0.0, "{way}: set_state");
        assert_eq!(off(&forgetful.forward(&second).unwrap(), &want), 0.0, "{way}: set_state, once");
        assert_eq!(off(&forgetful.forward(&second).unwrap(), &alone), 0.0, "{way}: and no more");
    }
}

#[test]
fn the_gradient_is_cut_at_each_window_and_dh_says_what_it_was_there() {
    for way in Way::ALL {
        let (mut layer, [first, second]) = stateful(true, way);
        assert!(layer.state().is_none());
        let [first, second] = [first, second].map(|xs| Var::from_tensor(&xs).unwrap());
        layer.forward(&first).unwrap();
        let state = layer.state().unwrap().clone();
        let grads = layer.forward(&second).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&first).is_none(), "{way}: nothing reaches the window before");
        assert!(grads.get(&second).is_some());
        let dh = layer.dh(&grads).unwrap().unwrap();

        // The same by finite differences of the loss with respect to one number of h and one of c.
        let loss = |part: usize, delta: f64| {
            let mut i = 0;
            let moved = state.try_map(&mut |tensor| {
                let mut numbers = tensor.flatten_all()?.to_vec1::<f64>()?;
                numbers[7] += if i == part { delta } else { 0.0 };
                i += 1;
                Ok(Tensor::from_vec(numbers, tensor.dims(), &Device::Cpu)?)
            });
            let (hs, _) = layer.layer().infer(&second, &moved.unwrap()).unwrap();
            hs.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
        };
        for (part, dh) in dh.parts().into_iter().enumerate() {
            let slope = (loss(part, 1e-5) - loss(part, -1e-5)) / 2e-5;
            let got = dh.flatten_all().unwrap().to_vec1::<f64>().unwrap()[7];
            assert!((got - slope).abs() < 1e-7 * slope.abs().max(1.0), "{way}: {got} for {slope}");
        }
    }
}

#[test]
fn an_error_leaves_the_state_as_it_was() {
    let (mut layer, [first, second]) = stateful(true, Way::Fused);
    layer.forward(&first).unwrap();
    let before = layer.state().unwrap().clone();
    let narrow = random(&[N, T, D - 1], "narrow");
    let error = layer.forward(&narrow).unwrap_err().to_string();
    assert!(error.contains("TimeRnn: xs: expected [N, T, 4]") && error.contains("got [3, 5, 3]"), "{error}");
    let rows = random(&[N + 1, T, D], "rows");
    let error = layer.forward(&rows).unwrap_err().to_string();
    assert!(error.contains("TimeRnn: state.h: expected [4, 6] for xs [4, 5, 4], got [3, 6]"), "{error}");
    for (now, before) in layer.state().unwrap().parts().into_iter().zip(before.parts()) {
        assert_eq!(off(now, before), 0.0);
    }
    layer.forward(&second).unwrap();
}
