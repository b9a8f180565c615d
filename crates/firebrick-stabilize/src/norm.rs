//! Norms of all gradients of a module, defined for every input, in one read from the device.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, FloatDType, Tensor};
use firebrick_backend::PathStack;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Which norm of the gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NormType {
    /// Sum of magnitudes.
    One,
    /// Root of the sum of squares.
    Two,
    /// Largest magnitude.
    Infinity,
}

impl NormType {
    /// The norm of the whole from the norms of its parts.
    fn combine(self, parts: impl Iterator<Item = f64>) -> f64 {
        match self {
            Self::One => parts.sum(),
            Self::Infinity => parts.fold(0.0, |largest: f64, part| {
                if part.is_nan() || largest.is_nan() { f64::NAN } else { largest.max(part) }
            }),
            Self::Two => {
                // Squares of f32 norms neither overflow nor vanish in f64; f64 gradients may need the scale.
                let parts: Vec<f64> = parts.collect();
                let largest = Self::Infinity.combine(parts.iter().copied());
                if largest == 0.0 || !largest.is_finite() {
                    return largest;
                }
                largest * parts.iter().map(|part| (part / largest).powi(2)).sum::<f64>().sqrt()
            }
        }
    }
}

/// The norm of one parameter's gradient.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TensorNorm {
    /// The parameter.
    pub id: ParamId,
    /// Its path in the module: `layers.0.weight`.
    pub path: String,
    /// The norm of its gradient.
    pub norm: f64,
}

/// The norms of a module's gradients.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GradientNorms {
    /// The norm of all gradients together; 0 without any, NaN if one holds a NaN, infinite if one is.
    pub global: f64,
    /// Parameter by parameter, in the order in which burn visits them.
    pub tensors: Vec<TensorNorm>,
}

impl GradientNorms {
    /// The Euclidean norm by layer: the parameters that share all of their path but the last name.
    #[must_use]
    pub fn layers(&self) -> Vec<(String, f64)> {
        let mut layers: Vec<(String, Vec<f64>)> = Vec::new();
        for tensor in &self.tensors {
            let layer =
                tensor.path.rsplit_once('.').map_or(tensor.path.as_str(), |(layer, _)| layer);
            match layers.last_mut() {
                Some((name, norms)) if name == layer => norms.push(tensor.norm),
                _ => layers.push((layer.to_owned(), vec![tensor.norm])),
            }
        }
        let combine = |norms: Vec<f64>| NormType::Two.combine(norms.into_iter());
        layers.into_iter().map(|(name, norms)| (name, combine(norms))).collect()
    }
}

/// Measures the gradients of `model` in one read from the device.
///
/// Each tensor is scaled by its largest magnitude before it is squared, so that neither f32 nor f16
/// gradients overflow, and nothing vanishes. A shared parameter counts once.
///
/// ```
/// use burn::{nn::LinearConfig, optim::GradientsParams, tensor::{Device, Tensor}};
/// use firebrick_stabilize::{NormType, gradient_norms};
///
/// let device = Device::flex();
/// let model = LinearConfig::new(1, 2).with_bias(false).init(&device.clone().autodiff());
/// let mut gradients = GradientsParams::new();
/// gradients.register::<2>(model.weight.id, Tensor::from_floats([[3e30, 4e30]], &device));
/// let norm = gradient_norms(&model, &gradients, NormType::Two).global;
/// assert!((norm / 5e30 - 1.0).abs() < 1e-6); // the squares alone would overflow f32
/// ```
#[must_use]
pub fn gradient_norms<M: Module>(
    model: &M,
    gradients: &GradientsParams,
    norm_type: NormType,
) -> GradientNorms {
    let mut measure = Measure {
        gradients,
        norm_type,
        path: PathStack::default(),
        seen: HashSet::new(),
        found: vec![],
    };
    model.visit(&mut measure);
    let (names, statistics): (Vec<_>, Vec<_>) = measure.found.into_iter().unzip();
    let values = read(statistics);
    let tensors: Vec<TensorNorm> = names
        .into_iter()
        .zip(values)
        .map(|((id, path), [largest, rest])| {
            let scale = largest.max(TINY);
            let norm = match norm_type {
                _ if largest.is_infinite() => largest,
                NormType::Infinity => largest + rest,
                NormType::One => scale * rest,
                NormType::Two => scale * rest.sqrt(),
            };
            TensorNorm { id, path, norm }
        })
        .collect();
    GradientNorms { global: norm_type.combine(tensors.iter().map(|tensor| tensor.norm)), tensors }
}

/// The smallest scale that a gradient is divided by: f32's smallest normal number.
const TINY: f64 = f32::MIN_POSITIVE as f64;

struct Measure<'a> {
    gradients: &'a GradientsParams,
    norm_type: NormType,
    path: PathStack,
    seen: HashSet<ParamId>,
    /// Per tensor two numbers, still on the device: its largest magnitude, and the sum of the scaled rest.
    found: Vec<((ParamId, String), Tensor<1>)>,
}

