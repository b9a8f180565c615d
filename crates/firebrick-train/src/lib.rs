//! Trains a burn model stably to the end.
//!
#![doc = include_str!("../README.md")]

mod batches;
mod error;
mod fit;
mod learn;
mod optimize;
mod progress;
mod stop;

pub use batches::{Batches, Labelled, TensorBatches};
pub use error::TrainError;
pub use fit::{Fit, FitConfig, Fitted, Outcome};
pub use learn::{Learn, Score};
pub use optimize::{Optimize, OptimizerStateError};
pub use stop::{EarlyStopping, EarlyStoppingConfig, Judgement};
