//! What scores look at: features and labels, checked once.

use crate::score::ScoreError;
use faer::MatRef;

/// A matrix of features, one sample a row, finite and in f64.
///
/// What it holds is checked when it is made, so that a score only checks that its inputs fit together.
///
/// ```
/// use firebrick_transfer::score::Features;
///
/// let features = Features::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2)?;
/// assert_eq!((features.rows(), features.columns(), features.row(1)), (3, 2, &[3.0, 4.0][..]));
/// assert!(Features::new(vec![1.0, f64::NAN], 2).is_err());
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    values: Vec<f64>,
    rows: usize,
    columns: usize,
}

impl Features {
    /// Rows of `columns` numbers, one after the other.
    ///
    /// # Errors
    /// When there is no row, no column, a last row that is not full, or a number that is not finite.
    pub fn new(values: Vec<f64>, columns: usize) -> Result<Self, ScoreError> {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        if rows == 0 {
            return Err(ScoreError::Empty { field: "features".into(), rows, columns });
        }
        if !values.len().is_multiple_of(columns) {
            return Err(ScoreError::Shape {
                field: "values".into(),
                expected: format!("a multiple of {columns} numbers"),
                found: values.len(),
            });
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(ScoreError::NotFinite {
                field: "features".into(),
                row: at / columns,
                column: at % columns,
                value: values[at].to_string(),
            });
        }
        Ok(Self { values, rows, columns })
    }

    /// The same from single precision.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_f32(values: &[f32], columns: usize) -> Result<Self, ScoreError> {
        Self::new(values.iter().map(|&value| f64::from(value)).collect(), columns)
    }

    /// Number of samples.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of features.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All numbers, row by row.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The features of one sample.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// A copy of these rows, in this order.
    ///
    /// # Errors
    /// When there is none, or one that does not exist.
    pub fn select(&self, rows: &[u32]) -> Result<Self, ScoreError> {
        if rows.is_empty() {
            let columns = self.columns;
            return Err(ScoreError::Empty { field: "rows".into(), rows: 0, columns });
        }
        if let Some(&row) = rows.iter().find(|row| **row as usize >= self.rows) {
            let expected = format!("row numbers below {}", self.rows);
            return Err(ScoreError::Shape { field: "rows".into(), expected, found: row as usize });
        }
        let values = rows.iter().flat_map(|&row| self.row(row as usize)).copied().collect();
        Ok(Self { values, rows: rows.len(), columns: self.columns })
    }

    /// The mean of each column.
    #[must_use]
    pub fn means(&self) -> Vec<f64> {
        let mut means = vec![0.0; self.columns];
        for row in self.values.chunks_exact(self.columns) {
            means.iter_mut().zip(row).for_each(|(mean, value)| *mean += value);
        }
        means.iter_mut().for_each(|mean| *mean /= self.rows as f64);
        means
    }

    /// With the mean of each column taken off.
    #[must_use]
    pub fn centred(&self) -> Self {
        self.shifted(&self.means())
    }

    /// With `means` taken off.
    pub(crate) fn shifted(&self, means: &[f64]) -> Self {
        let mut values = self.values.clone();
        for row in values.chunks_exact_mut(self.columns) {
            row.iter_mut().zip(means).for_each(|(value, mean)| *value -= mean);
        }
        Self { values, ..*self }
    }

    /// With columns of mean 0 and variance 1 (over n); constant columns are 0.
    #[must_use]
    pub fn standardised(&self) -> Self {
        let (means, scales) = (self.means(), self.deviations());
        let mut values = self.values.clone();
        for row in values.chunks_exact_mut(self.columns) {
            for ((value, mean), scale) in row.iter_mut().zip(&means).zip(&scales) {
                *value = if *scale > 0.0 { (*value - mean) / scale } else { 0.0 };
            }
        }
        Self { values, ..*self }
    }

    /// The standard deviation of each column (over n); 0 where it is rounding noise of the mean.
    #[must_use]
    pub fn deviations(&self) -> Vec<f64> {
        let means = self.means();
        let mut squares = vec![0.0; self.columns];
        for row in self.values.chunks_exact(self.columns) {
            for ((square, value), mean) in squares.iter_mut().zip(row).zip(&means) {
                *square += (value - mean) * (value - mean);
            }
        }
        let deviation = |(square, mean): (&f64, &f64)| {
            let deviation = (square / self.rows as f64).sqrt();
            // A mean of n equal numbers is off by at most n roundings.
            let noise = self.rows as f64 * f64::EPSILON * mean.abs();
            if deviation > noise { deviation } else { 0.0 }
        };
        squares.iter().zip(&means).map(deviation).collect()
    }

    /// Share of columns that are constant: units that are dead on these samples.
    #[must_use]
    pub fn dead(&self) -> f64 {
        let dead = self.deviations().iter().filter(|deviation| **deviation == 0.0).count();
        dead as f64 / self.columns as f64
    }

    pub(crate) fn mat(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.values, self.rows, self.columns)
    }

    /// Checks that there are as many labels as rows.
    pub(crate) fn fit(&self, labels: &Labels) -> Result<(), ScoreError> {
        if labels.len() == self.rows {
            return Ok(());
        }
        let expected = format!("one entry a row of the features, {}", self.rows);
        Err(ScoreError::Shape { field: "labels".into(), expected, found: labels.len() })
    }

    /// Checks that `other` has as many columns.
    pub(crate) fn same_columns(&self, other: &Self, field: &str) -> Result<(), ScoreError> {
        if other.columns == self.columns {
            return Ok(());
        }
        let expected = format!("as many columns as the first, {}", self.columns);
        Err(ScoreError::Shape { field: field.into(), expected, found: other.columns })
    }

    /// Checks that some column varies.
    pub(crate) fn varies(&self) -> Result<(), ScoreError> {
        if self.deviations().iter().any(|deviation| *deviation > 0.0) {
            return Ok(());
        }
        Err(ScoreError::Constant { field: "features".into(), columns: self.columns })
    }
}

