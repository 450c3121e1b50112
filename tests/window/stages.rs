//! Kernels from outside the crate, of stages that no cell in it has: what [`Stages`] admits is computed, in any window.

use crate::numbers::random;
use crate::steering::{NORMED, holds_at};
use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::sigmoid;
use rnn_core::cell::{CellState, LstmState, PointwiseGrads, RnnState, Saved, Sums};
use rnn_core::convention::{BIAS_HN, NORM_EPSILON, WEIGHT_HN};
use rnn_core::kernels::pointwise::{
    Backward, Between, Forward, Inputs, MAX_GATES, MAX_OWN, Pointwise, Reads, Stages, Tape,
};
use rnn_core::kernels::{Kernel, Vector};
use rnn_core::sums::column_sums;
use rnn_core::{
    Bias, Cell, Direction, Layer, LayerParams, LayerSpec, Parameters, Recurrent, Result, Stack, TimeRnn,
};
use std::fmt::Debug;
use std::marker::PhantomData;

/// What a cell computes, in tensor ops; and its kernel.
trait Arithmetic: Clone + Debug + Send + Sync + 'static {
    type State: CellState;
    const GATES: usize;
    const KERNEL: &'static dyn Kernel;

    fn parameters(spec: &LayerSpec, vb: &VarBuilder) -> Result<LayerParams> {
        LayerParams::new(spec, Self::GATES, vb)
    }

    fn zeros(zeros: Tensor) -> Self::State;

    fn forward(
        params: &LayerParams,
        sums: &Sums,
        fed: &Tensor,
        state: &Self::State,
    ) -> Result<(Self::State, Saved)>;

    fn backward(
        params: &LayerParams,
        saved: &Saved,
        dnext: &Self::State,
    ) -> Result<PointwiseGrads<Self::State>>;
}

#[derive(Debug, Clone)]
struct Toy<A> {
    spec: LayerSpec,
    params: LayerParams,
    of: PhantomData<A>,
}

impl<A: Arithmetic> Cell for Toy<A> {
    type State = A::State;
    const GATES: usize = A::GATES;

    fn new(spec: LayerSpec, vb: VarBuilder) -> Result<Self> {
        Ok(Self { spec, params: A::parameters(&spec, &vb)?, of: PhantomData })
    }

    fn spec(&self) -> &LayerSpec {
        &self.spec
    }

    fn params(&self) -> &LayerParams {
        &self.params
    }

    fn with_params(&self, params: LayerParams) -> Self {
        Self { params, ..self.clone() }
    }

    fn zero_state(&self, batch: usize) -> Result<A::State> {
        let weight = &self.params.weight_ih;
        Ok(A::zeros(Tensor::zeros((batch, self.spec.hidden), weight.dtype(), weight.device())?))
    }

    fn pointwise_forward(&self, sums: &Sums, state: &A::State) -> Result<(A::State, Saved)> {
        self.pointwise_fed(sums, state.h(), state)
    }

    fn pointwise_fed(&self, sums: &Sums, fed: &Tensor, state: &A::State) -> Result<(A::State, Saved)> {
        A::forward(&self.params, sums, fed, state)
    }

    fn pointwise_backward(&self, saved: &Saved, dnext: &A::State) -> Result<PointwiseGrads<A::State>> {
        A::backward(&self.params, saved, dnext)
    }

    fn kernel(&self) -> Option<&'static dyn Kernel> {
        Some(A::KERNEL)
    }
}

fn all_ways<A: Arithmetic>() {
    for direction in Direction::BOTH {
        for bias in [Bias::None, Bias::Single, Bias::Both] {
            holds_at(&NORMED, |case| {
                let spec = case.spec(bias).direction(direction);
                TimeRnn::<Toy<A>>::build(spec, &case.parameters.builder())
            });
        }
    }
}

