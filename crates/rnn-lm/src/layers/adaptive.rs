//! The adaptive softmax: what a vocabulary is cut into, and the output layer over it.

use super::TimeSoftmaxWithLoss;
use super::softmax_loss::check_targets;
use crate::data::IGNORE;
use crate::{Error, Result};
use candle_core::{D, Tensor};
use candle_nn::VarBuilder;
use rnn_core::Scheme;

/// Where clusters begin: ids below the first cutoff are in the head, those from it to the next one in the first cluster,
/// and so on to the end of the vocabulary. A cutoff of 0 is none.
///
/// ```
/// use rnn_lm::layers::Cutoffs;
/// let cutoffs = Cutoffs::new(&[2000, 10_000])?;
/// assert_eq!(cutoffs.clusters(33_278)?, [2000..10_000, 10_000..33_278]);
/// assert!(cutoffs.clusters(10_000).is_err() && Cutoffs::new(&[10_000, 2000]).is_err());
/// # rnn_lm::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutoffs([usize; MOST]);

/// Clusters at most.
const MOST: usize = 4;

/// What the size of a cluster's vectors is divided by, one after the other: rare words are told apart in fewer dimensions,
/// though not in none, where PyTorch's would be.
const DIVIDE: usize = 4;

impl Cutoffs {
    /// One to four, each above the one before.
    ///
    /// # Errors
    /// Where they are not.
    pub fn new(cutoffs: &[usize]) -> Result<Self> {
        let rising = cutoffs.first() != Some(&0) && cutoffs.windows(2).all(|pair| pair[0] < pair[1]);
        if cutoffs.is_empty() || cutoffs.len() > MOST || !rising {
            let want = format!("1 to {MOST} numbers above 0, each above the one before");
            return Err(Error::invalid("Cutoffs::new: cutoffs", want, format!("{cutoffs:?}")));
        }
        let mut all = [0; MOST];
        all[..cutoffs.len()].copy_from_slice(cutoffs);
        Ok(Self(all))
    }

    /// The ids of each cluster, in a vocabulary of V.
    ///
    /// # Errors
    /// Where a cutoff is not below V.
    pub fn clusters(&self, vocabulary: usize) -> Result<Vec<std::ops::Range<usize>>> {
        let begins: Vec<usize> = self.0.into_iter().filter(|&cutoff| cutoff > 0).collect();
        if let Some(last) = begins.last().filter(|&&last| last >= vocabulary) {
            return Err(Error::invalid("Cutoffs", format!("below the vocabulary's {vocabulary}"), last)
                .hint("each begins a cluster of less frequent words, of which there have to be some"));
        }
        let ends = begins.iter().skip(1).copied().chain([vocabulary]);
        Ok(begins.iter().zip(ends).map(|(&begin, end)| begin..end).collect())
    }
}

/// An output layer and its loss, for vocabularies so large that nearly all of a step goes into words that never come: the
/// adaptive softmax (Grave, Joulin, Cissé, Grangier & Jégou 2017, "Efficient softmax approximation for GPUs"). Frequent words
/// are told apart at once; a rare one is the product of two, `p(its cluster) p(it in its cluster)`, and a cluster is looked
/// into only where a word of it comes.
///
/// Ids have to be in the order of frequency, the most frequent first. Hidden states are `[N, T, H]`. Weights have the names and
/// shapes of PyTorch's `AdaptiveLogSoftmaxWithLoss` without a bias: `head.weight [first cutoff + clusters, H]`, and of cluster
/// i `tail.{i}.0.weight [d, H]` and `tail.{i}.1.weight [its ids, d]`, `d = H / 4^(i + 1)` and at least 1.
#[derive(Debug, Clone)]
pub struct TimeAdaptive {
    /// `[first cutoff + clusters, H]`
    head: Tensor,
    tails: Vec<Tail>,
}

/// A cluster: `up (down h)`.
#[derive(Debug, Clone)]
struct Tail {
    /// `[d, H]`
    down: Tensor,
    /// `[ids, d]`
    up: Tensor,
    ids: std::ops::Range<usize>,
}

/// Rows of a window that are of one cluster, and which of its words each has to tell.
#[derive(Debug, Clone, Default)]
struct Rows {
    rows: Vec<u32>,
    targets: Vec<u32>,
}

/// What a backward by hand leaves.
#[derive(Debug, Clone)]
pub struct AdaptiveGrads {
    /// With respect to the hidden states, `[N, T, H]`.
    pub dhs: Tensor,
    /// Of each parameter, in the order of [`TimeAdaptive::parameters`].
    pub parameters: Vec<Tensor>,
}

