//! A layer as a restricted Boltzmann machine, trained by contrastive divergence with one step (CD-1).
//!
//! # Rule
//! ```text
//! h = s(v W + c);  v' = s(sample(h) W^T + b);  h' = s(v' W + c)          s: the sigmoid
//! dW <- m dW + rate ((v^T h - v'^T h') / n - decay W)                    likewise b by v - v', c by h - h'
//! F(v) = -v b - sum_j ln(1 + exp(v W + c))_j                             free energy
//! ```
//! Momentum `m` is 0.5 for five epochs and 0.9 after. Inputs are in [0, 1] and taken as probabilities.
//!
//! # Reference
//! G. Hinton, "Training products of experts by minimizing contrastive divergence", 2002; "A practical guide to training
//! restricted Boltzmann machines", 2010.

use super::denoise::Rows;
use super::{LayerFit, put};
use crate::{Outcome, TrainError};
use burn::config::Config;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, softplus};
use firebrick_backend::widened;
use firebrick_core::{ConfigError, Philox, Seed, check};

/// Configuration of a restricted Boltzmann machine.
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `epochs` | 10 | at least 1 |
/// | `batch_size` | 32 | at least 1 |
/// | `rate` | 0.05; 0.01 to 0.1 are usual | above 0 |
/// | `decay` | 1e-4 | at least 0 |
/// | `held_out` | 0.1 | [0, 1) |
#[derive(Config, Debug)]
pub struct RbmConfig {
    /// Passes over the inputs, for each layer.
    #[config(default = 10)]
    pub epochs: usize,
    /// Samples of a step.
    #[config(default = 32)]
    pub batch_size: usize,
    /// The learning rate.
    #[config(default = 0.05)]
    pub rate: f64,
    /// The L2 decay of the weights.
    #[config(default = 1e-4)]
    pub decay: f64,
    /// The share of the inputs, the last ones, that is not trained on: the gap of the free energies tells over-fitting.
    #[config(default = 0.1)]
    pub held_out: f64,
}

impl RbmConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check::at_least("epochs", self.epochs, 1)?;
        check::at_least("batch_size", self.batch_size, 1)?;
        check::positive("rate", self.rate)?;
        check::non_negative("decay", self.decay)?;
        check::range("held_out", self.held_out, 0.0..1.0)?;
        Ok(())
    }
}

/// The mean free energy of what was trained on and of what was held out; a gap that grows is over-fitting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FreeEnergy {
    /// Of the trained inputs.
    pub trained: f64,
    /// Of the others; `None` where none was held out.
    pub held_out: Option<f64>,
}

impl FreeEnergy {
    /// How much higher the free energy of what was held out is.
    #[must_use]
    pub fn gap(&self) -> Option<f64> {
        self.held_out.map(|held_out| held_out - self.trained)
    }
}

/// A machine and the speeds of its momentum, on a plain device.
struct Machine {
    weight: Tensor<2>,
    /// Of the visible units.
    visible: Tensor<1>,
    hidden: Tensor<1>,
    speeds: (Tensor<2>, Tensor<1>, Tensor<1>),
    /// Whether the weight and the hidden bias move.
    trains: (bool, bool),
}

impl Machine {
    fn up(&self, visible: Tensor<2>) -> Tensor<2> {
        sigmoid(visible.matmul(self.weight.clone()) + self.hidden.clone().unsqueeze())
    }

    fn down(&self, hidden: Tensor<2>) -> Tensor<2> {
        sigmoid(hidden.matmul(self.weight.clone().transpose()) + self.visible.clone().unsqueeze())
    }

    fn step(&mut self, data: Tensor<2>, config: &RbmConfig, momentum: f64, stream: &mut Philox) {
        let samples = data.dims()[0] as f64;
        let hidden = self.up(data.clone());
        let fantasy = self.down(sample(&hidden, stream));
        let hidden_after = self.up(fantasy.clone());
        let mean = |sum: Tensor<2>| sum.mean_dim(0).squeeze_dim::<1>(0);
        let product = |visible: Tensor<2>, hidden: Tensor<2>| visible.transpose().matmul(hidden);
        let weight = (product(data.clone(), hidden.clone())
            - product(fantasy.clone(), hidden_after.clone()))
            / samples
            - self.weight.clone() * config.decay;
        let (w, v, h) = &mut self.speeds;
        *w = w.clone() * momentum + weight * config.rate;
        *v = v.clone() * momentum + mean(data - fantasy) * config.rate;
        *h = h.clone() * momentum + mean(hidden - hidden_after) * config.rate;
        if self.trains.0 {
            self.weight = self.weight.clone() + w.clone();
        }
        self.visible = self.visible.clone() + v.clone();
        if self.trains.1 {
            self.hidden = self.hidden.clone() + h.clone();
        }
    }

