//! Warm-up, a long constant stretch, and a cool-down: the run can be prolonged until the cool-down begins.
//!
//! # Reference
//! Hu et al.: MiniCPM, 2024, arXiv 2404.06395; the `1 - sqrt` form: Hägele et al., 2024, arXiv 2405.18392.
//!
//! # Differences
//! All five cool-downs run from the full rate to the floor without a jump, as timm's; pytorch-optimizer's ignore
//! the floor until their end and then jump to it.

use super::{Schedule, check_floor};
use burn::config::Config;
use firebrick_core::{ConfigError, check};
use std::f64::consts::PI;

/// The shape of the cool-down: what is left of the way to the floor at the share `u` of it.
#[derive(Config, Debug, PartialEq, Copy)]
pub enum Cooldown {
    /// `1 - sqrt(u)`.
    OneMinusSqrt,
    /// `1 - u`.
    Linear,
    /// `(1 + cos(pi u)) / 2`.
    Cosine,
    /// `1 - u^2`.
    OneMinusSquare,
    /// Rates in geometric progression, `L (m / L)^u`; needs a floor above 0.
    Exponential,
}

/// Configuration of [`WarmupStableDecay`].
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `initial_lr` | L | required | `[0, inf)` |
/// | `num_steps` | N | required | at least 1 |
/// | `warmup_steps` | w | 0 | |
/// | `decay_steps` | D | 0 | `w + D <= N` |
/// | `cooldown` | | `OneMinusSqrt` | |
/// | `min_lr` | m | 0 | `[0, initial_lr]`, `Exponential`: above 0 |
#[derive(Config, Debug)]
pub struct WarmupStableDecayConfig {
    /// The full rate.
    pub initial_lr: f64,
    /// Updates of the whole.
    pub num_steps: usize,
    /// Updates of the linear warm-up.
    #[config(default = 0)]
    pub warmup_steps: usize,
    /// Updates of the cool-down, the last ones.
    #[config(default = 0)]
    pub decay_steps: usize,
    /// Shape of the cool-down.
    #[config(default = "Cooldown::OneMinusSqrt")]
    pub cooldown: Cooldown,
    /// The floor, reached at update `num_steps`.
    #[config(default = 0.0)]
    pub min_lr: f64,
}

impl WarmupStableDecayConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<WarmupStableDecay, ConfigError> {
        check::non_negative("initial_lr", self.initial_lr)?;
        check::at_least("num_steps", self.num_steps, 1)?;
        if self.warmup_steps > self.num_steps {
            let expected = format!("at most `num_steps`, {}", self.num_steps);
            return Err(ConfigError::new("warmup_steps", self.warmup_steps, expected));
        }
        let left = self.num_steps - self.warmup_steps;
        if self.decay_steps > left {
            let expected = format!("at most `num_steps` - `warmup_steps`, {left}");
            return Err(ConfigError::new("decay_steps", self.decay_steps, expected));
        }
        check_floor(self.min_lr, self.initial_lr)?;
        if self.cooldown == Cooldown::Exponential && self.min_lr == 0.0 {
            return Err(ConfigError::new("min_lr", 0.0, "above 0 for the exponential cool-down"));
        }
        Ok(WarmupStableDecay {
            initial_lr: self.initial_lr,
            warmup_steps: self.warmup_steps as u64,
            decay_start: (self.num_steps - self.decay_steps) as u64,
            decay_steps: self.decay_steps as u64,
            cooldown: self.cooldown,
            min_lr: self.min_lr,
        })
    }
}

init!(WarmupStableDecayConfig);

/// `L (k + 1) / w` for `k < w`, then `L`, then from `k = N - D` on `m + (L - m) c(u)` with `u = (k - N + D) / D`.
///
/// Without a cool-down (`D = 0`) the full rate is held for ever.
///
/// | k | 0 | 1 | 6 | 7 | 10 and later |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 1, N = 10, w = 2, D = 4, linear | 0.5 | 1 | 1 | 0.75 | 0 |
/// | the same, `1 - sqrt`, m = 0.1 | 0.5 | 1 | 1 | 0.55 | 0.1 |
///
/// ```
/// use firebrick_optim::schedule::{Cooldown, Schedule, WarmupStableDecayConfig};
/// let schedule = WarmupStableDecayConfig::new(1.0, 10)
///     .with_warmup_steps(2)
///     .with_decay_steps(4)
///     .with_cooldown(Cooldown::Linear)
///     .build()?;
/// assert_eq!((schedule.rate(0), schedule.rate(5), schedule.rate(7)), (0.5, 1.0, 0.75));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct WarmupStableDecay {
    initial_lr: f64,
    warmup_steps: u64,
    decay_start: u64,
    decay_steps: u64,
    cooldown: Cooldown,
    min_lr: f64,
}

