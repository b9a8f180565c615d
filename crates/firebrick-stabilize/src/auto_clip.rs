//! Global-norm clipping whose bound is learned from the norms seen so far.
//!
//! # Rules
//! ```text
//! AutoClip   c = p-th percentile of the norms seen, this one included
//! ZClip      z = (n - mu) / (sigma + 1e-6);  if z > z0:  c = mu + z0 sigma / (z / z0)
//!            mu <- a mu + (1 - a) n',  sigma^2 <- a sigma^2 + (1 - a) (n' - mu)^2,  n' = min(n, c)
//! ```
//! # References
//! P. Seetharaman et al., "AutoClip: adaptive gradient clipping for source separation networks", MLSP 2020
//! (arXiv 2007.14469); A. Kumar et al., "ZClip: adaptive spike mitigation for LLM pre-training", 2025
//! (arXiv 2504.02507).
//!
//! # Differences
//! The reference code of AutoClip keeps every norm for ever; here a window of fixed length is kept. In both
//! reference codes one NaN norm breaks the statistics for good; here a norm that is not finite is never
//! counted, and its step is skipped.

use crate::clip::limit;
use crate::guard::{alone, remembers};
use crate::{Guard, Measured, NormType, Verdict};
use burn::config::Config;
use burn::module::Module;
use burn::optim::GradientsParams;
use firebrick_core::{ConfigError, Record, check, names};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What a guard that learns its bound saw last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    /// The norm before clipping.
    norm: Option<f64>,
    bound: Option<f64>,
}

impl Seen {
    /// Skips a norm that is not finite, and clips any other to the bound that `observe` makes of it.
    fn clip<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        measured: &mut Measured,
        observe: impl FnOnce(f64) -> f64,
    ) -> Verdict {
        let norm = measured.global(model, gradients, NormType::Two);
        self.norm = Some(norm);
        if !norm.is_finite() {
            return Verdict::Skip;
        }
        let bound = observe(norm);
        self.bound = Some(bound);
        measured.scale(model, gradients, limit(norm, bound));
        Verdict::Proceed
    }

    fn record(&self, record: &mut Record) {
        let values = [(names::GRADIENT_NORM, self.norm), ("clip_bound", self.bound)];
        let known = values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        record.values.extend(known);
    }
}

/// A guard with `observe(norm) -> bound` and what it has `seen`.
macro_rules! learned {
    () => {
        alone!();

        fn before_step_sharing<M: Module>(
            &mut self,
            model: &M,
            gradients: &mut GradientsParams,
            _: f64,
            measured: &mut Measured,
        ) -> Verdict {
            let mut seen = std::mem::take(&mut self.seen);
            let verdict = seen.clip(model, gradients, measured, |norm| self.observe(norm));
            self.seen = seen;
            verdict
        }

        fn record(&self, record: &mut Record) {
            self.seen.record(record);
        }
    };
}

/// Configuration of [`AutoClip`].
#[derive(Config, Debug)]
pub struct AutoClipConfig {
    /// Which percentile of the past norms is the bound; in (0, 100].
    #[config(default = 10.0)]
    pub percentile: f64,
    /// How many norms are remembered, 16 bytes each; at least 1.
    #[config(default = 10_000)]
    pub window: usize,
}

impl AutoClipConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When `percentile` is outside (0, 100] or `window` is 0.
    pub fn init(&self) -> Result<AutoClip, ConfigError> {
        check::positive("percentile", self.percentile)?;
        check::range("percentile", self.percentile, ..=100.0)?;
        check::at_least("window", self.window, 1)?;
        Ok(AutoClip {
            config: self.clone(),
            order: VecDeque::new(),
            sorted: vec![],
            seen: Seen::default(),
        })
    }
}

/// Clips to a percentile of the norms of the last steps.
///
/// ```
/// use firebrick_stabilize::AutoClipConfig;
///
/// let mut clip = AutoClipConfig::new().with_percentile(50.0).init()?;
/// assert_eq!([1.0, 9.0, 5.0].map(|norm| clip.observe(norm)), [1.0, 5.0, 5.0]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AutoClip {
    config: AutoClipConfig,
    order: VecDeque<f64>,
    sorted: Vec<f64>,
    seen: Seen,
}

