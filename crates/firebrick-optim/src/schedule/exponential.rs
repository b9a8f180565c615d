//! Exponential decay: the same factor at every update.
//!
//! # Differences
//! A closed form, where PyTorch and burn multiply along (their result keeps the rounding of every step). burn refuses
//! rates above 1.

use super::Schedule;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`Exponential`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `initial_lr` | required | `[0, inf)` |
/// | `gamma` | required | `[0, 1]` |
/// | `min_lr` | 0 | `[0, initial_lr]` |
#[derive(Config, Debug)]
pub struct ExponentialConfig {
    /// Rate of update 0.
    pub initial_lr: f64,
    /// Factor of each update.
    pub gamma: f64,
    /// The floor.
    #[config(default = 0.0)]
    pub min_lr: f64,
}

impl ExponentialConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<Exponential, ConfigError> {
        Ok(Exponential {
            initial_lr: check::non_negative("initial_lr", self.initial_lr)?,
            gamma: check::range("gamma", self.gamma, 0.0..=1.0)?,
            min_lr: super::check_floor(self.min_lr, self.initial_lr)?,
        })
    }
}

init!(ExponentialConfig);

/// `rate(k) = max(L gamma^k, m)`.
///
/// | k | 0 | 1 | 2 | 3 | 4 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 8, gamma = 0.5, m = 0.75 | 8 | 4 | 2 | 1 | 0.75 |
///
/// ```
/// use firebrick_optim::schedule::{ExponentialConfig, Schedule};
/// assert_eq!(ExponentialConfig::new(8.0, 0.5).build()?.rate(3), 1.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Exponential {
    pub(super) initial_lr: f64,
    pub(super) gamma: f64,
    pub(super) min_lr: f64,
}

impl Schedule for Exponential {
    fn rate(&self, k: u64) -> f64 {
        (self.initial_lr * self.gamma.powf(k as f64)).max(self.min_lr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let config = ExponentialConfig::new(8.0, 0.5).with_min_lr(0.75);
        let schedule = config.build().expect("valid");
        assert_table(&schedule, &[(0, 8.0), (1, 4.0), (2, 2.0), (3, 1.0), (4, 0.75)]);
    }

    #[test]
    fn does_not_drift() {
        let gamma = 0.999_99f64;
        let schedule = ExponentialConfig::new(1.0, gamma).build().expect("valid");
        let exact = (1_000_000.0 * (gamma - 1.0).ln_1p()).exp();
        assert!((schedule.rate(1_000_000) / exact - 1.0).abs() < 1e-14);
        assert_eq!(schedule.rate(u64::MAX), 0.0);
    }

    #[test]
    fn refuses() {
        assert!(
            refused(ExponentialConfig::new(1.0, 1.1).build()).contains("`gamma` must be in [0, 1]")
        );
        assert!(refused(ExponentialConfig::new(-1.0, 0.9).build()).contains("`initial_lr`"));
        assert!(
            refused(ExponentialConfig::new(1.0, 0.9).with_min_lr(2.0).build()).contains("`min_lr`")
        );
    }
}
