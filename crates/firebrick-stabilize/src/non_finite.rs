//! Skips the step whose loss or gradients are not finite, and stops a run that has none else left.
//!
//! Multiplying such an update by 0 is not skipping, since 0 times NaN is NaN: the optimizer, its schedule and
//! every average must not move at all.

use crate::guard::{alone, remembers};
use crate::{Guard, Measured, NormType, Verdict};
use burn::config::Config;
use burn::module::Module;
use burn::optim::GradientsParams;
use firebrick_core::{ConfigError, Record, check, names};
use serde::{Deserialize, Serialize};

/// Configuration of [`SkipNonFinite`].
#[derive(Config, Debug)]
pub struct SkipNonFiniteConfig {
    /// How many broken steps in a row are skipped before the run is stopped; at least 1.
    #[config(default = 10)]
    pub max_consecutive: usize,
}

impl SkipNonFiniteConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When `max_consecutive` is 0.
    pub fn init(&self) -> Result<SkipNonFinite, ConfigError> {
        check::at_least("max_consecutive", self.max_consecutive, 1)?;
        Ok(SkipNonFinite { config: self.clone(), consecutive: 0, total: 0, norm: None })
    }
}

/// Skips steps with a NaN or an infinity in the loss or in any gradient.
///
/// The norm by which it judges goes into the record where no guard before it has put one; a guard behind it that clips
/// puts its own there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkipNonFinite {
    config: SkipNonFiniteConfig,
    consecutive: usize,
    total: u64,
    /// The norm of the last step's gradients; `None` where the loss alone broke the step.
    #[serde(default)]
    norm: Option<f64>,
}

impl SkipNonFinite {
    /// How many steps were skipped so far.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.total
    }
}

impl Guard for SkipNonFinite {
    alone!();
    remembers!(SkipNonFinite);

    fn before_step_sharing<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        loss: f64,
        measured: &mut Measured,
    ) -> Verdict {
        self.norm = None;
        if loss.is_finite() {
            let (norm_type, norm) = measured.any(model, gradients);
            // What a guard before this one measured may be a norm of another kind.
            self.norm = (norm_type == NormType::Two).then_some(norm);
            if norm.is_finite() {
                self.consecutive = 0;
                return Verdict::Proceed;
            }
        }
        self.total += 1;
        self.consecutive += 1;
        if self.consecutive > self.config.max_consecutive { Verdict::Stop } else { Verdict::Skip }
    }

    fn record(&self, record: &mut Record) {
        skipped(record, self.total);
        if let Some(norm) = self.norm {
            record.values.entry(names::GRADIENT_NORM.into()).or_insert(norm);
        }
    }
}

/// Adds to the steps that were skipped by the guards of a chain.
pub(crate) fn skipped(record: &mut Record, steps: u64) {
    *record.values.entry(names::SKIPPED.into()).or_insert(0.0) += steps as f64;
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::ClipGlobalNormConfig;
    use crate::tests::{gradients, model};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;

    #[test]
    fn broken_steps_are_skipped_until_the_limit() {
        for device in devices() {
            let model = model(&device);
            let mut guard =
                SkipNonFiniteConfig::new().with_max_consecutive(2).init().expect("valid");
            let mut judge = |weight: f32, loss: f64| {
                let mut gradients = gradients(&model, &device, &[weight, 1.0], &[1.0]);
                guard.before_step(&model, &mut gradients, loss)
            };
            assert_eq!(judge(1.0, 1.0), Verdict::Proceed);
            assert_eq!(judge(f32::NAN, 1.0), Verdict::Skip);
            assert_eq!(judge(f32::INFINITY, 1.0), Verdict::Skip);
            assert_eq!(judge(1.0, 1.0), Verdict::Proceed);
            assert_eq!(judge(1.0, f64::NAN), Verdict::Skip);
            assert_eq!(judge(1.0, f64::INFINITY), Verdict::Skip);
            assert_eq!(judge(f32::NEG_INFINITY, 1.0), Verdict::Stop);
            assert_eq!(guard.skipped(), 5);
        }
    }

    /// The norm in the record of a step with gradients (`weight`, -4) and 12.
    fn recorded(guards: &mut impl Guard, device: &Device, weight: f32, loss: f64) -> Option<f64> {
        let model = model(device);
        let mut gradients = gradients(&model, device, &[weight, -4.0], &[12.0]);
        guards.before_step(&model, &mut gradients, loss);
        let mut record = Record::default();
        guards.record(&mut record);
        record.get(names::GRADIENT_NORM)
    }

    #[test]
    fn the_norm_is_recorded_unless_another_guard_has_it() {
        for device in devices() {
            let mut skip = SkipNonFiniteConfig::new().init().expect("valid");
            let norm = recorded(&mut skip, &device, 3.0, 1.0).expect("measured");
            assert!((norm - 13.0).abs() < 1e-5, "{norm}");
            let broken = recorded(&mut skip, &device, f32::INFINITY, 1.0);
            assert_eq!(broken, Some(f64::INFINITY));
            assert_eq!(recorded(&mut skip, &device, 3.0, f64::NAN), None);
            // Beside a guard that measures the sum of magnitudes, before it and behind it.
            let clip = ClipGlobalNormConfig::new(1e9).with_norm_type(NormType::One);
            let clip = clip.init().expect("valid");
            let before = recorded(&mut (clip.clone(), skip.clone()), &device, 3.0, 1.0);
            let behind = recorded(&mut (skip, clip), &device, 3.0, 1.0);
            for norm in [before, behind] {
                assert!(norm.is_some_and(|norm| (norm - 19.0).abs() < 1e-5), "{norm:?}");
            }
        }
    }

    #[test]
    fn a_limit_of_zero_is_refused() {
        assert!(SkipNonFiniteConfig::new().with_max_consecutive(0).init().is_err());
    }
}
