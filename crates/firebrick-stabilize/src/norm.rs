//! Norms of all gradients of a module, defined for every input, in one read from the device.

use crate::read::read;
use crate::reduce::{largest_of, reduce_all};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_backend::host::HostTensor;
use firebrick_backend::{PathStack, widened};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

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
    pub(crate) fn combine(self, parts: impl Iterator<Item = f64> + Clone) -> f64 {
        match self {
            Self::One => parts.sum(),
            Self::Infinity => parts.fold(0.0, largest_of),
            Self::Two => {
                // Squares of f32 norms neither overflow nor vanish in f64; f64 gradients may need the scale.
                let largest = Self::Infinity.combine(parts.clone());
                if largest == 0.0 || !largest.is_finite() {
                    return largest;
                }
                largest * parts.map(|part| (part / largest).powi(2)).sum::<f64>().sqrt()
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
    /// How many elements it has.
    pub elements: usize,
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
    /// Which norm it is.
    pub norm_type: NormType,
}

impl GradientNorms {
    /// Fills in the paths of what was measured of `model`.
    pub(crate) fn name<M: Module>(&mut self, model: &M) {
        let path = PathStack::default();
        model.visit(&mut Name { path, tensors: self.tensors.iter_mut().peekable() });
    }

    /// The norm by layer, in the order in which burn visits them: of the parameters that share all of their path but
    /// the last name.
    #[must_use]
    pub fn layers(&self) -> Vec<(String, f64)> {
        let mut places = HashMap::new();
        let mut layers: Vec<(&str, Vec<f64>)> = Vec::new();
        for TensorNorm { path, norm, .. } in &self.tensors {
            let name = layer(path);
            let place = *places.entry(name).or_insert(layers.len());
            match layers.get_mut(place) {
                Some((_, norms)) => norms.push(*norm),
                None => layers.push((name, vec![*norm])),
            }
        }
        let combine = |norms: Vec<f64>| self.norm_type.combine(norms.into_iter());
        layers.into_iter().map(|(name, norms)| (name.to_owned(), combine(norms))).collect()
    }
}

/// The layer of the parameter at `path`.
pub(crate) fn layer(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(layer, _)| layer)
}

/// Measures the gradients of `model` in one read from the device.
///
/// In host memory (flex, ndarray, f32) it is one parallel pass over all gradients, good to 2e-6 and as a rule
/// far better. Elsewhere
/// each tensor is scaled by its largest magnitude before it is squared. Either way nothing overflows and
/// nothing vanishes. A shared parameter counts once.
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
    measure(model, gradients, norm_type, true)
}

/// [`gradient_norms`], without the paths unless `named`: they cost more than the norms of small tensors.
pub(crate) fn measure<M: Module>(
    model: &M,
    gradients: &GradientsParams,
    norm_type: NormType,
    named: bool,
) -> GradientNorms {
    let path = named.then(PathStack::default);
    let seen = HashSet::with_capacity(gradients.len());
    let gathered = Gathered::new(norm_type, gradients.len());
    let mut walk = Measure { gradients, path, seen, gathered };
    model.visit(&mut walk);
    walk.gathered.finish(Vec::new()).0
}

struct Measure<'a> {
    gradients: &'a GradientsParams,
    /// Where the walk stands, if paths are wanted.
    path: Option<PathStack>,
    seen: HashSet<ParamId>,
    gathered: Gathered,
}

impl ModuleVisitor for Measure<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        if let Some(path) = &mut self.path {
            path.enter(name, container);
        }
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        if let Some(path) = &mut self.path {
            path.exit();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        if gradient.shape().num_elements() == 0 || !self.seen.insert(param.id) {
            return;
        }
        let path = self.path.as_ref().map(PathStack::path).unwrap_or_default();
        self.gathered.take(param.id, path, gradient);
    }
}

/// Gradients whose norms are wanted: those in host memory wait for one parallel pass over all, of every other there
/// are two numbers on the device.
#[derive(Debug)]
pub(crate) struct Gathered {
    norm_type: NormType,
    tensors: Vec<TensorNorm>,
    /// Gradients in host memory, with their place in `tensors`.
    host: Vec<(usize, HostTensor)>,
    /// Of each other gradient two numbers, still on the device: its largest magnitude, and the sum of the
    /// scaled rest.
    device: Vec<(usize, Tensor<1>)>,
}

/// The smallest scale that a gradient is divided by: f32's smallest normal number.
const TINY: f64 = f32::MIN_POSITIVE as f64;

impl Gathered {
    /// None yet of `count` gradients.
    pub(crate) fn new(norm_type: NormType, count: usize) -> Self {
        let (tensors, host) = (Vec::with_capacity(count), Vec::with_capacity(count));
        Self { norm_type, tensors, host, device: Vec::new() }
    }

    pub(crate) fn norm_type(&self) -> NormType {
        self.norm_type
    }

    /// Takes a gradient that is not empty, of each parameter once.
    pub(crate) fn take<const D: usize>(&mut self, id: ParamId, path: String, gradient: Tensor<D>) {
        match HostTensor::take(gradient) {
            Ok(gradient) => self.take_host(id, path, gradient),
            Err(gradient) => self.take_device(id, path, gradient),
        }
    }

