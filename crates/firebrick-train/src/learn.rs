//! What a model must be able to do to be trained and judged.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorReadError};
use firebrick_backend::widened;
use firebrick_stabilize::Watch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A model that knows its loss.
///
/// The one trait between a user's burn model and [`Fit`](crate::Fit).
pub trait Learn: Module {
    /// What one step is trained on.
    type Batch;

    /// The mean loss over the batch, of shape `[1]`, differentiable.
    fn loss(&self, batch: Self::Batch) -> Tensor<1>;

    /// How well the model, in evaluation mode, does on the batch.
    ///
    /// # Errors
    /// When the device fails to answer.
    fn score(&self, batch: Self::Batch) -> Result<Score, TensorReadError>;

    /// The score and further measures, from one forward pass; the score alone unless written otherwise.
    ///
    /// # Errors
    /// When the device fails to answer.
    fn measure(&self, batch: Self::Batch) -> Result<Measures, TensorReadError> {
        Ok(Measures::new(self.score(batch)?))
    }

    /// The measures, with the batch shown to burn-train's metrics on the way; [`measure`](Self::measure) alone unless
    /// written. What [`Fit`](crate::Fit) judges by.
    ///
    /// ```text
    /// meters.see("auroc", AurocMetric::binary, &ConfusionStatsInput::new(scores, positive))?;
    /// ```
    ///
    /// # Errors
    /// When the device fails to answer, or a metric is used wrongly.
    #[cfg(feature = "metrics")]
    fn meter(
        &self,
        batch: Self::Batch,
        meters: &mut crate::Meters,
    ) -> Result<Measures, crate::TrainError> {
        let _ = meters;
        Ok(self.measure(batch)?)
    }

    /// The batch on `device`, for [`Fit::devices`](crate::Fit::devices); `None`, the default, where the model cannot
    /// say how.
    ///
    /// ```text
    /// fn place(&self, batch: Labelled<2>, device: &Device) -> Option<Labelled<2>> {
    ///     Some(batch.to_device(device))
    /// }
    /// ```
    fn place(&self, batch: Self::Batch, device: &Device) -> Option<Self::Batch> {
        let _ = (batch, device);
        None
    }

    /// The [`loss`](Self::loss), with the hidden values shown to `watch` on the way; shows nothing unless written.
    ///
    /// [`Fit`](crate::Fit) trains on it in the steps that [`FitConfig::watch_every`](crate::FitConfig) names.
    ///
    /// ```text
    /// let hidden = watch.see("first", relu(self.first.forward(batch.inputs)));
    /// ```
    fn watch(&self, batch: Self::Batch, watch: &mut Watch) -> Tensor<1> {
        let _ = watch;
        self.loss(batch)
    }
}

/// A [`Score`] and the sums of further measures over the same samples.
///
/// The history gets each measure's mean over the samples, as `train_<name>` and `validation_<name>`.
///
/// ```
/// use firebrick_train::{Measures, Score};
///
/// let left = Score { loss_sum: 3.0, error_sum: 1.0, samples: 4 };
/// let right = Score { loss_sum: 1.0, error_sum: 0.0, samples: 1 };
/// let sum = Measures::new(left).with("top2", 3.0) + Measures::new(right).with("top2", 1.0);
/// assert_eq!(sum.mean("top2"), Some(0.8));
/// assert_eq!(sum.score.loss(), 0.8);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Measures {
    /// Loss and error.
    pub score: Score,
    /// Sums over the samples by name.
    pub sums: BTreeMap<String, f64>,
    /// Values that are no means over the samples, by name.
    pub(crate) whole: BTreeMap<String, f64>,
}

impl Measures {
    /// Loss and error alone.
    #[must_use]
    pub fn new(score: Score) -> Self {
        Self { score, ..Self::default() }
    }

    /// Adds a measure: its sum over the samples of the score.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, sum: f64) -> Self {
        self.sums.insert(name.into(), sum);
        self
    }

    /// The mean of a measure over the samples.
    #[must_use]
    pub fn mean(&self, name: &str) -> Option<f64> {
        self.sums.get(name).map(|sum| sum / self.score.samples as f64)
    }
}

impl std::ops::Add for Measures {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.score = self.score + other.score;
        for (name, sum) in other.sums {
            *self.sums.entry(name).or_insert(0.0) += sum;
        }
        self
    }
}