impl AutoClip {
    /// Takes a norm into the window and returns the bound, numpy's linear percentile; infinite while no finite
    /// norm was seen.
    pub fn observe(&mut self, norm: f64) -> f64 {
        if norm.is_finite() {
            if self.order.len() == self.config.window
                && let Some(oldest) = self.order.pop_front()
            {
                let place = self.sorted.partition_point(|&value| value < oldest);
                self.sorted.remove(place);
            }
            self.order.push_back(norm);
            let place = self.sorted.partition_point(|&value| value < norm);
            self.sorted.insert(place, norm);
        }
        let Some(last) = self.sorted.len().checked_sub(1) else { return f64::INFINITY };
        let position = self.config.percentile / 100.0 * last as f64;
        let (low, high) = (self.sorted[position as usize], self.sorted[position.ceil() as usize]);
        low + (high - low) * position.fract()
    }

    /// The norm before clipping of the last step that was looked at.
    #[must_use]
    pub fn last_norm(&self) -> Option<f64> {
        self.seen.norm
    }
}

impl Guard for AutoClip {
    learned!();
    remembers!(AutoClip);
}

/// Configuration of [`ZClip`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `alpha` | 0.97 | [0, 1) |
/// | `threshold` | 2.5 | above 0 |
/// | `warm_up` | 25 steps | at least 2 |
/// | `max_norm` | 1, `None` for no such cap | above 0 |
#[derive(Config, Debug)]
pub struct ZClipConfig {
    /// The share of the old mean and variance that stays at each step.
    #[config(default = 0.97)]
    pub alpha: f64,
    /// How many deviations above the mean a norm may lie.
    #[config(default = 2.5)]
    pub threshold: f64,
    /// How many norms make the first mean and variance; meanwhile only `max_norm` clips.
    #[config(default = 25)]
    pub warm_up: usize,
    /// A fixed bound besides.
    #[config(default = "Some(1.0)")]
    pub max_norm: Option<f64>,
}

impl ZClipConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn init(&self) -> Result<ZClip, ConfigError> {
        check::range("alpha", self.alpha, 0.0..1.0)?;
        check::positive("threshold", self.threshold)?;
        check::at_least("warm_up", self.warm_up, 2)?;
        if let Some(max_norm) = self.max_norm {
            check::positive("max_norm", max_norm)?;
        }
        Ok(ZClip {
            config: self.clone(),
            first: Vec::new(),
            mean: 0.0,
            variance: 0.0,
            seen: Seen::default(),
        })
    }
}

/// Clips norms that lie far above their running mean.
///
/// ```
/// use firebrick_stabilize::ZClipConfig;
///
/// let mut clip = ZClipConfig::new().with_warm_up(2).with_max_norm(None).init()?;
/// assert_eq!(clip.observe(1.0), f64::INFINITY);
/// assert_eq!(clip.observe(3.0), f64::INFINITY); // from here on mean 2, deviation 1
/// let bound = clip.observe(12.0); // z = 10: 2 + 2.5 * 1 / (10 / 2.5)
/// assert!((bound - 2.625).abs() < 1e-5);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZClip {
    config: ZClipConfig,
    first: Vec<f64>,
    mean: f64,
    variance: f64,
    seen: Seen,
}

impl ZClip {
    /// Takes a norm into the statistics and returns its bound; infinite where it may pass.
    ///
    /// A norm that is not finite is not counted.
    pub fn observe(&mut self, norm: f64) -> f64 {
        let cap = self.config.max_norm.unwrap_or(f64::INFINITY);
        if !norm.is_finite() {
            return cap;
        }
        if self.first.len() < self.config.warm_up {
            self.first.push(norm);
            if self.first.len() == self.config.warm_up {
                let n = self.first.len() as f64;
                self.mean = self.first.iter().sum::<f64>() / n;
                let square = |norm: &f64| (norm - self.mean).powi(2);
                self.variance = self.first.iter().map(square).sum::<f64>() / n;
            }
            return cap;
        }
        let Self { mean, variance, config, .. } = self;
        let deviation = variance.sqrt();
        let z = (norm - *mean) / (deviation + 1e-6);
        let bound = if z > config.threshold {
            *mean + config.threshold * deviation / (z / config.threshold)
        } else {
            f64::INFINITY
        };
        let counted = norm.min(bound);
        *mean = config.alpha * *mean + (1.0 - config.alpha) * counted;
        *variance = config.alpha * *variance + (1.0 - config.alpha) * (counted - *mean).powi(2);
        bound.min(cap)
    }

