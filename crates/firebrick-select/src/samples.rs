//! Error against the number of training samples.

use crate::{Candidate, Fold, Job, SelectError};
use firebrick_core::{ConfigError, Seed, check};
use firebrick_split::{Train, learning_curve};
use serde::{Deserialize, Serialize};

/// Nested training parts of growing size, fold by fold, for the curve of error against samples.
///
/// Each size of a fold contains the smaller ones, so that two points differ by the added rows alone, and each class is
/// within one row of its share. The sizes are the candidates of a [`CrossValidation`](crate::CrossValidation), and the
/// report's [`complexity_curve`](crate::Report::complexity_curve), whose complexity is the number of samples, is the
/// curve. The validation rows of a fold stay as they are.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_select::{Criterion, CrossValidation, FoldScore, PowerLaw, Samples, folds_of};
/// use firebrick_split::{KFold, Rows, Splitter};
///
/// // The mean of noise around 0: its squared error over fresh rows falls as 1 + 1/n.
/// let mut stream = Seed(1).stream("noise");
/// let noise: Vec<f64> = (0..2000).map(|_| stream.normal()).collect();
/// let folds = folds_of(&KFold::new(5).split(&Rows::new(2000))?)?;
/// let samples = Samples::new(&folds, None, &[2, 8, 32, 1600], Seed(3))?;
/// let error = |mean: f64, rows: &[u32]| {
///     rows.iter().map(|&row| (noise[row as usize] - mean).powi(2)).sum::<f64>() / rows.len() as f64
/// };
/// let report = CrossValidation::new(samples.candidates(), folds.clone()).run(|job| {
///     let fold = samples.fold(job);
///     let mean = fold.train.iter().map(|&row| noise[row as usize]).sum::<f64>() / fold.train.len() as f64;
///     let (train, validation) = (error(mean, &fold.train), error(mean, &fold.validation));
///     Ok::<_, std::convert::Infallible>(FoldScore::new(train, train, validation, validation))
/// })?;
/// let curve = report.complexity_curve(Criterion::ValidationLoss);
/// assert!(curve[0].validation_mean > curve[3].validation_mean);
/// let law = PowerLaw::fit(&curve.iter().map(|p| (p.complexity, p.validation_mean)).collect::<Vec<_>>())?;
/// assert!(law.at(1e6) <= law.at(1600.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Samples {
    sizes: Vec<usize>,
    /// By fold, then by size: ascending rows.
    rows: Vec<Vec<Vec<u32>>>,
}

impl Samples {
    /// Draws the parts; `labels` has one class a row of the whole data, or is none for plain sub-samples.
    ///
    /// # Errors
    /// No folds or sizes, sizes that do not ascend, a size of 0 or beyond the smallest training part, a row without a
    /// label.
    pub fn new(
        folds: &[Fold],
        labels: Option<&[u32]>,
        sizes: &[usize],
        seed: Seed,
    ) -> Result<Self, SelectError> {
        check::at_least("folds", folds.len(), 1)?;
        check::at_least("sizes", sizes.len(), 1)?;
        if let Some(pair) = sizes.windows(2).find(|pair| pair[0] >= pair[1]) {
            let range = format!("above {}, the size before it", pair[0]);
            return Err(ConfigError::new("sizes", pair[1], range).into());
        }
        let draw = |(number, fold): (usize, &Fold)| -> Result<Vec<Vec<u32>>, SelectError> {
            let label = |&row: &u32| match labels {
                None => Ok(0),
                Some(labels) => labels.get(row as usize).copied().ok_or_else(|| {
                    let what = format!("there are {} labels, none for row {row}", labels.len());
                    SelectError::BadInput { what }
                }),
            };
            let classes = fold.train.iter().map(label).collect::<Result<Vec<u32>, _>>()?;
            let train = Train::new((), fold.train.clone());
            let seed = seed.child(number as u64);
            let drawn = learning_curve(&train, &classes, sizes, seed)?;
            Ok(drawn.into_iter().map(|sample| sample.rows).collect())
        };
        let rows = folds.iter().enumerate().map(draw).collect::<Result<_, _>>()?;
        Ok(Self { sizes: sizes.to_vec(), rows })
    }

    /// One candidate a size: its name and complexity say how many samples it trains on.
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate<usize>> {
        let candidate =
            |&size: &usize| Candidate::new(format!("{size} samples"), size as f64, size);
        self.sizes.iter().map(candidate).collect()
    }

