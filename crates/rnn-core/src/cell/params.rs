//! The parameters of one recurrent layer: which there are, their names and shapes.

use crate::convention::{
    BIAS_HH, BIAS_IH, Direction, NORM_IH, Place, WEIGHT_HH, WEIGHT_HN, WEIGHT_HR, WEIGHT_IH, name,
};
use crate::{Error, Result, Scheme};
use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};

/// Which biases a layer has.
///
/// ```
/// use candle_core::{DType, Device};
/// use candle_nn::VarBuilder;
/// use rnn_core::{Bias, Cell, GruCell, LayerSpec};
/// let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// for (bias, parameters) in [(Bias::None, 2), (Bias::Single, 3), (Bias::Both, 4)] {
///     let gru = GruCell::new(LayerSpec::new(3, 5).bias(bias), vb.clone())?;
///     assert_eq!(gru.params().tensors().len(), parameters);
/// }
/// # rnn_core::Result::Ok(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bias {
    /// None.
    None,
    /// `bias_ih [G*H]` alone, as in the book.
    Single,
    /// `bias_ih` and `bias_hh`, as in PyTorch: both get the gradient, so the sum of them learns twice as fast.
    #[default]
    Both,
}

/// The sizes of a recurrent layer, its place in a stack, its biases and how it begins.
///
/// ```
/// use rnn_core::{Bias, LayerSpec, Scheme};
/// let spec = LayerSpec::new(100, 200).layer(1).bias(Bias::Single).init(Scheme::Book);
/// assert_eq!((spec.input, spec.hidden, spec.place.layer), (100, 200, 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpec {
    /// D, the size of the input.
    pub input: usize,
    /// H, the size of the hidden state.
    pub hidden: usize,
    /// P, the size of what the hidden state is projected to before it is given out and fed back (Sak et al. 2014): PyTorch's
    /// `proj_size`, for cells that have it.
    pub projection: Option<usize>,
    /// The layer's number in its stack, and its direction; part of the parameters' names.
    pub place: Place,
    /// Which biases there are.
    pub bias: Bias,
    /// How the parameters begin.
    pub init: Scheme,
}

impl LayerSpec {
    /// Layer 0, forward, with both biases, PyTorch's initialisation and no projection.
    pub fn new(input: usize, hidden: usize) -> Self {
        let (bias, init) = (Bias::default(), Scheme::default());
        Self { input, hidden, projection: None, place: Place::default(), bias, init }
    }

    /// With another place in the stack.
    #[must_use]
    pub fn layer(self, layer: usize) -> Self {
        Self { place: Place { layer, ..self.place }, ..self }
    }

    /// With another direction.
    #[must_use]
    pub fn direction(self, direction: Direction) -> Self {
        Self { place: Place { direction, ..self.place }, ..self }
    }

    /// With a projection to `size`.
    #[must_use]
    pub fn projection(self, size: usize) -> Self {
        Self { projection: Some(size), ..self }
    }

    /// With other biases.
    #[must_use]
    pub fn bias(self, bias: Bias) -> Self {
        Self { bias, ..self }
    }

    /// With another initialisation.
    #[must_use]
    pub fn init(self, init: Scheme) -> Self {
        Self { init, ..self }
    }

    /// The size of the output and of the hidden state: P, or H without a projection.
    pub fn output(&self) -> usize {
        self.projection.unwrap_or(self.hidden)
    }
}

/// Sizes whose products are numbers still: those of a layer's weights in bytes, with inputs of two directions.
///
/// # Errors
/// Where a product is too large to be one.
pub(crate) fn countable(op: &str, gates: usize, (input, hidden): (usize, usize)) -> Result<()> {
    let sizes = [gates, hidden, input.max(hidden.saturating_mul(2)), size_of::<f64>()];
    let bytes = sizes.into_iter().try_fold(1usize, usize::checked_mul);
    match bytes.and_then(|bytes| isize::try_from(bytes).ok()) {
        Some(_) => Ok(()),
        None => {
            let got = format!("input {input}, hidden {hidden}");
            Err(Error::invalid(format!("{op}: sizes"), "weights that some memory has room for", got))
        }
    }
}

/// Layers on top of each other, of which there is one at least.
///
/// # Errors
/// Where there is none, or there are more than in any network.
pub(crate) fn stackable(op: &str, layers: usize) -> Result<()> {
    const MOST: usize = 1 << 16;
    match layers {
        1..=MOST => Ok(()),
        0 => Err(Error::invalid(format!("{op}: layers"), "at least 1", 0)),
        _ => Err(Error::invalid(format!("{op}: layers"), format!("at most {MOST}"), layers)),
    }
}

