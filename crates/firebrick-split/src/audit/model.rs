//! Small models that should fail: one feature alone predicts the label; training and held-out rows can be told apart.

use super::{Audit, Check, Verdict};
use crate::classes::Dense;
use rayon::prelude::*;

/// Rows of each side that a model looks at.
const SAMPLE: usize = 10_000;
const BINS: usize = 64;

/// At most `SAMPLE` rows of one side, ascending.
fn sample(audit: &Audit<'_>, held_out: bool, most: usize) -> Vec<usize> {
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
fn left_out(audit: &Audit<'_>, looked_at: usize, used: usize, columns: usize) -> String {
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

/// The most frequent class of each bin of one feature, and whether held-out rows follow it.
pub(super) fn single_feature(audit: &Audit<'_>) -> Check {
    let name = "single feature";
    let (Some((values, columns)), Some(labels)) = (audit.features, audit.rows.labels) else {
        return Check::skipped(name, "features and labels are needed");
    };
    let most = if columns > 64 { SAMPLE / 4 } else { SAMPLE };
    let (train, valid) = (sample(audit, false, most), sample(audit, true, most));
    let classes = Dense::by_appearance(labels);
    if classes.len() < 2 || classes.len() > 1000 || train.len() < 20 || valid.len() < 20 {
        return Check::skipped(name, "it takes 2 to 1000 classes and 20 rows on either side");
    }
    let class = |row: usize| classes.number(labels[row]);
    let majority = |counts: &[u32]| {
        (0..counts.len()).max_by_key(|&c| (counts[c], std::cmp::Reverse(c))).unwrap_or(0)
    };
    let count = |rows: &mut dyn Iterator<Item = usize>| {
        let mut counts = vec![0u32; classes.len()];
        rows.for_each(|row| counts[class(row)] += 1);
        counts
    };
    let usual = majority(&count(&mut train.iter().copied()));
    let base = valid.iter().filter(|&&row| class(row) == usual).count() as f64 / valid.len() as f64;
    let mut scores: Vec<(f64, usize)> = (0..columns)
        .into_par_iter()
        .map(|column| {
            let value = |row: usize| values[row * columns + column];
            let mut sorted: Vec<f32> =
                train.iter().map(|&row| value(row)).filter(|v| !v.is_nan()).collect();
            sorted.sort_by(f32::total_cmp);
            let mut edges: Vec<f32> = (1..BINS)
                .filter_map(|bin| sorted.get(bin * sorted.len() / BINS).copied())
                .collect();
            edges.dedup();
            let bin = |row: usize| edges.partition_point(|&edge| edge <= value(row));
            let mut counts = vec![0u32; (edges.len() + 1) * classes.len()];
            train.iter().for_each(|&row| counts[bin(row) * classes.len() + class(row)] += 1);
            let guess: Vec<usize> = counts.chunks_exact(classes.len()).map(majority).collect();
            let right = valid.iter().filter(|&&row| guess[bin(row)] == class(row)).count();
            let accuracy = right as f64 / valid.len() as f64;
            (if base < 1.0 { (accuracy - base) / (1.0 - base) } else { 0.0 }, column)
        })
        .collect();
    scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let suspects = scores.iter().filter(|(score, _)| *score > 0.8).count();
    let mut check = Check::new(name);
    for &(score, column) in &scores[..suspects] {
        check.example(|| {
            format!("column {column} alone removes {:.1} % of the errors", 100.0 * score)
        });
    }
    check.not_checked = left_out(audit, train.len() + valid.len(), columns, columns);
    check.of(suspects, columns, Verdict::Warning)
}

/// Area under the ROC curve by ranks, ties counted half.
pub(super) fn auc(scores: &[(f64, bool)]) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut sum, mut positives) = (0.0, 0.0, 0.0);
    for run in sorted.chunk_by(|a, b| a.0 == b.0) {
        let hits = run.iter().filter(|(_, positive)| *positive).count() as f64;
        let misses = run.len() as f64 - hits;
        sum += hits * (below + 0.5 * misses);
        below += misses;
        positives += hits;
    }
    sum / (positives * below)
}

