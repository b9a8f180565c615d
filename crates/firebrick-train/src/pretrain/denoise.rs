//! A layer as the encoder of a denoising auto-encoder.
//!
//! # Rule
//! ```text
//! x~ = x with each element set to 0 with probability `noise`
//! loss = error(x, decode(activation(x~ W + b)))      decode(h) = h W' + b',  W' = W^T where tied
//! ```

use super::LayerFit;
use crate::batches::hash;
use crate::{Fit, FitConfig, Learn, Outcome, Score, Source, SourceError, TrainError};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::nn::activation::Activation;
use burn::tensor::activation::{log_sigmoid, sigmoid};
use burn::tensor::{Int, Tensor, TensorReadError};
use firebrick_backend::checkpointing::{beside, strategy, with_strategy};
use firebrick_core::{ConfigError, Seed, check, names};
use firebrick_optim::AdamConfig;
use firebrick_regularize::MaskSource;
use firebrick_stabilize::{Scheme, initialize};
use serde::{Deserialize, Serialize};

/// What the reconstruction is compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reconstruction {
    /// Squared error of a linear output.
    Squared,
    /// Cross-entropy of a sigmoid output, for inputs in [0, 1].
    CrossEntropy,
}

/// Configuration of a denoising auto-encoder.
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `epochs` | 10 | at least 1 |
/// | `batch_size` | 32 | at least 1 |
/// | `rate` | 1e-3, of Adam | above 0 |
/// | `noise` | 0.2 | [0, 1); 0.1 to 0.5 are usual |
/// | `tied` | false | |
/// | `reconstruction` | `Reconstruction::Squared` | |
#[derive(Config, Debug)]
pub struct DenoiseConfig {
    /// Passes over the inputs, for each layer.
    #[config(default = 10)]
    pub epochs: usize,
    /// Samples of a step.
    #[config(default = 32)]
    pub batch_size: usize,
    /// Adam's learning rate.
    #[config(default = 1e-3)]
    pub rate: f64,
    /// The chance of an input to be masked.
    #[config(default = 0.2)]
    pub noise: f64,
    /// Whether the decoder's weights are those of the encoder, transposed.
    #[config(default = false)]
    pub tied: bool,
    /// What the reconstruction is compared by.
    #[config(default = "Reconstruction::Squared")]
    pub reconstruction: Reconstruction,
}

impl DenoiseConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check::at_least("epochs", self.epochs, 1)?;
        check::at_least("batch_size", self.batch_size, 1)?;
        check::positive("rate", self.rate)?;
        check::range("noise", self.noise, 0.0..1.0)?;
        Ok(())
    }
}

#[derive(Module, Debug)]
struct AutoEncoder {
    encoder: Linear,
    activation: Activation,
    /// None where tied.
    decoder: Option<Param<Tensor<2>>>,
    offset: Param<Tensor<1>>,
    noise: f64,
    #[module(skip)]
    reconstruction: Reconstruction,
    #[module(skip)]
    masks: MaskSource,
}

impl AutoEncoder {
    /// What comes out, before the sigmoid where there is one.
    fn decode(&self, inputs: Tensor<2>) -> Tensor<2> {
        let hidden = self.activation.forward(self.encoder.forward(inputs));
        let weight = match &self.decoder {
            Some(weight) => weight.val(),
            None => self.encoder.weight.val().transpose(),
        };
        hidden.matmul(weight) + self.offset.val().unsqueeze()
    }
}

impl Learn for AutoEncoder {
    type Batch = Tensor<2>;

    fn loss(&self, batch: Tensor<2>) -> Tensor<1> {
        let kept = self.masks.keep(batch.shape().num_elements(), 1.0 - self.noise);
        let kept: Vec<f32> = kept.into_iter().map(|kept| f32::from(u8::from(kept))).collect();
        let kept = Tensor::<1>::from_data(kept.as_slice(), (&batch.device(), batch.dtype()));
        let output = self.decode(batch.clone() * kept.reshape(batch.dims()));
        match self.reconstruction {
            Reconstruction::Squared => (output - batch).square().mean(),
            Reconstruction::CrossEntropy => {
                let off = log_sigmoid(output.clone().neg()) * (batch.clone().neg() + 1.0);
                (log_sigmoid(output) * batch + off).mean().neg()
            }
        }
    }

