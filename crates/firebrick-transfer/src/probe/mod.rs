//! Heads on frozen features: ridge with exact leave-one-out, logistic regression, class means.
//!
//! Run the backbone once over the data ([`cache`]), then fit as many heads as you like: each takes milliseconds.

mod cache;
mod logistic;
mod newton;
mod prototype;
mod ridge;
#[cfg(test)]
mod tests;

pub use cache::{cache, features_of};
pub use logistic::{LogisticConfig, LogisticProbe};
pub use prototype::{Metric, PrototypeProbe};
pub use ridge::{RidgeProbe, default_lambdas};

use crate::score::{Features, Labels, ScoreError, first_largest};

/// A linear head: `logits = x W + b`.
///
/// `weights` are in burn's layout, `[features, classes]`, so that they can be put into a `Linear` as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `[features, classes]`, row by row.
    pub weights: Vec<f64>,
    /// One a class.
    pub bias: Vec<f64>,
    /// The label of each output.
    pub names: Vec<u32>,
}

impl Head {
    fn new(columns: usize, labels: &Labels) -> Self {
        let names = labels.names().to_vec();
        Self { weights: vec![0.0; columns * names.len()], bias: vec![0.0; names.len()], names }
    }

    /// The logits of each row, `[rows, classes]`, row by row.
    ///
    /// # Errors
    /// When the features have another number of columns than those it was fitted on.
    pub fn logits(&self, features: &Features) -> Result<Vec<f64>, ScoreError> {
        let (classes, d) = (self.names.len(), features.columns());
        if d * classes != self.weights.len() {
            return Err(ScoreError::Shape {
                field: "features".into(),
                expected: format!("{} columns", self.weights.len() / classes),
                found: d,
            });
        }
        let weights = faer::MatRef::from_row_major_slice(&self.weights, d, classes);
        let product = crate::score::linalg::product(features.mat(), weights);
        let logit = |row: usize, class: usize| product[(row, class)] + self.bias[class];
        Ok((0..features.rows())
            .flat_map(|r| (0..classes).map(move |c| (r, c)))
            .map(|(r, c)| logit(r, c))
            .collect())
    }

    /// The label with the largest logit, for each row.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn predict(&self, features: &Features) -> Result<Vec<u32>, ScoreError> {
        let logits = self.logits(features)?;
        let rows = logits.chunks_exact(self.names.len());
        Ok(rows.map(|row| self.names[first_largest(row) as usize]).collect())
    }

    /// Share of the rows whose predicted label is the given one.
    ///
    /// # Errors
    /// As [`logits`](Self::logits), and when rows and labels differ in number.
    pub fn accuracy(&self, features: &Features, labels: &[u32]) -> Result<f64, ScoreError> {
        if labels.len() != features.rows() {
            return Err(ScoreError::Shape {
                field: "labels".into(),
                expected: format!("one entry a row of the features, {}", features.rows()),
                found: labels.len(),
            });
        }
        let predicted = self.predict(features)?;
        let right = predicted.iter().zip(labels).filter(|(a, b)| a == b).count();
        Ok(right as f64 / labels.len() as f64)
    }
}
