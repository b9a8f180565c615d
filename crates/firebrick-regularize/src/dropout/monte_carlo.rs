//! Monte-Carlo prediction: many passes with dropout on, their mean and variance.
//!
//! # Formula
//! ```text
//! mean = 1/T sum_t f_t(x)      variance = 1/(T - 1) sum_t (f_t(x) - mean)^2
//! ```
//! The mean approximates the average over all sub-networks, the variance how much they disagree. Average
//! probabilities rather than logits: let `forward` end in a softmax.
//!
//! # Reference
//! Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation", ICML 2016.
//!
//! # Differences
//! In PyTorch one calls `train()` for this, which also makes batch norm use and move its statistics. Here the
//! flags of normalization layers are switched off and those of the noise layers stay as they are.

use crate::RegularizeError;
use burn::config::Config;
use burn::module::{Flag, Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::Tensor;
use firebrick_backend::{PathStack, widened};
use firebrick_core::{ConfigError, check};

/// Configuration of [`MonteCarlo`].
#[derive(Config, Debug)]
pub struct MonteCarloConfig {
    /// Number of passes, at least 2; 20 to 100 are usual.
    #[config(default = 30)]
    pub passes: usize,
}

impl MonteCarloConfig {
    /// Checks the number of passes.
    ///
    /// # Errors
    /// When `passes` is below 2: one pass has no variance.
    pub fn init(&self) -> Result<MonteCarlo, ConfigError> {
        Ok(MonteCarlo { passes: check::at_least("passes", self.passes, 2)? })
    }
}

/// Predicts with dropout on and batch norm in evaluation.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::module::Module;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{InvertedDropout, InvertedDropoutConfig, MaskSource, MonteCarloConfig};
///
/// #[derive(Module, Debug)]
/// struct Net { dropout: InvertedDropout, linear: Linear }
///
/// let device = Device::flex().autodiff();
/// let dropout = InvertedDropoutConfig::new(0.5).init(&MaskSource::new(Seed(7)))?;
/// let net = Net { dropout, linear: LinearConfig::new(8, 3).init(&device) };
/// let input = Tensor::<2>::ones([4, 8], &device);
/// let prediction = MonteCarloConfig::new().init()?.predict(&net, |net| {
///     net.linear.forward(net.dropout.forward(input.clone()))
/// })?;
/// assert_eq!(prediction.mean.dims(), [4, 3]);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct MonteCarlo {
    passes: usize,
}

/// Mean and variance over the passes, element by element, on the plain device; of half precision in single.
#[derive(Debug, Clone)]
pub struct Prediction<const D: usize> {
    /// The mean.
    pub mean: Tensor<D>,
    /// The unbiased variance between passes.
    pub variance: Tensor<D>,
}

impl MonteCarlo {
    /// Runs `forward` on `model` and gathers mean and variance; parameters and flags of `model` are left as they are.
    ///
    /// The model must be in training state and its input on an autodiff device, for otherwise burn's noise layers
    /// are the identity. Running statistics are those that evaluation has. The passes draw from the model's
    /// [`MaskSource`](crate::MaskSource): where training goes on and must not depend on them, seek back to its position.
    ///
    /// Where nothing is random (no noise layer, or a strength of 0, as before the start of a late schedule) every pass is
    /// the same, and the variance is 0: that is no certainty.
    ///
    /// # Errors
    /// When the output is not on an autodiff device: every pass would be the same.
    pub fn predict<M: Module, const D: usize>(
        &self,
        model: &M,
        mut forward: impl FnMut(&M) -> Tensor<D>,
    ) -> Result<Prediction<D>, RegularizeError> {
        // burn keeps the statistics of the last training pass pending, and normalizes by those before it; to evaluate takes
        // them over, for all clones.
        let _ = model.valid();
        let norms = ParamGroup::from_ids(norm_flags(model));
        // Without gradients no graph is kept; no_grad leaves the flags of the noise layers alone.
        let model = model.clone().no_grad().freeze_group(norms);
        let mut state: Option<(Tensor<D>, Tensor<D>)> = None;
        for pass in 0..self.passes {
            let output = forward(&model);
            if !output.device().is_autodiff() {
                return Err(RegularizeError::Refused(
                    "Monte-Carlo prediction needs a model and an input on an autodiff device: elsewhere burn's noise layers are the identity",
                ));
            }
            let output = widened(output.inner());
            // Welford's recurrence: a sum of squares would cancel where the variance is small.
            state = Some(match state {
                None => (output.clone(), output.zeros_like()),
                Some((mean, squares)) => {
                    let before = output.clone() - mean.clone();
                    let mean = mean + before.clone().div_scalar((pass + 1) as f64);
                    let squares = squares + before * (output - mean.clone());
                    (mean, squares)
                }
            });
        }
        let Some((mean, squares)) = state else {
            return Err(RegularizeError::Empty { what: "the list of passes" });
        };
        Ok(Prediction { mean, variance: squares.div_scalar((self.passes - 1) as f64) })
    }
}

