//! What a cross-validation found: every number of every fold, and what they add up to.

use crate::{Candidate, Criterion, Fold, FoldResult, SelectError, corrected_interval};
use firebrick_core::{History, Seed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Numbers of the folds with their mean and spread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Spread {
    /// One number a fold.
    pub values: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Sample standard deviation, with k - 1.
    pub sd: f64,
    /// `sd / sqrt(k)`.
    pub standard_error: f64,
}

impl Spread {
    /// Mean, sample deviation and standard error of at least two finite numbers.
    ///
    /// # Errors
    /// When there are fewer, or one is not finite.
    ///
    /// ```
    /// let spread = firebrick_select::Spread::of(vec![1.0, 2.0, 3.0])?;
    /// assert_eq!((spread.mean, spread.sd), (2.0, 1.0));
    /// # Ok::<(), firebrick_select::SelectError>(())
    /// ```
    pub fn of(values: Vec<f64>) -> Result<Self, SelectError> {
        firebrick_core::check::at_least("values", values.len(), 2)?;
        for (index, value) in values.iter().enumerate() {
            firebrick_core::check::finite(&format!("values[{index}]"), *value)?;
        }
        let k = values.len() as f64;
        let mean = mean(&values);
        // Two passes: the deviations from the mean do not cancel as sums of squares do.
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = (squares / (k - 1.0)).sqrt();
        Ok(Self { mean, sd, standard_error: sd / k.sqrt(), values })
    }

    /// The Nadeau-Bengio interval of the mean at `level`, where `test_ratio` is the number of validation rows
    /// over the number of training rows of a fold; see [`corrected_interval`].
    ///
    /// # Errors
    /// When `level` is not in (0, 1) or `test_ratio` is not above 0.
    pub fn corrected_interval(
        &self,
        level: f64,
        test_ratio: f64,
    ) -> Result<(f64, f64), SelectError> {
        corrected_interval(&self.values, test_ratio, level)
    }
}

/// The mean, exact where all values are equal; no sum overflows where the mean does not.
pub(crate) fn mean(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let rough: f64 = values.iter().map(|value| value / n).sum();
    rough + values.iter().map(|value| (value - rough) / n).sum::<f64>()
}

/// The numbers of a candidate, training and validation averaged apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Scores {
    /// Mean loss on training rows.
    pub train_loss: Spread,
    /// Error rate on training rows.
    pub train_error: Spread,
    /// Mean loss on validation rows.
    pub validation_loss: Spread,
    /// Error rate on validation rows.
    pub validation_error: Spread,
    /// Validation loss minus training loss, fold by fold.
    pub loss_gap: Spread,
    /// Validation error minus training error, fold by fold.
    pub error_gap: Spread,
}

impl Scores {
    /// The validation numbers that the criterion goes by.
    #[must_use]
    pub fn validation(&self, criterion: Criterion) -> &Spread {
        match criterion {
            Criterion::ValidationLoss => &self.validation_loss,
            Criterion::ValidationError => &self.validation_error,
        }
    }

    /// The training numbers that belong to the criterion.
    #[must_use]
    pub fn training(&self, criterion: Criterion) -> &Spread {
        match criterion {
            Criterion::ValidationLoss => &self.train_loss,
            Criterion::ValidationError => &self.train_error,
        }
    }
}

/// One candidate over all folds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CandidateReport {
    /// The name.
    pub name: String,
    /// The complexity.
    pub complexity: f64,
    /// One result a fold.
    pub folds: Vec<FoldResult>,
    /// The summary; none if a fold failed.
    pub scores: Option<Scores>,
    /// Why the candidate cannot win: its first fold that failed.
    pub disqualified: Option<String>,
}

impl CandidateReport {
    fn new<C>(candidate: &Candidate<C>, folds: Vec<FoldResult>) -> Result<Self, SelectError> {
        let failed = folds.iter().enumerate().find_map(|(fold, result)| match &result.outcome {
            crate::Outcome::Failed(reason) => Some(format!("fold {fold}: {reason}")),
            crate::Outcome::Done(_) => None,
        });
        let scores = if failed.is_some() { None } else { Some(summarize(&folds)?) };
        Ok(Self {
            name: candidate.name.clone(),
            complexity: candidate.complexity,
            folds,
            scores,
            disqualified: failed,
        })
    }
}

