//! Filters: a score for each column, without a model.
//!
//! # Formula
//! ```text
//! variance    1/n sum (x - mean)^2                                                   useless on scaled data
//! I(x; y)     psi(n) + psi(k) - <psi(n_x)> - <psi(n_y)>                              y a number
//! I(x; c)     psi(n) + <psi(k_i)> - <psi(n_class)> - <psi(m_i)>                      c a class
//! ```
//! A constant column has variance 0, whatever its mean is rounded to.
//!
//! `n_x`, `n_y`: rows strictly nearer in x (in y) than the k-th neighbour in both, itself counted; `m_i`: rows of any
//! class strictly nearer than the k-th neighbour of the same class, itself counted. In nats; below 0 counts as 0.
//!
//! # Reference
//! A. Kraskov, H. Stoegbauer, P. Grassberger, Phys. Rev. E 2004; B. C. Ross, PLoS ONE 2014. Columns are scaled to
//! unit variance and get a jitter of 1e-10 against ties, as scikit-learn does.

use super::TrainingTable;
use crate::{MaskSource, RegularizeError};
use firebrick_core::{Seed, check};

/// The columns that were kept, and every column's score.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Columns kept, ascending.
    pub columns: Vec<usize>,
    /// Score of every column of the table.
    pub scores: Vec<f64>,
}

/// The columns whose variance over the training rows is above `min`.
///
/// # Errors
/// When `min` is negative, NaN or infinite.
pub fn variance_threshold(table: &TrainingTable, min: f64) -> Result<Selection, RegularizeError> {
    let min = check::non_negative("min", min)?;
    let scores: Vec<f64> = (0..table.columns()).map(|j| variance(&table.column(j))).collect();
    let columns = (0..scores.len()).filter(|&j| scores[j] > min).collect();
    Ok(Selection { columns, scores })
}

fn variance(column: &[f64]) -> f64 {
    // The mean of equal numbers may be a rounding away from them.
    if column.windows(2).all(|pair| pair[0] == pair[1]) {
        return 0.0;
    }
    let n = column.len() as f64;
    let mean = column.iter().sum::<f64>() / n;
    column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n
}

/// Mutual information of every column with a numeric target, by `neighbours` (3 is usual), in nats.
///
/// # Errors
/// When the targets are not one a row or not finite, or `neighbours` is 0 or not below the number of rows.
pub fn mutual_information(
    table: &TrainingTable,
    targets: &[f64],
    neighbours: usize,
) -> Result<Vec<f64>, RegularizeError> {
    table.check_targets(targets.len())?;
    if let Some(position) = targets.iter().position(|y| !y.is_finite()) {
        let value = targets[position].to_string();
        return Err(RegularizeError::NotFinite { what: "the targets", value, position });
    }
    let n = table.len();
    let k = check::at_least("neighbours", neighbours, 1)?;
    check::at_least("the number of rows", n, k.saturating_add(1))?;
    let psi = digamma_table(n);
    let y = prepared(targets, u64::MAX);
    let sorted_y = sorted(&y);
    let score = |column: usize| {
        let x = prepared(&table.column(column), column as u64);
        let sorted_x = sorted(&x);
        let mut sum = 0.0;
        for i in 0..n {
            let distance = |j: usize| (x[i] - x[j]).abs().max((y[i] - y[j]).abs());
            let mut all: Vec<f64> = (0..n).filter(|&j| j != i).map(distance).collect();
            let (_, radius, _) = all.select_nth_unstable_by(k - 1, f64::total_cmp);
            sum += psi[within(&sorted_x, x[i], *radius)] + psi[within(&sorted_y, y[i], *radius)];
        }
        (psi[n] + psi[k] - sum / n as f64).max(0.0)
    };
    Ok((0..table.columns()).map(score).collect())
}