impl TimeAdaptive {
    /// For hidden states of `inputs` and a vocabulary of `outputs`, with parameters from `vb`.
    ///
    /// # Errors
    /// Where a cutoff is beyond the vocabulary, or `vb` has no such tensors.
    pub fn new(
        inputs: usize,
        outputs: usize,
        cutoffs: Cutoffs,
        init: Scheme,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let clusters = cutoffs.clusters(outputs)?;
        let first = clusters.first().map_or(outputs, |first| first.start);
        let matrix = |rows: usize, columns: usize, name: String| -> Result<Tensor> {
            Ok(vb.get_with_hints((rows, columns), &name, init.affine(columns))?)
        };
        let head = matrix(first + clusters.len(), inputs, "head.weight".into())?;
        let mut tails = Vec::new();
        let mut size = inputs;
        for (i, ids) in clusters.into_iter().enumerate() {
            size = (size / DIVIDE).max(1);
            let down = matrix(size, inputs, format!("tail.{i}.0.weight"))?;
            let up = matrix(ids.len(), size, format!("tail.{i}.1.weight"))?;
            tails.push(Tail { down, up, ids });
        }
        Ok(Self { head, tails })
    }

    /// `head.weight`, and of each cluster both.
    pub fn parameters(&self) -> Vec<&Tensor> {
        [&self.head].into_iter().chain(self.tails.iter().flat_map(|tail| [&tail.down, &tail.up])).collect()
    }

    /// H
    ///
    /// # Errors
    /// Those of candle.
    pub fn inputs(&self) -> Result<usize> {
        Ok(self.head.dim(1)?)
    }

    /// Ids in the head.
    fn first(&self) -> usize {
        self.tails.first().map_or(0, |tail| tail.ids.start)
    }

    fn vocabulary(&self) -> usize {
        self.tails.last().map_or(0, |tail| tail.ids.end)
    }

    /// What the head has to tell, and for each cluster the rows that are of it with what it has to tell.
    fn deal(&self, targets: &[u32]) -> (Vec<u32>, Vec<Rows>) {
        let mut rows = vec![Rows::default(); self.tails.len()];
        let first = self.first() as u32;
        let of_head = targets.iter().enumerate().map(|(row, &target)| {
            if target == IGNORE || target < first {
                return target;
            }
            let cluster = self.tails.iter().take_while(|tail| tail.ids.end <= target as usize).count();
            rows[cluster].rows.push(row as u32);
            rows[cluster].targets.push(target - self.tails[cluster].ids.start as u32);
            first + cluster as u32
        });
        (of_head.collect(), rows)
    }

