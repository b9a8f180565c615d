//! Alpha dropout: keeps mean and variance of a self-normalizing network.
//!
//! # Formula
//! ```text
//! y = a * (x m + d (1 - m)) + b     d = -lambda alpha = -1.7580993408473766, the limit of SELU
//! a = 1 / sqrt(q (1 + p d^2))       b = -a d p       q = 1 - p
//! ```
//! An input of mean 0 and variance 1 keeps both; another does not.
//!
//! # Reference
//! G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, "Self-normalizing neural networks", NIPS 2017.

use super::{Noise, constant};
use crate::MaskSource;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use firebrick_core::ConfigError;

/// Where SELU saturates: minus its scale times its alpha.
const LIMIT: f64 = -1.758_099_340_847_376_6;

/// Configuration of [`AlphaDropout`].
#[derive(Config, Debug)]
pub struct AlphaDropoutConfig {
    /// Probability of sending a unit to the limit, in [0, 1); 0.05 to 0.1 are usual.
    pub prob: f64,
}

impl AlphaDropoutConfig {
    /// Checks the probability and builds the layer.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or NaN.
    pub fn init(&self, masks: &MaskSource) -> Result<AlphaDropout, ConfigError> {
        Ok(AlphaDropout { noise: Noise::new("prob", self.prob, masks)? })
    }
}

/// Sends units to the negative limit of SELU while training, and rescales all.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{AlphaDropoutConfig, MaskSource};
///
/// let layer = AlphaDropoutConfig::new(0.1).init(&MaskSource::new(Seed(7)))?;
/// let output = layer.forward(Tensor::<2>::zeros([4, 8], &Device::flex().autodiff()));
/// assert_eq!(output.dims(), [4, 8]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct AlphaDropout {
    noise: Noise,
}

impl AlphaDropout {
    /// Applies it to a tensor of any shape.
    #[must_use]
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let device = input.device();
        let Some(prob) = self.noise.active(&device) else { return input };
        let (shape, dtype) = (input.dims(), input.dtype());
        let keep = 1.0 - prob;
        let a = 1.0 / (keep * (1.0 + prob * LIMIT * LIMIT)).sqrt();
        let b = -a * LIMIT * prob;
        let kept = self.noise.masks.keep(shape.iter().product(), keep);
        let scale = kept.iter().map(|&k| if k { a as f32 } else { 0.0 }).collect();
        let dropped = (a * LIMIT + b) as f32;
        let shift = kept.iter().map(|&k| if k { b as f32 } else { dropped }).collect();
        input * constant(scale, shape, &device, dtype) + constant(shift, shape, &device, dtype)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn layer(prob: f64) -> AlphaDropout {
        AlphaDropoutConfig::new(prob).init(&MaskSource::new(Seed(7))).expect("valid")
    }

    #[test]
    fn mean_and_variance_of_a_unit_normal_stay() {
        for device in devices() {
            let n = 1_000_000usize;
            let draws = MaskSource::named(Seed(1), "input").normals(n);
            let input =
                Tensor::<1>::from_data(TensorData::new(draws, [n]), &device.clone().autodiff());
            for prob in [0.1, 0.2, 0.5] {
                let output: Vec<f64> =
                    layer(prob).forward(input.clone()).try_to_vec_as().expect("reads");
                let moment = |k: i32| output.iter().map(|y| y.powi(k)).sum::<f64>() / n as f64;
                // The standard error of the variance needs the fourth moment, taken from the sample.
                let (mean, square, fourth) = (moment(1), moment(2), moment(4));
                assert!(mean.abs() < 5.0 / (n as f64).sqrt(), "{prob}: {mean}");
                let bound = 5.0 * ((fourth - square * square) / n as f64).sqrt();
                assert!((square - 1.0).abs() < bound, "{prob}: {square}");
            }
        }
    }

    #[test]
    fn dropped_units_have_the_value_and_the_gradient_of_the_formula() {
        let device = Device::flex().autodiff();
        let input = Tensor::<1>::ones([1000], &device).require_grad();
        let output = layer(0.5).forward(input.clone());
        let gradients = output.clone().sum().backward();
        let gradient: Vec<f64> =
            input.grad(&gradients).expect("has one").try_to_vec_as().expect("reads");
        let output: Vec<f64> = output.try_to_vec_as().expect("reads");
        // a and b by hand for p = 0.5: d^2 = 3.0909132, a = 1 / sqrt(0.5 * 2.5454566) = 0.8864050.
        let (a, b) = (0.886_405_0, 0.779_194_0);
        let mut dropped = 0;
        for (y, slope) in output.into_iter().zip(gradient) {
            if slope == 0.0 {
                dropped += 1;
                assert!((y - (a * LIMIT + b)).abs() < 1e-5, "{y}");
            } else {
                assert!((slope - a).abs() < 1e-5 && (y - (a + b)).abs() < 1e-5, "{y} {slope}");
            }
        }
        // Half of a thousand, by more than five standard errors of 16.
        assert!((400..600).contains(&dropped), "{dropped}");
    }

    #[test]
    fn evaluation_is_the_identity_and_training_comes_back() {
        let device = Device::flex().autodiff();
        let ones = || Tensor::<1>::ones([64], &device);
        let read = |tensor: Tensor<1>| tensor.try_to_vec_as::<f32>().expect("reads");
        assert_eq!(read(layer(0.5).valid().forward(ones())), [1.0; 64]);
        assert_ne!(read(layer(0.5).valid().train().forward(ones())), [1.0; 64]);
        assert!(AlphaDropoutConfig::new(f64::NAN).init(&MaskSource::new(Seed(0))).is_err());
    }
}
