//! Half a cosine from the initial rate down to a floor: the usual choice for a run of known length.
//!
//! # Reference
//! Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, arXiv 1608.03983 (one cycle).
//!
//! # Differences
//! Past its end PyTorch's `CosineAnnealingLR` and burn 0.22's climb again to the initial rate; optax, timm and this
//! one hold the floor. [`AfterEnd::Mirror`] gives the former.

use super::{Schedule, check_floor};
use burn::config::Config;
use firebrick_core::{ConfigError, check};
use std::f64::consts::PI;

/// What a [`Cosine`] does from update `num_steps` on.
#[derive(Config, Debug, PartialEq, Eq, Copy)]
pub enum AfterEnd {
    /// Holds the floor.
    Hold,
    /// Climbs back up and down again, with period `2 num_steps`, as PyTorch's and burn 0.22's.
    Mirror,
}

/// Configuration of [`Cosine`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `initial_lr` | required | `[0, inf)` |
/// | `num_steps` | required | at least 1 |
/// | `min_lr` | 0 | `[0, initial_lr]` |
/// | `after_end` | `Hold` | |
#[derive(Config, Debug)]
pub struct CosineConfig {
    /// Rate of update 0.
    pub initial_lr: f64,
    /// Updates from the initial rate to the floor.
    pub num_steps: usize,
    /// The floor.
    #[config(default = 0.0)]
    pub min_lr: f64,
    /// What happens past the end.
    #[config(default = "AfterEnd::Hold")]
    pub after_end: AfterEnd,
}

impl CosineConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<Cosine, ConfigError> {
        Ok(Cosine {
            initial_lr: check::non_negative("initial_lr", self.initial_lr)?,
            num_steps: check::at_least("num_steps", self.num_steps, 1)? as u64,
            min_lr: check_floor(self.min_lr, self.initial_lr)?,
            after_end: self.after_end,
        })
    }
}

init!(CosineConfig);

/// `rate(k) = m + (L - m) (1 + cos(pi k / N)) / 2` for `k < N`, then `m`.
///
/// | k | 0 | 1 | 2 | 3 | 4 and later |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 1, m = 0, N = 4 | 1 | 0.853553 | 0.5 | 0.146447 | 0 |
///
/// ```
/// use firebrick_optim::schedule::{CosineConfig, Schedule};
/// let schedule = CosineConfig::new(0.1, 1000).with_min_lr(0.001).build()?;
/// assert_eq!((schedule.rate(0), schedule.rate(1000), schedule.rate(5000)), (0.1, 0.001, 0.001));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Cosine {
    pub(super) initial_lr: f64,
    pub(super) num_steps: u64,
    pub(super) min_lr: f64,
    pub(super) after_end: AfterEnd,
}

/// `from` at 0, `to` at 1, half a cosine between.
pub(super) fn half_cosine(from: f64, to: f64, position: f64) -> f64 {
    to + (from - to) * (1.0 + (PI * position).cos()) / 2.0
}

impl Schedule for Cosine {
    fn rate(&self, k: u64) -> f64 {
        let position = match self.after_end {
            AfterEnd::Hold => k.min(self.num_steps),
            // Folded as an integer: the cosine of a large angle loses digits.
            AfterEnd::Mirror => {
                let folded = k % self.num_steps;
                if (k / self.num_steps).is_multiple_of(2) {
                    folded
                } else {
                    self.num_steps - folded
                }
            }
        };
        half_cosine(self.initial_lr, self.min_lr, position as f64 / self.num_steps as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let schedule = CosineConfig::new(1.0, 4).build().expect("valid");
        let (high, low) = (0.853_553_390_593_273_7, 0.146_446_609_406_726_24);
        assert_table(&schedule, &[(0, 1.0), (1, high), (2, 0.5), (3, low), (4, 0.0), (5, 0.0)]);
    }

    /// torch and burn 0.22 climb again after the end.
    #[test]
    fn holds_the_floor_unless_mirrored() {
        let schedule = CosineConfig::new(5.0, 4).with_min_lr(1.0).build().expect("valid");
        for k in [4, 5, 8, 1000, u64::MAX] {
            assert_eq!(schedule.rate(k), 1.0);
        }
        let config = CosineConfig::new(1.0, 4).with_after_end(AfterEnd::Mirror);
        let mirrored = config.build().expect("valid");
        let (high, low) = (0.853_553_390_593_273_7, 0.146_446_609_406_726_24);
        assert_table(&mirrored, &[(4, 0.0), (5, low), (6, 0.5), (7, high), (8, 1.0), (9, high)]);
    }

    #[test]
    fn one_step_is_defined_and_a_large_rate_allowed() {
        let one = CosineConfig::new(20.0, 1).build().expect("valid");
        assert_eq!((one.rate(0), one.rate(1)), (20.0, 0.0));
    }

    #[test]
    fn refuses() {
        assert!(
            refused(CosineConfig::new(1.0, 0).build()).contains("`num_steps` must be at least 1")
        );
        let floor = CosineConfig::new(0.1, 5).with_min_lr(0.2).build();
        assert_eq!(refused(floor), "`min_lr` must be in [0, 0.1], got 0.2");
        assert!(refused(CosineConfig::new(f64::NAN, 5).build()).contains("`initial_lr`"));
    }
}