/// Mutual information of every column with a class, by `neighbours` (3 is usual), in nats.
///
/// Rows of a class that occurs once tell nothing and are left out; a class with fewer rows uses fewer neighbours.
///
/// # Errors
/// When the classes are not one a row, `neighbours` is 0, or no class occurs twice.
pub fn mutual_information_classes(
    table: &TrainingTable,
    classes: &[usize],
    neighbours: usize,
) -> Result<Vec<f64>, RegularizeError> {
    table.check_targets(classes.len())?;
    let neighbours = check::at_least("neighbours", neighbours, 1)?;
    let mut counts = std::collections::BTreeMap::new();
    for &class in classes {
        *counts.entry(class).or_insert(0usize) += 1;
    }
    let used: Vec<usize> = (0..classes.len()).filter(|&row| counts[&classes[row]] > 1).collect();
    if used.is_empty() {
        return Err(RegularizeError::Empty { what: "the set of classes with two rows" });
    }
    let n = used.len();
    let psi = digamma_table(n);
    let score = |column: usize| {
        let x = prepared(&table.column(column), column as u64);
        let all: Vec<f64> = sorted(&used.iter().map(|&row| x[row]).collect::<Vec<_>>());
        let mut sum = 0.0;
        for (&class, &count) in counts.iter().filter(|&(_, &count)| count > 1) {
            let own: Vec<f64> =
                used.iter().filter(|&&row| classes[row] == class).map(|&row| x[row]).collect();
            let own = sorted(&own);
            let k = neighbours.min(count - 1);
            for at in 0..count {
                let radius = kth_nearest(&own, at, k);
                sum += psi[k] - psi[count] - psi[within(&all, own[at], radius)];
            }
        }
        (psi[n] + sum / n as f64).max(0.0)
    };
    Ok((0..table.columns()).map(score).collect())
}

/// Distance of the `k`-th nearest other value of a sorted list to the one at `at`.
fn kth_nearest(sorted: &[f64], at: usize, k: usize) -> f64 {
    let (mut left, mut right) = (at, at);
    let mut distance = 0.0;
    for _ in 0..k {
        let below = (left > 0).then(|| sorted[at] - sorted[left - 1]);
        let above = sorted.get(right + 1).map(|value| value - sorted[at]);
        match (below, above) {
            (Some(below), above) if above.is_none_or(|above| below <= above) => {
                (left, distance) = (left - 1, below);
            }
            (_, Some(above)) => (right, distance) = (right + 1, above),
            _ => break,
        }
    }
    distance
}

