//! The constant rate: a baseline, and the tail of other schedules.
//!
//! # Differences
//! PyTorch's `ConstantLR` is no constant: it scales the first 5 updates by 1/3. The registry knows it as
//! `constantlr`.

use super::Schedule;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`Constant`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `initial_lr` | required | `[0, inf)` |
#[derive(Config, Debug)]
pub struct ConstantConfig {
    /// The rate.
    pub initial_lr: f64,
}

impl ConstantConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When the rate is negative or not finite.
    pub fn build(&self) -> Result<Constant, ConfigError> {
        Ok(Constant { initial_lr: check::non_negative("initial_lr", self.initial_lr)? })
    }
}

init!(ConstantConfig);

/// `rate(k) = L`.
///
/// | k | 0 | 1 | 10 | 1000 | 2^64 - 1 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 0.1 | 0.1 | 0.1 | 0.1 | 0.1 | 0.1 |
///
/// ```
/// use firebrick_optim::schedule::{ConstantConfig, Schedule};
/// assert_eq!(ConstantConfig::new(0.1).build()?.rate(7), 0.1);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    initial_lr: f64,
}

impl Schedule for Constant {
    fn rate(&self, _k: u64) -> f64 {
        self.initial_lr
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let schedule = ConstantConfig::new(0.1).build().expect("valid");
        assert_table(&schedule, &[(0, 0.1), (1, 0.1), (10, 0.1), (1000, 0.1), (u64::MAX, 0.1)]);
        assert_eq!(ConstantConfig::new(30.0).build().expect("no bound of 1").rate(5), 30.0);
    }

    #[test]
    fn refuses() {
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(
                refused(ConstantConfig::new(bad).build())
                    .starts_with("`initial_lr` must be in [0, inf)")
            );
        }
    }
}
