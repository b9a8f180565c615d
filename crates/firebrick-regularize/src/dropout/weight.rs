//! Dropping weights instead of units: DropConnect and weight-drop.
//!
//! # Formula
//! ```text
//! DropConnect   y_n = x_n (W * M_n / (1 - p)) + b     one mask for each row of the input
//! weight-drop   W' = W * M / (1 - p)                  one mask for a whole forward pass
//! ```
//! The expectation of the output of a linear layer is that of the whole weights, which evaluation uses; the
//! gradient of a dropped weight is 0.
//!
//! # Reference
//! L. Wan, M. Zeiler, S. Zhang, Y. LeCun, R. Fergus, "Regularization of neural networks using DropConnect",
//! ICML 2013; S. Merity, N. S. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", ICLR
//! 2018 (weight-drop on the recurrent matrices).
//!
//! # Differences
//! Wan et al. sample a Gaussian at test time; like every later implementation this uses the expectation. timm's
//! option "drop-connect" means [`DropPath`](crate::DropPath).

use super::{Noise, constant};
use crate::MaskSource;
use crate::masks::PerParameter;
use burn::config::Config;
use burn::module::{Module, ModuleMapper, Param, ParamGroup};
use burn::nn::Linear;
use burn::tensor::Tensor;
use firebrick_backend::{PathStack, Role};
use firebrick_core::ConfigError;

/// Configuration of [`DropConnect`].
#[derive(Config, Debug)]
pub struct DropConnectConfig {
    /// Probability of zeroing a weight, in [0, 1).
    #[config(default = 0.5)]
    pub prob: f64,
}

impl DropConnectConfig {
    /// Checks the probability and builds the layer around `linear`.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or NaN.
    pub fn init(&self, linear: Linear, masks: &MaskSource) -> Result<DropConnect, ConfigError> {
        Ok(DropConnect { linear, noise: Noise::new("prob", self.prob, masks)? })
    }
}

/// A linear layer that drops weights, by a mask of its own for every row of the input.
///
/// It needs `rows * in * out` elements of memory while training; [`WeightDrop`] shares one mask.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{DropConnectConfig, MaskSource};
///
/// let device = Device::flex().autodiff();
/// let linear = LinearConfig::new(8, 4).init(&device);
/// let layer = DropConnectConfig::new().init(linear, &MaskSource::new(Seed(7)))?;
/// assert_eq!(layer.forward(Tensor::<2>::ones([16, 8], &device)).dims(), [16, 4]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct DropConnect {
    /// The layer whose weights are dropped.
    pub linear: Linear,
    noise: Noise,
}

impl DropConnect {
    /// Maps `[..., in]` to `[..., out]`.
    #[must_use]
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let device = input.device();
        let Some(prob) = self.noise.active(&device) else { return self.linear.forward(input) };
        let weight = self.linear.weight.val();
        let [inputs, outputs] = weight.dims();
        let mut shape = input.dims();
        let rows = shape.iter().take(D - 1).product::<usize>();
        if rows == 0 {
            // burn's reshape would read the 0 as the length of that axis before.
            shape[D - 1] = outputs;
            return Tensor::zeros(shape, (&device, input.dtype()));
        }
        let keep = 1.0 - prob;
        let mask = self.noise.masks.pick(rows * inputs * outputs, keep, (1.0 / keep) as f32, 0.0);
        let mask = constant(mask, [rows, inputs, outputs], &device, input.dtype());
        let input = input.reshape([rows, 1, inputs]);
        let output = input.matmul(weight.unsqueeze::<3>() * mask);
        shape[D - 1] = outputs;
        let output = output.reshape(shape);
        match &self.linear.bias {
            Some(bias) => output + bias.val().unsqueeze::<D>(),
            None => output,
        }
    }
}

/// Configuration of [`WeightDrop`].
#[derive(Config, Debug)]
pub struct WeightDropConfig {
    /// Probability of zeroing a weight, in [0, 1).
    #[config(default = 0.5)]
    pub prob: f64,
}

