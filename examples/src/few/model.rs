//! The network: two hidden layers with every noise that a recipe may ask for.

use crate::recipe::{Body, Piece, Recipe};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{gelu, relu, selu};
use burn::tensor::{Device, Tensor};
use firebrick::core::ConfigError;
use firebrick::prelude::*;
use firebrick::regularize::{
    AlphaDropout, AlphaDropoutConfig, ConcreteDropout, ConcreteDropoutConfig, DropBlock,
    DropBlockConfig, DropConnect, DropConnectConfig, DropPath, DropPathConfig, GaussianDropout,
    GaussianDropoutConfig, InputNoise, InputNoiseConfig, InvertedDropout, MaskSource,
};
use firebrick::stabilize::{Scheme, initialize};
use std::convert::Infallible;

const HIDDEN: usize = 128;
/// Where hidden states may be changed from outside: the input and the two hidden layers.
pub(crate) const PLACES: usize = 3;

/// A multi-layer perceptron; noise of probability 0 is none.
#[derive(Module, Debug)]
pub(crate) struct Net {
    noise: InputNoise,
    block: DropBlock,
    first: Linear,
    second: Linear,
    dropout: InvertedDropout,
    gaussian: GaussianDropout,
    alpha: AlphaDropout,
    /// One a hidden layer, or none.
    concrete: Vec<ConcreteDropout>,
    path: DropPath,
    output: DropConnect,
    #[module(skip)]
    body: Body,
}

impl Net {
    /// A network for images of `inputs` pixels and `samples` rows with labels, whose weights `seed` fixes and whose masks
    /// come from `masks`.
    pub(crate) fn new(
        recipe: &Recipe,
        [inputs, classes, samples]: [usize; 3],
        seed: Seed,
        masks: &MaskSource,
        device: &Device,
    ) -> Result<Self, ConfigError> {
        let of = |pick: fn(Piece) -> Option<f64>| recipe.find(pick).unwrap_or(0.0);
        let noise = of(|piece| if let Piece::InputNoise(std) = piece { Some(std) } else { None });
        let block = of(|piece| if let Piece::DropBlock(p) = piece { Some(p) } else { None });
        let gaussian = of(|piece| if let Piece::Gaussian(p) = piece { Some(p) } else { None });
        let alpha = of(|piece| if let Piece::Alpha(p) = piece { Some(p) } else { None });
        let path = of(|piece| if let Piece::DropPath(p) = piece { Some(p) } else { None });
        let connect = of(|piece| if let Piece::DropConnect(p) = piece { Some(p) } else { None });
        let dropout = of(|piece| match piece {
            Piece::Dropout(p)
            | Piece::Curriculum(p)
            | Piece::EarlyDropout(p)
            | Piece::LateDropout(p) => Some(p),
            _ => None,
        });
        let concrete =
            recipe.find(|piece| if let Piece::Concrete(p) = piece { Some(p) } else { None });
        let concrete: Result<Vec<ConcreteDropout>, ConfigError> =
            concrete.map_or(Ok(Vec::new()), |prob| {
                let config = ConcreteDropoutConfig::new(samples).with_prob(prob);
                (0..2).map(|_| config.init(masks, device)).collect()
            });
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let connect = DropConnectConfig::new().with_prob(connect);
        let net = Self {
            noise: InputNoiseConfig::new(noise).init(masks)?,
            block: DropBlockConfig::new(block).with_block_size(3).init(masks)?,
            first: linear(inputs, HIDDEN),
            second: linear(HIDDEN, HIDDEN),
            dropout: InvertedDropoutConfig::new(dropout).init(masks)?,
            gaussian: GaussianDropoutConfig::new(gaussian).init(masks)?,
            alpha: AlphaDropoutConfig::new(alpha).init(masks)?,
            concrete: concrete?,
            path: DropPathConfig::new(path).init(masks)?,
            output: connect.init(linear(HIDDEN, classes), masks)?,
            body: recipe.body(),
        };
        let scheme = match net.body {
            Body::Selu => Scheme::LecunNormal,
            Body::Relu | Body::Residual | Body::Gelu => Scheme::KaimingNormal,
        };
        Ok(initialize(net, scheme, seed))
    }

    /// One logit a class for each row.
    pub(crate) fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let Ok(logits) = self.through(inputs, |_, hidden| Ok::<_, Infallible>(hidden));
        logits
    }

    /// The same, with what `at` makes of the state at each of the [`PLACES`].
    pub(crate) fn through<E>(
        &self,
        inputs: Tensor<2>,
        mut at: impl FnMut(usize, Tensor<2>) -> Result<Tensor<2>, E>,
    ) -> Result<Tensor<2>, E> {
        let inputs = at(0, inputs)?;
        let first = at(1, self.active(self.first.forward(self.noisy(inputs))))?;
        let first = self.dropped(0, first);
        let branch = self.active(self.second.forward(first.clone()));
        let second = match self.body {
            Body::Residual => first + self.path.forward(branch),
            Body::Relu | Body::Gelu | Body::Selu => branch,
        };
        Ok(self.output.forward(self.dropped(1, at(2, second)?)))
    }

    fn noisy(&self, inputs: Tensor<2>) -> Tensor<2> {
        let shape = inputs.dims();
        let images = self.block.forward(as_images(self.noise.forward(inputs)));
        images.reshape(shape)
    }

    fn active(&self, hidden: Tensor<2>) -> Tensor<2> {
        match self.body {
            Body::Relu | Body::Residual => relu(hidden),
            Body::Gelu => gelu(hidden),
            Body::Selu => selu(hidden),
        }
    }

    fn dropped(&self, layer: usize, hidden: Tensor<2>) -> Tensor<2> {
        let hidden = self.gaussian.forward(self.alpha.forward(self.dropout.forward(hidden)));
        match self.concrete.get(layer) {
            Some(concrete) => concrete.forward(hidden),
            None => hidden,
        }
    }

    /// What concrete dropout adds to the loss; nothing without it.
    pub(crate) fn concrete_term(&self) -> Option<Tensor<1>> {
        let weights = [&self.second.weight, &self.output.linear.weight];
        let each = self.concrete.iter().zip(weights);
        each.map(|(concrete, weight)| concrete.term(weight.val(), HIDDEN)).reduce(|a, b| a + b)
    }

    /// Weights and biases.
    pub(crate) fn parameters(inputs: usize, classes: usize) -> usize {
        let layer = |from: usize, to: usize| (from + 1) * to;
        layer(inputs, HIDDEN) + layer(HIDDEN, HIDDEN) + layer(HIDDEN, classes)
    }
}

/// Rows of pixels as square images of one channel.
pub(crate) fn as_images(rows: Tensor<2>) -> Tensor<4> {
    let [n, pixels] = rows.dims();
    let side = pixels.isqrt();
    rows.reshape([n, 1, side, side])
}
