//! A cell of one's own: the minimal gated unit (Zhou et al. 2016), with its gate applied after the recurrent product.
//!
//! ```text
//! f = sigmoid(x_f + h_f)    n = tanh(x_n + f * h_n)    h' = (1 - f) * h + f * n
//! ```
//!
//! A step and its backward are all there is to write. Stacking, two directions, lengths, resets, masks, segments and
//! both doors come with them. The same arithmetic in lanes is what makes it fused: [`Mgu`], which the engine runs with the
//! instructions that the CPU has. Both backwards by hand are held against candle's autograd.

use anyhow::{Context, Result, ensure};
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, ops::sigmoid};
use rnn_core::cell::{PointwiseGrads, Saved, Sums};
use rnn_core::kernels::pointwise::{Backward, Forward, Inputs, MAX_GATES, Pointwise, Reads, Tape};
use rnn_core::kernels::{Kernel, Vector};
use rnn_core::{
    Bidirectional, Cell, LayerParams, LayerSpec, Parameters, Plan, Recurrent, Regularisers, RnnState,
    Segments, Stack, Way, last_ran,
};
use std::io::Write;

#[derive(Debug, Clone)]
struct MguCell {
    spec: LayerSpec,
    params: LayerParams,
}

impl Cell for MguCell {
    type State = RnnState;
    const GATES: usize = 2; // f n

    fn new(spec: LayerSpec, vb: VarBuilder) -> rnn_core::Result<Self> {
        Ok(Self { spec, params: LayerParams::new(&spec, Self::GATES, &vb)? })
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

    fn zero_state(&self, batch: usize) -> rnn_core::Result<RnnState> {
        let weight = &self.params.weight_hh;
        Ok(RnnState { h: Tensor::zeros((batch, self.spec.hidden), weight.dtype(), weight.device())? })
    }

    fn pointwise_forward(&self, sums: &Sums, state: &RnnState) -> rnn_core::Result<(RnnState, Saved)> {
        let (input, recurrent) = (sums.input.chunk(2, D::Minus1)?, sums.recurrent.chunk(2, D::Minus1)?);
        let f = sigmoid(&(&input[0] + &recurrent[0])?)?;
        let n = (&input[1] + (&f * &recurrent[1])?)?.tanh()?;
        let h = (&state.h + (&f * (&n - &state.h)?)?)?;
        Ok((RnnState { h }, Saved(vec![f, n, recurrent[1].clone(), state.h.clone()])))
    }

    fn pointwise_backward(
        &self,
        saved: &Saved,
        dnext: &RnnState,
    ) -> rnn_core::Result<PointwiseGrads<RnnState>> {
        let [f, n, h_n, h] = saved.read("MguCell")?;
        let dn = ((&dnext.h * &f)? * (1.0 - n.sqr()?)?)?;
        let df = ((&dnext.h * (n - h)?)? + (&dn * h_n)?)?;
        let df = (df * (&f * (1.0 - &f)?)?)?;
        let sums = Sums {
            input: Tensor::cat(&[&df, &dn], D::Minus1)?,
            recurrent: Tensor::cat(&[&df, &(&dn * &f)?], D::Minus1)?,
        };
        let state = RnnState { h: (&dnext.h * (1.0 - f)?)? };
        Ok(PointwiseGrads { sums, state, fed: None, own: Vec::new() })
    }

    fn kernel(&self) -> Option<&'static dyn Kernel> {
        static MGU: Mgu = Mgu;
        Some(&MGU)
    }
}

/// The step in lanes: any number of units side by side.
struct Mgu;

impl Pointwise for Mgu {
    const GATES: usize = MguCell::GATES;
    const CARRY: bool = false;
    const READS: Reads = Reads::Hidden;
    const EXTRA: bool = true; // h_n
    const TWO_SIDED: bool = true; // f stands before the recurrent half of n

    #[inline(always)]
    fn forward<V: Vector>(Inputs { input, recurrent, read: h, .. }: Inputs<V>) -> Forward<V> {
        let f = (input[0] + recurrent[0]).sigmoid();
        let n = (input[1] + f * recurrent[1]).tanh();
        Forward { gates: gates(f, n), extra: recurrent[1], made: h + f * (n - h), c: V::zero() }
    }

    #[inline(always)]
    fn backward<V: Vector>(tape: &Tape<V>, dh: V, _: V) -> Backward<V> {
        let [f, n, ..] = tape.gates;
        let dn = dh * f * (V::one() - n * n);
        let df = (dh * (n - tape.read) + dn * tape.extra) * (f * (V::one() - f));
        let recurrent = gates(df, dn * f);
        Backward { recurrent, read: dh * (V::one() - f), ..Backward::one_sided(gates(df, dn)) }
    }
}

fn gates<V: Vector>(f: V, n: V) -> [V; MAX_GATES] {
    [f, n, V::zero(), V::zero()]
}

fn main() -> Result<()> {
    let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
    let stack = Stack::<Bidirectional<MguCell>>::new(LayerSpec::new(3, 8), 2, &parameters.builder())?;
    let drop = Regularisers { recurrent: 0.2, weight: 0.1, zoneout_h: 0.1, ..Regularisers::default() };
    let stack = stack.with_dropout(0.3)?.map(|layer| layer.with_regularisers(drop))?;
    let resets: Vec<bool> = (0..30).map(|i| i % 7 == 3).collect();
    let plan = Plan::new().lengths(&[10, 4, 7]).resets(&resets).draw(1, 0);

    let xs = Var::rand(-1.0, 1.0, (3, 10, 3), &Device::Cpu)?;
    let gradients = |stack: Stack<Bidirectional<MguCell>>| -> Result<Vec<Tensor>> {
        let (hs, _) = stack.forward_with(&xs, &stack.zero_state(3)?, &plan)?;
        let grads = hs.sqr()?.sum_all()?.backward()?;
        let of = |var: &Var| grads.get(var).cloned().context("a parameter without a gradient");
        parameters.vars().iter().chain([&xs]).map(of).collect()
    };
    let want = gradients(stack.clone().with_way(Way::Reference))?;
    for way in [Way::Manual, Way::Fused] {
        let by_hand = stack.clone().with_way(way);
        let got = gradients(by_hand.map(|layer| layer.with_segments(Segments::recomputed(4)))?)?;
        ensure!(last_ran() == Some(way), "{:?} ran in the place of {way}", last_ran());
        let mut worst = 0f64;
        for (got, want) in got.iter().zip(&want) {
            for off in (got - want)?.abs()?.flatten_all()?.to_vec1::<f64>()? {
                ensure!(off < 1e-12, "a gradient is wrong by {off:e}, {way}");
                worst = worst.max(off);
            }
        }
        let count = got.len();
        writeln!(
            std::io::stdout(),
            "{way}: {count} gradients by hand; none is further than {worst:.1e} from autograd's"
        )?;
    }
    Ok(())
}
