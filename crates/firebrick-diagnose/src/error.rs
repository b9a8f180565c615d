//! What can go wrong before a diagnosis: a bad context, or logs that cannot be read.

use firebrick_core::ConfigError;
use std::path::PathBuf;

/// Why there is no diagnosis.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiagnoseError {
    /// A value of the [`Context`](crate::Context) is outside its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or folder cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder holds no `train/epoch-N` or `valid/epoch-N` folder.
    #[error("{} holds no metric logs of burn's Learner: expected train/epoch-1 or valid/epoch-1 in it", path.display())]
    NotLearnerLogs {
        /// The folder.
        path: PathBuf,
    },
    /// A line of a metric log is not a number.
    #[error("line {line} of {} must be a number, `number,count` or `number,final`, got {text:?}", path.display())]
    Damaged {
        /// The log file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
}
