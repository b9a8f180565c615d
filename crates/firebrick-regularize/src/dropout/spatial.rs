//! Spatial dropout: whole feature maps.
//!
//! # Formula
//! ```text
//! y[n, c, ...] = m[n, c] / (1 - p) * x[n, c, ...]      P(m = 0) = p
//! ```
//! Neighbours in a feature map are correlated, so dropping single positions hardly regularizes.
//!
//! # Reference
//! J. Tompson, R. Goroshin, A. Jain, Y. LeCun, C. Bregler, "Efficient object localization using convolutional
//! networks", CVPR 2015.
//!
//! # Differences
//! PyTorch's `Dropout2d` reads a tensor of three axes as one sample without a batch axis; here the first axis
//! is always the batch, whatever the rank, so the one layer stands for `Dropout1d`, `2d` and `3d`.

use super::{Noise, masked};
use crate::MaskSource;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use firebrick_core::ConfigError;
use serde::{Deserialize, Serialize};

/// Where the channels of a batch stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Channels {
    /// On axis 1, as in images `[n, c, h, w]`.
    First,
    /// On the last axis, as in sequences `[n, t, c]`.
    Last,
}

/// Configuration of [`SpatialDropout`].
#[derive(Config, Debug)]
pub struct SpatialDropoutConfig {
    /// Probability of zeroing a channel, in [0, 1); 0.1 to 0.3 are usual.
    pub prob: f64,
    /// Where the channels stand.
    #[config(default = "Channels::First")]
    pub channels: Channels,
}

impl SpatialDropoutConfig {
    /// Checks the probability and builds the layer.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or NaN.
    pub fn init(&self, masks: &MaskSource) -> Result<SpatialDropout, ConfigError> {
        let noise = Noise::new("prob", self.prob, masks)?;
        Ok(SpatialDropout { noise, last: self.channels == Channels::Last })
    }
}

/// Zeroes whole channels of a sample while training.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, SpatialDropoutConfig};
///
/// let layer = SpatialDropoutConfig::new(0.5).init(&MaskSource::new(Seed(7)))?;
/// let images = Tensor::<4>::ones([2, 8, 5, 5], &Device::flex().autodiff());
/// let sums: Vec<f32> = layer.forward(images).sum_dim(3).sum_dim(2).try_to_vec_as().unwrap();
/// assert!(sums.iter().all(|&sum| sum == 0.0 || sum == 50.0));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct SpatialDropout {
    noise: Noise,
    last: bool,
}

impl SpatialDropout {
    /// Applies it to a batch of any rank; with one axis every element is its own channel.
    #[must_use]
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let Some(prob) = self.noise.active(&input.device()) else { return input };
        let mut shape = input.dims();
        let channel = if self.last { D.saturating_sub(1) } else { 1 };
        for (axis, length) in shape.iter_mut().enumerate() {
            if axis != 0 && axis != channel {
                *length = 1;
            }
        }
        masked(input, shape, prob, &self.noise.masks)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    #[test]
    fn channels_live_or_die_whole_and_independently() {
        for device in devices() {
            let (n, c, area) = (1000usize, 1000usize, 2 * 2usize);
            let layer = SpatialDropoutConfig::new(0.2).init(&MaskSource::new(Seed(1)));
            let layer = layer.expect("valid");
            let ones = Tensor::<4>::ones([n, c, 2, 2], &device.autodiff());
            let output: Vec<f32> = layer.forward(ones).try_to_vec_as().expect("reads");
            let kept: Vec<bool> = output
                .chunks(area)
                .map(|map| {
                    assert!(map.iter().all(|&unit| unit == map[0]));
                    assert!(map[0] == 0.0 || (map[0] - 1.25).abs() < 1e-6);
                    map[0] > 0.0
                })
                .collect();
            let total = (n * c) as f64;
            let share = kept.iter().filter(|&&k| k).count() as f64 / total;
            assert!((share - 0.8).abs() < 5.0 * (0.16 / total).sqrt(), "{share}");
            // Neighbouring channels and neighbouring samples: correlation within five standard errors of 0.
            for lag in [1, c] {
                let both = kept.iter().zip(&kept[lag..]).filter(|&(&a, &b)| a && b).count() as f64;
                let pairs = total - lag as f64;
                let excess = both / pairs - share * share;
                assert!(excess.abs() < 5.0 * 0.16 / pairs.sqrt(), "lag {lag}: {excess}");
            }
        }
    }

    #[test]
    fn the_gradient_of_a_dropped_channel_is_zero() {
        for device in devices() {
            let layer = SpatialDropoutConfig::new(0.5).init(&MaskSource::new(Seed(4)));
            let input = Tensor::<4>::ones([8, 8, 2, 3], &device.autodiff()).require_grad();
            let output = layer.expect("valid").forward(input.clone());
            let gradient = input.grad(&output.clone().sum().backward()).expect("has one");
            let gradient: Vec<f32> = gradient.try_to_vec_as().expect("reads");
            // The input is 1, so the output is the mask.
            assert_eq!(gradient, output.try_to_vec_as::<f32>().expect("reads"));
            assert!(gradient.contains(&0.0) && gradient.contains(&2.0));
        }
    }

    #[test]
    fn channels_last_drop_one_feature_over_time() {
        let layer = SpatialDropoutConfig::new(0.5)
            .with_channels(Channels::Last)
            .init(&MaskSource::new(Seed(2)))
            .expect("valid");
        let device = Device::flex().autodiff();
        let output = layer.forward(Tensor::<3>::ones([4, 7, 6], &device));
        let sums: Vec<f32> = output.sum_dim(1).try_to_vec_as().expect("reads");
        assert!(sums.iter().all(|&sum| sum == 0.0 || sum == 14.0), "{sums:?}");
        assert!(sums.contains(&0.0) && sums.contains(&14.0));
        assert_eq!(layer.forward(Tensor::<1>::ones([5], &device)).dims(), [5]);
        assert_eq!(layer.forward(Tensor::<3>::ones([0, 7, 6], &device)).dims(), [0, 7, 6]);
    }

    #[test]
    fn evaluation_is_the_identity_and_training_comes_back() {
        let device = Device::flex().autodiff();
        let layer = SpatialDropoutConfig::new(0.5).init(&MaskSource::new(Seed(2))).expect("valid");
        let ones = || Tensor::<3>::ones([8, 8, 2], &device);
        let read = |tensor: Tensor<3>| tensor.try_to_vec_as::<f32>().expect("reads");
        assert_eq!(read(layer.valid().forward(ones())), [1.0; 128]);
        assert!(read(layer.valid().train().forward(ones())).contains(&0.0));
        assert!(SpatialDropoutConfig::new(1.0).init(&MaskSource::new(Seed(0))).is_err());
    }
}
