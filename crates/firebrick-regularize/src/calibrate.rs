//! Calibration of probabilities: temperature and the expected calibration error.
//!
//! # Formula
//! ```text
//! temperature   argmin_T -sum_n log softmax(z_n / T)[y_n]       on validation data; accuracy stays
//! ECE           sum_b n_b / n * |accuracy_b - confidence_b|     bins ((b - 1) / B, b / B] of the top probability
//! ```
//! The ends of the bins are rounded as the probabilities are: 0.6 in f32 is above 3 / 5, yet in the bin that ends there.
//!
//! The loss is convex in 1 / T, so the minimum is found by bisection of its slope. With few samples the error is
//! biased upwards: look at the bins' counts. Label smoothing and mixup change the best temperature.
//!
//! # Reference
//! C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017.

use crate::RegularizeError;
use crate::target::read_labels;
use burn::tensor::{Int, Tensor, TensorData, activation::softmax};
use firebrick_backend::widened;
use firebrick_core::check;
use serde::{Deserialize, Serialize};

/// The temperature that validation data ask for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// Divide logits by this; above 1 for an over-confident model.
    pub value: f64,
    /// Whether the best value lies at or beyond the end of [0.01, 100]: so it does when every validation sample is
    /// right, and the temperature means little.
    pub at_bound: bool,
}

impl Temperature {
    /// Fits it to validation logits `[n, k]` and labels `[n]`.
    ///
    /// # Errors
    /// When the shapes differ, the batch is empty, a label is outside the classes or a logit not finite.
    ///
    /// ```
    /// use burn::tensor::{Device, Int, Tensor};
    /// use firebrick_regularize::Temperature;
    ///
    /// let device = Device::flex();
    /// // Two of three are right, at a confidence of 0.98.
    /// let logits = Tensor::<2>::from_floats([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]], &device);
    /// let labels = Tensor::<1, Int>::from_ints([0, 0, 1], &device);
    /// let temperature = Temperature::fit(logits, labels)?;
    /// assert!((temperature.value - 4.0 / 2f64.ln()).abs() < 1e-9); // confidence 2/3
    /// # Ok::<(), firebrick_regularize::RegularizeError>(())
    /// ```
    pub fn fit(logits: Tensor<2>, labels: Tensor<1, Int>) -> Result<Self, RegularizeError> {
        let (k, logits, labels) = read(logits, labels)?;
        // d/d beta of the loss: sum_n (E_p[z] - z_y) at p = softmax(beta z); it rises with beta.
        let slope = |beta: f64| -> f64 {
            let each = |(row, &label): (&[f64], &usize)| {
                let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights = row.iter().map(|z| (beta * (z - top)).exp());
                let (total, mean) =
                    weights.zip(row).fold((0.0, 0.0), |(t, m), (w, z)| (t + w, m + w * (z - top)));
                mean / total - (row[label] - top)
            };
            logits.chunks(k).zip(&labels).map(each).sum()
        };
        let (mut low, mut high) = (0.01f64, 100f64);
        if slope(high) <= 0.0 {
            return Ok(Self { value: 1.0 / high, at_bound: true });
        }
        if slope(low) >= 0.0 {
            return Ok(Self { value: 1.0 / low, at_bound: true });
        }
        for _ in 0..200 {
            let middle = (low * high).sqrt();
            if slope(middle) < 0.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(Self { value: 1.0 / (low * high).sqrt(), at_bound: false })
    }

    /// Calibrated probabilities of logits `[n, k]`, in their type; none of none. Half precision is divided in single.
    #[must_use]
    pub fn probabilities(&self, logits: Tensor<2>) -> Tensor<2> {
        if logits.dims().contains(&0) {
            return logits;
        }
        let dtype = logits.dtype();
        softmax(widened(logits).div_scalar(self.value), 1).cast(dtype)
    }
}

/// One bin of a [`Calibration`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Samples in it.
    pub count: usize,
    /// Their mean top probability; 0 in an empty bin.
    pub confidence: f64,
    /// Share of them that are right; 0 in an empty bin.
    pub accuracy: f64,
}

/// How far a model's confidence is from its accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The expected calibration error, in [0, 1].
    pub error: f64,
    /// The bins, from the least confident.
    pub bins: Vec<CalibrationBin>,
}