/// Step by step with packed weights it has the bits of a window.
fn streams<A: Arithmetic>() {
    let [n, steps, d, h] = [2, 5, 3, 37];
    let parameters = Parameters::new(4, DType::F32, &Device::Cpu);
    let stack = Stack::<TimeRnn<Toy<A>>>::new(LayerSpec::new(d, h), 2, &parameters.builder()).unwrap();
    let xs = random(&[n, steps, d], DType::F32, "xs");
    let (hs, _) = stack.infer(&xs, &stack.zero_state(n).unwrap()).unwrap();
    let mut stream = stack.stream::<f32>(n).unwrap();
    for t in 0..steps {
        let row =
            |tensor: &Tensor| tensor.i((.., t)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(stream.step(&row(&xs)).unwrap(), row(&hs), "step {t}");
    }
}

fn first<V: Vector>(gate: V) -> [V; MAX_GATES] {
    [gate, V::zero(), V::zero(), V::zero()]
}

fn halves(sums: &Sums, gates: (usize, usize)) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
    Ok((sums.input.chunk(gates.0, D::Minus1)?, sums.recurrent.chunk(gates.1, D::Minus1)?))
}

/// One stage that reads what is fed: `t = tanh(a)`, `h' = t (1 + fed / 2)`.
#[derive(Debug, Clone)]
struct OnlyFed;

impl Pointwise for OnlyFed {
    const GATES: usize = 1;
    const CARRY: bool = false;
    const READS: Reads = Reads::Fed;
    const EXTRA: bool = false;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, read: fed, .. }: Inputs<V>) -> Forward<V> {
        let t = (input[0] + recurrent[0]).tanh();
        let made = t * (V::one() + V::number(0.5) * fed);
        Forward { gates: first(t), extra: V::zero(), made, c: V::zero() }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, _: V) -> Backward<V> {
        let (t, half) = (tape.gates[0], V::number(0.5));
        let da = dh * (V::one() + half * tape.read) * (V::one() - t * t);
        Backward { read: dh * half * t, ..Backward::one_sided(first(da)) }
    }
}

impl Arithmetic for OnlyFed {
    type State = RnnState;
    const GATES: usize = 1;
    const KERNEL: &'static dyn Kernel = &OnlyFed;

    fn zeros(h: Tensor) -> RnnState {
        RnnState { h }
    }

    fn forward(_: &LayerParams, sums: &Sums, fed: &Tensor, _: &RnnState) -> Result<(RnnState, Saved)> {
        let t = (&sums.input + &sums.recurrent)?.tanh()?;
        let h = (&t * (1.0 + (fed * 0.5)?)?)?;
        Ok((RnnState { h }, Saved(vec![t, fed.clone()])))
    }

    fn backward(_: &LayerParams, saved: &Saved, dnext: &RnnState) -> Result<PointwiseGrads<RnnState>> {
        let [t, fed] = saved.read("OnlyFed")?;
        let da = ((&dnext.h * (1.0 + (fed * 0.5)?)?)? * (1.0 - t.sqr()?)?)?;
        let (dfed, state) = ((&dnext.h * (t * 0.5)?)?, RnnState { h: dnext.h.zeros_like()? });
        Ok(PointwiseGrads { fed: Some(dfed), ..PointwiseGrads::one_sided(da, state) })
    }
}

#[test]
fn one_that_reads_what_is_fed() {
    all_ways::<OnlyFed>();
    streams::<OnlyFed>();
}

/// Behind a product one that reads what is fed, makes c and has an extra: `r = sigmoid(a_r)`, `z = sigmoid(a_z)`,
/// `n = tanh(x_n + W_hn r + b_hn)`, `c' = c / 2 + z n`, `h' = tanh(c') fed + n`.
#[derive(Debug, Clone)]
struct LateFed;

impl Stages for LateFed {
    type First = OpenGate;
    type Last = ReadLate;
    const BETWEEN: Option<Between> = Some(Between::Product);
}

struct OpenGate;

