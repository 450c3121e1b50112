//! Masks as tensors, drawn on the CPU from a stream and so the same on every device.

use crate::Result;
use crate::rng::{Stream, bernoulli};
use candle_core::{DType, Device, Shape, Tensor};

/// How likely a number stays where so many are dropped, and what it is multiplied with then, so that their mean stays (inverted
/// dropout).
///
/// ```
/// assert_eq!(rnn_core::mask::kept(0.75), (0.25, 4.0));
/// ```
pub fn kept(dropped: f64) -> (f64, f64) {
    (1.0 - dropped, 1.0 / (1.0 - dropped))
}

/// Numbers that are `one` with this probability, else 0: a dropout's mask with those of [`kept`]. At most 0 is never, at least 1
/// always.
///
/// ```
/// use candle_core::{DType, Device};
/// use rnn_core::{mask::mask, rng::Stream};
/// let half = mask(&mut Stream::new(0, "mask", 0), (0.5, 2.0), (30, 40), (DType::F32, &Device::Cpu))?;
/// assert!((half.mean_all()?.to_scalar::<f32>()? - 1.0).abs() < 0.1);
/// # rnn_core::Result::Ok(())
/// ```
///
/// # Errors
/// Those of candle.
pub fn mask(
    stream: &mut Stream,
    (probability, one): (f64, f64),
    shape: impl Into<Shape>,
    (dtype, device): (DType, &Device),
) -> Result<Tensor> {
    let shape = shape.into();
    let count = shape.elem_count();
    Ok(match (device, dtype) {
        (Device::Cpu, DType::F64) => {
            Tensor::from_vec(bernoulli(stream, count, probability, one), shape, device)?
        }
        (Device::Cpu, _) => {
            Tensor::from_vec(bernoulli(stream, count, probability, one as f32), shape, device)?
                .to_dtype(dtype)?
        }
        _ => through_bytes(stream, (probability, one), &shape, (dtype, device))?,
    })
}

/// The same where numbers have to travel: a byte each.
fn through_bytes(
    stream: &mut Stream,
    (probability, one): (f64, f64),
    shape: &Shape,
    (dtype, device): (DType, &Device),
) -> Result<Tensor> {
    let ones = Tensor::from_vec(bernoulli(stream, shape.elem_count(), probability, 1u8), shape, device)?;
    Ok((ones.to_dtype(dtype)? * one)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_types_drop_the_same_numbers() {
        let drawn = |dtype| {
            let mut stream = Stream::new(1, "mask", 7);
            let mask = mask(&mut stream, (0.3, 1.0 / 0.3), 1000, (dtype, &Device::Cpu)).unwrap();
            mask.ne(0.0).unwrap().to_vec1::<u8>().unwrap()
        };
        assert_eq!(drawn(DType::F32), drawn(DType::F64));
    }

    #[test]
    fn what_travels_as_bytes_arrives_as_the_same_numbers() {
        let (of, shape) = ((0.3, 1.0 / 0.3), Shape::from(1000));
        for dtype in [DType::F32, DType::F64] {
            let kind = (dtype, &Device::Cpu);
            let direct = mask(&mut Stream::new(1, "mask", 7), of, &shape, kind).unwrap();
            let bytes = through_bytes(&mut Stream::new(1, "mask", 7), of, &shape, kind).unwrap();
            let numbers = |tensor: Tensor| tensor.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
            assert_eq!(numbers(direct), numbers(bytes), "{dtype:?}");
        }
    }
}
