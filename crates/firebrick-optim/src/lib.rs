//! Optimizers and learning-rate schedules for burn: exact, fused on the host.

mod decay;
mod elementwise;
mod error;
mod groups;
mod kernel;
mod module;
mod record;
mod rule;
pub mod schedule;
mod state;
#[cfg(all(test, feature = "flex"))]
mod testing;
mod value;
mod walk;

pub use decay::{Decay, DecayOn};
pub use elementwise::{Clock, Elementwise, Rule};
pub use error::OptimError;
pub use groups::{GroupRow, GroupTable};
pub use module::FusedOptimizer;
pub use rule::*;
pub use state::RuleState;
pub use value::Value;
pub use walk::Walk;