    fn score(&self, batch: Tensor<2>) -> Result<Score, TensorReadError> {
        let output = self.decode(batch.clone());
        let output = match self.reconstruction {
            Reconstruction::Squared => output,
            Reconstruction::CrossEntropy => sigmoid(output),
        };
        let samples = batch.dims()[0];
        let error = (output - batch).square().mean().try_into_scalar::<f64>()?;
        let sum = error * samples as f64;
        Ok(Score { loss_sum: sum, error_sum: sum, samples })
    }
}

/// Rows without labels, shuffled anew each epoch.
pub(super) struct Rows {
    pub(super) inputs: Tensor<2>,
    pub(super) batch_size: usize,
    pub(super) seed: Seed,
}

impl Rows {
    fn samples(&self) -> usize {
        self.inputs.dims()[0]
    }

    pub(super) fn epoch(&self, epoch: usize, start: usize) -> impl Iterator<Item = Tensor<2>> {
        let mut order: Vec<i32> = (0..self.samples() as i32).collect();
        self.seed.child(epoch as u64).stream("epoch").shuffle(&mut order);
        (start..self.length()).map(move |batch| {
            let start = batch * self.batch_size;
            let rows = &order[start..order.len().min(start + self.batch_size)];
            let rows = Tensor::<1, Int>::from_ints(rows, &self.inputs.device());
            self.inputs.clone().select(0, rows)
        })
    }
}

impl Source for Rows {
    type Batch = Tensor<2>;

    fn read(
        &self,
        epoch: usize,
        start: usize,
    ) -> impl Iterator<Item = Result<(Tensor<2>, Option<usize>), SourceError>> {
        self.epoch(epoch, start).map(|batch| {
            let samples = batch.dims()[0];
            Ok((batch, Some(samples)))
        })
    }

    fn read_whole(&self) -> impl Iterator<Item = Result<Tensor<2>, SourceError>> {
        let inputs = self.inputs.clone().inner();
        let size = self.batch_size.max(1024);
        (0..self.samples()).step_by(size).map(move |start| {
            let rows = size.min(inputs.dims()[0] - start);
            Ok(inputs.clone().narrow(0, start, rows))
        })
    }

    fn length(&self) -> usize {
        self.samples().div_ceil(self.batch_size)
    }

    fn fingerprint(&self) -> u64 {
        hash(&format!("{:?} {} {}", self.inputs.dims(), self.batch_size, self.seed))
    }
}

/// Trains `layer`, number `depth`, as the encoder of an auto-encoder of `inputs`.
pub(super) fn train(
    layer: Linear,
    depth: usize,
    activation: Activation,
    inputs: Tensor<2>,
    config: &DenoiseConfig,
    seed: Seed,
) -> Result<(Linear, LayerFit), TrainError> {
    let strategy = strategy(&layer);
    let inputs = beside(inputs, &layer.weight.val());
    let model = auto_encoder(layer, activation, config, seed);
    let train = Rows { inputs, batch_size: config.batch_size, seed };
    let mut errors = vec![crate::judge::total(&model.valid(), &train)?.score.loss()];
    let fitted =
        Fit::new(FitConfig::new(config.epochs).with_progress(false), AdamConfig::new().fused()?)
            .rate({
                let rate = config.rate;
                move |_| rate
            })
            .run(model, &train, None)?;
    if fitted.outcome != Outcome::Finished {
        return Err(TrainError::Pretraining { layer: depth, outcome: fitted.outcome });
    }
    errors.extend(fitted.history.series(names::TRAIN_LOSS));
    let layer = with_strategy(fitted.model.train().encoder, strategy);
    Ok((layer, LayerFit { errors, free_energy: Vec::new() }))
}

