//! The layouts of the book and of Keras, [`BookLayer`] and [`KerasLayer`], to and from a [`Network`].

use super::gates::{self, Order, ours, reorder};
use super::{Kind, Network, NetworkSpec};
use crate::convention::{BIAS_HH, BIAS_IH, Place, WEIGHT_HH, WEIGHT_IH, name};
use crate::{Error, Result};
use candle_core::Tensor;

/// The parameters of one layer as *Deep Learning from Scratch 2* keeps them, in `RNN`, `LSTM` and their `Time` layers.
///
/// The book multiplies from the other side than PyTorch (y = x W + b), so that its matrices are ours transposed, and
/// has one bias: it comes in as `bias_ih` beside a `bias_hh` of zeros; on the way out the two are added.
///
/// | layer | `Wx` | `Wh` | its gates | ours | `b` |
/// |---|---|---|---|---|---|
/// | `RNN` | `[D, H]` | `[H, H]` | one | one | `[H]` |
/// | `LSTM` | `[D, 4H]` | `[H, 4H]` | f g i o | i f g o | `[4H]` |
///
/// The book's GRU multiplies h by r before the product: no order of the numbers makes up for that, and the conversion
/// is refused.
#[derive(Debug, Clone)]
pub struct BookLayer {
    /// `[D, G*H]`
    pub wx: Tensor,
    /// `[H, G*H]`
    pub wh: Tensor,
    /// `[G*H]`
    pub b: Tensor,
}

/// The parameters of one layer as Keras's `SimpleRNN`, `LSTM` and `GRU` keep them, in the order of their `get_weights`.
///
/// Keras multiplies from the other side than PyTorch (y = x W + b), so that its matrices are ours transposed. A
/// single bias comes in as `bias_ih` beside a `bias_hh` of zeros; on the way out the two are added. A GRU has both,
/// `bias_ih` in the first row.
///
/// | layer | `kernel` | `recurrent_kernel` | its gates | ours | `bias` |
/// |---|---|---|---|---|---|
/// | `SimpleRNN` | `[D, H]` | `[H, H]` | one | one | `[H]` |
/// | `LSTM` | `[D, 4H]` | `[H, 4H]` | i f g o (there i f c o) | i f g o | `[4H]` |
/// | `GRU` | `[D, 3H]` | `[H, 3H]` | z r n (there z r h) | r z n | `[2, 3H]` |
///
/// A GRU with `reset_after=False` multiplies h by r before the product: no order of the numbers makes up for that,
/// and the conversion is refused.
#[derive(Debug, Clone)]
pub struct KerasLayer {
    /// `[D, G*H]`
    pub kernel: Tensor,
    /// `[H, G*H]`
    pub recurrent_kernel: Tensor,
    /// `[G*H]`, of a GRU `[2, 3H]`; none with `use_bias=False`.
    pub bias: Option<Tensor>,
    /// The argument of that name, which a GRU has and the others do not: whether r is applied after the product.
    pub reset_after: bool,
}

impl KerasLayer {
    /// A layer with `reset_after=True`, which is what Keras makes unless it is told otherwise.
    pub fn new(kernel: Tensor, recurrent_kernel: Tensor, bias: Option<Tensor>) -> Self {
        Self { kernel, recurrent_kernel, bias, reset_after: true }
    }
}

