//! DropPath, or stochastic depth: drops the residual branch of whole samples.
//!
//! # Formula
//! ```text
//! y = x + branch(x) * m[n] / (1 - p)     P(m = 0) = p, one m for each sample
//! p_l = p_max * l / (L - 1)              linear rule: block 0 never, the last block with p_max
//! ```
//! The original paper scales at test time instead; the expectation is the same.
//!
//! # Reference
//! G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Q. Weinberger, "Deep networks with stochastic depth", ECCV 2016; G.
//! Larsson, M. Maire, G. Shakhnarovich, "FractalNet", ICLR 2017.

use super::{Noise, masked};
use crate::MaskSource;
use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [`DropPath`].
#[derive(Config, Debug)]
pub struct DropPathConfig {
    /// Probability of dropping the branch of a sample, in [0, 1).
    pub prob: f64,
}

impl DropPathConfig {
    /// Checks the probability and builds the layer.
    ///
    /// # Errors
    /// When `prob` is outside [0, 1) or NaN.
    pub fn init(&self, masks: &MaskSource) -> Result<DropPath, ConfigError> {
        Ok(DropPath { noise: Noise::new("prob", self.prob, masks)? })
    }
}

/// The probabilities of the linear rule for `depth` blocks: from 0 in the first to `max_prob` in the last.
///
/// One block alone gets 0, as in timm.
///
/// ```
/// use firebrick_regularize::linear_depth;
///
/// assert_eq!(linear_depth(0.4, 5)?, [0.0, 0.1, 0.2, 0.30000000000000004, 0.4]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
///
/// # Errors
/// When `max_prob` is outside [0, 1) or NaN.
pub fn linear_depth(max_prob: f64, depth: usize) -> Result<Vec<f64>, ConfigError> {
    let max = check::range("max_prob", max_prob, 0.0..1.0)?;
    let intervals = depth.saturating_sub(1).max(1) as f64;
    Ok((0..depth).map(|block| max * block as f64 / intervals).collect())
}

/// Drops a residual branch for whole samples while training.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_core::Seed;
/// use firebrick_regularize::{DropPathConfig, MaskSource};
///
/// let layer = DropPathConfig::new(0.5).init(&MaskSource::new(Seed(7)))?;
/// let x = Tensor::<2>::ones([4, 8], &Device::flex().autodiff());
/// let branch = x.clone().mul_scalar(3.0);
/// let output = x + layer.forward(branch);
/// let values: Vec<f32> = output.try_to_vec_as().unwrap();
/// assert!(values.iter().all(|&v| v == 1.0 || v == 7.0));
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Module, Debug)]
pub struct DropPath {
    noise: Noise,
}

impl DropPath {
    /// Applies it to the output of a residual branch; axis 0 is the batch.
    #[must_use]
    pub fn forward<const D: usize>(&self, branch: Tensor<D>) -> Tensor<D> {
        let Some(prob) = self.noise.active(&branch.device()) else { return branch };
        let mut shape = [1; D];
        if let Some(samples) = shape.first_mut() {
            *samples = branch.dims()[0];
        }
        masked(branch, shape, prob, &self.noise.masks)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    fn layer(prob: f64) -> DropPath {
        DropPathConfig::new(prob).init(&MaskSource::new(Seed(7))).expect("valid")
    }

    #[test]
    fn samples_live_or_die_whole() {
        for device in devices() {
            let n = 1_000_000usize;
            for prob in [0.1f64, 0.5] {
                let ones = Tensor::<3>::ones([n, 2, 1], &device.clone().autodiff());
                let output: Vec<f32> = layer(prob).forward(ones).try_to_vec_as().expect("reads");
                assert!(output.chunks(2).all(|sample| sample[0] == sample[1]));
                let kept = output.chunks(2).filter(|sample| sample[0] > 0.0).count();
                let bound = 5.0 * (prob * (1.0 - prob) / n as f64).sqrt();
                assert!((kept as f64 / n as f64 - (1.0 - prob)).abs() < bound);
                let scale = (1.0 / (1.0 - prob)) as f32;
                assert!(output.iter().all(|&u| u == 0.0 || (u - scale).abs() < 1e-6));
            }
        }
    }

    #[test]
    fn the_linear_rule_has_its_ends() {
        assert_eq!(linear_depth(0.3, 1), Ok(vec![0.0]));
        assert_eq!(linear_depth(0.3, 0), Ok(vec![]));
        assert_eq!(linear_depth(0.3, 2), Ok(vec![0.0, 0.3]));
        assert!(linear_depth(1.0, 3).is_err());
        for prob in [1.0, -0.1, f64::NAN] {
            assert!(DropPathConfig::new(prob).init(&MaskSource::new(Seed(0))).is_err());
        }
    }

    #[test]
    fn gradients_evaluation_and_the_way_back() {
        let device = Device::flex().autodiff();
        let input = Tensor::<2>::ones([64, 3], &device).require_grad();
        let output = layer(0.5).forward(input.clone());
        let gradients = output.clone().sum().backward();
        let gradient: Vec<f32> =
            input.grad(&gradients).expect("has one").try_to_vec_as().expect("reads");
        assert_eq!(gradient, output.try_to_vec_as::<f32>().expect("reads"));
        assert!(gradient.contains(&0.0));
        let read = |tensor: Tensor<2>| tensor.try_to_vec_as::<f32>().expect("reads");
        assert_eq!(read(layer(0.5).valid().forward(input.clone())), [1.0; 192]);
        assert!(read(layer(0.5).valid().train().forward(input)).contains(&0.0));
        assert_eq!(layer(0.5).forward(Tensor::<2>::ones([0, 3], &device)).dims(), [0, 3]);
    }
}
