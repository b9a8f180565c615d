//! Brings many small results from the device at once: one read, however many tensors.

use burn::tensor::{DType, FloatDType, Tensor};

#[cfg(test)]
thread_local! {
    /// How often this thread has read from a device.
    pub(crate) static READS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The elements of all `tensors`, one after another, in one read.
///
/// What cannot be read counts as NaN, so that it is taken for broken rather than for healthy.
pub(crate) fn read(tensors: Vec<Tensor<1>>) -> Vec<f64> {
    let Some(first) = tensors.first() else { return Vec::new() };
    #[cfg(test)]
    READS.with(|reads| reads.set(reads.get() + 1));
    let device = first.device();
    let wide = tensors.iter().any(|tensor| tensor.dtype() == DType::F64);
    let dtype = if wide { FloatDType::F64 } else { FloatDType::F32 };
    let count = tensors.iter().map(|tensor| tensor.shape().num_elements()).sum();
    let joined: Vec<_> =
        tensors.into_iter().map(|tensor| tensor.to_device(&device).cast(dtype)).collect();
    Tensor::cat(joined, 0).try_to_vec_as::<f64>().unwrap_or_else(|_| vec![f64::NAN; count])
}
