//! Drop probabilities that change over a run.
//!
//! # Formula
//! Factor on the probability at step `t` of `T`:
//! ```text
//! constant                1
//! curriculum              1 - exp(-gamma t)        gamma = 10 / T by default
//! ramp                    min(1, t / over)         DropBlock's
//! early                   1 while t < until, then 0
//! late                    0 while t < from, then 1
//! ```
//!
//! # Reference
//! P. Morerio et al., "Curriculum dropout", ICCV 2017; Z. Liu, Z. Xu, J. Jin, Z. Shen, T. Darrell, "Dropout
//! reduces underfitting", ICML 2023 (early and late).

use crate::MaskSource;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// How the strength of all noise layers of a model goes over the steps of a run.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_regularize::{DropSchedule, MaskSource};
///
/// let masks = MaskSource::new(Seed(7)); // shared by the layers of the model
/// let schedule = DropSchedule::Early { until: 100 };
/// schedule.apply(99, &masks)?;
/// assert_eq!(masks.strength(), 1.0);
/// schedule.apply(100, &masks)?;
/// assert_eq!(masks.strength(), 0.0);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DropSchedule {
    /// Full strength throughout.
    Constant,
    /// Rises from 0 as `1 - exp(-gamma t)`: easy first.
    Curriculum {
        /// Rate per step, above 0; 10 divided by the steps of the run in the paper.
        gamma: f64,
    },
    /// Rises linearly from 0.
    Ramp {
        /// Steps to full strength; 0 is full at once.
        over: u64,
    },
    /// On, then off: reduces under-fitting.
    Early {
        /// First step without noise.
        until: u64,
    },
    /// Off, then on: against over-fitting late in a run.
    Late {
        /// First step with noise.
        from: u64,
    },
}

impl DropSchedule {
    /// Curriculum dropout for a run of `steps`: gamma = 10 / steps.
    #[must_use]
    pub fn curriculum(steps: u64) -> Self {
        Self::Curriculum { gamma: 10.0 / steps.max(1) as f64 }
    }

    /// The factor at `step`, counted from 0.
    ///
    /// # Errors
    /// When `gamma` is not above 0.
    pub fn factor(&self, step: u64) -> Result<f64, ConfigError> {
        Ok(match *self {
            Self::Constant => 1.0,
            Self::Curriculum { gamma } => {
                -libm::expm1(-check::positive("gamma", gamma)? * step as f64)
            }
            Self::Ramp { over } => {
                if step >= over {
                    1.0
                } else {
                    step as f64 / over as f64
                }
            }
            Self::Early { until } => f64::from(u8::from(step < until)),
            Self::Late { from } => f64::from(u8::from(step >= from)),
        })
    }

    /// Sets the strength of all layers that draw from `masks`; call it before the forward pass of `step`.
    ///
    /// # Errors
    /// When `gamma` is not above 0.
    pub fn apply(&self, step: u64, masks: &MaskSource) -> Result<(), ConfigError> {
        masks.set_strength(self.factor(step)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_follow_the_formulas() {
        let at = |schedule: DropSchedule, step| schedule.factor(step).expect("valid");
        assert_eq!(at(DropSchedule::Constant, 5), 1.0);
        let curriculum = DropSchedule::curriculum(1000);
        assert_eq!(at(curriculum, 0), 0.0);
        assert!((at(curriculum, 100) - (1.0 - (-1f64).exp())).abs() < 1e-15);
        assert!(at(curriculum, 1000) > 0.9999 && at(curriculum, u64::MAX) <= 1.0);
        let ramp = DropSchedule::Ramp { over: 10 };
        assert_eq!([at(ramp, 0), at(ramp, 5), at(ramp, 10), at(ramp, 99)], [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(at(DropSchedule::Ramp { over: 0 }, 0), 1.0);
        let early = DropSchedule::Early { until: 3 };
        assert_eq!([at(early, 2), at(early, 3)], [1.0, 0.0]);
        let late = DropSchedule::Late { from: 3 };
        assert_eq!([at(late, 2), at(late, 3)], [0.0, 1.0]);
        let refused = DropSchedule::Curriculum { gamma: f64::NAN }.factor(1).expect_err("NaN");
        assert_eq!(refused.to_string(), "`gamma` must be in (0, inf), got NaN");
    }
}
