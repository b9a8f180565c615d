//! Targets as distributions: one-hot, smoothed, and the cross entropy against them.
//!
//! # Formula
//! ```text
//! y' = (1 - s) y + s / K                     label smoothing over all K classes
//! L  = -1/n sum_n sum_k y'_nk log p_nk       p = softmax(logits)
//! floor = H(y')                              the smallest loss that smoothed targets allow
//! ```
//!
//! # Reference
//! C. Szegedy et al., "Rethinking the inception architecture for computer vision", CVPR 2016; R. Mueller, S.
//! Kornblith, G. Hinton, "When does label smoothing help?", NeurIPS 2019.
//!
//! # Differences
//! burn's and PyTorch's cross entropy smooth too; with class weights both divide by the sum of target weights.
//! Smoothed targets as a tensor also go through [`Mixup`](crate::Mixup) and the like.

use crate::RegularizeError;
use burn::config::Config;
use burn::tensor::{Bool, Int, Tensor, TensorData, activation::log_softmax};
use firebrick_backend::widened;
use firebrick_core::{ConfigError, check};

/// Labels as one-hot rows `[n, classes]` on the device of `labels`.
///
/// # Errors
/// When a label is outside `[0, classes)`, or there is no class.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebrick_regularize::one_hot;
///
/// let labels = Tensor::<1, Int>::from_ints([2, 0], &Device::flex());
/// let rows: Vec<f32> = one_hot(labels, 3)?.try_to_vec_as().unwrap();
/// assert_eq!(rows, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
pub fn one_hot(labels: Tensor<1, Int>, classes: usize) -> Result<Tensor<2>, RegularizeError> {
    LabelSmoothing { smoothing: 0.0 }.targets(labels, classes)
}

/// Mean cross entropy of logits `[n, k]` against target distributions `[n, k]`, of shape `[1]`.
///
/// An impossible class that the targets do not ask for adds 0, not NaN. Half precision is summed in single; the loss
/// has the type of the logits, whatever that of the targets.
///
/// # Errors
/// When the shapes differ or the batch is empty.
pub fn soft_cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<2>,
) -> Result<Tensor<1>, RegularizeError> {
    let n = same_rows("the targets", &logits, &targets)?;
    let logits = widened(logits);
    let targets = targets.cast(logits.dtype());
    let log_p = log_softmax(logits, 1);
    // Only where it is infinite: elsewhere it is the slope towards the target.
    let unasked = impossible(&log_p).bool_and(targets.clone().inner().equal_scalar(0.0));
    // Before the product, whose derivative would be 0 times infinity.
    let log_p = log_p.mask_fill(unasked, 0.0);
    Ok((log_p * targets).sum().div_scalar(-(n as f64)))
}

/// Where a log probability is minus infinity, or so low that the probability is 0 all the same; a NaN is not.
///
/// `p log p` is 0 there, but 0 times infinity is NaN: fill the logarithm with 0 before the product.
pub(crate) fn impossible(log_p: &Tensor<2>) -> Tensor<2, Bool> {
    log_p.clone().inner().lower_scalar(-1e30)
}

/// Rows of two tensors of one shape that are not empty.
pub(crate) fn same_rows(
    what: &'static str,
    logits: &Tensor<2>,
    other: &Tensor<2>,
) -> Result<usize, RegularizeError> {
    let dims = logits.dims();
    if dims != other.dims() {
        let found = other.dims().to_vec();
        return Err(RegularizeError::Shape {
            what,
            expected: format!("{dims:?} as the logits"),
            found,
        });
    }
    if dims.contains(&0) {
        return Err(RegularizeError::Empty { what: "the batch" });
    }
    Ok(dims[0])
}

/// Configuration of [`LabelSmoothing`].
#[derive(Config, Debug)]
pub struct LabelSmoothingConfig {
    /// Share that is spread over all classes, in [0, 1).
    #[config(default = 0.1)]
    pub smoothing: f64,
}

impl LabelSmoothingConfig {
    /// Checks the share.
    ///
    /// # Errors
    /// When `smoothing` is outside [0, 1) or NaN.
    pub fn init(&self) -> Result<LabelSmoothing, ConfigError> {
        Ok(LabelSmoothing { smoothing: check::range("smoothing", self.smoothing, 0.0..1.0)? })
    }
}

