//! What an observer of a training sees.

use crate::CheckpointError;
use firebrick_core::Record;
use firebrick_stabilize::Verdict;
use std::fmt;
use std::path::Path;

/// Whether to go on after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// End the training after this step.
    Stop,
}

/// Something that happened in a training.
///
/// An observer sees numbers. What has to see the model after each step is a [`Guard`](firebrick_stabilize::Guard),
/// with its `after_step`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The gradients of a step were computed and judged.
    #[non_exhaustive]
    Step {
        /// The epoch, from 1.
        epoch: usize,
        /// Optimizer steps taken so far, this one included if it was.
        step: u64,
        /// Loss of the step's batches.
        loss: f64,
        /// Learning rate.
        rate: f64,
        /// What the guards decided.
        verdict: Verdict,
    },
    /// The model was judged.
    #[non_exhaustive]
    Judged {
        /// What went into the history.
        record: &'a Record,
        /// Whether it is the best so far; always, where no rule watches.
        best: bool,
    },
    /// A checkpoint was written.
    #[non_exhaustive]
    Saved {
        /// The file.
        path: &'a Path,
    },
    /// A checkpoint could not be written, and the training goes on.
    #[non_exhaustive]
    NotSaved {
        /// Why.
        error: &'a CheckpointError,
    },
    /// The training went back to a snapshot.
    #[non_exhaustive]
    RolledBack {
        /// Steps taken before.
        from: u64,
        /// Steps taken at the snapshot.
        to: u64,
        /// How many rollbacks there were, this one included.
        count: u64,
    },
    /// Something looks wrong.
    Warned(&'a Warning),
}

/// What looks wrong in a training without ending it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The first step gave this trainable parameter no gradient: the loss does not depend on it.
    NoGradient {
        /// Its path in the model.
        path: String,
    },
    /// A batch of one sample met batch norm, whose variance over one row is 0.
    BatchOfOne {
        /// The epoch, from 1.
        epoch: usize,
    },
    /// No step of an epoch was taken: guards skipped or undid them all. Said of the first such epoch.
    NoStep {
        /// The epoch, from 1.
        epoch: usize,
    },
    /// A checkpoint was due while weights were not finite; it was not written, so that those before stay.
    NotHealthy {
        /// The step.
        step: u64,
    },
    /// A checkpoint could not be written.
    NotSaved {
        /// What the error says.
        reason: String,
    },
    /// The last checkpoint is damaged, and an earlier one was taken.
    Damaged {
        /// The file.
        path: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGradient { path } => {
                write!(
                    f,
                    "`{path}` is trainable and received no gradient: the loss does not depend on it"
                )
            }
            Self::NoStep { epoch } => write!(
                f,
                "no step of epoch {epoch} was taken: the guards skipped or undid them all"
            ),
            Self::BatchOfOne { epoch } => write!(
                f,
                "epoch {epoch} has a batch of one sample, over which batch norm has no variance: drop it, or change the batch size"
            ),
            Self::NotHealthy { step } => write!(
                f,
                "no checkpoint was written at step {step}: there are weights that are not finite"
            ),
            Self::NotSaved { reason } => write!(f, "a checkpoint could not be written: {reason}"),
            Self::Damaged { path } => {
                write!(f, "{path} is damaged; the training went on from the one before")
            }
        }
    }
}
