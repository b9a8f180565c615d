//! Purged and combinatorial schemes for rows that last: no training interval touches a test interval.
//!
//! M. Lopez de Prado, "Advances in Financial Machine Learning", 2018, chapters 7 and 12.

use crate::axis::by_time;
use crate::leave_out::{DEFAULT_CAP, check_cap, combination};
use crate::splitter::no_split;
use crate::{RowSet, Rows, Spec, Split, SplitError, Splits, Splitter, Warning};
use firebrick_core::Seed;
use std::ops::Range;

/// K-fold over blocks of time, purged and with an embargo.
///
/// Rows are ordered by their begin. For a test block `B`, training rows whose interval `[t0, t1]` meets
/// `[min t0(B), max t1(B)]` are dropped, then those that begin within `embargo` after `max t1(B)`. Time O(n log n),
/// and O(n) for each split.
///
/// Errors: [`SplitError::BadFolds`], [`SplitError::MissingColumn`] without times, [`SplitError::BadInterval`],
/// [`SplitError::EmptyPart`] when nothing is left to train on.
/// Warning: [`Warning::ManyRowsPurged`] when a split loses more than half of its training rows.
///
/// ```
/// use firebrick_split::{PurgedKFold, Rows, Splits, Splitter};
///
/// let (begin, end) = ([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]);
/// let rows = Rows::new(6).with_times(&begin).with_ends(&end);
/// let splits = PurgedKFold::new(3).with_embargo(1).split(&rows)?;
/// assert_eq!(splits.get(0)?.valid.to_vec(), [0, 1]);
/// assert_eq!(splits.get(0)?.train.to_vec(), [4, 5]); // 2 is purged; 3 begins within 1 of 2
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgedKFold {
    k: usize,
    embargo: u64,
}

impl PurgedKFold {
    /// `k` blocks of time.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, embargo: 0 }
    }

    /// With rows left out that begin within `embargo` units of time after the test block.
    #[must_use]
    pub fn with_embargo(self, embargo: u64) -> Self {
        Self { embargo, ..self }
    }
}

/// Blocks of time with the intervals of all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct PurgedSplits {
    k: usize,
    embargo: u64,
    /// Rows by begin; none where they are in order.
    order: Option<Vec<u32>>,
    starts: Vec<i64>,
    ends: Vec<i64>,
    warnings: Vec<Warning>,
}

/// Block `index` of `k` over `n` places, the first `n mod k` blocks one longer.
fn block(n: usize, k: usize, index: usize) -> Range<usize> {
    let start = |index: usize| index * (n / k) + index.min(n % k);
    start(index)..start(index + 1)
}

impl Splitter for PurgedKFold {
    type Output = PurgedSplits;

    fn split(&self, rows: &Rows<'_>) -> Result<PurgedSplits, SplitError> {
        rows.check()?;
        crate::kfold::check_k(self.k, rows.n)?;
        let starts = rows.need_times("purged_k_fold")?;
        let ends = rows.ends.unwrap_or(starts);
        if let Some(row) = (0..rows.n).find(|&row| ends[row] < starts[row]) {
            return Err(SplitError::BadInterval { row, start: starts[row], end: ends[row] });
        }
        let mut splits = PurgedSplits {
            k: self.k,
            embargo: self.embargo,
            order: by_time(starts),
            starts: starts.to_vec(),
            ends: ends.to_vec(),
            warnings: rows.ignored("purged_k_fold", false, true),
        };
        for split in 0..self.k {
            let kept = splits.kept(split).count();
            let valid = block(rows.n, self.k, split).len();
            let before = rows.n - valid;
            if kept == 0 {
                let sizes = [0, valid, 0];
                return Err(SplitError::EmptyPart {
                    part: crate::PartName::Train,
                    n: rows.n,
                    sizes,
                });
            }
            if 2 * kept < before {
                let removed = before - kept;
                splits.warnings.push(Warning::ManyRowsPurged { split, removed, rows: before });
            }
        }
        Ok(splits)
    }

    fn spec(&self) -> Spec {
        Spec::new("purged_k_fold", None).with("k", self.k).with("embargo", self.embargo)
    }

    fn reseeded(&self, _: Seed) -> Option<Self> {
        None
    }
}

impl PurgedSplits {
    fn row(&self, place: usize) -> usize {
        self.order.as_ref().map_or(place, |order| order[place] as usize)
    }

    /// Training rows that purge and embargo leave, in the order of their begin.
    fn kept(&self, index: usize) -> impl Iterator<Item = u32> + '_ {
        let n = self.starts.len();
        let test = block(n, self.k, index);
        let first = self.starts[self.row(test.start)];
        let last = test.clone().map(|place| self.ends[self.row(place)]).max().unwrap_or(first);
        (0..n).filter(move |place| !test.contains(place)).map(|place| self.row(place)).filter_map(
            move |row| {
                let (start, end) = (self.starts[row], self.ends[row]);
                let meets = start <= last && end >= first;
                let embargoed = start > last && start.abs_diff(last) <= self.embargo;
                (!meets && !embargoed).then_some(row as u32)
            },
        )
    }
}