impl Calibration {
    /// Measures probabilities `[n, k]` against labels `[n]` in `bins` of equal width; 15 are usual.
    ///
    /// # Errors
    /// When the shapes differ, the batch is empty, a label is outside the classes, a probability outside [0, 1], or
    /// `bins` is 0.
    pub fn of(
        probabilities: Tensor<2>,
        labels: Tensor<1, Int>,
        bins: usize,
    ) -> Result<Self, RegularizeError> {
        let bins = check::at_least("bins", bins, 1)?;
        // In the type of the probabilities, so that one that is an end lies on it.
        let ends = TensorData::new((1..=bins).map(|b| b as f64 / bins as f64).collect(), [bins]);
        let (device, dtype) = (probabilities.device().inner(), probabilities.dtype());
        let ends = Tensor::<1>::from_data(ends, (&device, dtype)).try_to_vec_as::<f64>()?;
        let (k, probabilities, labels) = read(probabilities, labels)?;
        let outside = |p: &f64| !(-1e-6..=1.0 + 1e-6).contains(p);
        if let Some(p) = probabilities.iter().copied().find(outside) {
            return Err(check::range("probability", p, 0.0..=1.0).err().map_or(
                RegularizeError::Empty { what: "the probabilities" },
                RegularizeError::Config,
            ));
        }
        let n = labels.len() as f64;
        let mut sums = vec![(0usize, 0.0f64, 0usize); bins];
        for (row, &label) in probabilities.chunks(k).zip(&labels) {
            let (mut class, mut top) = (0, f64::NEG_INFINITY);
            for (index, &p) in row.iter().enumerate() {
                if p > top {
                    (class, top) = (index, p);
                }
            }
            // Bins are open below and closed above.
            let bin = ends.partition_point(|end| *end < top).min(bins - 1);
            sums[bin].0 += 1;
            sums[bin].1 += top;
            sums[bin].2 += usize::from(class == label);
        }
        let bins: Vec<CalibrationBin> = sums
            .into_iter()
            .map(|(count, confidence, right)| {
                let share = |sum: f64| if count == 0 { 0.0 } else { sum / count as f64 };
                let (confidence, accuracy) = (share(confidence), share(right as f64));
                CalibrationBin { count, confidence, accuracy }
            })
            .collect();
        let gap =
            |bin: &CalibrationBin| bin.count as f64 / n * (bin.accuracy - bin.confidence).abs();
        Ok(Self { error: bins.iter().map(gap).sum(), bins })
    }
}

