//! The network: two convolutions, one dense layer, a head; 23,946 weights. In two halves, so that what lies below a
//! frozen border is computed once.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};
use firebrick::prelude::Seed;
use firebrick::stabilize::{Scheme, initialize};

use crate::data::CLASSES;

/// Outputs of the layer below the head.
pub(crate) const FEATURES: usize = 64;

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

/// All from the second convolution on.
#[derive(Module, Debug)]
pub(crate) struct Upper {
    conv: Conv2d,
    dense: Linear,
    pub(crate) head: Linear,
}

impl Upper {
    /// From `[n, 16, 7, 7]` to `[n, 64]`.
    pub(crate) fn features(&self, maps: Tensor<4>) -> Tensor<2> {
        let maps = relu(self.conv.forward(maps));
        relu(self.dense.forward(maps.flatten::<2>(1, 3)))
    }
}

/// The whole.
#[derive(Module, Debug)]
pub(crate) struct Net {
    pub(crate) stem: Stem,
    pub(crate) upper: Upper,
}

impl Net {
    /// Fresh weights, fixed by `seed`.
    pub(crate) fn new(seed: Seed, device: &Device) -> Self {
        let conv = |from, to, edge| {
            let config = Conv2dConfig::new([from, to], [3, 3]).with_stride([2, 2]);
            config.with_padding(PaddingConfig2d::Explicit(edge, edge, edge, edge)).init(device)
        };
        let net = Self {
            stem: Stem { conv: conv(1, 16, 1) },
            upper: Upper {
                conv: conv(16, 32, 0),
                dense: LinearConfig::new(32 * 3 * 3, FEATURES).init(device),
                head: LinearConfig::new(FEATURES, CLASSES).init(device),
            },
        };
        initialize(net, Scheme::KaimingNormal, seed)
    }

    /// The same with a fresh head.
    pub(crate) fn with_head(mut self, seed: Seed, device: &Device) -> Self {
        self.upper.head = Self::new(seed, device).upper.head;
        self
    }
}

/// What can be trained: the whole net on images, or its upper half on the maps of a frozen stem.
pub(crate) trait Classifier: Module {
    /// One logit a class.
    fn logits(&self, inputs: Tensor<4>) -> Tensor<2>;

    /// Path of the head's parameters.
    const HEAD: &'static str;

    /// The mean cross-entropy.
    fn loss(&self, inputs: Tensor<4>, targets: Tensor<1, Int>) -> Tensor<1> {
        let logits = self.logits(inputs);
        CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets)
    }
}

impl Classifier for Net {
    const HEAD: &'static str = r"^upper\.head\.";

    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.upper.logits(self.stem.forward(images))
    }
}

impl Classifier for Upper {
    const HEAD: &'static str = r"^head\.";

    fn logits(&self, maps: Tensor<4>) -> Tensor<2> {
        self.head.forward(self.features(maps))
    }
}
