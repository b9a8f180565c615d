//! What a training gives back.

use crate::{Score, Warning};
use firebrick_core::History;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Why a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// All epochs or steps were run.
    Finished,
    /// The validation loss stopped improving.
    EarlyStopped,
    /// The weights, or the losses of a whole epoch, were not finite.
    Diverged,
    /// A guard or an observer asked for the end.
    Stopped,
    /// The interrupt flag was raised.
    Interrupted,
}

/// Where a resumed training went on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// The checkpoint.
    pub path: PathBuf,
    /// Optimizer steps taken before it.
    pub step: u64,
    /// Later checkpoints that are damaged and were passed over.
    pub damaged: Vec<PathBuf>,
}

/// What a training gives back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fitted<M> {
    /// The model in evaluation mode, on the device without autodiff: that of the best epoch if early stopping
    /// watched, else the last that was judged. Call `train()` on it to go on training.
    pub model: M,
    /// The epoch that `model` is from, counted from 1; 0 if none was judged.
    pub epoch: usize,
    /// How many epochs were run.
    pub epochs: usize,
    /// How many optimizer steps were taken.
    pub steps: u64,
    /// Why it ended.
    pub outcome: Outcome,
    /// How `model` does on the training data.
    pub train: Score,
    /// How `model` does on the validation data, where there are any.
    pub validation: Option<Score>,
    /// What was written down on the way, also before a resume.
    pub history: History,
    /// What looked wrong without ending the training.
    pub warnings: Vec<Warning>,
    /// The checkpoint that the training went on from.
    pub resumed: Option<Resumed>,
}
