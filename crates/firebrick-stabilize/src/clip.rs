//! Clipping by the global norm: the direction of the whole gradient stays, its length is bounded.
//!
//! # Rule
//! ```text
//! n = ‖(g_1, ..., g_P)‖                        over all parameters together
//! g_i <- g_i * max_norm / (n + 1e-6)           if that factor is below 1
//! ```
//! # Reference
//! R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
//!
//! # Differences
//! PyTorch's `clip_grad_norm_` writes NaN into every gradient when the norm is NaN, and zeros into the finite
//! ones when it is infinite, which it already is where a square overflows f32. Here such gradients are left as they are
//! and the step is skipped, and no square overflows; [`NonFinite::Torch`] does as PyTorch does.
//! burn's `GradientClipping::Norm` takes each tensor's own norm.

use crate::guard::{alone, remembers};
use crate::{Guard, Measured, NormType, Verdict, scale_gradients};
use burn::config::Config;
use burn::module::Module;
use burn::optim::GradientsParams;
use firebrick_core::{ConfigError, Record, check, names};
use serde::{Deserialize, Serialize};

/// What becomes of gradients whose norm is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NonFinite {
    /// They stay as they are, and the step is skipped.
    Keep,
    /// As in PyTorch: an infinite norm makes finite gradients 0 and infinite ones NaN, a NaN makes all NaN, the norm is
    /// infinite where f32 overflows, and the step is taken.
    Torch,
}

/// Configuration of [`ClipGlobalNorm`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `max_norm` | required; 1 for language models, 5 for recurrent nets, 0.5 in reinforcement learning | above 0 |
/// | `norm_type` | `NormType::Two` | |
/// | `by_layer` | false | |
/// | `non_finite` | `NonFinite::Keep` | |
#[derive(Config, Debug)]
pub struct ClipGlobalNormConfig {
    /// The largest norm that passes unchanged.
    pub max_norm: f64,
    /// Which norm.
    #[config(default = "NormType::Two")]
    pub norm_type: NormType,
    /// Whether each step's record also gets the norm of every layer, as `grad_norm/<layer>`; costs no further
    /// read from the device.
    #[config(default = false)]
    pub by_layer: bool,
    /// What becomes of gradients whose norm is not finite.
    #[config(default = "NonFinite::Keep")]
    pub non_finite: NonFinite,
}

impl ClipGlobalNormConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When `max_norm` is not above 0 or not finite.
    pub fn init(&self) -> Result<ClipGlobalNorm, ConfigError> {
        check::positive("max_norm", self.max_norm)?;
        Ok(ClipGlobalNorm {
            config: self.clone(),
            last: None,
            looked_at: 0,
            clipped: 0,
            layers: Vec::new(),
        })
    }
}

/// Scales all gradients down together when their common norm exceeds a bound.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClipGlobalNorm {
    config: ClipGlobalNormConfig,
    last: Option<f64>,
    looked_at: u64,
    clipped: u64,
    layers: Vec<(String, f64)>,
}

impl ClipGlobalNorm {
    /// Clips and returns the norm before clipping, as PyTorch's `clip_grad_norm_` does.
    ///
    /// A norm that is NaN or infinite changes nothing, unless [`NonFinite::Torch`] asks for it, and is returned.
    pub fn clip<M: Module>(&mut self, model: &M, gradients: &mut GradientsParams) -> f64 {
        self.clip_measured(model, gradients, &mut Measured::default())
    }

    fn clip_measured<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        measured: &mut Measured,
    ) -> f64 {
        let norm_type = self.config.norm_type;
        let norm = measured.global(model, gradients, norm_type);
        if self.config.by_layer {
            self.layers = measured.norms(model, gradients, norm_type).layers();
        }
        let as_torch = self.config.non_finite == NonFinite::Torch;
        // Torch squares nothing where there is only one number.
        let mut several = || {
            let tensors = &measured.norms(model, gradients, norm_type).tensors;
            tensors.iter().map(|tensor| tensor.elements).sum::<usize>() > 1
        };
        let norm = match norm {
            _ if as_torch && overflows(norm, norm_type) && several() => f64::INFINITY,
            norm => norm,
        };
        self.last = Some(norm);
        self.looked_at += 1;
        if as_torch && !norm.is_finite() {
            scale_gradients(model, gradients, self.config.max_norm / norm);
            measured.forget();
            self.clipped += 1;
        } else if limit(model, gradients, norm, self.config.max_norm, measured) {
            self.clipped += 1;
        }
        norm
    }

    /// The share of steps that were clipped; above a fifth, the bound acts as a second learning rate.
    ///
    /// `None` before the first step.
    #[must_use]
    pub fn clip_rate(&self) -> Option<f64> {
        (self.looked_at > 0).then(|| self.clipped as f64 / self.looked_at as f64)
    }

    /// The norm before clipping of the last step that was looked at.
    #[must_use]
    pub fn last_norm(&self) -> Option<f64> {
        self.last
    }
}

/// Whether PyTorch's norm, whose sums are of f32, is infinite.
fn overflows(norm: f64, norm_type: NormType) -> bool {
    let sum = if norm_type == NormType::Two { norm * norm } else { norm };
    sum > f64::from(f32::MAX)
}

