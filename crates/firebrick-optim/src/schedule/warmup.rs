//! Warm-up: small rates for the first updates, while gradients and moment estimates are still unreliable.
//!
//! # Reference
//! Goyal et al.: Accurate, Large Minibatch SGD, 2017, arXiv 1706.02677.
//!
//! # Differences
//! The first update has the rate `L / W` and update `W - 1` the full rate. Hugging Face, timm, optax and
//! pytorch-optimizer start at 0 by default and so waste an update; `with_start_lr(0.0)` gives theirs.

use super::Schedule;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`LinearWarmup`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `initial_lr` | required | `[0, inf)` |
/// | `warmup_steps` | required | any; 0 means none |
/// | `start_lr` | none | `[0, inf)` |
#[derive(Config, Debug)]
pub struct LinearWarmupConfig {
    /// The full rate, held after the warm-up.
    pub initial_lr: f64,
    /// Updates of the warm-up.
    pub warmup_steps: usize,
    /// Rate of update 0; the full rate then comes at update `warmup_steps`. None: `L / W`, full at `W - 1`.
    pub start_lr: Option<f64>,
}

impl LinearWarmupConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a rate is negative or not finite.
    pub fn build(&self) -> Result<LinearWarmup, ConfigError> {
        Ok(LinearWarmup {
            initial_lr: check::non_negative("initial_lr", self.initial_lr)?,
            warmup_steps: self.warmup_steps as u64,
            start_lr: self.start_lr.map(|lr| check::non_negative("start_lr", lr)).transpose()?,
        })
    }
}

init!(LinearWarmupConfig);

/// `rate(k) = L min(1, (k + 1) / W)`; with a start `s`, `s + (L - s) min(1, k / W)`.
///
/// | k | 0 | 1 | 3 | 4 | 100 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 2, W = 4 | 0.5 | 1 | 2 | 2 | 2 |
/// | the same from s = 1 | 1 | 1.25 | 1.75 | 2 | 2 |
///
/// ```
/// use firebrick_optim::schedule::{LinearWarmupConfig, Schedule};
/// assert_eq!(LinearWarmupConfig::new(2.0, 4).build()?.rate(0), 0.5);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LinearWarmup {
    pub(super) initial_lr: f64,
    pub(super) warmup_steps: u64,
    pub(super) start_lr: Option<f64>,
}

impl Schedule for LinearWarmup {
    fn rate(&self, k: u64) -> f64 {
        if k >= self.warmup_steps {
            return self.initial_lr;
        }
        let steps = self.warmup_steps as f64;
        match self.start_lr {
            None => self.initial_lr * ((k as f64 + 1.0) / steps),
            Some(start) => start + (self.initial_lr - start) * (k as f64 / steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let schedule = LinearWarmupConfig::new(2.0, 4).build().expect("valid");
        assert_table(&schedule, &[(0, 0.5), (1, 1.0), (3, 2.0), (4, 2.0), (100, 2.0)]);
        let config = LinearWarmupConfig::new(2.0, 4).with_start_lr(Some(1.0));
        let started = config.build().expect("valid");
        assert_table(&started, &[(0, 1.0), (1, 1.25), (3, 1.75), (4, 2.0), (100, 2.0)]);
    }

    /// Several libraries start at 0 and waste the first update.
    #[test]
    fn the_first_update_is_not_wasted_and_no_warmup_is_defined() {
        for steps in 1..50 {
            let schedule = LinearWarmupConfig::new(0.3, steps).build().expect("valid");
            assert!(schedule.rate(0) > 0.0);
            assert_eq!(schedule.rate(steps as u64 - 1), 0.3);
        }
        let none = LinearWarmupConfig::new(0.3, 0).build().expect("valid");
        assert_eq!((none.rate(0), none.rate(9)), (0.3, 0.3));
    }

    #[test]
    fn refuses() {
        assert!(refused(LinearWarmupConfig::new(-1.0, 4).build()).contains("`initial_lr`"));
        let start = LinearWarmupConfig::new(1.0, 4).with_start_lr(Some(f64::NAN));
        assert!(refused(start.build()).contains("`start_lr`"));
    }
}
