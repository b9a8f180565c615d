//! The update rules, one file each.

use crate::decay::Decay;
use serde::{Deserialize, Serialize};

/// Gives a configuration whose `build` makes an [`Elementwise`](crate::Elementwise) its two doors.
macro_rules! doors {
    ($config:ident) => {
        impl $config {
            /// burn's optimizer for a whole module; it decays what has two axes or more.
            ///
            /// # Errors
            /// As `build`.
            pub fn init(
                &self,
            ) -> Result<burn::optim::ModuleOptimizer, firebrick_core::ConfigError> {
                Ok(self.build()?.init())
            }

            /// The module-level optimizer, which steps all parameters in one parallel pass.
            ///
            /// # Errors
            /// As `build`.
            pub fn fused(&self) -> Result<crate::FusedOptimizer, firebrick_core::ConfigError> {
                Ok(self.build()?.fused())
            }
        }
    };
}
use doors;

pub mod adabelief;
pub mod adadelta;
pub mod adafactor;
pub mod adagrad;
pub mod adam;
pub mod adam_atan2;
pub mod adam_mini;
pub mod adamax;
pub mod adan;
pub mod adashift;
pub mod ademamix;
pub mod adopt;
pub mod asgd;
mod axes;
pub mod cautious;
pub mod grams;
pub mod lamb;
pub mod laprop;
pub mod lars;
pub mod lion;
pub mod mars;
mod moments;
pub mod muon;
pub mod nadam;
pub mod prodigy;
pub mod qhadam;
pub mod radam;
mod reduce;
pub mod rmsprop;
pub mod rprop;
pub mod schedule_free;
pub mod sgd;
pub mod sgdw;
pub mod shampoo;
pub mod signum;
pub mod soap;
pub mod stable_adamw;
pub mod yogi;

pub use adabelief::AdaBeliefConfig;
pub use adadelta::AdaDeltaConfig;
pub use adafactor::{AdafactorConfig, AdafactorForm};
pub use adagrad::AdaGradConfig;
pub use adam::{AdamConfig, AdamWConfig, AmsGrad};
pub use adam_atan2::AdamAtan2Config;
pub use adam_mini::{AdamMiniConfig, MiniBlock};
pub use adamax::AdamaxConfig;
pub use adan::AdanConfig;
pub use adashift::{AdaShiftConfig, ShiftReduce};
pub use ademamix::AdEmaMixConfig;
pub use adopt::AdoptConfig;
pub use asgd::AsgdConfig;
pub use cautious::{CautiousAdamWConfig, CautiousLionConfig};
pub use grams::GramsConfig;
pub use lamb::LambConfig;
pub use laprop::LaPropConfig;
pub use lars::LarsConfig;
pub use lion::LionConfig;
pub use mars::MarsConfig;
pub use muon::{FanOut, MuonConfig, MuonScale};
pub use nadam::{NAdamConfig, NAdamForm, NAdamWConfig};
pub use prodigy::ProdigyConfig;
pub use qhadam::QHAdamConfig;
pub use radam::RAdamConfig;
pub use rmsprop::RmsPropConfig;
pub use rprop::RpropConfig;
pub use schedule_free::{ScheduleFreeAdamWConfig, ScheduleFreeSgdConfig};
pub use sgd::{RatePlacement, SgdConfig};
pub use sgdw::SgdwConfig;
pub use shampoo::{Graft, ShampooConfig};
pub use signum::SignumConfig;
pub use soap::SoapConfig;
pub use stable_adamw::StableAdamWConfig;
pub use yogi::YogiConfig;

/// Where epsilon stands beside a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Epsilon {
    /// `sqrt(v) + eps` (PyTorch).
    #[default]
    Outside,
    /// `sqrt(v + eps)`, as many textbooks and optax have it.
    Inside,
}

impl Epsilon {
    /// What is added (outside, inside).
    fn split(self, epsilon: f64) -> (f64, f64) {
        match self {
            Self::Outside => (epsilon, 0.0),
            Self::Inside => (0.0, epsilon),
        }
    }
}

fn decay(weight_decay: f64, decoupled: bool) -> Decay {
    if decoupled { Decay::Decoupled(weight_decay) } else { Decay::Coupled(weight_decay) }
}
