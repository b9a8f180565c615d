//! What can go wrong in this crate.

use crate::score::ScoreError;
use burn::tensor::TensorReadError;
use firebrick_core::ConfigError;
use firebrick_optim::OptimError;
use firebrick_stabilize::StabilizeError;
use firebrick_train::TrainError;

/// An error of this crate. The model that was given is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// A configuration value is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A training cannot start or go on.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// An optimizer cannot be built, or its state taken over.
    #[error(transparent)]
    Optim(#[from] OptimError),
    /// Weights cannot be drawn or statistics measured.
    #[error(transparent)]
    Stabilize(#[from] StabilizeError),
    /// Features or labels cannot be scored or fitted.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// The device failed to answer.
    #[error("the device cannot be read: {0:?}")]
    Read(TensorReadError),
    /// There is no layer group.
    #[error("there is no layer group: {reason}")]
    NoGroups {
        /// Why.
        reason: String,
    },
    /// No group has this name.
    #[error("no group is called `{name}`; there are {known}")]
    UnknownGroup {
        /// As given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Two groups have one name.
    #[error("two groups are called `{name}`")]
    SameName {
        /// The name.
        name: String,
    },
    /// A prefix of a group covers nothing in the model.
    #[error("`{prefix}` of group `{group}` covers nothing of the model, which has {known}")]
    EmptyGroup {
        /// The group.
        group: String,
        /// The prefix; empty where the group has none.
        prefix: String,
        /// What the model has.
        known: String,
    },
    /// Two groups claim the same part of a model.
    #[error("`{path}` is claimed by the groups `{first}` and `{second}`")]
    Overlap {
        /// The part.
        path: String,
        /// One group.
        first: String,
        /// The other.
        second: String,
    },
    /// A parameter is in no group.
    #[error("`{path}` is in no group; there are {known}")]
    Uncovered {
        /// The parameter.
        path: String,
        /// The names there are.
        known: String,
    },
    /// A plan leaves nothing to train.
    #[error("the plan trains nothing: {reason}")]
    NothingToTrain {
        /// Why.
        reason: String,
    },
    /// A parameter that is needed is not in the model.
    #[error("the model has no parameter `{path}`; it has {known}")]
    NoSuchParameter {
        /// Its path.
        path: String,
        /// The paths there are.
        known: String,
    },
    /// A tensor has another shape than is needed.
    #[error("{what} has shape {found:?}, expected {expected}")]
    Shape {
        /// The tensor.
        what: String,
        /// Its shape.
        found: Vec<usize>,
        /// What would have been right.
        expected: String,
    },
    /// A number that had to be finite is not.
    #[error("{what} is {value}, which must be finite")]
    NotFinite {
        /// The number.
        what: String,
        /// Its value.
        value: f64,
    },
    /// There are no data, or too few of a kind.
    #[error("the data do not suffice: {reason}")]
    Data {
        /// What is missing.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// A folder holds another run.
    #[error("the run in the folder is another one: {field} was {saved}, is {now}")]
    OtherRun {
        /// What differs.
        field: String,
        /// As saved.
        saved: String,
        /// As given now.
        now: String,
    },
}

impl From<TensorReadError> for TransferError {
    fn from(error: TensorReadError) -> Self {
        Self::Read(error)
    }
}