impl Pointwise for OpenGate {
    const GATES: usize = 1;
    const CARRY: bool = false;
    const READS: Reads = Reads::Nothing;
    const EXTRA: bool = false;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, .. }: Inputs<V>) -> Forward<V> {
        let r = (input[0] + recurrent[0]).sigmoid();
        Forward { gates: first(r), extra: V::zero(), made: r, c: V::zero() }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dr: V, _: V) -> Backward<V> {
        let r = tape.gates[0];
        Backward::one_sided(first(dr * r * (V::one() - r)))
    }
}

struct ReadLate;

impl Pointwise for ReadLate {
    const GATES: usize = 2;
    const CARRY: bool = true;
    const READS: Reads = Reads::Fed;
    const EXTRA: bool = true;
    const TWO_SIDED: bool = false;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, read: fed, c, .. }: Inputs<V>) -> Forward<V> {
        let z = (input[0] + recurrent[0]).sigmoid();
        let n = (input[1] + recurrent[1]).tanh();
        let next_c = V::number(0.5) * c + z * n;
        let k = next_c.tanh();
        Forward { gates: [z, n, V::zero(), V::zero()], extra: k, made: k * fed + n, c: next_c }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, dc: V) -> Backward<V> {
        let ([z, n, ..], k) = (tape.gates, tape.extra);
        let dc = dc + dh * tape.read * (V::one() - k * k);
        let dz = dc * n * (z * (V::one() - z));
        let dn = (dh + dc * z) * (V::one() - n * n);
        let sums = Backward::one_sided([dz, dn, V::zero(), V::zero()]);
        Backward { read: dh * k, dc: dc * V::number(0.5), ..sums }
    }
}

impl Arithmetic for LateFed {
    type State = LstmState;
    const GATES: usize = 3;
    const KERNEL: &'static dyn Kernel = &LateFed;

    fn parameters(spec: &LayerSpec, vb: &VarBuilder) -> Result<LayerParams> {
        let (size, init) = (spec.hidden, spec.init);
        let params = LayerParams::with_recurrent(spec, (Self::GATES, 2), vb)?;
        let params = params.and((WEIGHT_HN, &[size, size]), init.weight(size, size), (spec, vb))?;
        match spec.bias {
            Bias::Both => params.and((BIAS_HN, &[size]), init.bias(size), (spec, vb)),
            Bias::None | Bias::Single => Ok(params),
        }
    }

    fn zeros(h: Tensor) -> LstmState {
        LstmState { c: h.clone(), h }
    }

    fn forward(
        params: &LayerParams,
        sums: &Sums,
        fed: &Tensor,
        state: &LstmState,
    ) -> Result<(LstmState, Saved)> {
        let (input, recurrent) = halves(sums, (3, 2))?;
        let r = sigmoid(&(&input[0] + &recurrent[0])?)?;
        let z = sigmoid(&(&input[1] + &recurrent[1])?)?;
        let mut sum = (&input[2] + r.matmul(&params.own(WEIGHT_HN)?.t()?)?)?;
        if let Ok(bias) = params.own(BIAS_HN) {
            sum = sum.broadcast_add(bias)?;
        }
        let n = sum.tanh()?;
        let c = ((&state.c * 0.5)? + (&z * &n)?)?;
        let k = c.tanh()?;
        let h = ((&k * fed)? + &n)?;
        Ok((LstmState { h, c }, Saved(vec![r, z, n, k, fed.clone()])))
    }

    fn backward(params: &LayerParams, saved: &Saved, dnext: &LstmState) -> Result<PointwiseGrads<LstmState>> {
        let [r, z, n, k, fed] = &saved.read("LateFed")?;
        let dc = (&dnext.c + ((&dnext.h * fed)? * (1.0 - k.sqr()?)?)?)?;
        let dz = ((&dc * n)? * (z * (1.0 - z)?)?)?;
        let dn = ((&dnext.h + (&dc * z)?)? * (1.0 - n.sqr()?)?)?;
        let dr = (dn.matmul(&params.own(WEIGHT_HN)?.detach())? * (r * (1.0 - r)?)?)?;
        let mut own = vec![(WEIGHT_HN, dn.t()?.matmul(r)?)];
        if params.own(BIAS_HN).is_ok() {
            own.push((BIAS_HN, column_sums(&dn)?));
        }
        let recurrent = Tensor::cat(&[&dr, &dz], D::Minus1)?;
        let input = Tensor::cat(&[&dr, &dz, &dn], D::Minus1)?;
        let state = LstmState { h: dnext.h.zeros_like()?, c: (dc * 0.5)? };
        let dfed = (&dnext.h * k)?;
        Ok(PointwiseGrads { sums: Sums { input, recurrent }, state, fed: Some(dfed), own })
    }
}

