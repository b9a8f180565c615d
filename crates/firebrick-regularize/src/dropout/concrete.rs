//! Concrete dropout: the drop probability is learned.
//!
//! # Formula
//! ```text
//! z = sigmoid((log p - log(1 - p) + log u - log(1 - u)) / t)     u ~ U(0, 1), a relaxed drop indicator
//! y = x (1 - z) / (1 - p)
//! term = weight_regularizer * sum W^2 / (1 - p) + dropout_regularizer * K * (p log p + (1 - p) log(1 - p))
//! ```
//! `K` is the number of input features of `W`. For `N` samples and prior length scale `l` the paper sets
//! `weight_regularizer = l^2 / N` and `dropout_regularizer = 2 / N` (unit model precision): the term does not
//! make sense without the size of the data.
//!
//! Those are the factors for a mean squared loss, which is twice the negative log-likelihood. For a mean cross entropy
//! they are `l^2 / (2 N)` and `1 / N`: set `samples` to `2 N`. For a squared loss of model precision `tau` set it to
//! `tau N`.
//!
//! The probability is learned, so the strength of a [`DropSchedule`](crate::DropSchedule) does not multiply it: at 0
//! the layer is the identity, at any other strength it drops with `p`.
//!
//! # Reference
//! Y. Gal, J. Hron, A. Kendall, "Concrete dropout", NIPS 2017.

use super::{Noise, constant};
use crate::MaskSource;
use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, activation::sigmoid};
use firebrick_backend::widened;
use firebrick_core::{ConfigError, check};

/// Configuration of [`ConcreteDropout`].
#[derive(Config, Debug)]
pub struct ConcreteDropoutConfig {
    /// Number of training samples for a mean squared loss, twice that for a mean cross entropy; at least 1.
    pub samples: usize,
    /// Probability to start from, in (0, 1).
    #[config(default = 0.1)]
    pub prob: f64,
    /// Temperature of the relaxation, above 0.
    #[config(default = 0.1)]
    pub temperature: f64,
    /// Prior length scale, above 0.
    #[config(default = 1e-2)]
    pub length_scale: f64,
}

impl ConcreteDropoutConfig {
    /// Checks the values and builds the layer on `device`.
    ///
    /// # Errors
    /// When `samples` is 0, `prob` outside (0, 1), or another value not above 0.
    pub fn init(
        &self,
        masks: &MaskSource,
        device: &Device,
    ) -> Result<ConcreteDropout, ConfigError> {
        let samples = check::at_least("samples", self.samples, 1)? as f64;
        let prob = check::positive("prob", self.prob)?;
        let noise = Noise::new("prob", prob, masks)?;
        let length = check::positive("length_scale", self.length_scale)?;
        let logit = (prob / (1.0 - prob)).ln();
        Ok(ConcreteDropout {
            logit: Param::from_data([logit as f32], device),
            temperature: check::positive("temperature", self.temperature)?,
            weight_regularizer: length * length / samples,
            dropout_regularizer: 2.0 / samples,
            noise,
        })
    }
}

/// Dropout whose probability is a parameter; add [`term`](Self::term) to the loss.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{ConcreteDropoutConfig, MaskSource};
///
/// let device = Device::flex().autodiff();
/// let linear = LinearConfig::new(8, 4).init(&device);
/// let dropout = ConcreteDropoutConfig::new(1000).init(&MaskSource::new(Seed(7)), &device)?;
/// let output = linear.forward(dropout.forward(Tensor::<2>::ones([16, 8], &device)));
/// let loss = output.square().mean() + dropout.term(linear.weight.val(), 8);
/// assert!(dropout.logit.val().grad(&loss.backward()).is_some());
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct ConcreteDropout {
    /// log(p / (1 - p)), of shape `[1]`, learned.
    pub logit: Param<Tensor<1>>,
    temperature: f64,
    weight_regularizer: f64,
    dropout_regularizer: f64,
    noise: Noise,
}

impl ConcreteDropout {
    /// The probability as it stands, a tensor of shape `[1]`.
    #[must_use]
    pub fn prob(&self) -> Tensor<1> {
        sigmoid(self.logit.val())
    }

