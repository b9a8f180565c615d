//! Soft problems: the split is usable, but its user should know.

use serde::{Deserialize, Serialize};

/// Something that does not prevent a split and still deserves to be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "warning", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// Some classes have fewer rows than there are folds, so some folds lack them.
    #[error("{} of the classes have fewer rows than the {k} folds and are missing in some: {classes:?}", classes.len())]
    SmallClasses {
        /// Number of folds or parts.
        k: usize,
        /// Label and rows of each.
        classes: Vec<(u32, usize)>,
    },
    /// Classes that were too rare to stratify were treated as one.
    #[error("{} rare classes were stratified as one: {classes:?}", classes.len())]
    PooledClasses {
        /// Label and rows of each.
        classes: Vec<(u32, usize)>,
    },
    /// One group is larger than a fold should be.
    #[error("group {group} holds {rows} rows, {:.1} % of all: no fold with it can be of equal size", 100.0 * share)]
    DominantGroup {
        /// Code of the group.
        group: u32,
        /// Its rows.
        rows: usize,
        /// Its share of all rows.
        share: f64,
    },
    /// Whole groups could not meet the size that was asked for.
    #[error("asked for {asked} rows in the {part} part, whole groups gave {got}")]
    SizeMissed {
        /// The part.
        part: crate::map::PartName,
        /// Rows asked for.
        asked: usize,
        /// Rows it has.
        got: usize,
    },
    /// A column was given to a scheme that does not look at it.
    #[error("{scheme} ignores the column `{column}`: rows that belong together may be torn apart")]
    ColumnIgnored {
        /// Name of the column.
        column: String,
        /// The scheme.
        scheme: String,
    },
    /// The numbers of the folds had gaps and were closed up.
    #[error("fold numbers had gaps; fold i of the map is fold {kept:?}[i] of the input")]
    FoldsRenumbered {
        /// The given number of each fold.
        kept: Vec<u32>,
    },
    /// A label column of a multi-label problem says nothing.
    #[error("label column {column} is set in {count} of {rows} rows: it cannot be balanced")]
    ConstantLabel {
        /// The column.
        column: usize,
        /// Rows in which it is set.
        count: usize,
        /// Rows there are.
        rows: usize,
    },
    /// Purging or embargo removed many training rows.
    #[error("split {split} lost {removed} of {rows} training rows to purge and embargo")]
    ManyRowsPurged {
        /// The split.
        split: usize,
        /// Rows removed.
        removed: usize,
        /// Training rows before.
        rows: usize,
    },
    /// A bootstrap replicate without out-of-bag rows was drawn again.
    #[error("{redrawn} bootstrap replicates left no row out of the bag and were drawn again")]
    Redrawn {
        /// How many draws were discarded.
        redrawn: usize,
    },
}
