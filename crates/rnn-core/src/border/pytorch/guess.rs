//! What a network is, read off the names and shapes of its parameters.

use crate::border::{Kind, NetworkSpec};
use crate::convention::{BIAS_IH, Direction, WEIGHT_HH, WEIGHT_HR, WEIGHT_IH, name};
use crate::{Error, Result};
use std::collections::HashMap;

impl NetworkSpec {
    /// What the parameters under `prefix` are of: one gate is a plain network, whose activation the file does not say and
    /// is taken to be tanh; three are a GRU, four an LSTM. Only what it takes to tell is looked at: reading the network
    /// checks the rest.
    ///
    /// ```
    /// use rnn_core::border::{Kind, NetworkSpec};
    /// let shapes: [(&str, &[usize]); 2] = [("rnn.weight_ih_l0", &[12, 3]), ("rnn.weight_hh_l0", &[12, 4])];
    /// let spec = NetworkSpec::guess(shapes, "rnn.")?;
    /// assert_eq!(spec, NetworkSpec { bias: false, ..NetworkSpec::new(Kind::Gru, 3, 4) });
    /// # rnn_core::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// Where no recurrent layer stands under the prefix, or it is of no kind that is known.
    pub fn guess<'a>(shapes: impl IntoIterator<Item = (&'a str, &'a [usize])>, prefix: &str) -> Result<Self> {
        let shapes: HashMap<&str, &[usize]> = shapes.into_iter().collect();
        let get = |parameter, place: (usize, Direction)| {
            shapes.get(format!("{prefix}{}", name(parameter, place)).as_str()).copied()
        };
        let first = |parameter| get(parameter, (0, Direction::Forward));
        let matrix = |parameter, want: &str| match first(parameter) {
            Some(&[rows, columns]) => Ok((rows, columns)),
            other => {
                let got = other.map_or("none".into(), |dims| format!("{dims:?}"));
                let op = format!("NetworkSpec::guess: {prefix}{}", name(parameter, 0));
                let mut elsewhere: Vec<String> = shapes
                    .keys()
                    .filter_map(|there| there.strip_suffix(&name(WEIGHT_IH, 0)))
                    .map(|prefix| format!("{prefix:?}"))
                    .collect();
                elsewhere.sort();
                let hint = match elsewhere.len() {
                    0 => "no name ends in weight_ih_l0".to_string(),
                    _ if first(WEIGHT_IH).is_some() => "the file is not whole".to_string(),
                    _ => format!("there is one under the prefix {}", elsewhere.join(", ")),
                };
                Err(Error::invalid(op, format!("a tensor {want}"), got).hint(hint))
            }
        };
        let (rows, input) = matrix(WEIGHT_IH, "[G*H, D]")?;
        let (_, output) = matrix(WEIGHT_HH, "[G*H, P]")?;
        let projected = first(WEIGHT_HR).is_some();
        let hidden = if projected { matrix(WEIGHT_HR, "[P, H]")?.1 } else { output };
        let kinds = [Kind::RnnTanh, Kind::Gru, Kind::Lstm];
        let kind = kinds.into_iter().find(|kind| kind.gates().checked_mul(hidden) == Some(rows));
        let kind = kind.ok_or_else(|| {
            let op = format!("NetworkSpec::guess: {prefix}{}", name(WEIGHT_IH, 0));
            Error::invalid(op, format!("1, 3 or 4 times {hidden} rows"), rows)
        })?;
        let spec = Self {
            kind,
            input,
            hidden,
            projection: projected.then_some(output),
            layers: (0..).take_while(|&k| get(WEIGHT_IH, (k, Direction::Forward)).is_some()).count(),
            bidirectional: get(WEIGHT_IH, (0, Direction::Reverse)).is_some(),
            bias: first(BIAS_IH).is_some(),
        };
        spec.check()?;
        Ok(spec)
    }
}