impl WeightDropConfig {
    /// Checks the probability; `group` says which of a module's weights are dropped.
    ///
    /// The recurrent matrices of burn's `Lstm` are
    /// `ParamGroup::from_predicate("hidden_transform.weight")`.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or NaN.
    pub fn init(&self, group: ParamGroup, masks: &MaskSource) -> Result<WeightDrop, ConfigError> {
        Ok(WeightDrop { noise: Noise::new("prob", self.prob, masks)?, group })
    }
}

/// Gives a module whose chosen weights are masked, for one forward pass.
///
/// The masked module is used and dropped; gradients flow to the weights of the module that was given, so
/// `GradientsParams::from_grads` takes that one. A recurrent layer keeps the mask over its whole sequence, and a weight
/// that lies in several places (tied weights) has the same one in all of them.
///
/// ```
/// use burn::module::ParamGroup;
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, WeightDropConfig};
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(8, 4).init(&device);
/// let drop = WeightDropConfig::new().init(ParamGroup::all(), &MaskSource::new(Seed(7)))?;
/// let output = drop.apply(&layer).forward(Tensor::<2>::ones([16, 8], &device));
/// let gradients = GradientsParams::from_grads(output.sum().backward(), &layer);
/// assert!(gradients.get::<2>(layer.weight.id).is_some());
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct WeightDrop {
    noise: Noise,
    #[module(skip)]
    group: ParamGroup,
}