impl ModuleVisitor for Measure<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        if gradient.shape().num_elements() == 0 || !self.seen.insert(param.id) {
            return;
        }
        // f64 keeps its range, everything else is summed in f32.
        let gradient = match gradient.dtype() {
            DType::F64 | DType::F32 => gradient,
            _ => gradient.cast(FloatDType::F32),
        };
        let magnitude = gradient.abs();
        let largest = magnitude.clone().max();
        // Zeros stay zeros when divided by `TINY`. A NaN reaches `rest` even where a GPU's maximum drops it.
        let scale = largest.clone().clamp_min(TINY).reshape([1; D]);
        let rest = match self.norm_type {
            NormType::One => (magnitude / scale).sum(),
            NormType::Two => (magnitude / scale).square().sum(),
            NormType::Infinity => magnitude.mul_scalar(0.0).sum(),
        };
        let statistics = Tensor::cat(vec![largest, rest], 0);
        self.found.push(((param.id, self.path.path()), statistics));
    }
}

/// Brings the pairs to the host: all of one float type in one read.
fn read(statistics: Vec<Tensor<1>>) -> Vec<[f64; 2]> {
    let Some(first) = statistics.first() else { return Vec::new() };
    let wide = statistics.iter().any(|pair| pair.dtype() == DType::F64);
    let dtype = if wide { FloatDType::F64 } else { FloatDType::F32 };
    let device = first.device();
    let count = statistics.len();
    let joined = statistics.into_iter().map(|pair| pair.to_device(&device).cast(dtype)).collect();
    let values = Tensor::cat(joined, 0).into_data();
    let mut values = values.iter::<f64>();
    (0..count)
        .map(|_| [values.next().unwrap_or(f64::NAN), values.next().unwrap_or(f64::NAN)])
        .collect()
}

/// Multiplies every gradient of `model` by `factor`, in place where the gradient is not shared.
pub fn scale_gradients<M: Module>(model: &M, gradients: &mut GradientsParams, factor: f64) {
    struct Scale<'a> {
        gradients: &'a mut GradientsParams,
        factor: f64,
        seen: HashSet<ParamId>,
    }
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !self.seen.insert(param.id) {
                return;
            }
            if let Some(gradient) = self.gradients.remove::<D>(param.id) {
                self.gradients.register::<D>(param.id, gradient.mul_scalar(self.factor));
            }
        }
    }
    model.visit(&mut Scale { gradients, factor, seen: HashSet::new() });
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::tests::{gradients, model};
    use firebrick_backend::testing::devices;

    #[test]
    fn norms_match_their_closed_forms() {
        for device in devices() {
            let model = model(&device);
            let gradients = gradients(&model, &device, &[3.0, -4.0], &[12.0]);
            let norm = |norm_type| gradient_norms(&model, &gradients, norm_type).global;
            assert!((norm(NormType::One) - 19.0).abs() < 1e-6);
            assert!((norm(NormType::Two) - 13.0).abs() < 1e-6);
            assert!((norm(NormType::Infinity) - 12.0).abs() < 1e-6);
        }
    }

    #[test]
    fn every_kind_of_number_has_a_norm() {
        for device in devices() {
            let model = model(&device);
            let norm = |weight: &[f32; 2]| {
                let gradients = gradients(&model, &device, weight, &[0.0]);
                gradient_norms(&model, &gradients, NormType::Two).global
            };
            assert_eq!(norm(&[0.0, 0.0]), 0.0);
            assert!((norm(&[3e38, 3e38]) / (3e38 * 2f64.sqrt()) - 1.0).abs() < 1e-6);
            assert!((norm(&[3e-30, 4e-30]) / 5e-30 - 1.0).abs() < 1e-6);
            assert_eq!(norm(&[f32::NEG_INFINITY, 1.0]), f64::INFINITY);
            assert!(norm(&[f32::NAN, 1.0]).is_nan());
            assert_eq!(gradient_norms(&model, &GradientsParams::new(), NormType::Two).global, 0.0);
        }
    }

    #[test]
    fn layers_join_weight_and_bias() {
        for device in devices() {
            let model = model(&device);
            let gradients = gradients(&model, &device, &[3.0, 0.0], &[4.0]);
            let layers = gradient_norms(&model, &gradients, NormType::Two).layers();
            assert_eq!(layers.len(), 1);
            assert_eq!(layers[0].0, "layer");
            assert!((layers[0].1 - 5.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_shared_parameter_counts_and_scales_once() {
        for device in devices() {
            let model = model(&device);
            let twins = (model.clone(), model.clone());
            let mut gradients = gradients(&model, &device, &[3.0, -4.0], &[0.0]);
            scale_gradients(&twins, &mut gradients, 2.0);
            let norm = gradient_norms(&twins, &gradients, NormType::Two);
            assert!((norm.global - 10.0).abs() < 1e-6);
        }
    }
}