/// The training flags that normalization layers own; draws lazy parameters on the way.
fn norm_flags<M: Module>(model: &M) -> Vec<ParamId> {
    #[derive(Default)]
    struct Flags {
        path: PathStack,
        found: Vec<ParamId>,
    }
    impl ModuleVisitor for Flags {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        /// Draws a lazy parameter: until then a clone shares its settings, and freezing the one freezes both.
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let _ = param.val();
        }
        fn visit_flag(&mut self, flag: &Param<Flag>) {
            if self.path.owner().ends_with("Norm") {
                self.found.push(flag.id);
            }
        }
    }
    let mut flags = Flags::default();
    model.visit(&mut flags);
    flags.found
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{InvertedDropout, InvertedDropoutConfig, MaskSource};
    use burn::nn::{BatchNorm, BatchNormConfig, Initializer, Linear, LinearConfig};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    #[derive(Module, Debug)]
    struct Net {
        norm: BatchNorm,
        dropout: InvertedDropout,
        linear: Linear,
    }

    impl Net {
        fn new(device: &Device) -> Self {
            let linear = LinearConfig::new(10, 1).with_bias(false);
            Self {
                norm: BatchNormConfig::new(10).init(device),
                dropout: InvertedDropoutConfig::new(0.5)
                    .init(&MaskSource::new(Seed(5)))
                    .expect("valid"),
                linear: linear.with_initializer(Initializer::Ones).init(device),
            }
        }
        fn forward(&self, input: Tensor<2>) -> Tensor<2> {
            self.linear.forward(self.dropout.forward(self.norm.forward(input)))
        }
    }

    #[test]
    fn mean_and_variance_are_those_of_the_masks_and_statistics_stay() {
        for device in devices() {
            let device = device.autodiff();
            let net = Net::new(&device);
            let input = Tensor::<2>::ones([2000, 10], &device);
            let passes = 100;
            let config = MonteCarloConfig::new().with_passes(passes);
            let found =
                config.init().expect("valid").predict(&net, |net| net.forward(input.clone()));
            let found = found.expect("on autodiff");
            // An output is a sum of ten units of 2 * Bernoulli(1/2) over sqrt(1 + 1e-5): mean 10, variance 10.
            let n = 2000.0;
            let mean: f64 = found.mean.mean().into_scalar();
            assert!((mean - 10.0).abs() < 5.0 * (10.0 / (n * passes as f64)).sqrt(), "{mean}");
            let variance: f64 = found.variance.mean().into_scalar();
            // Var of a sample variance is below 2 v^2 / (T - 1) for this flat distribution.
            let bound = 5.0 * (2.0 * 100.0 / (passes as f64 - 1.0) / n).sqrt();
            assert!((variance - 10.0).abs() < bound, "{variance}");
            let running: Vec<f32> =
                net.norm.running_mean.value_sync().try_to_vec_as().expect("reads");
            assert_eq!(running, [0.0; 10]);
            // The model still trains batch norm afterwards.
            let _ = net.forward(input.clone());
            let running: Vec<f32> =
                net.norm.running_mean.value_sync().try_to_vec_as().expect("reads");
            assert!(running.iter().all(|&mean| (mean - 0.1).abs() < 1e-6));
            assert!(net.linear.weight.is_require_grad());
        }
    }

    #[test]
    fn without_noise_the_mean_is_the_evaluation_of_the_model() {
        for device in devices() {
            let device = device.autodiff();
            let masks = MaskSource::new(Seed(5));
            let mut net = Net::new(&device);
            net.dropout = InvertedDropoutConfig::new(0.5).init(&masks).expect("valid");
            masks.set_strength(0.0).expect("valid");
            // A training pass whose statistics are pending: it moves the means to 0.3.
            let input = Tensor::<2>::full([4, 10], 3.0, &device);
            let _ = net.forward(input.clone());
            let monte = MonteCarloConfig::new().with_passes(2).init().expect("valid");
            let found = monte.predict(&net, |net| net.forward(input.clone())).expect("on autodiff");
            let read = |tensor: Tensor<2>| tensor.try_to_vec_as::<f32>().expect("reads");
            let mean = read(found.mean);
            assert!(mean.iter().all(|mean| (mean / 28.5 - 1.0).abs() < 0.01), "{mean:?}");
            assert_eq!(mean, read(net.valid().forward(input.inner())));
            assert_eq!(read(found.variance), [0.0; 4]);
        }
    }

    #[test]
    fn a_plain_device_and_a_single_pass_are_refused() {
        let device = Device::flex();
        let net = Net::new(&device);
        let monte = MonteCarloConfig::new().init().expect("valid");
        let input = Tensor::<2>::ones([2, 10], &device);
        let error = monte.predict(&net, |net| net.forward(input.clone())).expect_err("refused");
        assert!(error.to_string().contains("autodiff"), "{error}");
        let error = MonteCarloConfig::new().with_passes(1).init().expect_err("refused");
        assert_eq!(error.to_string(), "`passes` must be at least 2, got 1");
    }

    #[test]
    fn mean_and_variance_by_hand() {
        let device = Device::flex().autodiff();
        let net = Net::new(&device);
        let mut outputs = [1.0f32, 2.0, 6.0].into_iter();
        let monte = MonteCarloConfig::new().with_passes(3).init().expect("valid");
        let found = monte.predict(&net, |_| {
            let value = outputs.next().expect("three passes");
            Tensor::<1>::from_floats([value, 100.0 * value], &device)
        });
        let found = found.expect("on autodiff");
        assert!(outputs.next().is_none());
        // The squared distances from the mean of 3 are 4, 1 and 9.
        let read = |tensor: Tensor<1>| tensor.try_to_vec_as::<f64>().expect("reads");
        for (found, expected) in [(found.mean, [3.0, 300.0]), (found.variance, [7.0, 7e4])] {
            for (found, expected) in read(found).into_iter().zip(expected) {
                assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
            }
        }
    }
}
