//! Skips steps whose loss or gradient norm lies far outside what the last steps showed.
//!
//! # Rule
//! ```text
//! skip if x > mean + threshold * deviation     of the last `window` accepted values of x (loss, gradient norm)
//! ```
//! # Reference
//! T. OLMo et al., "2 OLMo 2 Furious", 2025 (arXiv 2501.00656): 6 deviations of the last 128 values.
//!
//! # Differences
//! There a skipped value enters the window: one NaN loss makes the next 128 steps skip too, and a spike
//! widens the deviation for as long. Here only accepted values enter. A level that stays high is accepted as
//! the new one after `max_consecutive` skips, so a run cannot hang on a window that no longer fits.

use crate::guard::{alone, remembers};
use crate::non_finite::skipped;
use crate::spike::kept;
use crate::{Guard, Measured, NormType, Verdict};
use burn::config::Config;
use burn::module::Module;
use burn::optim::GradientsParams;
use firebrick_core::{ConfigError, Record, check};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Configuration of [`SkipOutliers`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `threshold` | 6 deviations | above 0 |
/// | `window` | 128 steps | at least 2 |
/// | `min_samples` | 64 | 2 to `window` |
/// | `max_consecutive` | 20 | at least 1 |
#[derive(Config, Debug)]
pub struct SkipOutliersConfig {
    /// How many deviations above the mean a value may lie.
    #[config(default = 6.0)]
    pub threshold: f64,
    /// How many accepted values are remembered.
    #[config(default = 128)]
    pub window: usize,
    /// How many accepted values must be known before anything is skipped.
    #[config(default = 64)]
    pub min_samples: usize,
    /// After how many outliers in a row the window starts anew at their level; after as many non-finite steps
    /// in a row the run is stopped.
    #[config(default = 20)]
    pub max_consecutive: usize,
}

impl SkipOutliersConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn init(&self) -> Result<SkipOutliers, ConfigError> {
        check::positive("threshold", self.threshold)?;
        check::at_least("window", self.window, 2)?;
        check::at_least("min_samples", self.min_samples, 2)?;
        if self.min_samples > self.window {
            let expected = format!("at most `window`, {}", self.window);
            return Err(ConfigError::new("min_samples", self.min_samples, expected));
        }
        check::at_least("max_consecutive", self.max_consecutive, 1)?;
        Ok(SkipOutliers {
            config: self.clone(),
            losses: VecDeque::new(),
            norms: VecDeque::new(),
            outliers: 0,
            broken: 0,
            total: 0,
        })
    }
}

/// Skips the step of an outlying batch; what is skipped never counts as normal.
///
/// ```
/// use firebrick_stabilize::{SkipOutliersConfig, Verdict};
///
/// let mut skip = SkipOutliersConfig::new().with_min_samples(4).init()?;
/// for loss in [1.0, 1.1, 0.9, 1.0] {
///     assert_eq!(skip.judge(loss, 1.0), Verdict::Proceed);
/// }
/// assert_eq!(skip.judge(50.0, 1.0), Verdict::Skip);
/// assert_eq!(skip.judge(f64::NAN, 1.0), Verdict::Skip);
/// assert_eq!(skip.judge(1.05, 1.0), Verdict::Proceed); // the next step is judged as before
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkipOutliers {
    config: SkipOutliersConfig,
    losses: VecDeque<f64>,
    norms: VecDeque<f64>,
    outliers: usize,
    broken: usize,
    total: u64,
}

impl SkipOutliers {
    /// Judges a step by its loss and its gradient norm before clipping.
    pub fn judge(&mut self, loss: f64, norm: f64) -> Verdict {
        if !loss.is_finite() || !norm.is_finite() {
            self.total += 1;
            self.broken += 1;
            let over = self.broken > self.config.max_consecutive;
            return if over { Verdict::Stop } else { Verdict::Skip };
        }
        self.broken = 0;
        if self.outlies(&self.losses, loss) || self.outlies(&self.norms, norm) {
            self.outliers += 1;
            if self.outliers <= self.config.max_consecutive {
                self.total += 1;
                return Verdict::Skip;
            }
            self.losses.clear();
            self.norms.clear();
        }
        self.outliers = 0;
        for (window, value) in [(&mut self.losses, loss), (&mut self.norms, norm)] {
            if window.len() == self.config.window {
                window.pop_front();
            }
            window.push_back(value);
        }
        Verdict::Proceed
    }

