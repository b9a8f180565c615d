//! Feature selection for tables, inside the training part only.
//!
//! Choosing features before splitting is the classic leak: the choice has seen the test rows. So every selector
//! takes a [`TrainingTable`], which holds training rows alone, and permutation importance a [`HeldOutTable`],
//! whose rows are checked to be others.

mod filter;
mod lasso;
mod wrapper;

pub use filter::{Selection, mutual_information, mutual_information_classes, variance_threshold};
pub use lasso::{LassoPathConfig, LassoPoint, Stability, StabilityConfig};
pub use wrapper::{Importance, permutation_importance, recursive_elimination};

use crate::RegularizeError;

/// A table of all rows, its targets and the whole case, of every case of a list that scikit-learn recorded: see
/// tests/references/regularize_sklearn.py.
#[cfg(test)]
fn recorded(list: &str) -> Vec<(TrainingTable, Vec<f64>, serde_json::Value)> {
    let text = include_str!("../../../../tests/references/regularize_sklearn.json");
    let file: serde_json::Value = serde_json::from_str(text).expect("parses");
    let cases = file[list].as_array().expect("a list").clone();
    let read = |case: serde_json::Value| {
        let (values, targets) = (numbers(&case["values"]), numbers(&case["targets"]));
        let columns = case["columns"].as_u64().expect("a number") as usize;
        let rows: Vec<usize> = (0..targets.len()).collect();
        (TrainingTable::of(&values, columns, &rows).expect("valid"), targets, case)
    };
    cases.into_iter().map(read).collect()
}

/// The numbers of a list in a recorded case.
#[cfg(test)]
fn numbers(list: &serde_json::Value) -> Vec<f64> {
    let list = list.as_array().expect("a list");
    list.iter().map(|number| number.as_f64().expect("a number")).collect()
}

/// The training rows of a table, copied out of it.
///
/// ```
/// use firebrick_regularize::{TrainingTable, variance_threshold};
///
/// let all = [1.0, 5.0, 2.0, 5.0, 3.0, 9.0]; // three rows of two columns
/// let train = TrainingTable::of(&all, 2, &[0, 1])?;
/// let found = variance_threshold(&train, 0.0)?;
/// assert_eq!(found.columns, [0]); // column 1 is constant where training may look
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
///
/// No selector takes rows that are held out; the compiler refuses them:
///
/// ```compile_fail,E0308
/// use firebrick_regularize::{TrainingTable, variance_threshold};
///
/// let all = [1.0, 2.0, 3.0, 4.0];
/// let held_out = TrainingTable::of(&all, 1, &[0, 1])?.held_out(&all, &[2, 3])?;
/// let found = variance_threshold(&held_out, 0.0)?;
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingTable {
    values: Vec<f64>,
    columns: usize,
    rows: Vec<usize>,
}

/// Rows of the same table that training does not see.
///
/// Only a [`TrainingTable`] gives them, which checks that they are others; training rows are of another type:
///
/// ```compile_fail,E0308
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, TrainingTable, permutation_importance};
///
/// let train = TrainingTable::of(&[1.0, 2.0], 1, &[0, 1])?;
/// let masks = MaskSource::new(Seed(7));
/// let found = permutation_importance(&train, 5, &masks, |_| 0.0)?;
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOutTable(TrainingTable);