/// Spreads a share of every target over all classes.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebrick_regularize::{LabelSmoothingConfig, soft_cross_entropy};
///
/// let smoothing = LabelSmoothingConfig::new().init()?;
/// let device = Device::flex();
/// let targets = smoothing.targets(Tensor::<1, Int>::from_ints([1], &device), 2)?;
/// let logits = Tensor::<2>::from_floats([[0.0, (0.95f32 / 0.05).ln()]], &device);
/// let loss: f64 = soft_cross_entropy(logits, targets)?.into_scalar();
/// assert!((loss - smoothing.floor(2)).abs() < 1e-6); // cannot be lower
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct LabelSmoothing {
    smoothing: f64,
}

impl LabelSmoothing {
    /// Smoothed rows `[n, classes]` for labels `[n]`.
    ///
    /// # Errors
    /// When a label is outside `[0, classes)`, or there is no class.
    pub fn targets(
        &self,
        labels: Tensor<1, Int>,
        classes: usize,
    ) -> Result<Tensor<2>, RegularizeError> {
        if classes == 0 {
            return Err(ConfigError::new("classes", 0, "at least 1").into());
        }
        let device = labels.device();
        let labels = read_labels(labels, classes)?;
        let off = (self.smoothing / classes as f64) as f32;
        let on = (1.0 - self.smoothing + self.smoothing / classes as f64) as f32;
        let mut rows = vec![off; labels.len() * classes];
        for (row, &label) in rows.chunks_mut(classes).zip(&labels) {
            row[label] = on;
        }
        Ok(Tensor::from_data(TensorData::new(rows, [labels.len(), classes]), &device))
    }

    /// Smooths rows that are distributions already, mixed ones say.
    #[must_use]
    pub fn smooth(&self, targets: Tensor<2>) -> Tensor<2> {
        let classes = targets.dims()[1].max(1) as f64;
        targets.mul_scalar(1.0 - self.smoothing) + self.smoothing / classes
    }

    /// The smallest cross entropy that a perfect model can reach: the entropy of a smoothed target.
    #[must_use]
    pub fn floor(&self, classes: usize) -> f64 {
        let (s, k) = (self.smoothing, classes.max(1) as f64);
        let entropy = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
        entropy(1.0 - s + s / k) + (k - 1.0) * entropy(s / k)
    }
}

