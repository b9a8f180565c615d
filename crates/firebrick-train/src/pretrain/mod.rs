//! Greedy layer-wise pre-training: each hidden layer learns, without labels, to describe the output of the one before.
//!
//! # Rule
//! ```text
//! h_0 = inputs
//! for each layer l: train it alone on h_{l-1};  h_l = activation(h_{l-1} W_l + b_l)
//! then the whole net is trained as usual from these weights (fine-tuning)
//! ```
//! A layer is trained as the encoder of a denoising auto-encoder, or as a restricted Boltzmann machine.
//!
//! # Reference
//! G. Hinton, S. Osindero, Y. Teh, "A fast learning algorithm for deep belief nets", 2006; Y. Bengio et al., "Greedy
//! layer-wise training of deep networks", NeurIPS 2006; P. Vincent et al., "Stacked denoising autoencoders", JMLR 2010.

mod denoise;
mod rbm;

pub use denoise::{DenoiseConfig, Reconstruction};
pub use rbm::{FreeEnergy, RbmConfig};

use crate::TrainError;
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::nn::activation::Activation;
use burn::tensor::Tensor;
use firebrick_backend::checkpointing::in_place_of;
use firebrick_core::{ConfigError, Seed};

/// How a layer is trained on its own.
#[derive(Debug, Clone)]
pub enum Pretraining {
    /// As the encoder of a denoising auto-encoder.
    Denoise(DenoiseConfig),
    /// As a restricted Boltzmann machine, by contrastive divergence with one step. Its units are those of the sigmoid.
    Rbm(RbmConfig),
}

/// How the pre-training of one layer went.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LayerFit {
    /// Mean squared reconstruction error of an input, without noise: before the first epoch and after each.
    pub errors: Vec<f64>,
    /// For a Boltzmann machine, its free energy after each epoch; empty otherwise.
    pub free_energy: Vec<FreeEnergy>,
}

/// Layers that were pre-trained.
#[derive(Debug)]
#[non_exhaustive]
pub struct Pretrained {
    /// The layers, on the device and as trainable as they were; what is frozen of them is what it was.
    pub layers: Vec<Linear>,
    /// How each went.
    pub fits: Vec<LayerFit>,
}

/// Trains `layers` one after another on `inputs`, `[samples, features]`, the activations of the first on those of the
/// second, and so on; labels are not needed.
///
/// Put the layers back into the model and train the whole, as a rule at a smaller rate. Whether it helps is to be shown
/// against the same net with a good initialization: as a rule it does with deep sigmoid nets and few labels, and does
/// not with ReLU.
///
/// # Errors
/// Before any work when a value is out of range, there is no layer or no sample, the layers do not follow one another,
/// a layer has no bias or another float type than the inputs, or a Boltzmann machine is to have other units than the
/// sigmoid's; before a layer is trained whose inputs are taken as probabilities and are none; later when the training
/// of a layer fails or breaks.
///
/// ```
/// use burn::nn::{LinearConfig, Sigmoid};
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_train::{DenoiseConfig, Pretraining, pretrain};
///
/// let device = Device::flex().autodiff();
/// let inputs = Tensor::<2>::from_floats([[0., 0., 1., 1.], [1., 1., 0., 0.], [1., 1., 1., 1.]], &device);
/// let layers = vec![LinearConfig::new(4, 3).init(&device), LinearConfig::new(3, 2).init(&device)];
/// let how = Pretraining::Denoise(DenoiseConfig::new().with_epochs(20));
/// let pretrained = pretrain(layers, &Sigmoid::new().into(), inputs, &how, Seed(1))?;
/// assert!(pretrained.fits.iter().all(|fit| fit.errors.last() < fit.errors.first()));
/// # Ok::<(), firebrick_train::TrainError>(())
/// ```
pub fn pretrain(
    layers: Vec<Linear>,
    activation: &Activation,
    inputs: Tensor<2>,
    how: &Pretraining,
    seed: Seed,
) -> Result<Pretrained, TrainError> {
    check(&layers, activation, &inputs, how)?;
    let mut hidden = inputs.inner();
    let mut done = Pretrained { layers: Vec::new(), fits: Vec::new() };
    for (depth, layer) in layers.into_iter().enumerate() {
        if how.probabilities() {
            unit_interval(&hidden, depth)?;
        }
        let seed = seed.child(depth as u64);
        let (layer, fit) = match how {
            Pretraining::Denoise(config) => {
                denoise::train(layer, depth, activation.clone(), hidden.clone(), config, seed)?
            }
            Pretraining::Rbm(config) => rbm::train(layer, depth, hidden.clone(), config, seed)?,
        };
        hidden = activation.valid().forward(layer.valid().forward(hidden));
        done.layers.push(layer);
        done.fits.push(fit);
    }
    Ok(done)
}