impl TrainingTable {
    /// Takes `rows` of the whole table `values`, row by row with `columns` each.
    ///
    /// # Errors
    /// When there is no row or column, the values do not fill whole rows, a row does not exist or comes twice, or a
    /// value of those rows is not finite.
    pub fn of(values: &[f64], columns: usize, rows: &[usize]) -> Result<Self, RegularizeError> {
        if columns == 0 || rows.is_empty() {
            return Err(RegularizeError::Empty { what: "the table" });
        }
        if !values.len().is_multiple_of(columns) {
            let expected = format!("whole rows of {columns} columns");
            let found = vec![values.len()];
            return Err(RegularizeError::Shape {
                what: "the values of the table",
                expected,
                found,
            });
        }
        let count = values.len() / columns;
        let mut seen = vec![false; count];
        let mut taken = Vec::with_capacity(rows.len() * columns);
        for &row in rows {
            if row >= count || std::mem::replace(&mut seen[row], true) {
                let expected = format!("different rows below {count}");
                return Err(RegularizeError::Shape {
                    what: "the rows",
                    expected,
                    found: vec![row],
                });
            }
            let of_row = &values[row * columns..(row + 1) * columns];
            if let Some(at) = of_row.iter().position(|value| !value.is_finite()) {
                return Err(RegularizeError::NotFinite {
                    what: "the values of the table",
                    value: of_row[at].to_string(),
                    position: row * columns + at,
                });
            }
            taken.extend_from_slice(of_row);
        }
        Ok(Self { values: taken, columns, rows: rows.to_vec() })
    }

    /// The entries of a column of targets that belong to these rows.
    ///
    /// # Errors
    /// When `all` is too short.
    pub fn targets<T: Copy>(&self, all: &[T]) -> Result<Vec<T>, RegularizeError> {
        let pick = |&row: &usize| all.get(row).copied();
        self.rows.iter().map(pick).collect::<Option<_>>().ok_or_else(|| RegularizeError::Shape {
            what: "the targets",
            expected: "one for each row of the whole table".into(),
            found: vec![all.len()],
        })
    }

    /// Other rows of the same whole table, for judging what was selected here.
    ///
    /// # Errors
    /// When a row is a training row, or as [`of`](Self::of).
    pub fn held_out(
        &self,
        values: &[f64],
        rows: &[usize],
    ) -> Result<HeldOutTable, RegularizeError> {
        if rows.iter().any(|row| self.rows.contains(row)) {
            return Err(RegularizeError::Refused("a held-out row is also a training row"));
        }
        Self::of(values, self.columns, rows).map(HeldOutTable)
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row; never, by construction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The values row by row.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    pub(crate) fn column(&self, index: usize) -> Vec<f64> {
        self.values.iter().skip(index).step_by(self.columns).copied().collect()
    }

    pub(crate) fn check_targets(&self, count: usize) -> Result<(), RegularizeError> {
        if count == self.len() {
            return Ok(());
        }
        let expected = format!("one for each of the {} training rows", self.len());
        Err(RegularizeError::Shape { what: "the targets", expected, found: vec![count] })
    }
}

impl HeldOutTable {
    /// The entries of a column of targets that belong to these rows.
    ///
    /// # Errors
    /// When `all` is too short.
    pub fn targets<T: Copy>(&self, all: &[T]) -> Result<Vec<T>, RegularizeError> {
        self.0.targets(all)
    }

    /// The values row by row.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        self.0.values()
    }

    /// Number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.0.columns()
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no row; never, by construction.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_rows_are_seen() {
        let all = [1.0, 2.0, f64::NAN, 4.0, 5.0, 6.0];
        let train = TrainingTable::of(&all, 2, &[2, 0]).expect("row 1 is not looked at");
        assert_eq!(train.values(), [5.0, 6.0, 1.0, 2.0]);
        assert_eq!(train.targets(&['a', 'b', 'c']).expect("long enough"), ['c', 'a']);
        assert!(train.targets(&[1, 2]).is_err());
        assert!(train.held_out(&all, &[0]).is_err());
        assert!(matches!(
            train.held_out(&all, &[1]),
            Err(RegularizeError::NotFinite { position: 2, .. })
        ));
    }

    #[test]
    fn bad_tables_are_refused() {
        assert!(TrainingTable::of(&[1.0], 0, &[0]).is_err());
        assert!(TrainingTable::of(&[1.0], 1, &[]).is_err());
        assert!(TrainingTable::of(&[1.0, 2.0, 3.0], 2, &[0]).is_err());
        assert!(TrainingTable::of(&[1.0, 2.0], 1, &[2]).is_err());
        assert!(TrainingTable::of(&[1.0, 2.0], 1, &[1, 1]).is_err());
    }
}
