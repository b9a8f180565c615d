//! Which axis of a weight counts its units.
//!
//! burn stores `Linear` and transposed convolutions with the inputs first, convolutions and embeddings with
//! the units first; PyTorch stores `Linear` the other way round. A rule per unit must know.

use burn::tensor::Tensor;

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

/// The Euclidean norm of each unit, with every other axis of size 1; of the whole where `axis` is `None`.
///
/// Scaled by the tensor's largest magnitude before squaring, so that nothing overflows.
pub(crate) fn unit_norms<const D: usize>(tensor: Tensor<D>, axis: Option<usize>) -> Tensor<D> {
    let tiny = f64::from(f32::MIN_POSITIVE);
    let scale = tensor.clone().abs().max().clamp_min(tiny).reshape([1; D]);
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
