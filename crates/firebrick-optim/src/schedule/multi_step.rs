//! A staircase with steps at chosen updates.
//!
//! # Differences
//! As in PyTorch's `MultiStepLR` a milestone that is named twice counts twice and the order does not matter; the
//! new rate holds from the milestone's own update on.

use super::Schedule;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`MultiStep`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `initial_lr` | required | `[0, inf)` |
/// | `milestones` | required | any; empty means constant |
/// | `gamma` | 0.1 | `[0, 1]` |
#[derive(Config, Debug)]
pub struct MultiStepConfig {
    /// Rate before the first milestone.
    pub initial_lr: f64,
    /// Updates from which the rate is smaller by another factor.
    pub milestones: Vec<usize>,
    /// Factor at each milestone.
    #[config(default = 0.1)]
    pub gamma: f64,
}

impl MultiStepConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<MultiStep, ConfigError> {
        let mut milestones: Vec<u64> = self.milestones.iter().map(|&at| at as u64).collect();
        milestones.sort_unstable();
        Ok(MultiStep {
            initial_lr: check::non_negative("initial_lr", self.initial_lr)?,
            milestones,
            gamma: check::range("gamma", self.gamma, 0.0..=1.0)?,
        })
    }
}

init!(MultiStepConfig);

/// `rate(k) = L gamma^n` with `n` the number of milestones `<= k`.
///
/// | k | 0 | 29 | 30 | 79 | 80 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 1, gamma = 0.5, milestones 30, 80 | 1 | 1 | 0.5 | 0.5 | 0.25 |
///
/// ```
/// use firebrick_optim::schedule::{MultiStepConfig, Schedule};
/// let schedule = MultiStepConfig::new(1.0, vec![30, 80]).with_gamma(0.5).build()?;
/// assert_eq!(schedule.rate(80), 0.25);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MultiStep {
    pub(super) initial_lr: f64,
    pub(super) milestones: Vec<u64>,
    pub(super) gamma: f64,
}

impl Schedule for MultiStep {
    fn rate(&self, k: u64) -> f64 {
        let passed = self.milestones.partition_point(|&at| at <= k);
        self.initial_lr * self.gamma.powf(passed as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let config = MultiStepConfig::new(1.0, vec![30, 80]).with_gamma(0.5);
        let schedule = config.build().expect("valid");
        assert_table(&schedule, &[(0, 1.0), (29, 1.0), (30, 0.5), (79, 0.5), (80, 0.25)]);
    }

    #[test]
    fn duplicates_count_twice_in_any_order() {
        let config = MultiStepConfig::new(1.0, vec![9, 3, 3, 0]).with_gamma(0.5);
        let schedule = config.build().expect("valid");
        let rates: Vec<f64> = [0, 2, 3, 8, 9].into_iter().map(|k| schedule.rate(k)).collect();
        assert_eq!(rates, [0.5, 0.5, 0.125, 0.125, 0.0625]);
        let none = MultiStepConfig::new(2.0, vec![]).build().expect("valid");
        assert_eq!(none.rate(1_000_000), 2.0);
    }

    #[test]
    fn refuses() {
        let bad = MultiStepConfig::new(1.0, vec![1]).with_gamma(f64::NAN).build();
        assert_eq!(refused(bad), "`gamma` must be in [0, 1], got NaN");
        assert!(refused(MultiStepConfig::new(-1.0, vec![]).build()).contains("`initial_lr`"));
    }
}
