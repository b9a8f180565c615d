//! Max-norm: no unit's incoming weights exceed a norm.
//!
//! # Formula
//! ```text
//! w_j <- w_j * min(1, c / ||w_j||)    j: a unit
//! ```
//!
//! # Reference
//! N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014.
//!
//! # Differences
//! Keras adds an epsilon to the norm, so that weights inside the ball shrink a little with each step; here they
//! stay to the bit.

use super::{Kernel, Rule, norms, projection};
use crate::penalty::{PenaltyScope, Target};
use crate::units::{Axis, UnitAxis};
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [`MaxNorm`].
#[derive(Config, Debug)]
pub struct MaxNormConfig {
    /// Largest norm of a unit's incoming weights, above 0; 2 to 4 are usual.
    #[config(default = 2.0)]
    pub max: f64,
    /// The axis that counts units.
    #[config(default = "UnitAxis::ByLayer")]
    pub axis: UnitAxis,
}

impl MaxNormConfig {
    /// Checks the bound.
    ///
    /// # Errors
    /// When `max` is not above 0.
    pub fn init(&self) -> Result<MaxNorm, ConfigError> {
        let max = check::positive("max", self.max)?;
        Ok(MaxNorm { max, axis: self.axis, target: Target::new(PenaltyScope::Weights) })
    }
}

/// Scales units whose weights have grown beyond a norm back to it.
///
/// ```
/// use burn::nn::{Initializer, LinearConfig};
/// use burn::tensor::Device;
/// use firebrick_regularize::{MaxNormConfig, Projection};
///
/// let layer = LinearConfig::new(4, 3).with_initializer(Initializer::Ones).init(&Device::flex().autodiff());
/// let layer = MaxNormConfig::new().with_max(1.0).init()?.project(layer, 0.1)?;
/// let weights: Vec<f32> = layer.weight.val().try_to_vec_as().unwrap();
/// assert_eq!(weights, [0.5; 12]); // four weights of 1 have norm 2
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct MaxNorm {
    max: f64,
    axis: UnitAxis,
    target: Target,
}
projection!(MaxNorm);

impl Rule for MaxNorm {
    fn axis(&self) -> Axis {
        Axis::Units(self.axis)
    }
    fn kernel(&self, _: f64) -> Kernel {
        Kernel::MaxNorm(self.max)
    }
    fn apply<const D: usize>(&self, weight: Tensor<D>, axis: usize, _: f64) -> Tensor<D> {
        // 0 / 0 cannot happen: the bound is above 0.
        let factor = norms(&weight, axis).recip().mul_scalar(self.max).clamp_max(1.0);
        weight * factor
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Projection;
    use crate::constraint::tests::{close, linear, read};
    use burn::module::Param;
    use burn::nn::conv::Conv1dConfig;
    use firebrick_backend::testing::devices;

    #[test]
    fn max_norm_acts_on_units_in_both_layouts() {
        for device in devices() {
            let device = device.autodiff();
            // Unit 0 has norm 5 and is scaled by 0.4; unit 1 has norm 0.3 and stays to the bit.
            let rule = MaxNormConfig::new().init().expect("valid");
            let layer = rule.project(linear(&device), 0.1).expect("a linear layer is known");
            close(&read(&layer.weight), &[1.2, 0.1, 0.0, -0.2, 1.6, 0.2]);
            assert_eq!(read(&layer.weight)[1], 0.1);
            let mut conv = Conv1dConfig::new(3, 2, 1).init(&device);
            conv.weight =
                Param::from_data([[[3.0], [0.0], [4.0]], [[0.1], [-0.2], [0.2]]], &device);
            let conv = rule.project(conv, 0.1).expect("a convolution is known");
            close(&read(&conv.weight), &[1.2, 0.0, 1.6, 0.1, -0.2, 0.2]);
            let wrong = MaxNormConfig::new().with_axis(UnitAxis::At(0)).init().expect("valid");
            let layer = wrong.project(linear(&device), 0.1).expect("an axis is named");
            assert_ne!(read(&layer.weight)[0], 1.2);
        }
    }
}