/// Sums over judged samples; scores of batches add up to that of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Score {
    /// Sum of the samples' losses.
    #[serde(with = "crate::bits")]
    pub loss_sum: f64,
    /// Number of samples that were misclassified, or the sum of another error measure.
    #[serde(with = "crate::bits")]
    pub error_sum: f64,
    /// Number of samples.
    pub samples: usize,
}

impl Score {
    /// The score of class logits, `[samples, classes]`, under cross-entropy.
    ///
    /// Predicted is the class of the largest logit. A row with a NaN makes both sums NaN: a model that broke is not one
    /// that errs a little more.
    ///
    /// # Errors
    /// When the device fails to answer.
    pub fn classification(
        logits: Tensor<2>,
        targets: Tensor<1, Int>,
    ) -> Result<Self, TensorReadError> {
        let [samples, _] = logits.dims();
        if samples == 0 {
            return Ok(Self::default());
        }
        let logits = widened(logits);
        let chosen = targets.clone().unsqueeze_dim::<2>(1);
        let loss = log_softmax(logits.clone(), 1).gather(1, chosen).sum().neg();
        // Counted in integers: half precision, where it is the device's default, counts to 2048.
        let right = logits.argmax(1).squeeze_dim::<1>(1).equal(targets).int().sum();
        let loss_sum = loss.try_into_scalar::<f64>()?;
        let right = right.try_into_scalar::<f64>()?;
        let error_sum = if loss_sum.is_nan() { f64::NAN } else { samples as f64 - right };
        Ok(Self { loss_sum, error_sum, samples })
    }

    /// Mean loss; NaN without samples.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.samples as f64
    }

    /// Mean error, for classes the share that was misclassified; NaN without samples.
    #[must_use]
    pub fn error(&self) -> f64 {
        self.error_sum / self.samples as f64
    }
}

impl std::ops::Add for Score {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            loss_sum: self.loss_sum + other.loss_sum,
            error_sum: self.error_sum + other.error_sum,
            samples: self.samples + other.samples,
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::DType;
    use firebrick_backend::testing::devices;

    #[test]
    fn classification_matches_the_closed_form_and_adds_up() {
        for device in devices() {
            let logits = Tensor::<2>::from_floats([[2.0, 0.0], [0.0, 0.0], [1.0, 3.0]], &device);
            let targets = Tensor::<1, Int>::from_ints([0, 0, 0], &device);
            let all = Score::classification(logits.clone(), targets.clone()).expect("reads");
            let expected = (1.0 + (-2f64).exp()).ln() + 2f64.ln() + (1.0 + 2f64.exp()).ln();
            assert!((all.loss_sum - expected).abs() < 1e-5);
            assert_eq!((all.error_sum, all.samples), (1.0, 3));
            let part = |rows: std::ops::Range<usize>| {
                let logits = logits.clone().slice([rows.clone()]);
                Score::classification(logits, targets.clone().slice([rows])).expect("reads")
            };
            let sum = part(0..1) + part(1..3);
            assert!((sum.loss() - all.loss()).abs() < 1e-6);
            assert_eq!(sum.error(), all.error());
        }
    }

    #[test]
    fn half_precision_is_scored_like_f32() {
        for device in devices() {
            for dtype in [DType::F16, DType::BF16] {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                // Each row's loss is 96: the sum of 1000 is beyond half precision.
                let logits = Tensor::<2>::from_data([[0.0, 96.0]], (&device, dtype));
                let targets = Tensor::<1, Int>::zeros([1000], &device);
                let score = Score::classification(logits.repeat_dim(0, 1000), targets);
                let score = score.expect("reads");
                assert!((score.loss() - 96.0).abs() < 1e-3, "{dtype:?} {}", score.loss());
                assert_eq!((score.error_sum, score.samples), (1000.0, 1000));
            }
        }
    }

    #[test]
    fn broken_logits_show_and_no_samples_have_no_mean() {
        let device = burn::tensor::Device::flex();
        let logits = Tensor::<2>::from_floats([[f32::NAN, 0.0]], &device);
        let score = Score::classification(logits, Tensor::from_ints([0], &device)).expect("reads");
        assert!(score.loss().is_nan() && score.error().is_nan());
        assert!(Score::default().loss().is_nan());
    }
}
