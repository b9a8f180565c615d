//! Learning-rate schedules: pure functions of the update's number, and their adapter to burn.
//!
//! Every schedule is a [`Schedule`]: [`rate(k)`](Schedule::rate) is the rate of update `k`, counted from 0, computed
//! in f64 from `k` alone. So a run resumes from the number of the step, nothing drifts, and a schedule can be
//! printed, plotted and tested without training. All are defined at 0, at their end and past it, and none
//! has an upper bound of 1.
//!
//! A configuration is checked when it is built: `build()` gives the function, `init()` the [`Scheduler`] that
//! burn's `ModuleLrScheduler` and Learner take.
//!
//! ```
//! use firebrick_optim::schedule::{CosineConfig, LinearWarmupConfig, Schedule, SequentialConfig};
//!
//! // 3 updates of warm-up, then a cosine over the next 100.
//! let schedule = SequentialConfig::new(LinearWarmupConfig::new(0.3, 3).build()?)
//!     .then(3, CosineConfig::new(0.3, 100).build()?)
//!     .build()?;
//! let first: Vec<f64> = (0..4).map(|k| schedule.rate(k)).collect();
//! assert_eq!(first, [0.3 / 3.0, 0.3 * 2.0 / 3.0, 0.3, 0.3]);
//! # Ok::<(), firebrick_core::ConfigError>(())
//! ```

use std::fmt::Debug;
use std::sync::Arc;

/// Gives a configuration its `init()`, the burn scheduler of what `build()` makes.
macro_rules! init {
    ($config:ty) => {
        impl $config {
            /// Checks the configuration and makes a scheduler for burn that starts at update 0.
            ///
            /// # Errors
            /// As [`build`](Self::build).
            pub fn init(&self) -> Result<$crate::schedule::Scheduler, firebrick_core::ConfigError> {
                Ok($crate::schedule::Scheduler::new(self.build()?))
            }
        }
    };
}

mod constant;
mod cosine;
mod cyclic;
mod error;
mod exponential;
mod inverse_sqrt;
mod keywords;
mod linear;
mod multi_step;
mod noam;
mod one_cycle;
mod plateau;
mod polynomial;
mod product;
mod range_test;
mod registry;
mod replay;
mod rex;
mod scheduler;
mod sequential;
mod step;
mod torch;
mod untuned_warmup;
mod warm_restarts;
mod warmup;
mod warmup_stable_decay;

pub use constant::{Constant, ConstantConfig};
pub use cosine::{AfterEnd, Cosine, CosineConfig};
pub use cyclic::{Cyclic, CyclicConfig, CyclicMode};
pub use error::ScheduleError;
pub use exponential::{Exponential, ExponentialConfig};
pub use inverse_sqrt::{InverseSqrt, InverseSqrtConfig};
pub use linear::{Linear, LinearConfig};
pub use multi_step::{MultiStep, MultiStepConfig};
pub use noam::{Noam, NoamConfig};
pub use one_cycle::{Anneal, OneCycle, OneCycleConfig};
pub use plateau::{
    Patience, Plateau, PlateauConfig, PlateauMode, PlateauScheduler, PlateauThreshold,
};
pub use polynomial::{Polynomial, PolynomialConfig};
pub use product::Product;
pub use range_test::{RangeRule, RangeTest, RangeTestConfig, RangeTestError, TooFewLosses};
pub use registry::{NamedSchedule, SCHEDULES, ScheduleCard, create, names};
pub use replay::{ScheduleCase, replay};
pub use rex::{Rex, RexConfig};
pub use scheduler::{LoadStatus, Scheduler, check_record};
pub use sequential::{Sequential, SequentialConfig};
pub use step::{Step, StepConfig};
pub use torch::{create_torch, torch_names};
pub use untuned_warmup::{UntunedShape, UntunedWarmup, UntunedWarmupConfig};
pub use warm_restarts::{WarmRestarts, WarmRestartsConfig};
pub use warmup::{LinearWarmup, LinearWarmupConfig};
pub use warmup_stable_decay::{Cooldown, WarmupStableDecay, WarmupStableDecayConfig};

/// A learning rate as a pure function of the update's number.
///
/// Implement it for your own schedule and every combination and the adapter to burn work with it:
///
/// ```
/// use firebrick_optim::schedule::{Schedule, Scheduler};
///
/// #[derive(Debug)]
/// struct Halving;
/// impl Schedule for Halving {
///     fn rate(&self, k: u64) -> f64 {
///         0.5f64.powf(k as f64)
///     }
/// }
/// assert_eq!(Scheduler::new(Halving).schedule().rate(3), 0.125);
/// ```
pub trait Schedule: Debug + Send + Sync {
    /// The rate of update `k`, the first update being 0. Finite for every `k`.
    fn rate(&self, k: u64) -> f64;

    /// The momentum (or Adam's first beta) that goes with update `k`, for the schedules that move it.
    fn momentum(&self, _k: u64) -> Option<f64> {
        None
    }

    /// A hash of the configuration, which tells a record of another schedule from one of this.
    ///
    /// FNV-1a, 64 bits, of the `Debug` text, which has to show every value that matters.
    fn fingerprint(&self) -> u64 {
        fingerprint_of(self)
    }
}

/// FNV-1a, 64 bits, of the `Debug` text.
fn fingerprint_of<T: Debug + ?Sized>(value: &T) -> u64 {
    format!("{value:?}").bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl<S: Schedule + ?Sized> Schedule for Box<S> {
    fn rate(&self, k: u64) -> f64 {
        (**self).rate(k)
    }
    fn momentum(&self, k: u64) -> Option<f64> {
        (**self).momentum(k)
    }
    fn fingerprint(&self) -> u64 {
        (**self).fingerprint()
    }
}

impl<S: Schedule + ?Sized> Schedule for Arc<S> {
    fn rate(&self, k: u64) -> f64 {
        (**self).rate(k)
    }
    fn momentum(&self, k: u64) -> Option<f64> {
        (**self).momentum(k)
    }
    fn fingerprint(&self) -> u64 {
        (**self).fingerprint()
    }
}

/// Checks a floor: finite, not below 0, not above the rate it bounds.
fn check_floor(min_lr: f64, initial_lr: f64) -> Result<f64, firebrick_core::ConfigError> {
    firebrick_core::check::range("min_lr", min_lr, 0.0..=initial_lr)
}

#[cfg(test)]
mod testing {
    use super::Schedule;

    /// Asserts that the schedule has the table's rates, to 1e-15 of the largest.
    pub(super) fn assert_table(schedule: &dyn Schedule, table: &[(u64, f64)]) {
        let scale = table.iter().fold(0.0f64, |scale, row| scale.max(row.1.abs()));
        for &(k, expected) in table {
            let rate = schedule.rate(k);
            assert!(
                (rate - expected).abs() <= 1e-15 * scale,
                "rate({k}) is {rate}, not {expected}"
            );
        }
    }

    /// The message of the refusal.
    pub(super) fn refused<T: std::fmt::Debug, E: std::fmt::Display>(
        result: Result<T, E>,
    ) -> String {
        match result {
            Ok(built) => panic!("{built:?} must be refused"),
            Err(error) => error.to_string(),
        }
    }
}
