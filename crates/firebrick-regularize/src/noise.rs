//! Noise on inputs, weights, gradients and labels.
//!
//! # Formula
//! ```text
//! input      y = x + N(0, sigma^2)           to first order a penalty sigma^2 / 2 * tr(J^T J)
//! weight     w' = w + N(0, sigma^2)          one draw for a whole forward pass
//! gradient   g' = g + N(0, eta / (1 + t)^gamma)
//! label      with probability p another class, each alike
//! ```
//! Add gradient noise after clipping and unscaling.
//!
//! # Reference
//! C. M. Bishop, "Training with noise is equivalent to Tikhonov regularization", Neural Computation 1995; A.
//! Neelakantan et al., "Adding gradient noise improves learning for very deep networks", 2015.

use crate::dropout::constant;
use crate::masks::PerParameter;
use crate::target::read_labels;
use crate::{MaskSource, RegularizeError};
use burn::config::Config;
use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use firebrick_backend::{PathStack, Role};
use firebrick_core::{ConfigError, check};

/// Configuration of [`InputNoise`].
#[derive(Config, Debug)]
pub struct InputNoiseConfig {
    /// Standard deviation, at least 0.
    pub std: f64,
}

impl InputNoiseConfig {
    /// Checks the deviation and builds the layer.
    ///
    /// # Errors
    /// When `std` is negative, NaN or infinite.
    pub fn init(&self, masks: &MaskSource) -> Result<InputNoise, ConfigError> {
        let std = check::non_negative("std", self.std)?;
        Ok(InputNoise { std, training: Param::from_bool(true), masks: masks.clone() })
    }
}

/// Adds normal noise while training, as a layer.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{InputNoiseConfig, MaskSource};
///
/// let layer = InputNoiseConfig::new(0.1).init(&MaskSource::new(Seed(7)))?;
/// let noisy = layer.forward(Tensor::<2>::zeros([4, 8], &Device::flex().autodiff()));
/// assert!(noisy.abs().max().into_scalar::<f32>() > 0.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct InputNoise {
    std: f64,
    training: Param<Flag>,
    #[module(skip)]
    masks: MaskSource,
}

impl InputNoise {
    /// Applies it to a tensor of any shape.
    #[must_use]
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let std = self.std * self.masks.strength();
        if std == 0.0 || !self.training.is_enabled() || !input.device().is_autodiff() {
            return input;
        }
        let noise = noise_like(&input, std, &self.masks);
        input + noise
    }
}

fn noise_like<const D: usize>(like: &Tensor<D>, std: f64, masks: &MaskSource) -> Tensor<D> {
    let shape = like.dims();
    let draws = masks.normals(shape.iter().product()).into_iter();
    let draws = draws.map(|draw| (f64::from(draw) * std) as f32).collect();
    constant(draws, shape, &like.device(), like.dtype())
}

/// Configuration of [`WeightNoise`].
#[derive(Config, Debug)]
pub struct WeightNoiseConfig {
    /// Standard deviation, at least 0.
    pub std: f64,
}

impl WeightNoiseConfig {
    /// Checks the deviation.
    ///
    /// # Errors
    /// When `std` is negative, NaN or infinite.
    pub fn init(&self, masks: &MaskSource) -> Result<WeightNoise, ConfigError> {
        Ok(WeightNoise { std: check::non_negative("std", self.std)?, masks: masks.clone() })
    }
}

/// Gives a module whose weights carry normal noise, for one forward pass.
///
/// Gradients flow to the module that was given, so `GradientsParams::from_grads` takes that one. Only trainable
/// weights are touched; frozen ones and evaluation stay as they are. A weight that lies in several places (tied weights)
/// has the same noise in all of them.
#[derive(Debug, Clone)]
pub struct WeightNoise {
    std: f64,
    masks: MaskSource,
}

impl WeightNoise {
    /// `module` with noisy weights.
    #[must_use]
    pub fn apply<M: Module>(&self, module: &M) -> M {
        struct Add<'a> {
            std: f64,
            draws: PerParameter<'a>,
            path: PathStack,
        }
        impl ModuleMapper for Add<'_> {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.path.enter(name, container);
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.exit();
            }
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                if self.path.role(D) != Role::Weight || !param.is_require_grad() {
                    return param;
                }
                let masks = self.draws.masks(param.id);
                param.map(|weight| {
                    let noise = noise_like(&weight, self.std, &masks);
                    weight + noise
                })
            }
        }
        // A lazy parameter is drawn first, so that both modules have the same weights.
        let _ = firebrick_backend::parameters(module);
        let std = self.std * self.masks.strength();
        if std == 0.0 {
            return module.clone();
        }
        let (draws, path) = (PerParameter::new(&self.masks), PathStack::default());
        module.clone().map(&mut Add { std, draws, path })
    }
}