impl Network {
    /// A network from the book's layers, in the order of [`NetworkSpec::places`].
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use rnn_core::border::{BookLayer, Kind, Network, NetworkSpec};
    /// let row = |numbers: [f32; 4]| Tensor::new(&[numbers], &Device::Cpu);
    /// let (wx, wh) = (row([0.1, 0.2, 0.3, 0.4])?, row([0.5, 0.6, 0.7, 0.8])?);
    /// let b = Tensor::new(&[1f32, 2.0, 3.0, 4.0], &Device::Cpu)?; // of f, g, i, o
    /// let network = Network::from_book(NetworkSpec::new(Kind::Lstm, 1, 1), &[BookLayer { wx, wh, b }])?;
    /// let bias = network.get("bias_ih", 0).map(|bias| bias.to_vec1::<f32>()).transpose()?;
    /// assert_eq!(bias, Some(vec![3.0, 1.0, 2.0, 4.0])); // of i, f, g, o
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where the book has no such layer or another one of that name (its GRU), `spec` has no bias, or the layers are not
    /// as many or not of the shapes that it asks for.
    pub fn from_book(spec: NetworkSpec, layers: &[BookLayer]) -> Result<Self> {
        let op = "Network::from_book";
        spec.check()?;
        let into = Layout { op, order: book_order(op, &spec)?, spec };
        if !spec.bias {
            return Err(Error::invalid(format!("{op}: bias"), "true", "false")
                .hint("the book's layers have a bias, which may be zero"));
        }
        into.network(layers, |place, BookLayer { wx, wh, b }| {
            let rows = spec.kind.gates() * spec.hidden;
            let bias = into.vector("b", place, b)?;
            Ok(vec![
                (WEIGHT_IH, into.matrix("wx", place, (wx, [spec.input_of(place.layer), rows]))?),
                (WEIGHT_HH, into.matrix("wh", place, (wh, [spec.hidden, rows]))?),
                (BIAS_HH, bias.zeros_like()?),
                (BIAS_IH, bias),
            ])
        })
    }

    /// The book's layers, in the order of [`NetworkSpec::places`]; without a bias theirs are zero.
    ///
    /// ```
    /// use candle_core::DType;
    /// use rnn_core::border::{Kind, Network, NetworkSpec};
    /// let network = Network::seeded(NetworkSpec::new(Kind::Lstm, 3, 5), 0, DType::F32)?;
    /// let layers = network.to_book()?;
    /// assert_eq!((layers.len(), layers[0].wx.dims()), (1, [3, 20].as_slice()));
    /// let error = Network::seeded(NetworkSpec::new(Kind::Gru, 3, 5), 0, DType::F32)?.to_book().unwrap_err();
    /// assert!(error.to_string().contains("multiplies h by r before the product"));
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where the book has no such layer or another one of that name (its GRU).
    pub fn to_book(&self) -> Result<Vec<BookLayer>> {
        let op = "Network::to_book";
        let out = Layout { op, order: book_order(op, &self.spec)?, spec: self.spec };
        let layer = |place| {
            let wx = out.columns(self.parameter(WEIGHT_IH, place)?)?;
            let b = match out.sum_of_biases(self, place)? {
                Some(bias) => bias,
                None => wx.get(0)?.zeros_like()?,
            };
            Ok(BookLayer { wx, wh: out.columns(self.parameter(WEIGHT_HH, place)?)?, b })
        };
        self.spec.places().into_iter().map(layer).collect()
    }