#[test]
fn one_behind_a_product_that_reads_what_is_fed_and_makes_c() {
    all_ways::<LateFed>();
    streams::<LateFed>();
}

/// A norm between two whose halves differ: `u = tanh(x_u + h_u^2)`, `v = norm(u fed)`, `o = sigmoid(x_o - h_o)`,
/// `c' = 0.7 c + o scale v`, `h' = tanh(c')`.
#[derive(Debug, Clone)]
struct NormBetween;

/// The parameter of its own.
const SCALE: &str = "scale";

impl Stages for NormBetween {
    type First = Squared;
    type Last = ReadNorm;
    const BETWEEN: Option<Between> = Some(Between::Norm);
}

struct Squared;

impl Pointwise for Squared {
    const GATES: usize = 1;
    const CARRY: bool = false;
    const READS: Reads = Reads::Fed;
    const EXTRA: bool = true;
    const TWO_SIDED: bool = true;

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, read: fed, .. }: Inputs<V>) -> Forward<V> {
        let u = (input[0] + recurrent[0] * recurrent[0]).tanh();
        Forward { gates: first(u), extra: recurrent[0], made: u * fed, c: V::zero() }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dmade: V, _: V) -> Backward<V> {
        let u = tape.gates[0];
        let du = dmade * tape.read * (V::one() - u * u);
        let recurrent = first(du * (tape.extra + tape.extra));
        Backward { recurrent, read: dmade * u, ..Backward::one_sided(first(du)) }
    }
}

struct ReadNorm;

impl Pointwise for ReadNorm {
    const GATES: usize = 1;
    const CARRY: bool = true;
    const READS: Reads = Reads::Between;
    const EXTRA: bool = false;
    const TWO_SIDED: bool = true;
    const OWN: usize = 1;

    #[inline(always)]
    fn forward<V: Vector>(inputs: Inputs<V>) -> Forward<V> {
        let Inputs { input, recurrent, read: v, c, own: [scale, ..] } = inputs;
        let o = (input[0] - recurrent[0]).sigmoid();
        let next_c = V::number(0.7) * c + o * scale * v;
        Forward { gates: first(o), extra: V::zero(), made: next_c.tanh(), c: next_c }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, dc: V) -> Backward<V> {
        let (o, scale, v, kept) = (tape.gates[0], tape.own[0], tape.read, V::number(0.7));
        let h = (kept * tape.c_before + o * scale * v).tanh();
        let dc = dc + dh * (V::one() - h * h);
        let d_o = dc * scale * v * (o * (V::one() - o));
        let own: [V; MAX_OWN] = [dc * o * v, V::zero(), V::zero()];
        let recurrent = first(V::zero() - d_o);
        Backward { recurrent, read: dc * o * scale, dc: dc * kept, own, ..Backward::one_sided(first(d_o)) }
    }
}

impl Arithmetic for NormBetween {
    type State = LstmState;
    const GATES: usize = 2;
    const KERNEL: &'static dyn Kernel = &NormBetween;

    fn parameters(spec: &LayerSpec, vb: &VarBuilder) -> Result<LayerParams> {
        let init = spec.init.bias(spec.hidden);
        LayerParams::new(spec, Self::GATES, vb)?.and((SCALE, &[spec.hidden]), init, (spec, vb))
    }

    fn zeros(h: Tensor) -> LstmState {
        LstmState { c: h.clone(), h }
    }

