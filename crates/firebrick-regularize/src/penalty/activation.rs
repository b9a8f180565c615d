//! Penalties on what a network puts out: activities, their change over time, and too much confidence.
//!
//! # Formula
//! ```text
//! activity      strength * sum h^2 / n   or   strength * sum |h| / n     n: samples, as in Keras
//! AR, TAR       alpha * mean(h^2) + beta * mean((h_{t+1} - h_t)^2)
//! confidence    -strength * mean_n H(p_n)      H(p) = -sum_k p_k log p_k
//! ```
//! AR acts on the output after dropout, TAR on the raw output.
//!
//! # Reference
//! S. Merity, B. McCann, R. Socher, "Revisiting activation regularization for language RNNs", 2017; G. Pereyra,
//! G. Tucker, J. Chorowski, L. Kaiser, G. Hinton, "Regularizing neural networks by penalizing confident output
//! distributions", ICLR 2017 workshop.

use crate::target::impossible;
use burn::config::Config;
use burn::tensor::{Tensor, activation::log_softmax, s};
use firebrick_backend::widened;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// Which norm of the activities counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActivityNorm {
    /// The sum of squares.
    L2,
    /// The sum of magnitudes: makes activities sparse.
    L1,
}

/// Configuration of [`ActivityPenalty`].
#[derive(Config, Debug)]
pub struct ActivityPenaltyConfig {
    /// Factor, at least 0.
    pub strength: f64,
    /// Which norm.
    #[config(default = "ActivityNorm::L2")]
    pub norm: ActivityNorm,
}

impl ActivityPenaltyConfig {
    /// Checks the strength.
    ///
    /// # Errors
    /// When it is negative, NaN or infinite.
    pub fn init(&self) -> Result<ActivityPenalty, ConfigError> {
        let strength = check::non_negative("strength", self.strength)?;
        Ok(ActivityPenalty { strength, norm: self.norm })
    }
}

/// Keeps activities small or sparse.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_regularize::ActivityPenaltyConfig;
///
/// let hidden = Tensor::<2>::from_floats([[1.0, 2.0], [0.0, 3.0]], &Device::flex());
/// let term = ActivityPenaltyConfig::new(0.1).init()?.term(hidden);
/// assert!((term.into_scalar::<f32>() - 0.7).abs() < 1e-6);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ActivityPenalty {
    strength: f64,
    norm: ActivityNorm,
}

impl ActivityPenalty {
    /// The term, of shape `[1]`; axis 0 of `hidden` is the batch. An empty batch gives 0.
    #[must_use]
    pub fn term<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<1> {
        let samples = hidden.dims().first().copied().unwrap_or(1).max(1) as f64;
        let hidden = widened(hidden);
        let sum = match self.norm {
            ActivityNorm::L2 => hidden.square().sum(),
            ActivityNorm::L1 => hidden.abs().sum(),
        };
        sum.mul_scalar(self.strength / samples)
    }
}

/// Configuration of [`ActivationPenalty`].
#[derive(Config, Debug)]
pub struct ActivationPenaltyConfig {
    /// Factor of AR, at least 0.
    #[config(default = 2.0)]
    pub alpha: f64,
    /// Factor of TAR, at least 0.
    #[config(default = 1.0)]
    pub beta: f64,
}

impl ActivationPenaltyConfig {
    /// Checks the factors.
    ///
    /// # Errors
    /// When one is negative, NaN or infinite.
    pub fn init(&self) -> Result<ActivationPenalty, ConfigError> {
        Ok(ActivationPenalty {
            alpha: check::non_negative("alpha", self.alpha)?,
            beta: check::non_negative("beta", self.beta)?,
        })
    }
}

/// Activation regularization and its temporal form, for recurrent networks.
#[derive(Debug, Clone)]
pub struct ActivationPenalty {
    alpha: f64,
    beta: f64,
}

impl ActivationPenalty {
    /// The term, of shape `[1]`, for outputs `[n, t, f]` after and before dropout.
    ///
    /// A sequence of one step has no change, and an empty batch no activity: their parts are 0.
    #[must_use]
    pub fn term(&self, dropped: Tensor<3>, raw: Tensor<3>) -> Tensor<1> {
        let mean = |values: Tensor<3>| {
            let values = widened(values);
            let count = values.shape().num_elements().max(1) as f64;
            values.square().sum().div_scalar(count)
        };
        let ar = mean(dropped).mul_scalar(self.alpha);
        if raw.dims()[1] < 2 {
            return ar;
        }
        let change = raw.clone().slice(s![.., 1.., ..]) - raw.slice(s![.., ..-1, ..]);
        ar + mean(change).mul_scalar(self.beta)
    }
}

/// Configuration of [`ConfidencePenalty`].
#[derive(Config, Debug)]
pub struct ConfidencePenaltyConfig {
    /// Factor, at least 0.
    #[config(default = 0.1)]
    pub strength: f64,
}

impl ConfidencePenaltyConfig {
    /// Checks the strength.
    ///
    /// # Errors
    /// When it is negative, NaN or infinite.
    pub fn init(&self) -> Result<ConfidencePenalty, ConfigError> {
        Ok(ConfidencePenalty { strength: check::non_negative("strength", self.strength)? })
    }
}

/// Rewards entropy of the predicted distribution: the other direction of label smoothing's divergence.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_regularize::ConfidencePenaltyConfig;
///
/// let even = Tensor::<2>::zeros([3, 4], &Device::flex());
/// let term = ConfidencePenaltyConfig::new().init()?.term(even);
/// assert!((term.into_scalar::<f64>() + 0.1 * 4f64.ln()).abs() < 1e-6);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConfidencePenalty {
    strength: f64,
}

