//! The crate's error: a file that cannot be used, an argument that does not fit, or an error from below.

use candle_core::Tensor;
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {cause}{}", path.display(), nearest(path, cause))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// A file is not UTF-8.
    #[error("{}: not UTF-8: the first bad byte is at offset {offset} (convert the file, for example with iconv; bytes as tokens take any)", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Bytes before the first one that is not UTF-8.
        offset: usize,
    },
    /// A text that is not UTF-8, of which nobody knows yet where it comes from.
    #[error("not UTF-8: the first bad byte is at offset {offset} (convert the text, for example with iconv)")]
    BadText {
        /// Bytes before the first one that is not UTF-8.
        offset: usize,
    },
    /// The loss or a gradient is not a number, or an evaluation found a model that knows less than nothing. The step that was
    /// to come has not been made.
    #[error("step {step}: the {what} is {value} (try a smaller learning rate, or clip gradients to less)")]
    Diverged {
        /// Training step, counted from 1.
        step: usize,
        /// `loss`, `gradient norm` or `loss of an evaluation`.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// An error of the recurrent core, [`rnn_core::Error::Invalid`] among them.
    #[error(transparent)]
    Core(#[from] rnn_core::Error),
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An argument that does not fit; see [`rnn_core::Error::invalid`].
    pub fn invalid(op: impl Display, expected: impl Display, got: impl Display) -> Self {
        rnn_core::Error::invalid(op, expected, got).into()
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(self, text: impl Display) -> Self {
        match self {
            Self::Core(inner) => Self::Core(inner.hint(text)),
            other => other,
        }
    }

    /// Says where: puts a place in front of the operation.
    #[must_use]
    pub fn at(self, place: impl Display) -> Self {
        self.renamed(|op| Some(format!("{place}: {op}")))
    }

    /// The same of an operation that others know by another name, where `name` has one.
    #[must_use]
    pub(crate) fn renamed(self, name: impl FnOnce(&str) -> Option<String>) -> Self {
        match self {
            Self::Core(rnn_core::Error::Invalid { op, expected, got, hint }) => {
                let op = name(&op).unwrap_or(op);
                Self::Core(rnn_core::Error::Invalid { op, expected, got, hint })
            }
            other => other,
        }
    }

    /// Whether there is no file of the name that was asked for.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == ErrorKind::NotFound)
    }

    /// Names the file that an input or output error is about.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |cause| Self::Io { path: path.to_path_buf(), cause }
    }
}

/// What may have been meant by a file that is not there.
fn nearest(path: &Path, cause: &std::io::Error) -> String {
    /// Names that are as much alike as two of which one has a letter more or less.
    const ALIKE: f64 = 0.85;
    match cause.kind() {
        ErrorKind::NotFound => {}
        ErrorKind::IsADirectory => return " (name a file in it)".into(),
        ErrorKind::NotADirectory => {
            let file = path.ancestors().skip(1).find(|above| above.is_file());
            return file.map_or_else(String::new, |file| format!(" ({} is a file)", file.display()));
        }
        _ => return String::new(),
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let here = folder.as_os_str().is_empty();
    let Ok(entries) = std::fs::read_dir(if here { Path::new(".") } else { folder }) else {
        return format!(" (there is no folder {})", folder.display());
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let alike = |other: String| (strsim::jaro_winkler(&name, &other), other);
    let best = names.map(alike).max_by(|(a, _), (b, _)| a.total_cmp(b));
    match best.filter(|(likeness, _)| *likeness > ALIKE) {
        Some((_, other)) => format!(" (did you mean {}?)", folder.join(other).display()),
        None if path.is_relative() => {
            let here =
                std::env::current_dir().map_or_else(|_| "here".into(), |here| here.display().to_string());
            format!(" (seen from {here})")
        }
        None => " (nothing of that name is there)".into(),
    }
}

/// So that `?` works inside a user's functions that return candle's result.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Core(inner) => inner.into(),
            other => candle_core::Error::wrap(other),
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Core(error.into())
    }
}

/// A number above 0.
///
/// # Errors
/// Where `op` has another one.
pub(crate) fn positive(op: impl Display, value: f64) -> Result<f64> {
    match value.is_finite() && value > 0.0 {
        true => Ok(value),
        false => Err(Error::invalid(op, "a number above 0", value)),
    }
}

/// A number of at least 0.
///
/// # Errors
/// Where `op` has another one.
pub(crate) fn at_least_zero(op: impl Display, value: f64) -> Result<f64> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(value),
        false => Err(Error::invalid(op, "a number of at least 0", value)),
    }
}

/// What is kept of something, of which some goes.
///
/// # Errors
/// Where `op` has a number that is no such share.
pub(crate) fn share(op: impl Display, value: f64) -> Result<f64> {
    match (0.0..1.0).contains(&value) {
        true => Ok(value),
        false => Err(Error::invalid(op, "at least 0 and below 1", value)),
    }
}

/// A tensor that has the shape and the type of another, where that one is.
///
/// # Errors
/// Where it has others, or there is none.
pub(crate) fn like(op: impl Display, got: Option<&Tensor>, want: &Tensor) -> Result<Tensor> {
    let say = |tensor: &Tensor| format!("{:?} {}", tensor.dims(), tensor.dtype().as_str());
    match got {
        Some(got) if say(got) == say(want) => Ok(got.to_device(want.device())?.contiguous()?),
        _ => Err(Error::invalid(op, say(want), got.map_or_else(|| "none".to_string(), say))),
    }
}
