//! The proximal step of the group lasso.
//!
//! # Formula
//! ```text
//! w_g <- w_g * max(0, 1 - lr * strength * sqrt(n_g) / ||w_g||)    whole groups become 0
//! ```
//! `n_g` is the number of elements of the group. A subgradient step on a group's norm never reaches 0; the proximal
//! step does.
//!
//! # Reference
//! M. Yuan, Y. Lin, "Model selection and estimation in regression with grouped variables", JRSS B 2006; S. Scardapane
//! et al., "Group sparse regularization for deep neural networks", Neurocomputing 2017.

use super::{Kernel, Rule, norms, projection};
use crate::penalty::{PenaltyScope, Target};
use crate::units::{Axis, UnitAxis};
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// What a group of the group lasso is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LassoGroups {
    /// The incoming weights of a unit or output channel, as [`UnitAxis::ByLayer`](crate::UnitAxis::ByLayer) finds them:
    /// units are removed.
    Units,
    /// The outgoing weights of an input or input channel: inputs are removed, feature selection in layer 1.
    ///
    /// A convolution with groups has a weight [out, in / groups, k...]: a slice of it holds one input of every group, and
    /// they are removed together. Nothing in a weight tells its groups; limit the paths where that is not meant.
    Inputs,
    /// The slices along this axis.
    Along(usize),
}

/// Configuration of [`GroupLasso`].
#[derive(Config, Debug)]
pub struct GroupLassoConfig {
    /// Factor of the penalty `strength * sum_g sqrt(n_g) ||w_g||`, at least 0.
    pub strength: f64,
    /// What a group is.
    #[config(default = "LassoGroups::Units")]
    pub groups: LassoGroups,
}

impl GroupLassoConfig {
    /// Checks the strength.
    ///
    /// # Errors
    /// When it is negative, NaN or infinite.
    pub fn init(&self) -> Result<GroupLasso, ConfigError> {
        let strength = check::non_negative("strength", self.strength)?;
        let target = Target::new(PenaltyScope::Weights);
        Ok(GroupLasso { strength, groups: self.groups, target })
    }
}

/// The proximal step of the group lasso: whole units or inputs become exactly 0.
///
/// To make a model smaller, the next layer's inputs and the batch norm of a removed unit must go too.
#[derive(Debug, Clone)]
pub struct GroupLasso {
    strength: f64,
    groups: LassoGroups,
    target: Target,
}
projection!(GroupLasso);

impl Rule for GroupLasso {
    fn axis(&self) -> Axis {
        match self.groups {
            LassoGroups::Units => Axis::Units(UnitAxis::ByLayer),
            LassoGroups::Along(axis) => Axis::Units(UnitAxis::At(axis)),
            LassoGroups::Inputs => Axis::Inputs,
        }
    }
    fn kernel(&self, lr: f64) -> Kernel {
        match lr * self.strength {
            0.0 => Kernel::Nothing,
            threshold => Kernel::Group(threshold),
        }
    }
    fn apply<const D: usize>(&self, weight: Tensor<D>, axis: usize, lr: f64) -> Tensor<D> {
        let threshold = lr * self.strength;
        if threshold == 0.0 {
            return weight;
        }
        let size = weight.dims().iter().product::<usize>() / weight.dims()[axis].max(1);
        let shrink = norms(&weight, axis).recip().mul_scalar(-threshold * (size as f64).sqrt());
        weight * (shrink + 1.0).clamp_min(0.0)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Projection;
    use crate::constraint::tests::{close, linear, read};
    use firebrick_backend::testing::devices;

    #[test]
    fn group_lasso_removes_whole_groups_and_shrinks_the_rest() {
        for device in devices() {
            let device = device.autodiff();
            let units = GroupLassoConfig::new(2.0).init().expect("valid");
            // Threshold 0.2 sqrt(3) = 0.34641: unit 1 (norm 0.3) goes, unit 0 keeps 1 - 0.34641 / 5.
            let layer = units.project(linear(&device), 0.1).expect("known");
            let keep = 1.0 - 0.2 * 3f32.sqrt() / 5.0;
            close(&read(&layer.weight), &[3.0 * keep, 0.0, 0.0, 0.0, 4.0 * keep, 0.0]);
            assert_eq!(read(&layer.weight)[3], 0.0);
            let inputs = GroupLassoConfig::new(2.0).with_groups(LassoGroups::Inputs);
            let layer = inputs.init().expect("valid").project(linear(&device), 0.1).expect("known");
            // Input 1 has norm 0.2 below 0.2 sqrt(2): it goes, the others stay.
            let weights = read(&layer.weight);
            assert_eq!(weights[2..4], [0.0, 0.0]);
            assert!(weights[0] > 2.7 && weights[4] > 3.7);
        }
    }
}
