//! Polynomial decay to a floor; linear for power 1.
//!
//! # Differences
//! PyTorch's `PolynomialLR` has no floor. timm's default power is 0.5, TensorFlow's floor 1e-4.

use super::{Schedule, check_floor};
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`Polynomial`].
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `initial_lr` | L | required | `[0, inf)` |
/// | `num_steps` | N | required | at least 1 |
/// | `power` | q | 1 | `(0, inf)` |
/// | `min_lr` | m | 0 | `[0, initial_lr]` |
#[derive(Config, Debug)]
pub struct PolynomialConfig {
    /// Rate of update 0.
    pub initial_lr: f64,
    /// Updates down to the floor.
    pub num_steps: usize,
    /// Exponent.
    #[config(default = 1.0)]
    pub power: f64,
    /// The floor.
    #[config(default = 0.0)]
    pub min_lr: f64,
}

impl PolynomialConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<Polynomial, ConfigError> {
        Ok(Polynomial {
            initial_lr: check::non_negative("initial_lr", self.initial_lr)?,
            num_steps: check::at_least("num_steps", self.num_steps, 1)? as u64,
            power: check::positive("power", self.power)?,
            min_lr: check_floor(self.min_lr, self.initial_lr)?,
        })
    }
}

init!(PolynomialConfig);

/// `rate(k) = m + (L - m) (1 - min(k, N) / N)^q`.
///
/// | k | 0 | 1 | 2 | 3 | 4 and later |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 17, m = 1, N = 4, q = 2 | 17 | 10 | 5 | 2 | 1 |
///
/// ```
/// use firebrick_optim::schedule::{PolynomialConfig, Schedule};
/// let schedule = PolynomialConfig::new(17.0, 4).with_power(2.0).with_min_lr(1.0).build()?;
/// assert_eq!(schedule.rate(2), 5.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Polynomial {
    pub(super) initial_lr: f64,
    pub(super) num_steps: u64,
    pub(super) power: f64,
    pub(super) min_lr: f64,
}

impl Schedule for Polynomial {
    fn rate(&self, k: u64) -> f64 {
        let left = (self.num_steps - k.min(self.num_steps)) as f64 / self.num_steps as f64;
        self.min_lr + (self.initial_lr - self.min_lr) * left.powf(self.power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let config = PolynomialConfig::new(17.0, 4).with_power(2.0).with_min_lr(1.0);
        let schedule = config.build().expect("valid");
        assert_table(&schedule, &[(0, 17.0), (1, 10.0), (2, 5.0), (3, 2.0), (4, 1.0), (9, 1.0)]);
    }

    #[test]
    fn power_one_is_the_line() {
        let polynomial = PolynomialConfig::new(0.7, 13).with_min_lr(0.1).build().expect("valid");
        let line = crate::schedule::LinearConfig::new(0.7, 0.1, 13).build().expect("valid");
        for k in 0..20 {
            assert!((polynomial.rate(k) - line.rate(k)).abs() < 1e-15);
        }
    }

    #[test]
    fn refuses() {
        assert!(refused(PolynomialConfig::new(1.0, 0).build()).contains("`num_steps`"));
        assert!(refused(PolynomialConfig::new(1.0, 5).with_power(0.0).build()).contains("`power`"));
        assert!(
            refused(PolynomialConfig::new(1.0, 5).with_min_lr(-0.1).build()).contains("`min_lr`")
        );
    }
}
