//! Inverted dropout with masks from a seed.
//!
//! # Formula
//! ```text
//! h'_i = xi_i / (1 - p) * h_i      P(xi_i = 0) = p, P(xi_i = 1) = 1 - p
//! ```
//! The expectation of `h'` is `h`, so evaluation uses `h` as it is. The gradient of a dropped unit is 0. The
//! higher `p`, the stronger the regularization.
//!
//! # Reference
//! N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: a simple way to prevent
//! neural networks from overfitting", JMLR 2014.
//!
//! # Differences
//! burn's `Dropout` is the same function with masks from a generator that all threads of the process share.

use super::{Noise, masked};
use crate::MaskSource;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use firebrick_core::ConfigError;

/// Configuration of [`InvertedDropout`].
#[derive(Config, Debug)]
pub struct InvertedDropoutConfig {
    /// Probability of zeroing a unit, in [0, 1).
    pub prob: f64,
}

impl InvertedDropoutConfig {
    /// Checks the probability and builds the layer, which draws its masks from `masks`.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or NaN.
    pub fn init(&self, masks: &MaskSource) -> Result<InvertedDropout, ConfigError> {
        Ok(InvertedDropout { noise: Noise::new("prob", self.prob, masks)? })
    }
}

/// Zeroes units at random while training and scales the others up, so that the expectation stays.
///
/// Like burn's own, it acts where `training` is enabled and the input is on an autodiff device, so that
/// `model.valid()` evaluates and `freeze` switches it off.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{InvertedDropoutConfig, MaskSource};
///
/// let layer = InvertedDropoutConfig::new(0.5).init(&MaskSource::new(Seed(7)))?;
/// let device = Device::flex();
/// let input = Tensor::<2>::ones([4, 8], &device);
/// let evaluated: Vec<f32> = layer.forward(input.clone()).try_to_vec_as().unwrap();
/// assert!(evaluated.iter().all(|&unit| unit == 1.0));
/// let training = Tensor::<2>::ones([4, 8], &device.autodiff());
/// let dropped: Vec<f32> = layer.forward(training).try_to_vec_as().unwrap();
/// assert!(dropped.iter().all(|&unit| unit == 0.0 || unit == 2.0));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct InvertedDropout {
    noise: Noise,
}

impl InvertedDropout {
    /// Probability of zeroing a unit at full strength.
    #[must_use]
    pub fn prob(&self) -> f64 {
        self.noise.prob
    }

    /// Applies dropout to a tensor of any shape.
    #[must_use]
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let Some(prob) = self.noise.active(&input.device()) else { return input };
        let shape = input.dims();
        masked(input, shape, prob, &self.noise.masks)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn layer(prob: f64) -> InvertedDropout {
        InvertedDropoutConfig::new(prob).init(&MaskSource::new(Seed(7))).expect("valid")
    }

    #[test]
    fn keeps_the_expectation_and_the_share() {
        for device in devices() {
            let n = 1_000_000usize;
            for prob in [0.2f64, 0.5, 0.8] {
                let ones = Tensor::<2>::ones([1000, n / 1000], &device.clone().autodiff());
                let output: Vec<f32> = layer(prob).forward(ones).try_to_vec_as().expect("reads");
                let mean = output.iter().copied().map(f64::from).sum::<f64>() / n as f64;
                // A unit has variance p / (1 - p); five standard errors of the mean.
                let bound = 5.0 * (prob / (1.0 - prob) / n as f64).sqrt();
                assert!((mean - 1.0).abs() < bound, "{prob}: {mean}");
                let scale = (1.0 / (1.0 - prob)) as f32;
                assert!(output.iter().all(|&unit| unit == 0.0 || (unit - scale).abs() < 1e-6));
            }
        }
    }

    #[test]
    fn the_gradient_of_a_dropped_unit_is_zero() {
        for device in devices() {
            let input = Tensor::<2>::ones([32, 32], &device.autodiff()).require_grad();
            let output = layer(0.5).forward(input.clone());
            let gradients = output.clone().sum().backward();
            let gradient = input.grad(&gradients).expect("the input has one");
            let gradient: Vec<f32> = gradient.try_to_vec_as().expect("reads");
            let output: Vec<f32> = output.try_to_vec_as().expect("reads");
            assert!(output.contains(&0.0));
            assert_eq!(gradient, output, "the mask is the derivative where the input is 1");
        }
    }

    #[test]
    fn masks_repeat_with_the_seed_and_move_on_with_each_call() {
        let device = Device::flex().autodiff();
        let ones = || Tensor::<1>::ones([256], &device);
        let read = |tensor: Tensor<1>| tensor.try_to_vec_as::<f32>().expect("reads");
        let (left, right) = (layer(0.5), layer(0.5));
        let first = read(left.forward(ones()));
        assert_eq!(first, read(right.forward(ones())));
        let second = read(left.forward(ones()));
        assert_ne!(first, second);
        assert_eq!(second, read(right.forward(ones())));
    }

    #[test]
    fn evaluation_and_freezing_are_the_identity() {
        let device = Device::flex().autodiff();
        let ones = || Tensor::<1>::ones([64], &device);
        let read = |tensor: Tensor<1>| tensor.try_to_vec_as::<f32>().expect("reads");
        let layer = layer(0.5);
        assert_eq!(read(layer.valid().forward(ones())), [1.0; 64]);
        assert_eq!(read(layer.clone().freeze().forward(ones())), [1.0; 64]);
        assert_ne!(read(layer.valid().train().forward(ones())), [1.0; 64]);
        assert_eq!(read(self::layer(0.0).forward(ones())), [1.0; 64]);
    }

    #[test]
    fn every_shape_and_float_type_passes() {
        let device = Device::flex().autodiff();
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let output = layer(0.5).forward(Tensor::<3>::ones([2, 3, 5], (&device, dtype)));
            assert_eq!((output.dims(), output.dtype()), ([2, 3, 5], dtype));
        }
        assert_eq!(layer(0.5).forward(Tensor::<2>::ones([0, 3], &device)).dims(), [0, 3]);
    }

    #[test]
    fn half_strength_is_half_the_probability() {
        let masks = MaskSource::new(Seed(7));
        let layer = InvertedDropoutConfig::new(0.8).init(&masks).expect("valid");
        masks.set_strength(0.5).expect("valid");
        let n = 1_000_000usize;
        let ones = Tensor::<1>::ones([n], &Device::flex().autodiff());
        let output: Vec<f32> = layer.forward(ones.clone()).try_to_vec_as().expect("reads");
        let dropped = output.iter().filter(|&&unit| unit == 0.0).count() as f64 / n as f64;
        assert!((dropped - 0.4).abs() < 5.0 * (0.24 / n as f64).sqrt(), "{dropped}");
        masks.set_strength(0.0).expect("valid");
        let output: Vec<f32> = layer.forward(ones).try_to_vec_as().expect("reads");
        assert_eq!(output, vec![1.0; n]);
    }

    #[test]
    fn bad_probabilities_are_refused() {
        for prob in [1.0, -0.1, f64::NAN, f64::INFINITY] {
            let error = InvertedDropoutConfig::new(prob).init(&MaskSource::new(Seed(0)));
            let message = format!("`prob` must be in [0, 1), got {prob}");
            assert_eq!(error.expect_err("refused").to_string(), message);
        }
    }
}