impl Pretraining {
    /// Whether the inputs of each layer are taken as probabilities.
    fn probabilities(&self) -> bool {
        match self {
            Self::Denoise(config) => config.reconstruction == Reconstruction::CrossEntropy,
            Self::Rbm(_) => true,
        }
    }
}

/// Refuses what is no probability: the loss of a layer would have no lowest value, or mean nothing.
fn unit_interval(inputs: &Tensor<2>, depth: usize) -> Result<(), TrainError> {
    let low = inputs.clone().min().try_into_scalar::<f64>()?;
    let high = inputs.clone().max().try_into_scalar::<f64>()?;
    if low >= 0.0 && high <= 1.0 {
        return Ok(());
    }
    let (field, found) = (format!("inputs of layer {depth}"), format!("{low} to {high}"));
    Err(ConfigError::new(field, found, "in [0, 1], for they are taken as probabilities").into())
}

fn check(
    layers: &[Linear],
    activation: &Activation,
    inputs: &Tensor<2>,
    how: &Pretraining,
) -> Result<(), TrainError> {
    match how {
        Pretraining::Denoise(config) => config.check()?,
        Pretraining::Rbm(config) => config.check()?,
    }
    if matches!(how, Pretraining::Rbm(_)) && !matches!(activation, Activation::Sigmoid(_)) {
        let expected = "the sigmoid: the units of a Boltzmann machine have no other";
        return Err(ConfigError::new("activation", "another one", expected).into());
    }
    let [samples, mut width] = inputs.dims();
    firebrick_core::check::at_least("samples", samples, 1)?;
    firebrick_core::check::at_least("layers", layers.len(), 1)?;
    for (depth, layer) in layers.iter().enumerate() {
        let [incoming, outgoing] = layer.weight.val().dims();
        if incoming != width {
            let expected = format!("{width}, the outputs of what stands before");
            let field = format!("inputs of layer {depth}");
            return Err(ConfigError::new(field, incoming, expected).into());
        }
        if layer.bias.is_none() {
            let field = format!("bias of layer {depth}");
            return Err(ConfigError::new(field, "none", "one, for its hidden units").into());
        }
        let (expected, found) = (inputs.dtype(), layer.weight.val().dtype());
        if found != expected {
            let (field, found) = (format!("float type of layer {depth}"), format!("{found:?}"));
            return Err(
                ConfigError::new(field, found, format!("{expected:?}, as the inputs")).into()
            );
        }
        if !layer.weight.val().device().is_autodiff() {
            return Err(TrainError::NotDifferentiable);
        }
        width = outgoing;
    }
    Ok(())
}

