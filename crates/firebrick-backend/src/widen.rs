//! Half precision, widened for what does not fit into it.

use burn::tensor::{DType, FloatDType, Tensor};

/// `tensor` in f32, and as it is in f64.
///
/// Squares, sums over a batch and small bounds need more digits, or more room, than half precision has: f16 ends at 65504.
///
/// ```
/// use burn::tensor::{DType, Device, Tensor};
/// use firebrick_backend::widened;
///
/// let half = Tensor::<1>::full([2], 300.0, (&Device::flex(), DType::F16));
/// let norm = widened(half).square().sum().sqrt();
/// assert_eq!(norm.dtype(), DType::F32);
/// assert!((norm.into_scalar::<f32>() - 424.264).abs() < 1e-3);
/// ```
#[must_use]
pub fn widened<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F64 | DType::F32 => tensor,
        _ => tensor.cast(FloatDType::F32),
    }
}