/// Configuration of [`GradientNoise`].
#[derive(Config, Debug)]
pub struct GradientNoiseConfig {
    /// Variance at step 0, at least 0; 0.01, 0.3 and 1 in the paper.
    #[config(default = 0.01)]
    pub eta: f64,
    /// Exponent of the decay, at least 0.
    #[config(default = 0.55)]
    pub gamma: f64,
}

impl GradientNoiseConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// When one is negative, NaN or infinite.
    pub fn init(&self, masks: &MaskSource) -> Result<GradientNoise, ConfigError> {
        Ok(GradientNoise {
            eta: check::non_negative("eta", self.eta)?,
            gamma: check::non_negative("gamma", self.gamma)?,
            masks: masks.clone(),
        })
    }
}

/// Adds normal noise to gradients, less from step to step.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{GradientNoiseConfig, MaskSource};
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(3, 2).init(&device);
/// let loss = layer.forward(Tensor::<2>::ones([4, 3], &device)).sum();
/// let mut gradients = GradientsParams::from_grads(loss.backward(), &layer);
/// let noise = GradientNoiseConfig::new().init(&MaskSource::named(Seed(7), "gradient noise"))?;
/// noise.add(&layer, &mut gradients, 0); // after clipping, before the optimizer's step
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct GradientNoise {
    eta: f64,
    gamma: f64,
    masks: MaskSource,
}

impl GradientNoise {
    /// Standard deviation at `step`, counted from 0.
    #[must_use]
    pub fn deviation(&self, step: u64) -> f64 {
        (self.eta / (1.0 + step as f64).powf(self.gamma)).sqrt()
    }

    /// Adds noise to every gradient of `model` that is there.
    pub fn add<M: Module>(&self, model: &M, gradients: &mut GradientsParams, step: u64) {
        struct Add<'a> {
            gradients: &'a mut GradientsParams,
            seen: std::collections::HashSet<burn::module::ParamId>,
            std: f64,
            masks: &'a MaskSource,
        }
        impl ModuleVisitor for Add<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if !self.seen.insert(param.id) {
                    return;
                }
                if let Some(gradient) = self.gradients.remove::<D>(param.id) {
                    let noise = noise_like(&gradient, self.std, self.masks);
                    self.gradients.register::<D>(param.id, gradient + noise);
                }
            }
        }
        let std = self.deviation(step);
        if std > 0.0 {
            let seen = std::collections::HashSet::new();
            model.visit(&mut Add { gradients, seen, std, masks: &self.masks });
        }
    }
}

/// Configuration of [`LabelNoise`].
#[derive(Config, Debug)]
pub struct LabelNoiseConfig {
    /// Probability of a wrong label, in [0, 1).
    pub prob: f64,
    /// Number of classes, at least 2.
    pub classes: usize,
}

impl LabelNoiseConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or `classes` below 2.
    pub fn init(&self, masks: &MaskSource) -> Result<LabelNoise, ConfigError> {
        Ok(LabelNoise {
            prob: check::range("prob", self.prob, 0.0..1.0)?,
            classes: check::at_least("classes", self.classes, 2)?,
            masks: masks.clone(),
        })
    }
}

/// Replaces labels by another class at random; for training labels only.
#[derive(Debug, Clone)]
pub struct LabelNoise {
    prob: f64,
    classes: usize,
    masks: MaskSource,
}

impl LabelNoise {
    /// The labels `[n]` with noise.
    ///
    /// # Errors
    /// When a label is outside the classes.
    pub fn apply(&self, labels: Tensor<1, Int>) -> Result<Tensor<1, Int>, RegularizeError> {
        let device = labels.device();
        let labels = read_labels(labels, self.classes)?;
        let draws = self.masks.uniforms(2 * labels.len());
        let others = (self.classes - 1) as f64;
        let noisy: Vec<i64> = labels
            .iter()
            .zip(draws.chunks(2))
            .map(|(&label, draw)| {
                let shift = if draw[0] < self.prob { 1 + (draw[1] * others) as usize } else { 0 };
                ((label + shift) % self.classes) as i64
            })
            .collect();
        let count = noisy.len();
        Ok(Tensor::from_data(TensorData::new(noisy, [count]), &device))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{BatchNormConfig, LinearConfig};
    use burn::tensor::{DType, Device};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.try_to_vec_as().expect("reads")
    }

