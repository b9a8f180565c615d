//! A set of rows, ascending: a list, or a few ranges that need no memory.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Rows in ascending order, as a list or as ranges.
///
/// ```
/// use firebrick_split::RowSet;
///
/// let rows = RowSet::from(vec![0..3, 5..6]);
/// assert_eq!(rows.len(), 4);
/// assert_eq!(rows.to_vec(), [0, 1, 2, 5]);
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowSet {
    /// Row numbers, ascending.
    List(Vec<u32>),
    /// Disjoint ranges, ascending.
    Ranges(Vec<Range<u32>>),
}

impl RowSet {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::List(rows) => rows.len(),
            Self::Ranges(ranges) => ranges.iter().map(ExactSizeIterator::len).sum(),
        }
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (list, ranges): (&[u32], &[Range<u32>]) = match self {
            Self::List(rows) => (rows, &[]),
            Self::Ranges(ranges) => (&[], ranges),
        };
        list.iter().copied().chain(ranges.iter().cloned().flatten())
    }

    /// The rows as a list.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::List(rows) => rows.clone(),
            Self::Ranges(_) => self.iter().collect(),
        }
    }

    /// The rows as a list, without a copy where they are one.
    #[must_use]
    pub fn into_vec(self) -> Vec<u32> {
        match self {
            Self::List(rows) => rows,
            ranges @ Self::Ranges(_) => ranges.to_vec(),
        }
    }

    /// Whether `row` is among them.
    #[must_use]
    pub fn contains(&self, row: u32) -> bool {
        match self {
            Self::List(rows) => rows.binary_search(&row).is_ok(),
            Self::Ranges(ranges) => {
                let next = ranges.partition_point(|range| range.end <= row);
                ranges.get(next).is_some_and(|range| range.contains(&row))
            }
        }
    }
}

/// Equal when they hold the same rows, however they are stored.
impl PartialEq for RowSet {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}
impl Eq for RowSet {}

impl From<Vec<u32>> for RowSet {
    fn from(rows: Vec<u32>) -> Self {
        Self::List(rows)
    }
}

impl From<Vec<Range<u32>>> for RowSet {
    fn from(mut ranges: Vec<Range<u32>>) -> Self {
        ranges.retain(|range| !range.is_empty());
        Self::Ranges(ranges)
    }
}

impl From<Range<u32>> for RowSet {
    fn from(range: Range<u32>) -> Self {
        vec![range].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_agree() {
        let ranges = RowSet::from(vec![2..4, 4..4, 7..10]);
        let list = RowSet::from(vec![2, 3, 7, 8, 9]);
        assert_eq!(ranges, list);
        assert_eq!(ranges.clone().into_vec(), list.to_vec());
        for row in 0..12 {
            assert_eq!(ranges.contains(row), list.contains(row), "{row}");
        }
        assert!(RowSet::from(5..5).is_empty());
    }
}