/// The class of each sample; at least two classes.
///
/// ```
/// use firebrick_transfer::score::Labels;
///
/// let labels = Labels::new(&[7, 3, 7, 7])?;
/// assert_eq!((labels.classes(), labels.counts(), labels.majority()), (2, &[1, 3][..], 0.75));
/// assert!(Labels::new(&[1, 1]).is_err());
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Number of the class of each sample among `names`.
    index: Vec<u32>,
    /// The classes that occur, ascending.
    names: Vec<u32>,
    counts: Vec<usize>,
}

impl Labels {
    /// The classes are those that occur.
    ///
    /// # Errors
    /// When there is no label or only one class.
    pub fn new(labels: &[u32]) -> Result<Self, ScoreError> {
        if labels.is_empty() {
            return Err(ScoreError::Empty { field: "labels".into(), rows: 0, columns: 1 });
        }
        let mut names = labels.to_vec();
        names.sort_unstable();
        names.dedup();
        if let [class] = names[..] {
            return Err(ScoreError::OneClass { class });
        }
        let number = |label: &u32| names.partition_point(|name| name < label) as u32;
        let index: Vec<u32> = labels.iter().map(number).collect();
        let mut counts = vec![0; names.len()];
        index.iter().for_each(|&class| counts[class as usize] += 1);
        Ok(Self { index, names, counts })
    }

    /// The same for a head with `classes` outputs: refuses labels that it has no output for.
    ///
    /// # Errors
    /// As [`new`](Self::new); when a label is not below `classes`; when there are fewer samples than classes.
    pub fn of_classes(labels: &[u32], classes: usize) -> Result<Self, ScoreError> {
        if let Some(row) = labels.iter().position(|label| *label as usize >= classes) {
            return Err(ScoreError::LabelRange { row, label: labels[row], classes });
        }
        if classes > labels.len() {
            return Err(ScoreError::MoreClassesThanSamples { classes, samples: labels.len() });
        }
        Self::new(labels)
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none: never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Number of classes that occur.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.names.len()
    }

    /// The classes that occur, ascending.
    #[must_use]
    pub fn names(&self) -> &[u32] {
        &self.names
    }

    /// Samples of each class that occurs.
    #[must_use]
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// Samples of the rarest class.
    #[must_use]
    pub fn rarest(&self) -> usize {
        self.counts.iter().copied().min().unwrap_or(0)
    }