    #[test]
    fn input_noise_has_its_moments_in_training_and_is_off_in_evaluation() {
        for device in devices() {
            let n = 1_000_000usize;
            let device = device.autodiff();
            let layer = InputNoiseConfig::new(0.5).init(&MaskSource::new(Seed(1))).expect("valid");
            let noise = read(layer.forward(Tensor::<1>::zeros([n], &device)));
            let mean = noise.iter().sum::<f64>() / n as f64;
            let variance = noise.iter().map(|x| x * x).sum::<f64>() / n as f64;
            assert!(mean.abs() < 5.0 * 0.5 / (n as f64).sqrt());
            assert!((variance - 0.25).abs() < 5.0 * 0.25 * (2.0 / n as f64).sqrt());
            let zeros = Tensor::<1>::zeros([4], &device);
            assert_eq!(read(layer.valid().forward(zeros.clone())), [0.0; 4]);
            assert_ne!(read(layer.valid().train().forward(zeros)), [0.0; 4]);
            assert!(InputNoiseConfig::new(-1.0).init(&MaskSource::new(Seed(1))).is_err());
        }
    }

    #[test]
    fn weight_noise_touches_weights_alone_and_gradients_reach_the_original() {
        let device = Device::flex().autodiff();
        let model = (LinearConfig::new(3, 2).init(&device), BatchNormConfig::new(2).init(&device));
        let noise = WeightNoiseConfig::new(0.1).init(&MaskSource::new(Seed(2))).expect("valid");
        let noisy = noise.apply(&model);
        assert_ne!(read(noisy.0.weight.val()), read(model.0.weight.val()));
        let bias = |model: &(burn::nn::Linear, burn::nn::BatchNorm)| {
            model.0.bias.as_ref().map(|bias| read(bias.val()))
        };
        assert_eq!(bias(&noisy), bias(&model));
        assert_eq!(read(noisy.1.gamma.val()), [1.0; 2]);
        let loss = noisy.0.forward(Tensor::<2>::ones([1, 3], &device)).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        assert!(gradients.get::<2>(model.0.weight.id).is_some());
        let valid = (model.0.valid(), model.1.valid());
        assert_eq!(read(noise.apply(&valid).0.weight.val()), read(model.0.weight.val()));
    }

