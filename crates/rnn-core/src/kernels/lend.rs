//! The numbers of a CPU tensor as a slice, for reading and for writing in place, in safe code.

use super::Real;
use crate::{Error, Result};
use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Tensor};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

/// A tensor's numbers, held for reading.
pub struct Reading<'a, T> {
    /// candle's guard, whose type it does not name in public.
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    range: (usize, usize),
    dtype: PhantomData<T>,
}

/// Holds `tensor`'s numbers for reading.
///
/// ```
/// let tensor = candle_core::Tensor::new(&[1f32, 2.0], &candle_core::Device::Cpu)?;
/// assert_eq!(rnn_core::kernels::lend::read::<f32>(&tensor)?.slice(), [1.0, 2.0]);
/// # rnn_core::Result::Ok(())
/// ```
///
/// # Errors
/// Where the tensor is not contiguous, not on the CPU or not of type `T`.
pub fn read<T: Real>(tensor: &Tensor) -> Result<Reading<'_, T>> {
    let (storage, layout) = tensor.storage_and_layout();
    let range = contiguous(layout)?;
    match &*storage {
        // Asking once here makes `slice` below unable to fail.
        Storage::Cpu(cpu) => drop(T::cpu_storage_as_slice(cpu)?),
        _ => {
            return Err(Error::invalid(
                "lend",
                "a tensor on the CPU",
                format!("one on {:?}", tensor.device()),
            ));
        }
    }
    Ok(Reading { storage: Box::new(storage), range, dtype: PhantomData })
}

impl<T: Real> Reading<'_, T> {
    /// The numbers, in row-major order.
    pub fn slice(&self) -> &[T] {
        match &**self.storage {
            Storage::Cpu(cpu) => {
                T::cpu_storage_as_slice(cpu).map_or(&[], |all| &all[self.range.0..self.range.1])
            }
            _ => &[],
        }
    }
}

/// Whether two tensors have their numbers in the same memory, be they the same numbers or not. One of the two cannot be
/// written while the other is read.
///
/// ```
/// use candle_core::{Device, Var};
/// use rnn_core::kernels::lend::shared;
/// let var = Var::new(&[1f64, 2.0], &Device::Cpu)?;
/// assert!(shared(&var, &var.narrow(0, 1, 1)?) && !shared(&var, &var.copy()?));
/// # rnn_core::Result::Ok(())
/// ```
pub fn shared(a: &Tensor, b: &Tensor) -> bool {
    let address = |tensor: &Tensor| {
        let (storage, _) = tensor.storage_and_layout();
        std::ptr::from_ref::<Storage>(&storage)
    };
    std::ptr::eq(address(a), address(b))
}

/// Lends `tensor`'s numbers to `f` for writing; every tensor that shares them sees the change, as with a `Var`. Waits for
/// whoever reads them, so for ever where that is the same thread ([`shared`]).
///
/// ```
/// let var = candle_core::Var::new(&[1f64, 2.0], &candle_core::Device::Cpu)?;
/// rnn_core::kernels::lend::write(&var, |numbers: &mut [f64]| numbers[1] = 5.0)?;
/// assert_eq!(var.to_vec1::<f64>()?, [1.0, 5.0]);
/// # rnn_core::Result::Ok(())
/// ```
///
/// # Errors
/// Where the tensor is not contiguous, not on the CPU or not of type `T`.
pub fn write<T: Real, R: Send>(tensor: &Tensor, f: impl FnOnce(&mut [T]) -> R + Send) -> Result<R> {
    let op = Writing { job: Mutex::new(Some(f)), result: Mutex::new(None), dtype: PhantomData };
    tensor.inplace_op1(&op)?;
    let result = op.result.into_inner().unwrap_or_else(PoisonError::into_inner);
    result
        .ok_or_else(|| Error::invalid("lend", "a tensor on the CPU", format!("one on {:?}", tensor.device())))
}

struct Writing<F, T, R> {
    job: Mutex<Option<F>>,
    result: Mutex<Option<R>>,
    dtype: PhantomData<fn(T)>,
}

impl<T: Real, R, F: FnOnce(&mut [T]) -> R> InplaceOp1 for Writing<F, T, R> {
    fn name(&self) -> &'static str {
        "lend-write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (start, end) = contiguous(layout)?;
        // Checks the type before the numbers leave the storage.
        T::cpu_storage_as_slice(storage)?;
        let empty = T::to_cpu_storage_owned(Vec::new());
        let numbers = T::cpu_storage_data(std::mem::replace(storage, empty))?;
        let job = self.job.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut lent = PutBack { numbers, storage };
        let result = job.map(|job| job(&mut lent.numbers[start..end]));
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = result;
        Ok(())
    }
}

/// Returns the numbers to their storage, also where the borrower panicked.
struct PutBack<'a, T: Real> {
    numbers: Vec<T>,
    storage: &'a mut CpuStorage,
}

impl<T: Real> Drop for PutBack<'_, T> {
    fn drop(&mut self) {
        *self.storage = T::to_cpu_storage_owned(std::mem::take(&mut self.numbers));
    }
}

fn contiguous(layout: &Layout) -> Result<(usize, usize)> {
    layout
        .contiguous_offsets()
        .ok_or_else(|| Error::invalid("lend", "a contiguous tensor", format!("{layout:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn a_borrower_that_panics_leaves_the_numbers_behind() {
        let mut storage = CpuStorage::F32(Vec::new());
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut lent = PutBack { numbers: vec![1f32, 2.0], storage: &mut storage };
            lent.numbers[0] = 5.0;
            panic!("on purpose");
        }));
        assert!(outcome.is_err());
        assert!(matches!(&storage, CpuStorage::F32(numbers) if *numbers == [5.0, 2.0]));

        let var = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            write(&var, |_: &mut [f32]| panic!("on purpose")).unwrap();
        }));
        assert!(outcome.is_err());
    }

    #[test]
    fn the_wrong_type_and_a_view_with_gaps_are_errors() {
        let var = Var::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        assert!(read::<f64>(&var).is_err());
        assert!(write(&var, |_: &mut [f64]| ()).is_err());
        let turned = var.t().unwrap();
        assert!(read::<f32>(&turned).is_err());
        let row = var.narrow(0, 1, 1).unwrap();
        assert_eq!(read::<f32>(&row).unwrap().slice(), [3.0, 4.0]);
        assert_eq!(var.to_vec2::<f32>().unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
    }
}
