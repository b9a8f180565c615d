//! Wrappers: columns judged by a model.
//!
//! # Formula
//! ```text
//! permutation   importance_j = score - mean_r score(column j shuffled, r)       on held-out rows
//! elimination   fit, drop the least important column, repeat
//! ```
//! Correlated columns share their importance and hide one another.
//!
//! # Reference
//! L. Breiman, Machine Learning 2001; A. Fisher, C. Rudin, F. Dominici, JMLR 2019; I. Guyon, J. Weston, S. Barnhill, V.
//! Vapnik, Machine Learning 2002.

use super::{HeldOutTable, TrainingTable};
use crate::{MaskSource, RegularizeError};
use firebrick_core::{ConfigError, check};

/// What a column's shuffling costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Importance {
    /// Mean fall of the score.
    pub mean: f64,
    /// Standard deviation of the fall over the repetitions (over n).
    pub std: f64,
}

/// The importance of every column: how far `score` falls when the column is shuffled, `repeats` times (5 is usual).
///
/// `score` gets the values row by row; higher is better.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_regularize::{MaskSource, TrainingTable, permutation_importance};
///
/// let all: Vec<f64> = (0..200).map(|i| (i / 2 * (1 - i % 2)) as f64).collect(); // column 1 is 0
/// let train = TrainingTable::of(&all, 2, &(0..50).collect::<Vec<_>>())?;
/// let held_out = train.held_out(&all, &(50..100).collect::<Vec<_>>())?;
/// let y: Vec<f64> = held_out.values().chunks(2).map(|row| row[0]).collect();
/// let found = permutation_importance(&held_out, 5, &MaskSource::new(Seed(7)), |values| {
///     -values.chunks(2).zip(&y).map(|(row, y)| (row[0] - y).abs()).sum::<f64>()
/// })?;
/// assert!(found[0].mean > 100.0 && found[1].mean == 0.0);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
///
/// # Errors
/// When `repeats` is 0 or a score is not finite.
pub fn permutation_importance(
    table: &HeldOutTable,
    repeats: usize,
    masks: &MaskSource,
    mut score: impl FnMut(&[f64]) -> f64,
) -> Result<Vec<Importance>, RegularizeError> {
    let repeats = check::at_least("repeats", repeats, 1)?;
    let baseline = check::finite("score", score(table.values()))?;
    let (columns, rows) = (table.columns(), table.len());
    let mut values = table.values().to_vec();
    let mut found = Vec::with_capacity(columns);
    for column in 0..columns {
        let mut falls = Vec::with_capacity(repeats);
        for _ in 0..repeats {
            let mut order: Vec<usize> = (0..rows).collect();
            masks.reserve(2 * rows + 64).shuffle(&mut order);
            for (row, &from) in order.iter().enumerate() {
                values[row * columns + column] = table.values()[from * columns + column];
            }
            falls.push(baseline - check::finite("score", score(&values))?);
        }
        for row in 0..rows {
            values[row * columns + column] = table.values()[row * columns + column];
        }
        let mean = falls.iter().sum::<f64>() / repeats as f64;
        let square = falls.iter().map(|fall| (fall - mean).powi(2)).sum::<f64>();
        found.push(Importance { mean, std: (square / repeats as f64).sqrt() });
    }
    Ok(found)
}

/// The `keep` columns that are left when the least important `step` are dropped again and again.
///
/// `importance` fits a model to the given columns of the training rows and returns one number for each of them; of
/// equal ones the later column goes first.
///
/// # Errors
/// When `keep` is 0 or above the number of columns, `step` is 0, or the importances are of another number or NaN.
pub fn recursive_elimination(
    table: &TrainingTable,
    keep: usize,
    step: usize,
    mut importance: impl FnMut(&TrainingTable, &[usize]) -> Vec<f64>,
) -> Result<Vec<usize>, RegularizeError> {
    let keep = check::at_least("keep", keep, 1)?;
    let step = check::at_least("step", step, 1)?;
    if keep > table.columns() {
        let expected = format!("at most {}, the number of columns", table.columns());
        return Err(ConfigError::new("keep", keep, expected).into());
    }
    let mut left: Vec<usize> = (0..table.columns()).collect();
    while left.len() > keep {
        let scores = importance(table, &left);
        if scores.len() != left.len() {
            let expected = format!("one for each of {} columns", left.len());
            let found = vec![scores.len()];
            return Err(RegularizeError::Shape { what: "the importances", expected, found });
        }
        if let Some(position) = scores.iter().position(|score| score.is_nan()) {
            let value = "NaN".to_owned();
            return Err(RegularizeError::NotFinite { what: "the importances", value, position });
        }
        let mut order: Vec<usize> = (0..left.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
        let gone: Vec<usize> = order.into_iter().take(step.min(left.len() - keep)).collect();
        left = left
            .iter()
            .enumerate()
            .filter(|(index, _)| !gone.contains(index))
            .map(|(_, &column)| column)
            .collect();
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebrick_core::Seed;

    #[test]
    fn elimination_keeps_the_most_important_and_fits_anew_each_time() {
        let table = TrainingTable::of(&[0.0; 10], 5, &[0, 1]).expect("valid");
        let mut fits = Vec::new();
        let kept = recursive_elimination(&table, 2, 2, |_, columns| {
            fits.push(columns.len());
            columns.iter().map(|&column| [3.0, 1.0, 5.0, 1.0, 0.5][column]).collect()
        });
        assert_eq!(kept, Ok(vec![0, 2]));
        assert_eq!(fits, [5, 3]);
        let refused = recursive_elimination(&table, 6, 1, |_, _| vec![]);
        assert!(refused.expect_err("too many").to_string().contains("at most 5"));
        assert!(recursive_elimination(&table, 2, 1, |_, _| vec![1.0]).is_err());
        assert!(recursive_elimination(&table, 2, 1, |_, c| vec![f64::NAN; c.len()]).is_err());
    }

    #[test]
    fn a_shuffled_column_costs_twice_its_variance() {
        // y = x0 exactly, score = -mean squared error: shuffling x0 costs E (x - x')^2 = 2 var(x) (n - 1) / n.
        let mut stream = Seed(2).stream("test");
        let all: Vec<f64> = (0..4000).map(|_| stream.normal()).collect();
        let train = TrainingTable::of(&all, 2, &[0]).expect("valid");
        let held_out = train.held_out(&all, &(1..2000).collect::<Vec<_>>()).expect("others");
        let y: Vec<f64> = held_out.values().chunks(2).map(|row| row[0]).collect();
        let score = |values: &[f64]| {
            let square = |(row, y): (&[f64], &f64)| (row[0] - y).powi(2);
            -values.chunks(2).zip(&y).map(square).sum::<f64>() / y.len() as f64
        };
        let found =
            permutation_importance(&held_out, 10, &MaskSource::new(Seed(3)), score).expect("valid");
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        let variance = y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / y.len() as f64;
        assert!((found[0].mean - 2.0 * variance).abs() < 0.1, "{found:?} {variance}");
        assert_eq!(found[1], Importance { mean: 0.0, std: 0.0 });
        assert!(permutation_importance(&held_out, 0, &MaskSource::new(Seed(3)), score).is_err());
        let nan = permutation_importance(&held_out, 1, &MaskSource::new(Seed(3)), |_| f64::NAN);
        assert!(nan.is_err());
    }
}
