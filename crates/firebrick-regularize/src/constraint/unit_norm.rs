//! Unit norm: the incoming weights of every unit have norm 1.
//!
//! # Formula
//! ```text
//! w_j <- w_j / ||w_j||    j: a unit; 0 stays 0
//! ```
//!
//! # Differences
//! Keras adds an epsilon to the norm; here a unit of norm 1 stays as it is.

use super::{Kernel, Rule, norms, projection};
use crate::penalty::{PenaltyScope, Target};
use crate::units::{Axis, UnitAxis};
use burn::config::Config;
use burn::tensor::Tensor;

/// Configuration of [`UnitNorm`].
#[derive(Config, Debug)]
pub struct UnitNormConfig {
    /// The axis that counts units.
    #[config(default = "UnitAxis::ByLayer")]
    pub axis: UnitAxis,
}

impl UnitNormConfig {
    /// Builds the constraint; there is nothing to refuse.
    #[must_use]
    pub fn init(&self) -> UnitNorm {
        UnitNorm { axis: self.axis, target: Target::new(PenaltyScope::Weights) }
    }
}

/// Scales the weights of every unit to norm 1.
#[derive(Debug, Clone)]
pub struct UnitNorm {
    axis: UnitAxis,
    target: Target,
}
projection!(UnitNorm);

impl Rule for UnitNorm {
    fn axis(&self) -> Axis {
        Axis::Units(self.axis)
    }
    fn kernel(&self, _: f64) -> Kernel {
        Kernel::UnitNorm
    }
    fn apply<const D: usize>(&self, weight: Tensor<D>, axis: usize, _: f64) -> Tensor<D> {
        let norm = norms(&weight, axis);
        let zero = norm.clone().equal_scalar(0.0);
        weight / norm.mask_fill(zero, 1.0)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Projection;
    use crate::constraint::tests::{close, linear, read};
    use firebrick_backend::testing::devices;

    #[test]
    fn every_unit_has_norm_1() {
        for device in devices() {
            let device = device.autodiff();
            let unit = UnitNormConfig::new().init().project(linear(&device), 0.0).expect("known");
            close(&read(&unit.weight), &[0.6, 1.0 / 3.0, 0.0, -2.0 / 3.0, 0.8, 2.0 / 3.0]);
        }
    }
}