fn ascending(rows: impl Iterator<Item = u32>) -> RowSet {
    let mut rows: Vec<u32> = rows.collect();
    rows.sort_unstable();
    rows.into()
}

impl Splits for PurgedSplits {
    fn rows(&self) -> usize {
        self.starts.len()
    }

    fn count(&self) -> usize {
        self.k
    }

    fn get(&self, index: usize) -> Result<Split, SplitError> {
        if index >= self.k {
            return Err(no_split(index, self.k));
        }
        let test = block(self.rows(), self.k, index);
        let valid = ascending(test.map(|place| self.row(place) as u32));
        Ok(Split { train: ascending(self.kept(index)), valid })
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Combinatorial purged cross-validation: tests every choice of `q` of `blocks` contiguous blocks of rows.
///
/// C(N, q) splits in lexicographic order; every row is tested C(N - 1, q - 1) times, which is the number of
/// back-test paths. Around each run of test blocks `purge` rows are dropped from training on either side, and
/// `embargo` more after it. A split is a few ranges: O(N) memory. Rows must be in the order of time.
///
/// Errors: [`SplitError::BadFolds`] for fewer than two blocks or more blocks than rows, a `ConfigError` for `q`
/// outside 1 to N - 1, [`SplitError::TooManySplits`], [`SplitError::Unsorted`], [`SplitError::EmptyPart`].
///
/// ```
/// use firebrick_split::{CombinatorialPurged, Rows, Splits, Splitter};
///
/// let splits = CombinatorialPurged::new(6, 2).with_purge(1).split(&Rows::new(60))?;
/// assert_eq!((splits.count(), splits.paths().len()), (15, 5));
/// assert_eq!(splits.get(0)?.train.to_vec()[0], 21);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CombinatorialPurged {
    blocks: usize,
    q: usize,
    purge: usize,
    embargo: usize,
    cap: u128,
}

impl CombinatorialPurged {
    /// Tests `q` of `blocks` blocks.
    #[must_use]
    pub fn new(blocks: usize, q: usize) -> Self {
        Self { blocks, q, purge: 0, embargo: 0, cap: DEFAULT_CAP }
    }

    /// With so many rows dropped on either side of a run of test blocks.
    #[must_use]
    pub fn with_purge(self, rows: usize) -> Self {
        Self { purge: rows, ..self }
    }

    /// With so many rows more dropped after it.
    #[must_use]
    pub fn with_embargo(self, rows: usize) -> Self {
        Self { embargo: rows, ..self }
    }

    /// With more splits allowed.
    #[must_use]
    pub fn with_cap(self, cap: u128) -> Self {
        Self { cap, ..self }
    }
}

/// The splits of [`CombinatorialPurged`].
#[derive(Debug, Clone, PartialEq)]
pub struct CombinatorialSplits {
    n: usize,
    scheme: CombinatorialPurged,
    count: usize,
    warnings: Vec<Warning>,
}

/// One back-test path: for each block in order, the split in which it is tested.
pub type BacktestPath = Vec<usize>;

impl Splitter for CombinatorialPurged {
    type Output = CombinatorialSplits;

    fn split(&self, rows: &Rows<'_>) -> Result<CombinatorialSplits, SplitError> {
        rows.check()?;
        crate::kfold::check_k(self.blocks, rows.n)?;
        if self.q == 0 || self.q >= self.blocks {
            let expected = format!("in [1, {}] for {} blocks", self.blocks - 1, self.blocks);
            return Err(firebrick_core::ConfigError::new("q", self.q, expected).into());
        }
        // The same order check as for any time series in rows.
        crate::axis::Axis::new(rows, crate::TimeUnit::Rows, false, "combinatorial_purged")?;
        let count = check_cap(self.blocks, self.q, self.cap)?;
        let warnings = rows.ignored("combinatorial_purged", false, true);
        let splits = CombinatorialSplits { n: rows.n, scheme: self.clone(), count, warnings };
        for index in 0..count {
            let Split { train, valid } = splits.get(index)?;
            if train.is_empty() {
                let sizes = [0, valid.len(), 0];
                return Err(SplitError::EmptyPart {
                    part: crate::PartName::Train,
                    n: rows.n,
                    sizes,
                });
            }
        }
        Ok(splits)
    }

    fn spec(&self) -> Spec {
        Spec::new("combinatorial_purged", None)
            .with("blocks", self.blocks)
            .with("q", self.q)
            .with("purge", self.purge)
            .with("embargo", self.embargo)
    }