fn summarize(folds: &[FoldResult]) -> Result<Scores, SelectError> {
    let column = |number: fn(&crate::FoldScore) -> f64| {
        Spread::of(folds.iter().filter_map(|fold| fold.outcome.score().map(number)).collect())
    };
    Ok(Scores {
        train_loss: column(|s| s.train_loss)?,
        train_error: column(|s| s.train_error)?,
        validation_loss: column(|s| s.validation_loss)?,
        validation_error: column(|s| s.validation_error)?,
        loss_gap: column(|s| s.validation_loss - s.train_loss)?,
        error_gap: column(|s| s.validation_error - s.train_error)?,
    })
}

/// The result of a cross-validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The seed of all jobs.
    pub seed: Seed,
    /// (training rows, validation rows) of each fold.
    pub sizes: Vec<(usize, usize)>,
    /// The candidates in the order in which they were given.
    pub candidates: Vec<CandidateReport>,
}

/// A candidate on the curve of error against complexity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CurvePoint {
    /// The name.
    pub name: String,
    /// The complexity.
    pub complexity: f64,
    /// Mean over the folds on training rows.
    pub train_mean: f64,
    /// Sample deviation of that.
    pub train_sd: f64,
    /// Mean over the folds on validation rows.
    pub validation_mean: f64,
    /// Sample deviation of that.
    pub validation_sd: f64,
}

impl Report {
    pub(crate) fn new<C>(
        seed: Seed,
        candidates: &[Candidate<C>],
        folds: &[Fold],
        results: Vec<FoldResult>,
    ) -> Result<Self, SelectError> {
        let mut columns: Vec<Vec<FoldResult>> = vec![Vec::new(); candidates.len()];
        for (index, result) in results.into_iter().enumerate() {
            columns[index % candidates.len()].push(result);
        }
        let candidates: Vec<CandidateReport> = candidates
            .iter()
            .zip(columns)
            .map(|(candidate, folds)| CandidateReport::new(candidate, folds))
            .collect::<Result<_, _>>()?;
        let sizes = folds.iter().map(|fold| (fold.train.len(), fold.validation.len())).collect();
        let report = Self { seed, sizes, candidates };
        if report.candidates.iter().all(|candidate| candidate.scores.is_none()) {
            return Err(report.all_failed());
        }
        Ok(report)
    }

    pub(crate) fn all_failed(&self) -> SelectError {
        let failures = self.candidates.iter().map(|candidate| {
            let reason = candidate.disqualified.as_deref().unwrap_or("no scores");
            format!("{}: {reason}", candidate.name)
        });
        SelectError::AllFailed { failures: failures.collect() }
    }

    /// Validation rows over training rows, of all folds together: what [`Spread::corrected_interval`] needs.
    #[must_use]
    pub fn test_ratio(&self) -> f64 {
        let (train, validation) =
            self.sizes.iter().fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
        validation as f64 / train as f64
    }

    /// What the training of a candidate on a fold wrote down; none if it failed or there is no such job.
    #[must_use]
    pub fn history(&self, candidate: usize, fold: usize) -> Option<&History> {
        let result = self.candidates.get(candidate)?.folds.get(fold)?;
        result.outcome.score().map(|score| &score.history)
    }