    /// Applies it to a tensor of any shape.
    #[must_use]
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let device = input.device();
        if self.noise.active(&device).is_none() {
            return input;
        }
        let (shape, dtype) = (input.dims(), input.dtype());
        let logits = self.noise.masks.uniforms(shape.iter().product()).into_iter().map(|u| {
            // Half a step of the grid away from both ends, so that the logarithms are finite.
            let u = u + 0.5 / (1u64 << 53) as f64;
            libm::log(u / (1.0 - u)).clamp(-40.0, 40.0) as f32
        });
        let uniform = constant(logits.collect(), shape, &device, dtype);
        let logit = self.logit.val().cast(dtype).unsqueeze::<D>();
        let dropped = sigmoid((uniform + logit.clone()).div_scalar(self.temperature));
        let keep = sigmoid(logit.neg());
        input * (dropped.neg() + 1.0) / keep
    }

    /// The term for the loss, of shape `[1]`: `weight` is what multiplies the output of this layer and takes
    /// `features` inputs. Half precision is summed in single; the term has the type of `weight`.
    #[must_use]
    pub fn term<const D: usize>(&self, weight: Tensor<D>, features: usize) -> Tensor<1> {
        use burn::tensor::activation::log_sigmoid;
        let dtype = weight.dtype();
        let weight = widened(weight);
        let logit = self.logit.val().cast(weight.dtype());
        let (p, q) = (sigmoid(logit.clone()), sigmoid(logit.clone().neg()));
        let entropy = p * log_sigmoid(logit.clone()) + q.clone() * log_sigmoid(logit.neg());
        let term = weight.square().sum().mul_scalar(self.weight_regularizer) / q
            + entropy.mul_scalar(self.dropout_regularizer * features as f64);
        term.cast(dtype)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::DType;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn layer(prob: f64, device: &Device) -> ConcreteDropout {
        let config = ConcreteDropoutConfig::new(100).with_prob(prob);
        config.init(&MaskSource::new(Seed(7)), device).expect("valid")
    }

    #[test]
    fn most_units_are_nearly_dropped_or_kept_with_the_probability() {
        for device in devices() {
            let device = device.autodiff();
            let n = 1_000_000usize;
            let output = layer(0.3, &device).forward(Tensor::<1>::ones([n], &device));
            let values: Vec<f64> = output.try_to_vec_as().expect("reads");
            // z > 1/2 exactly where logit(u) > -logit(p), which has probability p.
            let half = 0.5 / 0.7;
            let dropped = values.iter().filter(|&&v| v < half).count() as f64 / n as f64;
            assert!((dropped - 0.3).abs() < 5.0 * (0.21 / n as f64).sqrt(), "{dropped}");
        }
    }

    #[test]
    fn the_term_and_its_slope_follow_the_formula() {
        let device = Device::flex().autodiff();
        let value = |prob: f64| {
            let weights = 0.01f64.powi(2) / 100.0 * 14.0 / (1.0 - prob);
            weights + 2.0 / 100.0 * 2.0 * (prob * prob.ln() + (1.0 - prob) * (1.0 - prob).ln())
        };
        for prob in [0.05, 0.3, 0.5, 0.9] {
            let layer = layer(prob, &device);
            let weight = Tensor::<2>::from_floats([[1.0, -2.0], [0.0, 3.0]], &device);
            let term = layer.term(weight, 2);
            let found: f64 = term.clone().into_scalar();
            assert!((found - value(prob)).abs() < 1e-7, "{found} {}", value(prob));
            let slope: f64 =
                layer.logit.val().grad(&term.backward()).expect("has one").into_scalar();
            let logit = |x: f64| 1.0 / (1.0 + (-x).exp());
            let (at, step) = ((prob / (1.0 - prob)).ln(), 1e-5);
            let expected = (value(logit(at + step)) - value(logit(at - step))) / (2.0 * step);
            assert!((slope - expected).abs() < 1e-6, "{prob}: {slope} {expected}");
        }
    }

    #[test]
    fn half_precision_is_summed_in_single() {
        let device = Device::flex().autodiff();
        let layer = layer(0.3, &device);
        // Each square overflows f16, and so does their sum; the term is 4 * 300^2 * 1e-6 / 0.7 and the entropy's part.
        let weight = || Tensor::<2>::full([2, 2], 300.0, (&device, DType::F32)).require_grad();
        let exact = layer.term(weight(), 2).into_scalar::<f64>();
        assert!(exact > 0.4, "{exact}");
        for (dtype, bound) in [(DType::F16, 1e-3), (DType::BF16, 1e-2)] {
            let weight = weight().cast(dtype);
            let term = layer.term(weight, 2);
            assert_eq!(term.dtype(), dtype);
            let found = term.clone().into_scalar::<f64>();
            assert!((found / exact - 1.0).abs() < bound, "{found} {exact}");
            let slope = layer.logit.val().grad(&term.backward()).expect("has one");
            assert!(slope.into_scalar::<f64>().is_finite());
        }
    }

    #[test]
    fn a_schedule_switches_it_off_but_leaves_the_learned_probability() {
        let device = Device::flex().autodiff();
        let masks = MaskSource::new(Seed(7));
        let layer = ConcreteDropoutConfig::new(100).with_prob(0.4).init(&masks, &device);
        let layer = layer.expect("valid");
        let run = |strength: f64| {
            masks.seek(0);
            masks.set_strength(strength).expect("valid");
            let output = layer.forward(Tensor::<1>::ones([256], &device));
            output.try_to_vec_as::<f32>().expect("reads")
        };
        assert_eq!(run(0.0), [1.0; 256]);
        assert_eq!(run(0.25), run(1.0));
    }

    #[test]
    fn evaluation_is_the_identity_and_bad_values_are_refused() {
        let device = Device::flex().autodiff();
        let ones = Tensor::<1>::ones([64], &device);
        let read = |t: Tensor<1>| t.try_to_vec_as::<f32>().expect("reads");
        assert_eq!(read(layer(0.5, &device).valid().forward(ones.clone().inner())), [1.0; 64]);
        assert_ne!(read(layer(0.5, &device).valid().train().forward(ones)), [1.0; 64]);
        let masks = MaskSource::new(Seed(0));
        assert!(ConcreteDropoutConfig::new(0).init(&masks, &device).is_err());
        assert!(ConcreteDropoutConfig::new(9).with_prob(0.0).init(&masks, &device).is_err());
        assert!(ConcreteDropoutConfig::new(9).with_temperature(0.0).init(&masks, &device).is_err());
    }

    #[test]
    fn gradients_follow_the_formula_for_input_and_probability() {
        for device in devices() {
            let device = device.autodiff();
            let masks = MaskSource::new(Seed(7));
            let config = ConcreteDropoutConfig::new(100).with_prob(0.3).with_temperature(0.5);
            let layer = config.init(&masks, &device).expect("valid");
            let n = 256usize;
            let uniforms = masks.uniforms(n);
            masks.seek(0);
            let input = Tensor::<1>::full([n], 2.0, &device).require_grad();
            let gradients = layer.forward(input.clone()).sum().backward();
            let gradient = input.grad(&gradients).expect("has one");
            let gradient: Vec<f64> = gradient.try_to_vec_as().expect("reads");
            let logit = (0.3f64 / 0.7).ln();
            let mut slope = 0.0;
            for (u, found) in uniforms.into_iter().zip(gradient) {
                let z = 1.0 / (1.0 + (-(logit + (u / (1.0 - u)).ln()) / 0.5).exp());
                assert!((found - (1.0 - z) / 0.7).abs() < 1e-5, "{found} {z}");
                // By the logit: dz = z (1 - z) / t and dp = p (1 - p), so d 1 / (1 - p) = p / (1 - p).
                slope += 2.0 * ((1.0 - z) * 0.3 / 0.7 - z * (1.0 - z) / 0.5 / 0.7);
            }
            let found = layer.logit.val().grad(&gradients).expect("is learned");
            let found = found.into_scalar::<f64>();
            // A sum of 256 terms of up to 4 in f32.
            assert!((found - slope).abs() < 1e-2, "{found} {slope}");
        }
    }
}