/// Values of a sorted list strictly nearer to `x` than `radius`, `x` itself among them: at least 1.
fn within(sorted: &[f64], x: f64, radius: f64) -> usize {
    let low = sorted.partition_point(|&value| x - value >= radius);
    let high = sorted.partition_point(|&value| value - x < radius);
    high.saturating_sub(low).max(1)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Unit variance and a tiny jitter, fixed by the column.
fn prepared(column: &[f64], index: u64) -> Vec<f64> {
    let deviation = variance(column).sqrt();
    // As small as rounding: scikit-learn's bound.
    let scale = if deviation < 10.0 * f64::EPSILON { 1.0 } else { deviation };
    let mean = column.iter().map(|x| (x / scale).abs()).sum::<f64>() / column.len() as f64;
    let jitter = MaskSource::named(Seed(index), "jitter").normals(column.len());
    let amount = 1e-10 * mean.max(1.0);
    column.iter().zip(jitter).map(|(x, noise)| x / scale + amount * f64::from(noise)).collect()
}

/// psi(0..=n) of the integers, the entry of 0 unused: psi(1) = -gamma, psi(m + 1) = psi(m) + 1 / m.
fn digamma_table(n: usize) -> Vec<f64> {
    let mut psi = vec![0.0, -0.577_215_664_901_532_9];
    for m in 1..n {
        psi.push(psi[m] + 1.0 / m as f64);
    }
    psi
}

#[cfg(test)]
mod tests {
    use super::super::{numbers, recorded};
    use super::*;

    fn table(columns: &[Vec<f64>]) -> TrainingTable {
        let n = columns[0].len();
        let values: Vec<f64> = (0..n).flat_map(|i| columns.iter().map(move |c| c[i])).collect();
        let rows: Vec<usize> = (0..n).collect();
        TrainingTable::of(&values, columns.len(), &rows).expect("valid")
    }

    fn normals(purpose: &str, n: usize) -> Vec<f64> {
        let mut stream = Seed(1).stream(purpose);
        (0..n).map(|_| stream.normal()).collect()
    }

    #[test]
    fn variance_by_hand() {
        let found =
            variance_threshold(&table(&[vec![1.0, 3.0], vec![2.0, 2.0]]), 0.5).expect("valid");
        assert_eq!(found, Selection { columns: vec![0], scores: vec![1.0, 0.0] });
        // A tenth is no binary number, so that the mean of ten of them is not quite one.
        let constant = variance_threshold(&table(&[vec![0.1; 10]]), 0.0).expect("valid");
        assert_eq!(constant, Selection { columns: vec![], scores: vec![0.0] });
        assert!(variance_threshold(&table(&[vec![1.0]]), -1.0).is_err());
    }

    #[test]
    fn scores_are_those_of_scikit_learn() {
        let neighbours =
            |case: &serde_json::Value| case["neighbours"].as_u64().expect("given") as usize;
        let close = |found: Vec<f64>, case: &serde_json::Value| {
            let expected = numbers(&case["scores"]);
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-9, "{found:?} {expected:?}");
            }
        };
        let (classes, values) = (recorded("classes"), recorded("numbers"));
        assert!(classes.len() >= 3 && values.len() >= 3);
        for (table, targets, case) in classes {
            let targets: Vec<usize> = targets.iter().map(|&class| class as usize).collect();
            let found = mutual_information_classes(&table, &targets, neighbours(&case));
            close(found.expect("valid"), &case);
        }
        for (table, targets, case) in values {
            let found = mutual_information(&table, &targets, neighbours(&case));
            close(found.expect("valid"), &case);
        }
    }

    #[test]
    fn normal_pairs_have_the_information_of_their_correlation() {
        let n = 2000;
        let (x, e) = (normals("x", n), normals("e", n));
        for rho in [0.0f64, 0.6, 0.9] {
            let y: Vec<f64> =
                x.iter().zip(&e).map(|(x, e)| rho * x + (1.0 - rho * rho).sqrt() * e).collect();
            let found = mutual_information(
                &table(&[x.clone(), e.iter().map(|e| 5.0 * e).collect()]),
                &y,
                3,
            );
            let found = found.expect("valid");
            let expected = -0.5 * (1.0 - rho * rho).ln();
            // The spread of the estimator at 2000 rows is about 0.03.
            assert!((found[0] - expected).abs() < 0.1, "{rho}: {found:?} {expected}");
            let other = -0.5 * (rho * rho).max(1e-9).ln();
            assert!(rho == 0.0 || (found[1] - other).abs() < 0.1, "{rho}: {found:?} {other}");
        }
    }

    #[test]
    fn classes_that_a_column_tells_apart_have_their_entropy() {
        let n = 1000;
        let noise = normals("noise", n);
        let classes: Vec<usize> = (0..n).map(|i| i % 2).collect();
        let apart = noise.iter().zip(&classes).map(|(x, &c)| x + 20.0 * c as f64).collect();
        let found =
            mutual_information_classes(&table(&[apart, noise]), &classes, 3).expect("valid");
        assert!((found[0] - 2f64.ln()).abs() < 0.01, "{found:?}");
        assert!(found[1] < 0.08, "{found:?}");
    }

    #[test]
    fn ties_single_classes_and_bad_values() {
        let constant = table(&[vec![1.0; 40], (0..40).map(f64::from).collect()]);
        let classes: Vec<usize> = (0..40).map(|i| if i == 0 { 7 } else { i % 2 }).collect();
        let found = mutual_information_classes(&constant, &classes, 3)
            .expect("the single class is left out");
        assert!(found.iter().all(|score| score.is_finite()));
        let y: Vec<f64> = (0..40).map(f64::from).collect();
        assert!(mutual_information(&constant, &y, 3).expect("valid").iter().all(|s| s.is_finite()));
        assert!(mutual_information(&constant, &y, 40).is_err());
        let all = mutual_information(&constant, &y, usize::MAX).expect_err("too many");
        assert!(all.to_string().starts_with("`the number of rows` must be at least"), "{all}");
        let all = mutual_information_classes(&constant, &classes, usize::MAX);
        assert!(all.expect("fewer are used").iter().all(|score| score.is_finite()));
        assert!(mutual_information(&constant, &y, 0).is_err());
        assert!(mutual_information(&constant, &y[1..], 3).is_err());
        let different: Vec<usize> = (0..40).collect();
        assert!(mutual_information_classes(&constant, &different, 3).is_err());
    }
}
