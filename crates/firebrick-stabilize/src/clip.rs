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
use crate::{Guard, Measured, NormType, Verdict};
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

    /// The factor by which [`clip`](Self::clip) would multiply all gradients, which stay as they are; 1 where it would
    /// do nothing. [`last_norm`](Self::last_norm) tells the norm.
    ///
    /// For firebrick-optim's `FusedOptimizer::step_scaled`, which multiplies as it steps. Clipping then costs one pass
    /// that reads; `clip` reads twice and writes.
    ///
    /// ```text
    /// let factor = clip.factor(&model, &gradients);
    /// model = optimizer.step_scaled(rate, model, gradients, factor);
    /// ```
    ///
    /// ```
    /// use burn::{nn::LinearConfig, optim::GradientsParams, tensor::{Device, Tensor}};
    /// use firebrick_stabilize::ClipGlobalNormConfig;
    ///
    /// let device = Device::flex();
    /// let model = LinearConfig::new(1, 2).with_bias(false).init(&device.clone().autodiff());
    /// let mut gradients = GradientsParams::new();
    /// gradients.register::<2>(model.weight.id, Tensor::from_floats([[3.0, 4.0]], &device));
    /// let mut clip = ClipGlobalNormConfig::new(1.0).init()?;
    /// assert!((clip.factor(&model, &gradients) - 0.2).abs() < 1e-6);
    /// assert_eq!(clip.last_norm(), Some(5.0));
    /// # Ok::<(), firebrick_core::ConfigError>(())
    /// ```
    pub fn factor<M: Module>(&mut self, model: &M, gradients: &GradientsParams) -> f64 {
        self.measure(model, gradients, &mut Measured::default()).1
    }

    fn clip_measured<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        measured: &mut Measured,
    ) -> f64 {
        let (norm, factor) = self.measure(model, gradients, measured);
        measured.scale(model, gradients, factor);
        norm
    }

    /// The norm before clipping, and what clips it.
    fn measure<M: Module>(
        &mut self,
        model: &M,
        gradients: &GradientsParams,
        measured: &mut Measured,
    ) -> (f64, f64) {
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
        let factor = match norm {
            _ if as_torch && !norm.is_finite() => self.config.max_norm / norm,
            _ => limit(norm, self.config.max_norm),
        };
        self.last = Some(norm);
        self.looked_at += 1;
        self.clipped += u64::from(factor != 1.0);
        (norm, factor)
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

/// What all gradients are to be multiplied by: `bound / (norm + 1e-6)` if that is below 1.
///
/// A norm that is not finite changes nothing.
pub(crate) fn limit(norm: f64, bound: f64) -> f64 {
    // The constant is PyTorch's; with it the clipped norm stays just below the bound.
    let factor = bound / (norm + 1e-6);
    if norm.is_finite() && factor < 1.0 { factor } else { 1.0 }
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
    use crate::{SkipNonFiniteConfig, scale_gradients};
    use burn::tensor::Device;
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

    /// The gradients after a step of `guard`, the factor that is left being applied, and that factor.
    fn scaled(guard: &mut impl Guard, weight: [f32; 2], device: &Device) -> (Vec<f32>, f64) {
        let model = model(device);
        let mut gradients = gradients(&model, device, &weight, &[12.0]);
        let (verdict, factor) = guard.before_step_scaled(&model, &mut gradients, 1.0);
        assert_eq!(verdict, Verdict::Proceed);
        if factor != 1.0 {
            scale_gradients(&model, &mut gradients, factor);
        }
        (values(&model, &gradients), factor)
    }

    #[test]
    fn the_factor_is_left_to_the_optimizer_where_clipping_comes_last() {
        for device in devices() {
            let clip = || ClipGlobalNormConfig::new(1.3).init().expect("valid");
            let skip = || SkipNonFiniteConfig::new().init().expect("valid");
            let model = model(&device);
            let mut whole = gradients(&model, &device, &[3.0, -4.0], &[12.0]);
            assert_eq!((skip(), clip()).before_step(&model, &mut whole, 1.0), Verdict::Proceed);
            let whole = values(&model, &whole);
            let weight = [3.0, -4.0];
            let factor = 1.3 / (13.0 + 1e-6);
            for (guarded, left) in [
                (scaled(&mut clip(), weight, &device), factor),
                (scaled(&mut Some(clip()), weight, &device), factor),
                (scaled(&mut (skip(), clip()), weight, &device), factor),
                (scaled(&mut ((skip(), clip()),), weight, &device), factor),
                // A guard behind it sees what the optimizer would.
                (scaled(&mut (clip(), skip()), weight, &device), 1.0),
            ] {
                assert_eq!(guarded.0, whole);
                assert!((guarded.1 - left).abs() < 1e-6, "{} {left}", guarded.1);
            }
            // Two that clip: the first is done, the second is left.
            let tight = ClipGlobalNormConfig::new(0.13).init().expect("valid");
            let (twice, left) = scaled(&mut (clip(), tight), weight, &device);
            assert!((left - 0.1).abs() < 1e-5, "{left}");
            close(&twice, &[0.03, -0.04, 0.12]);
            assert_eq!(scaled(&mut clip(), [0.0, 0.0], &device).1, 1.3 / (12.0 + 1e-6));
            assert_eq!(
                scaled(
                    &mut ClipGlobalNormConfig::new(20.0).init().expect("valid"),
                    weight,
                    &device
                )
                .1,
                1.0
            );
        }
    }

    #[test]
    fn a_factor_that_an_optimizer_cannot_hold_is_applied_at_once() {
        for device in devices() {
            let torch = ClipGlobalNormConfig::new(1.0).with_non_finite(NonFinite::Torch);
            let mut torch = torch.init().expect("valid");
            let (values, factor) = scaled(&mut torch, [f32::INFINITY, 3.0], &device);
            assert!(factor == 1.0 && values[0].is_nan() && values[1..] == [0.0, 0.0]);
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
