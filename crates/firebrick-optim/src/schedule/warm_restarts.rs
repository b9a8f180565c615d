//! SGDR: cosine cycles, each starting again at the peak, each longer than the one before.
//!
//! # Reference
//! Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, arXiv 1608.03983.
//!
//! # Differences
//! As in PyTorch and timm a cycle of `T` updates ends one update above the floor (the paper lets the last one reach
//! it). The cycle's index is found in integers: PyTorch's `step(epoch)` and timm take a floating logarithm and return
//! the floor instead of the peak at some restarts (first period 1, multiplier 3, update 121).

use super::cosine::half_cosine;
use super::{Schedule, check_floor};
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`WarmRestarts`].
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `initial_lr` | L | required | `[0, inf)` |
/// | `first_period` | T | required | at least 1 |
/// | `multiplier` | | 1 | at least 1 |
/// | `min_lr` | m | 0 | `[0, initial_lr]` |
/// | `cycle_decay` | d | 1 | `(0, 1]` |
#[derive(Config, Debug)]
pub struct WarmRestartsConfig {
    /// Rate of update 0.
    pub initial_lr: f64,
    /// Updates of the first cycle.
    pub first_period: usize,
    /// How many times as long each next cycle is.
    #[config(default = 1)]
    pub multiplier: usize,
    /// The floor.
    #[config(default = 0.0)]
    pub min_lr: f64,
    /// Factor on the peak from one cycle to the next (timm's); the peak never falls below the floor.
    #[config(default = 1.0)]
    pub cycle_decay: f64,
}

impl WarmRestartsConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<WarmRestarts, ConfigError> {
        Ok(WarmRestarts {
            initial_lr: check::non_negative("initial_lr", self.initial_lr)?,
            first_period: check::at_least("first_period", self.first_period, 1)? as u64,
            multiplier: check::at_least("multiplier", self.multiplier, 1)? as u64,
            min_lr: check_floor(self.min_lr, self.initial_lr)?,
            cycle_decay: check::range(
                "cycle_decay",
                self.cycle_decay,
                (std::ops::Bound::Excluded(0.0), std::ops::Bound::Included(1.0)),
            )?,
        })
    }
}

init!(WarmRestartsConfig);

/// `rate(k) = m + (L d^i - m) (1 + cos(pi t / T_i)) / 2`, `t` the place of `k` in cycle `i`, `T_i = T mult^i`.
///
/// | k | 0 | 1 | 2 | 4 | 6 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 1, T = 2, multiplier 2 | 1 | 0.5 | 1 | 0.5 | 1 |
///
/// ```
/// use firebrick_optim::schedule::{Schedule, WarmRestartsConfig};
/// let schedule = WarmRestartsConfig::new(1.0, 2).with_multiplier(2).build()?;
/// assert_eq!((schedule.rate(2), schedule.rate(4), schedule.rate(6)), (1.0, 0.5, 1.0));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct WarmRestarts {
    pub(super) initial_lr: f64,
    pub(super) first_period: u64,
    pub(super) multiplier: u64,
    pub(super) min_lr: f64,
    pub(super) cycle_decay: f64,
}

impl WarmRestarts {
    /// The cycle of update `k`: its index, the place of `k` in it, and its length.
    #[must_use]
    pub fn cycle(&self, k: u64) -> (u64, u64, u64) {
        if self.multiplier == 1 {
            return (k / self.first_period, k % self.first_period, self.first_period);
        }
        let (mut index, mut place, mut period) = (0, k, self.first_period);
        // At most 64 turns: the period at least doubles.
        while place >= period {
            place -= period;
            period = period.saturating_mul(self.multiplier);
            index += 1;
        }
        (index, place, period)
    }
}

impl Schedule for WarmRestarts {
    fn rate(&self, k: u64) -> f64 {
        let (index, place, period) = self.cycle(k);
        let decayed = self.initial_lr * self.cycle_decay.powf(index as f64);
        let peak = if self.cycle_decay < 1.0 { decayed.max(self.min_lr) } else { decayed };
        half_cosine(peak, self.min_lr, place as f64 / period as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};
    use firebrick_core::Seed;

    #[test]
    fn table() {
        let schedule = WarmRestartsConfig::new(1.0, 2).with_multiplier(2).build().expect("valid");
        assert_table(&schedule, &[(0, 1.0), (1, 0.5), (2, 1.0), (4, 0.5), (6, 1.0)]);
    }

    /// torch's `step(epoch)` and timm return the floor here.
    #[test]
    fn every_restart_is_at_the_peak() {
        for (first, multiplier, restart) in
            [(1, 3, 121), (10, 3, 1210), (1, 3, 40), (7, 1, 7 * 123_456_789)]
        {
            let config = WarmRestartsConfig::new(1.0, first).with_multiplier(multiplier);
            assert_eq!(config.build().expect("valid").rate(restart), 1.0);
        }
    }

    #[test]
    fn the_peak_decays_with_the_cycles() {
        let config = WarmRestartsConfig::new(1.0, 4).with_cycle_decay(0.5).with_min_lr(0.2);
        let schedule = config.build().expect("valid");
        assert_table(&schedule, &[(0, 1.0), (4, 0.5), (6, 0.35), (8, 0.25), (12, 0.2), (14, 0.2)]);
    }

    #[test]
    fn cycles_tile_the_steps() {
        let mut random = Seed(4).stream("cycles");
        for _ in 0..2000 {
            let (first, multiplier) = (1 + random.below(50), 1 + random.below(5));
            let k = random.next_u64() >> random.below(64);
            let config = WarmRestartsConfig::new(1.0, first as usize);
            let schedule = config.with_multiplier(multiplier as usize).build().expect("valid");
            let (index, place, period) = schedule.cycle(k);
            assert!(place < period);
            let (first, multiplier) = (u128::from(first), u128::from(multiplier));
            // The lengths of the cycles before, summed in closed form.
            let before = if multiplier == 1 {
                first * u128::from(index)
            } else {
                first * (multiplier.pow(index as u32) - 1) / (multiplier - 1)
            };
            assert_eq!(before + u128::from(place), u128::from(k));
        }
    }

    #[test]
    fn refuses() {
        assert!(refused(WarmRestartsConfig::new(1.0, 0).build()).contains("`first_period`"));
        assert!(
            refused(WarmRestartsConfig::new(1.0, 1).with_multiplier(0).build())
                .contains("`multiplier`")
        );
        let decay = WarmRestartsConfig::new(1.0, 1).with_cycle_decay(0.0).build();
        assert_eq!(refused(decay), "`cycle_decay` must be in (0, 1], got 0");
    }
}
