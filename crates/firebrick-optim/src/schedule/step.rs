//! The staircase: the rate falls by a factor every so many updates.
//!
//! # Differences
//! PyTorch multiplies the optimizer's rate in place, so a change by hand persists there; this is a function of the
//! step. A period of 0, which PyTorch accepts and then divides by, is refused.

use super::Schedule;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`Step`].
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `initial_lr` | L | required | `[0, inf)` |
/// | `step_size` | s | required | at least 1 |
/// | `gamma` | | 0.1 | `[0, 1]` |
#[derive(Config, Debug)]
pub struct StepConfig {
    /// Rate of the first `step_size` updates.
    pub initial_lr: f64,
    /// Updates between two falls.
    pub step_size: usize,
    /// Factor of each fall.
    #[config(default = 0.1)]
    pub gamma: f64,
}

impl StepConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<Step, ConfigError> {
        Ok(Step {
            initial_lr: check::non_negative("initial_lr", self.initial_lr)?,
            step_size: check::at_least("step_size", self.step_size, 1)? as u64,
            gamma: check::range("gamma", self.gamma, 0.0..=1.0)?,
        })
    }
}

init!(StepConfig);

/// `rate(k) = L gamma^floor(k / s)`.
///
/// | k | 0 | 29 | 30 | 60 | 90 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 1, s = 30, gamma = 0.5 | 1 | 1 | 0.5 | 0.25 | 0.125 |
///
/// ```
/// use firebrick_optim::schedule::{Schedule, StepConfig};
/// assert_eq!(StepConfig::new(1.0, 30).with_gamma(0.5).build()?.rate(60), 0.25);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub(super) initial_lr: f64,
    pub(super) step_size: u64,
    pub(super) gamma: f64,
}

impl Schedule for Step {
    fn rate(&self, k: u64) -> f64 {
        self.initial_lr * self.gamma.powf((k / self.step_size) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let schedule = StepConfig::new(1.0, 30).with_gamma(0.5).build().expect("valid");
        assert_table(&schedule, &[(0, 1.0), (29, 1.0), (30, 0.5), (60, 0.25), (90, 0.125)]);
    }

    #[test]
    fn ends_of_the_factor_are_defined() {
        let off = StepConfig::new(1.0, 2).with_gamma(0.0).build().expect("valid");
        assert_eq!((off.rate(1), off.rate(2)), (1.0, 0.0));
        let held = StepConfig::new(3.0, 1).with_gamma(1.0).build().expect("valid");
        assert_eq!(held.rate(u64::MAX), 3.0);
    }

    /// torch divides by a period of 0.
    #[test]
    fn refuses() {
        assert_eq!(
            refused(StepConfig::new(1.0, 0).build()),
            "`step_size` must be at least 1, got 0"
        );
        assert!(refused(StepConfig::new(1.0, 1).with_gamma(-0.5).build()).contains("`gamma`"));
        assert!(refused(StepConfig::new(-1.0, 1).build()).contains("`initial_lr`"));
    }
}
