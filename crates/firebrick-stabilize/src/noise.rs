//! Annealed gradient noise, the same for the same seed on every platform.
//!
//! # Rule
//! ```text
//! g_t <- g_t + N(0, sigma_t^2),   sigma_t^2 = eta / (1 + t)^gamma,   t = 0, 1, ...
//! ```
//! # Reference
//! A. Neelakantan et al., "Adding gradient noise improves learning for very deep networks", 2015
//! (arXiv 1511.06807).

use crate::guard::remembers;
use crate::transform::{Transform, transform};
use crate::{Guard, Verdict};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use firebrick_backend::PathStack;
use firebrick_core::{ConfigError, Record, Seed, check};
use serde::{Deserialize, Serialize};

/// Configuration of [`GradientNoise`].
#[derive(Config, Debug)]
pub struct GradientNoiseConfig {
    /// The variance at the first step; the paper takes 0.01, 0.3 or 1. Not negative.
    pub eta: f64,
    /// How fast the variance falls; not negative.
    #[config(default = 0.55)]
    pub gamma: f64,
    /// The seed of the noise.
    #[config(default = 0)]
    pub seed: u64,
}

impl GradientNoiseConfig {
    /// Checks the values and builds the guard.
    ///
    /// # Errors
    /// When `eta` or `gamma` is negative or not finite.
    pub fn init(&self) -> Result<GradientNoise, ConfigError> {
        check::non_negative("eta", self.eta)?;
        check::non_negative("gamma", self.gamma)?;
        Ok(GradientNoise { config: self.clone(), step: 0 })
    }
}

/// Adds normal noise of falling variance to every gradient.
///
/// The noise of a parameter at a step is fixed by the seed, the step and the parameter's path. It is drawn on
/// the host and copied to the device, about 30 ns an element. Put it after clipping and unscaling.
///
/// ```
/// let noise = firebrick_stabilize::GradientNoiseConfig::new(0.01).init()?;
/// assert_eq!(noise.deviation(), 0.1);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GradientNoise {
    config: GradientNoiseConfig,
    step: u64,
}

impl GradientNoise {
    /// The standard deviation of the next step's noise.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        self.deviation_at(self.step)
    }

    fn deviation_at(&self, step: u64) -> f64 {
        (self.config.eta / (1.0 + step as f64).powf(self.config.gamma)).sqrt()
    }

    /// How many steps have had noise.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Goes on from step `step`, for a run that is resumed.
    pub fn seek(&mut self, step: u64) {
        self.step = step;
    }
}

impl Transform for GradientNoise {
    fn apply<const D: usize>(
        &mut self,
        path: &PathStack,
        _: &Param<Tensor<D>>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        let deviation = self.deviation();
        let seed = Seed(self.config.seed).child(self.step);
        let mut stream = seed.stream(&format!("gradient noise/{}", path.path()));
        let shape = gradient.shape();
        let draws: Vec<f64> =
            (0..shape.num_elements()).map(|_| deviation * stream.normal()).collect();
        let place = (&gradient.device(), gradient.dtype());
        // Flat at first: burn takes no data without an axis.
        let flat = TensorData::new(draws, [shape.num_elements()]);
        gradient + Tensor::<1>::from_data(flat, place).reshape(shape)
    }
}

impl Guard for GradientNoise {
    remembers!(GradientNoise);

    fn before_step<M: Module>(
        &mut self,
        model: &M,
        gradients: &mut GradientsParams,
        _: f64,
    ) -> Verdict {
        if self.config.eta > 0.0 {
            transform(model, gradients, self);
        }
        self.step += 1;
        Verdict::Proceed
    }

    fn record(&self, record: &mut Record) {
        if let Some(last) = self.step.checked_sub(1) {
            record.values.insert("gradient_noise".into(), self.deviation_at(last));
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::units::values;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;

    fn noise(device: &Device, seed: u64, from: u64, steps: usize) -> Vec<Vec<f64>> {
        let model: Linear =
            LinearConfig::new(250, 400).with_bias(false).init(&device.clone().autodiff());
        let config = GradientNoiseConfig::new(4.0).with_gamma(1.0).with_seed(seed);
        let mut guard = config.init().expect("valid");
        guard.seek(from);
        let mut drawn = Vec::new();
        for _ in 0..steps {
            let mut grads = GradientsParams::new();
            grads.register::<2>(model.weight.id, Tensor::zeros([250, 400], device));
            guard.before_step(&model, &mut grads, 0.0);
            drawn.push(values(grads.get::<2>(model.weight.id).expect("present")));
        }
        drawn
    }

    #[test]
    fn the_variance_falls_as_the_rule_says_and_steps_are_independent() {
        for device in devices() {
            let drawn = noise(&device, 3, 0, 2);
            let n = 100_000.0;
            for (step, values) in drawn.iter().enumerate() {
                let variance = 4.0 / (1.0 + step as f64);
                let mean = values.iter().sum::<f64>() / n;
                let second = values.iter().map(|v| v * v).sum::<f64>() / n;
                // Five standard errors of the mean and of the second moment of a normal.
                assert!(mean.abs() < 5.0 * (variance / n).sqrt());
                assert!((second - variance).abs() < 5.0 * variance * (2.0 / n).sqrt());
            }
            let product: f64 = drawn[0].iter().zip(&drawn[1]).map(|(a, b)| a * b).sum::<f64>() / n;
            assert!(product.abs() < 5.0 * (4.0 * 2.0 / n).sqrt());
        }
    }

    #[test]
    fn a_resumed_run_draws_the_same() {
        for device in devices() {
            let whole = noise(&device, 3, 0, 3);
            assert_eq!(noise(&device, 3, 2, 1)[0], whole[2]);
            assert_ne!(noise(&device, 4, 2, 1)[0], whole[2]);
        }
    }

    #[test]
    fn the_record_is_of_the_noise_that_was_added() {
        let device = Device::flex();
        let model: Linear = LinearConfig::new(2, 1).init(&device.clone().autodiff());
        let mut guard = GradientNoiseConfig::new(4.0).with_gamma(1.0).init().expect("valid");
        let recorded = |guard: &GradientNoise| {
            let mut record = Record::default();
            guard.record(&mut record);
            record.get("gradient_noise")
        };
        assert_eq!(recorded(&guard), None);
        for step in 1..4 {
            let added = guard.deviation();
            guard.before_step(&model, &mut GradientsParams::new(), 0.0);
            assert_eq!(recorded(&guard), Some(added));
            assert!((added - (4.0 / f64::from(step)).sqrt()).abs() < 1e-12);
        }
    }

    #[test]
    fn negative_values_are_refused() {
        assert!(GradientNoiseConfig::new(-0.1).init().is_err());
        assert!(GradientNoiseConfig::new(0.1).with_gamma(f64::INFINITY).init().is_err());
    }
}
