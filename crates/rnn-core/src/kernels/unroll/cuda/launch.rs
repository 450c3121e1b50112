//! A cell's kernels on a GPU: compiled once a process, loaded once a device, launched step by step, and the product between.

use super::source::source;
use crate::kernels::trace::Traced;
use crate::kernels::{Kernel, Real};
use crate::{Error, Result};
use candle_core::cuda_backend::cudarc::cublas::result::{
    CublasError, dgemm_strided_batched, sgemm_strided_batched,
};
use candle_core::cuda_backend::cudarc::cublas::sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
use candle_core::cuda_backend::cudarc::cublas::{CudaBlas, GemmConfig, StridedBatchedConfig};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg, ValidAsZeroBits,
};
use candle_core::cuda_backend::cudarc::nvrtc::compile_ptx;
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::{CudaDevice, DType};
use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A type that kernels and products on a GPU take.
pub(super) trait OnGpu: Real + CudaDType + DeviceRepr + ValidAsZeroBits {
    /// # Safety
    /// That of cuBLAS: every address begins as many numbers as `shape` says.
    #[allow(unsafe_code)]
    unsafe fn gemm(
        blas: &CudaBlas,
        shape: StridedBatchedConfig<Self>,
        operands: [Address; 2],
        to: Address,
    ) -> std::result::Result<(), CublasError>;
}

macro_rules! on_gpu {
    ($type:ty, $gemm:ident) => {
        impl OnGpu for $type {
            #[allow(unsafe_code)]
            unsafe fn gemm(
                blas: &CudaBlas,
                shape: StridedBatchedConfig<Self>,
                [a, b]: [Address; 2],
                to: Address,
            ) -> std::result::Result<(), CublasError> {
                let StridedBatchedConfig { gemm, batch_size, stride_a, stride_b, stride_c } = shape;
                let GemmConfig { transa, transb, m, n, k, alpha, lda, ldb, beta, ldc } = gemm;
                let (a, b, to) = (a as *const Self, b as *const Self, to as *mut Self);
                let handle = *blas.handle();
                // SAFETY: that of this function; the two factors outlive the call.
                unsafe {
                    $gemm(
                        handle, transa, transb, m, n, k, &alpha, a, lda, stride_a, b, ldb, stride_b, &beta,
                        to, ldc, stride_c, batch_size,
                    )
                }
            }
        }
    };
}

on_gpu!(f32, sgemm_strided_batched);
on_gpu!(f64, dgemm_strided_batched);

/// Where numbers on the GPU begin; 0 where there are none.
pub(super) type Address = u64;

/// Numbers on the GPU that somebody else keeps alive.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    pub(super) address: Address,
    len: usize,
    size: usize,
}

impl Numbers {
    /// All of these.
    pub(super) fn of<T>(numbers: &impl DevicePtr<T>) -> Self {
        // A thread puts all its work onto one stream, and a GPU's tensors belong to the thread that made them: candle gives
        // each thread a stream of its own. So nothing has to be waited for.
        let address = numbers.device_ptr(numbers.stream()).0;
        Self { address, len: numbers.len(), size: size_of::<T>() }
    }

    /// Without the first `count`.
    pub(super) fn skip(self, count: usize) -> Self {
        assert!(count <= self.len, "{count} of {} numbers", self.len);
        let address = self.address + (count * self.size) as Address;
        Self { address, len: self.len - count, ..self }
    }
}

/// Rows of a matrix on the GPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) numbers: Numbers,
    /// From the beginning of one to that of the next.
    pub(super) stride: usize,
}

/// The window as the kernels see it: `source.rs` says what each is, and has them in this order.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    pub(super) gates: Address,
    pub(super) product: Address,
    pub(super) bias_ih: Address,
    pub(super) bias_hh: Address,
    pub(super) own: Address,
    pub(super) h: Address,
    pub(super) hs: Address,
    pub(super) c: Address,
    pub(super) kept: Address,
    pub(super) c_before: Address,
    pub(super) next_h: Address,
    pub(super) dhs: Address,
    pub(super) dinput: Address,
    pub(super) drecurrent: Address,
    pub(super) dh: Address,
    pub(super) dc: Address,
    pub(super) terms: Address,
    pub(super) batch: i32,
    pub(super) time: i32,
    pub(super) hidden: i32,
    pub(super) step: i32,
    pub(super) before: i32,
}

