//! Warm-up, then the inverse square root of the step: for runs whose length is not known.
//!
//! # Differences
//! The decay goes on from the peak without a jump. fairseq's is the same one update later, from an `init_lr`; Hugging
//! Face shifts the decay by a `timescale`; T5's is `timescale` 10000 without a warm-up, held until then.

use super::Schedule;
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of [`InverseSqrt`].
///
/// | field | symbol | default | range |
/// | --- | --- | --- | --- |
/// | `initial_lr` | L | required | `[0, inf)` |
/// | `warmup_steps` | W | required | any; 0 means none |
/// | `timescale` | T | W, at least 1 | at least 1 |
#[derive(Config, Debug)]
pub struct InverseSqrtConfig {
    /// The peak.
    pub initial_lr: f64,
    /// Updates of the linear warm-up.
    pub warmup_steps: usize,
    /// Updates after the peak in which the rate falls by the square root of 2.
    pub timescale: Option<usize>,
}

impl InverseSqrtConfig {
    /// Checks the configuration and makes the schedule.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn build(&self) -> Result<InverseSqrt, ConfigError> {
        let timescale = self.timescale.unwrap_or(self.warmup_steps.max(1));
        Ok(InverseSqrt {
            initial_lr: check::non_negative("initial_lr", self.initial_lr)?,
            warmup_steps: self.warmup_steps as u64,
            timescale: check::at_least("timescale", timescale, 1)? as f64,
        })
    }
}

init!(InverseSqrtConfig);

/// `rate(k) = L (k + 1) / W` for `k < W`, then `L sqrt(T / (T + k - p))` with the peak at `p = max(W, 1) - 1`.
///
/// | k | 0 | 1 | 3 | 15 | 63 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, L = 8, W = 4 | 2 | 4 | 8 | 4 | 2 |
///
/// ```
/// use firebrick_optim::schedule::{InverseSqrtConfig, Schedule};
/// assert_eq!(InverseSqrtConfig::new(8.0, 4).build()?.rate(15), 4.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct InverseSqrt {
    initial_lr: f64,
    warmup_steps: u64,
    timescale: f64,
}

impl Schedule for InverseSqrt {
    fn rate(&self, k: u64) -> f64 {
        if k < self.warmup_steps {
            return self.initial_lr * ((k as f64 + 1.0) / self.warmup_steps as f64);
        }
        let past = (k - (self.warmup_steps.max(1) - 1)) as f64;
        self.initial_lr * (self.timescale / (self.timescale + past)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};

    #[test]
    fn table() {
        let schedule = InverseSqrtConfig::new(8.0, 4).build().expect("valid");
        assert_table(&schedule, &[(0, 2.0), (1, 4.0), (3, 8.0), (15, 4.0), (63, 2.0)]);
    }

    #[test]
    fn no_warmup_and_another_timescale_are_defined() {
        let none = InverseSqrtConfig::new(8.0, 0).build().expect("valid");
        assert_table(&none, &[(0, 8.0), (3, 4.0), (15, 2.0)]);
        let config = InverseSqrtConfig::new(8.0, 4).with_timescale(Some(12));
        assert_table(&config.build().expect("valid"), &[(3, 8.0), (3 + 36, 4.0)]);
        assert!(none.rate(u64::MAX) > 0.0);
    }

    #[test]
    fn refuses() {
        let zero = InverseSqrtConfig::new(1.0, 4).with_timescale(Some(0)).build();
        assert_eq!(refused(zero), "`timescale` must be at least 1, got 0");
        assert!(refused(InverseSqrtConfig::new(f64::NAN, 4).build()).contains("`initial_lr`"));
    }
}
