//! Trains a burn model stably to the end, and resumes it exactly.
//!
#![doc = include_str!("../README.md")]

mod batches;
mod bits;
mod checkpoint;
mod error;
mod event;
mod fit;
mod judge;
mod learn;
mod optimize;
mod progress;
mod run;
mod saved;
mod source;
mod step;
mod stop;
#[cfg(all(test, feature = "flex"))]
mod testing;

pub use batches::{Batches, Labelled, TensorBatches};
pub use checkpoint::{CheckpointConfig, CheckpointError, verify};
pub use error::TrainError;
pub use event::{Event, Flow, Warning};
pub use fit::{Fit, FitConfig, Fitted, Outcome, Resumed};
pub use learn::{Learn, Measures, Score};
pub use optimize::{Optimize, OptimizerStateError};
pub use source::{Source, SourceError};
pub use stop::{Criterion, Delta, EarlyStopping, EarlyStoppingConfig, Judgement, NanRule};