    /// The rows of a job of [`candidates`](Self::candidates): fewer to train on, the same to validate on.
    #[must_use]
    pub fn fold<C>(&self, job: &Job<'_, C>) -> Fold {
        let drawn = self.rows.get(job.fold_index).and_then(|sizes| sizes.get(job.candidate_index));
        Fold {
            train: drawn.unwrap_or(&job.fold.train).clone(),
            validation: job.fold.validation.clone(),
        }
    }
}

/// The law `error(n) = floor + scale n^-exponent` that learning curves follow over a wide range. Cortes et al.,
/// "Learning Curves: Asymptotic Values and Rate of Convergence", 1993; Hestness et al., "Deep Learning Scaling is
/// Predictable, Empirically", 2017.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PowerLaw {
    /// The error that no number of samples goes below, at least 0.
    pub floor: f64,
    /// What a single sample leaves above the floor, at least 0.
    pub scale: f64,
    /// How fast it falls, in (0, 4].
    pub exponent: f64,
    /// Root of the mean squared distance to the points.
    pub residual: f64,
}

impl PowerLaw {
    /// The least-squares fit to points of (samples, error); of three points or more, since it has three parameters.
    ///
    /// For a given exponent the rest is a line with non-negative coefficients, in closed form; the exponent is searched.
    /// An extrapolation beyond twice the largest size is a guess, however small the residual.
    ///
    /// # Errors
    /// Fewer than three distinct sizes, a size below 1, an error that is negative or not finite.
    pub fn fit(points: &[(f64, f64)]) -> Result<Self, SelectError> {
        for (index, &(size, error)) in points.iter().enumerate() {
            check::range(&format!("points[{index}].samples"), size, 1.0..=f64::MAX)?;
            check::range(&format!("points[{index}].error"), error, 0.0..=f64::MAX)?;
        }
        let mut sizes: Vec<f64> = points.iter().map(|point| point.0).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        check::at_least("distinct sizes", sizes.len(), 3)?;
        // Sizes relative to the smallest keep every power in [0, 1].
        let unit = sizes[0];
        let at = |exponent: f64| line(points, unit, exponent);
        let grid = (1..=400).map(|step| at(f64::from(step) / 100.0));
        let coarse = grid.min_by(|a, b| a.residual.total_cmp(&b.residual));
        let Some(coarse) = coarse else {
            return Err(SelectError::BadInput { what: "no exponent fits".into() });
        };
        let (mut low, mut high) =
            ((coarse.exponent - 0.01).max(1e-3), (coarse.exponent + 0.01).min(4.0));
        let mut best = coarse;
        // Ternary search: the residual has one minimum between two neighbours of the grid.
        for _ in 0..60 {
            let (left, right) = (at(low + (high - low) / 3.0), at(high - (high - low) / 3.0));
            if left.residual <= right.residual {
                high = right.exponent
            } else {
                low = left.exponent
            }
            for found in [left, right] {
                if found.residual < best.residual {
                    best = found;
                }
            }
        }
        best.scale *= unit.powf(best.exponent);
        Ok(best)
    }

    /// The error that the law expects at `samples`.
    #[must_use]
    pub fn at(&self, samples: f64) -> f64 {
        self.floor + self.scale * samples.powf(-self.exponent)
    }
}

