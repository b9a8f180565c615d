//! One feature alone that predicts the target: it is the target under another name, or comes after it.

use super::{Audit, Check, Verdict};
use crate::classes::Dense;
use rayon::prelude::*;

/// Rows of each side that a model looks at.
pub(super) const SAMPLE: usize = 10_000;
const BINS: usize = 64;

/// At most `SAMPLE` rows of one side, ascending.
pub(super) fn sample(audit: &Audit<'_>, held_out: bool, most: usize) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..audit.parts.len())
        .filter(|&row| if held_out { audit.held_out(row) } else { audit.parts[row] == 0 })
        .collect();
    if rows.len() > most {
        audit.seed.child(u64::from(held_out)).stream("audit/sample").shuffle(&mut rows);
        rows.truncate(most);
        rows.sort_unstable();
    }
    rows
}

/// What a model does not see: rows beyond the sample, columns beyond `used` of `columns`, texts.
pub(super) fn left_out(audit: &Audit<'_>, looked_at: usize, used: usize, columns: usize) -> String {
    let n = audit.parts.iter().filter(|&&part| part <= 2).count();
    let mut parts = Vec::new();
    if looked_at < n {
        parts.push(format!("{} of {n} rows, beyond the sample", n - looked_at));
    }
    if used < columns {
        parts.push(format!("{} of {columns} columns", columns - used));
    }
    if audit.texts.is_some() {
        parts.push("the texts".to_owned());
    }
    parts.join("; ")
}

/// The edges of bins of equally many training rows, by one feature.
fn edges(train: &[usize], value: impl Fn(usize) -> f32) -> Vec<f32> {
    let mut sorted: Vec<f32> =
        train.iter().map(|&row| value(row)).filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f32::total_cmp);
    let mut edges: Vec<f32> =
        (1..BINS).filter_map(|bin| sorted.get(bin * sorted.len() / BINS).copied()).collect();
    edges.dedup();
    edges
}

/// What of the error on held-out rows each feature alone removes, the most telling first.
fn scores(columns: usize, score: impl Fn(usize) -> f64 + Sync) -> Vec<(f64, usize)> {
    let mut scores: Vec<(f64, usize)> =
        (0..columns).into_par_iter().map(|column| (score(column), column)).collect();
    scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scores
}

/// Bins each feature and predicts the target by what is usual in the bin.
pub(super) fn single_feature(audit: &Audit<'_>) -> Check {
    let name = "single feature";
    let Some((values, columns)) = audit.features else {
        return Check::skipped(name, "no features were given");
    };
    let most = if columns > 64 { SAMPLE / 4 } else { SAMPLE };
    let (train, valid) = (sample(audit, false, most), sample(audit, true, most));
    if train.len() < 20 || valid.len() < 20 {
        return Check::skipped(name, "it takes 20 rows on either side");
    }
    let features = (values, columns);
    let (scores, of) = match (audit.rows.labels, audit.rows.target) {
        (Some(labels), _) => match classes(labels, features, &train, &valid) {
            Some(scores) => (scores, "the errors"),
            None => return Check::skipped(name, "it takes 2 to 1000 classes"),
        },
        (None, Some(target)) => (numbers(target, features, &train, &valid), "the variance"),
        (None, None) => return Check::skipped(name, "neither labels nor a target were given"),
    };
    let suspects = scores.iter().filter(|(score, _)| *score > 0.8).count();
    let mut check = Check::new(name);
    for &(score, column) in &scores[..suspects] {
        check.example(|| format!("column {column} alone removes {:.1} % of {of}", 100.0 * score));
    }
    check.not_checked = left_out(audit, train.len() + valid.len(), columns, columns);
    check.of(suspects, columns, Verdict::Warning)
}

/// The most frequent class of each bin, against the most frequent class of all.
fn classes(
    labels: &[u32],
    (values, columns): (&[f32], usize),
    train: &[usize],
    valid: &[usize],
) -> Option<Vec<(f64, usize)>> {
    let classes = Dense::by_appearance(labels);
    if !(2..=1000).contains(&classes.len()) {
        return None;
    }
    let class = |row: usize| classes.number(labels[row]);
    let majority = |counts: &[u32]| {
        (0..counts.len()).max_by_key(|&c| (counts[c], std::cmp::Reverse(c))).unwrap_or(0)
    };
    let mut all = vec![0u32; classes.len()];
    train.iter().for_each(|&row| all[class(row)] += 1);
    let usual = majority(&all);
    let base = valid.iter().filter(|&&row| class(row) == usual).count() as f64 / valid.len() as f64;
    Some(scores(columns, |column| {
        let value = |row: usize| values[row * columns + column];
        let edges = edges(train, value);
        let bin = |row: usize| edges.partition_point(|&edge| edge <= value(row));
        let mut counts = vec![0u32; (edges.len() + 1) * classes.len()];
        train.iter().for_each(|&row| counts[bin(row) * classes.len() + class(row)] += 1);
        let guess: Vec<usize> = counts.chunks_exact(classes.len()).map(majority).collect();
        let right = valid.iter().filter(|&&row| guess[bin(row)] == class(row)).count();
        let accuracy = right as f64 / valid.len() as f64;
        if base < 1.0 { (accuracy - base) / (1.0 - base) } else { 0.0 }
    }))
}

/// The mean of each bin, against the mean of all; what is not finite counts as that.
fn numbers(
    target: &[f64],
    (values, columns): (&[f32], usize),
    train: &[usize],
    valid: &[usize],
) -> Vec<(f64, usize)> {
    let finite = || train.iter().map(|&row| target[row]).filter(|value| value.is_finite());
    let mean = finite().sum::<f64>() / finite().count().max(1) as f64;
    let excess = |row: usize| if target[row].is_finite() { target[row] - mean } else { 0.0 };
    let variance: f64 = valid.iter().map(|&row| excess(row).powi(2)).sum();
    scores(columns, |column| {
        let value = |row: usize| values[row * columns + column];
        let edges = edges(train, value);
        let bin = |row: usize| edges.partition_point(|&edge| edge <= value(row));
        let mut sums = vec![(0.0, 0.0); edges.len() + 1];
        for &row in train {
            let (sum, count) = &mut sums[bin(row)];
            (*sum, *count) = (*sum + excess(row), *count + 1.0);
        }
        let guess = |row: usize| {
            let (sum, count) = sums[bin(row)];
            if count > 0.0 { sum / count } else { 0.0 }
        };
        let left: f64 = valid.iter().map(|&row| (excess(row) - guess(row)).powi(2)).sum();
        if variance > 0.0 && left.is_finite() { 1.0 - left / variance } else { 0.0 }
    })
}