    /// The mean squared error of the reconstruction from the hidden probabilities.
    fn error(&self, data: &Tensor<2>) -> Result<f64, TrainError> {
        let output = self.down(self.up(data.clone()));
        Ok((output - data.clone()).square().mean().try_into_scalar::<f64>()?)
    }

    fn free_energy(&self, data: &Tensor<2>) -> Result<f64, TrainError> {
        let field = (data.clone() * self.visible.clone().unsqueeze()).sum_dim(1);
        let inner = data.clone().matmul(self.weight.clone()) + self.hidden.clone().unsqueeze();
        let energy = field + softplus(inner, 1.0).sum_dim(1);
        Ok(-energy.mean().try_into_scalar::<f64>()?)
    }
}

/// Ones with these probabilities, zeros else.
fn sample(probabilities: &Tensor<2>, stream: &mut Philox) -> Tensor<2> {
    let draws: Vec<f32> =
        (0..probabilities.shape().num_elements()).map(|_| stream.uniform() as f32).collect();
    let (dtype, wide) = (probabilities.dtype(), widened(probabilities.clone()));
    let draws = Tensor::<1>::from_data(draws.as_slice(), (&wide.device(), wide.dtype()));
    draws.reshape(wide.dims()).lower(wide).float().cast(dtype)
}

