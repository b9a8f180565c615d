//! Optimizers and learning-rate schedules for burn: exact, fused on the host.
//!
#![doc = include_str!("../README.md")]

#[cfg(all(test, feature = "flex"))]
mod allocation_tests;
mod decay;
mod elementwise;
mod error;
mod gather;
mod groups;
mod kernel;
mod keywords;
mod module;
mod record;
mod recurrence;
pub mod registry;
mod replay;
pub mod rule;
pub mod schedule;
mod slots;
mod state;
mod tensor_rule;
#[cfg(all(test, feature = "flex"))]
mod testing;
mod value;
mod walk;
pub mod wrapper;

pub use decay::{Decay, DecayOn};
pub use elementwise::Elementwise;
pub use error::OptimError;
pub use groups::{GroupRow, GroupTable};
pub use module::FusedOptimizer;
pub use recurrence::{Clock, Rule};
pub use replay::{OptimizerCase, replay};
pub use rule::*;
pub use state::RuleState;
pub use tensor_rule::TensorRule;
pub use value::Value;
pub use walk::Walk;

pub use burn::optim::{LBFGS, LBFGSConfig};
