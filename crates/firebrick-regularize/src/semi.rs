//! Losses on unlabelled samples: pseudo-labels, Pi-model, mean teacher, UDA, FixMatch.
//!
//! # Formula
//! ```text
//! pseudo-label   1/n sum [max p >= threshold] CE(argmax p, p)
//! Pi-model       mean_nk (softmax(a) - softmax(b))^2                      both sides learn
//! mean teacher   mean_nk (softmax(student) - softmax(teacher))^2          the student learns
//! UDA            1/n sum [max q >= threshold] KL(softmax(weak / tau) || softmax(strong))    q = softmax(weak)
//! FixMatch       1/n sum [max q >= threshold] CE(argmax q, softmax(strong))
//! ```
//! `n` is the number of all unlabelled samples, not of those that passed: else one confident sample would weigh as
//! much as a batch. No gradient flows through a target. Multiply by a weight and a [`Ramp`] and add to the
//! supervised loss; compare with a supervised run of the same augmentation and steps. Half precision is summed in
//! single; a loss has the type of the logits that learn. A class that both views rule out, with a logit of minus
//! infinity, adds 0.
//!
//! # Reference
//! D.-H. Lee, "Pseudo-label", ICML 2013 workshop; S. Laine, T. Aila, "Temporal ensembling", ICLR 2017; A. Tarvainen,
//! H. Valpola, "Mean teachers are better role models", NIPS 2017; Q. Xie et al., "Unsupervised data augmentation",
//! NeurIPS 2020; K. Sohn et al., "FixMatch", NeurIPS 2020.

use crate::RegularizeError;
use crate::target::{impossible, same_rows, soft_cross_entropy};
use burn::tensor::{
    Int, Tensor, TensorData,
    activation::{log_softmax, softmax},
};
use firebrick_backend::widened;
use firebrick_core::check;
use serde::{Deserialize, Serialize};

/// What pseudo-labels a batch gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PseudoReport {
    /// Samples whose confidence reached the threshold.
    pub kept: usize,
    /// All samples.
    pub total: usize,
    /// Kept samples by predicted class: one class taking all is the first sign of collapse.
    pub histogram: Vec<usize>,
    /// Kept samples that were right, where labels are known (the labelled validation part).
    pub correct: Option<usize>,
}

impl PseudoReport {
    /// Reads the predictions of logits `[n, k]`; `labels` are the true ones where they are known.
    ///
    /// # Errors
    /// When the batch is empty, `threshold` outside [0, 1], the number of labels another, or a label outside the
    /// classes.
    pub fn of(
        logits: Tensor<2>,
        threshold: f64,
        labels: Option<&[usize]>,
    ) -> Result<Self, RegularizeError> {
        let [n, k] = logits.dims();
        let kept = confident(&logits, threshold)?;
        if let Some(labels) = labels.filter(|labels| labels.len() != n) {
            let expected = format!("one for each of the {n} samples");
            let found = vec![labels.len()];
            return Err(RegularizeError::Shape { what: "the labels", expected, found });
        }
        let outside = |label: &(usize, &usize)| *label.1 >= k;
        if let Some((row, &label)) = labels.unwrap_or(&[]).iter().enumerate().find(outside) {
            let label = i64::try_from(label).unwrap_or(i64::MAX);
            return Err(RegularizeError::Label { row, label, classes: k });
        }
        let mut histogram = vec![0; k];
        let mut correct = 0;
        for (row, class) in kept.iter().enumerate() {
            let Some(class) = *class else { continue };
            histogram[class] += 1;
            correct += usize::from(labels.is_some_and(|labels| labels[row] == class));
        }
        Ok(Self {
            kept: histogram.iter().sum(),
            total: n,
            histogram,
            correct: labels.map(|_| correct),
        })
    }

    /// Share of the samples that were kept.
    #[must_use]
    pub fn kept_share(&self) -> f64 {
        self.kept as f64 / self.total.max(1) as f64
    }

