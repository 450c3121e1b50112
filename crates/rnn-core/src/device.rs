//! The one place where a device is chosen.

use crate::{Error, Result};
use candle_core::Device;

/// The device that `name` asks for: `auto`, `cpu` or `cuda:N`; `cuda` is the first GPU.
///
/// `auto` is the first GPU where the crate was built with `--features cuda` and one answers, else the CPU; why none answers
/// is logged as a warning.
///
/// ```
/// assert!(rnn_core::device("cpu")?.is_cpu());
/// let error = rnn_core::device("gpu").unwrap_err().to_string();
/// assert_eq!(error, "device: expected auto, cpu or cuda:N, got \"gpu\"");
/// # rnn_core::Result::Ok(())
/// ```
///
/// # Errors
/// A name that is none of these, a GPU in a build without `--features cuda`, or a GPU that does not answer.
pub fn device(name: &str) -> Result<Device> {
    match name {
        "auto" if !cfg!(feature = "cuda") => Ok(Device::Cpu),
        "auto" => Ok(cuda(0).unwrap_or_else(|error| {
            log::warn!("{error}");
            Device::Cpu
        })),
        "cpu" => Ok(Device::Cpu),
        "cuda" => cuda(0),
        _ => match name.strip_prefix("cuda:").and_then(|ordinal| ordinal.parse().ok()) {
            Some(ordinal) => cuda(ordinal),
            None => Err(Error::invalid("device", "auto, cpu or cuda:N", format!("{name:?}"))),
        },
    }
}

/// A short name for messages and records: `cpu` or `cuda:N`.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

fn cuda(ordinal: usize) -> Result<Device> {
    if !cfg!(feature = "cuda") {
        let op = format!("device: cuda:{ordinal}");
        return Err(Error::invalid(op, "a build with CUDA", "a build for the CPU alone")
            .hint("build with --features cuda, or ask for auto or cpu"));
    }
    Device::new_cuda(ordinal).map_err(|cause| {
        // Under RUST_BACKTRACE candle's errors print where they came from; the cause alone is what helps here.
        let cause = match cause {
            candle_core::Error::WithBacktrace { inner, .. } => *inner,
            other => other,
        };
        Error::invalid(format!("device: cuda:{ordinal}"), "a GPU that answers", cause)
            .hint("nvidia-smi lists the GPUs there are; auto or cpu do without")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_device_are_errors() {
        for name in ["", "CPU", "cuda:", "cuda:x", "cuda:-1", "metal"] {
            let error = device(name).unwrap_err().to_string();
            assert!(error.contains("expected auto, cpu or cuda:N") && error.contains(name), "{error}");
        }
    }

    #[test]
    fn auto_gives_a_device_wherever_it_runs() {
        device("auto").unwrap();
    }

    #[test]
    fn a_gpu_that_is_not_there_is_a_clear_error() {
        let error = device("cuda:4093").unwrap_err().to_string();
        assert!(error.starts_with("device: cuda:4093: expected") && error.contains("cpu"), "{error}");
    }
}