/// Trains `layer`, number `depth`, as a machine over `inputs`.
pub(super) fn train(
    layer: Linear,
    depth: usize,
    inputs: Tensor<2>,
    config: &RbmConfig,
    seed: Seed,
) -> Result<(Linear, LayerFit), TrainError> {
    let samples = inputs.dims()[0];
    let held_out = ((samples as f64 * config.held_out) as usize).min(samples - 1);
    let trained = samples - held_out;
    let data = inputs.clone().narrow(0, 0, trained);
    let rest = (held_out > 0).then(|| inputs.narrow(0, trained, held_out));
    let train = Rows { inputs: data.clone(), batch_size: config.batch_size, seed };
    let weight = layer.weight.val().inner();
    let [inputs, outputs] = weight.dims();
    let options = (&weight.device(), weight.dtype());
    let visible = Tensor::zeros([inputs], options);
    let hidden = match &layer.bias {
        Some(bias) => bias.val().inner(),
        None => Tensor::zeros([outputs], options),
    };
    let speeds = (weight.zeros_like(), visible.zeros_like(), hidden.zeros_like());
    let trains = (
        layer.weight.is_require_grad(),
        layer.bias.as_ref().is_none_or(|bias| bias.is_require_grad()),
    );
    let mut machine = Machine { weight, visible, hidden, speeds, trains };
    let mut stream = seed.stream("hidden units");
    let mut fit = LayerFit { errors: vec![machine.error(&data)?], free_energy: Vec::new() };
    for epoch in 1..=config.epochs {
        let momentum = if epoch <= 5 { 0.5 } else { 0.9 };
        for batch in train.epoch(epoch, 0) {
            machine.step(batch, config, momentum, &mut stream);
        }
        let error = machine.error(&data)?;
        if !error.is_finite() {
            return Err(TrainError::Pretraining { layer: depth, outcome: Outcome::Diverged });
        }
        fit.errors.push(error);
        let held_out = rest.as_ref().map(|rest| machine.free_energy(rest)).transpose()?;
        fit.free_energy.push(FreeEnergy { trained: machine.free_energy(&data)?, held_out });
    }
    let Machine { weight, hidden, .. } = machine;
    let Linear { weight: old, bias } = layer;
    let layer = Linear { weight: put(old, weight), bias: bias.map(|bias| put(bias, hidden)) };
    Ok((layer, fit))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;

    fn machine(device: &Device, weight: [[f32; 2]; 3]) -> Machine {
        let weight = Tensor::<2>::from_floats(weight, device);
        let (visible, hidden) = (Tensor::zeros([3], device), Tensor::zeros([2], device));
        let speeds = (weight.zeros_like(), visible.zeros_like(), hidden.zeros_like());
        Machine { weight, visible, hidden, speeds, trains: (true, true) }
    }

    #[test]
    fn one_step_is_the_rule_where_nothing_is_left_to_chance() {
        // Fields of 60: the hidden units are on or off for certain, and the fantasy is known.
        for device in devices() {
            let mut machine = machine(&device, [[60.0, -60.0], [0.0, 60.0], [0.0, 0.0]]);
            let data = Tensor::<2>::from_floats([[1.0, 0.0, 0.25]], &device);
            let config = RbmConfig::new().with_rate(1.0).with_decay(0.5);
            machine.step(data, &config, 0.5, &mut Seed(1).stream("test"));
            // h = (1, 0); v' = s(60, 0, 0) = (1, 1/2, 1/2); h' = s(60, -60 + 30) = (1, 0).
            let read = |tensor: Tensor<1>| tensor.try_to_vec_as::<f64>().expect("reads");
            let weight = read(machine.weight.reshape([6]));
            // v h - v' h' = (0, -1/2, -1/4) for the first unit, 0 for the second; less half of the weight.
            let expected = [30.0, -30.0, -0.5, 30.0, -0.25, 0.0];
            for (weight, expected) in weight.iter().zip(expected) {
                assert!((weight - expected).abs() < 1e-4, "{weight} {expected}");
            }
            for (bias, expected) in read(machine.visible).into_iter().zip([0.0, -0.5, -0.25]) {
                assert!((bias - expected).abs() < 1e-6);
            }
            assert!(read(machine.hidden).iter().all(|bias| bias.abs() < 1e-6));
        }
    }

    /// The mean log likelihood, by the free energies of all 2^6 visible states.
    fn likelihood(machine: &Machine, data: &Tensor<2>) -> f64 {
        let states: Vec<f32> =
            (0..64).flat_map(|state| (0..6).map(move |bit| (state >> bit & 1) as f32)).collect();
        let all = Tensor::<1>::from_floats(states.as_slice(), &data.device()).reshape([64, 6]);
        let partition: f64 = (0..64)
            .map(|row| {
                let state = all.clone().narrow(0, row, 1);
                (-machine.free_energy(&state).expect("reads")).exp()
            })
            .sum();
        -machine.free_energy(data).expect("reads") - partition.ln()
    }

    #[test]
    fn the_exact_likelihood_rises_above_that_of_independent_units() {
        let device = Device::flex();
        let data = super::super::tests::inputs(&device.clone().autodiff()).inner();
        let mut stream = Seed(3).stream("weights");
        let weight: Vec<f32> = (0..18).map(|_| 0.1 * stream.normal() as f32).collect();
        let weight = Tensor::<1>::from_floats(weight.as_slice(), &device).reshape([6, 3]);
        let (visible, hidden) = (Tensor::zeros([6], &device), Tensor::zeros([3], &device));
        let speeds = (weight.zeros_like(), visible.zeros_like(), hidden.zeros_like());
        let trains = (true, true);
        let mut machine = Machine { weight, visible, hidden, speeds, trains };
        let config = RbmConfig::new().with_rate(0.1).with_decay(0.0);
        // Not to the end: CD-1 follows no gradient of the likelihood, and later gives it up for the reconstruction.
        for _ in 0..200 {
            machine.step(data.clone(), &config, 0.5, &mut stream);
        }
        // The entropy of the units taken apart, from their means: 1/2 four times, 1/3 twice.
        let half = 0.5f64.ln();
        let third = (1.0f64 / 3.0).ln() / 3.0 + 2.0 / 3.0 * (2.0f64 / 3.0).ln();
        let independent = 4.0 * half + 2.0 * third;
        let learned = likelihood(&machine, &data);
        // The two patterns have an entropy of ln 2 + 0.64 = 1.33 nats: more cannot be reached.
        assert!(learned > independent + 0.8 && learned < -1.32, "{learned} {independent}");
    }
}