    /// Share of the kept samples that were right; `None` without labels or when nothing was kept.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        self.correct.filter(|_| self.kept > 0).map(|correct| correct as f64 / self.kept as f64)
    }

    /// Share of the kept samples in the largest class: 1 is total collapse; `None` when nothing was kept.
    #[must_use]
    pub fn largest_share(&self) -> Option<f64> {
        let largest = self.histogram.iter().max().filter(|_| self.kept > 0)?;
        Some(*largest as f64 / self.kept as f64)
    }
}

/// The loss on a batch of unlabelled samples, of shape `[1]`, and what its targets were.
#[derive(Debug, Clone)]
pub struct Unlabelled {
    /// The loss.
    pub loss: Tensor<1>,
    /// The targets.
    pub report: PseudoReport,
}

/// How the weight of an unlabelled loss rises over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Ramp {
    /// 1 throughout: FixMatch.
    None,
    /// 0 before `from`, then linear to 1 at `to`: Lee's pseudo-labels, whose largest weight is 3.
    Linear {
        /// Last step of 0.
        from: u64,
        /// First step of 1.
        to: u64,
    },
    /// `exp(-5 (1 - t / over)^2)`: the Pi-model's.
    Gaussian {
        /// First step of 1.
        over: u64,
    },
}

impl Ramp {
    /// The factor at `step`, counted from 0.
    #[must_use]
    pub fn factor(self, step: u64) -> f64 {
        match self {
            Self::None => 1.0,
            Self::Linear { to, .. } | Self::Gaussian { over: to } if step >= to => 1.0,
            Self::Linear { from, .. } if step <= from => 0.0,
            Self::Linear { from, to } => (step - from) as f64 / (to - from) as f64,
            Self::Gaussian { over } => {
                let left = 1.0 - step as f64 / over as f64;
                libm::exp(-5.0 * left * left)
            }
        }
    }
}

/// How UDA releases labelled samples: only those below a rising confidence still train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Release {
    /// `t / T`.
    Linear,
    /// `exp(5 (t / T - 1))`: late.
    Exponential,
    /// `1 - exp(-5 t / T)`: early.
    Logarithmic,
}

impl Release {
    /// The confidence from which a labelled sample is left out at `step` of `steps`, from 1 / classes to 1.
    #[must_use]
    pub fn threshold(self, step: u64, steps: u64, classes: usize) -> f64 {
        let share = (step as f64 / steps.max(1) as f64).min(1.0);
        let alpha = match self {
            Self::Linear => share,
            Self::Exponential => libm::exp(5.0 * (share - 1.0)),
            Self::Logarithmic => 1.0 - libm::exp(-5.0 * share),
        };
        let floor = 1.0 / classes.max(1) as f64;
        alpha * (1.0 - floor) + floor
    }
}

/// Pseudo-labels of a model for its own logits `[n, k]`; 0.95 is a usual threshold.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_regularize::pseudo_label_loss;
///
/// let logits = Tensor::<2>::from_floats([[9.0, 0.0], [0.1, 0.0]], &Device::flex());
/// let found = pseudo_label_loss(logits, 0.95)?;
/// assert_eq!((found.report.kept, found.report.total), (1, 2));
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
///
/// # Errors
/// When the batch is empty or `threshold` outside [0, 1].
pub fn pseudo_label_loss(logits: Tensor<2>, threshold: f64) -> Result<Unlabelled, RegularizeError> {
    fixmatch_loss(logits.clone(), logits, threshold)
}

/// FixMatch: the label of the weakly augmented view for the strongly augmented one; threshold 0.95.
///
/// Shapes `[n, k]`; the weak view gets no gradient.
///
/// # Errors
/// When the shapes differ, the batch is empty or `threshold` outside [0, 1].
pub fn fixmatch_loss(
    weak: Tensor<2>,
    strong: Tensor<2>,
    threshold: f64,
) -> Result<Unlabelled, RegularizeError> {
    let n = same_rows("the strong logits", &weak, &strong)?;
    let (weak, strong) = (widened(weak), widened(strong));
    let k = weak.dims()[1];
    let kept = confident(&weak, threshold)?;
    let mut targets = vec![0f32; n * k];
    for (row, class) in kept.iter().enumerate() {
        if let Some(class) = class {
            targets[row * k + class] = 1.0;
        }
    }
    let device = strong.device().inner();
    let targets = TensorData::new(targets, [n, k]);
    let targets = Tensor::<2>::from_data(targets, (&device, strong.dtype()));
    let loss = soft_cross_entropy(strong, targets)?;
    Ok(Unlabelled { loss, report: PseudoReport::of(weak, threshold, None)? })
}