// SAFETY: a plain struct of integers in C's layout, the same as the kernels' own `Window`.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Window {}

/// A cell's two kernels for one type, and what their products need.
pub(super) struct Module {
    pub(super) device: CudaDevice,
    pub(super) traced: Arc<Traced>,
    forward: CudaFunction,
    backward: CudaFunction,
    stream: Arc<CudaStream>,
    blas: Arc<CudaBlas>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    Forward,
    Backward,
}

impl Module {
    pub(super) fn new(device: &CudaDevice, kernel: &'static dyn Kernel, dtype: DType) -> Result<Self> {
        let Compiled { traced, ptx, name } = compiled(kernel, dtype)?;
        let load = |function: &str| -> Result<CudaFunction> {
            Ok(device.get_or_load_custom_func(function, &name, &ptx)?.into_cuda_function())
        };
        Ok(Self {
            device: device.clone(),
            traced,
            forward: load("forward")?,
            backward: load("backward")?,
            stream: device.cuda_stream(),
            blas: device.cublas_handle(),
        })
    }

    /// One step.
    ///
    /// # Safety
    /// Every address of `window` that the kernel reads or writes is 0 or begins as many numbers of the module's type as
    /// `source.rs` gives it, on this device; those that are written are no tensor's that anything else reads meanwhile.
    #[allow(unsafe_code)]
    pub(super) unsafe fn launch(&self, which: Which, window: &Window) -> Result<()> {
        const THREADS: u32 = 128;
        let function = match which {
            Which::Forward => &self.forward,
            Which::Backward => &self.backward,
        };
        let units = u64::from(window.batch.unsigned_abs()) * u64::from(window.hidden.unsigned_abs());
        let units = int(units as usize)?.unsigned_abs();
        let shape = LaunchConfig {
            grid_dim: (units.div_ceil(THREADS), 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut builder = self.stream.launch_builder(function);
        builder.arg(window);
        // SAFETY: that of this function; a thread beyond the units does nothing.
        unsafe { builder.launch(shape) }.w()?;
        Ok(())
    }

    /// `to [rows, outer] = from [rows, inner] W`, added to what stands there if asked for; of several blocks each gives a
    /// product of its own with its share of `from`, `to [blocks, rows, outer]`.
    ///
    /// # Safety
    /// All numbers are of type T and on this device; those that are written are no tensor's that anything else reads
    /// meanwhile.
    #[allow(unsafe_code)]
    pub(super) unsafe fn product<T: OnGpu>(
        &self,
        Weight { numbers, blocks, inner, outer, transposed }: Weight,
        from: Rows,
        to: Rows,
        rows: usize,
        add: bool,
    ) -> Result<()> {
        assert!(rows > 0, "a product of no rows");
        assert_eq!(numbers.len, blocks * inner * outer, "a weight of {blocks} x {inner} x {outer}");
        assert!(from.numbers.len >= (rows - 1) * from.stride + blocks * inner, "{rows} rows to take");
        let of_block = (rows - 1) * to.stride + outer;
        assert!(to.numbers.len >= (blocks - 1) * rows * outer + of_block, "{rows} rows to make");
        let (transa, lda) = if transposed { (CUBLAS_OP_T, inner) } else { (CUBLAS_OP_N, outer) };
        // cuBLAS goes by columns: what is a row here is a column there.
        let gemm = GemmConfig {
            transa,
            transb: CUBLAS_OP_N,
            m: int(outer)?,
            n: int(rows)?,
            k: int(inner)?,
            alpha: T::ONE,
            lda: int(lda)?,
            ldb: int(from.stride)?,
            beta: if add { T::ONE } else { T::ZERO },
            ldc: int(to.stride)?,
        };
        let shape = StridedBatchedConfig {
            gemm,
            batch_size: int(blocks)?,
            stride_a: (inner * outer) as i64,
            stride_b: inner as i64,
            stride_c: (rows * outer) as i64,
        };
        let operands = [numbers.address, from.numbers.address];
        // SAFETY: that of this function, and the lengths were held against the shape above.
        unsafe { T::gemm(&self.blas, shape, operands, to.numbers.address) }.w()?;
        Ok(())
    }

    /// Room for so many numbers, at least one, which hold anything.
    pub(super) fn room<T: OnGpu>(&self, count: usize) -> Result<CudaSlice<T>> {
        // SAFETY: numbers of any bits are numbers, and each of those that are handed out here is written by a kernel or a
        // copy before it is read: rooms are as large as what is written into them.
        #[allow(unsafe_code)]
        Ok(unsafe { self.device.alloc::<T>(count) }?)
    }

    /// The same where it is wanted.
    pub(super) fn some_room<T: OnGpu>(&self, wanted: bool, count: usize) -> Result<Option<CudaSlice<T>>> {
        wanted.then(|| self.room(count)).transpose()
    }
}

/// A size as cuBLAS and the kernels take it.
pub(super) fn int(size: usize) -> Result<i32> {
    i32::try_from(size)
        .map_err(|_| Error::invalid("TimeRnn: a size on a GPU", format!("at most {}", i32::MAX), size))
}

/// A weight in memory: `[outer, inner]` row by row where it is transposed, else `[blocks, inner, outer]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight {
    pub(super) numbers: Numbers,
    pub(super) blocks: usize,
    pub(super) inner: usize,
    pub(super) outer: usize,
    pub(super) transposed: bool,
}

#[derive(Clone)]
struct Compiled {
    traced: Arc<Traced>,
    ptx: Arc<str>,
    /// Under which a device keeps it.
    name: Arc<str>,
}

/// The kernels of a cell, compiled when they are asked for first.
fn compiled(kernel: &'static dyn Kernel, dtype: DType) -> Result<Compiled> {
    static ALL: Mutex<Option<HashMap<(TypeId, DType), Compiled>>> = Mutex::new(None);
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let all = all.get_or_insert_default();
    let key = (kernel.id(), dtype);
    if let Some(compiled) = all.get(&key) {
        return Ok(compiled.clone());
    }
    let op = || format!("the GPU kernels of {}", kernel.name());
    let traced = kernel.traced().ok_or_else(|| Error::invalid(op(), "a cell of one stage", "one of two"))?;
    let ptx = compile_ptx(source(&traced, dtype))
        .map_err(|cause| Error::invalid(op(), "text that NVRTC compiles", format!("{cause:?}")))?;
    let name = format!("rnn-core/{:?}/{}", kernel.id(), dtype.as_str());
    let compiled = Compiled { traced: Arc::new(traced), ptx: ptx.to_src().into(), name: name.into() };
    all.insert(key, compiled.clone());
    Ok(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::pointwise::{Gru, Lstm, PeepholeLstm, RnnRelu, RnnTanh};

    #[test]
    fn both_sides_have_the_window_in_one_order() {
        macro_rules! offsets {
            ($($field:ident),*) => { [$((stringify!($field), std::mem::offset_of!(Window, $field))),*] };
        }
        let mut ours = offsets!(
            gates, product, bias_ih, bias_hh, own, h, hs, c, kept, c_before, next_h, dhs, dinput, drecurrent,
            dh, dc, terms, batch, time, hidden, step, before
        );
        ours.sort_by_key(|(_, offset)| *offset);
        // The names stand before the semicolons, some of them several on a line.
        let theirs = crate::kernels::unroll::cuda::source::WINDOW.lines().flat_map(|line| {
            let (names, _) = line.split_once(';')?;
            Some(
                names
                    .split(',')
                    .map(|name| name.split_whitespace().next_back().unwrap_or_default())
                    .collect::<Vec<_>>(),
            )
        });
        let theirs: Vec<_> = theirs.flatten().filter(|name| *name != "}").collect();
        assert_eq!(ours.map(|(name, _)| name), theirs[..]);
    }

    /// Needs NVRTC, and no GPU.
    #[test]
    fn every_cell_compiles_and_f32_stays_f32() {
        let cells: [&'static dyn Kernel; 5] = [&RnnTanh, &RnnRelu, &Gru, &Lstm, &PeepholeLstm];
        for cell in cells {
            let [single, double] = [DType::F32, DType::F64].map(|dtype| compiled(cell, dtype).unwrap().ptx);
            assert!(single.contains(".visible .entry backward("), "{single}");
            assert!(!single.contains(".f64"), "{single}");
            assert!(double.contains(".f64"), "{double}");
        }
    }
}