impl ConfidencePenalty {
    /// The term, of shape `[1]` and at most 0, for logits `[n, k]`. An empty batch gives 0, and so does a class that a
    /// logit of minus infinity rules out.
    #[must_use]
    pub fn term(&self, logits: Tensor<2>) -> Tensor<1> {
        let [samples, classes] = logits.dims();
        if samples * classes == 0 {
            return widened(logits).sum();
        }
        let log_p = log_softmax(widened(logits), 1);
        let out = impossible(&log_p);
        let p = log_p.clone().exp();
        (p * log_p.mask_fill(out, 0.0)).sum().mul_scalar(self.strength / samples as f64)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use firebrick_backend::testing::devices;

    #[test]
    fn ar_and_tar_by_hand() {
        for device in devices() {
            let raw = Tensor::<3>::from_floats([[[1.0, 2.0], [3.0, 2.0], [0.0, 0.0]]], &device);
            let dropped = raw.clone().mul_scalar(2.0);
            let penalty = ActivationPenaltyConfig::new().init().expect("valid");
            let found: f64 = penalty.term(dropped, raw).into_scalar();
            // mean of (4, 16, 36, 16, 0, 0) = 12; changes (2, 0, -3, -2): mean of squares 17 / 4.
            assert!((found - (2.0 * 12.0 + 17.0 / 4.0)).abs() < 1e-5, "{found}");
        }
    }

    #[test]
    fn activity_norms_and_defined_ends() {
        let device = Device::flex();
        let hidden = Tensor::<2>::from_floats([[1.0, -2.0], [0.0, 3.0]], &device);
        let sparse = ActivityPenaltyConfig::new(0.5).with_norm(ActivityNorm::L1).init();
        let found: f64 = sparse.expect("valid").term(hidden).into_scalar();
        assert!((found - 1.5).abs() < 1e-6);
        let empty = ActivityPenaltyConfig::new(0.5).init().expect("valid");
        assert_eq!(empty.term(Tensor::<2>::zeros([0, 3], &device)).into_scalar::<f32>(), 0.0);
        let penalty = ActivationPenaltyConfig::new().init().expect("valid");
        let one = Tensor::<3>::ones([2, 1, 3], &device);
        assert_eq!(penalty.term(one.clone(), one).into_scalar::<f32>(), 2.0);
        assert!(ActivationPenaltyConfig::new().with_beta(f64::NAN).init().is_err());
        assert!(ConfidencePenaltyConfig::new().with_strength(-0.1).init().is_err());
    }

    #[test]
    fn confidence_is_the_entropy_and_its_slope_is_right() {
        let device = Device::flex().autodiff();
        let penalty = ConfidencePenaltyConfig::new().init().expect("valid");
        let entropy = |z: [f64; 3]| {
            let total: f64 = z.iter().map(|z| z.exp()).sum();
            -z.iter().map(|z| z.exp() / total).map(|p| p * p.ln()).sum::<f64>()
        };
        let at = [1.0, -0.5, 0.25];
        let data = TensorData::new(at.iter().map(|&z| z as f32).collect(), [1, 3]);
        let logits = Tensor::<2>::from_data(data, &device).require_grad();
        let term = penalty.term(logits.clone());
        assert!((term.clone().into_scalar::<f64>() + 0.1 * entropy(at)).abs() < 1e-6);
        let gradient = logits.grad(&term.backward()).expect("has one");
        let gradient: Vec<f64> = gradient.try_to_vec_as().expect("reads");
        for (k, found) in gradient.into_iter().enumerate() {
            let (mut up, mut down) = (at, at);
            up[k] += 1e-5;
            down[k] -= 1e-5;
            let expected = -0.1 * (entropy(up) - entropy(down)) / 2e-5;
            assert!((found - expected).abs() < 1e-6, "{k}: {found} {expected}");
        }
        // A certain prediction: p log p is 0 at p = 0, not NaN.
        let sure = Tensor::<2>::from_floats([[1e4, 0.0]], &Device::flex());
        assert_eq!(penalty.term(sure).into_scalar::<f32>(), 0.0);
        // A class that is ruled out: as if it were not there, and with a gradient of 0.
        let row = [at[0] as f32, f32::NEG_INFINITY, at[1] as f32, at[2] as f32];
        let logits = Tensor::<2>::from_floats([row], &device).require_grad();
        let term = penalty.term(logits.clone());
        assert!((term.clone().into_scalar::<f64>() + 0.1 * entropy(at)).abs() < 1e-6);
        let gradient = logits.grad(&term.backward()).expect("has one");
        let gradient: Vec<f64> = gradient.try_to_vec_as().expect("reads");
        assert!(gradient.iter().all(|g| g.is_finite()) && gradient[0] != 0.0, "{gradient:?}");
        assert_eq!(gradient[1], 0.0);
    }

    #[test]
    fn empty_batches_give_zero_and_bad_factors_are_refused() {
        let device = Device::flex();
        let confidence = ConfidencePenaltyConfig::new().init().expect("valid");
        let term = confidence.term(Tensor::<2>::zeros([0, 3], &device));
        assert_eq!(term.into_scalar::<f32>(), 0.0);
        let penalty = ActivationPenaltyConfig::new().init().expect("valid");
        for shape in [[0usize, 4, 3], [2, 0, 3]] {
            let empty = Tensor::<3>::zeros(shape, &device);
            assert_eq!(penalty.term(empty.clone(), empty).into_scalar::<f32>(), 0.0, "{shape:?}");
        }
        for factor in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(ActivityPenaltyConfig::new(factor).init().is_err());
            assert!(ActivationPenaltyConfig::new().with_alpha(factor).init().is_err());
            assert!(ConfidencePenaltyConfig::new().with_strength(factor).init().is_err());
        }
    }
}