/// The parameters of a layer, or one gradient for each.
#[derive(Debug, Clone)]
pub struct LayerParams {
    /// `[G*H, D]`
    pub weight_ih: Tensor,
    /// `[G*H, P]`, of fewer gates where a cell has a weight of its own for the others ([`crate::ResetBeforeGruCell`]).
    pub weight_hh: Tensor,
    /// `[G*H]`
    pub bias_ih: Option<Tensor>,
    /// `[G*H]`, of as many gates as `weight_hh`.
    pub bias_hh: Option<Tensor>,
    /// `[P, H]`, of a projection.
    pub weight_hr: Option<Tensor>,
    /// What a cell has beside these, each under its name without the place.
    pub own: Vec<(&'static str, Tensor)>,
}

impl LayerParams {
    /// The parameters of a layer of `gates` gates from `vb`.
    ///
    /// # Errors
    /// Where a size of `spec` is zero or larger than any memory, it asks for a projection, or `vb` does not have a tensor of
    /// that name and shape.
    pub fn new(spec: &LayerSpec, gates: usize, vb: &VarBuilder) -> Result<Self> {
        Self::with_recurrent(spec, (gates, gates), vb)
    }

    /// As [`Self::new`], for a cell that may have a projection: its pointwise part must not read the hidden state,
    /// whose size is then P, not H.
    ///
    /// # Errors
    /// Where a size of `spec` is zero or larger than any memory, the projection is not smaller than H, or `vb` does not have
    /// a tensor of that name and shape.
    pub fn projected(spec: &LayerSpec, gates: usize, vb: &VarBuilder) -> Result<Self> {
        Self::of(spec, (gates, gates), vb)
    }

    /// The same as [`Self::new`] for a cell with fewer gates in its recurrent product than in its input product.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn with_recurrent(
        spec: &LayerSpec,
        (gates, recurrent): (usize, usize),
        vb: &VarBuilder,
    ) -> Result<Self> {
        match spec.projection {
            None => Self::of(spec, (gates, recurrent), vb),
            Some(size) => Err(Error::invalid("LayerSpec: projection", "none, for this cell", size)
                .hint("an LstmCell has one")),
        }
    }

    fn of(spec: &LayerSpec, (gates, recurrent): (usize, usize), vb: &VarBuilder) -> Result<Self> {
        for (name, size) in [("input", spec.input), ("hidden", spec.hidden)] {
            if size == 0 {
                return Err(Error::invalid(format!("LayerSpec: {name}"), "a size of at least 1", size));
            }
        }
        if let Some(size) = spec.projection.filter(|&size| size == 0 || size >= spec.hidden) {
            let want = format!("a size of at least 1 and below the hidden size {}", spec.hidden);
            return Err(Error::invalid("LayerSpec: projection", want, size));
        }
        countable("LayerSpec", gates.max(recurrent), (spec.input, spec.hidden))?;
        let (rows, recurrent) = (gates * spec.hidden, recurrent * spec.hidden);
        let weight = |shape: (usize, usize), parameter: &str| {
            vb.get_with_hints(shape, &name(parameter, spec.place), spec.init.weight(shape.1, spec.hidden))
        };
        let bias = |wanted: bool, rows: usize, parameter: &str| {
            let hint = spec.init.bias(spec.hidden);
            wanted.then(|| vb.get_with_hints(rows, &name(parameter, spec.place), hint)).transpose()
        };
        Ok(Self {
            weight_ih: weight((rows, spec.input), WEIGHT_IH)?,
            weight_hh: weight((recurrent, spec.output()), WEIGHT_HH)?,
            bias_ih: bias(spec.bias != Bias::None, rows, BIAS_IH)?,
            bias_hh: bias(spec.bias == Bias::Both, recurrent, BIAS_HH)?,
            weight_hr: spec.projection.map(|size| weight((size, spec.hidden), WEIGHT_HR)).transpose()?,
            own: Vec::new(),
        })
    }

