//! Equal rows: found by hash, verified value by value.

use super::{Audit, Check, Verdict};
use crate::{hash_bytes, hash_f32};
use rayon::prelude::*;

/// Whether two rows of features hold the same values (-0 is 0, NaN is NaN).
pub(super) fn equal(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(a, b)| a == b || a.is_nan() && b.is_nan())
}

/// Classes of equal rows with two members and more, each ascending.
pub(crate) fn classes(hashes: Vec<u64>, same: impl Fn(usize, usize) -> bool) -> Vec<Vec<u32>> {
    let mut keyed: Vec<(u64, u32)> =
        hashes.into_par_iter().enumerate().map(|(row, hash)| (hash, row as u32)).collect();
    keyed.par_sort_unstable();
    let mut classes = Vec::new();
    for run in keyed.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1) {
        // Equal hashes are equal rows but for accidents: those make classes of their own.
        let mut open: Vec<Vec<u32>> = Vec::new();
        for &(_, row) in run {
            match open.iter_mut().find(|class| same(class[0] as usize, row as usize)) {
                Some(class) => class.push(row),
                None => open.push(vec![row]),
            }
        }
        classes.extend(open.into_iter().filter(|class| class.len() > 1));
    }
    classes
}

/// Equal rows across parts, and equal rows with different labels.
pub(super) fn run(audit: &Audit<'_>, pairs: &mut Vec<(u32, u32)>) -> Vec<Check> {
    let n = audit.parts.len();
    let features =
        |row: usize| audit.features.map(|(values, width)| &values[row * width..(row + 1) * width]);
    let text = |row: usize| audit.texts.map(|texts| texts[row]);
    if audit.features.is_none() && audit.texts.is_none() {
        let reason = "neither features nor texts were given";
        return vec![
            Check::skipped("exact duplicates", reason),
            Check::skipped("conflicting labels", reason),
        ];
    }
    // Rows are equal in all that is known of them.
    let hash = |row: usize| match (features(row), text(row)) {
        (Some(values), Some(text)) => hash_f32(values, Some(hash_bytes(text.as_bytes()) as u32)),
        (Some(values), None) => hash_f32(values, None),
        (None, text) => hash_bytes(text.unwrap_or_default().as_bytes()),
    };
    let same = |a: usize, b: usize| {
        text(a) == text(b) && features(a).zip(features(b)).is_none_or(|(a, b)| equal(a, b))
    };
    let equal_rows = classes((0..n).into_par_iter().map(hash).collect(), same);
    let mut duplicates = Check::new("exact duplicates");
    let mut conflicts = Check::new("conflicting labels");
    let (mut leaked, mut conflicting) = (0, 0);
    for class in &equal_rows {
        let first = class[0];
        let member =
            |part: u8| class.iter().copied().find(|&row| audit.parts[row as usize] == part);
        if let Some(trained) = member(0) {
            for &row in class.iter().filter(|&&row| audit.held_out(row as usize)) {
                leaked += 1;
                duplicates.example(|| format!("held-out row {row} equals training row {trained}"));
            }
        } else if let Some(validated) = member(1) {
            // Whoever chose a model by the validation part has seen these rows of the test.
            for &row in class.iter().filter(|&&row| audit.parts[row as usize] == 2) {
                leaked += 1;
                duplicates.example(|| format!("test row {row} equals validation row {validated}"));
            }
        }
        // All members are tied to the first, so that a repair takes the whole class; parts may be equal in between.
        if class.iter().any(|&row| audit.across(first as usize, row as usize)) {
            pairs.extend(class[1..].iter().map(|&row| (first, row)));
        }
        if let Some(labels) = audit.rows.labels
            && let Some(&row) =
                class.iter().find(|&&row| labels[row as usize] != labels[first as usize])
        {
            conflicting += class.len();
            conflicts.example(|| {
                let [a, b] = [first, row].map(|row| audit.label(labels[row as usize]));
                format!("rows {first} and {row} are equal, their labels {a} and {b}")
            });
        }
    }
    let held_out = (0..n).filter(|&row| audit.held_out(row)).count();
    let conflicts = if audit.rows.labels.is_some() {
        conflicts.of(conflicting, n, Verdict::Warning)
    } else {
        Check::skipped("conflicting labels", "no labels were given")
    };
    vec![duplicates.of(leaked, held_out, Verdict::Error), conflicts]
}