    /// A network from Keras's layers, in the order of [`NetworkSpec::places`]: those of a `Bidirectional` with
    /// `merge_mode="concat"` are its forward and then its backward one.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use rnn_core::border::{KerasLayer, Kind, Network, NetworkSpec};
    /// let row = |numbers: [f32; 3]| Tensor::new(&[numbers], &Device::Cpu);
    /// let layer = KerasLayer::new(row([0.1, 0.2, 0.3])?, row([0.4, 0.5, 0.6])?, None); // of z, r, h
    /// let spec = NetworkSpec { bias: false, ..NetworkSpec::new(Kind::Gru, 1, 1) };
    /// let network = Network::from_keras(spec, &[layer.clone()])?;
    /// let weight = network.get("weight_ih", 0).map(|weight| weight.to_vec2::<f32>()).transpose()?;
    /// assert_eq!(weight, Some(vec![vec![0.2], vec![0.1], vec![0.3]])); // of r, z, n
    /// let error = Network::from_keras(spec, &[KerasLayer { reset_after: false, ..layer }]).unwrap_err();
    /// assert!(error.to_string().contains("reset_after=False"));
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where a GRU is one with `reset_after=False`, there is a projection, or the layers are not as many or not of the
    /// shapes that `spec` asks for.
    pub fn from_keras(spec: NetworkSpec, layers: &[KerasLayer]) -> Result<Self> {
        let op = "Network::from_keras";
        spec.check()?;
        let into = Layout { op, order: keras_order(op, &spec)?, spec };
        into.network(layers, |place, layer| {
            let rows = spec.kind.gates() * spec.hidden;
            let (kernel, recurrent) = (&layer.kernel, &layer.recurrent_kernel);
            into.check_reset(place, layer)?;
            let mut parameters = vec![
                (WEIGHT_IH, into.matrix("kernel", place, (kernel, [spec.input_of(place.layer), rows]))?),
                (WEIGHT_HH, into.matrix("recurrent_kernel", place, (recurrent, [spec.hidden, rows]))?),
            ];
            match &layer.bias {
                Some(bias) if spec.bias && spec.kind == Kind::Gru => {
                    into.check_shape("bias", place, (bias, &[2, rows]))?;
                    parameters.push((BIAS_IH, into.rows(&bias.get(0)?)?));
                    parameters.push((BIAS_HH, into.rows(&bias.get(1)?)?));
                }
                Some(bias) if spec.bias => {
                    let bias = into.vector("bias", place, bias)?;
                    parameters.push((BIAS_HH, bias.zeros_like()?));
                    parameters.push((BIAS_IH, bias));
                }
                None if !spec.bias => {}
                bias => {
                    let say = |has| if has { "one" } else { "none" };
                    let op = format!("{op}: bias of {place}");
                    return Err(Error::invalid(op, say(spec.bias), say(bias.is_some()))
                        .hint("NetworkSpec::bias is Keras's use_bias"));
                }
            }
            Ok(parameters)
        })
    }

    /// Keras's layers, in the order of [`NetworkSpec::places`].
    ///
    /// ```
    /// use candle_core::DType;
    /// use rnn_core::border::{Kind, Network, NetworkSpec};
    /// let network = Network::seeded(NetworkSpec::new(Kind::Gru, 3, 5), 0, DType::F32)?;
    /// let layer = &network.to_keras()?[0];
    /// assert_eq!(layer.kernel.dims(), [3, 15]);
    /// assert_eq!(layer.bias.as_ref().map(|bias| bias.dims()), Some([2, 15].as_slice()));
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where there is a projection.
    pub fn to_keras(&self) -> Result<Vec<KerasLayer>> {
        let op = "Network::to_keras";
        let out = Layout { op, order: keras_order(op, &self.spec)?, spec: self.spec };
        let layer = |place| {
            let bias = match self.spec {
                NetworkSpec { bias: true, kind: Kind::Gru, .. } => {
                    let both = [BIAS_IH, BIAS_HH].map(|bias| out.back(self.parameter(bias, place)?));
                    let [input, recurrent] = both;
                    Some(Tensor::stack(&[input?, recurrent?], 0)?)
                }
                _ => out.sum_of_biases(self, place)?,
            };
            let kernel = out.columns(self.parameter(WEIGHT_IH, place)?)?;
            Ok(KerasLayer::new(kernel, out.columns(self.parameter(WEIGHT_HH, place)?)?, bias))
        };
        self.spec.places().into_iter().map(layer).collect()
    }

    fn parameter(&self, parameter: &str, place: Place) -> Result<&Tensor> {
        self.get(parameter, place).ok_or_else(|| Error::invalid("Network", name(parameter, place), "none"))
    }
}

fn book_order(op: &str, spec: &NetworkSpec) -> Result<Order> {
    no_projection(op, spec)?;
    gates::book(spec.kind).ok_or_else(|| {
        let error = Error::invalid(format!("{op}: kind"), "rnn_tanh or lstm", spec.kind);
        error.hint(match spec.kind {
            Kind::Gru => {
                "the book's GRU multiplies h by r before the product, ours after it: no weights make them one"
            }
            _ => "the book's RNN has tanh",
        })
    })
}