    /// With a parameter of the cell's own, that begins as `init`.
    ///
    /// # Errors
    /// Where there is one of that name already, or `vb` does not have a tensor of that name and shape.
    pub fn and(
        mut self,
        (parameter, shape): (&'static str, &[usize]),
        init: Init,
        (spec, vb): (&LayerSpec, &VarBuilder),
    ) -> Result<Self> {
        if self.names().contains(&parameter) {
            return Err(Error::invalid("LayerParams::and", "a name that no other parameter has", parameter)
                .hint("a cell that is normalised already is not normalised again"));
        }
        self.own.push((parameter, vb.get_with_hints(shape, &name(parameter, spec.place), init)?));
        Ok(self)
    }

    /// A parameter of the cell's own.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn own(&self, parameter: &str) -> Result<&Tensor> {
        let found = self.own.iter().find(|(name, _)| *name == parameter).map(|(_, tensor)| tensor);
        found.ok_or_else(|| Error::invalid("LayerParams::own", parameter, "no such parameter"))
    }

    /// The weights that the hidden state before a step goes through, with their names: `weight_hh`, and `weight_hn` where a cell
    /// has one.
    pub fn recurrent(&self) -> Vec<(&'static str, &Tensor)> {
        let own =
            self.own.iter().filter(|(name, _)| *name == WEIGHT_HN).map(|(name, weight)| (*name, weight));
        [(WEIGHT_HH, &self.weight_hh)].into_iter().chain(own).collect()
    }

    /// One of them.
    pub(crate) fn recurrent_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        match name {
            WEIGHT_HH => Some(&mut self.weight_hh),
            name => self.own.iter_mut().find(|(own, _)| *own == name).map(|(_, weight)| weight),
        }
    }

    /// The name of each parameter there is without its place, in PyTorch's order.
    pub fn names(&self) -> Vec<&'static str> {
        let optional = [(BIAS_IH, &self.bias_ih), (BIAS_HH, &self.bias_hh), (WEIGHT_HR, &self.weight_hr)];
        let mut names = vec![WEIGHT_IH, WEIGHT_HH];
        names.extend(optional.into_iter().filter(|(_, tensor)| tensor.is_some()).map(|(name, _)| name));
        names.extend(self.own.iter().map(|(name, _)| name));
        names
    }

    /// Name and tensor of each parameter there is, in PyTorch's order.
    pub fn named(&self, place: impl Into<Place>) -> Vec<(String, &Tensor)> {
        let place = place.into();
        self.names().into_iter().map(|parameter| name(parameter, place)).zip(self.tensors()).collect()
    }

    /// The tensors there are, in the order of [`Self::names`].
    pub fn tensors(&self) -> Vec<&Tensor> {
        let biases = [&self.bias_ih, &self.bias_hh, &self.weight_hr];
        let mut tensors = vec![&self.weight_ih, &self.weight_hh];
        tensors.extend(biases.into_iter().flatten());
        tensors.extend(self.own.iter().map(|(_, tensor)| tensor));
        tensors
    }

    /// The same parameters with `f` applied to each, in the order of [`Self::named`].
    ///
    /// # Errors
    /// That of `f`.
    pub fn try_map(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self {
            weight_ih: f(&self.weight_ih)?,
            weight_hh: f(&self.weight_hh)?,
            bias_ih: self.bias_ih.as_ref().map(&mut f).transpose()?,
            bias_hh: self.bias_hh.as_ref().map(&mut f).transpose()?,
            weight_hr: self.weight_hr.as_ref().map(&mut f).transpose()?,
            own: self.own.iter().map(|(name, tensor)| Ok((*name, f(tensor)?))).collect::<Result<_>>()?,
        })
    }

    /// Whether the products are normalised.
    pub(crate) fn is_normed(&self) -> bool {
        self.own.iter().any(|(name, _)| *name == NORM_IH)
    }

    /// The same storage, seen as constants.
    #[must_use]
    pub fn detach(&self) -> Self {
        // Detaching cannot fail.
        self.try_map(|tensor| Ok(tensor.detach())).unwrap_or_else(|_| self.clone())
    }

    /// Zeros `[rows, columns]` where the parameters are and of their dtype.
    pub(crate) fn zeros(&self, rows: usize, columns: usize) -> Result<Tensor> {
        // Tensors multiply their dimensions without a look.
        if rows.checked_mul(columns).is_none_or(|count| count > isize::MAX as usize / size_of::<f64>()) {
            let want = format!("[N, {columns}] that a memory can have");
            return Err(Error::invalid("zeros", want, format!("N = {rows}")));
        }
        Ok(Tensor::zeros((rows, columns), self.weight_ih.dtype(), self.weight_ih.device())?)
    }
}
