//! The Transformer's schedule: linear warm-up, then the inverse square root of the step.
//!
//! # Reference
//! Vaswani et al.: Attention Is All You Need, 2017, arXiv 1706.03762, equation 3.
//!
//! # Differences
//! The paper counts steps from 1: `s = k + 1`, so nothing divides by zero. burn's is the same function.

use super::Schedule;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`Noam`].
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `factor` | c | required | `[0, inf)` |
/// | `model_size` | d | 512 | at least 1 |
/// | `warmup_steps` | w | 4000 | at least 1 |
#[derive(Config, Debug)]
pub struct NoamConfig {
    /// Factor on the whole; 1 in the paper.
    pub factor: f64,
    /// Width of the model.
    #[config(default = 512)]
    pub model_size: usize,
    /// Updates of the warm-up.
    #[config(default = 4000)]
    pub warmup_steps: usize,
}

impl NoamConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<Noam, ConfigError> {
        Ok(Noam {
            factor: check::non_negative("factor", self.factor)?,
            model_size: check::at_least("model_size", self.model_size, 1)? as f64,
            warmup_steps: check::at_least("warmup_steps", self.warmup_steps, 1)? as f64,
        })
    }
}

init!(NoamConfig);

/// `rate(k) = c d^-1/2 min(s^-1/2, s w^-3/2)` with `s = k + 1`; the peak `c (d w)^-1/2` is at `k = w - 1`.
///
/// | k | 0 | 1 | 3 | 15 | 63 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, c = 8, d = 16, w = 4 | 0.25 | 0.5 | 1 | 0.5 | 0.25 |
///
/// ```
/// use firebrick_optim::schedule::{NoamConfig, Schedule};
/// let schedule = NoamConfig::new(8.0).with_model_size(16).with_warmup_steps(4).build()?;
/// assert_eq!(schedule.rate(3), 1.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Noam {
    factor: f64,
    model_size: f64,
    warmup_steps: f64,
}

impl Schedule for Noam {
    fn rate(&self, k: u64) -> f64 {
        let step = k as f64 + 1.0;
        let (decay, warmup) =
            (1.0 / step.sqrt(), step / (self.warmup_steps * self.warmup_steps.sqrt()));
        self.factor / self.model_size.sqrt() * decay.min(warmup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let config = NoamConfig::new(8.0).with_model_size(16).with_warmup_steps(4);
        let schedule = config.build().expect("valid");
        assert_table(&schedule, &[(0, 0.25), (1, 0.5), (3, 1.0), (15, 0.5), (63, 0.25)]);
    }

    #[test]
    fn agrees_with_burn() {
        use burn::lr_scheduler::{LrScheduler, noam::NoamLrSchedulerConfig};
        let burn = NoamLrSchedulerConfig::new(2.0).with_model_size(64).with_warmup_steps(20);
        let mut burn = burn.init().expect("valid");
        let config = NoamConfig::new(2.0).with_model_size(64).with_warmup_steps(20);
        let mut ours = config.init().expect("valid");
        for k in 0..100 {
            assert!((ours.step() - burn.step().base()).abs() < 1e-15, "update {k}");
        }
    }

    #[test]
    fn refuses() {
        assert!(refused(NoamConfig::new(-1.0).build()).contains("`factor`"));
        assert!(refused(NoamConfig::new(1.0).with_model_size(0).build()).contains("`model_size`"));
        assert!(
            refused(NoamConfig::new(1.0).with_warmup_steps(0).build()).contains("`warmup_steps`")
        );
    }
}
