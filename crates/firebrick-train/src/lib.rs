//! Trains a burn model stably to the end, and resumes it exactly.
//!
#![doc = include_str!("../README.md")]

mod average;
mod batches;
mod bits;
mod checkpoint;
mod config;
mod error;
mod event;
mod fit;
mod fitted;
mod guarded;
mod history_file;
mod indexed;
mod judge;
mod learn;
mod lookahead;
#[cfg(feature = "metrics")]
mod meters;
mod optimize;
mod plateau;
mod pretrain;
mod progress;
#[cfg(all(test, feature = "flex"))]
mod recompute;
mod rollback;
mod run;
mod running;
mod saved;
mod settings;
mod source;
mod step;
mod stop;
#[cfg(all(test, feature = "flex"))]
mod testing;
mod trainable;

pub use average::{Averaging, EmaConfig, SwaConfig};
pub use batches::{Batches, Labelled, TensorBatches};
pub use checkpoint::{CheckpointConfig, CheckpointError, verify};
pub use config::FitConfig;
pub use error::TrainError;
pub use event::{Event, Flow, Warning};
pub use fit::Fit;
pub use fitted::{Fitted, Outcome, Resumed};
pub use guarded::Guarded;
pub use indexed::IndexedBatches;
pub use learn::{Learn, Measures, Score};
#[cfg(feature = "metrics")]
pub use meters::Meters;
pub use optimize::{Optimize, OptimizerStateError};
pub use pretrain::{
    DenoiseConfig, FreeEnergy, LayerFit, Pretrained, Pretraining, RbmConfig, Reconstruction,
    pretrain,
};
pub use rollback::{Retry, RollbackConfig};
pub use source::{Source, SourceError};
pub use stop::{Criterion, Delta, EarlyStopping, EarlyStoppingConfig, Judgement, NanRule};
