//! The L1 path of a linear model, and stability selection on it.
//!
//! # Formula
//! ```text
//! path        argmin_b 1/(2 n) ||y - X b||^2 + strength ||b||_1     for strengths from max |X^T y| / n downwards
//! stability   the share of subsamples of n / 2 rows in which a column is among the first q of the path;
//!             kept from the threshold pi on;   E[falsely kept] <= q^2 / ((2 pi - 1) d)
//! ```
//! Columns are centred and scaled to unit variance, targets centred; coefficients refer to those columns. What is
//! constant but for rounding is 0 when centred: such targets select nothing. Solved by coordinate descent, each
//! strength from the solution before it.
//!
//! # Reference
//! J. Friedman, T. Hastie, R. Tibshirani, "Regularization paths for generalized linear models via coordinate descent",
//! J. Stat. Software 2010; N. Meinshausen, P. Buehlmann, "Stability selection", JRSS B 2010.

use super::TrainingTable;
use crate::{MaskSource, RegularizeError};
use burn::config::Config;
use firebrick_core::{ConfigError, check};

/// Configuration of an L1 path.
#[derive(Config, Debug)]
pub struct LassoPathConfig {
    /// Number of strengths, at least 1.
    #[config(default = 100)]
    pub strengths: usize,
    /// Smallest strength as a share of the largest, in (0, 1).
    #[config(default = 1e-3)]
    pub ratio: f64,
    /// Largest change of a coefficient in the last sweep, above 0, in units of the target's deviation.
    #[config(default = 1e-7)]
    pub tolerance: f64,
    /// Sweeps for a strength at most, at least 1.
    #[config(default = 10_000)]
    pub sweeps: usize,
}

/// One point of the path.
#[derive(Debug, Clone, PartialEq)]
pub struct LassoPoint {
    /// Its strength.
    pub strength: f64,
    /// Coefficients of the standardized columns; exactly 0 where a column is out.
    pub coefficients: Vec<f64>,
    /// Whether the sweeps sufficed.
    pub converged: bool,
}

impl LassoPathConfig {
    /// The path over the training rows, from the strength at which all coefficients are 0.
    ///
    /// ```
    /// use firebrick_regularize::{LassoPathConfig, TrainingTable};
    ///
    /// let all = [1.0, 0.0, 2.0, 1.0, 3.0, 0.0, 4.0, 1.0];
    /// let table = TrainingTable::of(&all, 2, &[0, 1, 2, 3])?;
    /// let path = LassoPathConfig::new().path(&table, &[2.0, 4.0, 6.0, 8.0])?;
    /// assert_eq!(path[0].coefficients, [0.0, 0.0]);
    /// let last = &path[99].coefficients; // y = 2 x0, whose deviation is sqrt(1.25)
    /// assert!((last[0] - 2.0 * 1.25f64.sqrt()).abs() < 0.01 && last[1].abs() < 0.01);
    /// # Ok::<(), firebrick_regularize::RegularizeError>(())
    /// ```
    ///
    /// # Errors
    /// When a value is out of range, or the targets are not one a row or not finite.
    pub fn path(
        &self,
        table: &TrainingTable,
        targets: &[f64],
    ) -> Result<Vec<LassoPoint>, RegularizeError> {
        table.check_targets(targets.len())?;
        let rows: Vec<usize> = (0..table.len()).collect();
        let problem = Problem::new(table, targets, &rows)?;
        self.walk(&problem, |_| false)
    }

