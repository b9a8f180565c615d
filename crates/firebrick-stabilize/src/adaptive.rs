//! Adaptive clipping: a unit's gradient may be no longer than a share of the unit's weights.
//!
//! # Rule
//! ```text
//! b_i = lambda * max(‖w_i‖, eps)
//! g_i <- g_i * b_i / ‖g_i‖        where ‖g_i‖ > b_i, unit by unit
//! ```
//! # Reference
//! A. Brock, S. De, S. L. Smith, K. Simonyan, "High-performance large-scale image recognition without
//! normalization", ICML 2021 (arXiv 2102.06171).

use crate::Guard;
use crate::guard::remembers;
use crate::transform::{Transform, transforms};
use crate::units::{unit_axis, unit_norms};
use burn::config::Config;
use burn::module::Param;
use burn::tensor::Tensor;
use firebrick_backend::{PathStack, widened};
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// Configuration of [`AdaptiveClip`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `clipping` | 0.01 (batch 4096; larger for smaller batches) | above 0 |
/// | `epsilon` | 1e-3 | above 0 |
/// | `exclude` | nothing | paths of layers or parameters |
/// | `unit_axis` | by layer, see [`unit_axis`](crate::unit_axis) | an axis of every weight |
#[derive(Config, Debug)]
pub struct AdaptiveClipConfig {
    /// The longest a unit's gradient may be, as a share of the norm of its weights.
    #[config(default = 0.01)]
    pub clipping: f64,
    /// The norm that weights count as having at least, so that those that start at zero can move.
    #[config(default = 1e-3)]
    pub epsilon: f64,
    /// Paths that are left alone: `head` covers `head.weight` and `head.bias`. The paper leaves out the final
    /// classifier.
    #[config(default = "Vec::new()")]
    pub exclude: Vec<String>,
    /// The axis of the units of every weight, for layers that store them otherwise than burn's.
    pub unit_axis: Option<usize>,
}

impl AdaptiveClipConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When `clipping` or `epsilon` is not above 0.
    pub fn init(&self) -> Result<AdaptiveClip, ConfigError> {
        check::positive("clipping", self.clipping)?;
        check::positive("epsilon", self.epsilon)?;
        Ok(AdaptiveClip { config: self.clone() })
    }
}

/// Clips each unit's gradient relative to its weights (AGC).
///
/// Tensors with fewer than two axes count as one unit. A unit whose gradient is not finite stays as it is.
///
/// ```
/// use firebrick_stabilize::{AdaptiveClipConfig, SkipNonFiniteConfig};
/// let guards = (
///     SkipNonFiniteConfig::new().init()?,
///     AdaptiveClipConfig::new().with_exclude(vec!["head".into()]).init()?,
/// );
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AdaptiveClip {
    config: AdaptiveClipConfig,
}

impl Transform for AdaptiveClip {
    fn apply<const D: usize>(
        &mut self,
        path: &PathStack,
        param: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        if self.config.exclude.iter().any(|part| covers(part, &path.path())) {
            return gradient;
        }
        let axis = match self.config.unit_axis {
            Some(axis) if D >= 2 && axis < D => Some(axis),
            _ => unit_axis(path.owner(), D),
        };
        // The gradient is that of what is trained, also where other weights are made of it.
        let weights = param.base().inner();
        let norm = unit_norms(gradient.clone(), axis);
        let weights = unit_norms(weights.to_device(&gradient.device()), axis).cast(norm.dtype());
        let bound = weights.clamp_min(self.config.epsilon) * self.config.clipping;
        let broken = norm.clone().is_nan().bool_or(norm.clone().is_inf());
        let factor = (bound / norm.clone().clamp_min(f64::from(f32::MIN_POSITIVE))).clamp_max(1.0);
        let dtype = gradient.dtype();
        (widened(gradient) * factor.mask_where(broken, norm.ones_like())).cast(dtype)
    }
}

