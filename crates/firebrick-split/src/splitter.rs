//! The contract of all schemes: rows in, a compact description of the splits out.

use crate::{RowSet, Rows, Spec, SplitError, Warning};
use firebrick_core::Seed;

/// A splitting scheme.
///
/// A scheme is a plain value: `new` and `with_*` check nothing, `split` checks everything before any work.
/// The same (scheme, rows) gives the same bytes on every platform, on any number of threads.
pub trait Splitter {
    /// What the scheme produces.
    type Output: Splits;

    /// Splits the rows.
    ///
    /// # Errors
    /// The lines of [`SplitError`] that the scheme names in its documentation.
    fn split(&self, rows: &Rows<'_>) -> Result<Self::Output, SplitError>;

    /// The recipe: algorithm, version, parameters and seed.
    fn spec(&self) -> Spec;

    /// The same scheme under another seed, or none when nothing in it is random.
    #[must_use]
    fn reseeded(&self, seed: Seed) -> Option<Self>
    where
        Self: Sized;
}

/// One training part and one validation part, both ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows to train on.
    pub train: RowSet,
    /// Rows to validate on.
    pub valid: RowSet,
}

/// The splits that a scheme produced; lists are made on demand.
pub trait Splits {
    /// Rows in all.
    fn rows(&self) -> usize;

    /// Number of splits.
    fn count(&self) -> usize;

    /// Split number `index`.
    ///
    /// # Errors
    /// [`SplitError::NoSuchSplit`] when there is none of that number.
    fn get(&self, index: usize) -> Result<Split, SplitError>;

    /// What the user should know.
    fn warnings(&self) -> &[Warning];

    /// All splits in order, each made when it is reached, with lists of its own;
    /// [`FoldMap::split_into`](crate::FoldMap::split_into) uses the same two again and is faster.
    fn iter(&self) -> impl Iterator<Item = Split> + '_
    where
        Self: Sized,
    {
        (0..self.count()).map_while(|index| self.get(index).ok())
    }
}

/// The error for a split that does not exist.
pub(crate) fn no_split(index: usize, count: usize) -> SplitError {
    SplitError::NoSuchSplit { index, count }
}
