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
use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use firebrick_core::ConfigError;

/// How far below the lowest bias an output without samples starts, for each unit of the largest: its logit is below the
/// others' for all features of usual size, and f16 still has the number.
const UNSEEN: f64 = 1e4;

/// A linear head: `logits = x W + b`.
///
/// `weights` are in burn's layout, `[features, classes]`; [`linear`](Self::linear) makes a layer of it.
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

    /// The head as a burn layer with `classes` outputs, output k for label k: the new head of a model, by
    /// [`fit_head`](crate::fit_head) for one.
    ///
    /// An output whose label the head never saw has weights of 0 and a bias far below the others, so that it is not
    /// predicted before it is trained.
    ///
    /// # Errors
    /// When a label is not below `classes`, or weights, biases and names differ in number.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use firebrick_transfer::probe::{RidgeProbe, default_lambdas};
    /// use firebrick_transfer::score::{Features, Labels};
    ///
    /// let features = Features::new(vec![1.0, 1.2, 0.9, -1.0, -0.8, -1.1], 1)?;
    /// let labels = Labels::new(&[1, 1, 1, 0, 0, 0])?;
    /// let head = RidgeProbe::fit(&features, &labels, &default_lambdas(&features))?.head;
    /// let layer = head.linear(3, &Device::flex())?;
    /// assert_eq!(layer.weight.val().dims(), [1, 3]);
    /// assert!(head.linear(1, &Device::flex()).is_err());
    /// # Ok::<(), firebrick_transfer::score::ScoreError>(())
    /// ```
    pub fn linear(&self, classes: usize, device: &Device) -> Result<Linear, ScoreError> {
        let seen = self.names.len();
        if seen == 0 || self.bias.len() != seen || !self.weights.len().is_multiple_of(seen) {
            return Err(ScoreError::Shape {
                field: "weights".into(),
                expected: format!("a row of {seen} for each feature, with as many biases"),
                found: self.weights.len(),
            });
        }
        if let Some(label) = self.names.iter().find(|label| **label as usize >= classes) {
            let expected = format!("above {label}, a label of the head");
            return Err(ConfigError::new("classes", classes, expected).into());
        }
        let largest = self.bias.iter().fold(0.0, |most: f64, bias| most.max(bias.abs()));
        let lowest = self.bias.iter().copied().fold(f64::INFINITY, f64::min);
        let rows = self.weights.len() / seen;
        let mut weights = vec![0.0; rows * classes];
        let mut bias = vec![lowest - UNSEEN * largest.max(1.0); classes];
        for (column, &label) in self.names.iter().enumerate() {
            let class = label as usize;
            bias[class] = self.bias[column];
            for row in 0..rows {
                weights[row * classes + class] = self.weights[row * seen + column];
            }
        }
        let weights = Tensor::<2>::from_data(TensorData::new(weights, [rows, classes]), device);
        let bias = Tensor::<1>::from_data(TensorData::new(bias, [classes]), device);
        Ok(Linear { weight: Param::from_tensor(weights), bias: Some(Param::from_tensor(bias)) })
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
