//! Optimizers and learning-rate schedules for burn: exact, fused on the host.
//!
#![doc = include_str!("../README.md")]

#[cfg(all(test, feature = "flex"))]
mod allocation_tests;
mod apart;
mod decay;
mod elementwise;
mod error;
mod flow;
mod gather;
mod groups;
mod kernel;
mod keywords;
#[cfg(all(test, feature = "flex"))]
mod lbfgs_tests;
mod module;
#[cfg(all(test, feature = "flex"))]
mod pass_tests;
mod record;
mod recurrence;
mod reducing;
pub mod registry;
mod replay;
pub mod rule;
pub mod schedule;
mod shared;
mod slots;
mod state;
mod tensor_rule;
#[cfg(all(test, feature = "flex"))]
mod testing;
mod tie;
mod trains;
mod value;
mod walk;
pub mod wrapper;

pub use decay::{Decay, DecayOn};
pub use elementwise::Elementwise;
pub use error::OptimError;
pub use groups::{GroupRow, GroupTable};
pub use module::FusedOptimizer;
pub use recurrence::{Clock, Rule};
pub use reducing::ReducingRule;
pub use replay::{OptimizerCase, replay, replay_with};
pub use rule::*;
pub use shared::Shared;
pub use state::RuleState;
pub use tensor_rule::TensorRule;
pub use tie::tie;
pub use value::Value;
pub use walk::Walk;

pub use burn::optim::{LBFGS, LBFGSConfig, LBFGSState, LineSearchFn};
