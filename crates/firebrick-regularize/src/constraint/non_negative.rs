//! No weight below 0.
//!
//! # Formula
//! ```text
//! w <- max(w, 0)
//! ```

use super::{Kernel, Rule, projection};
use crate::penalty::{PenaltyScope, Target};
use crate::units::Axis;
use burn::tensor::Tensor;

/// Sets negative weights to 0; NaN stays visible.
#[derive(Debug, Clone)]
pub struct NonNegative {
    target: Target,
}
projection!(NonNegative);

impl NonNegative {
    /// The constraint on all weights.
    #[must_use]
    pub fn new() -> Self {
        Self { target: Target::new(PenaltyScope::Weights) }
    }
}

impl Default for NonNegative {
    fn default() -> Self {
        Self::new()
    }
}

impl Rule for NonNegative {
    fn axis(&self) -> Axis {
        Axis::Elements
    }
    fn kernel(&self, _: f64) -> Kernel {
        Kernel::NonNegative
    }
    fn apply<const D: usize>(&self, weight: Tensor<D>, _: usize, _: f64) -> Tensor<D> {
        let negative = weight.clone().lower_scalar(0.0);
        weight.mask_fill(negative, 0.0)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Projection;
    use crate::constraint::tests::{linear, read};
    use firebrick_backend::testing::devices;

    #[test]
    fn negative_weights_become_0() {
        for device in devices() {
            let device = device.autodiff();
            let signs = NonNegative::new().project(linear(&device), 0.0).expect("known");
            assert_eq!(read(&signs.weight), [3.0, 0.1, 0.0, 0.0, 4.0, 0.2]);
        }
    }
}
