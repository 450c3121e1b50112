//! The parameters of a layer as kernels take them, and under which names a cell has them.

use crate::cell::LayerParams;
use crate::convention::{
    BIAS_HH, BIAS_HN, BIAS_IH, NORM_HH, NORM_IH, WEIGHT_HH, WEIGHT_HN, WEIGHT_HR, WEIGHT_IH,
};
use crate::kernels::pointwise::MAX_OWN;
use crate::kernels::product::Store;
use crate::{Error, Result};

/// Something for each parameter of a layer; empty where the layer does not have it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slots<S> {
    /// `[G*H, D]`
    pub weight_ih: S,
    /// `[R*H, P]`, R being the gates that the recurrent product has a part in.
    pub weight_hh: S,
    /// `[G*H]`
    pub bias_ih: S,
    /// `[R*H]`
    pub bias_hh: S,
    /// `[P, H]`, of a projection.
    pub weight_hr: S,
    /// `[G*H]`, where the input product is normalised.
    pub norm_ih: S,
    /// `[R*H]`, where the recurrent product is.
    pub norm_hh: S,
    /// `[H, H]`, where a step has a product inside of it.
    pub weight_hn: S,
    /// `[H]`
    pub bias_hn: S,
    /// What a cell has of its own for each unit: `[H]`, or several of them one behind the other.
    pub own: [S; MAX_OWN],
}

/// The numbers of a layer's parameters, row by row.
pub type Params<'a, T> = Slots<&'a [T]>;

/// Where the gradients of the parameters go.
#[derive(Debug, Default)]
pub struct ParamGrads<'a, T> {
    /// One for each parameter that there is.
    pub slots: Slots<&'a mut [T]>,
    /// Whether they are added to what stands there, or replace it.
    pub add: bool,
}

impl<S: Default> Slots<S> {
    /// From one for each parameter that there is, in the order of [`LayerParams::names`].
    ///
    /// # Errors
    /// Where a cell has more of its own than there are slots.
    pub fn in_order(params: &LayerParams, each: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut slots = Self::default();
        let mut own = 0;
        for (name, of_parameter) in params.names().into_iter().zip(each) {
            let slot = match name {
                WEIGHT_IH => &mut slots.weight_ih,
                WEIGHT_HH => &mut slots.weight_hh,
                BIAS_IH => &mut slots.bias_ih,
                BIAS_HH => &mut slots.bias_hh,
                WEIGHT_HR => &mut slots.weight_hr,
                NORM_IH => &mut slots.norm_ih,
                NORM_HH => &mut slots.norm_hh,
                WEIGHT_HN => &mut slots.weight_hn,
                BIAS_HN => &mut slots.bias_hn,
                name => {
                    own += 1;
                    slots.own.get_mut(own - 1).ok_or_else(|| {
                        let want = format!("at most {MAX_OWN} parameters that are the cell's own");
                        Error::invalid("a kernel's parameters", want, format!("{name} as number {own}"))
                    })?
                }
            };
            *slot = of_parameter;
        }
        Ok(slots)
    }
}

impl<S> Slots<S> {
    /// Something else for each.
    pub fn each<'s, U>(&'s self, mut f: impl FnMut(&'s S) -> U) -> Slots<U> {
        let Self { own: [a, b, c], .. } = self;
        Slots {
            weight_ih: f(&self.weight_ih),
            weight_hh: f(&self.weight_hh),
            bias_ih: f(&self.bias_ih),
            bias_hh: f(&self.bias_hh),
            weight_hr: f(&self.weight_hr),
            norm_ih: f(&self.norm_ih),
            norm_hh: f(&self.norm_hh),
            weight_hn: f(&self.weight_hn),
            bias_hn: f(&self.bias_hn),
            own: [f(a), f(b), f(c)],
        }
    }
}

impl<'a, T> Params<'a, T> {
    /// Whether both products are normalised; there is none that has a norm alone.
    pub(super) fn normed(&self) -> bool {
        !self.norm_ih.is_empty()
    }

    /// How the input product is written: onto its bias, unless a norm comes between, which adds it itself.
    pub(super) fn input_store(&self) -> Store<'a, T> {
        if self.normed() || self.bias_ih.is_empty() { Store::Set } else { Store::Row(self.bias_ih) }
    }

    /// What a cell has of its own, a row for each unit.
    pub(super) fn own_of(&self, hidden: usize) -> [&'a [T]; MAX_OWN] {
        let mut rows = [&[] as &[T]; MAX_OWN];
        for (row, own) in rows.iter_mut().zip(self.own.iter().flat_map(|own| own.chunks_exact(hidden))) {
            *row = own;
        }
        rows
    }
}

impl<'a, T> ParamGrads<'a, T> {
    /// Into one for each parameter that there is, in the order of [`LayerParams::names`].
    ///
    /// # Errors
    /// Those of [`Slots::in_order`].
    pub fn in_order(
        params: &LayerParams,
        each: impl IntoIterator<Item = &'a mut [T]>,
        add: bool,
    ) -> Result<Self> {
        Ok(Self { slots: Slots::in_order(params, each)?, add })
    }
}
