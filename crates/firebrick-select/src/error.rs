//! What can go wrong in a selection.

use firebrick_core::ConfigError;
use firebrick_split::SplitError;
use std::path::PathBuf;

/// Why a selection has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// A value is outside its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The splits cannot be listed.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Two candidates have the same name.
    #[error("candidate names must be unique, got {name:?} twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A row is in both parts of a fold.
    #[error("row {row} of fold {fold} is in both training and validation")]
    Overlap {
        /// Number of the fold, from 0.
        fold: usize,
        /// The row.
        row: u32,
    },
    /// The store cannot be read or written.
    #[error("{} cannot be {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// `read`, `written` or `removed`.
        action: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of the store does not hold what was written to it.
    #[error("{} is damaged ({problem}); delete it to compute it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What lies in the folder of a store is not of a store, so it is not removed.
    #[error("{} is no result of a fold: move it, or choose another folder", path.display())]
    Foreign {
        /// The file or folder.
        path: PathBuf,
    },
    /// The store holds results of another run.
    #[error("the results in {} are of another run: {what} was {stored}, now is {wanted}", path.display())]
    OtherRun {
        /// The folder.
        path: PathBuf,
        /// What differs: `seed`, `folds`, `candidates` or the name of an identity.
        what: String,
        /// Its value in the store.
        stored: String,
        /// Its value in this run.
        wanted: String,
    },
    /// The settings of a candidate cannot be written as JSON, which a store needs.
    #[error("the settings of candidate {name:?} cannot be written as JSON: {problem}")]
    Settings {
        /// Name of the candidate.
        name: String,
        /// What the serializer says.
        problem: String,
    },
    /// The run was cancelled; finished jobs are in the store, if there is one.
    #[error("cancelled after {finished} of {total} jobs")]
    Cancelled {
        /// Jobs with a result.
        finished: usize,
        /// Jobs in all.
        total: usize,
    },
    /// No candidate finished all its folds.
    #[error("no candidate finished all its folds: {}", failures.join("; "))]
    AllFailed {
        /// `NAME: reason`, one a candidate.
        failures: Vec<String>,
    },
    /// A number that must be finite is not, or lists that belong together differ in length.
    #[error("{what}")]
    BadInput {
        /// What is wrong, with the numbers.
        what: String,
    },
}
