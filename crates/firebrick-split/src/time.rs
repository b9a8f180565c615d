//! Time series: train on the past, test on what follows, with a gap between.

use crate::axis::{Axis, TimeUnit};
use crate::splitter::no_split;
use crate::{PartName, Rows, Spec, Split, SplitError, Splits, Splitter, Warning};
use firebrick_core::Seed;
use std::ops::Range;

/// Expanding windows: `k` test windows at the end, each trained on all that lies before it.
///
/// With `n` places and test windows of `t` (by default `n div (k + 1)`), test window `i` begins at
/// `s = n - (k - i) t`, and training is `[max(0, s - gap - max_train), s - gap)`. It is scikit-learn's
/// `TimeSeriesSplit`. Places are rows, distinct times, units of time or groups. Windows are ranges: no memory.
///
/// Errors: [`SplitError::BadFolds`], [`SplitError::ZeroWindow`], [`SplitError::WindowsDoNotFit`],
/// [`SplitError::Unsorted`], [`SplitError::MissingColumn`], [`SplitError::GroupsInterleave`],
/// [`SplitError::EmptyWindow`].
///
/// ```
/// use firebrick_split::{Rows, Splits, Splitter, TimeSeries};
///
/// let splits = TimeSeries::new(3).with_gap(1).split(&Rows::new(8))?;
/// assert_eq!(splits.get(0)?.train.to_vec(), [0]);
/// assert_eq!(splits.get(0)?.valid.to_vec(), [2, 3]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeSeries {
    k: usize,
    gap: u64,
    max_train: Option<u64>,
    test: Option<u64>,
    unit: TimeUnit,
    interleaved: bool,
}

impl TimeSeries {
    /// `k` test windows.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, gap: 0, max_train: None, test: None, unit: TimeUnit::Rows, interleaved: false }
    }

    /// With so many places left out between training and test.
    #[must_use]
    pub fn with_gap(self, gap: u64) -> Self {
        Self { gap, ..self }
    }

    /// With at most so many places of training.
    #[must_use]
    pub fn with_max_train(self, places: u64) -> Self {
        Self { max_train: Some(places), ..self }
    }

    /// With test windows of so many places.
    #[must_use]
    pub fn with_test(self, places: u64) -> Self {
        Self { test: Some(places), ..self }
    }

    /// With places of another kind.
    #[must_use]
    pub fn with_unit(self, unit: TimeUnit) -> Self {
        Self { unit, ..self }
    }

    /// With groups that overlap in time allowed.
    #[must_use]
    pub fn with_interleaved(self) -> Self {
        Self { interleaved: true, ..self }
    }
}

/// Sliding windows: training windows of one length, each followed by its test window.
///
/// Training `[a, a + train)`, then `gap`, then `test` places; `a` moves by `step` (by default `test`). The last
/// window ends with the data; what does not fill a window is left out at the beginning, or at the end with
/// `with_anchor_start`, where `with_keep_partial` keeps a shorter last test window.
///
/// Errors as for [`TimeSeries`].
///
/// ```
/// use firebrick_split::{Rows, SlidingWindow, Splits, Splitter};
///
/// let splits = SlidingWindow::new(3, 2).split(&Rows::new(8))?;
/// assert_eq!(splits.count(), 2);
/// assert_eq!(splits.get(1)?.train.to_vec(), [3, 4, 5]);
/// assert_eq!(splits.get(1)?.valid.to_vec(), [6, 7]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    train: u64,
    test: u64,
    gap: u64,
    step: Option<u64>,
    from_start: bool,
    keep_partial: bool,
    unit: TimeUnit,
    interleaved: bool,
    cap: u128,
}

/// Windows that are made unless more are asked for: 32 bytes each.
const WINDOW_CAP: u128 = 1_000_000;

impl SlidingWindow {
    /// Windows of `train` and `test` places.
    #[must_use]
    pub fn new(train: u64, test: u64) -> Self {
        Self {
            train,
            test,
            gap: 0,
            step: None,
            from_start: false,
            keep_partial: false,
            unit: TimeUnit::Rows,
            interleaved: false,
            cap: WINDOW_CAP,
        }
    }

    /// With so many places left out between training and test.
    #[must_use]
    pub fn with_gap(self, gap: u64) -> Self {
        Self { gap, ..self }
    }

    /// With more windows allowed than a million.
    #[must_use]
    pub fn with_cap(self, cap: u128) -> Self {
        Self { cap, ..self }
    }

    /// With another distance from window to window.
    #[must_use]
    pub fn with_step(self, step: u64) -> Self {
        Self { step: Some(step), ..self }
    }

    /// With the first window at the beginning of the data.
    #[must_use]
    pub fn with_anchor_start(self) -> Self {
        Self { from_start: true, ..self }
    }

