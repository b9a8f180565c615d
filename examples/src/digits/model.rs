//! The network of a candidate: a multi-layer perceptron with ReLU and dropout.

use crate::candidate::Candidate;
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorReadError};
use firebrick::core::ConfigError;
use firebrick::prelude::*;
use firebrick::regularize::{InvertedDropout, MaskSource};
use firebrick::stabilize::{Scheme, initialize};
use firebrick::train::Score;

/// Hidden layers of one width, then one logit a class.
#[derive(Module, Debug)]
pub(crate) struct Net {
    hidden: Vec<Linear>,
    dropout: InvertedDropout,
    output: Linear,
    smoothing: f64,
}

impl Net {
    /// The candidate's network with weights and dropout masks that `seed` fixes.
    pub(crate) fn new(
        candidate: &Candidate,
        inputs: usize,
        classes: usize,
        seed: Seed,
        device: &Device,
    ) -> Result<Self, ConfigError> {
        let mut width = inputs;
        let mut hidden = Vec::with_capacity(candidate.depth);
        for _ in 0..candidate.depth {
            hidden.push(LinearConfig::new(width, candidate.width).init(device));
            width = candidate.width;
        }
        let net = Self {
            hidden,
            dropout: InvertedDropoutConfig::new(candidate.dropout).init(&MaskSource::new(seed))?,
            output: LinearConfig::new(width, classes).init(device),
            smoothing: candidate.smoothing,
        };
        Ok(initialize(net, Scheme::KaimingNormal, seed))
    }

    /// One logit a class for each row of `inputs`.
    pub(crate) fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let layer = |x, layer: &Linear| self.dropout.forward(relu(layer.forward(x)));
        self.output.forward(self.hidden.iter().fold(inputs, layer))
    }
}

impl Learn for Net {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        let logits = self.forward(batch.inputs);
        let smoothing = (self.smoothing > 0.0).then_some(self.smoothing as f32);
        let loss = CrossEntropyLossConfig::new().with_smoothing(smoothing);
        loss.init(&logits.device()).forward(logits, batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.forward(batch.inputs), batch.targets)
    }
}
