//! Triangular cycles between two rates, the momentum mirrored.
//!
//! # Reference
//! Smith: Cyclical Learning Rates for Training Neural Networks, 2017, arXiv 1506.01186.
//!
//! # Differences
//! The place in the cycle is an integer, so the vertices are exact at any step; else PyTorch's `CyclicLR`.

use super::Schedule;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// How the height of a [`Cyclic`]'s triangles changes.
#[derive(Config, Debug, PartialEq, Copy)]
pub enum CyclicMode {
    /// All of the same height.
    Triangular,
    /// Each half as high as the one before.
    Triangular2,
    /// Scaled by `gamma^k`.
    ExpRange,
}

/// Configuration of [`Cyclic`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `base_lr` | required | `[0, max_lr]` |
/// | `max_lr` | required | `[0, inf)` |
/// | `step_size_up` | 2000 | at least 1 |
/// | `step_size_down` | as up | at least 1 |
/// | `mode` | `Triangular` | |
/// | `gamma` | 1 | `(0, 1]` |
/// | `base_momentum` | 0.8 | `[0, max_momentum]` |
/// | `max_momentum` | 0.9 | `[0, 1)` |
#[derive(Config, Debug)]
pub struct CyclicConfig {
    /// Rate at the feet of the triangles.
    pub base_lr: f64,
    /// Rate at the top of the first triangle.
    pub max_lr: f64,
    /// Updates from foot to top.
    #[config(default = 2000)]
    pub step_size_up: usize,
    /// Updates from top to foot.
    pub step_size_down: Option<usize>,
    /// Height of later triangles.
    #[config(default = "CyclicMode::Triangular")]
    pub mode: CyclicMode,
    /// Factor of each update in mode `ExpRange`.
    #[config(default = 1.0)]
    pub gamma: f64,
    /// Momentum at the top of the first triangle.
    #[config(default = 0.8)]
    pub base_momentum: f64,
    /// Momentum at the feet.
    #[config(default = 0.9)]
    pub max_momentum: f64,
}

impl CyclicConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<Cyclic, ConfigError> {
        check::non_negative("max_lr", self.max_lr)?;
        check::range("base_lr", self.base_lr, 0.0..=self.max_lr)?;
        let up = check::at_least("step_size_up", self.step_size_up, 1)?;
        let down = self.step_size_down.unwrap_or(up);
        check::at_least("step_size_down", down, 1)?;
        let above_zero = (std::ops::Bound::Excluded(0.0), std::ops::Bound::Included(1.0));
        check::range("gamma", self.gamma, above_zero)?;
        check::range("max_momentum", self.max_momentum, 0.0..1.0)?;
        check::range("base_momentum", self.base_momentum, 0.0..=self.max_momentum)?;
        Ok(self.unchecked())
    }

    pub(super) fn unchecked(&self) -> Cyclic {
        let up = self.step_size_up as u64;
        let down = self.step_size_down.unwrap_or(self.step_size_up) as u64;
        Cyclic {
            lr: (self.base_lr, self.max_lr),
            momentum: (self.base_momentum, self.max_momentum),
            up,
            down,
            mode: self.mode,
            gamma: self.gamma,
        }
    }
}

init!(CyclicConfig);

/// `rate(k) = base + (max - base) tri(k) h(k)`; momentum `max - (max - base) tri(k) h(k)`.
///
/// `tri` runs from 0 to 1 in `step_size_up` updates and back in `step_size_down`. `h` is 1, `1 / 2^c` in cycle `c` (from 0),
/// or `gamma^k`.
///
/// | k | 0 | 1 | 4 | 8 | 12 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, 0.1 to 1, up 4, `Triangular` | 0.1 | 0.325 | 1 | 0.1 | 1 |
/// | the same, `Triangular2` | 0.1 | 0.325 | 1 | 0.1 | 0.55 |
///
/// ```
/// use firebrick_optim::schedule::{CyclicConfig, CyclicMode, Schedule};
/// let config = CyclicConfig::new(0.1, 1.0).with_step_size_up(4).with_mode(CyclicMode::Triangular2);
/// assert_eq!(config.build()?.rate(12), 0.55);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Cyclic {
    lr: (f64, f64),
    momentum: (f64, f64),
    up: u64,
    down: u64,
    mode: CyclicMode,
    gamma: f64,
}

