//! Learning from a model's answers: distillation, and learning without forgetting.
//!
//! # Formula
//! ```text
//! distillation   T^2 / n sum_n sum_k p_nk (ln p_nk - ln q_nk),   p = softmax(teacher / T), q = softmax(student / T)
//! Hinton         (1 - a) CE(student, y) + a distillation
//! LwF            CE(new head, y) + weight distillation(old head, its answers before)
//! ```
//! The gradient of a softened target shrinks as `1 / T^2`, so `T^2` keeps its share whatever the temperature; libraries
//! that leave it out weaken the teacher 16 times at the usual `T = 4`.
//!
//! # Reference
//! G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015, arXiv 1503.02531; Z. Li,
//! D. Hoiem, "Learning without forgetting", ECCV 2016.

use crate::TransferError;
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Int, Tensor};
use firebrick_backend::checkpointing::beside;
use firebrick_core::check;

/// The [distillation](self) term of `student` logits `[n, k]` from `teacher` logits of the same shape, of shape `[1]`.
///
/// The sum over classes, the mean over the batch, times `T^2`. No gradient goes to the teacher.
///
/// # Errors
/// When the shapes differ, the batch is empty or the temperature is not above 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_transfer::distillation;
///
/// let device = Device::flex();
/// let logits = Tensor::<2>::from_floats([[1.0, 2.0], [0.0, -1.0]], &device);
/// let same = distillation(logits.clone(), logits.clone() + 3.0, 4.0)?;
/// assert!(same.into_scalar::<f32>().abs() < 1e-5); // softmax does not see the shift
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
pub fn distillation(
    student: Tensor<2>,
    teacher: Tensor<2>,
    temperature: f64,
) -> Result<Tensor<1>, TransferError> {
    check::positive("temperature", temperature)?;
    let rows = same_shape("the teacher's logits", &student, &teacher)?;
    let teacher = beside(teacher, &student).div_scalar(temperature);
    let answers = softmax(teacher.clone(), 1);
    let gap = log_softmax(teacher, 1) - log_softmax(student.div_scalar(temperature), 1);
    Ok((answers * gap).sum().mul_scalar(temperature * temperature / rows as f64))
}

/// Hinton's loss: `(1 - alpha)` cross-entropy with the classes, `alpha` [`distillation`]. Usual are T 4 and alpha 0.9.
///
/// # Errors
/// As [`distillation`], when there are not as many targets as rows, or `alpha` is outside [0, 1].
pub fn hinton(
    student: Tensor<2>,
    targets: Tensor<1, Int>,
    teacher: Tensor<2>,
    temperature: f64,
    alpha: f64,
) -> Result<Tensor<1>, TransferError> {
    check::range("alpha", alpha, 0.0..=1.0)?;
    let soft = distillation(student.clone(), teacher, temperature)?;
    let hard = cross_entropy(student, targets)?;
    Ok(hard.mul_scalar(1.0 - alpha) + soft.mul_scalar(alpha))
}

/// The loss of learning without forgetting: cross-entropy of the new head, and `weight` times the [`distillation`] of
/// the old head from what it answered to the same inputs before. Usual are T 2 and weight 1 (paper), or 4 (TLLib).
///
/// # Errors
/// As [`distillation`], when there are not as many targets as rows, or `weight` is negative or not finite.
pub fn lwf(
    new_head: Tensor<2>,
    targets: Tensor<1, Int>,
    old_head: Tensor<2>,
    recorded: Tensor<2>,
    temperature: f64,
    weight: f64,
) -> Result<Tensor<1>, TransferError> {
    check::non_negative("weight", weight)?;
    let kept = distillation(old_head, recorded, temperature)?;
    Ok(cross_entropy(new_head, targets)? + kept.mul_scalar(weight))
}

/// Mean cross-entropy, of shape `[1]`.
pub(super) fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
) -> Result<Tensor<1>, TransferError> {
    let [rows, classes] = logits.dims();
    let found = targets.dims()[0];
    if rows == 0 || rows != found {
        let (what, expected) = ("the targets".into(), format!("[{rows}], one a row, and not 0"));
        return Err(TransferError::Shape { what, found: vec![found], expected });
    }
    in_range(&targets, classes)?;
    let chosen = targets.unsqueeze_dim::<2>(1);
    Ok(log_softmax(logits, 1).gather(1, chosen).mean().neg())
}

/// Refuses classes outside `0..classes`, which some back-ends would not check.
pub(super) fn in_range(targets: &Tensor<1, Int>, classes: usize) -> Result<(), TransferError> {
    let targets = targets.try_to_vec_as::<i64>()?;
    match targets.iter().find(|&&target| target < 0 || target >= classes as i64) {
        Some(target) => {
            let expected = format!("in [0, {classes})");
            Err(firebrick_core::ConfigError::new("target", target, expected).into())
        }
        None => Ok(()),
    }
}

/// The rows of two tensors of one shape that are not empty.
pub(super) fn same_shape<const D: usize>(
    what: &str,
    left: &Tensor<D>,
    right: &Tensor<D>,
) -> Result<usize, TransferError> {
    let (left, right) = (left.dims(), right.dims());
    if left != right || left.contains(&0) {
        let expected = format!("{left:?}, and not empty");
        return Err(TransferError::Shape { what: what.into(), found: right.to_vec(), expected });
    }
    Ok(left[0])
}