/// Whether `part` is `path` or one of the modules above it.
pub(crate) fn covers(part: &str, path: &str) -> bool {
    path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Guard for AdaptiveClip {
    transforms!();
    remembers!(AdaptiveClip);
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::units::values;
    use burn::nn::conv::{Conv1d, Conv1dConfig, ConvTranspose1d, ConvTranspose1dConfig};
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::{DType, Device};
    use firebrick_backend::testing::devices;

    /// Two units with weights (0, 3), (4, 0): norms 3 and 4. Gradients (6, 8) and (0, 0.01).
    const WEIGHTS: [[f32; 2]; 2] = [[0.0, 3.0], [4.0, 0.0]];
    const GRADIENTS: [[f32; 2]; 2] = [[6.0, 8.0], [0.0, 0.01]];
    /// lambda 0.1: bounds 0.3 and 0.4, so (6, 8) of length 10 becomes (0.18, 0.24).
    const AFTER: [f64; 4] = [0.18, 0.24, 0.0, 0.01];

    fn check(after: &[f64], expected: &[f64]) {
        for (value, expected) in after.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{after:?}");
        }
    }

    #[test]
    fn units_are_found_in_every_layout() {
        for device in devices() {
            let tracked = device.clone().autodiff();
            let mut guard = AdaptiveClipConfig::new().with_clipping(0.1).init().expect("valid");
            let weights = Tensor::<2>::from_floats(WEIGHTS, &tracked);
            let gradient = Tensor::<2>::from_floats(GRADIENTS, &device);

            let mut linear: Linear = LinearConfig::new(2, 2).with_bias(false).init(&tracked);
            linear.weight = Param::from_tensor(weights.clone().transpose());
            let mut grads = GradientsParams::new();
            grads.register::<2>(linear.weight.id, gradient.clone().transpose());
            guard.before_step(&linear, &mut grads, 0.0);
            let after = grads.get::<2>(linear.weight.id).expect("present");
            check(&values(after.transpose()), &AFTER);

            let mut conv: Conv1d = Conv1dConfig::new(2, 2, 1).with_bias(false).init(&tracked);
            conv.weight = Param::from_tensor(weights.clone().reshape([2, 2, 1]));
            let mut grads = GradientsParams::new();
            grads.register::<3>(conv.weight.id, gradient.clone().reshape([2, 2, 1]));
            guard.before_step(&conv, &mut grads, 0.0);
            check(&values(grads.get::<3>(conv.weight.id).expect("present")), &AFTER);

            let mut back: ConvTranspose1d =
                ConvTranspose1dConfig::new([2, 2], 1).with_bias(false).init(&tracked);
            back.weight = Param::from_tensor(weights.transpose().reshape([2, 2, 1]));
            let mut grads = GradientsParams::new();
            grads.register::<3>(back.weight.id, gradient.transpose().reshape([2, 2, 1]));
            guard.before_step(&back, &mut grads, 0.0);
            let after = grads.get::<3>(back.weight.id).expect("present");
            check(&values(after.reshape::<2, _>([2, 2]).transpose()), &AFTER);
        }
    }

    #[test]
    fn zero_weights_move_and_excluded_layers_stay() {
        for device in devices() {
            let mut linear: Linear =
                LinearConfig::new(2, 1).with_bias(false).init(&device.clone().autodiff());
            linear.weight = Param::from_tensor(Tensor::zeros([2, 1], &device.clone().autodiff()));
            let model = vec![linear];
            let gradient = Tensor::<2>::from_floats([[3.0], [4.0]], &device);
            let run = |config: AdaptiveClipConfig, gradient: Tensor<2>| {
                let mut grads = GradientsParams::new();
                grads.register::<2>(model[0].weight.id, gradient);
                config.init().expect("valid").before_step(&model, &mut grads, 0.0);
                values(grads.get::<2>(model[0].weight.id).expect("present"))
            };
            let floor = 0.01 * 1e-3;
            check(&run(AdaptiveClipConfig::new(), gradient.clone()), &[0.6 * floor, 0.8 * floor]);
            let excluded = AdaptiveClipConfig::new().with_exclude(vec!["0".into()]);
            check(&run(excluded, gradient.clone()), &[3.0, 4.0]);
            let broken = gradient * f64::INFINITY;
            assert_eq!(run(AdaptiveClipConfig::new(), broken), [f64::INFINITY; 2]);
        }
    }

    #[test]
    fn half_precision_is_clipped_like_f32() {
        for device in devices() {
            if !device.supports_dtype(DType::F16) {
                continue;
            }
            let half = |values: [f32; 2], device: &Device| {
                Tensor::<2>::from_data([[values[0]], [values[1]]], (device, DType::F16))
            };
            let tracked = device.clone().autodiff();
            let run = |weights: [f32; 2], gradient: [f32; 2]| {
                let mut linear: Linear = LinearConfig::new(2, 1).with_bias(false).init(&tracked);
                linear.weight = Param::from_tensor(half(weights, &tracked));
                let mut grads = GradientsParams::new();
                grads.register::<2>(linear.weight.id, half(gradient, &device));
                let mut guard = AdaptiveClipConfig::new().init().expect("valid");
                guard.before_step(&linear, &mut grads, 0.0);
                let after = grads.get::<2>(linear.weight.id).expect("present");
                assert_eq!(after.dtype(), DType::F16);
                values(after)
            };
            // The smallest step between halves is 6e-8.
            for (value, expected) in run([0.0, 0.0], [3.0, 4.0]).iter().zip([6e-6, 8e-6]) {
                assert!((value - expected).abs() < 6e-8, "{value}");
            }
            // The squares of weights and gradients, and their sum, overflow.
            for (value, expected) in run([300.0, 400.0], [600.0, -800.0]).iter().zip([3.0, -4.0]) {
                assert!((value / expected - 1.0).abs() < 1e-3, "{value}");
            }
            assert_eq!(run([300.0, 400.0], [0.0, 0.0]), [0.0, 0.0]);
        }
    }

    #[test]
    fn a_path_covers_whole_names_only() {
        assert!(covers("head", "head.weight") && covers("head.weight", "head.weight"));
        assert!(!covers("head", "header.weight") && !covers("layers.1", "layers.10.weight"));
        assert!(AdaptiveClipConfig::new().with_epsilon(0.0).init().is_err());
        assert!(AdaptiveClipConfig::new().with_clipping(-1.0).init().is_err());
    }
}