    fn walk(
        &self,
        problem: &Problem,
        mut enough: impl FnMut(&[f64]) -> bool,
    ) -> Result<Vec<LassoPoint>, RegularizeError> {
        let count = check::at_least("strengths", self.strengths, 1)?;
        check::positive("ratio", self.ratio)?;
        let ratio = check::range("ratio", self.ratio, 0.0..1.0)?;
        let tolerance = check::positive("tolerance", self.tolerance)?;
        let sweeps = check::at_least("sweeps", self.sweeps, 1)?;
        let n = problem.residual.len() as f64;
        let dot =
            |column: &[f64], r: &[f64]| column.iter().zip(r).map(|(x, r)| x * r).sum::<f64>() / n;
        let mut residual = problem.residual.clone();
        let scale = dot(&residual, &residual).sqrt().max(f64::MIN_POSITIVE);
        let correlation = problem.columns.iter().map(|column| dot(column, &residual).abs());
        let largest = correlation.fold(0.0, f64::max);
        let mut coefficients = vec![0.0; problem.columns.len()];
        let mut path = Vec::with_capacity(count);
        for index in 0..count {
            let share = index as f64 / (count.max(2) - 1) as f64;
            let strength = largest * ratio.powf(share);
            let mut converged = false;
            for _ in 0..sweeps {
                let mut change = 0.0f64;
                for (column, b) in problem.columns.iter().zip(&mut coefficients) {
                    // The columns have unit variance, so the curvature is 1; a constant column is all 0.
                    let pull = dot(column, &residual) + *b;
                    // At the largest strength rounding must not let a column in.
                    let next = if pull.abs() <= strength * (1.0 + 1e-12) {
                        0.0
                    } else {
                        pull - strength * pull.signum()
                    };
                    let step = next - *b;
                    if step != 0.0 {
                        residual.iter_mut().zip(column).for_each(|(r, x)| *r -= step * x);
                        *b = next;
                        change = change.max(step.abs());
                    }
                }
                if change <= tolerance * scale {
                    converged = true;
                    break;
                }
            }
            path.push(LassoPoint { strength, coefficients: coefficients.clone(), converged });
            if enough(&coefficients) {
                break;
            }
        }
        Ok(path)
    }
}

/// Standardized columns and centred targets.
struct Problem {
    columns: Vec<Vec<f64>>,
    residual: Vec<f64>,
}

impl Problem {
    fn new(
        table: &TrainingTable,
        targets: &[f64],
        rows: &[usize],
    ) -> Result<Self, RegularizeError> {
        if let Some(position) = targets.iter().position(|y| !y.is_finite()) {
            let value = targets[position].to_string();
            return Err(RegularizeError::NotFinite { what: "the targets", value, position });
        }
        let centred = |values: Vec<f64>| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // Constant values leave rounding alone, which must not be blown up; no sum rounds their spread.
            if high - low <= 1e-13 * low.abs().max(high.abs()) {
                return vec![0.0; values.len()];
            }
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.into_iter().map(|v| v - mean).collect::<Vec<f64>>()
        };
        let column = |j: usize| {
            let all = table.column(j);
            let mut values = centred(rows.iter().map(|&row| all[row]).collect());
            let square = values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64;
            let scale = if square == 0.0 { 0.0 } else { 1.0 / square.sqrt() };
            values.iter_mut().for_each(|v| *v *= scale);
            values
        };
        Ok(Self {
            columns: (0..table.columns()).map(column).collect(),
            residual: centred(rows.iter().map(|&row| targets[row]).collect()),
        })
    }
}

/// Configuration of stability selection.
#[derive(Config, Debug)]
pub struct StabilityConfig {
    /// Columns taken from each subsample's path, at least 1.
    pub first: usize,
    /// Share of the subsamples from which a column is kept, in (0.5, 1].
    #[config(default = 0.6)]
    pub threshold: f64,
    /// Number of subsamples, at least 1.
    #[config(default = 100)]
    pub subsamples: usize,
}

/// The outcome of stability selection.
#[derive(Debug, Clone, PartialEq)]
pub struct Stability {
    /// Columns kept, ascending.
    pub columns: Vec<usize>,
    /// How often each column was among the first, in [0, 1].
    pub frequencies: Vec<f64>,
    /// Bound on the expected number of columns kept falsely.
    pub false_bound: f64,
}

