//! What a case gave against what was recorded.

use super::RegularizeReplay;
use super::case::{Case, Leaf};
use crate::RegularizeError;
use burn::tensor::Tensor;

/// What the differences of a case may be, relative to its largest number: a few roundings of f32; a difference quotient
/// errs by the square of its step and by roundings over it; bilinear weights by the rounding of coordinates.
fn relative(name: &str) -> f64 {
    match name {
        "jacobian" | "gradient_penalty" => 5e-4,
        "affine" => 5e-6,
        _ => 2e-6,
    }
}

impl Case<'_> {
    fn scale(&self) -> f64 {
        let recorded = self.output.iter().chain(self.gradients.values().flatten());
        recorded.fold(1.0, |top: f64, value| top.max(value.abs()))
    }

    /// Compares mixed images and targets, in this order.
    pub(super) fn mixed<const D: usize>(
        &self,
        images: Tensor<D>,
        targets: Tensor<2>,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let mut found: Vec<f64> = images.try_to_vec_as()?;
        found.extend(targets.try_to_vec_as::<f64>()?);
        self.numbers(&found)
    }

    /// Compares what has no gradient.
    pub(super) fn numbers(&self, found: &[f64]) -> Result<RegularizeReplay, RegularizeError> {
        self.differences(found, Vec::new())
    }

    /// Compares an output and the gradients of leaves; one that is `None` is 0.
    pub(super) fn differences(
        &self,
        output: &[f64],
        found: Vec<(&str, Option<Vec<f64>>)>,
    ) -> Result<RegularizeReplay, RegularizeError> {
        let mut replay = RegularizeReplay {
            output: far(output, &self.output),
            gradient: None,
            scale: self.scale(),
            allowed: relative(self.name) * self.scale(),
        };
        for (name, expected) in &self.gradients {
            let leaf = found.iter().find(|(leaf, _)| leaf == name);
            let (_, gradient) = leaf.ok_or_else(|| {
                RegularizeError::Case(format!(
                    "a gradient of `{name}` is recorded, but a case of `{}` gives it none",
                    self.name
                ))
            })?;
            let distance = match gradient {
                Some(gradient) => far(gradient, expected),
                None => far(&vec![0.0; expected.len()], expected),
            };
            replay.gradient = Some(distance.max(replay.gradient.unwrap_or(0.0)));
        }
        Ok(replay)
    }

    pub(super) fn compare(
        &self,
        output: Tensor<1>,
        wrt: &[&Leaf],
    ) -> Result<RegularizeReplay, RegularizeError> {
        let values = output.clone().try_to_vec_as::<f64>()?;
        if self.gradients.is_empty() {
            return self.numbers(&values);
        }
        let gradients = output.sum().backward();
        let mut found = Vec::with_capacity(wrt.len());
        for leaf in wrt {
            let gradient = leaf.flat.grad(&gradients);
            let gradient = gradient.map(|gradient| gradient.try_to_vec_as::<f64>()).transpose()?;
            found.push((leaf.name.as_str(), gradient));
        }
        self.differences(&values, found)
    }
}

/// Largest absolute difference; infinite for another number of elements or a NaN.
fn far(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |top: f64, d| if d.is_nan() { f64::INFINITY } else { top.max(d) })
}
