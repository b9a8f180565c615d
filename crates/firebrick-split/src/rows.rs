//! The input of every splitter: how many rows, and the small columns that a scheme may need.

use crate::{Fingerprint, LabelSets, SplitError, Warning};

/// Most rows that a map holds: row numbers are 32 bits wide.
pub const MAX_ROWS: usize = u32::MAX as usize;

/// What a splitter may know of the rows: their number and small columns, never the features.
///
/// ```
/// use firebrick_split::{Rows, Splitter, StratifiedKFold};
///
/// let labels = [0, 0, 1, 1, 0, 1];
/// let folds = StratifiedKFold::new(3).split(&Rows::new(6).with_labels(&labels))?;
/// assert_eq!(folds.fold(0)?, [0, 2]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Rows<'a> {
    /// Number of rows.
    pub n: usize,
    /// Class of each row.
    pub labels: Option<&'a [u32]>,
    /// Group of each row: rows of one group never part.
    pub groups: Option<&'a [u32]>,
    /// Time of each row, in any unit; the begin of its interval where rows last.
    pub times: Option<&'a [i64]>,
    /// End of each row's interval (inclusive), for purged schemes.
    pub ends: Option<&'a [i64]>,
    /// Continuous target of each row.
    pub target: Option<&'a [f64]>,
    /// Labels of each row where there may be several.
    pub label_sets: Option<&'a LabelSets>,
    /// Fingerprint of the rows' content, kept in the result so that it can be verified later.
    pub fingerprint: Option<Fingerprint>,
}

impl<'a> Rows<'a> {
    /// `n` rows without columns.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { n, ..Self::default() }
    }

    /// With a class for each row; codes from [`encode`](crate::encode) or any `u32`.
    #[must_use]
    pub fn with_labels(self, labels: &'a [u32]) -> Self {
        Self { labels: Some(labels), ..self }
    }

    /// With a group for each row.
    #[must_use]
    pub fn with_groups(self, groups: &'a [u32]) -> Self {
        Self { groups: Some(groups), ..self }
    }

    /// With a time for each row.
    #[must_use]
    pub fn with_times(self, times: &'a [i64]) -> Self {
        Self { times: Some(times), ..self }
    }

    /// With the end of each row's interval, whose begin is its time.
    #[must_use]
    pub fn with_ends(self, ends: &'a [i64]) -> Self {
        Self { ends: Some(ends), ..self }
    }

    /// With a continuous target for each row.
    #[must_use]
    pub fn with_target(self, target: &'a [f64]) -> Self {
        Self { target: Some(target), ..self }
    }

    /// With any number of labels for each row.
    #[must_use]
    pub fn with_label_sets(self, sets: &'a LabelSets) -> Self {
        Self { label_sets: Some(sets), ..self }
    }

    /// With the fingerprint of the rows' content.
    #[must_use]
    pub fn with_fingerprint(self, fingerprint: Fingerprint) -> Self {
        Self { fingerprint: Some(fingerprint), ..self }
    }

    /// Checks the number of rows and the length of every column.
    ///
    /// # Errors
    /// [`SplitError::NoRows`], [`SplitError::TooManyRows`] or [`SplitError::LengthMismatch`].
    pub fn check(&self) -> Result<(), SplitError> {
        if self.n == 0 {
            return Err(SplitError::NoRows);
        }
        if self.n > MAX_ROWS {
            return Err(SplitError::TooManyRows { n: self.n as u64, max: MAX_ROWS as u64 });
        }
        let lengths = [
            ("labels", self.labels.map(<[u32]>::len)),
            ("groups", self.groups.map(<[u32]>::len)),
            ("times", self.times.map(<[i64]>::len)),
            ("ends", self.ends.map(<[i64]>::len)),
            ("target", self.target.map(<[f64]>::len)),
            ("label_sets", self.label_sets.map(LabelSets::rows)),
        ];
        for (column, len) in lengths {
            if let Some(len) = len
                && len != self.n
            {
                return Err(SplitError::LengthMismatch { column, len, n: self.n });
            }
        }
        if let Some(fingerprint) = self.fingerprint
            && fingerprint.rows != self.n as u64
        {
            let len = fingerprint.rows as usize;
            return Err(SplitError::RowsDiffer { what: "the fingerprint", len, n: self.n });
        }
        Ok(())
    }

    /// The labels, or the error that `scheme` needs them.
    pub(crate) fn need_labels(&self, scheme: &'static str) -> Result<&'a [u32], SplitError> {
        self.labels.ok_or(SplitError::MissingColumn { column: "labels", scheme })
    }

    /// The groups, or the error that `scheme` needs them.
    pub(crate) fn need_groups(&self, scheme: &'static str) -> Result<&'a [u32], SplitError> {
        self.groups.ok_or(SplitError::MissingColumn { column: "groups", scheme })
    }

    /// The times, or the error that `scheme` needs them.
    pub(crate) fn need_times(&self, scheme: &'static str) -> Result<&'a [i64], SplitError> {
        self.times.ok_or(SplitError::MissingColumn { column: "times", scheme })
    }

    /// A warning for each column whose neglect can leak: groups and times that `scheme` does not look at.
    pub(crate) fn ignored(&self, scheme: &'static str, groups: bool, times: bool) -> Vec<Warning> {
        let given =
            [("groups", self.groups.is_some(), groups), ("times", self.times.is_some(), times)];
        given
            .into_iter()
            .filter(|(_, given, used)| *given && !used)
            .map(|(column, _, _)| Warning::ColumnIgnored {
                column: column.into(),
                scheme: scheme.into(),
            })
            .collect()
    }
}
