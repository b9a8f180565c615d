//! Why a training cannot start or go on.

use crate::{CheckpointError, Outcome, SourceError};
use burn::tensor::TensorReadError;
use firebrick_core::ConfigError;
use firebrick_optim::OptimError;
use firebrick_regularize::RegularizeError;
use firebrick_stabilize::StabilizeError;

/// Why a training cannot start or go on.
///
/// A loss that is not finite is none of these: it ends in [`Outcome::Diverged`](crate::Outcome::Diverged),
/// with the history of how it came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A configuration value is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No parameter of the model is trainable.
    #[error("the model has no trainable parameter: all are frozen")]
    NothingToTrain,
    /// The source of training batches has none.
    #[error("the training data have no batch in epoch {epoch}")]
    NoBatch {
        /// The epoch, from 1.
        epoch: usize,
    },
    /// The loss does not depend on the parameters.
    #[error(
        "the loss is not on an autodiff device: build the model and its training data on `device.autodiff()`"
    )]
    NotDifferentiable,
    /// The loss is not one number.
    #[error("the loss has {elements} elements, expected 1: reduce it to its mean")]
    LossShape {
        /// How many it has.
        elements: usize,
    },
    /// The backward pass reached no parameter.
    #[error("no parameter received a gradient: the loss does not depend on the trainable ones")]
    NoGradient,
    /// The device failed to answer.
    #[error("the device cannot be read: {0:?}")]
    Read(TensorReadError),
    /// The source of training or validation data failed.
    #[error("the data failed: {0}")]
    Data(SourceError),
    /// Two places of the model hold clones of one trainable parameter.
    #[error(
        "`{first}` and `{second}` are clones of one parameter, which come apart when they are trained: keep one and use it twice in `forward`"
    )]
    Tied {
        /// Path of the first.
        first: String,
        /// Path of the second.
        second: String,
    },
    /// A checkpoint cannot be written, read or taken over.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A snapshot cannot be taken over.
    #[error("the snapshot cannot be taken over: {reason}")]
    Rollback {
        /// What burn says.
        reason: String,
    },
    /// An optimizer cannot be built, or its state saved.
    #[error(transparent)]
    Optim(#[from] OptimError),
    /// A constraint does not fit the model.
    #[error(transparent)]
    Regularize(#[from] RegularizeError),
    /// Several devices are given, and the model does not say how a batch comes to one.
    #[error("a batch cannot be placed on a device: write `Learn::place` to train on several")]
    NotPlaced,
    /// The pre-training of a layer did not run to its end, or left no numbers.
    #[error(
        "the pre-training of layer {layer} broke ({outcome:?}): take a smaller rate, or inputs of a smaller scale"
    )]
    Pretraining {
        /// The layer, counted from 0.
        layer: usize,
        /// How it ended.
        outcome: Outcome,
    },
    /// The running statistics of an averaged model cannot be measured.
    #[error(transparent)]
    Stabilize(#[from] StabilizeError),
    /// The history cannot be written.
    #[error("the history cannot be written: {0}")]
    History(#[from] std::io::Error),
}

impl From<TensorReadError> for TrainError {
    fn from(error: TensorReadError) -> Self {
        Self::Read(error)
    }
}
