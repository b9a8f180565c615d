//! The nearest-neighbour probe, leaving one out.

use crate::score::linalg::summed;
use crate::score::{Features, Labels, ScoreError};
use firebrick_core::ConfigError;
use rayon::prelude::*;

/// How warm the weights of neighbours are, in units of cosine similarity.
const TEMPERATURE: f64 = 0.07;

/// Which samples a probe gets right when it is fitted without them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LeaveOneOut {
    /// The predicted label of each sample.
    pub predicted: Vec<u32>,
    /// Whether it is the true one.
    pub correct: Vec<bool>,
    /// Share of the samples that are right.
    pub accuracy: f64,
}

impl LeaveOneOut {
    /// `class` holds numbers among the names of `labels`.
    pub(crate) fn new(labels: &Labels, class: &[u32]) -> Self {
        let correct: Vec<bool> = class.iter().zip(labels.index()).map(|(a, b)| a == b).collect();
        let right = correct.iter().filter(|right| **right).count();
        Self {
            predicted: class.iter().map(|&class| labels.names()[class as usize]).collect(),
            accuracy: right as f64 / correct.len() as f64,
            correct,
        }
    }
}

/// Accuracy of the `k` nearest neighbours by cosine similarity, each sample judged by the others.
///
/// A neighbour votes with weight `exp(similarity / 0.07)`; `k` is cut to n - 1; between classes with equal votes the
/// first wins. A row of zeros is similar to none.
///
/// # Errors
/// When rows and labels differ in number, a class has fewer than 2 samples, or `k` is 0.
///
/// # Source
/// Z. Wu, Y. Xiong, S. Yu, D. Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR
/// 2018.
///
/// ```
/// use firebrick_transfer::score::{Features, Labels, knn_leave_one_out};
///
/// let features = Features::new(vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.1, 0.9], 2)?;
/// let found = knn_leave_one_out(&features, &Labels::new(&[3, 3, 8, 8])?, 1)?;
/// assert_eq!((found.accuracy, found.predicted), (1.0, vec![3, 3, 8, 8]));
/// # Ok::<(), firebrick_transfer::score::ScoreError>(())
/// ```
pub fn knn_leave_one_out(
    features: &Features,
    labels: &Labels,
    k: usize,
) -> Result<LeaveOneOut, ScoreError> {
    features.fit(labels)?;
    labels.at_least(2)?;
    if k == 0 {
        return Err(ConfigError::new("k", k, "at least 1").into());
    }
    let n = features.rows();
    let k = k.min(n - 1);
    let mut unit = features.values().to_vec();
    for row in unit.chunks_exact_mut(features.columns()) {
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|x| *x /= norm);
        }
    }
    let line = |row: usize| &unit[row * features.columns()..][..features.columns()];
    let class: Vec<u32> = (0..n)
        .into_par_iter()
        .map(|row| {
            let similarity = |other: usize| summed(line(row), line(other), |a, b| a * b);
            let mut near: Vec<(f64, usize)> =
                (0..n).filter(|other| *other != row).map(|o| (similarity(o), o)).collect();
            // Equal similarities go by row, so that the result has one order.
            let order =
                |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            if k < near.len() {
                near.select_nth_unstable_by(k, order);
                near.truncate(k);
            }
            near.sort_unstable_by(order);
            let mut votes = vec![0.0; labels.classes()];
            for (similarity, other) in &near {
                votes[labels.index()[*other] as usize] += (similarity / TEMPERATURE).exp();
            }
            first_largest(&votes)
        })
        .collect();
    Ok(LeaveOneOut::new(labels, &class))
}

/// The number of the largest value, the first among equals.
pub(crate) fn first_largest(values: &[f64]) -> u32 {
    let best = values.iter().enumerate().fold(
        0,
        |best, (at, value)| {
            if *value > values[best] { at } else { best }
        },
    );
    best as u32
}
