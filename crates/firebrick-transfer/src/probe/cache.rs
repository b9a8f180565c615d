//! Features computed once.

use crate::TransferError;
use crate::score::Features;
use burn::tensor::Tensor;

/// The features of a tensor `[samples, features]`, in f64 on the host.
///
/// # Errors
/// When the device fails to answer, there is no row or column, or a number is not finite.
pub fn features_of(tensor: Tensor<2>) -> Result<Features, TransferError> {
    let [_, columns] = tensor.dims();
    Ok(Features::new(tensor.try_to_vec_as::<f64>()?, columns)?)
}

/// Runs `backbone` once over `inputs`, `batch` samples at a time, and keeps what it gives.
///
/// Give it a model in evaluation mode (`model.valid()`) and inputs on the device without autodiff, so that no graph
/// is kept and nothing is dropped out or updated.
///
/// # Errors
/// As [`features_of`]; a batch of 0 is taken for 1.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_transfer::probe::cache;
///
/// let device = Device::flex();
/// let backbone = LinearConfig::new(3, 2).init(&device);
/// let features = cache(Tensor::<2>::ones([5, 3], &device), 2, |batch| backbone.forward(batch))?;
/// assert_eq!((features.rows(), features.columns()), (5, 2));
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
pub fn cache<const D: usize>(
    inputs: Tensor<D>,
    batch: usize,
    backbone: impl Fn(Tensor<D>) -> Tensor<2>,
) -> Result<Features, TransferError> {
    let (samples, batch) = (inputs.dims()[0], batch.max(1));
    let mut values = Vec::new();
    let mut columns = 0;
    for start in (0..samples).step_by(batch) {
        let part = inputs.clone().narrow(0, start, batch.min(samples - start));
        let features = backbone(part);
        columns = features.dims()[1];
        values.extend(features.try_to_vec_as::<f64>()?);
    }
    Ok(Features::new(values, columns)?)
}
