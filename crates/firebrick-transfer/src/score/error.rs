//! Why a score cannot be computed.

use firebrick_core::ConfigError;

/// What is wrong with the input of a score, a probe or the adviser.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// Nothing to look at.
    #[error("`{field}` must have at least one row and one column, got {rows} x {columns}")]
    Empty {
        /// Which input.
        field: String,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
    },
    /// Two inputs that belong together differ in length.
    #[error("`{field}` must have {expected}, got {found}")]
    Shape {
        /// Which input.
        field: String,
        /// What it should have.
        expected: String,
        /// What it has.
        found: usize,
    },
    /// NaN or infinity.
    #[error("`{field}` must be finite, got {value} in row {row}, column {column}")]
    NotFinite {
        /// Which input.
        field: String,
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
        /// The value as text.
        value: String,
    },
    /// All samples are of one class.
    #[error(
        "`labels` must have at least 2 classes, got only class {class}: there is nothing to tell apart"
    )]
    OneClass {
        /// That class.
        class: u32,
    },
    /// A label that the declared number of classes does not cover.
    #[error("`labels` must be below the number of classes {classes}, got {label} in row {row}")]
    LabelRange {
        /// Row, from 0.
        row: usize,
        /// Its label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
    /// More classes than samples.
    #[error("`classes` must be at most the number of samples {samples}, got {classes}")]
    MoreClassesThanSamples {
        /// The number of classes.
        classes: usize,
        /// The number of samples.
        samples: usize,
    },
    /// A class with too few samples for this score.
    #[error(
        "`labels` must have at least {needed} samples of each class, got {found} of class {class}"
    )]
    FewOfClass {
        /// The class.
        class: u32,
        /// Its samples.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Too few rows for this score.
    #[error("`{field}` must have at least {needed} rows, got {found}: {why}")]
    FewRows {
        /// Which input.
        field: String,
        /// Its rows.
        found: usize,
        /// How many are needed.
        needed: usize,
        /// What goes wrong with fewer.
        why: String,
    },
    /// A row that is no distribution over classes.
    #[error(
        "`probabilities` must be non-negative rows that sum to 1, got the sum {sum} and the smallest {smallest} in row {row}"
    )]
    NotProbabilities {
        /// Row, from 0.
        row: usize,
        /// Its sum.
        sum: f64,
        /// Its smallest entry.
        smallest: f64,
    },
    /// All columns are constant.
    #[error(
        "`{field}` must have a column that varies, got {columns} constant ones: a dead layer, or the same input in each row"
    )]
    Constant {
        /// Which input.
        field: String,
        /// Its columns.
        columns: usize,
    },
    /// A setting out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folds cannot be drawn.
    #[error("{0}")]
    Split(String),
    /// An iteration of the linear algebra did not converge.
    #[error("the {what} of a {rows} x {columns} matrix did not converge")]
    NoConvergence {
        /// Which decomposition.
        what: &'static str,
        /// Rows.
        rows: usize,
        /// Columns.
        columns: usize,
    },
}

impl From<firebrick_split::SplitError> for ScoreError {
    fn from(error: firebrick_split::SplitError) -> Self {
        Self::Split(error.to_string())
    }
}