    fn reseeded(&self, _: Seed) -> Option<Self> {
        None
    }
}

impl CombinatorialSplits {
    /// The rows of a block.
    #[must_use]
    pub fn block(&self, block_number: usize) -> Range<usize> {
        block(self.n, self.scheme.blocks, block_number)
    }

    /// The back-test paths: path `j` takes each block from its `j`-th appearance as a test block, so that
    /// every path covers every row once.
    #[must_use]
    pub fn paths(&self) -> Vec<BacktestPath> {
        let mut appearances = vec![Vec::new(); self.scheme.blocks];
        for split in 0..self.count {
            for tested in combination(self.scheme.blocks, self.scheme.q, split as u128) {
                appearances[tested].push(split);
            }
        }
        let paths = appearances.first().map_or(0, Vec::len);
        (0..paths).map(|path| appearances.iter().map(|splits| splits[path]).collect()).collect()
    }
}

impl Splits for CombinatorialSplits {
    fn rows(&self) -> usize {
        self.n
    }

    fn count(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> Result<Split, SplitError> {
        if index >= self.count {
            return Err(no_split(index, self.count));
        }
        let CombinatorialPurged { blocks, q, purge, embargo, .. } = self.scheme;
        let mut runs: Vec<Range<usize>> = Vec::new();
        for tested in combination(blocks, q, index as u128) {
            let rows = self.block(tested);
            match runs.last_mut() {
                Some(run) if run.end == rows.start => run.end = rows.end,
                _ => runs.push(rows),
            }
        }
        let mut train = Vec::new();
        let mut free = 0;
        for run in &runs {
            let end = run.start.saturating_sub(purge);
            if free < end {
                train.push(free as u32..end as u32);
            }
            free = run.end.saturating_add(purge).saturating_add(embargo);
        }
        if free < self.n {
            train.push(free as u32..self.n as u32);
        }
        let valid: Vec<Range<u32>> =
            runs.iter().map(|run| run.start as u32..run.end as u32).collect();
        Ok(Split { train: train.into(), valid: valid.into() })
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_purged_away_is_reported() {
        let times = [0, 1, 2, 3];
        let rows = Rows::new(4).with_times(&times);
        let long = [9, 9, 9, 9];
        let error =
            PurgedKFold::new(2).split(&rows.with_ends(&long)).expect_err("everything meets");
        assert!(matches!(error, SplitError::EmptyPart { .. }));
        let back = PurgedKFold::new(2).split(&rows.with_ends(&[0, 0, 2, 3])).expect_err("row 1");
        assert_eq!(back, SplitError::BadInterval { row: 1, start: 1, end: 0 });
        assert!(PurgedKFold::new(2).split(&Rows::new(4)).is_err());
        let some = PurgedKFold::new(2).with_embargo(1);
        let (starts, ends) = ([0, 1, 2, 3, 4, 50], [1, 2, 3, 4, 5, 51]);
        let splits =
            some.split(&Rows::new(6).with_times(&starts).with_ends(&ends)).expect("splits");
        assert!(
            splits
                .warnings()
                .iter()
                .any(|w| matches!(w, Warning::ManyRowsPurged { split: 0, removed: 2, rows: 3 }))
        );
        assert!(PurgedKFold::new(2).with_embargo(u64::MAX).split(&rows).is_err());
    }

    #[test]
    fn no_row_of_an_uneven_number_is_forgotten() {
        // n div N blocks of equal length would leave 7 and 37 rows untested.
        for (n, blocks) in [(29, 10), (119, 40)] {
            let splits = CombinatorialPurged::new(blocks, 1).split(&Rows::new(n)).expect("splits");
            let tested: usize = splits.iter().map(|split| split.valid.len()).sum();
            assert_eq!(tested, n);
        }
    }

    #[test]
    fn bad_choices_are_refused() {
        let rows = Rows::new(20);
        assert!(CombinatorialPurged::new(4, 0).split(&rows).is_err());
        assert!(CombinatorialPurged::new(4, 4).split(&rows).is_err());
        assert!(matches!(
            CombinatorialPurged::new(1, 1).split(&rows),
            Err(SplitError::BadFolds { .. })
        ));
        assert!(matches!(
            CombinatorialPurged::new(20, 10).split(&rows),
            Err(SplitError::TooManySplits { .. })
        ));
        let all = CombinatorialPurged::new(4, 2).with_purge(20).split(&rows);
        assert!(matches!(all, Err(SplitError::EmptyPart { .. })));
        let falling = [3, 2, 1];
        let unsorted = CombinatorialPurged::new(3, 1).split(&Rows::new(3).with_times(&falling));
        assert!(matches!(unsorted, Err(SplitError::Unsorted { row: 1, .. })));
    }
}
