//! Co-Tuning: the source's head is kept and taught which of its classes go with the new ones.
//!
//! # Formula
//! ```text
//! p(ys | yt) = mean of softmax(source head) over the samples of target class yt
//! L = CE(target head, yt) + lambda CE(source head, p(. | yt))           lambda 2.3
//! ```
//! # Reference
//! K. You et al., "Co-Tuning for transfer learning", NeurIPS 2020 (its direct way to the relationship).

use super::distill::{cross_entropy, in_range};
use crate::TransferError;
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Int, Tensor, TensorData};
use firebrick_backend::checkpointing::beside;
use firebrick_core::{ConfigError, check};

/// Which source classes go with each target class: a row of probabilities for each.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_transfer::Relationship;
///
/// let device = Device::flex();
/// let answers = Tensor::<2>::from_floats([[200.0, 0.0], [0.0, 0.0], [0.0, 200.0]], &device);
/// let classes = Tensor::from_ints([0, 0, 1], &device);
/// let relationship = Relationship::of(answers, classes, 2)?;
/// assert_eq!(relationship.rows(), [[0.75, 0.25], [0.0, 1.0]]);
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Relationship {
    rows: Vec<Vec<f64>>,
}

impl Relationship {
    /// From the source head's logits `[n, source classes]` over the target data and the target classes of the rows.
    ///
    /// # Errors
    /// When there are not as many classes as rows, a class has no sample or is outside `0..classes`, there are
    /// fewer than two classes, or a logit is not finite.
    pub fn of(
        source_logits: Tensor<2>,
        targets: Tensor<1, Int>,
        classes: usize,
    ) -> Result<Self, TransferError> {
        check::at_least("classes", classes, 2)?;
        let [rows, source] = source_logits.dims();
        let found = targets.dims()[0];
        if found != rows || source == 0 {
            let (what, expected) = ("the targets".into(), format!("[{rows}], one a row"));
            return Err(TransferError::Shape { what, found: vec![found], expected });
        }
        in_range(&targets, classes)?;
        let probabilities: Vec<f64> = softmax(source_logits.inner(), 1).try_to_vec_as()?;
        if let Some(value) = probabilities.iter().find(|value| !value.is_finite()) {
            let what = "a probability of the source head".into();
            return Err(TransferError::NotFinite { what, value: *value });
        }
        let (mut sums, mut counts) = (vec![vec![0.0; source]; classes], vec![0usize; classes]);
        for (row, target) in targets.try_to_vec_as::<i64>()?.into_iter().enumerate() {
            let class = target as usize;
            counts[class] += 1;
            for (sum, value) in sums[class].iter_mut().zip(&probabilities[row * source..]) {
                *sum += value;
            }
        }
        if let Some(class) = counts.iter().position(|count| *count == 0) {
            return Err(TransferError::Data { reason: format!("class {class} has no sample") });
        }
        for (sums, count) in sums.iter_mut().zip(counts) {
            sums.iter_mut().for_each(|sum| *sum /= count as f64);
        }
        Ok(Self { rows: sums })
    }

    /// The probabilities of the source classes, a row for each target class.
    #[must_use]
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }
}

/// [Co-Tuning](self)'s loss of the target head's and the source head's logits on the same inputs, of shape `[1]`.
///
/// # Errors
/// When shapes or classes do not fit the relationship, or `lambda` is negative or not finite.
pub fn co_tuning(
    target_logits: Tensor<2>,
    source_logits: Tensor<2>,
    targets: Tensor<1, Int>,
    relationship: &Relationship,
    lambda: f64,
) -> Result<Tensor<1>, TransferError> {
    check::non_negative("lambda", lambda)?;
    let (classes, source) = (relationship.rows.len(), relationship.rows[0].len());
    let ([rows, found_classes], [found_rows, found_source]) =
        (target_logits.dims(), source_logits.dims());
    if found_classes != classes {
        return Err(ConfigError::new("classes of the target head", found_classes, classes).into());
    }
    if found_rows != rows || found_source != source {
        let what = "the source head's logits".into();
        let (found, expected) = (vec![found_rows, found_source], format!("[{rows}, {source}]"));
        return Err(TransferError::Shape { what, found, expected });
    }
    let hard = cross_entropy(target_logits, targets.clone())?;
    let device = source_logits.clone().inner().device();
    let table = TensorData::new(relationship.rows.concat(), [classes, source]);
    let table = Tensor::<2>::from_data(table, (&device, source_logits.dtype()));
    let targets = targets.inner();
    let wanted = beside(table.select(0, targets), &source_logits);
    let soft = (log_softmax(source_logits, 1) * wanted).sum().mul_scalar(-lambda / rows as f64);
    Ok(hard + soft)
}
