//! The proximal step of L1.
//!
//! # Formula
//! ```text
//! w <- sign(w) * max(|w| - lr * strength, 0)    true zeros
//! ```
//! A subgradient step on L1 never reaches 0; the proximal step does.
//!
//! # Reference
//! R. Tibshirani, "Regression shrinkage and selection via the lasso", JRSS B 1996; N. Parikh, S. Boyd, "Proximal
//! algorithms", 2014.

use super::{Kernel, Rule, projection};
use crate::penalty::{PenaltyScope, Target};
use crate::units::Axis;
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [`ProximalL1`].
#[derive(Config, Debug)]
pub struct ProximalL1Config {
    /// Factor of the penalty `strength * sum |w|`, at least 0; 1e-5 to 1e-3 are usual.
    pub strength: f64,
}

impl ProximalL1Config {
    /// Checks the strength.
    ///
    /// # Errors
    /// When it is negative, NaN or infinite.
    pub fn init(&self) -> Result<ProximalL1, ConfigError> {
        let strength = check::non_negative("strength", self.strength)?;
        Ok(ProximalL1 { strength, target: Target::new(PenaltyScope::Weights) })
    }
}

/// The proximal step of L1, or soft threshold: small weights become exactly 0.
///
/// It replaces the penalty [`L1`](crate::L1) in the loss; do not use both.
///
/// ```
/// use burn::nn::{Initializer, LinearConfig};
/// use burn::tensor::Device;
/// use firebrick_regularize::{ProximalL1Config, Projection};
///
/// let config = LinearConfig::new(4, 3).with_initializer(Initializer::Constant { value: 0.01 });
/// let layer = config.init(&Device::flex().autodiff());
/// let layer = ProximalL1Config::new(0.2).init()?.project(layer, 0.1)?; // threshold 0.02
/// let weights: Vec<f32> = layer.weight.val().try_to_vec_as().unwrap();
/// assert_eq!(weights, [0.0; 12]);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ProximalL1 {
    strength: f64,
    target: Target,
}
projection!(ProximalL1);

impl Rule for ProximalL1 {
    fn axis(&self) -> Axis {
        Axis::Elements
    }
    fn kernel(&self, lr: f64) -> Kernel {
        Kernel::Soft((lr * self.strength) as f32)
    }
    fn apply<const D: usize>(&self, weight: Tensor<D>, _: usize, lr: f64) -> Tensor<D> {
        let threshold = lr * self.strength;
        let cut = weight.clone().clamp(-threshold, threshold);
        weight - cut
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Projection;
    use crate::constraint::tests::{close, linear, read};
    use firebrick_backend::testing::devices;

    #[test]
    fn small_weights_become_0_and_large_ones_shrink() {
        for device in devices() {
            let device = device.autodiff();
            let l1 = ProximalL1Config::new(1.5).init().expect("valid");
            let l1 = l1.project(linear(&device), 0.1).expect("known");
            close(&read(&l1.weight), &[2.85, 0.0, 0.0, -0.05, 3.85, 0.05]);
            assert_eq!(read(&l1.weight)[1], 0.0);
        }
    }
}
