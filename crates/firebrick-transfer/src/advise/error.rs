//! Why there is no advice.

use crate::score::ScoreError;
use firebrick_core::ConfigError;

/// What went wrong in the adviser or in a measurement.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AdviseError {
    /// The data or a setting cannot be used.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A training failed.
    #[error("`{name}` at rate {rate} failed in fold {fold}: {problem}")]
    Training {
        /// The contender.
        name: String,
        /// The learning rate.
        rate: f64,
        /// The fold, from 0.
        fold: usize,
        /// What it said.
        problem: String,
    },
    /// A training gave no share of right answers.
    #[error("the score of `{name}` at rate {rate} in fold {fold} must be in [0, 1], got {score}")]
    Score01 {
        /// The contender.
        name: String,
        /// The learning rate.
        rate: f64,
        /// The fold, from 0.
        fold: usize,
        /// What it gave, as text.
        score: String,
    },
}

impl From<ConfigError> for AdviseError {
    fn from(error: ConfigError) -> Self {
        Self::Score(error.into())
    }
}