fn auto_encoder(
    encoder: Linear,
    activation: Activation,
    config: &DenoiseConfig,
    seed: Seed,
) -> AutoEncoder {
    let weight = encoder.weight.val();
    let ([inputs, outputs], options) = (weight.dims(), (&weight.device(), weight.dtype()));
    let decoder = (!config.tied).then(|| {
        let weight = Param::from_tensor(Tensor::zeros([outputs, inputs], options));
        initialize(Linear { weight, bias: None }, Scheme::XavierUniform, seed).weight
    });
    AutoEncoder {
        encoder,
        // It is the user's, and what is learned here is thrown away.
        activation: activation.no_grad(),
        decoder,
        offset: Param::from_tensor(Tensor::zeros([inputs], options)),
        noise: config.noise,
        reconstruction: config.reconstruction,
        masks: MaskSource::new(seed),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::super::{Pretraining, pretrain};
    use super::*;
    use burn::nn::{Identity, LeakyReluConfig, LinearConfig, PReluConfig, Sigmoid};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;

    /// Rows in a plane of six dimensions, and a little noise: the first two principal components leave `rest`.
    fn plane(device: &Device) -> (Tensor<2>, f64) {
        let mut stream = Seed(9).stream("plane");
        let (mut rows, mut rest) = (Vec::new(), 0.0);
        for _ in 0..400 {
            let (a, b) = (stream.normal(), stream.normal());
            // Two orthogonal directions, and noise across them.
            let row = [a, a, b, -b, 0.1 * stream.normal(), 0.1 * stream.normal()];
            rest += (row[4] * row[4] + row[5] * row[5]) / 6.0;
            rows.extend(row.map(|value| value as f32));
        }
        let inputs = Tensor::<1>::from_floats(rows.as_slice(), device).reshape([400, 6]);
        (inputs, rest / 400.0)
    }

    #[test]
    fn a_linear_auto_encoder_comes_to_the_principal_components() {
        for device in devices() {
            let device = device.autodiff();
            let (inputs, rest) = plane(&device);
            for tied in [false, true] {
                let layer: Linear = LinearConfig::new(6, 2).init(&device);
                let layers = initialize(vec![layer], Scheme::XavierUniform, Seed(4));
                let how = DenoiseConfig::new().with_noise(0.0).with_epochs(60).with_rate(0.01);
                let how = Pretraining::Denoise(how.with_tied(tied));
                let identity = Activation::Identity(Identity::new());
                let done =
                    pretrain(layers, &identity, inputs.clone(), &how, Seed(5)).expect("trains");
                let last = *done.fits[0].errors.last().expect("60 epochs");
                // No linear code of two numbers does better than the two components; Adam's steps of 0.01 keep it
                // a few hundredths above.
                assert!(last > 0.99 * rest && last < 1.2 * rest + 1e-3, "{tied} {last} {rest}");
                assert!(done.fits[0].errors[0] > 10.0 * last);
            }
        }
    }

    #[test]
    fn the_slope_of_the_activation_is_not_trained() {
        let device = Device::flex().autodiff();
        let errors = |activation: Activation| {
            let layer: Linear = LinearConfig::new(6, 4).init(&device);
            let layers = initialize(vec![layer], Scheme::XavierUniform, Seed(4));
            let how = DenoiseConfig::new().with_epochs(20).with_rate(0.01);
            let how = Pretraining::Denoise(how);
            let done = pretrain(layers, &activation, plane(&device).0, &how, Seed(5));
            done.expect("trains").fits.remove(0).errors
        };
        let learned = errors(PReluConfig::new().init(&device).into());
        let fixed = errors(LeakyReluConfig::new().with_negative_slope(0.25).init().into());
        for (learned, fixed) in learned.iter().zip(&fixed) {
            assert!((learned - fixed).abs() < 1e-4, "{learned} {fixed}");
        }
    }

    #[test]
    fn masked_inputs_are_filled_in_from_their_neighbours() {
        let device = Device::flex().autodiff();
        let inputs = super::super::tests::inputs(&device);
        let error = |noise: f64, reconstruction| {
            let layer: Linear = LinearConfig::new(6, 8).init(&device);
            let layers = initialize(vec![layer], Scheme::XavierUniform, Seed(4));
            let how = DenoiseConfig::new()
                .with_noise(noise)
                .with_epochs(200)
                .with_rate(0.02)
                .with_reconstruction(reconstruction);
            let sigmoid = Activation::Sigmoid(Sigmoid::new());
            let layer =
                pretrain(layers, &sigmoid, inputs.clone(), &Pretraining::Denoise(how), Seed(5));
            let layer = layer.expect("trains");
            *layer.fits[0].errors.last().expect("has epochs")
        };
        for reconstruction in [Reconstruction::Squared, Reconstruction::CrossEntropy] {
            // The element that is masked can be told from its copies: clean reconstruction stays good.
            let error = error(0.3, reconstruction);
            assert!(error < 0.05, "{reconstruction:?} {error}");
        }
    }
}