    /// Share of the most frequent class.
    #[must_use]
    pub fn majority(&self) -> f64 {
        self.counts.iter().copied().max().unwrap_or(0) as f64 / self.len() as f64
    }

    /// For each sample the number of its class among [`names`](Self::names).
    #[must_use]
    pub fn index(&self) -> &[u32] {
        &self.index
    }

    /// The labels as they came.
    #[must_use]
    pub fn values(&self) -> Vec<u32> {
        self.index.iter().map(|&class| self.names[class as usize]).collect()
    }

    /// The rows of each class.
    pub(crate) fn rows_by_class(&self) -> Vec<Vec<u32>> {
        let mut rows = vec![Vec::new(); self.names.len()];
        for (row, &class) in self.index.iter().enumerate() {
            rows[class as usize].push(row as u32);
        }
        rows
    }

    /// Checks that each class has `needed` samples.
    pub(crate) fn at_least(&self, needed: usize) -> Result<(), ScoreError> {
        match self.counts.iter().position(|count| *count < needed) {
            None => Ok(()),
            Some(at) => Err(ScoreError::FewOfClass {
                class: self.names[at],
                found: self.counts[at],
                needed,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: std::fmt::Debug>(result: Result<T, ScoreError>) -> String {
        result.expect_err("must be refused").to_string()
    }

    #[test]
    fn bad_features_are_named() {
        assert_eq!(
            text(Features::new(vec![], 3)),
            "`features` must have at least one row and one column, got 0 x 3"
        );
        assert_eq!(
            text(Features::new(vec![1.0], 0)),
            "`features` must have at least one row and one column, got 0 x 0"
        );
        assert_eq!(
            text(Features::new(vec![1.0; 5], 2)),
            "`values` must have a multiple of 2 numbers, got 5"
        );
        for (value, name) in
            [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")]
        {
            assert_eq!(
                text(Features::new(vec![1.0, 2.0, 3.0, value], 2)),
                format!("`features` must be finite, got {name} in row 1, column 1")
            );
        }
        let features = Features::from_f32(&[1.0, 2.0], 1).expect("valid");
        assert_eq!(text(features.select(&[0, 2])), "`rows` must have row numbers below 2, got 2");
        assert!(features.select(&[]).is_err());
        assert_eq!(features.select(&[1, 1]).expect("valid").values(), [2.0, 2.0]);
    }

    #[test]
    fn bad_labels_are_named() {
        assert_eq!(
            text(Labels::new(&[4, 4])),
            "`labels` must have at least 2 classes, got only class 4: there is nothing to tell apart"
        );
        assert!(matches!(Labels::new(&[]), Err(ScoreError::Empty { .. })));
        assert_eq!(
            text(Labels::of_classes(&[0, 3], 3)),
            "`labels` must be below the number of classes 3, got 3 in row 1"
        );
        assert_eq!(
            text(Labels::of_classes(&[0, 1], 3)),
            "`classes` must be at most the number of samples 2, got 3"
        );
        assert_eq!(
            text(Labels::new(&[9, 2, 9]).and_then(|labels| labels.at_least(2))),
            "`labels` must have at least 2 samples of each class, got 1 of class 2"
        );
        let features = Features::new(vec![1.0; 3], 1).expect("valid");
        let labels = Labels::new(&[0, 1]).expect("valid");
        assert_eq!(
            text(features.fit(&labels)),
            "`labels` must have one entry a row of the features, 3, got 2"
        );
    }

    #[test]
    fn constant_columns_are_dead_and_stay_finite() {
        // 0.1 is no sum of powers of two: the mean of equal numbers is off by roundings.
        let features = Features::new(vec![0.1, 1.0, 0.1, 2.0, 0.1, 4.0], 2).expect("valid");
        assert_eq!(features.dead(), 0.5);
        let standard = features.standardised();
        assert_eq!([standard.row(0)[0], standard.row(2)[0]], [0.0, 0.0]);
        let square: f64 = (0..3).map(|row| standard.row(row)[1].powi(2)).sum();
        assert!((square / 3.0 - 1.0).abs() < 1e-14);
        assert!(features.varies().is_ok());
        assert!(Features::new(vec![0.1; 6], 2).expect("valid").varies().is_err());
    }
}