    /// The mean loss of `hs [N, T, H]` through candle's autograd; `loss` is that of one softmax, such as
    /// [`TimeSoftmaxWithLoss::forward`].
    ///
    /// # Errors
    /// Those of [`TimeSoftmaxWithLoss::forward`].
    pub fn forward(
        &self,
        hs: &Tensor,
        targets: &[u32],
        loss: impl Fn(&Tensor, &[u32]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (hs, count) = self.rows(hs, targets)?;
        let (of_head, of_tails) = self.deal(targets);
        let mut sum = loss(&hs.matmul(&self.head.t()?)?.unsqueeze(0)?, &of_head)?;
        for (tail, Rows { rows, targets }) in self.tails.iter().zip(&of_tails) {
            if rows.is_empty() {
                continue;
            }
            let rows = Tensor::from_slice(rows, rows.len(), hs.device())?;
            let low = hs.index_select(&rows, 0)?.matmul(&tail.down.t()?)?;
            let of_tail = loss(&low.matmul(&tail.up.t()?)?.unsqueeze(0)?, targets)?;
            sum = (sum + (of_tail * (targets.len() as f64 / count as f64))?)?;
        }
        Ok(sum)
    }

    /// The loss and all gradients, by hand: each cluster's is an affine layer's over the rows that are of it.
    ///
    /// # Errors
    /// Those of [`Self::forward`].
    pub fn forward_taped(&self, hs: &Tensor, targets: &[u32]) -> Result<(f64, AdaptiveGrads)> {
        let shape = hs.shape().clone();
        let (hs, count) = self.rows(&hs.detach(), targets)?;
        let (of_head, of_tails) = self.deal(targets);
        let head = self.head.detach();
        let logits = hs.matmul(&head.t()?)?.unsqueeze(0)?;
        let (mut loss, dlogits) = TimeSoftmaxWithLoss.turn(logits, &of_head)?;
        let dlogits = dlogits.squeeze(0)?;
        let mut dhs = dlogits.matmul(&head)?;
        let mut parameters = vec![dlogits.t()?.matmul(&hs)?];
        for (tail, Rows { rows, targets }) in self.tails.iter().zip(&of_tails) {
            let (down, up) = (tail.down.detach(), tail.up.detach());
            if rows.is_empty() {
                parameters.extend([down.zeros_like()?, up.zeros_like()?]);
                continue;
            }
            let share = targets.len() as f64 / count as f64;
            let rows = Tensor::from_slice(rows, rows.len(), hs.device())?;
            let of_rows = hs.index_select(&rows, 0)?;
            let low = of_rows.matmul(&down.t()?)?;
            let logits = low.matmul(&up.t()?)?.unsqueeze(0)?;
            let (of_tail, dlogits) = TimeSoftmaxWithLoss.turn(logits, targets)?;
            loss += of_tail * share;
            let dlogits = (dlogits.squeeze(0)? * share)?;
            let dlow = dlogits.matmul(&up)?;
            dhs = dhs.index_add(&rows, &dlow.matmul(&down)?, 0)?;
            parameters.extend([dlow.t()?.matmul(&of_rows)?, dlogits.t()?.matmul(&low)?]);
        }
        Ok((loss, AdaptiveGrads { dhs: dhs.reshape(shape)?, parameters }))
    }

    /// `ln p` of every word, `[N, T, V]`: what a softmax of it leaves as it is, so it stands where logits do.
    ///
    /// # Errors
    /// Those of candle, where shapes, dtypes or devices do not fit.
    pub fn infer(&self, hs: &Tensor) -> Result<Tensor> {
        let hs = hs.detach();
        let apply = |hs: &Tensor, weight: &Tensor| hs.broadcast_matmul(&weight.detach().t()?);
        let first = self.first();
        let head = candle_nn::ops::log_softmax(&apply(&hs, &self.head)?, D::Minus1)?;
        let mut parts = vec![head.narrow(2, 0, first)?];
        for (i, tail) in self.tails.iter().enumerate() {
            let logits = apply(&apply(&hs, &tail.down)?, &tail.up)?;
            let of_cluster = head.narrow(2, first + i, 1)?;
            parts.push(candle_nn::ops::log_softmax(&logits, D::Minus1)?.broadcast_add(&of_cluster)?);
        }
        Ok(Tensor::cat(&parts, 2)?)
    }

    /// `hs` as rows `[N*T, H]`, and how many targets count.
    fn rows(&self, hs: &Tensor, targets: &[u32]) -> Result<(Tensor, usize)> {
        let (batch, time, size) = hs.dims3()?;
        let count = check_targets("TimeAdaptive: targets", targets, batch * time, self.vocabulary())?;
        Ok((hs.reshape((batch * time, size))?.contiguous()?, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};
    use rnn_core::Parameters;

    const V: usize = 23;

    fn layer() -> (TimeAdaptive, Vec<Var>) {
        let parameters = Parameters::new(3, DType::F64, &Device::Cpu);
        let cutoffs = Cutoffs::new(&[5, 9, 20]).unwrap();
        let layer = TimeAdaptive::new(16, V, cutoffs, Scheme::Uniform(0.7), &parameters.builder()).unwrap();
        (layer, parameters.vars())
    }

    fn hs() -> Var {
        let numbers: Vec<f64> = (0..2 * 6 * 16).map(|i| ((i * i % 37) as f64 - 18.0) / 9.0).collect();
        Var::from_vec(numbers, (2, 6, 16), &Device::Cpu).unwrap()
    }

    const TARGETS: [u32; 12] = [0, 4, 5, 8, IGNORE, 19, 20, 22, 1, 6, 21, 3];

    fn numbers(tensor: &Tensor) -> Vec<f64> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn it_is_a_distribution_and_the_loss_is_its_logarithm() {
        let (layer, _) = layer();
        let log_p = layer.infer(&hs()).unwrap();
        let rows = log_p.reshape((12, V)).unwrap().to_vec2::<f64>().unwrap();
        let mut sum = 0.0;
        for (row, &target) in rows.iter().zip(&TARGETS) {
            assert!((row.iter().map(|x| x.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
            sum -= if target == IGNORE { 0.0 } else { row[target as usize] };
        }
        let (loss, _) = layer.forward_taped(&hs(), &TARGETS).unwrap();
        assert!((loss - sum / 11.0).abs() < 1e-12, "{loss} {}", sum / 11.0);
    }

    #[test]
    fn as_pytorch() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/adaptive.safetensors");
        let fixture = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let parameters = Parameters::new(3, DType::F64, &Device::Cpu);
        let cutoffs = Cutoffs::new(&[5, 9]).unwrap();
        let layer = TimeAdaptive::new(16, V, cutoffs, Scheme::Pytorch, &parameters.builder()).unwrap();
        let named = parameters.named();
        for (name, var) in &named {
            var.set(&fixture[name]).unwrap();
        }
        let targets: Vec<u32> =
            fixture["targets"].to_dtype(DType::U32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let (loss, grads) = layer.forward_taped(&fixture["hs"], &targets).unwrap();
        let loss = Tensor::new(loss, &Device::Cpu).unwrap();
        let log_p = layer.infer(&fixture["hs"]).unwrap();
        let names = named.iter().map(|(name, _)| format!("grad.{name}"));
        let by_name = names.zip(&grads.parameters);
        let others = [("loss", &loss), ("log_prob", &log_p), ("grad.hs", &grads.dhs)];
        for (name, got) in others.map(|(name, got)| (name.to_string(), got)).into_iter().chain(by_name) {
            let want = &fixture[&name];
            assert_eq!(got.dims(), want.dims(), "{name}");
            for (a, b) in numbers(got).iter().zip(numbers(want)) {
                assert!((a - b).abs() < 1e-13, "{name}: {a} {b}");
            }
        }
    }

    #[test]
    fn gradients_by_hand_are_those_of_the_graph() {
        let (layer, vars) = layer();
        let hs = hs();
        let reference = |logits: &Tensor, targets: &[u32]| TimeSoftmaxWithLoss.reference(logits, targets);
        let by_hand = |logits: &Tensor, targets: &[u32]| TimeSoftmaxWithLoss.forward(logits, targets);
        // With a cluster that nothing is of, too.
        for targets in [TARGETS, TARGETS.map(|target| if target == IGNORE { 2 } else { target % 9 })] {
            let (loss, grads) = layer.forward_taped(&hs, &targets).unwrap();
            for want in [
                layer.forward(&hs, &targets, reference).unwrap(),
                layer.forward(&hs, &targets, by_hand).unwrap(),
            ] {
                assert!((want.to_vec0::<f64>().unwrap() - loss).abs() < 1e-13);
                let store = want.backward().unwrap();
                let got = [&grads.dhs].into_iter().chain(&grads.parameters);
                for (var, got) in [&hs].into_iter().chain(&vars).zip(got) {
                    let want = store.get(var.as_tensor());
                    let want = want.map_or_else(|| vec![0.0; got.elem_count()], numbers);
                    for (a, b) in numbers(got).iter().zip(&want) {
                        assert!((a - b).abs() < 1e-13, "{:?}: {a} {b}", var.dims());
                    }
                }
            }
        }
    }

    #[test]
    fn parameters_have_pytorchs_names_and_shapes() {
        let parameters = Parameters::new(3, DType::F32, &Device::Cpu);
        let cutoffs = Cutoffs::new(&[2000, 10_000]).unwrap();
        TimeAdaptive::new(256, 30_000, cutoffs, Scheme::Pytorch, &parameters.builder()).unwrap();
        let named = parameters.named();
        let named: Vec<(&str, &[usize])> =
            named.iter().map(|(name, var)| (name.as_str(), var.dims())).collect();
        let want: [(&str, &[usize]); 5] = [
            ("head.weight", &[2002, 256]),
            ("tail.0.0.weight", &[64, 256]),
            ("tail.0.1.weight", &[8000, 64]),
            ("tail.1.0.weight", &[16, 256]),
            ("tail.1.1.weight", &[20_000, 16]),
        ];
        assert_eq!(named, want);
    }

    #[test]
    fn cutoffs_beyond_the_vocabulary_are_refused() {
        let parameters = Parameters::new(3, DType::F32, &Device::Cpu);
        let cutoffs = Cutoffs::new(&[5, 23]).unwrap();
        let error = TimeAdaptive::new(8, 23, cutoffs, Scheme::Pytorch, &parameters.builder()).unwrap_err();
        assert!(error.to_string().contains("Cutoffs: expected below the vocabulary's 23, got 23"), "{error}");
    }
}