/// Scales all gradients by `bound / (norm + 1e-6)` if that is below 1; says whether it did.
///
/// A norm that is not finite changes nothing.
pub(crate) fn limit<M: Module>(
    model: &M,
    gradients: &mut GradientsParams,
    norm: f64,
    bound: f64,
    measured: &mut Measured,
) -> bool {
    // The constant is PyTorch's; with it the clipped norm stays just below the bound.
    let factor = bound / (norm + 1e-6);
    if !norm.is_finite() || factor >= 1.0 {
        return false;
    }
    scale_gradients(model, gradients, factor);
    measured.forget();
    true
}

impl Guard for ClipGlobalNorm {
    alone!();
    remembers!(ClipGlobalNorm);

    fn before_step_sharing<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        _loss: f64,
        measured: &mut Measured,
    ) -> Verdict {
        let norm = self.clip_measured(model, gradients, measured);
        let taken = norm.is_finite() || self.config.non_finite == NonFinite::Torch;
        if taken { Verdict::Proceed } else { Verdict::Skip }
    }

    fn record(&self, record: &mut Record) {
        if let Some(norm) = self.last {
            record.values.insert(names::GRADIENT_NORM.into(), norm);
        }
        if let Some(rate) = self.clip_rate() {
            record.values.insert("clip_rate".into(), rate);
        }
        for (layer, norm) in &self.layers {
            record.values.insert(format!("{}/{layer}", names::GRADIENT_NORM), *norm);
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::tests::{gradients, model, values};
    use firebrick_backend::testing::devices;

    fn clip(
        norm_type: NormType,
        max_norm: f64,
        weight: [f32; 2],
        bias: [f32; 1],
    ) -> (f64, Vec<f32>) {
        let mut result = None;
        for device in devices() {
            let model = model(&device);
            let mut gradients = gradients(&model, &device, &weight, &bias);
            let config = ClipGlobalNormConfig::new(max_norm).with_norm_type(norm_type);
            let mut guard = config.init().expect("valid");
            let norm = guard.clip(&model, &mut gradients);
            result = Some((norm, values(&model, &gradients)));
        }
        result.expect("there is a device")
    }

    #[track_caller]
    fn close(left: &[f32], right: &[f64]) {
        for (left, right) in left.iter().zip(right) {
            assert!(
                (f64::from(*left) - right).abs() <= 1e-6 * right.abs().max(1e-3),
                "{left} {right}"
            );
        }
    }

    #[test]
    fn matches_the_closed_form_for_each_norm() {
        for (norm_type, norm) in
            [(NormType::One, 19.0), (NormType::Two, 13.0), (NormType::Infinity, 12.0)]
        {
            let (before, after) = clip(norm_type, 1.3, [3.0, -4.0], [12.0]);
            assert!((before - norm).abs() < 1e-6);
            let factor = 1.3 / (norm + 1e-6);
            close(&after, &[3.0 * factor, -4.0 * factor, 12.0 * factor]);
        }
    }

    #[test]
    fn what_is_small_enough_stays_to_the_bit() {
        assert_eq!(clip(NormType::Two, 14.0, [3.0, -4.0], [12.0]).1, [3.0, -4.0, 12.0]);
        assert_eq!(clip(NormType::Two, 1.0, [0.0, 0.0], [0.0]), (0.0, vec![0.0, 0.0, 0.0]));
    }

    #[test]
    fn huge_gradients_are_clipped_and_broken_ones_left() {
        let (norm, after) = clip(NormType::Two, 1.0, [3e38, 0.0], [0.0]);
        assert!((norm / 3e38 - 1.0).abs() < 1e-6);
        close(&after, &[1.0, 0.0, 0.0]);
        let (norm, after) = clip(NormType::Two, 1.0, [f32::INFINITY, 2.0], [3.0]);
        assert_eq!((norm, after[1], after[2]), (f64::INFINITY, 2.0, 3.0));
        let (norm, after) = clip(NormType::Two, 1.0, [f32::NAN, 2.0], [3.0]);
        assert!(norm.is_nan() && after[0].is_nan() && after[1] == 2.0 && after[2] == 3.0);
    }

    #[test]
    fn a_broken_step_is_skipped_and_recorded() {
        for device in devices() {
            let model = model(&device);
            let mut guard =
                ClipGlobalNormConfig::new(1.0).with_by_layer(true).init().expect("valid");
            let mut gradients = gradients(&model, &device, &[f32::NAN, 0.0], &[0.0]);
            assert_eq!(guard.before_step(&model, &mut gradients, 0.0), Verdict::Skip);
            let mut record = Record::new(1, 1);
            guard.record(&mut record);
            assert!(record.get("grad_norm").is_some_and(f64::is_nan));
            assert!(record.get("grad_norm/layer").is_some_and(f64::is_nan));
        }
    }

    #[test]
    fn bad_bounds_are_refused() {
        for max_norm in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = ClipGlobalNormConfig::new(max_norm).init().expect_err("refused");
            assert_eq!(
                error.to_string(),
                format!("`max_norm` must be in (0, inf), got {max_norm}")
            );
        }
    }
}
