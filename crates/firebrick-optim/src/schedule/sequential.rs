//! One schedule after another, each starting at its own update 0.
//!
//! # Differences
//! PyTorch's `SequentialLR` runs all children in its constructor and undoes them, which gave a wrong first rate
//! more than once (pytorch issues 67586, 72874, 185872); nothing is run here.

use super::Schedule;
use firebrick_core::ConfigError;

/// Configuration of [`Sequential`]: the schedules and the updates at which the next one takes over.
#[derive(Debug)]
pub struct SequentialConfig {
    parts: Vec<(u64, Box<dyn Schedule>)>,
}

impl SequentialConfig {
    /// Begins with `first`.
    pub fn new(first: impl Schedule + 'static) -> Self {
        Self { parts: vec![(0, Box::new(first))] }
    }

    /// Hands over to `next` at update `milestone`, which is the 0 of `next`.
    #[must_use]
    pub fn then(mut self, milestone: u64, next: impl Schedule + 'static) -> Self {
        self.parts.push((milestone, Box::new(next)));
        self
    }

    /// Checks the order and makes the schedule.
    ///
    /// # Errors
    /// When a milestone is 0 or not above the one before it.
    pub fn build(self) -> Result<Sequential, ConfigError> {
        for pair in self.parts.windows(2) {
            if pair[1].0 <= pair[0].0 {
                let expected = format!("above the one before it, {}", pair[0].0);
                return Err(ConfigError::new("milestone", pair[1].0, expected));
            }
        }
        Ok(Sequential { parts: self.parts })
    }
}

/// `rate(k) = S_i(k - M_i)` with the last milestone `M_i <= k`.
///
/// | k | 0 | 2 | 3 | 4 | 7 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, warm-up of 3 to 3, then linear 3 to 1 over 4 | 1 | 3 | 3 | 2.5 | 1 |
///
/// ```
/// use firebrick_optim::schedule::{ConstantConfig, LinearConfig, Schedule, SequentialConfig};
/// let schedule = SequentialConfig::new(ConstantConfig::new(1.0).build()?)
///     .then(100, LinearConfig::new(1.0, 0.0, 10).build()?)
///     .build()?;
/// assert_eq!(schedule.rate(105), 0.5);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Sequential {
    parts: Vec<(u64, Box<dyn Schedule>)>,
}

impl Sequential {
    fn at(&self, k: u64) -> (&dyn Schedule, u64) {
        let after = self.parts.partition_point(|part| part.0 <= k);
        // The first part starts at 0, so at least one has started.
        let (start, schedule) = &self.parts[after.max(1) - 1];
        (&**schedule, k - start)
    }
}

impl Schedule for Sequential {
    fn rate(&self, k: u64) -> f64 {
        let (schedule, k) = self.at(k);
        schedule.rate(k)
    }

    fn momentum(&self, k: u64) -> Option<f64> {
        let (schedule, k) = self.at(k);
        schedule.momentum(k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::{assert_table, refused};
    use crate::schedule::{ConstantConfig, CosineConfig, LinearConfig, LinearWarmupConfig};

    fn constant(lr: f64) -> impl Schedule + 'static {
        ConstantConfig::new(lr).build().expect("valid")
    }

    #[test]
    fn table() {
        let warmup = LinearWarmupConfig::new(3.0, 3).build().expect("valid");
        let linear = LinearConfig::new(3.0, 1.0, 4).build().expect("valid");
        let schedule = SequentialConfig::new(warmup).then(3, linear).build().expect("valid");
        assert_table(&schedule, &[(0, 1.0), (2, 3.0), (3, 3.0), (4, 2.5), (7, 1.0)]);
    }

    /// torch's first rate was that of a later child, several times.
    #[test]
    fn the_first_rate_is_the_first_childs() {
        let schedule = SequentialConfig::new(constant(1.0))
            .then(2, constant(20.0))
            .then(3, constant(300.0))
            .build()
            .expect("valid");
        let rates: Vec<f64> = (0..5).map(|k| schedule.rate(k)).collect();
        assert_eq!(rates, [1.0, 1.0, 20.0, 300.0, 300.0]);
        assert_eq!(schedule.rate(u64::MAX), 300.0);
    }

    /// timm's cosine goes on from the warm-up's last step by default and never has the full rate.
    #[test]
    fn warmup_and_cosine_reach_the_full_rate_and_meet_without_a_jump() {
        for (steps, base) in [(1, 0.3), (3, 0.3), (50, 7.0)] {
            let warmup = LinearWarmupConfig::new(base, steps).build().expect("valid");
            let cosine = CosineConfig::new(base, 100).build().expect("valid");
            let at = steps as u64;
            let schedule = SequentialConfig::new(warmup).then(at, cosine).build().expect("valid");
            let rates: Vec<f64> = (0..at + 100).map(|k| schedule.rate(k)).collect();
            assert_eq!((rates[steps - 1], rates[steps]), (base, base));
            assert!(rates[0] > 0.0 && rates.iter().all(|&rate| rate <= base));
            assert!(rates[steps + 99] > 0.0 && schedule.rate(at + 100) == 0.0);
        }
    }

    #[test]
    fn the_configuration_of_a_child_counts() {
        let make = |steps| {
            let cosine = CosineConfig::new(1.0, steps).build().expect("valid");
            SequentialConfig::new(constant(1.0)).then(5, cosine).build().expect("valid")
        };
        assert_eq!(make(10).fingerprint(), make(10).fingerprint());
        assert_ne!(make(10).fingerprint(), make(11).fingerprint());
    }

    #[test]
    fn refuses() {
        let zero = SequentialConfig::new(constant(1.0)).then(0, constant(2.0)).build();
        assert_eq!(refused(zero), "`milestone` must be above the one before it, 0, got 0");
        let back =
            SequentialConfig::new(constant(1.0)).then(5, constant(2.0)).then(4, constant(3.0));
        assert_eq!(refused(back.build()), "`milestone` must be above the one before it, 5, got 4");
    }
}