    /// With a last test window that is shorter, where windows are anchored at the start.
    #[must_use]
    pub fn with_keep_partial(self) -> Self {
        Self { keep_partial: true, from_start: true, ..self }
    }

    /// With places of another kind.
    #[must_use]
    pub fn with_unit(self, unit: TimeUnit) -> Self {
        Self { unit, ..self }
    }

    /// With groups that overlap in time allowed.
    #[must_use]
    pub fn with_interleaved(self) -> Self {
        Self { interleaved: true, ..self }
    }
}

/// Windows over time; lists are made on demand, ranges where rows are in order.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeSplits {
    n: usize,
    axis: Axis,
    /// Training and test places.
    windows: Vec<(Range<u64>, Range<u64>)>,
    warnings: Vec<Warning>,
}

impl TimeSplits {
    fn new(
        rows: &Rows<'_>,
        mut axis: Axis,
        windows: Vec<(Range<u64>, Range<u64>)>,
        warnings: Vec<Warning>,
    ) -> Result<Self, SplitError> {
        axis.check_ties(&windows)?;
        let splits = Self { n: rows.n, axis, windows, warnings };
        // Windows in units of time may fall between the rows.
        if matches!(splits.axis, Axis::Values { .. }) {
            for (split, (train, test)) in splits.windows.iter().enumerate() {
                for (part, window) in [(PartName::Train, train), (PartName::Test, test)] {
                    if splits.axis.rows(window).is_empty() {
                        return Err(SplitError::EmptyWindow { part, split });
                    }
                }
            }
        }
        Ok(splits)
    }
}

impl Splits for TimeSplits {
    fn rows(&self) -> usize {
        self.n
    }

    fn count(&self) -> usize {
        self.windows.len()
    }

