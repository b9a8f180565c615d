//! Clipping of single elements and of single tensors: simpler than the global norm, and it turns the direction.
//!
//! # Rules
//! ```text
//! by value       g <- min(max(g, -c), c)                    element by element
//! by tensor      g <- g * min(1, c / (‖g‖ + 1e-6))          tensor by tensor
//! ```
//! A bound `c` on each of `n` tensors bounds the global norm only by `c sqrt(n)`.
//!
//! # Reference
//! T. Mikolov, "Statistical language models based on neural networks", 2012.

use crate::Guard;
use crate::guard::remembers;
use crate::transform::{Transform, transforms};
use crate::units::unit_norms;
use burn::config::Config;
use burn::module::Param;
use burn::tensor::Tensor;
use firebrick_backend::{PathStack, widened};
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// Configuration of [`ClipValue`].
#[derive(Config, Debug)]
pub struct ClipValueConfig {
    /// The largest magnitude of an element; above 0.
    pub max_value: f64,
}

impl ClipValueConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When `max_value` is not above 0 or not finite.
    pub fn init(&self) -> Result<ClipValue, ConfigError> {
        check::positive("max_value", self.max_value)?;
        Ok(ClipValue { config: self.clone() })
    }
}

/// Clamps every element of every gradient, as PyTorch's `clip_grad_value_` does.
///
/// An infinity becomes the bound and a NaN stays, so put [`SkipNonFinite`](crate::SkipNonFinite) before it.
///
/// ```
/// use burn::{nn::LinearConfig, optim::GradientsParams, tensor::{Device, Tensor}};
/// use firebrick_stabilize::{ClipValueConfig, Guard};
///
/// let device = Device::flex();
/// let model = LinearConfig::new(1, 2).with_bias(false).init(&device.clone().autodiff());
/// let mut gradients = GradientsParams::new();
/// gradients.register::<2>(model.weight.id, Tensor::from_floats([[-7.0, 0.5]], &device));
/// ClipValueConfig::new(2.0).init()?.before_step(&model, &mut gradients, 0.0);
/// let clipped = gradients.get::<2>(model.weight.id).expect("present").into_data();
/// assert_eq!(clipped.as_slice::<f32>(), Ok(&[-2.0, 0.5][..]));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClipValue {
    config: ClipValueConfig,
}

impl Transform for ClipValue {
    fn apply<const D: usize>(
        &mut self,
        _: &PathStack,
        _: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        // A GPU's clamp may turn NaN into a bound, and a broken gradient must stay visible.
        let broken = gradient.clone().is_nan();
        let bound = self.config.max_value;
        gradient.clone().clamp(-bound, bound).mask_where(broken, gradient)
    }
}

impl Guard for ClipValue {
    transforms!();
    remembers!(ClipValue);
}

/// Configuration of [`ClipTensorNorm`].
#[derive(Config, Debug)]
pub struct ClipTensorNormConfig {
    /// The largest Euclidean norm of one parameter's gradient; above 0.
    pub max_norm: f64,
}

impl ClipTensorNormConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When `max_norm` is not above 0 or not finite.
    pub fn init(&self) -> Result<ClipTensorNorm, ConfigError> {
        check::positive("max_norm", self.max_norm)?;
        Ok(ClipTensorNorm { config: self.clone() })
    }
}

/// Bounds the norm of each parameter's gradient on its own: Keras' `clipnorm`, burn's `GradientClipping::Norm`.
///
/// A tensor that is not finite stays as it is. For the usual "clip by norm" see
/// [`ClipGlobalNorm`](crate::ClipGlobalNorm).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClipTensorNorm {
    config: ClipTensorNormConfig,
}

impl Transform for ClipTensorNorm {
    fn apply<const D: usize>(
        &mut self,
        _: &PathStack,
        _: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        let norm = unit_norms(gradient.clone(), None);
        let dtype = gradient.dtype();
        (widened(gradient) * bounded(norm.clone() + 1e-6, norm, self.config.max_norm)).cast(dtype)
    }
}

/// `bound / below` where that is under 1 and the norm finite, else 1.
pub(crate) fn bounded<const D: usize>(below: Tensor<D>, norm: Tensor<D>, bound: f64) -> Tensor<D> {
    let one = norm.ones_like();
    let broken = norm.clone().is_nan().bool_or(norm.is_inf());
    (below.recip() * bound).clamp_max(1.0).mask_where(broken, one)
}

impl Guard for ClipTensorNorm {
    transforms!();
    remembers!(ClipTensorNorm);
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Verdict;
    use crate::tests::{gradients, model, values};
    use burn::optim::GradientsParams;
    use burn::tensor::DType;
    use firebrick_backend::testing::devices;

    fn guarded(guard: &mut impl Guard, weight: [f32; 2], bias: [f32; 1]) -> Vec<f32> {
        let mut result = Vec::new();
        for device in devices() {
            let model = model(&device);
            let mut gradients = gradients(&model, &device, &weight, &bias);
            assert_eq!(guard.before_step(&model, &mut gradients, 0.0), Verdict::Proceed);
            result = values(&model, &gradients);
        }
        result
    }

    #[test]
    fn elements_are_clamped_and_nan_stays() {
        let mut guard = ClipValueConfig::new(1.5).init().expect("valid");
        assert_eq!(guarded(&mut guard, [3.0, -4.0], [1.0]), [1.5, -1.5, 1.0]);
        let broken = guarded(&mut guard, [f32::NAN, f32::NEG_INFINITY], [0.0]);
        assert!(broken[0].is_nan() && broken[1] == -1.5 && broken[2] == 0.0);
        assert!(ClipValueConfig::new(0.0).init().is_err());
    }

    #[test]
    fn each_tensor_has_its_own_norm() {
        let mut guard = ClipTensorNormConfig::new(1.0).init().expect("valid");
        let after = guarded(&mut guard, [3.0, -4.0], [0.5]);
        for (value, expected) in after.iter().zip([0.6, -0.8, 0.5]) {
            assert!((value - expected).abs() < 1e-6, "{after:?}");
        }
        assert_eq!(guarded(&mut guard, [0.0, 0.0], [0.0]), [0.0; 3]);
        let huge = guarded(&mut guard, [3e38, 0.0], [f32::INFINITY]);
        assert!((huge[0] - 1.0).abs() < 1e-5 && huge[2] == f32::INFINITY, "{huge:?}");
        assert!(ClipTensorNormConfig::new(f64::NAN).init().is_err());
    }

    #[test]
    fn half_precision_is_clipped_like_f32() {
        for device in devices() {
            if !device.supports_dtype(DType::F16) {
                continue;
            }
            let model = model(&device);
            let id = firebrick_backend::parameters(&model)[0].id;
            let run = |gradient: [f32; 2]| {
                let gradient = [[gradient[0]], [gradient[1]]];
                let mut grads = GradientsParams::new();
                let gradient = Tensor::<2>::from_data(gradient, (&device, DType::F16));
                grads.register::<2>(id, gradient);
                let mut guard = ClipTensorNormConfig::new(1.0).init().expect("valid");
                guard.before_step(&model, &mut grads, 0.0);
                let after = grads.get::<2>(id).expect("present");
                assert_eq!(after.dtype(), DType::F16);
                after.try_to_vec_as::<f64>().expect("reads")
            };
            // The sum of squares, 250,000, overflows.
            for (value, expected) in run([300.0, -400.0]).iter().zip([0.6, -0.8]) {
                assert!((value - expected).abs() < 1e-3, "{value}");
            }
            assert_eq!(run([0.0, 0.0]), [0.0, 0.0]);
        }
    }
}