    fn outlies(&self, window: &VecDeque<f64>, value: f64) -> bool {
        if window.len() < self.config.min_samples {
            return false;
        }
        let n = window.len() as f64;
        let mean = window.iter().sum::<f64>() / n;
        let variance = window.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        // Without the floor, values that are all equal but for f32's rounding would make the next one an outlier.
        let deviation = variance.sqrt().max(1e-7 * mean.abs());
        value > mean + self.config.threshold * deviation
    }

    /// How many steps were skipped so far.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.total
    }
}

impl Guard for SkipOutliers {
    alone!();
    remembers!(SkipOutliers);

    fn before_step_sharing<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        loss: f64,
        measured: &mut Measured,
    ) -> Verdict {
        let norm = measured.global(model, gradients, NormType::Two);
        self.judge(loss, norm)
    }

    fn rolled_back(&mut self, steps: u64) {
        for window in [&mut self.losses, &mut self.norms] {
            window.truncate(kept(window.len(), steps));
        }
    }

    fn record(&self, record: &mut Record) {
        skipped(record, self.total);
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::tests::{gradients, model};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    #[test]
    fn spikes_are_skipped_alone_and_a_noisy_falling_loss_is_not() {
        let mut stream = Seed(2).stream("loss");
        let mut guard = SkipOutliersConfig::new().init().expect("valid");
        let spikes = [200, 400, 401, 700];
        let mut skipped = Vec::new();
        for step in 0..1000 {
            let healthy = 2.0 * (-f64::from(step) / 500.0).exp() + 0.1 * stream.normal();
            let loss = match step {
                400 => f64::NAN,
                401 => f64::INFINITY,
                _ if spikes.contains(&step) => healthy + 5.0,
                _ => healthy,
            };
            if guard.judge(loss, 1.0 + 0.1 * stream.uniform()) == Verdict::Skip {
                skipped.push(step);
            }
        }
        assert_eq!(skipped, spikes);
        assert_eq!(guard.skipped(), 4);
    }

    #[test]
    fn a_new_level_is_accepted_and_a_broken_run_stops() {
        let config = SkipOutliersConfig::new().with_min_samples(2).with_max_consecutive(3);
        let mut guard = config.init().expect("valid");
        for _ in 0..5 {
            assert_eq!(guard.judge(1.0, 1.0), Verdict::Proceed);
        }
        for _ in 0..3 {
            assert_eq!(guard.judge(9.0, 1.0), Verdict::Skip);
        }
        for _ in 0..5 {
            assert_eq!(guard.judge(9.0, 1.0), Verdict::Proceed);
        }
        for expected in [Verdict::Skip, Verdict::Skip, Verdict::Skip, Verdict::Stop] {
            assert_eq!(guard.judge(9.0, f64::NAN), expected);
        }
    }

    #[test]
    fn a_loss_that_stands_still_may_round_otherwise() {
        let mut guard = SkipOutliersConfig::new().init().expect("valid");
        let loss = 2f32.ln();
        for _ in 0..100 {
            assert_eq!(guard.judge(loss.into(), 1.0), Verdict::Proceed);
        }
        assert_eq!(guard.judge(loss.next_up().next_up().into(), 1.0), Verdict::Proceed);
        assert_eq!(guard.judge(f64::from(loss) * 1.001, 1.0), Verdict::Skip);
    }

    #[test]
    fn a_spike_of_the_norm_is_seen_in_the_gradients() {
        for device in devices() {
            let model = model(&device);
            let mut guard = SkipOutliersConfig::new().with_min_samples(3).init().expect("valid");
            for (weight, expected) in [
                (1.0, Verdict::Proceed),
                (1.1, Verdict::Proceed),
                (0.9, Verdict::Proceed),
                (90.0, Verdict::Skip),
            ] {
                let mut grads = gradients(&model, &device, &[weight, 0.0], &[0.0]);
                assert_eq!(guard.before_step(&model, &mut grads, 1.0), expected);
            }
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        assert!(SkipOutliersConfig::new().with_threshold(0.0).init().is_err());
        assert!(SkipOutliersConfig::new().with_window(1).init().is_err());
        assert!(SkipOutliersConfig::new().with_min_samples(1).init().is_err());
        assert!(SkipOutliersConfig::new().with_max_consecutive(0).init().is_err());
        let error = SkipOutliersConfig::new().with_window(10).init().expect_err("refused");
        assert_eq!(error.to_string(), "`min_samples` must be at most `window`, 10, got 64");
    }
}