/// Floor and scale for one exponent, both at least 0; the scale is that of `(n / unit)^-exponent`.
fn line(points: &[(f64, f64)], unit: f64, exponent: f64) -> PowerLaw {
    let power = |size: f64| (size / unit).powf(-exponent);
    let n = points.len() as f64;
    let mean_x = points.iter().map(|point| power(point.0)).sum::<f64>() / n;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / n;
    let (mut xx, mut xy) = (0.0, 0.0);
    for &(size, error) in points {
        xx += (power(size) - mean_x).powi(2);
        xy += (power(size) - mean_x) * (error - mean_y);
    }
    let mut scale = (xy / xx).max(0.0);
    let mut floor = mean_y - scale * mean_x;
    if floor < 0.0 {
        floor = 0.0;
        let (square, product) =
            points.iter().fold((0.0, 0.0), |(square, product), &(size, error)| {
                (square + power(size).powi(2), product + power(size) * error)
            });
        scale = product / square;
    }
    let squares = points.iter().map(|&(size, error)| (floor + scale * power(size) - error).powi(2));
    let residual = (squares.sum::<f64>() / n).sqrt();
    PowerLaw { floor, scale, exponent, residual }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Criterion, CrossValidation, FoldScore, folds_of};
    use firebrick_split::{Rows, Splitter, StratifiedKFold};
    use std::collections::HashSet;

    #[test]
    fn parts_are_nested_stratified_and_of_the_fold() {
        let labels: Vec<u32> = (0..120).map(|row| u32::from(row % 4 == 0)).collect();
        let rows = Rows::new(120).with_labels(&labels);
        let folds =
            folds_of(&StratifiedKFold::new(4).split(&rows).expect("splits")).expect("lists");
        let samples = Samples::new(&folds, Some(&labels), &[8, 40, 90], Seed(2)).expect("draws");
        let seen = std::sync::Mutex::new(Vec::new());
        let report = CrossValidation::new(samples.candidates(), folds.clone())
            .run(|job| {
                let fold = samples.fold(job);
                assert_eq!(fold.validation, job.fold.validation);
                assert_eq!(fold.train.len(), job.candidate.value);
                let ones = fold.train.iter().filter(|&&row| labels[row as usize] == 1).count();
                assert!(ones.abs_diff(fold.train.len() / 4) <= 1, "{ones} of {}", fold.train.len());
                seen.lock().expect("not poisoned").push((job.fold_index, fold.train));
                let error = 1.0 / job.candidate.value as f64;
                Ok::<_, std::convert::Infallible>(FoldScore::new(0.0, 0.0, error, error))
            })
            .expect("runs");
        let sizes: Vec<f64> = report
            .complexity_curve(Criterion::ValidationError)
            .iter()
            .map(|p| p.complexity)
            .collect();
        assert_eq!(sizes, [8.0, 40.0, 90.0]);
        let seen = seen.into_inner().expect("not poisoned");
        for (fold, of) in folds.iter().enumerate() {
            let parts: Vec<HashSet<u32>> = seen
                .iter()
                .filter(|(number, _)| *number == fold)
                .map(|(_, rows)| rows.iter().copied().collect())
                .collect();
            let whole: HashSet<u32> = of.train.iter().copied().collect();
            assert!(parts[0].is_subset(&parts[1]) && parts[1].is_subset(&parts[2]));
            assert_eq!(parts[2], whole);
        }
    }

    #[test]
    fn bad_sizes_and_labels_are_named() {
        let folds = [Fold { train: vec![0, 1, 2], validation: vec![3] }];
        let text = |sizes: &[usize], labels: Option<&[u32]>| {
            Samples::new(&folds, labels, sizes, Seed(1)).expect_err("refused").to_string()
        };
        assert_eq!(text(&[], None), "`sizes` must be at least 1, got 0");
        assert_eq!(text(&[2, 2], None), "`sizes` must be above 2, the size before it, got 2");
        assert_eq!(text(&[4], None), "`size` must be in [1, 3], got 4");
        assert_eq!(text(&[0, 1], None), "`size` must be in [1, 3], got 0");
        assert_eq!(text(&[1], Some(&[0, 1])), "there are 2 labels, none for row 2");
        let error = Samples::new(&[], None, &[1], Seed(1)).expect_err("refused").to_string();
        assert_eq!(error, "`folds` must be at least 1, got 0");
    }

    #[test]
    fn an_exact_law_is_found_again() {
        for (floor, scale, exponent) in [(0.05, 2.0, 0.5), (0.0, 0.7, 0.083), (0.3, 40.0, 1.7)] {
            let points: Vec<(f64, f64)> = [10.0, 30.0, 100.0, 400.0, 2000.0]
                .map(|n: f64| (n, floor + scale * n.powf(-exponent)))
                .into();
            let law = PowerLaw::fit(&points).expect("fits");
            assert!((law.exponent - exponent).abs() < 1e-3, "{law:?}");
            assert!((law.floor - floor).abs() < 1e-3, "{law:?}");
            assert!((law.at(8000.0) - (floor + scale * 8000f64.powf(-exponent))).abs() < 1e-4);
        }
    }

    #[test]
    fn a_rising_curve_is_flat_and_bad_points_are_named() {
        let rising = PowerLaw::fit(&[(10.0, 0.1), (20.0, 0.2), (40.0, 0.3)]).expect("fits");
        assert_eq!(rising.scale, 0.0);
        assert!((rising.floor - 0.2).abs() < 1e-12);
        let text = |points: &[(f64, f64)]| PowerLaw::fit(points).expect_err("refused").to_string();
        assert!(text(&[(1.0, 0.1), (2.0, 0.1), (2.0, 0.2)]).contains("`distinct sizes`"));
        assert!(text(&[(0.0, 0.1)]).contains("`points[0].samples`"));
        assert!(text(&[(1.0, f64::NAN)]).contains("`points[0].error`"));
        assert!(text(&[(1.0, -0.1)]).contains("-0.1"));
    }
}
