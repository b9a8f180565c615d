//! What a job gives back: the numbers of a fold, or why there are none.

use firebrick_core::History;
use serde::{Deserialize, Serialize};

/// The numbers of one training, on the rows it trained on and on those it did not see.
///
/// A task without an error rate repeats its loss as the error.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoldScore {
    /// Mean loss over the training rows.
    pub train_loss: f64,
    /// Error rate over the training rows.
    pub train_error: f64,
    /// Mean loss over the validation rows.
    pub validation_loss: f64,
    /// Error rate over the validation rows.
    pub validation_error: f64,
    /// The epoch of the model that was judged, from 1; 0 if the training has no epochs.
    pub best_epoch: usize,
    /// What the training wrote down.
    pub history: History,
    /// The loss of each validation row in the order of the fold, for [`bbc_cv`](crate::bbc_cv); or empty.
    pub row_losses: Vec<f32>,
}

impl FoldScore {
    /// The four numbers that every comparison needs.
    #[must_use]
    pub fn new(
        train_loss: f64,
        train_error: f64,
        validation_loss: f64,
        validation_error: f64,
    ) -> Self {
        Self { train_loss, train_error, validation_loss, validation_error, ..Self::default() }
    }

    /// Sets the epoch of the model that was judged.
    #[must_use]
    pub fn with_best_epoch(mut self, epoch: usize) -> Self {
        self.best_epoch = epoch;
        self
    }

    /// Sets what the training wrote down.
    #[must_use]
    pub fn with_history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// Sets the loss of each validation row, in the order of the fold.
    #[must_use]
    pub fn with_row_losses(mut self, losses: Vec<f32>) -> Self {
        self.row_losses = losses;
        self
    }

    /// What keeps these numbers from being compared, if anything does.
    pub(crate) fn flaw(&self, rows: usize) -> Option<String> {
        let numbers = [
            ("train_loss", self.train_loss),
            ("train_error", self.train_error),
            ("validation_loss", self.validation_loss),
            ("validation_error", self.validation_error),
        ];
        if let Some((name, value)) = numbers.into_iter().find(|(_, value)| !value.is_finite()) {
            return Some(format!("{name} is {value}"));
        }
        if !self.row_losses.is_empty() && self.row_losses.len() != rows {
            let n = self.row_losses.len();
            return Some(format!(
                "row_losses must have {rows} numbers, one a validation row, got {n}"
            ));
        }
        let broken = self.row_losses.iter().position(|loss| !loss.is_finite())?;
        Some(format!("row_losses[{broken}] is {}", self.row_losses[broken]))
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// With finite numbers.
    Done(FoldScore),
    /// Without: the closure's error or panic, or the number that is not finite.
    Failed(String),
}

impl Outcome {
    /// The numbers, if there are any.
    #[must_use]
    pub fn score(&self) -> Option<&FoldScore> {
        match self {
            Self::Done(score) => Some(score),
            Self::Failed(_) => None,
        }
    }
}

/// One finished job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoldResult {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took; the only thing here that differs from run to run.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_cannot_be_compared_are_named() {
        let good = FoldScore::new(0.1, 0.2, 0.3, 0.4);
        assert_eq!(good.flaw(3), None);
        let nan = FoldScore::new(0.1, 0.2, f64::NAN, 0.4);
        assert_eq!(nan.flaw(3).as_deref(), Some("validation_loss is NaN"));
        let short = good.clone().with_row_losses(vec![1.0]);
        assert!(short.flaw(3).is_some_and(|text| text.contains("must have 3 numbers")));
        let broken = good.with_row_losses(vec![1.0, f32::INFINITY, 0.0]);
        assert_eq!(broken.flaw(3).as_deref(), Some("row_losses[1] is inf"));
    }
}