fn keras_order(op: &str, spec: &NetworkSpec) -> Result<Order> {
    no_projection(op, spec)?;
    Ok(gates::keras(spec.kind))
}

fn no_projection(op: &str, spec: &NetworkSpec) -> Result<()> {
    match spec.projection {
        None => Ok(()),
        Some(size) => Err(Error::invalid(format!("{op}: projection"), "none", size)
            .hint("neither the book nor Keras has an LSTM with one")),
    }
}

/// One direction of a conversion: whose order of gates there is on the other side, and for which network.
struct Layout {
    op: &'static str,
    order: Order,
    spec: NetworkSpec,
}

impl Layout {
    /// The network of their `layers`, each through `convert`.
    fn network<T>(
        &self,
        layers: &[T],
        convert: impl Fn(Place, &T) -> Result<Vec<(&'static str, Tensor)>>,
    ) -> Result<Network> {
        let places = self.spec.places();
        if layers.len() != places.len() {
            let want = format!("{}, one for each layer and direction", places.len());
            return Err(Error::invalid(format!("{}: layers", self.op), want, layers.len()));
        }
        let mut tensors = Vec::new();
        for (place, layer) in places.into_iter().zip(layers) {
            let converted = convert(place, layer)?.into_iter();
            tensors.extend(converted.map(|(parameter, tensor)| (name(parameter, place), tensor)));
        }
        Network::new(self.spec, tensors)
    }

    fn check_shape(&self, what: &str, place: Place, (tensor, want): (&Tensor, &[usize])) -> Result<()> {
        if tensor.dims() == want {
            return Ok(());
        }
        let op = format!("{}: {what} of {place}", self.op);
        Err(Error::invalid(op, format!("{want:?}"), format!("{:?}", tensor.dims())))
    }

    /// # Errors
    /// Where the layer is a GRU that is not ours. Its bias gives one away that nothing was said of.
    fn check_reset(&self, place: Place, layer: &KerasLayer) -> Result<()> {
        let single = layer.bias.as_ref().is_some_and(|bias| bias.dims() == [3 * self.spec.hidden]);
        if self.spec.kind != Kind::Gru || layer.reset_after && !single {
            return Ok(());
        }
        let error = Error::invalid(
            format!("{}: {place}", self.op),
            "a GRU with reset_after=True",
            "reset_after=False",
        );
        Err(error
            .hint("that one multiplies h by r before the product, ours after it: no weights make them one"))
    }

    /// Theirs `[inputs, G*H]`, as ours.
    fn matrix(&self, what: &str, place: Place, (theirs, shape): (&Tensor, [usize; 2])) -> Result<Tensor> {
        self.check_shape(what, place, (theirs, &shape))?;
        self.rows(&theirs.t()?)
    }

    /// Theirs `[G*H]`, as ours.
    fn vector(&self, what: &str, place: Place, theirs: &Tensor) -> Result<Tensor> {
        self.check_shape(what, place, (theirs, &[self.spec.kind.gates() * self.spec.hidden]))?;
        self.rows(theirs)
    }

    /// `[G*H, ...]` in their order, in ours.
    fn rows(&self, theirs: &Tensor) -> Result<Tensor> {
        reorder(theirs, self.order, ours(self.spec.kind))
    }

    /// `[G*H, ...]` in our order, in theirs.
    fn back(&self, ours: &Tensor) -> Result<Tensor> {
        reorder(ours, gates::ours(self.spec.kind), self.order)
    }

    /// Our `[G*H, inputs]`, as theirs.
    fn columns(&self, ours: &Tensor) -> Result<Tensor> {
        Ok(self.back(ours)?.t()?.contiguous()?)
    }

    fn sum_of_biases(&self, network: &Network, place: Place) -> Result<Option<Tensor>> {
        if !self.spec.bias {
            return Ok(None);
        }
        let sum = (network.parameter(BIAS_IH, place)? + network.parameter(BIAS_HH, place)?)?;
        Ok(Some(self.back(&sum)?))
    }
}