/// A logistic regression on standardized features and their squares, each half judged by the model of the other.
pub(super) fn adversarial(audit: &Audit<'_>) -> Check {
    let name = "adversarial validation";
    let Some((values, columns)) = audit.features else {
        return Check::skipped(name, "no features were given");
    };
    // As many columns as keep the fit within a second.
    let used = columns.min(256);
    let most = (SAMPLE * 64 / used.max(64)).max(500);
    let (train, held_out) = (sample(audit, false, most), sample(audit, true, most));
    if train.len() < 50 || held_out.len() < 50 {
        return Check::skipped(name, "it takes 50 rows on either side");
    }
    let mut rows: Vec<(usize, bool)> = train.iter().map(|&row| (row, false)).collect();
    rows.extend(held_out.iter().map(|&row| (row, true)));
    audit.seed.stream("audit/adversarial").shuffle(&mut rows);
    let inputs = inputs(values, columns, used, &rows);
    let half = rows.len() / 2;
    let width = 2 * used;
    let mut scores = Vec::with_capacity(rows.len());
    for (fit, judge) in [(0..half, half..rows.len()), (half..rows.len(), 0..half)] {
        let weights = logistic(&inputs[fit.start * width..fit.end * width], &rows[fit], width);
        let mut part: Vec<(f64, bool)> = judge
            .map(|place| {
                let input = &inputs[place * width..(place + 1) * width];
                (input.iter().zip(&weights).map(|(x, w)| f64::from(*x) * w).sum(), rows[place].1)
            })
            .collect();
        // The halves are two models: their AUCs are averaged, not their scores mixed.
        scores.push((auc(&part), part.len()));
        part.clear();
    }
    let area = scores.iter().map(|(area, n)| area * *n as f64).sum::<f64>() / rows.len() as f64;
    let (a, b) = (train.len() as f64, held_out.len() as f64);
    let deviation = ((a + b + 1.0) / (12.0 * a * b)).sqrt();
    let mut check = Check::new(name);
    check.share = area;
    check.not_checked = left_out(audit, rows.len(), used, columns);
    if area > 0.55 && area > 0.5 + 4.0 * deviation {
        check.verdict = Verdict::Warning;
        check.count = rows.len();
    }
    check.example(|| {
        format!("training and held-out rows are told apart with AUC {area:.3}; by chance 0.500, deviation {deviation:.4}")
    });
    check
}

/// Standardized features and squares, the squares centred; what is not finite counts as the mean.
fn inputs(values: &[f32], columns: usize, used: usize, rows: &[(usize, bool)]) -> Vec<f32> {
    let width = 2 * used;
    let mut inputs = vec![0.0f32; rows.len() * width];
    for column in 0..used {
        let value = |row: usize| f64::from(values[row * columns + column]);
        let finite = || rows.iter().map(|(row, _)| value(*row)).filter(|v| v.is_finite());
        let count = finite().count().max(1) as f64;
        let mean = finite().sum::<f64>() / count;
        let deviation = (finite().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
        if deviation <= 0.0 || !deviation.is_finite() {
            continue;
        }
        for (place, (row, _)) in rows.iter().enumerate() {
            let x = (value(*row) - mean) / deviation;
            let x = if x.is_finite() { x.clamp(-5.0, 5.0) } else { 0.0 };
            inputs[place * width + column] = x as f32;
            inputs[place * width + used + column] = ((x * x - 1.0) / 2.0) as f32;
        }
    }
    inputs
}

/// Gradient descent with momentum on the penalized logistic loss, classes weighted equally.
fn logistic(inputs: &[f32], rows: &[(usize, bool)], width: usize) -> Vec<f64> {
    let positives = rows.iter().filter(|(_, held_out)| *held_out).count().max(1) as f64;
    let negatives = (rows.len() as f64 - positives).max(1.0);
    let (mut weights, mut speed) = (vec![0.0f64; width], vec![0.0f64; width]);
    for _ in 0..60 {
        let gradient = rows
            .par_chunks(512)
            .zip(inputs.par_chunks(512 * width))
            .map(|(rows, inputs)| {
                let mut gradient = vec![0.0f64; width];
                for ((_, positive), input) in rows.iter().zip(inputs.chunks_exact(width)) {
                    let score: f64 =
                        input.iter().zip(&weights).map(|(x, w)| f64::from(*x) * w).sum();
                    let chance = 1.0 / (1.0 + (-score).exp());
                    let error =
                        if *positive { (chance - 1.0) / positives } else { chance / negatives };
                    gradient.iter_mut().zip(input).for_each(|(g, x)| *g += error * f64::from(*x));
                }
                gradient
            })
            .collect::<Vec<_>>();
        // Summed in order, so that the number of threads does not show.
        for place in 0..width {
            let slope: f64 = gradient.iter().map(|g| g[place]).sum::<f64>() + 1e-3 * weights[place];
            speed[place] = 0.8 * speed[place] - 0.05 * slope;
            weights[place] += speed[place];
        }
    }
    weights
}
