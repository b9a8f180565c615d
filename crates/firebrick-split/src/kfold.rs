//! K-fold: every row is validated on once, fold sizes differ by at most one.

use crate::map::{Id, MAX_FOLDS, with_id};
use crate::shuffle::{fill, fill_shuffled};
use crate::{FoldMap, Rows, Spec, SplitError, Splitter};
use firebrick_core::Seed;

/// Checks the number of folds against the rows.
pub(crate) fn check_k(k: usize, n: usize) -> Result<(), SplitError> {
    if k < 2 || k > n || k > MAX_FOLDS {
        return Err(SplitError::BadFolds { k, n, max: MAX_FOLDS });
    }
    Ok(())
}

/// Splits into `k` folds of `n div k` rows, the first `n mod k` folds with one more.
///
/// Unshuffled, the folds are contiguous blocks, as in scikit-learn's `KFold`. Shuffled, the assignment is
/// uniform over all assignments of these sizes. Time O(n), memory 1 byte a row.
///
/// Errors: [`SplitError::BadFolds`], and what [`Rows::check`] refuses.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::{KFold, Rows, Splitter};
///
/// let rows = Rows::new(7);
/// assert_eq!(KFold::new(3).split(&rows)?.fold(0)?, [0, 1, 2]);
/// let shuffled = KFold::new(3).with_shuffle(Seed(7)).split(&rows)?;
/// assert_eq!(shuffled.sizes(), [3, 2, 2]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KFold {
    k: usize,
    shuffle: Option<Seed>,
}

impl KFold {
    /// `k` contiguous folds.
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self { k, shuffle: None }
    }

    /// Rows drawn at random under `seed`.
    #[must_use]
    pub fn with_shuffle(self, seed: Seed) -> Self {
        Self { shuffle: Some(seed), ..self }
    }
}

/// Fold numbers with the sizes of K-fold.
pub(crate) fn runs<I: Id>(n: usize, k: usize) -> impl Iterator<Item = (I, usize)> {
    (0..k).map(move |fold| (I::new(fold), n / k + usize::from(fold < n % k)))
}

impl Splitter for KFold {
    type Output = FoldMap;

    fn split(&self, rows: &Rows<'_>) -> Result<FoldMap, SplitError> {
        rows.check()?;
        check_k(self.k, rows.n)?;
        let warnings = rows.ignored("k_fold", false, false);
        Ok(with_id!(self.k, I => {
            let mut ids = vec![I::new(0); rows.n];
            match self.shuffle {
                None => fill(&mut ids, runs(rows.n, self.k)),
                Some(seed) => fill_shuffled(&mut ids, runs(rows.n, self.k), seed, "split/k_fold"),
            }
            FoldMap::new(self.k, ids, self.spec(), rows.fingerprint, warnings)
        }))
    }

    fn spec(&self) -> Spec {
        Spec::new("k_fold", self.shuffle).with("k", self.k)
    }

    fn reseeded(&self, seed: Seed) -> Option<Self> {
        self.shuffle?;
        Some(self.clone().with_shuffle(seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_numbers_of_folds_are_refused() {
        for (k, n) in [(0, 5), (1, 5), (6, 5), (MAX_FOLDS + 1, MAX_FOLDS + 1)] {
            let error = KFold::new(k).split(&Rows::new(n)).expect_err("must be refused");
            assert_eq!(error, SplitError::BadFolds { k, n, max: MAX_FOLDS });
            assert!(error.to_string().contains(&format!("got {k} for {n} rows")));
        }
        assert_eq!(KFold::new(2).split(&Rows::new(0)), Err(SplitError::NoRows));
        let wide = KFold::new(MAX_FOLDS).split(&Rows::new(MAX_FOLDS + 1)).expect("fits");
        assert_eq!(wide.fold(0).expect("exists"), [0, 1]);
        assert_eq!(wide.fold(MAX_FOLDS - 1).expect("exists"), [MAX_FOLDS as u32]);
    }

    #[test]
    fn the_shuffle_is_pinned() {
        let folds = KFold::new(3).with_shuffle(Seed(42)).split(&Rows::new(12)).expect("splits");
        let ids: Vec<usize> = (0..12).filter_map(|row| folds.fold_of(row)).collect();
        assert_eq!(ids, PINNED);
    }
    /// What version 1 gives for ever, from tests/references/split_pinned.py.
    const PINNED: [usize; 12] = [0, 0, 1, 1, 0, 1, 2, 2, 0, 2, 2, 1];

    #[test]
    fn ignored_groups_are_reported() {
        let rows = Rows::new(4).with_groups(&[0, 0, 1, 1]);
        let folds = KFold::new(2).split(&rows).expect("splits");
        assert!(folds.warnings()[0].to_string().contains("k_fold ignores the column `groups`"));
    }
}
