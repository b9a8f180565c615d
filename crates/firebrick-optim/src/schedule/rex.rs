//! REX: falls slowly at first and fast at the end; strong for short budgets.
//!
//! # Reference
//! Chen, Wolfe, Kyrillidis: REX: Revisiting Budgeted Training with an Improved Schedule, 2021, arXiv 2107.04197.
//!
//! # Differences
//! pytorch-optimizer's has the lowest rate until its first `step()`; here update 0 has the initial one.

use super::{Schedule, check_floor};
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`Rex`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `initial_lr` | required | `[0, inf)` |
/// | `num_steps` | required | at least 1 |
/// | `min_lr` | 0 | `[0, initial_lr]` |
#[derive(Config, Debug)]
pub struct RexConfig {
    /// Rate of update 0.
    pub initial_lr: f64,
    /// Updates down to the floor.
    pub num_steps: usize,
    /// The floor.
    #[config(default = 0.0)]
    pub min_lr: f64,
}

impl RexConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<Rex, ConfigError> {
        Ok(Rex {
            initial_lr: check::non_negative("initial_lr", self.initial_lr)?,
            num_steps: check::at_least("num_steps", self.num_steps, 1)? as u64,
            min_lr: check_floor(self.min_lr, self.initial_lr)?,
        })
    }
}

init!(RexConfig);

/// `rate(k) = m + (L - m) (1 - z) / (1 - z / 2)` with `z = min(k, N) / N`.
///
/// | k | 0 | 1 | 2 | 3 | 4 and later |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 105, N = 4 | 105 | 90 | 70 | 42 | 0 |
///
/// ```
/// use firebrick_optim::schedule::{RexConfig, Schedule};
/// assert_eq!(RexConfig::new(105.0, 4).build()?.rate(2), 70.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Rex {
    initial_lr: f64,
    num_steps: u64,
    min_lr: f64,
}

impl Schedule for Rex {
    fn rate(&self, k: u64) -> f64 {
        let z = k.min(self.num_steps) as f64 / self.num_steps as f64;
        self.min_lr + (self.initial_lr - self.min_lr) * ((1.0 - z) / (1.0 - z / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let schedule = RexConfig::new(105.0, 4).build().expect("valid");
        assert_table(&schedule, &[(0, 105.0), (1, 90.0), (2, 70.0), (3, 42.0), (4, 0.0), (5, 0.0)]);
    }

    #[test]
    fn ends_at_the_floor() {
        let schedule = RexConfig::new(1.0, 7).with_min_lr(0.25).build().expect("valid");
        assert_eq!(
            (schedule.rate(0), schedule.rate(7), schedule.rate(u64::MAX)),
            (1.0, 0.25, 0.25)
        );
    }

    #[test]
    fn refuses() {
        assert!(refused(RexConfig::new(1.0, 0).build()).contains("`num_steps`"));
        assert!(refused(RexConfig::new(1.0, 4).with_min_lr(2.0).build()).contains("`min_lr`"));
        assert!(refused(RexConfig::new(-1.0, 4).build()).contains("`initial_lr`"));
    }
}
