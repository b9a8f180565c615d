#![doc = include_str!("../README.md")]

mod context;
mod curve;
mod error;
mod finding;
mod learner;
mod rules;

pub use context::{Context, Layer};
pub use error::DiagnoseError;
pub use finding::{Finding, FindingKind};
pub use learner::read_learner_logs;
pub use rules::diagnose;
