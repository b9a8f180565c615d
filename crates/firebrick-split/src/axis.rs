//! What time is counted in: rows, distinct times, units of time, or groups in the order of their first time.

use crate::classes::Dense;
use crate::{RowSet, Rows, SplitError};
use std::ops::Range;

/// What the windows of a time series count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TimeUnit {
    /// Rows, which are in the order of time; checked where times are given.
    #[default]
    Rows,
    /// Distinct times in ascending order: rows of one time stay together, in whatever order they come.
    Times,
    /// Units of the time column itself: a window of 7 is 7 days if times are days.
    Values,
    /// Groups in the order of their first time, or of their first row where there are no times. Groups that overlap in
    /// time are refused, and so are windows that share a time with the training before them, unless either is allowed
    /// with `with_interleaved`.
    Groups,
}

impl TimeUnit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Times => "distinct times",
            Self::Values => "units of time",
            Self::Groups => "groups",
        }
    }
}

/// Places from 0 to `len`, and the rows at each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Axis {
    /// Place and row are the same.
    Rows(usize),
    /// Rows by place: those of place `i` are `order[starts[i]..starts[i + 1]]`. Where groups must not mix past and
    /// future, the span of each place, which `check_ties` looks at.
    Ranks { order: Order, starts: Vec<usize>, spans: Vec<Span> },
    /// Rows by time, with their times less the first.
    Values { order: Order, offsets: Vec<u64>, len: u64 },
}

/// First time, last time and code of a group.
type Span = (i64, i64, u32);

/// Rows by ascending place; none when that is row order.
type Order = Option<Vec<u32>>;

impl Axis {
    pub(crate) fn new(
        rows: &Rows<'_>,
        unit: TimeUnit,
        interleaved: bool,
        scheme: &'static str,
    ) -> Result<Self, SplitError> {
        match unit {
            TimeUnit::Rows => {
                if let Some(times) = rows.times
                    && let Some(place) = times.windows(2).position(|pair| pair[1] < pair[0])
                {
                    let remedy = "sort the rows, or count in `TimeUnit::Times`";
                    return Err(SplitError::Unsorted {
                        column: "times",
                        row: place + 1,
                        scheme,
                        remedy,
                    });
                }
                Ok(Self::Rows(rows.n))
            }
            TimeUnit::Times => {
                let times = rows.need_times(scheme)?;
                let order = by_time(times);
                let at = |place: usize| times[order.as_ref().map_or(place, |o| o[place] as usize)];
                let mut starts: Vec<usize> =
                    (0..rows.n).filter(|&place| place == 0 || at(place) != at(place - 1)).collect();
                starts.push(rows.n);
                Ok(Self::Ranks { order, starts, spans: Vec::new() })
            }
            TimeUnit::Values => {
                let times = rows.need_times(scheme)?;
                let order = by_time(times);
                let at = |place: usize| times[order.as_ref().map_or(place, |o| o[place] as usize)];
                let first = at(0);
                let offsets: Vec<u64> =
                    (0..rows.n).map(|place| at(place).abs_diff(first)).collect();
                let len = offsets.last().copied().unwrap_or(0).saturating_add(1);
                Ok(Self::Values { order, offsets, len })
            }
            TimeUnit::Groups => Self::groups(rows, interleaved, scheme),
        }
    }

    fn groups(
        rows: &Rows<'_>,
        interleaved: bool,
        scheme: &'static str,
    ) -> Result<Self, SplitError> {
        let column = rows.need_groups(scheme)?;
        let groups = Dense::by_appearance(column);
        let time = |row: usize| rows.times.map_or(row as i64, |times| times[row]);
        let mut spans = vec![(i64::MAX, i64::MIN); groups.len()];
        for (row, &code) in column.iter().enumerate() {
            let span = &mut spans[groups.number(code)];
            *span = (span.0.min(time(row)), span.1.max(time(row)));
        }
        let mut by_first: Vec<usize> = (0..groups.len()).collect();
        by_first.sort_by_key(|&group| (spans[group].0, group));
        if !interleaved {
            for pair in by_first.windows(2) {
                if spans[pair[1]].0 < spans[pair[0]].1 {
                    let (earlier, later) = (groups.codes[pair[0]], groups.codes[pair[1]]);
                    return Err(SplitError::GroupsInterleave { earlier, later });
                }
            }
        }
        let mut starts = vec![0usize];
        let mut cursors = vec![0usize; groups.len()];
        for &group in &by_first {
            cursors[group] = starts[starts.len() - 1];
            starts.push(cursors[group] + groups.counts[group]);
        }
        let mut order = vec![0u32; rows.n];
        for (row, &code) in column.iter().enumerate() {
            let cursor = &mut cursors[groups.number(code)];
            order[*cursor] = row as u32;
            *cursor += 1;
        }
        let order = (!order.is_sorted()).then_some(order);
        let span = |&group: &usize| (spans[group].0, spans[group].1, groups.codes[group]);
        let spans = if interleaved { Vec::new() } else { by_first.iter().map(span).collect() };
        Ok(Self::Ranks { order, starts, spans })
    }

    /// Refuses windows of groups whose test begins at a time at which their training has not ended.
    pub(crate) fn check_ties(
        &mut self,
        windows: &[(Range<u64>, Range<u64>)],
    ) -> Result<(), SplitError> {
        let Self::Ranks { spans, .. } = self else { return Ok(()) };
        // Nothing else needs them.
        let spans = std::mem::take(spans);
        for (train, test) in windows {
            // Groups follow one another, so the last one of the training ends last.
            let last = train.end.checked_sub(1).and_then(|place| spans.get(place as usize));
            let (Some(last), Some(first)) = (last, spans.get(test.start as usize)) else {
                continue;
            };
            if last.1 >= first.0 {
                return Err(SplitError::GroupsInterleave { earlier: last.2, later: first.2 });
            }
        }
        Ok(())
    }

    /// Number of places.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Rows(n) => *n as u64,
            Self::Ranks { starts, .. } => starts.len() as u64 - 1,
            Self::Values { len, .. } => *len,
        }
    }

    /// The rows of some places.
    pub(crate) fn rows(&self, places: &Range<u64>) -> RowSet {
        let (order, range) = match self {
            Self::Rows(_) => (&None, places.start as usize..places.end as usize),
            Self::Ranks { order, starts, .. } => {
                (order, starts[places.start as usize]..starts[places.end as usize])
            }
            Self::Values { order, offsets, .. } => {
                let place = |value: u64| offsets.partition_point(|&offset| offset < value);
                (order, place(places.start)..place(places.end))
            }
        };
        match order {
            None => (range.start as u32..range.end as u32).into(),
            Some(order) => {
                let mut rows = order[range].to_vec();
                rows.sort_unstable();
                rows.into()
            }
        }
    }
}

/// Rows by ascending time, stable; none when they are so already.
pub(crate) fn by_time(times: &[i64]) -> Order {
    if times.is_sorted() {
        return None;
    }
    let mut order: Vec<u32> = (0..times.len() as u32).collect();
    order.sort_by_key(|&row| times[row as usize]);
    Some(order)
}
