//! What a fine-tuned model has forgotten of its source.
//!
//! # Formula
//! ```text
//! retention           accuracy after / accuracy before                     on held-out source data, the source's head kept
//! backward transfer   accuracy after - accuracy before
//! agreement           share of source samples whose prediction is the one before
//! drift               |w - w0| / |w0|                                      by layer group
//! linear CKA          |Y'X|^2 / (|X'X| |Y'Y|)                              Frobenius norms, columns centred
//! ```
//! # Reference
//! D. Lopez-Paz, M. Ranzato, "Gradient episodic memory", NIPS 2017 (backward transfer); S. Kornblith et al.,
//! "Similarity of neural network representations revisited", ICML 2019 (CKA).

use crate::TransferError;
use crate::group::{Groups, Stack, places};
use crate::near::Anchor;
use crate::probe::features_of;
use crate::score::cka;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Int, Tensor};
use firebrick_backend::Role;

/// What became of the source task.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Retention {
    /// Accuracy on the source data before.
    pub before: f64,
    /// Accuracy after.
    pub after: f64,
    /// Share of samples that are predicted as before, right or wrong.
    pub agreement: f64,
}

impl Retention {
    /// From the logits `[n, classes]` of source samples before and after, and their classes.
    ///
    /// # Errors
    /// When there is no sample or shapes differ.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use firebrick_transfer::Retention;
    ///
    /// let device = Device::flex();
    /// let before = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], &device);
    /// let after = Tensor::<2>::from_floats([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], &device);
    /// let retention = Retention::of(before, after, Tensor::from_ints([0, 1, 1, 1], &device))?;
    /// assert_eq!((retention.before, retention.after, retention.agreement), (0.75, 0.5, 0.75));
    /// assert_eq!((retention.kept(), retention.backward_transfer()), (2.0 / 3.0, -0.25));
    /// # Ok::<(), firebrick_transfer::TransferError>(())
    /// ```
    pub fn of(
        before: Tensor<2>,
        after: Tensor<2>,
        targets: Tensor<1, Int>,
    ) -> Result<Self, TransferError> {
        let (found, rows) = (after.dims().to_vec(), before.dims()[0]);
        if before.dims() != after.dims() || rows == 0 || targets.dims()[0] != rows {
            let what = "the logits after".into();
            let expected = format!("{:?}, and a class a row", before.dims());
            return Err(TransferError::Shape { what, found, expected });
        }
        let predicted =
            |logits: Tensor<2>| logits.inner().argmax(1).squeeze_dim::<1>(1).try_to_vec_as::<i64>();
        let (before, after) = (predicted(before)?, predicted(after)?);
        let targets: Vec<i64> = targets.try_to_vec_as()?;
        let share = |left: &[i64], right: &[i64]| {
            let same = left.iter().zip(right).filter(|(left, right)| left == right).count();
            same as f64 / rows as f64
        };
        let agreement = share(&before, &after);
        Ok(Self { before: share(&before, &targets), after: share(&after, &targets), agreement })
    }

    /// Accuracy after over accuracy before; NaN where nothing was right before.
    #[must_use]
    pub fn kept(&self) -> f64 {
        self.after / self.before
    }

    /// Accuracy after less accuracy before.
    #[must_use]
    pub fn backward_transfer(&self) -> f64 {
        self.after - self.before
    }
}

/// How far each layer group of `model` has moved from `source`, relative to the source's norm; parameters that the
/// source does not have in this shape are left out, statistics too. NaN for a group of which nothing is left.
///
/// # Errors
/// When the groups do not fit the model, or the device cannot be read.
pub fn drift<M: Module>(
    source: &Anchor,
    model: &M,
    groups: &Groups,
) -> Result<Vec<(String, f64)>, TransferError> {
    struct Measure<'a> {
        source: &'a Anchor,
        groups: &'a Groups,
        stack: Stack,
        squares: Vec<[f64; 2]>,
        error: Option<TransferError>,
    }
    impl ModuleVisitor for Measure<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.stack.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.stack.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let path = self.stack.path();
            let Some(group) = self.groups.position_of(&path) else { return };
            if self.stack.role(D) == Role::Buffer {
                return;
            }
            let value = param.base().inner();
            let Some(source) = self.source.value(&path, value.dims()) else { return };
            let square = |tensor: Tensor<D>| {
                let values: Vec<f64> = tensor.try_to_vec_as()?;
                Ok(values.iter().map(|value| value * value).sum::<f64>())
            };
            let both = square(value - source.clone()).and_then(|gap| Ok([gap, square(source)?]));
            match both {
                Ok(both) => {
                    for (sum, value) in self.squares[group].iter_mut().zip(both) {
                        *sum += value;
                    }
                }
                Err(error) => {
                    let error: burn::tensor::TensorReadError = error;
                    self.error.get_or_insert(error.into());
                }
            }
        }
    }
    groups.check_places(&places(model))?;
    // The effective weights: adapters count.
    let merged = crate::adapter::merge(model);
    let squares = vec![[0.0; 2]; groups.len()];
    let mut measure = Measure { source, groups, stack: Stack::default(), squares, error: None };
    merged.visit(&mut measure);
    if let Some(error) = measure.error {
        return Err(error);
    }
    let ratio = |[gap, norm]: &[f64; 2]| (gap / norm).sqrt();
    let names = groups.names().into_iter().map(String::from);
    Ok(names.zip(measure.squares.iter().map(ratio)).collect())
}