    /// The loss of every candidate that finished on every validation row, for [`bbc_cv`](crate::bbc_cv): the numbers
    /// of the candidates in the report, and their losses, rows in ascending order. A row that several folds
    /// validate (repeated cross-validation) counts once, with its mean loss, so that rows stay independent.
    ///
    /// # Errors
    /// When `folds` are not those of the run, or a candidate that finished did not give its row losses.
    pub fn row_losses(&self, folds: &[Fold]) -> Result<(Vec<usize>, Vec<Vec<f64>>), SelectError> {
        let sizes: Vec<_> = folds.iter().map(|f| (f.train.len(), f.validation.len())).collect();
        if sizes != self.sizes {
            let what = "the folds must be those of the run: their sizes differ".into();
            return Err(SelectError::BadInput { what });
        }
        let finished = self.candidates.iter().enumerate().filter(|(_, c)| c.scores.is_some());
        let mut found = (Vec::new(), Vec::new());
        for (index, candidate) in finished {
            let mut rows: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
            for (fold, result) in folds.iter().zip(&candidate.folds) {
                let losses = result.outcome.score().map_or(&[][..], |score| &score.row_losses);
                if losses.len() != fold.validation.len() {
                    let what = format!("candidate {:?} gave no row losses", candidate.name);
                    return Err(SelectError::BadInput { what });
                }
                for (&row, &loss) in fold.validation.iter().zip(losses) {
                    rows.entry(row).or_default().push(f64::from(loss));
                }
            }
            found.0.push(index);
            found.1.push(rows.values().map(|losses| mean(losses)).collect());
        }
        Ok(found)
    }

    /// Error against complexity: the candidates that finished, simplest first.
    #[must_use]
    pub fn complexity_curve(&self, criterion: Criterion) -> Vec<CurvePoint> {
        let mut curve: Vec<CurvePoint> = self
            .candidates
            .iter()
            .filter_map(|candidate| {
                let scores = candidate.scores.as_ref()?;
                let (train, validation) =
                    (scores.training(criterion), scores.validation(criterion));
                Some(CurvePoint {
                    name: candidate.name.clone(),
                    complexity: candidate.complexity,
                    train_mean: train.mean,
                    train_sd: train.sd,
                    validation_mean: validation.mean,
                    validation_sd: validation.sd,
                })
            })
            .collect();
        curve.sort_by(|a, b| a.complexity.total_cmp(&b.complexity));
        curve
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FoldScore, Outcome};
    use proptest::prelude::*;

    #[test]
    fn spreads_match_hand_computed_ones() {
        let spread = Spread::of(vec![2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).expect("finite");
        assert_eq!(spread.mean, 5.0);
        assert!((spread.sd - (32.0f64 / 7.0).sqrt()).abs() < 1e-15);
        assert!((spread.standard_error - (4.0f64 / 7.0).sqrt()).abs() < 1e-15);
        // Far from 0 and equal: no rounding may show.
        let equal = Spread::of(vec![0.1; 7]).expect("finite");
        assert_eq!((equal.mean, equal.sd), (0.1, 0.0));
        let far = Spread::of(vec![1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0]).expect("finite");
        assert_eq!((far.mean, far.sd), (1e9 + 2.0, 1.0));
        assert!(Spread::of(vec![1.0]).is_err());
        assert!(Spread::of(vec![1.0, f64::NAN]).is_err());
    }

    proptest! {
        /// The summary is that of the folds as they are stored, training and validation apart.
        #[test]
        fn means_are_those_of_the_stored_folds(
            numbers in prop::collection::vec(prop::array::uniform4(0.0..10.0f64), 2..8),
        ) {
            let folds = vec![Fold { train: vec![0], validation: vec![1] }; numbers.len()];
            let results = numbers.iter().map(|&[a, b, c, d]| FoldResult {
                outcome: Outcome::Done(FoldScore::new(a, b, c, d)),
                seconds: 0.0,
            });
            let candidates = [Candidate::new("a", 1.0, ())];
            let report = Report::new(Seed(0), &candidates, &folds, results.collect());
            let text = serde_json::to_string(&report.expect("finite")).expect("serializes");
            let report: Report = serde_json::from_str(&text).expect("reads back");
            let scores = report.candidates[0].scores.as_ref().expect("no fold failed");
            let found = [
                &scores.train_loss,
                &scores.train_error,
                &scores.validation_loss,
                &scores.validation_error,
            ];
            for (place, spread) in found.into_iter().enumerate() {
                let column: Vec<f64> = numbers.iter().map(|fold| fold[place]).collect();
                prop_assert_eq!(&spread.values, &column);
                let plain = column.iter().sum::<f64>() / column.len() as f64;
                prop_assert!((spread.mean - plain).abs() < 1e-12);
            }
        }
    }
}
