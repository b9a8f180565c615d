//! Why the program ends without a result, and with which exit code.

use crate::data::DataError;
use firebrick::backend::BackendError;
use firebrick::core::ConfigError;
use firebrick::prelude::TrainError;
use firebrick::select::SelectError;
use firebrick::split::SplitError;
use std::fmt::Display;
use std::path::Path;

/// Why the program ends without a result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something the user gave cannot be used: exit code 2.
    #[error("{0}")]
    Input(String),
    /// The work itself failed: exit code 1.
    #[error("{0}")]
    Run(String),
    /// Ctrl-C: exit code 130.
    #[error(
        "interrupted after {finished} of {total} trainings; the same command with --resume goes on"
    )]
    Interrupted {
        /// Trainings that are kept.
        finished: usize,
        /// All of them.
        total: usize,
    },
}

impl Failure {
    /// The work itself failed, for this reason.
    pub fn run(message: impl Display) -> Self {
        Self::Run(one_line(message))
    }

    /// What the user gave cannot be used, for this reason.
    pub fn input(message: impl Display) -> Self {
        Self::Input(one_line(message))
    }

    /// A file or folder that the user named and that cannot be used.
    #[must_use]
    pub fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::Input(one_line(format_args!("{}: {error}", path.display())))
    }

    /// What the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) => 2,
            Self::Run(_) => 1,
            Self::Interrupted { .. } => 130,
        }
    }
}

fn one_line(message: impl Display) -> String {
    message.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

macro_rules! input {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::input(error)
            }
        })+
    };
}
input!(DataError, BackendError, ConfigError);

impl From<SplitError> for Failure {
    /// The crate's advice names its methods; here it names the flag, where there is one.
    fn from(error: SplitError) -> Self {
        let text = error.to_string().replace("`reopen(reason)`", "`--reopen REASON`");
        Self::input(text.replace("; pool or ignore them with `with_rare`", ""))
    }
}

impl From<SelectError> for Failure {
    fn from(error: SelectError) -> Self {
        match error {
            SelectError::AllFailed { .. } => Self::run(error),
            other => Self::input(other),
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        Self::run(error)
    }
}