/// Linear CKA of two representations `[n, d]` and `[n, e]` of the same inputs: 1 where they are the same up to rotation
/// and scale, 0 where they have nothing in common. [`score::cka`](fn@crate::score::cka), of tensors.
///
/// # Errors
/// When there are fewer than two rows, they differ in number, a value is not finite, or a representation is constant.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_transfer::linear_cka;
///
/// let x = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]], &Device::flex());
/// let turned = x.clone().flip([1]) * 5.0 + 1.0;
/// assert!((linear_cka(x, turned)? - 1.0).abs() < 1e-6);
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
pub fn linear_cka(left: Tensor<2>, right: Tensor<2>) -> Result<f64, TransferError> {
    let (rows, found) = (left.dims()[0], right.dims().to_vec());
    if rows < 2 || found[0] != rows {
        let expected = format!("[{rows}, any], and at least 2 rows");
        return Err(TransferError::Shape { what: "a representation".into(), found, expected });
    }
    Ok(cka(&features_of(left.inner())?, &features_of(right.inner())?)?)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::net;
    use burn::tensor::Device;

    #[test]
    fn drift_is_the_relative_distance_by_group() {
        let device = Device::flex().autodiff();
        let source = net(&device);
        let mut tuned = net(&device);
        tuned.second = burn::nn::Linear {
            weight: tuned.second.weight.map(|w| (w * 1.5).detach().require_grad()),
            bias: tuned.second.bias,
        };
        let groups = Groups::propose(&source).expect("has groups");
        let drift = drift(&Anchor::of(&source), &tuned, &groups).expect("reads");
        let names: Vec<&str> = drift.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["first", "second", "head"]);
        assert_eq!((drift[0].1, drift[2].1), (0.0, 0.0));
        // The bias is 0, so the weight alone counts.
        assert!((drift[1].1 - 0.5).abs() < 1e-6, "{}", drift[1].1);
    }

    #[test]
    fn cka_matches_its_definition_over_columns() {
        let device = Device::flex();
        let x: Vec<f64> = (0..15).map(|i| f64::from(i * 7 % 5) - f64::from(i) * 0.3).collect();
        let y: Vec<f64> = (0..10).map(|i| f64::from(i * 3 % 4) + f64::from(i) * 0.2).collect();
        let tensor = |values: &[f64], columns: usize| {
            let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
            Tensor::<1>::from_floats(values.as_slice(), &device).reshape([5, columns])
        };
        let found = linear_cka(tensor(&x, 3), tensor(&y, 2)).expect("fits");
        let centred = |values: &[f64], columns: usize| -> Vec<Vec<f64>> {
            (0..columns)
                .map(|c| {
                    let column: Vec<f64> = (0..5).map(|r| values[r * columns + c]).collect();
                    let mean = column.iter().sum::<f64>() / 5.0;
                    column.into_iter().map(|v| v - mean).collect()
                })
                .collect()
        };
        let (x, y) = (centred(&x, 3), centred(&y, 2));
        let cross = |a: &[Vec<f64>], b: &[Vec<f64>]| -> f64 {
            let dot = |p: &Vec<f64>, q: &Vec<f64>| p.iter().zip(q).map(|(p, q)| p * q).sum::<f64>();
            a.iter().flat_map(|p| b.iter().map(move |q| dot(p, q))).map(|v| v * v).sum()
        };
        let expected = cross(&x, &y) / (cross(&x, &x).sqrt() * cross(&y, &y).sqrt());
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        for case in crate::testing::recorded::cases("cka") {
            let found = linear_cka(case.tensor("x"), case.tensor("y")).expect("fits");
            case.outputs(&[found]);
        }
        let constant = Tensor::<2>::ones([5, 2], &device);
        assert!(linear_cka(constant.clone(), constant.clone()).is_err());
        assert!(linear_cka(constant.clone() * f32::NAN, constant).is_err());
        // It is the score of the same numbers.
        let numbers: Vec<f64> = (0..15).map(|i| f64::from(i * 5 % 7)).collect();
        let (left, right) = (tensor(&numbers, 3), tensor(&numbers[..10], 2));
        let of = |tensor: &Tensor<2>| features_of(tensor.clone()).expect("finite");
        let score = cka(&of(&left), &of(&right)).expect("varies");
        assert_eq!(linear_cka(left, right).expect("fits"), score);
    }
}