/// UDA: the sharpened weak prediction for the strong view; temperature 0.4 and threshold 0.8.
///
/// Shapes `[n, k]`; the weak view gets no gradient.
///
/// # Errors
/// When the shapes differ, the batch is empty, `threshold` outside [0, 1] or `temperature` not above 0.
pub fn uda_loss(
    weak: Tensor<2>,
    strong: Tensor<2>,
    temperature: f64,
    threshold: f64,
) -> Result<Unlabelled, RegularizeError> {
    let n = same_rows("the strong logits", &weak, &strong)?;
    let (weak, strong) = (widened(weak), widened(strong));
    let temperature = check::positive("temperature", temperature)?;
    let kept = confident(&weak, threshold)?;
    let k = weak.dims()[1];
    let device = strong.device().inner();
    let each = |class: &Option<usize>| vec![f32::from(u8::from(class.is_some())); k];
    let mask: Vec<f32> = kept.iter().flat_map(each).collect();
    let mask = TensorData::new(mask, [n, k]);
    let mask = Tensor::<2>::from_data(mask, (&device, strong.dtype()));
    let sharp = weak.clone().inner().cast(strong.dtype()).div_scalar(temperature);
    let sharp = log_softmax(sharp, 1);
    let log_p = log_softmax(strong, 1);
    // A class that the target rules out adds 0, and a sample that is left out too unless it is NaN, which shows.
    let left_out = impossible(&log_p).bool_and(mask.clone().equal_scalar(0.0));
    let unasked = impossible(&sharp).bool_or(left_out);
    let apart = (sharp.clone() - log_p).mask_fill(unasked, 0.0);
    let loss = (sharp.exp() * apart * mask).sum().div_scalar(n as f64);
    Ok(Unlabelled { loss, report: PseudoReport::of(weak, threshold, None)? })
}

/// The Pi-model: two noisy predictions of the same samples agree; both get gradients.
///
/// # Errors
/// When the shapes differ or the batch is empty.
pub fn pi_model_loss(first: Tensor<2>, second: Tensor<2>) -> Result<Unlabelled, RegularizeError> {
    same_rows("the second logits", &first, &second)?;
    let first = widened(first);
    let second = second.cast(first.dtype());
    let loss = (softmax(first.clone(), 1) - softmax(second, 1)).square().mean();
    Ok(Unlabelled { loss, report: PseudoReport::of(first, 0.0, None)? })
}

/// Mean teacher: the student agrees with the teacher, an average of its past weights (EMA, of the optimizer crate),
/// that gets no gradient. With this mean over classes the usual weight is 50.
///
/// # Errors
/// When the shapes differ or the batch is empty.
pub fn mean_teacher_loss(
    student: Tensor<2>,
    teacher: Tensor<2>,
) -> Result<Unlabelled, RegularizeError> {
    same_rows("the teacher's logits", &student, &teacher)?;
    let student = widened(student);
    let teacher = teacher.inner().cast(student.dtype());
    let target = softmax(teacher.clone(), 1);
    let loss = (softmax(student, 1) - target).square().mean();
    Ok(Unlabelled { loss, report: PseudoReport::of(teacher, 0.0, None)? })
}