impl Cyclic {
    /// The height at update `k`, 1 being the first top.
    fn height(&self, k: u64) -> f64 {
        let total = self.up.saturating_add(self.down);
        let place = k % total;
        let triangle = if place <= self.up {
            place as f64 / self.up as f64
        } else {
            (total - place) as f64 / self.down as f64
        };
        triangle
            * match self.mode {
                CyclicMode::Triangular => 1.0,
                CyclicMode::Triangular2 => (-((k / total) as f64)).exp2(),
                CyclicMode::ExpRange => self.gamma.powf(k as f64),
            }
    }
}

impl Schedule for Cyclic {
    fn rate(&self, k: u64) -> f64 {
        self.lr.0 + (self.lr.1 - self.lr.0) * self.height(k)
    }

    fn momentum(&self, k: u64) -> Option<f64> {
        Some(self.momentum.1 - (self.momentum.1 - self.momentum.0) * self.height(k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    fn config() -> CyclicConfig {
        CyclicConfig::new(0.1, 1.0).with_step_size_up(4)
    }

    #[test]
    fn table() {
        let same = config().build().expect("valid");
        assert_table(&same, &[(0, 0.1), (1, 0.325), (4, 1.0), (8, 0.1), (12, 1.0)]);
        let halved = config().with_mode(CyclicMode::Triangular2).build().expect("valid");
        assert_table(&halved, &[(0, 0.1), (1, 0.325), (4, 1.0), (8, 0.1), (12, 0.55)]);
    }

    /// The values that the survey of PyTorch's schedules recorded, to its three decimals.
    #[test]
    fn agrees_with_recorded_values() {
        let schedule = config().with_mode(CyclicMode::Triangular2).build().expect("valid");
        let recorded =
            [0.1, 0.325, 0.55, 0.775, 1.0, 0.775, 0.55, 0.325, 0.1, 0.213, 0.325, 0.438, 0.55];
        for (k, expected) in recorded.into_iter().enumerate() {
            assert!((schedule.rate(k as u64) - expected).abs() <= 5.1e-4, "update {k}");
        }
    }

    #[test]
    fn slopes_may_differ_and_momentum_mirrors() {
        let config = config().with_step_size_up(2).with_step_size_down(Some(3));
        let schedule = config.build().expect("valid");
        assert_table(&schedule, &[(0, 0.1), (2, 1.0), (3, 0.7), (4, 0.4), (5, 0.1), (7, 1.0)]);
        let momenta: Vec<f64> =
            [0, 2, 5].into_iter().filter_map(|k| schedule.momentum(k)).collect();
        assert_eq!(momenta, [0.9, 0.8, 0.9]);
        let exp = config.with_mode(CyclicMode::ExpRange).with_gamma(0.5).build().expect("valid");
        assert_table(&exp, &[(0, 0.1), (2, 0.1 + 0.9 / 4.0), (7, 0.1 + 0.9 / 128.0)]);
    }

    #[test]
    fn vertices_are_exact_at_any_step() {
        let schedule = config().with_step_size_up(3).build().expect("valid");
        assert_eq!(schedule.rate(6 * 1_000_000_000_000 + 3), 1.0);
        assert!(schedule.rate(u64::MAX).is_finite());
    }

    #[test]
    fn refuses() {
        assert!(
            refused(CyclicConfig::new(2.0, 1.0).build()).contains("`base_lr` must be in [0, 1]")
        );
        assert!(refused(config().with_step_size_up(0).build()).contains("`step_size_up`"));
        assert!(
            refused(config().with_step_size_down(Some(0)).build()).contains("`step_size_down`")
        );
        assert!(refused(config().with_gamma(0.0).build()).contains("`gamma` must be in (0, 1]"));
        assert!(refused(config().with_max_momentum(1.0).build()).contains("`max_momentum`"));
        assert!(refused(config().with_base_momentum(0.95).build()).contains("`base_momentum`"));
    }
}
