//! Which axis of a weight counts its units.
//!
//! burn stores `Linear` and transposed convolutions with the inputs first, convolutions and embeddings with
//! the units first; PyTorch stores `Linear` the other way round. A rule per unit must know.

use burn::tensor::Tensor;
use firebrick_backend::widened;

/// The axis of the units of a weight with `rank` axes in a layer of type `owner`; `None` below rank 2.
///
/// | layer | weight | unit axis |
/// | --- | --- | --- |
/// | `Linear` and all unknown layers of rank 2 | `[in, out]` | 1 |
/// | `Conv1d`, `Conv2d`, `Conv3d`, `DeformConv2d`, unknown layers of rank 3 and more | `[out, in, kernel..]` | 0 |
/// | `ConvTranspose1d` and so on | `[in, out, kernel..]` | 1 |
/// | `Embedding` | `[words, size]`: one unit a word | 0 |
///
/// ```
/// assert_eq!(firebrick_stabilize::unit_axis("Linear", 2), Some(1));
/// assert_eq!(firebrick_stabilize::unit_axis("Conv2d", 4), Some(0));
/// ```
#[must_use]
pub fn unit_axis(owner: &str, rank: usize) -> Option<usize> {
    match rank {
        0 | 1 => None,
        _ if owner.contains("ConvTranspose") => Some(1),
        _ if owner.contains("Conv") || owner.contains("Embedding") => Some(0),
        2 => Some(1),
        _ => Some(0),
    }
}

/// The Euclidean norm of each unit, [`widened`], with every other axis of size 1; of the whole where `axis` is `None`.
///
/// Each unit is scaled by its largest magnitude before squaring: nothing overflows, and what is broken in one unit
/// stays there.
pub(crate) fn unit_norms<const D: usize>(tensor: Tensor<D>, axis: Option<usize>) -> Tensor<D> {
    let tensor = widened(tensor);
    let tiny = f64::from(f32::MIN_POSITIVE);
    let largest = over_units(tensor.clone().abs(), axis, |tensor, axis| tensor.max_dim(axis));
    let scale = largest.clamp_min(tiny);
    let squares = (tensor / scale.clone()).square();
    over_units(squares, axis, |tensor, axis| tensor.sum_dim(axis)).sqrt() * scale
}

/// Reduces every axis but that of the units.
pub(crate) fn over_units<const D: usize>(
    tensor: Tensor<D>,
    unit: Option<usize>,
    reduce: impl Fn(Tensor<D>, usize) -> Tensor<D>,
) -> Tensor<D> {
    (0..D).filter(|axis| Some(*axis) != unit).fold(tensor, reduce)
}

/// The elements of one tensor.
#[cfg(all(test, feature = "flex"))]
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let count = tensor.shape().num_elements();
    crate::read::read(vec![tensor.reshape([count])])
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::DType;
    use firebrick_backend::testing::devices;

    #[test]
    fn a_broken_unit_leaves_the_others_their_norm() {
        for device in devices() {
            let rows = [[3.0, 4.0], [f32::INFINITY, 1.0], [3e30, 4e30], [f32::NAN, 1.0]];
            let norms = values(unit_norms(Tensor::<2>::from_floats(rows, &device), Some(0)));
            assert!((norms[0] - 5.0).abs() < 1e-5 && (norms[2] / 5e30 - 1.0).abs() < 1e-6);
            assert!(!norms[1].is_finite() && !norms[3].is_finite(), "{norms:?}");
        }
    }

    #[test]
    fn norms_of_half_precision_are_those_of_f32() {
        for device in devices() {
            if !device.supports_dtype(DType::F16) {
                continue;
            }
            let half = Tensor::<2>::from_data([[300.0, 400.0], [0.0, 0.0]], (&device, DType::F16));
            let norms = unit_norms(half, Some(0));
            assert_eq!(norms.dtype(), DType::F32);
            let norms = values(norms);
            assert!((norms[0] - 500.0).abs() < 1e-3 && norms[1] == 0.0, "{norms:?}");
        }
    }
}
