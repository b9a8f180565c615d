//! The bottleneck adapter: a small residual layer between those of a frozen model.
//!
//! # Formula
//! ```text
//! y = x + act(x D + d) U + u            D [width, bottleneck], U [bottleneck, width], both near 0 at first
//! ```
//! # Reference
//! N. Houlsby et al., "Parameter-efficient transfer learning for NLP", ICML 2019.

use crate::TransferError;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};
use firebrick_core::{Seed, check};
use firebrick_stabilize::{Distribution, Initialize, Scheme};

/// Configuration of [`Bottleneck`].
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `width` | required | at least 1 |
/// | `bottleneck` | 64 | at least 1 |
/// | `deviation` | 1e-3 | `[0, inf)`; of the initial weights |
#[derive(Config, Debug)]
pub struct BottleneckConfig {
    /// Width of what it stands on.
    pub width: usize,
    /// Width between its two layers.
    #[config(default = 64)]
    pub bottleneck: usize,
    /// Standard deviation of the initial weights; the output is then close to the input.
    #[config(default = 1e-3)]
    pub deviation: f64,
}

impl BottleneckConfig {
    /// The layer.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn init(&self, seed: Seed, device: &Device) -> Result<Bottleneck, TransferError> {
        check::at_least("width", self.width, 1)?;
        check::at_least("bottleneck", self.bottleneck, 1)?;
        let deviation = check::non_negative("deviation", self.deviation)?;
        let layer = Bottleneck {
            down: LinearConfig::new(self.width, self.bottleneck).init(device),
            up: LinearConfig::new(self.bottleneck, self.width).init(device),
        };
        let scheme = match deviation {
            0.0 => Scheme::Constant { value: 0.0 },
            _ => Scheme::Fixed { deviation, distribution: Distribution::Normal },
        };
        Ok(Initialize::new(seed).weights(scheme).apply(layer)?)
    }
}

/// [`x + gelu(x D + d) U + u`](self), for a field behind a frozen layer.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_transfer::BottleneckConfig;
///
/// let device = Device::flex();
/// let layer = BottleneckConfig::new(16).with_bottleneck(4).with_deviation(0.0).init(Seed(1), &device)?;
/// let x = Tensor::<3>::ones([2, 5, 16], &device);
/// assert_eq!(layer.forward(x.clone()).into_data(), x.into_data());
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
#[derive(Module, Debug)]
pub struct Bottleneck {
    down: Linear,
    up: Linear,
}

impl Bottleneck {
    /// Adapts `[.., width]`.
    #[must_use]
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        input.clone() + self.up.forward(gelu(self.down.forward(input)))
    }
}
