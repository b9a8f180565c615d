//! Warm-up whose length follows from Adam's second beta, so that there is nothing to tune.
//!
//! # Reference
//! Ma, Yarats: On the Adequacy of Untuned Warmup for Adaptive Optimization, 2019, arXiv 1910.04209.
//!
//! Stands in for RAdam: an untuned exponential warm-up behaves alike.

use super::Schedule;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// The rise of an [`UntunedWarmup`].
#[derive(Config, Debug, PartialEq, Copy)]
pub enum UntunedShape {
    /// `1 - exp(-(1 - beta_2) (k + 1))`.
    Exponential,
    /// `min(1, (1 - beta_2) (k + 1) / 2)`: 2000 updates at 0.999.
    Linear,
}

/// Configuration of [`UntunedWarmup`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `initial_lr` | required | `[0, inf)` |
/// | `beta_2` | 0.999 | `[0, 1)` |
/// | `shape` | `Exponential` | |
#[derive(Config, Debug)]
pub struct UntunedWarmupConfig {
    /// The full rate.
    pub initial_lr: f64,
    /// The second beta of the optimizer.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// The rise.
    #[config(default = "UntunedShape::Exponential")]
    pub shape: UntunedShape,
}

impl UntunedWarmupConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<UntunedWarmup, ConfigError> {
        Ok(UntunedWarmup {
            initial_lr: check::non_negative("initial_lr", self.initial_lr)?,
            beta_2: check::range("beta_2", self.beta_2, 0.0..1.0)?,
            shape: self.shape,
        })
    }
}

init!(UntunedWarmupConfig);

/// `rate(k) = L w(k)` with the rise of [`UntunedShape`].
///
/// | k | 0 | 1 | 2 | 3 | 7 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 1, `beta_2` = 0.5, linear | 0.25 | 0.5 | 0.75 | 1 | 1 |
/// | the same, exponential | 0.393469 | 0.632121 | 0.776870 | 0.864665 | 0.981684 |
///
/// ```
/// use firebrick_optim::schedule::{Schedule, UntunedWarmupConfig};
/// let schedule = UntunedWarmupConfig::new(0.001).build()?;
/// assert!(schedule.rate(0) < 1e-6 * 1.001 && schedule.rate(10_000) > 0.99e-3);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct UntunedWarmup {
    initial_lr: f64,
    beta_2: f64,
    shape: UntunedShape,
}

impl Schedule for UntunedWarmup {
    fn rate(&self, k: u64) -> f64 {
        let time = (1.0 - self.beta_2) * (k as f64 + 1.0);
        self.initial_lr
            * match self.shape {
                // 1 - exp(-t), without the cancellation at small t.
                UntunedShape::Exponential => -(-time).exp_m1(),
                UntunedShape::Linear => (time / 2.0).min(1.0),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let config = UntunedWarmupConfig::new(1.0).with_beta_2(0.5);
        let linear = config.clone().with_shape(UntunedShape::Linear).build().expect("valid");
        assert_table(&linear, &[(0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0), (7, 1.0)]);
        let exponential = config.build().expect("valid");
        let rows = [(0, 0.393_469), (1, 0.632_121), (2, 0.776_870), (3, 0.864_665), (7, 0.981_684)];
        for (k, expected) in rows {
            assert!((exponential.rate(k) - expected).abs() < 5.1e-7, "update {k}");
        }
    }

    #[test]
    fn linear_takes_two_thousand_updates_at_the_usual_beta() {
        let config = UntunedWarmupConfig::new(1.0).with_shape(UntunedShape::Linear);
        let schedule = config.build().expect("valid");
        assert!(schedule.rate(1998) < 1.0 - 4e-4);
        assert!((schedule.rate(1999) - 1.0).abs() < 1e-12);
        assert_eq!(schedule.rate(u64::MAX), 1.0);
    }

    #[test]
    fn refuses() {
        let one = UntunedWarmupConfig::new(1.0).with_beta_2(1.0).build();
        assert_eq!(refused(one), "`beta_2` must be in [0, 1), got 1");
        assert!(refused(UntunedWarmupConfig::new(-1.0).build()).contains("`initial_lr`"));
    }
}
