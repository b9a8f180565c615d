//! The gradient noise scale: how large a batch still pays.
//!
//! # Rule
//! With the squared norm `s` of the gradient of a batch of `B_s` samples and `b` of one of `B_b > B_s`:
//! ```text
//! G^2 = (B_b b - B_s s) / (B_b - B_s)        |true gradient|^2
//! S   = (s - b) / (1 / B_s - 1 / B_b)        trace of the covariance of one sample's gradient
//! B_simple = S / G^2
//! ```
//! Both are averaged over steps, and divided last: the mean of the ratios is biased.
//!
//! How far the gradient of one step can be trusted says the norm test, the relative standard error of the mean of its
//! `k` micro-batches: `theta = sqrt((s - b) / ((k - 1) b))`; above 1 the noise is larger than what is measured.
//!
//! # Reference
//! S. McCandlish et al., "An empirical model of large-batch training", 2018 (arXiv 1812.06162); R. Byrd, G. Chin,
//! J. Nocedal, Y. Wu, "Sample size selection in optimization methods for machine learning", 2012 (the norm test).

use burn::config::Config;
use firebrick_core::{ConfigError, Record, check};
use serde::{Deserialize, Serialize};

/// Configuration of [`NoiseScale`].
#[derive(Config, Debug)]
pub struct NoiseScaleConfig {
    /// The share of the old averages that stays at each step; in [0, 1).
    #[config(default = 0.99)]
    pub decay: f64,
}

impl NoiseScaleConfig {
    /// Checks the values and builds the estimator.
    ///
    /// # Errors
    /// When `decay` is outside [0, 1).
    pub fn init(&self) -> Result<NoiseScale, ConfigError> {
        check::range("decay", self.decay, 0.0..1.0)?;
        Ok(NoiseScale { config: self.clone(), weight: 0.0, noise: 0.0, signal: 0.0, test: None })
    }
}

/// Estimates the gradient noise scale from the micro-batches that accumulation has anyway.
///
/// ```
/// use firebrick_stabilize::NoiseScaleConfig;
///
/// let mut scale = NoiseScaleConfig::new().init()?;
/// // True gradient (2, 0), two micro-batches of 8 samples: (3, 1) and (1, -1), their mean (2, 0).
/// scale.observe(&[10f64.sqrt(), 2f64.sqrt()], 8, 2.0)?;
/// let estimate = scale.estimate().expect("a signal");
/// assert!((estimate - (6.0 - 4.0) * 16.0 / 2.0).abs() < 1e-9);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NoiseScale {
    config: NoiseScaleConfig,
    weight: f64,
    noise: f64,
    signal: f64,
    test: Option<f64>,
}

impl NoiseScale {
    /// Takes in a step: the norms of the gradients of its micro-batches of `samples` each, and that of their mean.
    ///
    /// A step with a norm that is not finite is not counted.
    ///
    /// # Errors
    /// With fewer than two micro-batches or empty ones.
    pub fn observe(
        &mut self,
        micro_norms: &[f64],
        samples: usize,
        mean_norm: f64,
    ) -> Result<(), ConfigError> {
        let count = check::at_least("number of micro-batches", micro_norms.len(), 2)? as f64;
        let small = check::at_least("samples", samples, 1)? as f64;
        let large = small * count;
        let s = micro_norms.iter().map(|norm| norm * norm).sum::<f64>() / count;
        let b = mean_norm * mean_norm;
        if !s.is_finite() || !b.is_finite() {
            return Ok(());
        }
        // Rounding may leave a little below 0 where all micro-batches agree.
        self.test = (b > 0.0).then(|| ((s - b).max(0.0) / ((count - 1.0) * b)).sqrt());
        let signal = (large * b - small * s) / (large - small);
        let noise = (s - b) / (1.0 / small - 1.0 / large);
        let decay = self.config.decay;
        self.weight = decay * self.weight + (1.0 - decay);
        self.signal = decay * self.signal + (1.0 - decay) * signal;
        self.noise = decay * self.noise + (1.0 - decay) * noise;
        Ok(())
    }