/// The labels on the host, each checked.
pub(crate) fn read_labels(
    labels: Tensor<1, Int>,
    classes: usize,
) -> Result<Vec<usize>, RegularizeError> {
    let labels: Vec<i64> = labels.try_to_vec_as()?;
    let check = |(row, label): (usize, i64)| {
        let valid = usize::try_from(label).ok().filter(|&label| label < classes);
        valid.ok_or(RegularizeError::Label { row, label, classes })
    };
    labels.into_iter().enumerate().map(check).collect()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::nn::loss::CrossEntropyLossConfig;
    use burn::tensor::{DType, Device};
    use firebrick_backend::testing::devices;

    #[test]
    fn smoothed_rows_sum_to_one_and_follow_the_formula() {
        for device in devices() {
            let smoothing = LabelSmoothingConfig::new().with_smoothing(0.2).init().expect("valid");
            let labels = Tensor::<1, Int>::from_ints([1, 3], &device);
            let rows = smoothing.targets(labels.clone(), 4).expect("valid labels");
            let found: Vec<f32> = rows.try_to_vec_as().expect("reads");
            let expected = [0.05, 0.85, 0.05, 0.05, 0.05, 0.05, 0.05, 0.85];
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7));
            let again = smoothing.smooth(one_hot(labels, 4).expect("valid labels"));
            let again: Vec<f32> = again.try_to_vec_as().expect("reads");
            assert!(again.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-7));
        }
    }

    #[test]
    fn the_loss_agrees_with_burns_own() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[1.0, -0.5, 0.3], [2.0, 2.0, -1.0]], &device);
        let labels = Tensor::<1, Int>::from_ints([2, 0], &device);
        for s in [0.0f32, 0.1, 0.4] {
            let config = CrossEntropyLossConfig::new();
            let config = if s > 0.0 { config.with_smoothing(Some(s)) } else { config };
            let theirs = config.init(&device).forward(logits.clone(), labels.clone());
            let smoothing = LabelSmoothingConfig::new().with_smoothing(f64::from(s));
            let targets = smoothing.init().expect("valid").targets(labels.clone(), 3);
            let ours = soft_cross_entropy(logits.clone(), targets.expect("valid")).expect("valid");
            let (ours, theirs): (f64, f64) = (ours.into_scalar(), theirs.into_scalar());
            assert!((ours - theirs).abs() < 1e-6, "{s}: {ours} {theirs}");
        }
    }

    #[test]
    fn bad_labels_shapes_and_shares_are_refused() {
        let device = Device::flex();
        let labels = |values: [i32; 2]| Tensor::<1, Int>::from_ints(values, &device);
        let error = one_hot(labels([0, 3]), 3).expect_err("outside").to_string();
        assert_eq!(error, "label 3 of row 1 must be in [0, 3)");
        assert!(one_hot(labels([-1, 0]), 3).is_err());
        assert!(one_hot(labels([0, 0]), 0).is_err());
        let two = Tensor::<2>::zeros([2, 3], &device);
        let error = soft_cross_entropy(two.clone(), Tensor::zeros([2, 4], &device));
        assert!(error.expect_err("shapes").to_string().contains("[2, 3] as the logits"));
        let none = Tensor::<2>::zeros([0, 3], &device);
        assert!(soft_cross_entropy(none.clone(), none).is_err());
        assert!(LabelSmoothingConfig::new().with_smoothing(1.0).init().is_err());
        // A logit of minus infinity that no target asks for.
        let sure = Tensor::<2>::from_floats([[0.0, f32::NEG_INFINITY, 0.0]], &device);
        let target = Tensor::<2>::from_floats([[1.0, 0.0, 0.0]], &device);
        let loss: f32 = soft_cross_entropy(sure, target).expect("valid").into_scalar();
        assert!((loss - 2f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn logits_and_targets_may_have_different_float_types() {
        for device in devices() {
            if !device.supports_dtype(DType::F64) {
                continue;
            }
            let logits = || Tensor::<2>::from_floats([[1.0, -0.5, 0.25]], &device);
            let targets = || Tensor::<2>::from_floats([[0.25, 0.5, 0.25]], &device);
            let loss = soft_cross_entropy(logits(), targets()).expect("valid").into_scalar::<f64>();
            for (wide, other) in [(DType::F64, DType::F32), (DType::F32, DType::F64)] {
                let found = soft_cross_entropy(logits().cast(wide), targets().cast(other));
                let found = found.expect("valid");
                assert_eq!(found.dtype(), wide);
                assert!((found.into_scalar::<f64>() - loss).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn an_impossible_class_gets_a_gradient_of_zero() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_floats([[0.0, f32::NEG_INFINITY, 0.0]], &device);
        let (logits, targets) = (
            logits.require_grad(),
            Tensor::<2>::from_floats([[1.0, 0.0, 0.0]], &device).require_grad(),
        );
        let loss = soft_cross_entropy(logits.clone(), targets.clone()).expect("valid");
        let gradients = loss.backward();
        let read = |leaf: Tensor<2>| {
            let gradient = leaf.grad(&gradients).expect("has one");
            gradient.try_to_vec_as::<f32>().expect("reads")
        };
        let found = read(logits);
        assert!((found[0] + 0.5).abs() < 1e-6 && (found[2] - 0.5).abs() < 1e-6, "{found:?}");
        assert_eq!(found[1], 0.0);
        assert!(read(targets).iter().all(|g| g.is_finite()));
    }

    #[test]
    fn targets_get_the_gradient_that_torch_gives_them() {
        for device in devices() {
            let device = device.autodiff();
            let logits = Tensor::<2>::from_floats([[1.0, 2.0]], &device).require_grad();
            let targets = Tensor::<2>::from_floats([[1.0, 0.0]], &device).require_grad();
            let loss = soft_cross_entropy(logits.clone(), targets.clone()).expect("valid");
            let gradients = loss.backward();
            for (leaf, expected) in [(targets, [1.3133, 0.3133]), (logits, [-0.7311, 0.7311])] {
                let found = leaf.grad(&gradients).expect("has one");
                let found: Vec<f64> = found.try_to_vec_as().expect("reads");
                let far = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
                assert!(far.fold(0.0, f64::max) < 1e-4, "{found:?} {expected:?}");
            }
        }
    }

    #[test]
    fn shares_outside_their_range_are_named_and_no_labels_are_no_rows() {
        for smoothing in [1.0, -0.1, f64::NAN] {
            let refused = LabelSmoothingConfig::new().with_smoothing(smoothing).init();
            let message = format!("`smoothing` must be in [0, 1), got {smoothing}");
            assert_eq!(refused.expect_err("refused").to_string(), message);
        }
        let none = one_hot(Tensor::<1, Int>::zeros([0], &Device::flex()), 3).expect("no rows");
        assert_eq!(none.dims(), [0, 3]);
    }
}
