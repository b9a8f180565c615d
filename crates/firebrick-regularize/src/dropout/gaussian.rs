//! Gaussian dropout: multiplicative normal noise with the variance of dropout.
//!
//! # Formula
//! ```text
//! y = x * N(1, p / (1 - p))
//! ```
//! Mean and variance are those of inverted dropout; nothing is zeroed, every unit keeps a gradient.
//!
//! # Reference
//! N. Srivastava et al., JMLR 2014, section 10; D. P. Kingma, T. Salimans, M. Welling, "Variational dropout and
//! the local reparameterization trick", NIPS 2015.

use super::{Noise, constant};
use crate::MaskSource;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use firebrick_core::ConfigError;

/// Configuration of [`GaussianDropout`].
#[derive(Config, Debug)]
pub struct GaussianDropoutConfig {
    /// The drop probability whose variance the noise has, in [0, 1).
    pub prob: f64,
}

impl GaussianDropoutConfig {
    /// Checks the probability and builds the layer.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or NaN. Keras accepts 1, which divides by zero.
    pub fn init(&self, masks: &MaskSource) -> Result<GaussianDropout, ConfigError> {
        Ok(GaussianDropout { noise: Noise::new("prob", self.prob, masks)? })
    }
}

/// Multiplies units by normal noise around 1 while training.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{GaussianDropoutConfig, MaskSource};
///
/// let layer = GaussianDropoutConfig::new(0.2).init(&MaskSource::new(Seed(7)))?;
/// let output = layer.forward(Tensor::<2>::ones([4, 8], &Device::flex().autodiff()));
/// assert_eq!(output.dims(), [4, 8]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct GaussianDropout {
    noise: Noise,
}

impl GaussianDropout {
    /// Applies it to a tensor of any shape.
    #[must_use]
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let device = input.device();
        let Some(prob) = self.noise.active(&device) else { return input };
        let (shape, dtype) = (input.dims(), input.dtype());
        let deviation = (prob / (1.0 - prob)).sqrt() as f32;
        let mut factors = self.noise.masks.normals(shape.iter().product());
        factors.iter_mut().for_each(|factor| *factor = 1.0 + deviation * *factor);
        input * constant(factors, shape, &device, dtype)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn layer(prob: f64) -> GaussianDropout {
        GaussianDropoutConfig::new(prob).init(&MaskSource::new(Seed(7))).expect("valid")
    }

    #[test]
    fn mean_and_variance_are_those_of_dropout() {
        for device in devices() {
            let n = 1_000_000usize;
            for prob in [0.2f64, 0.5, 0.8] {
                let ones = Tensor::<1>::ones([n], &device.clone().autodiff());
                let output: Vec<f64> = layer(prob).forward(ones).try_to_vec_as().expect("reads");
                let mean = output.iter().sum::<f64>() / n as f64;
                let variance = output.iter().map(|y| (y - 1.0).powi(2)).sum::<f64>() / n as f64;
                let expected = prob / (1.0 - prob);
                // Five standard errors: of the mean sqrt(v / n), of a normal's variance v sqrt(2 / n).
                assert!((mean - 1.0).abs() < 5.0 * (expected / n as f64).sqrt(), "{prob}: {mean}");
                assert!((variance - expected).abs() < 5.0 * expected * (2.0 / n as f64).sqrt());
            }
        }
    }

    #[test]
    fn the_gradient_is_the_noise_itself() {
        let device = Device::flex().autodiff();
        let input = Tensor::<1>::ones([64], &device).require_grad();
        let output = layer(0.5).forward(input.clone());
        let gradients = output.clone().sum().backward();
        let gradient: Vec<f32> =
            input.grad(&gradients).expect("has one").try_to_vec_as().expect("reads");
        assert_eq!(gradient, output.try_to_vec_as::<f32>().expect("reads"));
    }

    #[test]
    fn evaluation_is_the_identity_and_training_comes_back() {
        let device = Device::flex().autodiff();
        let ones = || Tensor::<1>::ones([64], &device);
        let read = |tensor: Tensor<1>| tensor.try_to_vec_as::<f32>().expect("reads");
        assert_eq!(read(layer(0.5).valid().forward(ones())), [1.0; 64]);
        assert_ne!(read(layer(0.5).valid().train().forward(ones())), [1.0; 64]);
        assert!(GaussianDropoutConfig::new(1.0).init(&MaskSource::new(Seed(0))).is_err());
    }
}
