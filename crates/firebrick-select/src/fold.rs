//! What a job consists of: a candidate, a fold, a seed.

use crate::SelectError;
use firebrick_core::{ConfigError, Seed, check};
use firebrick_split::{Splits, hash_bytes};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// A setting to be judged: a name, a number that orders candidates by complexity, and the settings.
///
/// Simpler means a smaller complexity; the number of parameters is a good one. Only its order counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate<C> {
    /// The name, unique in a run; results, seeds and the store go by it.
    pub name: String,
    /// The complexity, finite.
    pub complexity: f64,
    /// Whatever the training needs to know.
    pub value: C,
}

impl<C> Candidate<C> {
    /// A candidate.
    pub fn new(name: impl Into<String>, complexity: f64, value: C) -> Self {
        Self { name: name.into(), complexity, value }
    }
}

/// The rows of one fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// Rows to train on.
    pub train: Vec<u32>,
    /// Rows to validate on, none of them in `train`.
    pub validation: Vec<u32>,
}

/// Lists the folds of any scheme of firebrick-split.
///
/// # Errors
/// When a split cannot be listed.
///
/// ```
/// use firebrick_split::{KFold, Rows, Splitter};
///
/// let folds = firebrick_select::folds_of(&KFold::new(3).split(&Rows::new(10))?)?;
/// assert_eq!(folds[0].validation, [0, 1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn folds_of(splits: &impl Splits) -> Result<Vec<Fold>, SelectError> {
    (0..splits.count())
        .map(|index| {
            let split = splits.get(index)?;
            Ok(Fold { train: split.train.into_vec(), validation: split.valid.into_vec() })
        })
        .collect()
}

/// One training to be done: what the closure of [`CrossValidation::run`](crate::CrossValidation::run) gets.
#[derive(Debug)]
pub struct Job<'a, C> {
    /// The candidate.
    pub candidate: &'a Candidate<C>,
    /// Number of the candidate, from 0.
    pub candidate_index: usize,
    /// The rows.
    pub fold: &'a Fold,
    /// Number of the fold, from 0.
    pub fold_index: usize,
    /// The seed of this training; a function of the run's seed, the candidate's name and the fold's number.
    pub seed: Seed,
    pub(crate) cancel: Option<&'a AtomicBool>,
}

impl<C> Job<'_, C> {
    /// Whether the run is to end: a long training looks now and then and returns an error if so.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.cancel.is_some_and(|flag| flag.load(Ordering::SeqCst))
    }
}

/// The seed of a job: it does not depend on the other candidates or on their order.
pub(crate) fn job_seed(seed: Seed, name: &str, fold: usize) -> Seed {
    Seed(seed.stream(&format!("select/{name}")).next_u64()).child(fold as u64)
}

pub(crate) fn check_candidates<C>(candidates: &[Candidate<C>]) -> Result<(), SelectError> {
    check::at_least("candidates", candidates.len(), 1)?;
    let mut names = HashSet::new();
    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.name.is_empty() {
            let field = format!("candidates[{index}].name");
            return Err(ConfigError::new(field, "\"\"", "not empty").into());
        }
        if !names.insert(&candidate.name) {
            return Err(SelectError::DuplicateName { name: candidate.name.clone() });
        }
        check::finite(&format!("candidates[{index}].complexity"), candidate.complexity)?;
    }
    Ok(())
}

pub(crate) fn check_folds(folds: &[Fold]) -> Result<(), SelectError> {
    check::at_least("folds", folds.len(), 2)?;
    for (index, fold) in folds.iter().enumerate() {
        check::at_least(&format!("folds[{index}].train"), fold.train.len(), 1)?;
        check::at_least(&format!("folds[{index}].validation"), fold.validation.len(), 1)?;
        let train: HashSet<u32> = fold.train.iter().copied().collect();
        if let Some(&row) = fold.validation.iter().find(|row| train.contains(row)) {
            return Err(SelectError::Overlap { fold: index, row });
        }
    }
    Ok(())
}

/// A hash of all rows of all folds in their order, as text.
pub(crate) fn folds_hash(folds: &[Fold]) -> String {
    let mut bytes = Vec::new();
    for fold in folds {
        for part in [&fold.train, &fold.validation] {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part.iter().flat_map(|row| row.to_le_bytes()));
        }
    }
    format!("{} folds, {:016x}", folds.len(), hash_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(train: &[u32], validation: &[u32]) -> Fold {
        Fold { train: train.into(), validation: validation.into() }
    }

    #[test]
    fn bad_candidates_and_folds_are_named() {
        let text = |result: Result<(), SelectError>| result.expect_err("refused").to_string();
        let candidate = |name: &str, complexity| Candidate::new(name, complexity, ());
        assert_eq!(text(check_candidates::<()>(&[])), "`candidates` must be at least 1, got 0");
        assert_eq!(
            text(check_candidates(&[candidate("a", 1.0), candidate("a", 2.0)])),
            "candidate names must be unique, got \"a\" twice"
        );
        assert_eq!(
            text(check_candidates(&[candidate("a", f64::NAN)])),
            "`candidates[0].complexity` must be in (-inf, inf), got NaN"
        );
        assert_eq!(
            text(check_candidates(&[candidate("", 1.0)])),
            "`candidates[0].name` must be not empty, got \"\""
        );
        let good = fold(&[0, 1], &[2]);
        assert_eq!(
            text(check_folds(std::slice::from_ref(&good))),
            "`folds` must be at least 2, got 1"
        );
        assert_eq!(
            text(check_folds(&[good.clone(), fold(&[0], &[])])),
            "`folds[1].validation` must be at least 1, got 0"
        );
        assert_eq!(
            text(check_folds(&[good, fold(&[0, 2], &[1, 2])])),
            "row 2 of fold 1 is in both training and validation"
        );
    }

    #[test]
    fn hashes_and_seeds_tell_apart() {
        let a = [fold(&[0, 1], &[2]), fold(&[2], &[0, 1])];
        let moved = [fold(&[0], &[1, 2]), fold(&[2], &[0, 1])];
        assert_ne!(folds_hash(&a), folds_hash(&moved));
        assert_eq!(folds_hash(&a), folds_hash(&a.clone()));
        assert_ne!(job_seed(Seed(1), "a", 0), job_seed(Seed(1), "a", 1));
        assert_ne!(job_seed(Seed(1), "a", 0), job_seed(Seed(1), "b", 0));
        assert_ne!(job_seed(Seed(1), "a", 0), job_seed(Seed(2), "a", 0));
    }
}
