//! Skips the step whose loss or gradients are not finite, and stops a run that has none else left.
//!
//! Multiplying such an update by 0 is not skipping, since 0 times NaN is NaN: the optimizer, its schedule and
//! every average must not move at all.

use crate::guard::{alone, remembers};
use crate::{Guard, Measured, Verdict};
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
        Ok(SkipNonFinite { config: self.clone(), consecutive: 0, total: 0 })
    }
}

/// Skips steps with a NaN or an infinity in the loss or in any gradient.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkipNonFinite {
    config: SkipNonFiniteConfig,
    consecutive: usize,
    total: u64,
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
        if loss.is_finite() && measured.is_finite(model, gradients) {
            self.consecutive = 0;
            return Verdict::Proceed;
        }
        self.total += 1;
        self.consecutive += 1;
        if self.consecutive > self.config.max_consecutive { Verdict::Stop } else { Verdict::Skip }
    }

    fn record(&self, record: &mut Record) {
        record.values.insert(names::SKIPPED.into(), self.total as f64);
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::tests::{gradients, model};
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

    #[test]
    fn a_limit_of_zero_is_refused() {
        assert!(SkipNonFiniteConfig::new().with_max_consecutive(0).init().is_err());
    }
}
