//! Logits kept from growing.
//!
//! # Formulas
//! ```text
//! soft-cap    c tanh(z / c)
//! z-loss      coefficient * mean over rows of (ln sum_k e^(z_k))^2
//! ```
//! # Reference
//! Gemma 2, 2024 (arXiv 2408.00118): caps 50 for attention, 30 at the end. A. Chowdhery et al., "PaLM", 2022: 1e-4
//! for the z-loss; B. Zoph et al., "ST-MoE", 2022 (arXiv 2202.08906): 1e-3 for a router.
//!
//! Logits in half precision are computed with in f32, where a cap and the square of a large logit fit.

use burn::tensor::Tensor;
use firebrick_backend::widened;
use firebrick_core::{ConfigError, check};

/// `logits` bent smoothly into (-cap, cap); near 0 they stay as they are.
///
/// # Errors
/// When `cap` is not above 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// let logits = Tensor::<1>::from_floats([0.01, 1e6], &Device::flex());
/// let capped: Vec<f32> = firebrick_stabilize::soft_cap(logits, 30.0)?.try_to_vec_as().expect("reads");
/// assert!((capped[0] - 0.01).abs() < 1e-6 && capped[1] == 30.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
pub fn soft_cap<const D: usize>(logits: Tensor<D>, cap: f64) -> Result<Tensor<D>, ConfigError> {
    check::positive("cap", cap)?;
    let dtype = logits.dtype();
    Ok(widened(logits).div_scalar(cap).tanh().mul_scalar(cap).cast(dtype))
}

/// The term that pulls the logarithm of the softmax's denominator to 0; to be added to the training loss.
///
/// # Errors
/// When `coefficient` is negative or there are no logits.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// let logits = Tensor::<2>::zeros([3, 4], &Device::flex());
/// let term = firebrick_stabilize::z_loss(logits, 1e-4)?.into_scalar::<f32>();
/// assert!((term - 1e-4 * 4f32.ln().powi(2)).abs() < 1e-9);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
pub fn z_loss(logits: Tensor<2>, coefficient: f64) -> Result<Tensor<1>, ConfigError> {
    check::non_negative("coefficient", coefficient)?;
    check::at_least("number of logits", logits.shape().num_elements(), 1)?;
    let dtype = logits.dtype();
    let logits = widened(logits);
    // The maximum is subtracted as a constant: it cancels, in the value and in the gradient.
    let largest = logits.clone().max_dim(1).detach();
    let sum = (logits - largest.clone()).exp().sum_dim(1);
    Ok((sum.log() + largest).square().mean().mul_scalar(coefficient).cast(dtype))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::units::values;
    use burn::tensor::DType;
    use firebrick_backend::testing::devices;

    #[test]
    fn logits_in_half_precision_keep_their_term_and_their_cap() {
        for device in devices() {
            if !device.supports_dtype(DType::F16) {
                continue;
            }
            let device = device.autodiff();
            let half = |values: [f32; 2]| Tensor::<2>::from_data([values], (&device, DType::F16));
            // The square of 300 does not fit into f16, the term does.
            let logits = half([300.0, 0.0]).require_grad();
            let term = z_loss(logits.clone(), 1e-4).expect("valid");
            assert_eq!(term.dtype(), DType::F16);
            assert!((values(term.clone().inner())[0] - 9.0).abs() < 0.01);
            let gradient = values(logits.grad(&term.backward()).expect("tracked"));
            assert!((gradient[0] - 0.06).abs() < 1e-4 && gradient[1] == 0.0, "{gradient:?}");
            // Nor does a cap of 1e5, below which these hardly bend.
            let capped = soft_cap(half([1000.0, -2.0]).inner(), 1e5).expect("valid");
            assert_eq!(capped.dtype(), DType::F16);
            let capped = values(capped);
            assert!((capped[0] - 1000.0).abs() < 1.0 && (capped[1] + 2.0).abs() < 2e-3);
        }
    }

    #[test]
    fn the_gradient_of_the_z_loss_is_its_closed_form() {
        for device in devices() {
            let device = device.autodiff();
            for shift in [0.0f32, 200.0, -200.0] {
                let z = [1.0f32 + shift, 2.0 + shift, -0.5 + shift];
                let logits = Tensor::<2>::from_floats([z], &device).require_grad();
                let loss = z_loss(logits.clone(), 0.5).expect("valid");
                let gradient = values(logits.grad(&loss.backward()).expect("tracked"));
                let sum: f64 = z.iter().map(|z| f64::from(z - shift).exp()).sum();
                let log = sum.ln() + f64::from(shift);
                for (z, gradient) in z.iter().zip(gradient) {
                    let expected = 2.0 * 0.5 * log * f64::from(z - shift).exp() / sum;
                    assert!((gradient - expected).abs() < 1e-4 * expected.abs().max(1.0));
                }
            }
            assert!(z_loss(Tensor::zeros([0, 3], &device), 1.0).is_err());
            assert!(z_loss(Tensor::zeros([1, 3], &device), -1.0).is_err());
            assert!(soft_cap(Tensor::<1>::zeros([1], &device), 0.0).is_err());
        }
    }
}
