//! Roles in types: rows to train on, rows to choose by, rows to look at once.

use crate::splitter::no_split;
use crate::{FoldMap, PartName, RowHashes, RowSet, Sealed, Split, SplitError, Splits, Warning};
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// The product of a hold-out: which row plays which role.
///
/// As [`Splits`] it is one split: training against validation, or against the test part where there is no
/// validation part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "FoldMap", try_from = "FoldMap")]
pub struct Roles {
    map: FoldMap,
}

impl From<Roles> for FoldMap {
    fn from(roles: Roles) -> Self {
        roles.map
    }
}

/// Fails with [`SplitError::MapDamaged`] unless there are three folds, the first not empty.
impl TryFrom<FoldMap> for Roles {
    type Error = SplitError;

    fn try_from(map: FoldMap) -> Result<Self, SplitError> {
        match map.sizes()[..] {
            [train, _, _] if train > 0 => Ok(Self { map }),
            _ => {
                let sizes = map.sizes();
                let reason = format!("roles are three folds with training rows, not {sizes:?}");
                Err(SplitError::MapDamaged { reason })
            }
        }
    }
}

impl Roles {
    pub(crate) fn new(map: FoldMap) -> Self {
        Self { map }
    }

    /// Roles from the number of each row: 0 train, 1 validation, 2 test, anything else excluded.
    ///
    /// # Errors
    /// [`SplitError::NoRows`], [`SplitError::EmptyPart`] when there is no training row.
    pub fn from_numbers(numbers: &[u8]) -> Result<Self, SplitError> {
        crate::Rows::new(numbers.len()).check()?;
        let ids: Vec<u8> = numbers.iter().map(|&id| if id < 3 { id } else { u8::MAX }).collect();
        let roles =
            Self::new(FoldMap::new(3, ids, crate::Spec::new("given_roles", None), None, vec![]));
        let sizes = roles.sizes();
        if sizes[0] == 0 {
            return Err(SplitError::EmptyPart { part: PartName::Train, n: numbers.len(), sizes });
        }
        Ok(roles)
    }

    /// The map behind it: folds 0, 1 and 2 are train, validation and test.
    #[must_use]
    pub fn map(&self) -> &FoldMap {
        &self.map
    }

    /// Rows of the train, validation and test part.
    #[must_use]
    pub fn sizes(&self) -> [usize; 3] {
        let sizes = self.map.sizes();
        [sizes[0], sizes[1], sizes[2]]
    }

    fn part(&self, part: usize) -> Vec<u32> {
        self.map.fold(part).unwrap_or_default()
    }

    /// The training rows, ascending.
    #[must_use]
    pub fn train(&self) -> Vec<u32> {
        self.part(0)
    }

    /// The validation rows, ascending; empty where there is no such part.
    #[must_use]
    pub fn validation(&self) -> Vec<u32> {
        self.part(1)
    }

    /// The test rows, ascending; empty where there is no such part.
    #[must_use]
    pub fn test(&self) -> Vec<u32> {
        self.part(2)
    }

    /// Training and validation rows together, ascending: what cross-validation and the refit may use.
    #[must_use]
    pub fn development(&self) -> Vec<u32> {
        (0..self.map.rows())
            .filter(|&row| matches!(self.map.fold_of(row), Some(0 | 1)))
            .map(|row| row as u32)
            .collect()
    }

    /// Hands each part's rows to `take` and puts the results behind their roles, the test part sealed.
    ///
    /// `hashes` are those of all rows; the test part carries them to the ledger.
    ///
    /// # Errors
    /// [`SplitError::NoSuchPart`] without a test part, [`SplitError::RowsDiffer`] when there are not as many
    /// hashes as rows.
    pub fn divide<D>(
        &self,
        hashes: &RowHashes,
        mut take: impl FnMut(PartName, &[u32]) -> D,
    ) -> Result<Parts<D>, SplitError> {
        let n = self.map.rows();
        if hashes.len() != n {
            return Err(SplitError::RowsDiffer { what: "the row hashes", len: hashes.len(), n });
        }
        let (train, validation, test) = (self.train(), self.validation(), self.test());
        if test.is_empty() {
            return Err(SplitError::NoSuchPart { part: PartName::Test });
        }
        let others: Vec<u32> =
            (0..n).filter(|&row| self.map.fold_of(row) != Some(2)).map(|row| row as u32).collect();
        let sealed = Sealed::new(
            take(PartName::Test, &test),
            hashes.select_sorted(&test)?,
            hashes.select_sorted(&others)?,
        );
        let validation = (!validation.is_empty()).then(|| Validation {
            data: take(PartName::Validation, &validation),
            rows: validation,
        });
        Ok(Parts {
            train: Train { data: take(PartName::Train, &train), rows: train },
            validation,
            test: sealed,
        })
    }
}

impl Splits for Roles {
    fn rows(&self) -> usize {
        self.map.rows()
    }

    fn count(&self) -> usize {
        1
    }