    #[test]
    fn tied_weights_carry_the_same_noise() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(3, 2).init(&device);
        let _ = layer.weight.val();
        let masks = MaskSource::new(Seed(2));
        let noise = WeightNoiseConfig::new(0.1).init(&masks).expect("valid");
        let noisy = noise.apply(&[layer.clone(), LinearConfig::new(3, 2).init(&device), layer]);
        let [first, other, again] = noisy.map(|layer| read(layer.weight.val()));
        assert_eq!(first, again);
        assert_ne!(first, other);
        // Two draws of six numbers, two a block.
        assert_eq!(masks.position(), 6);
    }

    #[test]
    fn gradient_noise_decays_by_its_law() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(1000, 1000).with_bias(false).init(&device);
        let noise = GradientNoiseConfig::new().with_eta(0.3);
        let noise = noise.init(&MaskSource::new(Seed(3))).expect("valid");
        for step in [0u64, 99] {
            let loss = (layer.weight.val() * 0.0).sum();
            let mut gradients = GradientsParams::from_grads(loss.backward(), &layer);
            noise.add(&layer, &mut gradients, step);
            let found = read(gradients.get::<2>(layer.weight.id).expect("still there"));
            let variance = found.iter().map(|g| g * g).sum::<f64>() / 1e6;
            let expected = 0.3 / (1.0 + step as f64).powf(0.55);
            assert!((variance - expected).abs() < 5.0 * expected * (2.0 / 1e6f64).sqrt());
        }
        assert!(
            GradientNoiseConfig::new().with_gamma(-1.0).init(&MaskSource::new(Seed(3))).is_err()
        );
    }

    #[test]
    fn label_noise_goes_to_every_other_class_alike() {
        for device in devices() {
            let n = 1_000_000usize;
            let noise =
                LabelNoiseConfig::new(0.3, 4).init(&MaskSource::new(Seed(4))).expect("valid");
            let labels = Tensor::<1, Int>::ones([n], &device);
            let noisy: Vec<i64> =
                noise.apply(labels).expect("valid").try_to_vec_as().expect("reads");
            let share =
                |class: i64| noisy.iter().filter(|&&l| l == class).count() as f64 / n as f64;
            for (class, expected) in [(0, 0.1f64), (1, 0.7), (2, 0.1), (3, 0.1)] {
                let bound = 5.0 * (expected * (1.0 - expected) / n as f64).sqrt();
                assert!((share(class) - expected).abs() < bound, "{class}: {}", share(class));
            }
            let outside = noise.apply(Tensor::<1, Int>::full([1], 4, &device));
            assert!(matches!(outside, Err(RegularizeError::Label { label: 4, .. })));
            assert!(LabelNoiseConfig::new(0.3, 1).init(&MaskSource::new(Seed(4))).is_err());
            for prob in [1.0, -0.1, f64::NAN] {
                assert!(LabelNoiseConfig::new(prob, 4).init(&MaskSource::new(Seed(4))).is_err());
            }
        }
    }

    #[test]
    fn weight_noise_has_its_moments_and_its_strength() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(1000, 1000).with_bias(false).init(&device);
        let masks = MaskSource::new(Seed(5));
        let noise = WeightNoiseConfig::new(0.2).init(&masks).expect("valid");
        for (strength, std) in [(1.0, 0.2f64), (0.5, 0.1)] {
            masks.set_strength(strength).expect("valid");
            let added = read(noise.apply(&layer).weight.val() - layer.weight.val());
            let mean = added.iter().sum::<f64>() / 1e6;
            let variance = added.iter().map(|x| x * x).sum::<f64>() / 1e6;
            assert!(mean.abs() < 5.0 * std / 1e3, "{mean}");
            let bound = 5.0 * std * std * (2.0 / 1e6f64).sqrt();
            assert!((variance - std * std).abs() < bound, "{variance}");
        }
        masks.set_strength(0.0).expect("valid");
        assert_eq!(read(noise.apply(&layer).weight.val()), read(layer.weight.val()));
        assert!(noise.apply(&Vec::<burn::nn::Linear>::new()).is_empty());
        for std in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(WeightNoiseConfig::new(std).init(&masks).is_err());
            assert!(InputNoiseConfig::new(std).init(&masks).is_err());
        }
    }

    #[test]
    fn input_noise_leaves_the_gradient_alone_and_follows_its_strength() {
        let device = Device::flex().autodiff();
        let masks = MaskSource::new(Seed(6));
        let layer = InputNoiseConfig::new(0.5).init(&masks).expect("valid");
        let input = Tensor::<1>::ones([64], &device).require_grad();
        let gradients = layer.forward(input.clone()).sum().backward();
        assert_eq!(read(input.grad(&gradients).expect("has one")), [1.0; 64]);
        let run = |strength: f64| {
            masks.seek(0);
            masks.set_strength(strength).expect("valid");
            read(layer.forward(Tensor::<1>::zeros([64], &device)))
        };
        let (whole, half) = (run(1.0), run(0.5));
        assert!(whole.iter().zip(&half).all(|(whole, half)| (whole - 2.0 * half).abs() < 1e-6));
        assert_eq!(run(0.0), [0.0; 64]);
        masks.set_strength(1.0).expect("valid");
        assert_eq!(layer.forward(Tensor::<2>::zeros([0, 3], &device)).dims(), [0, 3]);
        for dtype in [DType::F16, DType::BF16] {
            let noisy = layer.forward(Tensor::<1>::zeros([64], (&device, dtype)));
            assert_eq!(noisy.dtype(), dtype);
            assert!(read(noisy).iter().all(|x| x.is_finite()));
        }
    }

    #[test]
    fn a_gradient_that_is_missing_stays_so_and_a_shared_one_gets_noise_once() {
        let device = Device::flex().autodiff();
        let linear = |inputs, outputs| {
            let layer = LinearConfig::new(inputs, outputs).with_bias(false).init(&device);
            let _ = layer.weight.val();
            layer
        };
        let (used, unused) = (linear(100, 100), linear(2, 2));
        let model = (used.clone(), unused.clone(), used.clone());
        let loss = (used.weight.val() * 0.0).sum();
        let mut gradients = GradientsParams::from_grads(loss.backward(), &model);
        let noise = GradientNoiseConfig::new().init(&MaskSource::new(Seed(7))).expect("valid");
        noise.add(&model, &mut gradients, 0);
        assert!(gradients.get::<2>(unused.weight.id).is_none());
        let found = read(gradients.get::<2>(used.weight.id).expect("has one"));
        let variance = found.iter().map(|g| g * g).sum::<f64>() / 1e4;
        assert!((variance - 0.01).abs() < 5.0 * 0.01 * (2.0 / 1e4f64).sqrt(), "{variance}");
    }

    #[test]
    fn labels_outside_and_no_labels_are_defined() {
        let device = Device::flex();
        let masks = MaskSource::new(Seed(8));
        let noise = LabelNoiseConfig::new(0.3, 4).init(&masks).expect("valid");
        let negative = noise.apply(Tensor::<1, Int>::from_ints([0, -1], &device));
        assert_eq!(
            negative.expect_err("no class"),
            RegularizeError::Label { row: 1, label: -1, classes: 4 }
        );
        let none = noise.apply(Tensor::<1, Int>::zeros([0], &device)).expect("nothing to change");
        assert_eq!(none.dims(), [0]);
        let off = LabelNoiseConfig::new(0.0, 4).init(&masks).expect("0 is allowed");
        let labels = off.apply(Tensor::<1, Int>::from_ints([3, 0, 2], &device)).expect("inside");
        assert_eq!(labels.try_to_vec_as::<i64>().expect("reads"), [3, 0, 2]);
    }
}
