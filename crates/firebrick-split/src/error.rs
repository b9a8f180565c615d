//! What can go wrong: one typed error for every bad input, with the numbers in the message.

use crate::ledger::Opening;
use crate::map::PartName;
use firebrick_core::ConfigError;
use std::path::PathBuf;

/// Everything that this crate refuses, and why.
///
/// Nothing is split before all input has been checked, and nothing panics: problems that leave a usable
/// split are [`Warning`](crate::Warning) values in the result instead.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// A part would hold no row.
    #[error("the {part} part would be empty: {n} rows, sizes train {}, validation {}, test {}", sizes[0], sizes[1], sizes[2])]
    EmptyPart {
        /// The part without rows.
        part: PartName,
        /// Rows in all.
        n: usize,
        /// Rows of the train, validation and test part as they were worked out.
        sizes: [usize; 3],
    },
    /// There are no rows at all.
    #[error("there are no rows to split")]
    NoRows,
    /// A number of folds that the rows do not allow.
    #[error(
        "`k` must be at least 2, at most the number of rows and at most {max}, got {k} for {n} rows"
    )]
    BadFolds {
        /// Folds asked for.
        k: usize,
        /// Rows there are.
        n: usize,
        /// Most folds that a map can hold.
        max: usize,
    },
    /// Sizes of parts that are no sizes, or do not go together.
    #[error("sizes of the parts do not fit: {reason}")]
    BadSizes {
        /// Which size, and what would be right.
        reason: String,
    },
    /// A column has another length than the rows.
    #[error("column `{column}` has {len} values, but there are {n} rows")]
    LengthMismatch {
        /// Name of the column.
        column: &'static str,
        /// Its length.
        len: usize,
        /// Rows there are.
        n: usize,
    },
    /// A scheme needs a column that was not given.
    #[error("{scheme} needs the column `{column}`: give it with `Rows::with_{column}`")]
    MissingColumn {
        /// Name of the column.
        column: &'static str,
        /// The scheme that needs it.
        scheme: &'static str,
    },
    /// More rows than a map of 32-bit row numbers holds.
    #[error(
        "{n} rows are more than the {max} that a map can hold: use FeistelFolds, which stores nothing"
    )]
    TooManyRows {
        /// Rows there are.
        n: u64,
        /// Rows that fit.
        max: u64,
    },
    /// No class has a row for every fold.
    #[error("every class has fewer rows than the {k} folds: {}", list_classes(classes))]
    ClassesTooSmall {
        /// Folds asked for.
        k: usize,
        /// Label and rows of each class.
        classes: Vec<(u32, usize)>,
    },
    /// Some classes cannot be spread over the parts.
    #[error(
        "classes with fewer than {need} rows cannot be spread over the parts: {}; pool or ignore them with `with_rare`",
        list_classes(classes)
    )]
    ClassTooSmall {
        /// Rows that a class needs.
        need: usize,
        /// Label and rows of each class that has fewer.
        classes: Vec<(u32, usize)>,
    },
    /// A part is smaller than the classes that must all be in it.
    #[error(
        "the {part} part has {size} rows, fewer than {classes} classes times {min_per_class} rows each"
    )]
    PartTooSmall {
        /// The part.
        part: PartName,
        /// Its rows.
        size: usize,
        /// Number of classes.
        classes: usize,
        /// Rows of each class that were asked for.
        min_per_class: usize,
    },
    /// Fewer groups than the scheme needs.
    #[error("there are {groups} groups, but {scheme} needs at least {need}")]
    TooFewGroups {
        /// Groups there are.
        groups: usize,
        /// Groups needed.
        need: usize,
        /// The scheme.
        scheme: &'static str,
    },
    /// A fold came out empty although there are enough groups (only in scikit-learn's order).
    #[error(
        "fold {fold} of {k} came out empty: scikit-learn's rule decided a tie by rounding; use the mode `Balanced`"
    )]
    EmptyFold {
        /// The empty fold.
        fold: usize,
        /// Folds in all.
        k: usize,
    },
    /// A value is NaN or infinite.
    #[error("row {row} of column `{column}` is not a finite number")]
    NotANumber {
        /// Name of the column.
        column: &'static str,
        /// The first such row.
        row: usize,
    },
    /// A window of zero rows.
    #[error("`{field}` must be at least 1, got 0")]
    ZeroWindow {
        /// Name of the setting.
        field: &'static str,
    },
    /// The windows of a time series need more room than there is.
    #[error("the windows need {need} {unit}, but there are {have}")]
    WindowsDoNotFit {
        /// What is needed.
        need: u128,
        /// What there is.
        have: u128,
        /// Rows, groups or distinct times.
        unit: &'static str,
    },
    /// A column must ascend and does not.
    #[error(
        "column `{column}` falls at row {row}, but {scheme} needs it in ascending order: {remedy}"
    )]
    Unsorted {
        /// Name of the column.
        column: &'static str,
        /// The first row that is below the one before.
        row: usize,
        /// The scheme.
        scheme: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A window of a time series holds no row.
    #[error("the {part} window of split {split} holds no row")]
    EmptyWindow {
        /// The part.
        part: PartName,
        /// The split.
        split: usize,
    },
    /// Groups overlap in time where blocks of whole groups are wanted.
    #[error(
        "groups {earlier} and {later} overlap in time: blocks of groups would mix past and future; allow it with `with_interleaved`"
    )]
    GroupsInterleave {
        /// The group that begins first.
        earlier: u32,
        /// The group that begins before the other has ended.
        later: u32,
    },
    /// A row's interval ends before it begins.
    #[error("row {row} ends at {end}, before it begins at {start}")]
    BadInterval {
        /// The first such row.
        row: usize,
        /// Begin.
        start: i64,
        /// End.
        end: i64,
    },
    /// More splits than anyone can want.
    #[error(
        "{count} splits are more than the cap of {cap}; raise it with `with_cap` if you mean it"
    )]
    TooManySplits {
        /// Splits that the settings give.
        count: u128,
        /// The cap.
        cap: u128,
    },
    /// A predefined split without any fold.
    #[error("no row has a fold: every row is marked as never tested")]
    NoFolds,
    /// A predefined split with one fold leaves nothing to train on.
    #[error("all {n} rows are in fold {fold}, so its training part is empty")]
    OneFold {
        /// The only fold.
        fold: u32,
        /// Rows there are.
        n: usize,
    },
    /// The number of a split or fold that does not exist.
    #[error("there is no split {index}: there are {count}")]
    NoSuchSplit {
        /// The number asked for.
        index: usize,
        /// Splits there are.
        count: usize,
    },
    /// Repeating a scheme in which nothing is random gives the same split again.
    #[error(
        "{scheme} is not shuffled, so every repetition would be the same: give it a seed with `with_shuffle`"
    )]
    NothingRandom {
        /// The scheme.
        scheme: &'static str,
    },
    /// The split has no such part.
    #[error("the split has no {part} part")]
    NoSuchPart {
        /// The part asked for.
        part: PartName,
    },
    /// Two things that must describe the same rows do not.
    #[error("{what} covers {len} rows, but the split covers {n}")]
    RowsDiffer {
        /// What differs.
        what: &'static str,
        /// Its rows.
        len: usize,
        /// Rows of the split.
        n: usize,
    },
    /// A setting outside its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Reading or writing a file failed.
    #[error("{}: {message}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The kind of failure.
        kind: std::io::ErrorKind,
        /// What the system says.
        message: String,
    },
    /// A saved split cannot be read.
    #[error("the saved split is damaged: {reason}")]
    MapDamaged {
        /// What is wrong.
        reason: String,
    },
    /// The data are not those that were split.
    #[error("the data changed since they were split: {change}")]
    DataChanged {
        /// Count, content or order.
        change: crate::manifest::DataChange,
    },
    /// A line of the ledger is not what was written.
    #[error("line {line} of the ledger {} is damaged: {reason}; nothing was opened", path.display())]
    LedgerDamaged {
        /// The ledger.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The ledger belongs to another data set.
    #[error("the ledger {} belongs to another data set: its rows have the fingerprint {recorded}, these have {given}", path.display())]
    LedgerOfOtherData {
        /// The ledger.
        path: PathBuf,
        /// The fingerprint in its first line.
        recorded: String,
        /// The fingerprint of the data at hand.
        given: String,
    },
    /// These test rows have been opened before, with another model or another result.
    #[error(
        "{shared} of these {rows} test rows have been opened before: {first}; a second look is no test. `reopen(reason)` records why and lets it pass"
    )]
    AlreadyOpened {
        /// Test rows that were opened before.
        shared: usize,
        /// Test rows at hand.
        rows: usize,
        /// The opening that came first.
        first: Box<Opening>,
    },
    /// Rows of an opened test part are in training now.
    #[error(
        "{count} rows of a test part that has been opened are outside the test part now, where training sees them: {first}. Use the same seed and sizes, or `reopen(reason)`"
    )]
    TestRowsReused {
        /// How many.
        count: usize,
        /// The opening they were in.
        first: Box<Opening>,
    },
    /// The reusable hold-out has answered as often as it may.
    #[error("the hold-out has spent its budget of {budget} {unit}; ask a fresh one")]
    BudgetSpent {
        /// The budget.
        budget: u64,
        /// What it counts.
        unit: &'static str,
    },
    /// Values that must pair up do not.
    #[error(
        "`{left}` has {left_len} values and `{right}` has {right_len}; they must be equal in number"
    )]
    Unpaired {
        /// Name of the first.
        left: &'static str,
        /// Its length.
        left_len: usize,
        /// Name of the second.
        right: &'static str,
        /// Its length.
        right_len: usize,
    },
    /// A setting that the scheme does not look at.
    #[error("{scheme} does not look at `{field}`: {remedy}")]
    UnusedSetting {
        /// Name of the setting.
        field: &'static str,
        /// The scheme.
        scheme: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A recorded case of a scheme that is not known.
    #[error("unknown kind {kind:?} of split")]
    UnknownKind {
        /// The kind.
        kind: String,
    },
    /// A recorded case that cannot be replayed.
    #[error("the case cannot be replayed: {reason}")]
    BadCase {
        /// What is wrong with it.
        reason: String,
    },
}

impl SplitError {
    /// The error of a failed file operation.
    pub(crate) fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), kind: error.kind(), message: error.to_string() }
    }
}

/// The first classes of a list, so that a message stays readable with a million of them.
fn list_classes(classes: &[(u32, usize)]) -> String {
    let shown: Vec<String> =
        classes.iter().take(10).map(|(label, rows)| format!("{label} ({rows} rows)")).collect();
    let more = classes.len().saturating_sub(10);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}