/// `value`, on a plain device, in the place of `param`, as trainable as that was.
fn put<const D: usize>(param: Param<Tensor<D>>, value: Tensor<D>) -> Param<Tensor<D>> {
    let trainable = param.is_require_grad();
    param.map(|old| in_place_of(value, &old, trainable))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::{LinearConfig, Sigmoid};
    use burn::tensor::{DType, Device};
    use firebrick_backend::checkpointing::strategy;
    use firebrick_backend::testing::devices;

    #[test]
    fn a_layer_is_trained_on_the_outputs_of_the_one_before() {
        for device in devices() {
            let device = device.autodiff();
            let inputs = inputs(&device);
            let layers = || {
                let layers = vec![
                    LinearConfig::new(6, 5).init(&device),
                    LinearConfig::new(5, 4).init(&device),
                ];
                firebrick_stabilize::initialize(
                    layers,
                    firebrick_stabilize::Scheme::XavierUniform,
                    Seed(2),
                )
            };
            for how in [
                Pretraining::Denoise(DenoiseConfig::new().with_epochs(5)),
                Pretraining::Rbm(RbmConfig::new().with_epochs(5)),
            ] {
                let sigmoid = Sigmoid::new().into();
                let run = |layers, inputs| {
                    pretrain(layers, &sigmoid, inputs, &how, Seed(3)).expect("trains")
                };
                let both = run(layers(), inputs.clone());
                let mut alone = layers();
                alone.truncate(1);
                let first = run(alone, inputs.clone());
                assert_eq!(both.fits[0], first.fits[0]);
                let read =
                    |layer: &Linear| layer.weight.val().try_to_vec_as::<f64>().expect("reads");
                assert_eq!(read(&both.layers[0]), read(&first.layers[0]));
                assert!(both.layers.iter().all(|layer| layer.weight.is_require_grad()));
                // What the second layer saw first: the outputs of the trained first, through its own start.
                assert_eq!(both.fits[1].errors.len(), 6);
                assert_ne!(read(&both.layers[1]), read(&layers()[1]));
            }
        }
    }

    pub(super) fn inputs(device: &Device) -> Tensor<2> {
        // Two patterns and their mixture: there is something to learn.
        let rows: Vec<f32> = (0..48)
            .flat_map(|i| {
                let (a, b) = ((i % 2) as f32, (i % 3 == 0) as u8 as f32);
                [a, a, a, b, b, 1.0 - a]
            })
            .collect();
        Tensor::<1>::from_floats(rows.as_slice(), device).reshape([48, 6])
    }

    fn layers(device: &Device, dtype: DType) -> Vec<Linear> {
        let layer = |inputs: usize, outputs: usize| Linear {
            weight: Param::from_tensor(Tensor::zeros([inputs, outputs], (device, dtype))),
            bias: Some(Param::from_tensor(Tensor::zeros([outputs], (device, dtype)))),
        };
        let layers = vec![layer(6, 5), layer(5, 4)];
        firebrick_stabilize::initialize(layers, firebrick_stabilize::Scheme::XavierUniform, Seed(2))
    }

    fn read(layer: &Linear) -> (Vec<f64>, Vec<f64>) {
        let bias = layer.bias.as_ref().expect("has one").val();
        let weight = layer.weight.val().try_to_vec_as().expect("reads");
        (weight, bias.try_to_vec_as().expect("reads"))
    }

    #[test]
    fn what_is_frozen_stays_as_it_is() {
        let device = Device::flex().autodiff();
        for how in [
            Pretraining::Denoise(DenoiseConfig::new().with_epochs(3)),
            Pretraining::Rbm(RbmConfig::new().with_epochs(3)),
        ] {
            let mut layers = layers(&device, DType::F32);
            layers[0] = layers[0].clone().no_grad();
            let before: Vec<_> = layers.iter().map(read).collect();
            let done = pretrain(layers, &Sigmoid::new().into(), inputs(&device), &how, Seed(3));
            let layers = done.expect("trains").layers;
            assert_eq!(read(&layers[0]), before[0]);
            assert!(!layers[0].weight.is_require_grad());
            assert_ne!(read(&layers[1]), before[1]);
        }
    }

    #[test]
    fn a_training_that_breaks_is_an_error() {
        let device = Device::flex().autodiff();
        let mut outcomes = Vec::new();
        for how in [
            Pretraining::Denoise(DenoiseConfig::new().with_rate(1e30)),
            Pretraining::Rbm(RbmConfig::new().with_rate(f64::MAX)),
        ] {
            let layers = layers(&device, DType::F32);
            let error = pretrain(layers, &Sigmoid::new().into(), inputs(&device), &how, Seed(3));
            match error.expect_err("it breaks") {
                TrainError::Pretraining { layer: 0, outcome } => outcomes.push(outcome),
                other => panic!("{other}"),
            }
        }
        // Of the first, all losses of an epoch; of the second, the weights.
        assert_eq!(outcomes, [crate::Outcome::Diverged; 2]);
    }

    #[test]
    fn layers_keep_their_float_type_and_their_gradient_checkpointing() {
        let plain = Device::flex().autodiff();
        let saving = plain.clone().gradient_checkpointing();
        let crossed = DenoiseConfig::new().with_reconstruction(Reconstruction::CrossEntropy);
        for how in [
            Pretraining::Denoise(DenoiseConfig::new().with_epochs(3)),
            Pretraining::Denoise(crossed.with_epochs(3).with_tied(true)),
            Pretraining::Rbm(RbmConfig::new().with_epochs(3)),
        ] {
            for dtype in [DType::F32, DType::BF16] {
                let run = |device: &Device| {
                    let (layers, inputs) = (layers(device, dtype), inputs(device).cast(dtype));
                    pretrain(layers, &Sigmoid::new().into(), inputs, &how, Seed(3)).expect("trains")
                };
                let (left, right) = (run(&saving), run(&plain));
                assert_eq!(left.fits, right.fits);
                for (left, right) in left.layers.iter().zip(&right.layers) {
                    assert_eq!(read(left), read(right));
                    let weight = left.weight.val();
                    assert_eq!(weight.dtype(), dtype);
                    assert!(weight.is_require_grad() && strategy(left).is_some());
                }
            }
        }
        let layers = layers(&plain, DType::BF16);
        let how = Pretraining::Rbm(RbmConfig::new());
        let mixed = pretrain(layers, &Sigmoid::new().into(), inputs(&plain), &how, Seed(3));
        assert_eq!(
            mixed.expect_err("refused").to_string(),
            "`float type of layer 0` must be F32, as the inputs, got BF16"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_before_any_work() {
        let device = Device::flex().autodiff();
        let layer = |from, to| LinearConfig::new(from, to).init(&device);
        let message = |layers: Vec<Linear>, how: Pretraining| {
            let sigmoid = Sigmoid::new().into();
            let result = pretrain(layers, &sigmoid, inputs(&device), &how, Seed(1));
            result.expect_err("refused").to_string()
        };
        let denoise = || Pretraining::Denoise(DenoiseConfig::new());
        assert!(message(vec![], denoise()).contains("`layers` must be at least 1"));
        assert!(message(vec![layer(6, 5), layer(4, 3)], denoise()).contains("`inputs of layer 1`"));
        let bare = LinearConfig::new(6, 5).with_bias(false).init(&device);
        assert!(message(vec![bare], denoise()).contains("`bias of layer 0`"));
        let noisy = Pretraining::Denoise(DenoiseConfig::new().with_noise(1.0));
        assert!(message(vec![layer(6, 5)], noisy).contains("`noise`"));
        let fast = Pretraining::Rbm(RbmConfig::new().with_rate(f64::NAN));
        assert!(message(vec![layer(6, 5)], fast).contains("`rate`"));
        let plain = LinearConfig::new(6, 5).init(&Device::flex());
        assert!(message(vec![plain], denoise()).contains("autodiff"));
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        let device = Device::flex().autodiff();
        let message = |activation: Activation, inputs: Tensor<2>, how: Pretraining| {
            let layers =
                vec![LinearConfig::new(6, 5).init(&device), LinearConfig::new(5, 4).init(&device)];
            let result = pretrain(layers, &activation, inputs, &how, Seed(1));
            result.map(drop).map_err(|error| error.to_string())
        };
        let machine = || Pretraining::Rbm(RbmConfig::new().with_epochs(1));
        let crossed = DenoiseConfig::new().with_epochs(1);
        let crossed = crossed.with_reconstruction(Reconstruction::CrossEntropy);
        let crossed = || Pretraining::Denoise(crossed.clone());
        let sigmoid = || Activation::from(Sigmoid::new());
        let twice = || inputs(&device) * 2.0;
        for how in [machine(), crossed()] {
            assert_eq!(
                message(sigmoid(), twice(), how),
                Err("`inputs of layer 0` must be in [0, 1], for they are taken as probabilities, \
                     got 0 to 2"
                    .into())
            );
        }
        let broken = message(sigmoid(), inputs(&device) * f64::NAN, machine());
        assert!(broken.is_err_and(|error| error.contains("NaN")));
        // The first layer's outputs are the second's inputs.
        let tanh = message(burn::nn::Tanh::new().into(), inputs(&device), crossed());
        assert!(tanh.is_err_and(|error| error.contains("`inputs of layer 1`")));
        let tanh = message(burn::nn::Tanh::new().into(), inputs(&device), machine());
        assert!(tanh.is_err_and(|error| error.contains("`activation` must be the sigmoid")));
        let squared = Pretraining::Denoise(DenoiseConfig::new().with_epochs(1));
        assert_eq!(message(sigmoid(), twice(), squared), Ok(()));
    }
}
