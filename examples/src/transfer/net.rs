//! The network: two convolutions, one dense layer, a head; 23,946 weights. What lies above the first convolution can
//! stand alone, so that what lies below a frozen border is computed once.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorReadError};
use firebrick::prelude::{Labelled, Learn, Seed};
use firebrick::stabilize::{Scheme, initialize};
use firebrick::train::Score;

use crate::data::CLASSES;

/// Outputs of the layer below the head.
const FEATURES: usize = 64;
/// How weights are drawn.
pub(crate) const SCHEME: Scheme = Scheme::KaimingNormal;

/// The first convolution.
#[derive(Module, Debug)]
pub(crate) struct Stem {
    conv: Conv2d,
}

impl Stem {
    /// From `[n, 1, 14, 14]` to `[n, 16, 7, 7]`.
    pub(crate) fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        relu(self.conv.forward(images))
    }
}

/// The second convolution and the dense layer.
#[derive(Module, Debug)]
pub(crate) struct Body {
    conv: Conv2d,
    dense: Linear,
}

impl Body {
    /// From `[n, 16, 7, 7]` to `[n, 64]`.
    pub(crate) fn forward(&self, maps: Tensor<4>) -> Tensor<2> {
        let maps = relu(self.conv.forward(maps));
        relu(self.dense.forward(maps.flatten::<2>(1, 3)))
    }
}

/// The whole.
#[derive(Module, Debug)]
pub(crate) struct Net {
    pub(crate) stem: Stem,
    pub(crate) body: Body,
    pub(crate) head: Linear,
}

impl Net {
    /// Fresh weights, fixed by `seed`.
    pub(crate) fn new(seed: Seed, device: &Device) -> Self {
        let conv = |from, to, edge| {
            let config = Conv2dConfig::new([from, to], [3, 3]).with_stride([2, 2]);
            config.with_padding(PaddingConfig2d::Explicit(edge, edge, edge, edge)).init(device)
        };
        let dense = LinearConfig::new(32 * 3 * 3, FEATURES).init(device);
        let net = Self {
            stem: Stem { conv: conv(1, 16, 1) },
            body: Body { conv: conv(16, 32, 0), dense },
            head: LinearConfig::new(FEATURES, CLASSES).init(device),
        };
        initialize(net, SCHEME, seed)
    }

    /// What the head sees.
    pub(crate) fn features(&self, images: Tensor<4>) -> Tensor<2> {
        self.body.forward(self.stem.forward(images))
    }

    /// One logit a class.
    pub(crate) fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.head.forward(self.features(images))
    }
}

/// All above the first convolution.
#[derive(Module, Debug)]
pub(crate) struct Upper {
    pub(crate) body: Body,
    pub(crate) head: Linear,
}

impl Upper {
    /// One logit a class from the first convolution's maps.
    fn logits(&self, maps: Tensor<4>) -> Tensor<2> {
        self.head.forward(self.body.forward(maps))
    }
}

/// The mean cross-entropy.
fn loss(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets)
}

impl Learn for Net {
    type Batch = Labelled<4>;

    fn loss(&self, batch: Labelled<4>) -> Tensor<1> {
        loss(self.logits(batch.inputs), batch.targets)
    }

    fn score(&self, batch: Labelled<4>) -> Result<Score, TensorReadError> {
        Score::classification(self.logits(batch.inputs), batch.targets)
    }
}

impl Learn for Upper {
    type Batch = Labelled<4>;

    fn loss(&self, batch: Labelled<4>) -> Tensor<1> {
        loss(self.logits(batch.inputs), batch.targets)
    }

    fn score(&self, batch: Labelled<4>) -> Result<Score, TensorReadError> {
        Score::classification(self.logits(batch.inputs), batch.targets)
    }
}
