//! The product of schedules: one with the rate, the others with factors.
//!
//! A factor is a schedule with base 1, so `Cosine` of 1 times `LinearWarmup` of 0.3 is a cosine with warm-up to 0.3.

use super::Schedule;

/// `rate(k) = S_1(k) S_2(k) ...`, every schedule seeing the same update.
///
/// The momentum is that of the first schedule that moves one.
///
/// | k | 0 | 1 | 2 | 3 | 4 |
/// | --- | --- | --- | --- | --- | --- |
/// | rate, warm-up of 2 to 8, times 1 to 0 over 4 | 4 | 6 | 4 | 2 | 0 |
///
/// ```
/// use firebrick_optim::schedule::{LinearConfig, LinearWarmupConfig, Product, Schedule};
/// let schedule = Product::new(LinearWarmupConfig::new(8.0, 2).build()?)
///     .times(LinearConfig::new(1.0, 0.0, 4).build()?);
/// assert_eq!(schedule.rate(1), 6.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Product {
    parts: Vec<Box<dyn Schedule>>,
}

impl Product {
    /// Begins with `first`.
    pub fn new(first: impl Schedule + 'static) -> Self {
        Self { parts: vec![Box::new(first)] }
    }

    /// Multiplies by `factor`.
    #[must_use]
    pub fn times(mut self, factor: impl Schedule + 'static) -> Self {
        self.parts.push(Box::new(factor));
        self
    }
}

impl Schedule for Product {
    fn rate(&self, k: u64) -> f64 {
        self.parts.iter().map(|part| part.rate(k)).product()
    }

    fn momentum(&self, k: u64) -> Option<f64> {
        self.parts.iter().find_map(|part| part.momentum(k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::testing::assert_table;
    use crate::schedule::{ConstantConfig, LinearConfig, LinearWarmupConfig, OneCycleConfig};

    #[test]
    fn table() {
        let warmup = LinearWarmupConfig::new(8.0, 2).build().expect("valid");
        let schedule =
            Product::new(warmup).times(LinearConfig::new(1.0, 0.0, 4).build().expect("valid"));
        assert_table(&schedule, &[(0, 4.0), (1, 6.0), (2, 4.0), (3, 2.0), (4, 0.0)]);
    }

    #[test]
    fn one_alone_is_itself_and_momentum_passes_through() {
        let cycle = || OneCycleConfig::new(2.0, 10).build().expect("valid");
        let one = Product::new(cycle());
        let both = Product::new(ConstantConfig::new(0.5).build().expect("valid")).times(cycle());
        for k in 0..12 {
            assert_eq!(one.rate(k), cycle().rate(k));
            assert_eq!(both.rate(k), 0.5 * cycle().rate(k));
            assert_eq!(both.momentum(k), cycle().momentum(k));
        }
    }
}
