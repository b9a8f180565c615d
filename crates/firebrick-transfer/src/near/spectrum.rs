//! BSS: the small singular values of the features are made smaller, since what they carry transfers badly.
//!
//! # Formula
//! ```text
//! B = sum of the k smallest sigma_i^2 of the feature matrix [n, d] of a batch        = sum (u_i' F v_i)^2
//! ```
//! With `u_i` and `v_i` as constants the right-hand side has the value and the gradient of the left one, so no
//! derivative of a singular value decomposition is needed. Add `eta B`; k 1 and eta 0.001 as a rule.
//!
//! # Reference
//! X. Chen et al., "Catastrophic forgetting meets negative transfer: batch spectral shrinkage", NeurIPS 2019.

use crate::TransferError;
use burn::tensor::{Tensor, TensorData};
use faer::Mat;
use firebrick_backend::checkpointing::beside;
use firebrick_core::ConfigError;

/// The sum of the squares of the `k` smallest singular values of `features`, `[n, d]`, of shape `[1]`.
///
/// # Errors
/// When `k` is 0 or above `min(n, d)`, or the features are not finite.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_transfer::bss;
///
/// let features = Tensor::<2>::from_floats([[3.0, 0.0], [0.0, 0.5]], &Device::flex());
/// let smallest = bss(features, 1)?.into_scalar::<f32>();
/// assert!((smallest - 0.25).abs() < 1e-6);
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
pub fn bss(features: Tensor<2>, k: usize) -> Result<Tensor<1>, TransferError> {
    let [rows, columns] = features.dims();
    let least = rows.min(columns);
    if k == 0 || k > least {
        return Err(ConfigError::new("k", k, format!("from 1 to {least}")).into());
    }
    let values: Vec<f64> = features.clone().inner().try_to_vec_as()?;
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(TransferError::NotFinite { what: "a feature".into(), value: *value });
    }
    let matrix = Mat::from_fn(rows, columns, |row, column| values[row * columns + column]);
    let svd = matrix.thin_svd().map_err(|error| TransferError::Data {
        reason: format!("the singular values of the features are not found: {error:?}"),
    })?;
    let vectors = |matrix: faer::MatRef<'_, f64>, size: usize| {
        let values: Vec<f64> = (0..size)
            .flat_map(|row| (least - k..least).map(move |column| matrix[(row, column)]))
            .collect();
        let device = features.clone().inner().device();
        let data = TensorData::new(values, [size, k]);
        beside(Tensor::<2>::from_data(data, (&device, features.dtype())), &features)
    };
    let (left, right) = (vectors(svd.U(), rows), vectors(svd.V(), columns));
    // u_i' F v_i, for all i at once.
    Ok((left * features.matmul(right)).sum_dim(0).square().sum())
}