impl Schedule for WarmupStableDecay {
    fn rate(&self, k: u64) -> f64 {
        if k < self.warmup_steps {
            return self.initial_lr * ((k as f64 + 1.0) / self.warmup_steps as f64);
        }
        if k <= self.decay_start || self.decay_steps == 0 {
            return self.initial_lr;
        }
        let u = (k - self.decay_start).min(self.decay_steps) as f64 / self.decay_steps as f64;
        let left = match self.cooldown {
            Cooldown::OneMinusSqrt => 1.0 - u.sqrt(),
            Cooldown::Linear => 1.0 - u,
            Cooldown::Cosine => (1.0 + (PI * u).cos()) / 2.0,
            Cooldown::OneMinusSquare => 1.0 - u * u,
            Cooldown::Exponential => {
                return self.initial_lr * (self.min_lr / self.initial_lr).powf(u);
            }
        };
        self.min_lr + (self.initial_lr - self.min_lr) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    const ALL: [Cooldown; 5] = [
        Cooldown::OneMinusSqrt,
        Cooldown::Linear,
        Cooldown::Cosine,
        Cooldown::OneMinusSquare,
        Cooldown::Exponential,
    ];

    fn ten() -> WarmupStableDecayConfig {
        WarmupStableDecayConfig::new(1.0, 10).with_warmup_steps(2).with_decay_steps(4)
    }

    #[test]
    fn table() {
        let linear = ten().with_cooldown(Cooldown::Linear).build().expect("valid");
        assert_table(&linear, &[(0, 0.5), (1, 1.0), (6, 1.0), (7, 0.75), (10, 0.0), (99, 0.0)]);
        let floor = ten().with_min_lr(0.1).build().expect("valid");
        assert_table(&floor, &[(0, 0.5), (1, 1.0), (6, 1.0), (7, 0.55), (10, 0.1), (99, 0.1)]);
    }

    /// timm's values; pytorch-optimizer falls to 0.106 with a floor of 0.5 and then jumps up to it.
    #[test]
    fn the_floor_scales_every_cooldown() {
        let timm = ten().with_min_lr(0.1).build().expect("valid");
        for (k, expected) in [(7, 0.55), (8, 0.364), (9, 0.221), (10, 0.1)] {
            assert!((timm.rate(k) - expected).abs() < 5e-4, "update {k}");
        }
        for cooldown in ALL {
            let config = WarmupStableDecayConfig::new(2.0, 40).with_decay_steps(30);
            let schedule = config.with_cooldown(cooldown).with_min_lr(1.0).build().expect("valid");
            let rates: Vec<f64> = (0..60).map(|k| schedule.rate(k)).collect();
            assert!(rates.windows(2).all(|pair| pair[1] <= pair[0] && pair[1] >= 1.0), "{rates:?}");
            assert_eq!((rates[10], rates[40], rates[59]), (2.0, 1.0, 1.0), "{cooldown:?}");
            assert!(rates[11] < 2.0 && rates[39] > 1.0);
        }
    }

    #[test]
    fn half_way_down_by_hand() {
        let halves = [1.0 - 0.5f64.sqrt(), 0.5, 0.5, 0.75];
        for (cooldown, expected) in ALL.into_iter().zip(halves) {
            let schedule = ten().with_cooldown(cooldown).build().expect("valid");
            assert!((schedule.rate(8) - expected).abs() < 1e-15, "{cooldown:?}");
        }
        let config = ten().with_cooldown(Cooldown::Exponential).with_min_lr(0.01);
        assert!((config.build().expect("valid").rate(8) - 0.1).abs() < 1e-15);
    }

    #[test]
    fn phases_may_be_empty() {
        let all_warmup = WarmupStableDecayConfig::new(1.0, 4).with_warmup_steps(4).build();
        assert_table(&all_warmup.expect("valid"), &[(0, 0.25), (3, 1.0), (4, 1.0), (9, 1.0)]);
        let config = WarmupStableDecayConfig::new(1.0, 4).with_decay_steps(4);
        let all_decay = config.with_cooldown(Cooldown::Linear).build().expect("valid");
        assert_table(&all_decay, &[(0, 1.0), (1, 0.75), (4, 0.0)]);
    }

    #[test]
    fn refuses() {
        let long = ten().with_warmup_steps(7).build();
        assert_eq!(
            refused(long),
            "`decay_steps` must be at most `num_steps` - `warmup_steps`, 3, got 4"
        );
        assert!(
            refused(ten().with_warmup_steps(11).build()).contains("`warmup_steps` must be at most")
        );
        let zero = ten().with_cooldown(Cooldown::Exponential).build();
        assert!(refused(zero).contains("`min_lr` must be above 0 for the exponential"));
        assert!(refused(WarmupStableDecayConfig::new(1.0, 0).build()).contains("`num_steps`"));
        assert!(refused(ten().with_min_lr(1.5).build()).contains("`min_lr` must be in [0, 1]"));
    }
}