    /// The norm before clipping of the last step that was looked at.
    #[must_use]
    pub fn last_norm(&self) -> Option<f64> {
        self.seen.norm
    }
}

impl Guard for ZClip {
    learned!();
    remembers!(ZClip);
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::tests::{gradients, model, values};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    #[test]
    fn the_percentile_is_that_of_the_window() {
        let mut clip = AutoClipConfig::new().with_window(50).init().expect("valid");
        let mut stream = Seed(1).stream("norms");
        let mut all: Vec<f64> = Vec::new();
        for _ in 0..300 {
            // Few distinct values, so that equal norms leave the window one at a time.
            let norm = (stream.uniform() * 20.0).floor();
            all.push(norm);
            let bound = clip.observe(norm);
            let mut window = all[all.len().saturating_sub(50)..].to_vec();
            window.sort_by(f64::total_cmp);
            let position = 0.1 * (window.len() - 1) as f64;
            let (low, high) = (window[position as usize], window[position.ceil() as usize]);
            assert!((bound - (low + (high - low) * position.fract())).abs() < 1e-12);
        }
        assert_eq!(clip.sorted.len(), 50);
    }

    #[test]
    fn nothing_broken_enters_the_statistics() {
        let mut auto = AutoClipConfig::new().init().expect("valid");
        assert_eq!(auto.observe(f64::NAN), f64::INFINITY);
        auto.observe(2.0);
        assert_eq!(auto.observe(f64::INFINITY), 2.0);
        let mut z = ZClipConfig::new().with_warm_up(2).init().expect("valid");
        for norm in [f64::NAN, 1.0, f64::INFINITY, 3.0, f64::NAN] {
            z.observe(norm);
        }
        assert_eq!((z.mean, z.variance), (2.0, 1.0));
    }

    #[test]
    fn a_spike_moves_the_mean_by_its_clipped_value_only() {
        let mut z = ZClipConfig::new().with_warm_up(2).with_max_norm(None).init().expect("valid");
        z.observe(1.0);
        z.observe(3.0);
        let bound = z.observe(1e9);
        assert!(bound > 2.0 && bound < 2.0 + 1e-6);
        assert!((z.mean - 2.0).abs() < 1e-6);
        assert_eq!(z.observe(2.0), f64::INFINITY);
        let mut capped = ZClipConfig::new().init().expect("valid");
        assert_eq!(capped.observe(0.5), 1.0);
    }

    #[test]
    fn gradients_are_clipped_to_the_learned_bound() {
        for device in devices() {
            let model = model(&device);
            let mut clip = AutoClipConfig::new().with_percentile(50.0).init().expect("valid");
            clip.observe(1.0);
            let mut grads = gradients(&model, &device, &[3.0, -4.0], &[12.0]);
            assert_eq!(clip.before_step(&model, &mut grads, 0.0), Verdict::Proceed);
            // Median of 1 and 13.
            assert!((values(&model, &grads)[2] - 12.0 * 7.0 / 13.0).abs() < 1e-5);
            let mut record = Record::new(1, 1);
            clip.record(&mut record);
            assert_eq!(record.get("clip_bound"), Some(7.0));
            let mut broken = gradients(&model, &device, &[f32::NAN, 0.0], &[0.0]);
            assert_eq!(clip.before_step(&model, &mut broken, 0.0), Verdict::Skip);
            let mut z = ZClipConfig::new().init().expect("valid");
            assert_eq!(z.before_step(&model, &mut broken, 0.0), Verdict::Skip);
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        assert!(AutoClipConfig::new().with_percentile(0.0).init().is_err());
        assert!(AutoClipConfig::new().with_percentile(100.5).init().is_err());
        assert!(AutoClipConfig::new().with_window(0).init().is_err());
        assert!(ZClipConfig::new().with_alpha(1.0).init().is_err());
        assert!(ZClipConfig::new().with_threshold(f64::NAN).init().is_err());
        assert!(ZClipConfig::new().with_warm_up(1).init().is_err());
        assert!(ZClipConfig::new().with_max_norm(Some(0.0)).init().is_err());
    }
}