    fn get(&self, index: usize) -> Result<Split, SplitError> {
        if index > 0 {
            return Err(no_split(index, 1));
        }
        let held_out = if self.sizes()[1] > 0 { self.validation() } else { self.test() };
        Ok(Split { train: RowSet::List(self.train()), valid: RowSet::List(held_out) })
    }

    fn warnings(&self) -> &[Warning] {
        self.map.warnings()
    }
}

/// The parts of a data set behind their roles.
#[allow(missing_debug_implementations, reason = "the test part cannot be printed")]
pub struct Parts<D> {
    /// What to train on.
    pub train: Train<D>,
    /// What to choose by, where there is such a part.
    pub validation: Option<Validation<D>>,
    /// What to look at once.
    pub test: Sealed<D>,
}

/// Data to train on, with their row numbers.
///
/// Whatever learns from data (scaling, feature selection, resampling, training) takes this type.
#[derive(Debug, Clone)]
pub struct Train<D> {
    data: D,
    rows: Vec<u32>,
}

/// Data to choose by, with their row numbers: never trained on while choosing, never resampled.
#[derive(Debug, Clone)]
pub struct Validation<D> {
    data: D,
    rows: Vec<u32>,
}

impl<D> Train<D> {
    /// The training part of a fold: its data and its row numbers.
    pub fn new(data: D, rows: Vec<u32>) -> Self {
        Self { data, rows }
    }

    /// The row numbers, ascending.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The data.
    pub fn into_inner(self) -> D {
        self.data
    }

    /// The same rows with other data, such as scaled ones.
    pub fn map<E>(self, change: impl FnOnce(D) -> E) -> Train<E> {
        Train { data: change(self.data), rows: self.rows }
    }

    /// Training and validation rows as one training part, for the refit of the chosen model.
    ///
    /// `join` combines the data; the row numbers are merged in ascending order, so `join` must do the same
    /// where the order matters.
    pub fn with_validation<E>(
        self,
        validation: Validation<D>,
        join: impl FnOnce(D, D) -> E,
    ) -> Train<E> {
        let mut rows = [self.rows, validation.rows].concat();
        rows.sort_unstable();
        Train { data: join(self.data, validation.data), rows }
    }
}

impl<D> Validation<D> {
    /// The validation part of a fold: its data and its row numbers.
    pub fn new(data: D, rows: Vec<u32>) -> Self {
        Self { data, rows }
    }

    /// The row numbers, ascending.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The data.
    pub fn into_inner(self) -> D {
        self.data
    }

    /// The same rows with other data, such as those scaled by what the training part taught.
    pub fn map<E>(self, change: impl FnOnce(D) -> E) -> Validation<E> {
        Validation { data: change(self.data), rows: self.rows }
    }
}

impl<D> Deref for Train<D> {
    type Target = D;
    fn deref(&self) -> &D {
        &self.data
    }
}

impl<D> Deref for Validation<D> {
    type Target = D;
    fn deref(&self) -> &D {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_one_role() {
        let roles = Roles::from_numbers(&[0, 2, 1, 0, 9, 2]).expect("valid");
        assert_eq!(
            (roles.train(), roles.validation(), roles.test()),
            (vec![0, 3], vec![2], vec![1, 5])
        );
        assert_eq!((roles.development(), roles.map().excluded()), (vec![0, 2, 3], vec![4]));
        let hashes = RowHashes::new((0..6).collect());
        let parts = roles.divide(&hashes, |_, rows| rows.to_vec()).expect("divides");
        assert_eq!((parts.train.rows(), &*parts.train), ([0u32, 3].as_slice(), &vec![0, 3]));
        assert_eq!(parts.test.len(), 2);
        let refit = parts
            .train
            .with_validation(parts.validation.expect("asked for"), |a, b| [a, b].concat());
        assert_eq!((refit.rows(), &*refit), ([0u32, 2, 3].as_slice(), &vec![0, 3, 2]));
    }

    #[test]
    fn roles_are_read_from_three_folds_only() {
        let roles = Roles::from_numbers(&[0, 2, 1, 0]).expect("valid");
        let text = serde_json::to_string(&roles).expect("serializes");
        assert_eq!(serde_json::from_str::<Roles>(&text).expect("reads back"), roles);
        for (from, to) in [("\"k\":3", "\"k\":4"), ("00020100", "02020102")] {
            assert!(text.contains(from));
            assert!(serde_json::from_str::<Roles>(&text.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let roles = Roles::from_numbers(&[0, 1]).expect("valid");
        let few =
            roles.divide(&RowHashes::new(vec![1]), |_, _| ()).map(|_| ()).expect_err("one hash");
        assert_eq!(few, SplitError::RowsDiffer { what: "the row hashes", len: 1, n: 2 });
        let none = roles
            .divide(&RowHashes::new(vec![1, 2]), |_, _| ())
            .map(|_| ())
            .expect_err("no test part");
        assert_eq!(none.to_string(), "the split has no test part");
        assert!(matches!(Roles::from_numbers(&[2]), Err(SplitError::EmptyPart { .. })));
        assert!(roles.get(1).is_err());
    }
}