impl WeightDrop {
    /// `module` with masked weights; the same values where the layer evaluates.
    ///
    /// Only weights are dropped, whatever the group says: no biases, norms, embeddings or statistics. Drop the
    /// words of a table with [`EmbeddingDropout`](crate::EmbeddingDropout).
    #[must_use]
    pub fn apply<M: Module>(&self, module: &M) -> M {
        struct Drop<'a> {
            layer: &'a WeightDrop,
            draws: PerParameter<'a>,
            path: PathStack,
        }
        impl ModuleMapper for Drop<'_> {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.path.enter(name, container);
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.exit();
            }
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let chosen = self.path.role(D) == Role::Weight
                    && self.layer.group.matches(&param.id, Some(&self.path.path()));
                let active = self.layer.noise.active(&param.lazy_device());
                let (true, Some(prob)) = (chosen, active) else { return param };
                let masks = self.draws.masks(param.id);
                param.map(|weight| {
                    let shape = weight.dims();
                    super::masked(weight, shape, prob, &masks)
                })
            }
        }
        // A lazy parameter is drawn first, so that the module and its masked clone have the same weights.
        let _ = firebrick_backend::parameters(module);
        let draws = PerParameter::new(&self.noise.masks);
        module.clone().map(&mut Drop { layer: self, draws, path: PathStack::default() })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{BatchNormConfig, EmbeddingConfig, Initializer, LinearConfig, LstmConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn ones(inputs: usize, outputs: usize, device: &Device) -> Linear {
        let config = LinearConfig::new(inputs, outputs).with_bias(false);
        config.with_initializer(Initializer::Ones).init(device)
    }

    #[test]
    fn every_row_has_a_mask_of_its_own_with_the_right_share() {
        for device in devices() {
            let device = device.autodiff();
            let masks = MaskSource::new(Seed(3));
            let layer = DropConnectConfig::new()
                .with_prob(0.2)
                .init(ones(10, 10, &device), &masks)
                .expect("valid");
            // An output is 1.25 times a binomial count of 10 kept weights.
            let rows = 10_000usize;
            let output: Vec<f64> = layer
                .forward(Tensor::<2>::ones([rows, 10], &device))
                .try_to_vec_as()
                .expect("reads");
            let n = (rows * 10) as f64;
            let mean = output.iter().sum::<f64>() / n;
            let variance = output.iter().map(|y| (y - 10.0).powi(2)).sum::<f64>() / n;
            let expected = 10.0 * 0.2 * 0.8 / 0.64;
            assert!((mean - 10.0).abs() < 5.0 * (expected / n).sqrt(), "{mean}");
            // Var of the squared deviation is below 3 v^2 here; five standard errors.
            assert!((variance - expected).abs() < 5.0 * expected * (3.0 / n).sqrt(), "{variance}");
            assert_ne!(output[..10], output[10..20]);
        }
    }

    #[test]
    fn drop_connect_keeps_bias_rank_and_evaluation() {
        let device = Device::flex().autodiff();
        let masks = MaskSource::new(Seed(3));
        let linear = LinearConfig::new(3, 2).init(&device);
        let layer = DropConnectConfig::new().init(linear.clone(), &masks).expect("valid");
        let input = Tensor::<3>::ones([4, 5, 3], &device);
        assert_eq!(layer.forward(input.clone()).dims(), [4, 5, 2]);
        let bias: Vec<f32> =
            linear.bias.as_ref().expect("has one").val().try_to_vec_as().expect("reads");
        let only: Vec<f32> =
            layer.forward(Tensor::<2>::zeros([1, 3], &device)).try_to_vec_as().expect("reads");
        assert_eq!(only, bias);
        let read = |t: Tensor<3>| t.try_to_vec_as::<f32>().expect("reads");
        let plain = read(linear.valid().forward(input.clone().inner()));
        assert_eq!(read(layer.valid().forward(input.clone().inner())), plain);
        assert_ne!(read(layer.valid().train().forward(input)), plain);
        assert_eq!(layer.forward(Tensor::<2>::zeros([0, 3], &device)).dims(), [0, 2]);
    }

    #[test]
    fn the_gradient_of_a_weight_that_drop_connect_drops_is_zero() {
        for device in devices() {
            let device = device.autodiff();
            let masks = MaskSource::new(Seed(4));
            let layer = DropConnectConfig::new().init(ones(20, 30, &device), &masks);
            let layer = layer.expect("valid");
            let mask = masks.pick(600, 0.5, 2.0, 0.0);
            masks.seek(0);
            let output = layer.forward(Tensor::<2>::ones([1, 20], &device));
            let gradients = GradientsParams::from_grads(output.sum().backward(), &layer);
            let gradient = gradients.get::<2>(layer.linear.weight.id).expect("has one");
            let gradient: Vec<f32> = gradient.try_to_vec_as().expect("reads");
            assert_eq!(gradient, mask);
            assert!(gradient.contains(&0.0) && gradient.contains(&2.0));
        }
    }

    #[test]
    fn a_dropped_share_of_the_weights_is_the_probability() {
        for device in devices() {
            let device = device.autodiff();
            let drop = WeightDropConfig::new().with_prob(0.3);
            let drop = drop.init(ParamGroup::all(), &MaskSource::new(Seed(6))).expect("valid");
            let n = 1_000_000usize;
            let masked = drop.apply(&ones(1000, n / 1000, &device));
            let weight: Vec<f32> = masked.weight.val().try_to_vec_as().expect("reads");
            let dropped = weight.iter().filter(|&&w| w == 0.0).count() as f64 / n as f64;
            assert!((dropped - 0.3).abs() < 5.0 * (0.21 / n as f64).sqrt(), "{dropped}");
        }
    }

    #[test]
    fn bad_probabilities_are_refused() {
        let masks = MaskSource::new(Seed(0));
        for prob in [1.0, -0.1, f64::NAN] {
            let linear = ones(2, 2, &Device::flex());
            assert!(DropConnectConfig::new().with_prob(prob).init(linear, &masks).is_err());
            let drop = WeightDropConfig::new().with_prob(prob).init(ParamGroup::all(), &masks);
            assert!(drop.is_err());
        }
    }

    #[test]
    fn the_gradient_of_a_dropped_weight_is_zero_and_reaches_the_original() {
        for device in devices() {
            let device = device.autodiff();
            let layer = ones(20, 30, &device);
            let masks = MaskSource::new(Seed(5));
            let drop = WeightDropConfig::new().init(ParamGroup::all(), &masks).expect("valid");
            let masked = drop.apply(&layer);
            let weight: Vec<f32> = masked.weight.val().try_to_vec_as().expect("reads");
            assert!(weight.iter().all(|&w| w == 0.0 || w == 2.0));
            assert!(weight.contains(&0.0) && weight.contains(&2.0));
            let output = masked.forward(Tensor::<2>::ones([1, 20], &device));
            let gradients = GradientsParams::from_grads(output.sum().backward(), &layer);
            let gradient: Vec<f32> = gradients
                .get::<2>(layer.weight.id)
                .expect("the original has one")
                .try_to_vec_as()
                .expect("reads");
            assert_eq!(gradient, weight);
            let untouched: Vec<f32> = layer.weight.val().try_to_vec_as().expect("reads");
            assert_eq!(untouched, [1.0; 600]);
        }
    }

    #[test]
    fn only_the_chosen_weights_of_an_lstm_are_dropped() {
        let device = Device::flex().autodiff();
        let lstm = LstmConfig::new(3, 5, true).init(&device);
        let group = ParamGroup::from_predicate("hidden_transform.weight");
        let drop = WeightDropConfig::new().init(group, &MaskSource::new(Seed(5))).expect("valid");
        let masked = drop.apply(&lstm);
        let zeros = |weight: &Param<Tensor<2>>| {
            let values: Vec<f32> = weight.val().try_to_vec_as().expect("reads");
            values.iter().filter(|&&v| v == 0.0).count()
        };
        assert!(zeros(&masked.cell_gate.hidden_transform.weight) > 0);
        assert_eq!(zeros(&masked.cell_gate.input_transform.weight), 0);
        let (output, _) = masked.forward(Tensor::<3>::ones([2, 4, 3], &device), None);
        let gradients = GradientsParams::from_grads(output.sum().backward(), &lstm);
        assert!(gradients.get::<2>(lstm.cell_gate.hidden_transform.weight.id).is_some());
        let evaluated = drop.valid().apply(&lstm.valid());
        assert_eq!(zeros(&evaluated.cell_gate.hidden_transform.weight), 0);
        let back = drop.valid().train().apply(&lstm.valid().train());
        assert!(zeros(&back.cell_gate.hidden_transform.weight) > 0);
        let frozen = drop.freeze().apply(&lstm);
        assert_eq!(zeros(&frozen.cell_gate.hidden_transform.weight), 0);
    }

    #[test]
    fn tied_weights_have_the_same_mask() {
        let device = Device::flex().autodiff();
        let masks = MaskSource::new(Seed(5));
        let drop = WeightDropConfig::new().init(ParamGroup::all(), &masks).expect("valid");
        let layer = ones(20, 30, &device);
        let _ = layer.weight.val();
        let masked = drop.apply(&[layer.clone(), ones(20, 30, &device), layer]);
        let [first, other, again] =
            masked.map(|layer| -> Vec<f32> { layer.weight.val().try_to_vec_as().expect("reads") });
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(masks.position(), 2 * 150);
    }

    #[test]
    fn biases_norms_and_embeddings_are_never_dropped() {
        fn read<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
            param.val().try_to_vec_as().expect("reads")
        }
        let device = Device::flex().autodiff();
        let model = (
            LinearConfig::new(20, 30).init(&device),
            BatchNormConfig::new(30).init(&device),
            EmbeddingConfig::new(20, 2).init(&device),
        );
        let drop = WeightDropConfig::new().init(ParamGroup::all(), &MaskSource::new(Seed(5)));
        let masked = drop.expect("valid").apply(&model);
        assert!(read(&masked.0.weight).contains(&0.0));
        assert_eq!(masked.0.bias.as_ref().map(read), model.0.bias.as_ref().map(read));
        assert_eq!(read(&masked.1.gamma), [1.0; 30]);
        assert_eq!(read(&masked.2.weight), read(&model.2.weight));
    }
}
