//! A small classifier and data for it, the same on every device.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorReadError};
use burn::train::ClassificationOutput;
use firebrick::prelude::*;
use firebrick::regularize::{InvertedDropout, MaskSource};
use firebrick::stabilize::{Scheme, initialize};
use firebrick::train::Score;

#[derive(Module, Debug)]
pub(crate) struct Net {
    pub(crate) first: Linear,
    norm: BatchNorm,
    dropout: InvertedDropout,
    pub(crate) last: Linear,
}

impl Net {
    pub(crate) fn new(device: &Device) -> Self {
        let net = Self {
            first: LinearConfig::new(8, 32).init(device),
            norm: BatchNormConfig::new(32).init(device),
            dropout: InvertedDropoutConfig::new(0.2)
                .init(&MaskSource::new(Seed(3)))
                .expect("valid"),
            last: LinearConfig::new(32, 3).init(device),
        };
        initialize(net, Scheme::KaimingNormal, Seed(3))
    }

    pub(crate) fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let hidden = relu(self.norm.forward(self.first.forward(inputs)));
        self.last.forward(self.dropout.forward(hidden))
    }

    /// All weights of the two linear layers, for comparison.
    pub(crate) fn weights(&self) -> Vec<f64> {
        let mut weights: Vec<f64> = self.first.weight.val().try_to_vec_as().expect("reads");
        weights.extend(self.last.weight.val().try_to_vec_as::<f64>().expect("reads"));
        weights
    }
}

impl Learn for Net {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        cross_entropy(self.forward(batch.inputs), batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.forward(batch.inputs), batch.targets)
    }
}

/// The loss of all these tests.
pub(crate) fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets)
}

/// Logits and their loss, as the Learner takes them.
pub(crate) fn classified(logits: Tensor<2>, targets: Tensor<1, Int>) -> ClassificationOutput {
    let loss = cross_entropy(logits.clone(), targets.clone());
    ClassificationOutput::new(loss, logits, targets)
}

/// `n` samples of three classes around three centres, from the pinned generator.
pub(crate) fn data(n: usize, device: &Device) -> Labelled<2> {
    let mut stream = Seed(11).stream("data");
    let centres: Vec<f64> = (0..24).map(|_| stream.normal()).collect();
    let mut inputs = Vec::with_capacity(n * 8);
    for row in 0..n {
        let centre = &centres[row % 3 * 8..][..8];
        inputs.extend(centre.iter().map(|x| (x + 0.8 * stream.normal()) as f32));
    }
    let targets: Vec<i32> = (0..n).map(|row| (row % 3) as i32).collect();
    Labelled {
        inputs: Tensor::<1>::from_floats(inputs.as_slice(), device).reshape([n, 8]),
        targets: Tensor::<1, Int>::from_ints(targets.as_slice(), device),
    }
}