impl StabilityConfig {
    /// Selects over the training rows; subsamples are drawn from `masks`.
    ///
    /// # Errors
    /// When a value is out of range, there are fewer than 4 rows, or the targets are not one a row or not finite.
    pub fn select(
        &self,
        table: &TrainingTable,
        targets: &[f64],
        masks: &MaskSource,
    ) -> Result<Stability, RegularizeError> {
        table.check_targets(targets.len())?;
        let first = check::at_least("first", self.first, 1)?;
        let threshold = check::range("threshold", self.threshold, 0.0..=1.0)?;
        if threshold <= 0.5 {
            return Err(ConfigError::new("threshold", threshold, "in (0.5, 1]").into());
        }
        let subsamples = check::at_least("subsamples", self.subsamples, 1)?;
        let n = check::at_least("the number of rows", table.len(), 4)?;
        let d = table.columns();
        let mut counts = vec![0usize; d];
        let config = LassoPathConfig::new().with_tolerance(1e-4);
        for _ in 0..subsamples {
            let mut rows: Vec<usize> = (0..n).collect();
            masks.reserve(2 * n + 64).shuffle(&mut rows);
            rows.truncate(n / 2);
            let problem = Problem::new(table, targets, &rows)?;
            // In the order in which they enter; of those that enter together, the larger first.
            let mut entered: Vec<usize> = Vec::new();
            config.walk(&problem, |coefficients| {
                let mut new: Vec<usize> =
                    (0..d).filter(|j| coefficients[*j] != 0.0 && !entered.contains(j)).collect();
                new.sort_by(|&a, &b| coefficients[b].abs().total_cmp(&coefficients[a].abs()));
                entered.extend(new);
                entered.len() >= first
            })?;
            entered.into_iter().take(first).for_each(|column| counts[column] += 1);
        }
        let frequencies: Vec<f64> =
            counts.into_iter().map(|count| count as f64 / subsamples as f64).collect();
        let columns = (0..d).filter(|&j| frequencies[j] >= threshold).collect();
        // As numbers: the square of a count may be none.
        let false_bound = (first as f64).powi(2) / ((2.0 * threshold - 1.0) * d as f64);
        Ok(Stability { columns, frequencies, false_bound })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{numbers, recorded};
    use super::*;
    use firebrick_core::Seed;

    /// y = 3 x0 - 2 x3 + noise among d columns.
    fn data(n: usize, d: usize, seed: u64) -> (TrainingTable, Vec<f64>) {
        let mut stream = Seed(seed).stream("data");
        let values: Vec<f64> = (0..n * d).map(|_| stream.normal()).collect();
        let y = values.chunks(d).map(|row| 3.0 * row[0] - 2.0 * row[3] + stream.normal()).collect();
        let rows: Vec<usize> = (0..n).collect();
        (TrainingTable::of(&values, d, &rows).expect("valid"), y)
    }

    #[test]
    fn every_point_meets_the_optimality_conditions() {
        let (table, y) = data(60, 8, 1);
        let path = LassoPathConfig::new().path(&table, &y).expect("valid");
        let rows: Vec<usize> = (0..60).collect();
        let problem = Problem::new(&table, &y, &rows).expect("valid");
        assert!(path[0].coefficients.iter().all(|&b| b == 0.0));
        assert!(path[1].coefficients.iter().any(|&b| b != 0.0));
        for point in &path {
            assert!(point.converged);
            let mut residual = problem.residual.clone();
            for (column, b) in problem.columns.iter().zip(&point.coefficients) {
                residual.iter_mut().zip(column).for_each(|(r, x)| *r -= b * x);
            }
            for (column, &b) in problem.columns.iter().zip(&point.coefficients) {
                let slope = column.iter().zip(&residual).map(|(x, r)| x * r).sum::<f64>() / 60.0;
                if b == 0.0 {
                    assert!(slope.abs() <= point.strength + 1e-5);
                } else {
                    assert!(
                        (slope - point.strength * b.signum()).abs() < 1e-5,
                        "{slope} {point:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_path_is_that_of_scikit_learn() {
        let cases = recorded("lasso");
        assert!(cases.len() >= 3);
        for (table, targets, case) in cases {
            let strengths = case["strengths"].as_u64().expect("given") as usize;
            let ratio = case["ratio"].as_f64().expect("given");
            let config = LassoPathConfig::new().with_strengths(strengths).with_ratio(ratio);
            let path = config.with_tolerance(1e-13).path(&table, &targets).expect("valid");
            let points = case["points"].as_array().expect("a list");
            assert_eq!(path.len(), points.len());
            for (found, point) in path.iter().zip(points) {
                let strength = point["strength"].as_f64().expect("given");
                assert!((found.strength / strength - 1.0).abs() < 1e-10, "{strength}");
                let expected = numbers(&point["coefficients"]);
                assert_eq!(found.coefficients.len(), expected.len());
                for (a, b) in found.coefficients.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-9, "{found:?} {expected:?}");
                    assert_eq!(*a == 0.0, *b == 0.0, "{found:?} {expected:?}");
                }
            }
        }
    }

    #[test]
    fn stability_selection_finds_the_two_true_columns() {
        let (table, y) = data(100, 30, 2);
        let found = StabilityConfig::new(4).with_threshold(0.9).select(
            &table,
            &y,
            &MaskSource::new(Seed(3)),
        );
        let found = found.expect("valid");
        assert_eq!(found.columns, [0, 3], "{:?}", found.frequencies);
        assert!((found.false_bound - 16.0 / (0.8 * 30.0)).abs() < 1e-12);
    }

    #[test]
    fn constant_columns_and_bad_values() {
        let table = TrainingTable::of(&[0.1, 1.0, 0.1, 2.0, 0.1, 4.0, 0.1, 3.0], 2, &[0, 1, 2, 3])
            .expect("valid");
        let path = LassoPathConfig::new().path(&table, &[1.0, 2.0, 4.0, 3.0]).expect("valid");
        assert!(path.iter().all(|point| point.coefficients[0] == 0.0));
        let flat = LassoPathConfig::new().path(&table, &[5.0; 4]).expect("nothing to explain");
        assert!(flat.iter().all(|point| point.coefficients == [0.0, 0.0]));
        assert!(LassoPathConfig::new().with_ratio(1.0).path(&table, &[1.0; 4]).is_err());
        assert!(LassoPathConfig::new().path(&table, &[1.0, f64::NAN, 1.0, 1.0]).is_err());
        assert!(LassoPathConfig::new().path(&table, &[1.0]).is_err());
        let masks = MaskSource::new(Seed(0));
        let error = StabilityConfig::new(1).with_threshold(0.5).select(&table, &[1.0; 4], &masks);
        assert_eq!(
            error.expect_err("refused").to_string(),
            "`threshold` must be in (0.5, 1], got 0.5"
        );
    }

    #[test]
    fn constant_targets_select_nothing_whatever_their_mean_is_rounded_to() {
        let (table, _) = data(30, 6, 4);
        // 0.1 + 0.2 is a rounding above 0.3.
        let nearly = (0..30).map(|row| if row % 2 == 0 { 0.3 } else { 0.1 + 0.2 }).collect();
        for targets in [vec![0.1; 30], vec![1e9 / 3.0; 30], vec![-0.7e-9; 30], nearly] {
            let path = LassoPathConfig::new().path(&table, &targets).expect("valid");
            assert!(path.iter().all(|point| point.converged && point.coefficients == [0.0; 6]));
            let config = StabilityConfig::new(4);
            let found = config.select(&table, &targets, &MaskSource::new(Seed(5))).expect("valid");
            assert_eq!((found.columns, found.frequencies), (vec![], vec![0.0; 6]));
        }
    }

    #[test]
    fn taking_all_columns_has_a_bound_as_large_as_that() {
        let (table, y) = data(20, 4, 6);
        let config = StabilityConfig::new(usize::MAX).with_threshold(1.0).with_subsamples(2);
        let found = config.select(&table, &y, &MaskSource::new(Seed(7))).expect("valid");
        // (2^64)^2 / 4
        assert_eq!(found.false_bound, 2f64.powi(126));
    }

    #[test]
    fn on_pure_noise_no_more_columns_are_kept_than_the_bound_says() {
        let (runs, n, d) = (20u64, 60usize, 20usize);
        let mut kept = 0;
        for run in 0..runs {
            let mut stream = Seed(50 + run).stream("noise");
            let values: Vec<f64> = (0..n * d).map(|_| stream.normal()).collect();
            let y: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
            let rows: Vec<usize> = (0..n).collect();
            let table = TrainingTable::of(&values, d, &rows).expect("valid");
            let config = StabilityConfig::new(4).with_subsamples(50);
            let found = config.select(&table, &y, &MaskSource::new(Seed(run))).expect("valid");
            assert!((found.false_bound - 16.0 / (0.2 * 20.0)).abs() < 1e-9);
            assert!(found.frequencies.iter().sum::<f64>() <= 4.0 + 1e-9);
            kept += found.columns.len();
        }
        assert!(kept as f64 / runs as f64 <= 4.0, "{kept}");
    }
}