/// For each row its class, where the probability reaches the threshold; NaN never does.
fn confident(logits: &Tensor<2>, threshold: f64) -> Result<Vec<Option<usize>>, RegularizeError> {
    let threshold = check::range("threshold", threshold, 0.0..=1.0)?;
    if logits.dims().contains(&0) {
        return Err(RegularizeError::Empty { what: "the unlabelled batch" });
    }
    let best: Tensor<2, Int>;
    let top: Tensor<2>;
    (top, best) = softmax(widened(logits.clone().inner()), 1).max_dim_with_indices(1);
    let (top, best): (Vec<f64>, Vec<i64>) = (top.try_to_vec_as()?, best.try_to_vec_as()?);
    let each = |(top, best): (f64, i64)| (top >= threshold).then_some(best as usize);
    Ok(top.into_iter().zip(best).map(each).collect())
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};
    use firebrick_backend::testing::devices;

    const WEAK: [[f32; 3]; 3] = [[5.0, 0.0, 0.0], [0.2, 0.1, 0.0], [0.0, 0.0, 4.0]];
    const STRONG: [[f32; 3]; 3] = [[1.0, 0.5, -0.5], [0.3, 0.0, 2.0], [0.0, 1.0, 0.5]];

    fn p(z: [f32; 3], t: f64) -> [f64; 3] {
        let e = z.map(|z| (f64::from(z) / t).exp());
        e.map(|v| v / e.iter().sum::<f64>())
    }

    #[test]
    fn losses_follow_their_formulas_over_all_samples() {
        for device in devices() {
            let weak = || Tensor::<2>::from_floats(WEAK, &device);
            let strong = || Tensor::<2>::from_floats(STRONG, &device);
            // Confidences 0.987, 0.367, 0.965: rows 0 and 2 pass, with classes 0 and 2.
            let found = fixmatch_loss(weak(), strong(), 0.95).expect("valid");
            let expected = -(p(STRONG[0], 1.0)[0].ln() + p(STRONG[2], 1.0)[2].ln()) / 3.0;
            assert!((found.loss.into_scalar::<f64>() - expected).abs() < 1e-6);
            assert_eq!(found.report.histogram, [1, 0, 1]);
            let found = uda_loss(weak(), strong(), 0.4, 0.8).expect("valid");
            let kl = |row: usize| {
                let (q, s) = (p(WEAK[row], 0.4), p(STRONG[row], 1.0));
                q.iter().zip(s).map(|(q, s)| q * (q / s).ln()).sum::<f64>()
            };
            assert!((found.loss.into_scalar::<f64>() - (kl(0) + kl(2)) / 3.0).abs() < 1e-5);
            let expected = (0..3)
                .flat_map(|row| p(WEAK[row], 1.0).into_iter().zip(p(STRONG[row], 1.0)))
                .map(|(a, b)| (a - b).powi(2))
                .sum::<f64>()
                / 9.0;
            let pi: f64 = pi_model_loss(weak(), strong()).expect("valid").loss.into_scalar();
            let teacher: f64 =
                mean_teacher_loss(weak(), strong()).expect("valid").loss.into_scalar();
            assert!((pi - expected).abs() < 1e-6 && (teacher - expected).abs() < 1e-6);
            let own = pseudo_label_loss(weak(), 0.95).expect("valid").loss.into_scalar::<f64>();
            let expected = -(p(WEAK[0], 1.0)[0].ln() + p(WEAK[2], 1.0)[2].ln()) / 3.0;
            assert!((own - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn targets_get_no_gradient_and_dropped_samples_neither() {
        let device = Device::flex().autodiff();
        let leaf = |rows| Tensor::<2>::from_floats(rows, &device).require_grad();
        let losses: [Loss; 3] = [
            |target, learner| fixmatch_loss(target, learner, 0.95),
            |target, learner| uda_loss(target, learner, 0.4, 0.95),
            |target, learner| mean_teacher_loss(learner, target),
        ];
        for (index, loss) in losses.into_iter().enumerate() {
            let (target, learner) = (leaf(WEAK), leaf(STRONG));
            let found = loss(target.clone(), learner.clone()).expect("valid");
            let gradients = found.loss.backward();
            assert!(target.grad(&gradients).is_none(), "{index}");
            let gradient = learner.grad(&gradients).expect("learns");
            let gradient: Vec<f32> = gradient.try_to_vec_as().expect("reads");
            assert!(gradient[..3].iter().any(|&g| g != 0.0));
            assert_eq!(gradient[3..6].iter().all(|&g| g == 0.0), index < 2);
        }
        let (a, b) = (leaf(WEAK), leaf(STRONG));
        let gradients = pi_model_loss(a.clone(), b.clone()).expect("valid").loss.backward();
        assert!(a.grad(&gradients).is_some() && b.grad(&gradients).is_some());
    }

    #[test]
    fn reports_count_and_collapse_shows() {
        let logits = Tensor::<2>::from_floats(WEAK, &Device::flex());
        let report = PseudoReport::of(logits.clone(), 0.95, Some(&[0, 1, 1])).expect("valid");
        assert_eq!((report.kept, report.total, report.correct), (2, 3, Some(1)));
        assert_eq!(report.accuracy(), Some(0.5));
        assert_eq!(report.largest_share(), Some(0.5));
        assert!((report.kept_share() - 2.0 / 3.0).abs() < 1e-15);
        let none = PseudoReport::of(logits.clone(), 1.0, Some(&[0, 0, 0])).expect("valid");
        assert_eq!((none.accuracy(), none.largest_share()), (None, None));
        assert!(PseudoReport::of(logits.clone(), 0.5, Some(&[0])).is_err());
        // Also where the prediction is not kept.
        let outside = PseudoReport::of(logits, 1.0, Some(&[0, 3, 1])).expect_err("no such class");
        assert_eq!(outside, RegularizeError::Label { row: 1, label: 3, classes: 3 });
    }

    type Loss = fn(Tensor<2>, Tensor<2>) -> Result<Unlabelled, RegularizeError>;
    const LOSSES: [Loss; 4] = [
        |target, learner| fixmatch_loss(target, learner, 0.5),
        |target, learner| uda_loss(target, learner, 0.4, 0.5),
        |target, learner| mean_teacher_loss(learner, target),
        |target, learner| pi_model_loss(learner, target),
    ];

    #[test]
    fn the_two_views_may_have_different_float_types() {
        for device in devices() {
            if !device.supports_dtype(DType::F64) {
                continue;
            }
            for (index, loss) in LOSSES.into_iter().enumerate() {
                let run = |target: DType, learner: DType| {
                    let target = Tensor::<2>::from_floats(WEAK, &device).cast(target);
                    let found =
                        loss(target, Tensor::<2>::from_floats(STRONG, &device).cast(learner));
                    let found = found.expect("valid").loss;
                    assert_eq!(found.dtype(), learner);
                    found.into_scalar::<f64>()
                };
                let same = run(DType::F32, DType::F32);
                assert!((run(DType::F64, DType::F32) - same).abs() < 1e-6, "{index}");
                assert!((run(DType::F32, DType::F64) - same).abs() < 1e-6, "{index}");
            }
        }
    }

    #[test]
    fn a_class_that_both_views_rule_out_adds_nothing() {
        let device = Device::flex().autodiff();
        let masked = |rows: [[f32; 3]; 3]| {
            let rows = rows.map(|[a, b, c]| [a, f32::NEG_INFINITY, b, c]);
            Tensor::<2>::from_floats(rows, &device).require_grad()
        };
        let plain = |rows: [[f32; 3]; 3]| Tensor::<2>::from_floats(rows, &device).require_grad();
        for (index, loss) in LOSSES.into_iter().enumerate() {
            let (with, without) = (masked(STRONG), plain(STRONG));
            let found = loss(masked(WEAK), with.clone()).expect("valid").loss;
            let expected = loss(plain(WEAK), without.clone()).expect("valid").loss;
            let value = |loss: &Tensor<1>| loss.clone().into_scalar::<f64>();
            // A mean over classes is one over four of them instead of three.
            let scale = if index < 2 { 1.0 } else { 0.75 };
            assert!((value(&found) - scale * value(&expected)).abs() < 1e-6, "{index}");
            let gradient = with.grad(&found.backward()).expect("learns");
            let gradient: Vec<f64> = gradient.try_to_vec_as().expect("reads");
            let other = without.grad(&expected.backward()).expect("learns");
            let other: Vec<f64> = other.try_to_vec_as().expect("reads");
            for (with, without) in gradient.chunks(4).zip(other.chunks(3)) {
                assert_eq!(with[1], 0.0, "{index}: {with:?}");
                for (a, b) in [with[0], with[2], with[3]].iter().zip(without) {
                    assert!((a - scale * b).abs() < 1e-6, "{index}: {with:?} {without:?}");
                }
            }
        }
        // A sample that is left out adds nothing either, whatever its strong view rules out.
        let doubtful = Tensor::<2>::from_floats([[0.1, 0.0]], &device);
        let sure = Tensor::<2>::from_floats([[0.0, f32::NEG_INFINITY]], &device);
        let loss = uda_loss(doubtful, sure, 1.0, 0.9).expect("valid").loss;
        assert_eq!(loss.into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn ramps_and_releases_by_hand() {
        let linear = Ramp::Linear { from: 100, to: 600 };
        assert_eq!([0, 100, 350, 600, 900].map(|t| linear.factor(t)), [0.0, 0.0, 0.5, 1.0, 1.0]);
        let gaussian = Ramp::Gaussian { over: 80 };
        assert!((gaussian.factor(0) - (-5f64).exp()).abs() < 1e-15);
        assert_eq!(gaussian.factor(80), 1.0);
        assert_eq!(Ramp::Linear { from: 5, to: 5 }.factor(5), 1.0);
        assert_eq!(Release::Linear.threshold(50, 100, 10), 0.55);
        assert_eq!(Release::Exponential.threshold(100, 100, 10), 1.0);
        assert_eq!(Release::Logarithmic.threshold(0, 100, 10), 0.1);
    }

    #[test]
    fn bad_input_is_refused_and_nan_is_never_confident() {
        let device = Device::flex();
        let two = || Tensor::<2>::zeros([2, 3], &device);
        assert!(fixmatch_loss(two(), Tensor::zeros([3, 3], &device), 0.9).is_err());
        assert!(fixmatch_loss(two(), two(), 1.5).is_err());
        assert!(uda_loss(two(), two(), 0.0, 0.8).is_err());
        assert!(pseudo_label_loss(Tensor::zeros([0, 3], &device), 0.9).is_err());
        let nan = Tensor::<2>::full([1, 3], f32::NAN, &device);
        assert_eq!(PseudoReport::of(nan, 0.1, None).expect("defined").kept, 0);
    }

    #[test]
    fn a_pseudo_label_pulls_its_own_prediction() {
        for device in devices() {
            let logits = Tensor::<2>::from_floats(WEAK, &device.autodiff()).require_grad();
            let found = pseudo_label_loss(logits.clone(), 0.95).expect("valid");
            let gradient = logits.grad(&found.loss.backward()).expect("learns");
            let gradient: Vec<f64> = gradient.try_to_vec_as().expect("reads");
            // (p - y) / n for what is kept: row 0 with class 0 and row 2 with class 2.
            for (row, found) in gradient.chunks(3).enumerate() {
                for (class, (found, p)) in found.iter().zip(p(WEAK[row], 1.0)).enumerate() {
                    let hot = f64::from(u8::from(class == row));
                    let expected = if row == 1 { 0.0 } else { (p - hot) / 3.0 };
                    assert!((found - expected).abs() < 1e-6, "{row} {class}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn one_class_that_takes_all_is_total_collapse() {
        let logits =
            Tensor::<2>::from_floats([[9.0, 0.0], [8.0, 0.0], [0.1, 0.0]], &Device::flex());
        let report = PseudoReport::of(logits, 0.95, Some(&[0, 1, 1])).expect("valid");
        assert_eq!((report.kept, report.histogram.as_slice()), (2, &[2, 0][..]));
        assert_eq!((report.largest_share(), report.accuracy()), (Some(1.0), Some(0.5)));
    }

    #[test]
    fn ramps_and_releases_between_their_ends() {
        assert_eq!([0, 1, u64::MAX].map(|step| Ramp::None.factor(step)), [1.0; 3]);
        let gaussian = Ramp::Gaussian { over: 80 };
        assert!((gaussian.factor(40) - (-1.25f64).exp()).abs() < 1e-15);
        assert_eq!(Ramp::Gaussian { over: 0 }.factor(0), 1.0);
        // Of two classes: from a half to one.
        let half = |share: f64| 0.5 + 0.5 * share;
        let late = Release::Exponential.threshold(50, 100, 2);
        assert!((late - half((-2.5f64).exp())).abs() < 1e-15);
        let early = Release::Logarithmic.threshold(50, 100, 2);
        assert!((early - half(1.0 - (-2.5f64).exp())).abs() < 1e-15);
        assert_eq!(Release::Linear.threshold(300, 100, 2), 1.0);
    }
}