    /// [`take`](Self::take) of one in host memory.
    pub(crate) fn take_host(&mut self, id: ParamId, path: String, gradient: HostTensor) {
        self.host.push((self.tensors.len(), gradient));
        let elements = self.host.last().map_or(0, |(_, gradient)| gradient.len());
        self.tensors.push(TensorNorm { id, path, elements, norm: f64::NAN });
    }

    /// [`take`](Self::take) of one elsewhere.
    pub(crate) fn take_device<const D: usize>(
        &mut self,
        id: ParamId,
        path: String,
        gradient: Tensor<D>,
    ) {
        let index = self.tensors.len();
        let elements = gradient.shape().num_elements();
        self.tensors.push(TensorNorm { id, path, elements, norm: f64::NAN });
        let magnitude = widened(gradient).abs();
        let largest = magnitude.clone().max();
        // Zeros stay zeros when divided by `TINY`. A NaN reaches `rest` even where a GPU's maximum drops it.
        let scale = largest.clone().clamp_min(TINY).reshape([1; D]);
        let rest = match self.norm_type {
            NormType::One => (magnitude / scale).sum(),
            NormType::Two => (magnitude / scale).square().sum(),
            NormType::Infinity => magnitude.mul_scalar(0.0).sum(),
        };
        self.device.push((index, Tensor::cat(vec![largest, rest], 0)));
    }

    /// The norms, together with the elements of `further`, out of one read from the device.
    pub(crate) fn finish(self, further: Vec<Tensor<1>>) -> (GradientNorms, Vec<f64>) {
        let Self { norm_type, mut tensors, host, device } = self;
        let slices: Vec<&[f32]> = host.iter().map(|(_, tensor)| tensor.as_slice()).collect();
        let mut sums = vec![0.0; slices.len()];
        reduce_all(norm_type, &slices, &mut sums);
        for ((index, _), sum) in host.iter().zip(sums) {
            tensors[*index].norm = if norm_type == NormType::Two { sum.sqrt() } else { sum };
        }
        let (places, mut there): (Vec<usize>, Vec<Tensor<1>>) = device.into_iter().unzip();
        there.extend(further);
        let mut statistics = read(there);
        let further = statistics.split_off(2 * places.len());
        for (index, pair) in places.into_iter().zip(statistics.chunks_exact(2)) {
            let (largest, rest) = (pair[0], pair[1]);
            let scale = largest.max(TINY);
            tensors[index].norm = match norm_type {
                _ if largest.is_infinite() => largest,
                NormType::Infinity => largest + rest,
                NormType::One => scale * rest,
                NormType::Two => scale * rest.sqrt(),
            };
        }
        let global = norm_type.combine(tensors.iter().map(|tensor| tensor.norm));
        (GradientNorms { global, tensors, norm_type }, further)
    }
}

/// The same walk meets the parameters in the order in which they were measured.
struct Name<'a> {
    path: PathStack,
    tensors: std::iter::Peekable<std::slice::IterMut<'a, TensorNorm>>,
}

impl ModuleVisitor for Name<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(tensor) = self.tensors.next_if(|tensor| tensor.id == param.id) {
            tensor.path = self.path.path();
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::scale_gradients;
    use crate::tests::{gradients, model};
    use burn::tensor::DType;
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
    fn a_layer_around_another_is_joined_by_its_own_norm() {
        /// Its own parameters stand on both sides of those of the layer in it.
        #[derive(burn::module::Module, Debug)]
        struct Around {
            first: Param<Tensor<1>>,
            within: burn::nn::Linear,
            last: Param<Tensor<1>>,
        }
        for device in devices() {
            let tracked = device.clone().autodiff();
            let one = || Param::from_tensor(Tensor::<1>::ones([1], &tracked));
            let within = burn::nn::LinearConfig::new(1, 1).with_bias(false).init(&tracked);
            let model = vec![Around { first: one(), within, last: one() }];
            let mut gradients = GradientsParams::new();
            let full = |value: f32| Tensor::<1>::full([1], value, &device);
            gradients.register::<1>(model[0].first.id, full(3.0));
            gradients.register::<1>(model[0].last.id, full(-4.0));
            gradients.register::<2>(model[0].within.weight.id, full(2.0).reshape([1, 1]));
            for (norm_type, norm) in
                [(NormType::One, 7.0), (NormType::Two, 5.0), (NormType::Infinity, 4.0)]
            {
                let layers = gradient_norms(&model, &gradients, norm_type).layers();
                assert_eq!(layers, [("0".into(), norm), ("0.within".into(), 2.0)]);
            }
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

    #[test]
    fn other_float_types_take_the_device_path_to_the_same_norm() {
        for device in devices() {
            let model = model(&device);
            for dtype in [DType::F64, DType::F16] {
                if !device.supports_dtype(dtype) {
                    continue;
                }
                let mut wide = GradientsParams::new();
                let weight = Tensor::<2>::from_data([[300.0], [-400.0]], (&device, dtype));
                wide.register::<2>(firebrick_backend::parameters(&model)[0].id, weight);
                for (norm_type, norm) in
                    [(NormType::One, 700.0), (NormType::Two, 500.0), (NormType::Infinity, 400.0)]
                {
                    let measured = gradient_norms(&model, &wide, norm_type).global;
                    assert!((measured - norm).abs() < 1e-3, "{dtype:?} {measured}");
                }
            }
        }
    }
}