/// Classes, values row by row, labels; all checked.
fn read(
    rows: Tensor<2>,
    labels: Tensor<1, Int>,
) -> Result<(usize, Vec<f64>, Vec<usize>), RegularizeError> {
    let [n, k] = rows.dims();
    if labels.dims() != [n] {
        let expected = format!("one for each of the {n} rows");
        let found = labels.dims().to_vec();
        return Err(RegularizeError::Shape { what: "the labels", expected, found });
    }
    if n * k == 0 {
        return Err(RegularizeError::Empty { what: "the validation batch" });
    }
    let labels = read_labels(labels, k)?;
    let values: Vec<f64> = rows.try_to_vec_as()?;
    if let Some(position) = values.iter().position(|value| !value.is_finite()) {
        let value = values[position].to_string();
        return Err(RegularizeError::NotFinite { what: "the rows", value, position });
    }
    Ok((k, values, labels))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};
    use firebrick_backend::testing::devices;
    use firebrick_core::Seed;

    /// Logits whose labels are drawn from softmax(z / t): t is the right temperature.
    fn data(n: usize, t: f64, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
        let mut stream = Seed(5).stream("logits");
        let (mut logits, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let z = [0; 3].map(|_| 3.0 * stream.normal());
            let e = z.map(|z| (z / t).exp());
            let mut left = stream.uniform() * e.iter().sum::<f64>();
            let drawn = e.iter().position(|e| {
                left -= e;
                left < 0.0
            });
            labels.push(drawn.unwrap_or(2) as i64);
            logits.extend(z.map(|z| z as f32));
        }
        (
            Tensor::from_data(TensorData::new(logits, [n, 3]), device),
            Tensor::from_data(TensorData::new(labels, [n]), device),
        )
    }

    #[test]
    fn the_temperature_of_the_data_is_found_and_calibrates() {
        for device in devices() {
            for t in [0.5, 1.0, 2.5] {
                let (logits, labels) = data(20_000, t, &device);
                let found = Temperature::fit(logits.clone(), labels.clone()).expect("valid");
                assert!((found.value / t - 1.0).abs() < 0.06, "{t}: {found:?}");
                let after = found.probabilities(logits.clone());
                let after = Calibration::of(after, labels.clone(), 15).expect("valid").error;
                assert!(after < 0.02, "{t}: {after}");
                if t == 2.5 {
                    let before = Calibration::of(softmax(logits, 1), labels, 15).expect("valid");
                    assert!(before.error > 0.1);
                    assert_eq!(before.bins.iter().map(|bin| bin.count).sum::<usize>(), 20_000);
                }
            }
        }
    }

    #[test]
    fn the_error_by_hand_with_closed_upper_ends() {
        let device = Device::flex();
        let rows = [[0.6, 0.4], [0.5, 0.5], [0.9, 0.1], [0.2, 0.8]];
        let probabilities = Tensor::<2>::from_floats(rows, &device).cast(burn::tensor::DType::F64);
        let labels = Tensor::<1, Int>::from_ints([0, 1, 0, 0], &device);
        let found = Calibration::of(probabilities, labels, 2).expect("valid");
        // 0.5 belongs to the lower bin: class 0, wrong. Upper: 0.6 right, 0.9 right, 0.8 wrong.
        assert_eq!(found.bins[0].count, 1);
        let upper = 3.0 / 4.0 * (2.0 / 3.0 - 2.3 / 3.0f64).abs();
        assert!((found.error - (0.25 * 0.5 + upper)).abs() < 1e-7, "{found:?}");
    }

    #[test]
    fn bins_are_closed_above_in_every_float_type() {
        for device in devices() {
            for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                // Six tenths lie in (0.5, 0.6], the sixth bin of ten, and so on up to one.
                for tenths in 5..=10usize {
                    let p = tenths as f64 / 10.0;
                    let row = TensorData::new(vec![p, 1.0 - p], [1, 2]);
                    let row = Tensor::<2>::from_data(row, (&device, dtype));
                    let label = Tensor::<1, Int>::from_ints([0], &device);
                    let found = Calibration::of(row, label, 10).expect("valid");
                    let counts: Vec<usize> = found.bins.iter().map(|bin| bin.count).collect();
                    let mut expected = [0; 10];
                    expected[tenths - 1] = 1;
                    assert_eq!(counts, expected, "{p} {dtype:?}");
                }
            }
        }
    }

    #[test]
    fn logits_in_half_precision_do_not_overflow() {
        let sharp = Temperature { value: 0.01, at_bound: true };
        for device in devices() {
            for dtype in [DType::F16, DType::BF16] {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                // A thousand over a hundredth is beyond the largest f16, 65504; the last row becomes log 3 and 0.
                let rows = [[1000.0, 1000.0], [1000.0, 0.0], [0.01 * 3f32.ln(), 0.0]];
                let logits = Tensor::<2>::from_floats(rows, &device).cast(dtype);
                let found = sharp.probabilities(logits);
                assert_eq!(found.dtype(), dtype);
                let found: Vec<f64> = found.try_to_vec_as().expect("reads");
                assert_eq!(found[..4], [0.5, 0.5, 1.0, 0.0]);
                assert!((found[4] - 0.75).abs() < 4e-3 && (found[5] - 0.25).abs() < 4e-3);
            }
        }
    }

    #[test]
    fn separable_data_and_bad_input() {
        let device = Device::flex();
        let logits = || Tensor::<2>::from_floats([[2.0, 0.0], [0.0, 1.0]], &device);
        let labels = |values: [i32; 2]| Tensor::<1, Int>::from_ints(values, &device);
        let right = Temperature::fit(logits(), labels([0, 1])).expect("valid");
        assert_eq!(right, Temperature { value: 0.01, at_bound: true });
        let wrong = Temperature::fit(logits(), labels([1, 0])).expect("valid");
        assert_eq!(wrong, Temperature { value: 100.0, at_bound: true });
        assert!(Temperature::fit(logits(), labels([0, 2])).is_err());
        assert!(Temperature::fit(logits(), Tensor::from_ints([0], &device)).is_err());
        let nan = Tensor::<2>::full([2, 2], f32::NAN, &device);
        assert!(Temperature::fit(nan, labels([0, 1])).is_err());
        assert!(Calibration::of(logits(), labels([0, 1]), 15).is_err());
        let empty = Tensor::<1, Int>::zeros([0], &device);
        assert!(Calibration::of(Tensor::zeros([0, 2], &device), empty, 15).is_err());
        let half = Tensor::<2>::full([2, 2], 0.5, &device);
        assert!(Calibration::of(half, labels([0, 1]), 0).is_err());
    }

    #[test]
    fn a_temperature_changes_no_prediction_and_labels_are_checked() {
        let device = Device::flex();
        let (logits, labels) = data(500, 2.5, &device);
        let temperature = Temperature::fit(logits.clone(), labels).expect("valid");
        assert!(temperature.value > 1.5);
        let best = |rows: Tensor<2>| rows.argmax(1).try_to_vec_as::<i64>().expect("reads");
        assert_eq!(best(temperature.probabilities(logits.clone())), best(logits));
        for label in [2, -1] {
            let labels = Tensor::<1, Int>::from_ints([0, label], &device);
            let half = Tensor::<2>::full([2, 2], 0.5, &device);
            let refused = Calibration::of(half.clone(), labels.clone(), 5).expect_err("no class");
            let expected = RegularizeError::Label { row: 1, label: i64::from(label), classes: 2 };
            assert_eq!(refused, expected);
            assert_eq!(Temperature::fit(half, labels).expect_err("no class"), expected);
        }
    }
}