    /// The noise scale in samples; `None` before the first step and while the averaged signal is not above 0.
    #[must_use]
    pub fn estimate(&self) -> Option<f64> {
        (self.weight > 0.0 && self.signal > 0.0).then(|| self.noise / self.signal)
    }

    /// The averages of S and of G^2, free of the bias of the start.
    #[must_use]
    pub fn parts(&self) -> Option<(f64, f64)> {
        (self.weight > 0.0).then(|| (self.noise / self.weight, self.signal / self.weight))
    }

    /// The norm test of the last step: the relative standard error of its gradient. `None` before the first step, and
    /// of a gradient that is 0.
    #[must_use]
    pub fn norm_test(&self) -> Option<f64> {
        self.test
    }

    /// Writes `noise_scale` where there is an estimate, and `norm_test`.
    pub fn record(&self, record: &mut Record) {
        if let Some(estimate) = self.estimate() {
            record.values.insert("noise_scale".into(), estimate);
        }
        if let Some(test) = self.norm_test() {
            record.values.insert("norm_test".into(), test);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebrick_core::Seed;

    #[test]
    fn the_estimate_approaches_the_truth() {
        // True gradient of norm 1 in 50 dimensions, each sample's noise of variance 2: S = 100, G^2 = 1.
        let mut stream = Seed(3).stream("gradients");
        let mut scale = NoiseScaleConfig::new().with_decay(0.999).init().expect("valid");
        for _ in 0..20_000 {
            let mut micro = [[0.0; 50]; 4];
            for gradient in &mut micro {
                for (i, value) in gradient.iter_mut().enumerate() {
                    // The mean of 16 samples.
                    *value = f64::from(u8::from(i == 0)) + (2.0f64 / 16.0).sqrt() * stream.normal();
                }
            }
            let norm = |gradient: &[f64]| gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
            let norms: Vec<f64> = micro.iter().map(|gradient| norm(gradient)).collect();
            let mean: Vec<f64> = (0..50)
                .map(|i| micro.iter().map(|gradient| gradient[i]).sum::<f64>() / 4.0)
                .collect();
            scale.observe(&norms, 16, norm(&mean)).expect("valid");
        }
        // About 2000 independent steps count; one step's G^2 deviates by about 0.7: 5 errors are 0.08.
        let estimate = scale.estimate().expect("a signal");
        assert!((estimate / 100.0 - 1.0).abs() < 0.09, "{estimate}");
    }

    #[test]
    fn the_norm_test_is_the_relative_standard_error() {
        // Gradients (3, 1) and (1, -1): mean (2, 0), each sqrt(2) from it; error sqrt((2 + 2) / (1 * 2)) of 2.
        let mut scale = NoiseScaleConfig::new().init().expect("valid");
        assert_eq!(scale.norm_test(), None);
        scale.observe(&[10f64.sqrt(), 2f64.sqrt()], 8, 2.0).expect("valid");
        let test = scale.norm_test().expect("a gradient");
        assert!((test - 2f64.sqrt() / 2.0).abs() < 1e-12, "{test}");
        scale.observe(&[1.0, 1.0], 8, 1.0 + 1e-9).expect("valid");
        assert_eq!(scale.norm_test(), Some(0.0));
        scale.observe(&[1.0, 1.0], 8, 0.0).expect("valid");
        assert_eq!(scale.norm_test(), None);
    }

    #[test]
    fn no_signal_is_no_estimate() {
        let mut scale = NoiseScaleConfig::new().init().expect("valid");
        assert_eq!(scale.estimate(), None);
        scale.observe(&[1.0, 1.0], 4, 0.0).expect("valid");
        assert_eq!(scale.estimate(), None);
        scale.observe(&[f64::NAN, 1.0], 4, 1.0).expect("valid");
        assert!(scale.parts().is_some_and(|(noise, _)| noise.is_finite()));
        assert!(
            scale.observe(&[1.0], 4, 1.0).is_err() && scale.observe(&[1.0, 1.0], 0, 1.0).is_err()
        );
        assert!(NoiseScaleConfig::new().with_decay(1.0).init().is_err());
    }
}