    fn get(&self, index: usize) -> Result<Split, SplitError> {
        let (train, test) = self.windows.get(index).ok_or_else(|| no_split(index, self.count()))?;
        Ok(Split { train: self.axis.rows(train), valid: self.axis.rows(test) })
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

fn ignored(rows: &Rows<'_>, scheme: &'static str, unit: TimeUnit) -> Vec<Warning> {
    rows.ignored(scheme, unit == TimeUnit::Groups, true)
}

fn zero(field: &'static str, value: Option<u64>) -> Result<(), SplitError> {
    if value == Some(0) { Err(SplitError::ZeroWindow { field }) } else { Ok(()) }
}

impl Splitter for TimeSeries {
    type Output = TimeSplits;

    fn split(&self, rows: &Rows<'_>) -> Result<TimeSplits, SplitError> {
        rows.check()?;
        if self.k < 2 || self.k > rows.n {
            return Err(SplitError::BadFolds { k: self.k, n: rows.n, max: rows.n });
        }
        zero("max_train", self.max_train)?;
        zero("test", self.test)?;
        let axis = Axis::new(rows, self.unit, self.interleaved, "time_series")?;
        let (n, k) = (axis.len(), self.k as u64);
        let test = self.test.unwrap_or(n / (k + 1));
        // At least one place to train on before the first gap.
        let need = u128::from(test.max(1)) * u128::from(k) + u128::from(self.gap) + 1;
        if need > u128::from(n) {
            return Err(SplitError::WindowsDoNotFit {
                need,
                have: n.into(),
                unit: self.unit.name(),
            });
        }
        let windows = (0..k).map(|i| {
            let start = n - (k - i) * test;
            let end = start - self.gap;
            let begin = self.max_train.map_or(0, |max| end.saturating_sub(max));
            (begin..end, start..start + test)
        });
        let warnings = ignored(rows, "time_series", self.unit);
        TimeSplits::new(rows, axis, windows.collect(), warnings)
    }

    fn spec(&self) -> Spec {
        let optional = |value: Option<u64>| value.map_or("none".into(), |value| value.to_string());
        Spec::new("time_series", None)
            .with("k", self.k)
            .with("gap", self.gap)
            .with("max_train", optional(self.max_train))
            .with("test", optional(self.test))
            .with("unit", self.unit.name())
    }

    fn reseeded(&self, _: Seed) -> Option<Self> {
        None
    }
}

impl Splitter for SlidingWindow {
    type Output = TimeSplits;

    fn split(&self, rows: &Rows<'_>) -> Result<TimeSplits, SplitError> {
        rows.check()?;
        zero("train", Some(self.train))?;
        zero("test", Some(self.test))?;
        zero("step", self.step)?;
        let axis = Axis::new(rows, self.unit, self.interleaved, "sliding_window")?;
        let n = axis.len();
        let step = self.step.unwrap_or(self.test);
        let before = u128::from(self.train) + u128::from(self.gap);
        let least = if self.keep_partial { 1 } else { self.test };
        let need = before + u128::from(least);
        if need > u128::from(n) {
            return Err(SplitError::WindowsDoNotFit {
                need,
                have: n.into(),
                unit: self.unit.name(),
            });
        }
        // It fits, so every sum below stays within 64 bits.
        let before = before as u64;
        let last = n - before - least;
        let count = last / step + 1;
        // A list of windows holds no more, whatever the cap.
        let cap = self.cap.min(u32::MAX.into());
        if u128::from(count) > cap {
            return Err(SplitError::TooManySplits { count: count.into(), cap });
        }
        let shift = if self.from_start { 0 } else { last % step };
        let windows = (0..count).map(|i| {
            let begin = shift + i * step;
            let start = begin + before;
            (begin..begin + self.train, start..start.saturating_add(self.test).min(n))
        });
        let warnings = ignored(rows, "sliding_window", self.unit);
        TimeSplits::new(rows, axis, windows.collect(), warnings)
    }

    fn spec(&self) -> Spec {
        Spec::new("sliding_window", None)
            .with("train", self.train)
            .with("test", self.test)
            .with("gap", self.gap)
            .with("step", self.step.unwrap_or(self.test))
            .with("from_start", self.from_start)
            .with("keep_partial", self.keep_partial)
            .with("unit", self.unit.name())
    }

    fn reseeded(&self, _: Seed) -> Option<Self> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(splits: &TimeSplits) -> Vec<(Vec<u32>, Vec<u32>)> {
        splits.iter().map(|split| (split.train.into_vec(), split.valid.into_vec())).collect()
    }

    #[test]
    fn windows_without_number_are_refused_before_any_is_made() {
        let times = [0, i64::MAX / 2];
        let rows = Rows::new(2).with_times(&times);
        let windows = SlidingWindow::new(1, 1).with_unit(TimeUnit::Values);
        assert!(matches!(
            windows.split(&rows),
            Err(SplitError::TooManySplits { cap: WINDOW_CAP, .. })
        ));
        let ten = Rows::new(10);
        assert!(SlidingWindow::new(1, 1).with_cap(9).split(&ten).is_ok());
        assert!(SlidingWindow::new(1, 1).with_cap(8).split(&ten).is_err());
    }

    #[test]
    fn bad_windows_are_refused() {
        let rows = Rows::new(10);
        let error = |scheme: TimeSeries| scheme.split(&rows).expect_err("must be refused");
        assert_eq!(
            error(TimeSeries::new(3).with_test(0)),
            SplitError::ZeroWindow { field: "test" }
        );
        assert_eq!(
            error(TimeSeries::new(3).with_max_train(0)),
            SplitError::ZeroWindow { field: "max_train" }
        );
        assert!(matches!(error(TimeSeries::new(1)), SplitError::BadFolds { k: 1, .. }));
        assert!(matches!(error(TimeSeries::new(11)), SplitError::BadFolds { k: 11, .. }));
        let fit = SplitError::WindowsDoNotFit { need: 11, have: 10, unit: "rows" };
        assert_eq!(error(TimeSeries::new(3).with_test(3).with_gap(1)), fit);
        assert!(matches!(
            error(TimeSeries::new(10)),
            SplitError::WindowsDoNotFit { need: 11, have: 10, .. }
        ));
        assert!(matches!(
            error(TimeSeries::new(2).with_gap(u64::MAX)),
            SplitError::WindowsDoNotFit { .. }
        ));
        assert!(matches!(
            error(TimeSeries::new(2).with_test(u64::MAX)),
            SplitError::WindowsDoNotFit { .. }
        ));
        let slide = |scheme: SlidingWindow| scheme.split(&rows).expect_err("must be refused");
        assert_eq!(slide(SlidingWindow::new(0, 1)), SplitError::ZeroWindow { field: "train" });
        assert_eq!(
            slide(SlidingWindow::new(1, 1).with_step(0)),
            SplitError::ZeroWindow { field: "step" }
        );
        assert!(matches!(
            slide(SlidingWindow::new(8, 3)),
            SplitError::WindowsDoNotFit { need: 11, have: 10, .. }
        ));
        assert!(matches!(
            slide(SlidingWindow::new(u64::MAX, u64::MAX)),
            SplitError::WindowsDoNotFit { .. }
        ));
    }

    #[test]
    fn order_is_checked_where_times_are_given() {
        let times = [1, 2, 4, 3, 5, 6];
        let rows = Rows::new(6).with_times(&times);
        let error = TimeSeries::new(2).split(&rows).expect_err("row 3 falls");
        assert!(matches!(error, SplitError::Unsorted { row: 3, .. }), "{error}");
        let sorted = TimeSeries::new(2).with_unit(TimeUnit::Times).split(&rows).expect("splits");
        assert_eq!(lists(&sorted), [(vec![0, 1], vec![2, 3]), (vec![0, 1, 2, 3], vec![4, 5])]);
    }

    #[test]
    fn rows_of_one_time_stay_together() {
        let times = [1, 1, 1, 2, 3, 3, 4, 4];
        let rows = Rows::new(8).with_times(&times);
        let splits = TimeSeries::new(3).with_unit(TimeUnit::Times).split(&rows).expect("splits");
        assert_eq!(lists(&splits)[0], (vec![0, 1, 2], vec![3]));
        assert_eq!(lists(&splits)[2], (vec![0, 1, 2, 3, 4, 5], vec![6, 7]));
    }

    #[test]
    fn windows_can_be_counted_in_time() {
        let times = [0, 10, 20, 21, 22, 30, 44, 49];
        let rows = Rows::new(8).with_times(&times);
        let week =
            SlidingWindow::new(20, 10).with_unit(TimeUnit::Values).split(&rows).expect("splits");
        assert_eq!(
            lists(&week),
            [
                (vec![0, 1], vec![2, 3, 4]),
                (vec![1, 2, 3, 4], vec![5]),
                (vec![2, 3, 4, 5], vec![6, 7]),
            ]
        );
        let gap = SlidingWindow::new(20, 5).with_unit(TimeUnit::Values).split(&rows);
        assert!(matches!(gap, Err(SplitError::EmptyWindow { .. })), "{gap:?}");
        let wide = Rows::new(2).with_times(&[i64::MIN, i64::MAX]);
        assert!(SlidingWindow::new(1, 1).with_unit(TimeUnit::Values).split(&wide).is_err());
    }

    #[test]
    fn groups_go_by_their_first_time() {
        let (groups, times) = ([5, 5, 3, 3, 9, 9], [3, 4, 1, 2, 5, 5]);
        let rows = Rows::new(6).with_groups(&groups).with_times(&times);
        let splits = TimeSeries::new(2).with_unit(TimeUnit::Groups).split(&rows).expect("splits");
        assert_eq!(lists(&splits), [(vec![2, 3], vec![0, 1]), (vec![0, 1, 2, 3], vec![4, 5])]);
        let mixed = [3, 6, 1, 4, 5, 5];
        let rows = Rows::new(6).with_groups(&groups).with_times(&mixed);
        let scheme = TimeSeries::new(2).with_unit(TimeUnit::Groups);
        assert_eq!(scheme.split(&rows), Err(SplitError::GroupsInterleave { earlier: 3, later: 5 }));
        assert!(scheme.with_interleaved().split(&rows).is_ok());
    }

    #[test]
    fn groups_of_one_time_stay_on_one_side() {
        // Groups 1 and 2 share the time 4: that matters only where a window parts them.
        let (groups, times) = ([0, 1, 2, 3, 4, 5], [1, 4, 4, 6, 7, 8]);
        let rows = Rows::new(6).with_groups(&groups).with_times(&times);
        let sliding = |train| SlidingWindow::new(train, 1).with_unit(TimeUnit::Groups);
        let error = SplitError::GroupsInterleave { earlier: 1, later: 2 };
        assert_eq!(sliding(2).split(&rows), Err(error));
        assert_eq!(lists(&sliding(3).split(&rows).expect("no window parts them")).len(), 3);
        assert_eq!(lists(&sliding(2).with_gap(1).split(&rows).expect("a gap between")).len(), 3);
        let allowed = sliding(2).with_interleaved().split(&rows).expect("allowed");
        assert_eq!(lists(&allowed)[0], (vec![0, 1], vec![2]));
        // Without times groups go by their rows, and nothing is tied.
        assert!(sliding(2).split(&Rows::new(6).with_groups(&groups)).is_ok());
    }

    #[test]
    fn sliding_windows_are_anchored_where_asked() {
        let rows = Rows::new(10);
        let of = |scheme: SlidingWindow| {
            let splits = scheme.split(&rows).expect("splits");
            splits.windows.clone()
        };
        assert_eq!(
            of(SlidingWindow::new(3, 2).with_gap(1)),
            [(0..3, 4..6), (2..5, 6..8), (4..7, 8..10)]
        );
        assert_eq!(of(SlidingWindow::new(4, 3)), [(0..4, 4..7), (3..7, 7..10)]);
        assert_eq!(of(SlidingWindow::new(3, 3).with_anchor_start()), [(0..3, 3..6), (3..6, 6..9)]);
        let partial = of(SlidingWindow::new(3, 3).with_keep_partial());
        assert_eq!(partial, [(0..3, 3..6), (3..6, 6..9), (6..9, 9..10)]);
        assert_eq!(of(SlidingWindow::new(3, 2).with_step(5)), [(0..3, 3..5), (5..8, 8..10)]);
    }
}
