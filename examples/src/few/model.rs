//! The network: two hidden layers with every noise that a recipe may ask for.

use crate::recipe::Recipe;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use firebrick::core::ConfigError;
use firebrick::prelude::*;
use firebrick::regularize::{
    GaussianDropout, GaussianDropoutConfig, InputNoise, InputNoiseConfig, InvertedDropout,
    MaskSource,
};
use firebrick::stabilize::{Scheme, initialize};

const HIDDEN: [usize; 2] = [128, 64];

/// A multi-layer perceptron; noise of probability 0 is none.
#[derive(Module, Debug)]
pub(crate) struct Net {
    noise: InputNoise,
    first: Linear,
    second: Linear,
    dropout: InvertedDropout,
    gaussian: GaussianDropout,
    output: Linear,
}

impl Net {
    /// A network whose weights and masks `seed` fixes.
    pub(crate) fn new(
        recipe: &Recipe,
        inputs: usize,
        classes: usize,
        seed: Seed,
        device: &Device,
    ) -> Result<Self, ConfigError> {
        let masks = MaskSource::new(seed);
        let net = Self {
            noise: InputNoiseConfig::new(recipe.noise).init(&masks)?,
            first: LinearConfig::new(inputs, HIDDEN[0]).init(device),
            second: LinearConfig::new(HIDDEN[0], HIDDEN[1]).init(device),
            dropout: InvertedDropoutConfig::new(recipe.dropout).init(&masks)?,
            gaussian: GaussianDropoutConfig::new(recipe.gaussian).init(&masks)?,
            output: LinearConfig::new(HIDDEN[1], classes).init(device),
        };
        Ok(initialize(net, Scheme::KaimingNormal, seed))
    }

    /// One logit a class for each row.
    pub(crate) fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let drop = |x| self.gaussian.forward(self.dropout.forward(x));
        let hidden = drop(relu(self.first.forward(self.noise.forward(inputs))));
        self.output.forward(drop(relu(self.second.forward(hidden))))
    }

    /// Weights and biases.
    pub(crate) fn parameters(inputs: usize, classes: usize) -> usize {
        let layer = |from: usize, to: usize| (from + 1) * to;
        layer(inputs, HIDDEN[0]) + layer(HIDDEN[0], HIDDEN[1]) + layer(HIDDEN[1], classes)
    }
}
