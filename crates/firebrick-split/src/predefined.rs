//! Folds that somebody else has decided.

use crate::map::{Id, MAX_FOLDS, with_id};
use crate::{FoldMap, Rows, Spec, SplitError, Splitter, Warning};
use firebrick_core::Seed;

/// Uses the given fold of each row; rows without one are trained on in every split, as in scikit-learn.
///
/// Gaps in the numbers are closed up, with a warning that gives the number of each fold.
///
/// Errors: [`SplitError::NoFolds`], [`SplitError::OneFold`], [`SplitError::LengthMismatch`],
/// [`SplitError::BadFolds`] for more than 65,535 folds.
///
/// ```
/// use firebrick_split::{Predefined, Rows, Splits, Splitter};
///
/// let folds = Predefined::new(vec![Some(0), None, Some(1), Some(0)]).split(&Rows::new(4))?;
/// assert_eq!(folds.get(0)?.valid.to_vec(), [0, 3]);
/// assert_eq!(folds.get(0)?.train.to_vec(), [1, 2]);
/// # Ok::<(), firebrick_split::SplitError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predefined {
    folds: Vec<Option<u32>>,
}

impl Predefined {
    /// The fold of each row; none for a row that is never validated on.
    #[must_use]
    pub fn new(folds: Vec<Option<u32>>) -> Self {
        Self { folds }
    }
}

/// A fold map whose last fold is trained on in every split and never validated on.
#[derive(Debug, Clone, PartialEq)]
pub struct PredefinedSplits {
    map: FoldMap,
    folds: usize,
}

impl PredefinedSplits {
    /// The map behind it; fold `count()`, if there is one, holds the rows that are never validated on.
    #[must_use]
    pub fn map(&self) -> &FoldMap {
        &self.map
    }
}

impl Splitter for Predefined {
    type Output = PredefinedSplits;

    fn split(&self, rows: &Rows<'_>) -> Result<PredefinedSplits, SplitError> {
        rows.check()?;
        if self.folds.len() != rows.n {
            return Err(SplitError::LengthMismatch {
                column: "folds",
                len: self.folds.len(),
                n: rows.n,
            });
        }
        let mut kept: Vec<u32> = self.folds.iter().flatten().copied().collect();
        kept.sort_unstable();
        kept.dedup();
        let never = self.folds.iter().any(Option::is_none);
        match kept[..] {
            [] => return Err(SplitError::NoFolds),
            [fold] if !never => return Err(SplitError::OneFold { fold, n: rows.n }),
            _ => {}
        }
        let k = kept.len() + usize::from(never);
        if k > MAX_FOLDS {
            return Err(SplitError::BadFolds { k, n: rows.n, max: MAX_FOLDS });
        }
        let mut warnings = rows.ignored("predefined", false, false);
        if kept.iter().enumerate().any(|(number, &fold)| number as u32 != fold) {
            warnings.push(Warning::FoldsRenumbered { kept: kept.clone() });
        }
        let number = |fold: &Option<u32>| match fold {
            Some(fold) => kept.partition_point(|kept| kept < fold),
            None => kept.len(),
        };
        let map = with_id!(k, I => {
            let ids: Vec<I> = self.folds.iter().map(|fold| I::new(number(fold))).collect();
            FoldMap::new(k, ids, self.spec(), rows.fingerprint, warnings)
        });
        Ok(PredefinedSplits { map, folds: kept.len() })
    }

    fn spec(&self) -> Spec {
        Spec::new("predefined", None)
    }

    fn reseeded(&self, _: Seed) -> Option<Self> {
        None
    }
}

impl crate::Splits for PredefinedSplits {
    fn rows(&self) -> usize {
        self.map.rows()
    }

    fn count(&self) -> usize {
        self.folds
    }

    fn get(&self, index: usize) -> Result<crate::Split, SplitError> {
        if index >= self.folds {
            return Err(crate::splitter::no_split(index, self.folds));
        }
        crate::Splits::get(&self.map, index)
    }

    fn warnings(&self) -> &[Warning] {
        self.map.warnings()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Splits;

    #[test]
    fn gaps_are_closed_and_degenerate_folds_refused() {
        let rows = Rows::new(3);
        let of = |folds: [Option<u32>; 3]| Predefined::new(folds.to_vec()).split(&rows);
        assert_eq!(of([None; 3]), Err(SplitError::NoFolds));
        assert_eq!(of([Some(4); 3]), Err(SplitError::OneFold { fold: 4, n: 3 }));
        let gaps = of([Some(9), Some(4), Some(9)]).expect("splits");
        assert_eq!(gaps.warnings(), [Warning::FoldsRenumbered { kept: vec![4, 9] }]);
        assert_eq!(gaps.get(1).expect("exists").valid.to_vec(), [0, 2]);
        let one = of([Some(0), None, None]).expect("one fold and the rest");
        assert_eq!((one.count(), one.get(0).expect("exists").train.to_vec()), (1, vec![1, 2]));
        assert!(one.get(1).is_err());
        assert!(Predefined::new(vec![Some(0)]).split(&rows).is_err());
    }
}