    fn forward(
        params: &LayerParams,
        sums: &Sums,
        fed: &Tensor,
        state: &LstmState,
    ) -> Result<(LstmState, Saved)> {
        let (input, recurrent) = halves(sums, (2, 2))?;
        let u = (&input[0] + recurrent[0].sqr()?)?.tanh()?;
        let made = (&u * fed)?;
        let centred = made.broadcast_sub(&made.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + NORM_EPSILON)?.sqrt()?;
        let v = centred.broadcast_div(&deviation)?;
        let o = sigmoid(&(&input[1] - &recurrent[1])?)?;
        let c = ((&state.c * 0.7)? + (&o * &v)?.broadcast_mul(params.own(SCALE)?)?)?;
        let h = c.tanh()?;
        let saved = vec![u, recurrent[0].clone(), fed.clone(), v, deviation, o, h.clone()];
        Ok((LstmState { h, c }, Saved(saved)))
    }

    fn backward(params: &LayerParams, saved: &Saved, dnext: &LstmState) -> Result<PointwiseGrads<LstmState>> {
        let [u, y, fed, v, deviation, o, h] = &saved.read("NormBetween")?;
        let scale = &params.own(SCALE)?.detach();
        let dc = (&dnext.c + (&dnext.h * (1.0 - h.sqr()?)?)?)?;
        let own = vec![(SCALE, column_sums(&((&dc * o)? * v)?)?)];
        let d_o = ((&dc * v)?.broadcast_mul(scale)? * (o * (1.0 - o)?)?)?;
        let dv = (&dc * o)?.broadcast_mul(scale)?;
        let along_ones = dv.mean_keepdim(D::Minus1)?;
        let along_v = v.broadcast_mul(&(&dv * v)?.mean_keepdim(D::Minus1)?)?;
        let dmade = (dv.broadcast_sub(&along_ones)? - along_v)?.broadcast_div(deviation)?;
        let du = ((&dmade * fed)? * (1.0 - u.sqr()?)?)?;
        let input = Tensor::cat(&[&du, &d_o], D::Minus1)?;
        let recurrent = Tensor::cat(&[&(&du * (y * 2.0)?)?, &d_o.neg()?], D::Minus1)?;
        let state = LstmState { h: dnext.h.zeros_like()?, c: (dc * 0.7)? };
        Ok(PointwiseGrads { sums: Sums { input, recurrent }, state, fed: Some((dmade * u)?), own })
    }
}

#[test]
fn two_whose_halves_differ_around_a_norm() {
    all_ways::<NormBetween>();
    streams::<NormBetween>();
}

/// One with the kernel of another.
#[derive(Debug, Clone)]
struct Mistaken;

impl Arithmetic for Mistaken {
    type State = RnnState;
    const GATES: usize = 1;
    const KERNEL: &'static dyn Kernel = &LateFed;

    fn zeros(h: Tensor) -> RnnState {
        OnlyFed::zeros(h)
    }

    fn forward(
        params: &LayerParams,
        sums: &Sums,
        fed: &Tensor,
        state: &RnnState,
    ) -> Result<(RnnState, Saved)> {
        <OnlyFed as Arithmetic>::forward(params, sums, fed, state)
    }

    fn backward(params: &LayerParams, saved: &Saved, dnext: &RnnState) -> Result<PointwiseGrads<RnnState>> {
        <OnlyFed as Arithmetic>::backward(params, saved, dnext)
    }
}

#[test]
fn a_kernel_that_is_another_cell_s() {
    let parameters = Parameters::new(0, DType::F32, &Device::Cpu);
    let layer = TimeRnn::<Toy<Mistaken>>::build(LayerSpec::new(3, 4), &parameters.builder()).unwrap();
    let xs = Tensor::zeros((1, 2, 3), DType::F32, &Device::Cpu).unwrap();
    let error = layer.forward(&xs, &layer.zero_state(1).unwrap()).unwrap_err().to_string();
    for part in [
        "Cell::kernel: expected one for 1 gates (1 of them recurrent), 1 parts of a state and 0 numbers of its own",
        "got 3 gates (2 of them recurrent), 2 parts",
    ] {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}
