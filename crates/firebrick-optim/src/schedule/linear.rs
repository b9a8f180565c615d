//! A straight line from one rate to another, then held.
//!
//! # Differences
//! `num_steps` counts transitions, as in burn and PyTorch: the final rate is reached at update `num_steps`, so a
//! run of `num_steps` updates down to 0 never wastes one at 0. PyTorch's `LinearLR` is given by factors (the
//! registry's `linearlr`). burn refuses rates above 1 and an initial rate of 0.

use super::Schedule;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`Linear`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `initial_lr` | required | `[0, inf)` |
/// | `final_lr` | required | `[0, inf)` |
/// | `num_steps` | required | at least 1 |
#[derive(Config, Debug)]
pub struct LinearConfig {
    /// Rate of update 0.
    pub initial_lr: f64,
    /// Rate from update `num_steps` on.
    pub final_lr: f64,
    /// Updates from the first rate to the last.
    pub num_steps: usize,
}

impl LinearConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a rate is negative or not finite, or `num_steps` is 0.
    pub fn build(&self) -> Result<Linear, ConfigError> {
        Ok(Linear {
            initial_lr: check::non_negative("initial_lr", self.initial_lr)?,
            final_lr: check::non_negative("final_lr", self.final_lr)?,
            num_steps: check::at_least("num_steps", self.num_steps, 1)? as u64,
        })
    }
}

init!(LinearConfig);

/// `rate(k) = L0 + (L1 - L0) min(k, N) / N`.
///
/// | k | 0 | 1 | 3 | 4 | 9 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, 8 to 2 over N = 4 | 8 | 6.5 | 3.5 | 2 | 2 |
///
/// ```
/// use firebrick_optim::schedule::{LinearConfig, Schedule};
/// assert_eq!(LinearConfig::new(8.0, 2.0, 4).build()?.rate(1), 6.5);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    initial_lr: f64,
    final_lr: f64,
    num_steps: u64,
}

impl Schedule for Linear {
    fn rate(&self, k: u64) -> f64 {
        if k >= self.num_steps {
            return self.final_lr;
        }
        self.initial_lr + (self.final_lr - self.initial_lr) * (k as f64 / self.num_steps as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let schedule = LinearConfig::new(8.0, 2.0, 4).build().expect("valid");
        assert_table(&schedule, &[(0, 8.0), (1, 6.5), (3, 3.5), (4, 2.0), (9, 2.0)]);
    }

    #[test]
    fn ends_exactly_and_may_rise_from_zero() {
        let schedule = LinearConfig::new(0.0, 0.3, 7).build().expect("valid");
        assert_eq!((schedule.rate(0), schedule.rate(7), schedule.rate(u64::MAX)), (0.0, 0.3, 0.3));
        // Down to 0 over N updates the last of them has L / N: none is wasted.
        let down = LinearConfig::new(2.0, 0.0, 8).build().expect("valid");
        assert_eq!((down.rate(7), down.rate(8)), (0.25, 0.0));
        let one = LinearConfig::new(1.0, 0.1, 1).build().expect("valid");
        assert_eq!((one.rate(0), one.rate(1)), (1.0, 0.1));
    }

    #[test]
    fn refuses() {
        assert_eq!(
            refused(LinearConfig::new(1.0, 0.0, 0).build()),
            "`num_steps` must be at least 1, got 0"
        );
        assert!(refused(LinearConfig::new(-1.0, 0.0, 5).build()).contains("`initial_lr`"));
        assert!(refused(LinearConfig::new(1.0, f64::NAN, 5).build()).contains("`final_lr`"));
    }
}
